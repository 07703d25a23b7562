//! The start script of an instance: the dead-man switch, and a second way for the lease's key, for images that ignore the
//! vendor's.

/// Starts `watchdog` (a line from [`super::deadman::line`]), if there is one: first, so that nothing keeps it from
/// running. Then appends `public_key` to root's `authorized_keys` and repairs the modes sshd insists on. Harmless where the vendor has
/// put the key there already; keys that only this script wrote may be wiped by the vendor after some hours, which is
/// why the key is attached over the API as well.
#[must_use]
pub fn script(public_key: &str, watchdog: Option<&str>) -> String {
    // The key is base64 and a comment of our own making: no quote can occur in it.
    let key = public_key.replace(['\'', '\n'], "");
    let first = watchdog.map_or_else(String::new, |line| format!("{line}\n"));
    format!(
        "{first}umask 077; d=\"${{HOME:-/root}}/.ssh\"; mkdir -p \"$d\"; \
         grep -qxF '{key}' \"$d/authorized_keys\" 2>/dev/null || echo '{key}' >>\"$d/authorized_keys\"; \
         chmod 700 \"$d\"; chmod 600 \"$d/authorized_keys\"; touch \"${{HOME:-/root}}/.no_auto_tmux\""
    )
}
