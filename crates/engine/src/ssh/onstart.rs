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

/// The public key that a start script of [`script`] appends; `None` of any other script.
#[must_use]
pub fn public_key(script: &str) -> Option<&str> {
    let (_, rest) = script.split_once("grep -qxF '")?;
    let (key, rest) = rest.split_once('\'')?;
    rest.starts_with(" \"$d/authorized_keys\"").then_some(key)
}

/// What of a public key line tells it from others: type and comment may be written in more than one way.
#[must_use]
pub fn key_body(line: &str) -> Option<&str> {
    line.split_whitespace().nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_script_is_read_back_and_of_no_other() {
        let key = "ssh-ed25519 AAAAC3Nz crabbox-cbx_0123456789ab";
        for watchdog in [None, Some("echo 'a line' | sh & # \"$d/authorized_keys\"")] {
            assert_eq!(public_key(&script(key, watchdog)), Some(key), "{watchdog:?}");
        }
        assert_eq!(key_body(key), Some("AAAAC3Nz"));
        for other in
            ["", "grep -qxF 'x' /etc/hosts", "grep -qxF 'x", "echo 'ssh-ed25519 A' >>authorized_keys"]
        {
            assert_eq!(public_key(other), None, "{other}");
        }
        assert_eq!(key_body("AAAAC3Nz"), None);
    }
}
