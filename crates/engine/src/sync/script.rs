//! The shell scripts of a sync. They need a POSIX shell, tar and the small tools that come with any of the two; `git`,
//! `gzip`, `sha256sum` and a `stat` that prints formats are used where they are.
//!
//! Files of the two programs in the meta folder: `sync-manifest` is crabbox's and ours (what a sync brought, each path
//! with a NUL behind it), `sync-fingerprint` and the finalize tokens are crabbox's (a sync of ours makes them untrue, so
//! they go), `sync-finalize-lock` excludes both. `crabbox-vast-record` and `crabbox-vast-state` are ours alone.

use super::path::TreePath;
use super::plan::Plan;
use super::record::quote;
use std::collections::BTreeMap;

/// Somebody else changed the far side since it was looked at.
pub const CHANGED: u32 = 75;
/// Another sync holds the lock.
pub const BUSY: u32 = 73;
/// Unpacking failed.
pub const NOT_UNPACKED: u32 = 74;

/// Names for one call of a tool.
const CHUNK: usize = 64;

/// What all scripts begin with: the folder, the meta folder as crabbox finds it, and the check of the record.
fn preamble(workdir: &str) -> String {
    format!("umask 077; LC_ALL=C; TZ=UTC0; export LC_ALL TZ; unset CDPATH; w={}{PREAMBLE}", quoted(workdir))
}

fn quoted(word: &str) -> String {
    let mut out = Vec::new();
    quote(word.as_bytes(), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

const PREAMBLE: &str = r#"
mkdir -p -- "$w" && cd -- "$w" || exit 97
meta=.crabbox
if command -v git >/dev/null 2>&1 && top=$(git rev-parse --show-toplevel 2>/dev/null) && [ "$top" = "$(pwd -P)" ]; then
  found=$(git rev-parse --git-path crabbox 2>/dev/null) && [ -n "$found" ] && meta=$found
fi
record=$meta/crabbox-vast-record
case $record in /*) ;; *) record=./$record ;; esac
s() { stat -c '//%f %s %z %n' -- "$@" 2>/dev/null || :; }
d() { :; }
list() { . "$record"; }
digest() { if command -v sha256sum >/dev/null 2>&1; then sha256sum; else cksum; fi; }
sum() { if [ -f "$1" ]; then digest < "$1"; else echo none; fi; }
generation() { { sum "$meta/sync-manifest"; sum "$meta/crabbox-vast-state"; } | digest; }
"#;

/// Looks at the far side. Prints lines up to an empty one (`meta`, `gzip`, `generation`, then `same` or `stamp`), and
/// unless it is the `same` tree as `fingerprint` says and untouched since: the record, a NUL, the state of the files in
/// it, a NUL, the manifest, and `end`; compressed where there is gzip. Nothing of the tree is changed.
#[must_use]
pub fn look(workdir: &str, fingerprint: &str) -> String {
    format!("{}want='{fingerprint}'\n{LOOK}", preamble(workdir))
}

const LOOK: &str = r##"rm -f -- "$meta/sync-fingerprint"
gzip=no; if command -v gzip >/dev/null 2>&1; then gzip=yes; fi
printf 'meta %s\ngzip %s\ngeneration %s\n' "$meta" "$gzip" "$(generation)"
stamp= listed= brought= have= now=
if [ -f "$record" ] && [ -f "$meta/crabbox-vast-state" ]; then
  { IFS= read -r stamp; IFS= read -r listed; IFS= read -r brought; } < "$meta/crabbox-vast-state"
  IFS= read -r have < "$record"
  now=$(list | digest)
  if [ "$have" = "# crabbox-vast sync 1 $want" ] && [ "$now" = "$listed" ] &&
    [ "$brought" = "$(sum "$meta/sync-manifest")" ]; then
    printf 'same\n\n'; exit 0
  fi
fi
printf 'stamp %s\n\n' "$stamp"
tell() {
  if [ -n "$stamp" ]; then cat "$record"; printf '\000'; list; else printf '\000'; fi
  printf '\000'
  if [ -f "$meta/sync-manifest" ]; then cat "$meta/sync-manifest"; fi
  printf end
}
if [ "$gzip" = yes ]; then tell | gzip -c; else tell; fi
"##;

/// What a sync's second step needs to know.
#[derive(Debug, Clone)]
pub struct Transfer<'a> {
    /// The folder on the instance.
    pub workdir: &'a str,
    /// The meta folder, as the first step found it.
    pub meta: &'a str,
    /// Names the files of this sync there.
    pub token: &'a str,
    /// What `generation` said in the first step.
    pub generation: &'a str,
    /// Whether the stream is compressed.
    pub gzip: bool,
    /// The commands of [`prune`]; `None` when [`store`] brought them.
    pub prune: Option<&'a str>,
}

/// Where, below the folder, the stream puts the new record and manifest until everything has arrived. The meta folder
/// of a linked work tree lies elsewhere; a stream does not leave its folder.
#[must_use]
pub fn staging(meta: &str, token: &str) -> String {
    let inside = TreePath::new(meta.as_bytes()).is_some();
    format!("{}/crabbox-vast-stage.{token}", if inside { meta } else { ".crabbox" })
}

/// Takes prune commands that are too long for a command line, before the transfer.
#[must_use]
pub fn store(workdir: &str, token: &str) -> String {
    let preamble = preamble(workdir);
    format!("{preamble}mkdir -p -- \"$meta\" && cat > \"$meta/crabbox-vast-prune.{token}\"\n")
}

/// The commands that make room: they remove what is gone, but nothing that a link leads to, and links where folders
/// are to be.
#[must_use]
pub fn prune(plan: &Plan) -> Vec<u8> {
    let mut script = PRUNE.to_vec();
    let mut by_folder: BTreeMap<Option<TreePath>, Vec<&TreePath>> = BTreeMap::new();
    for path in &plan.remove {
        by_folder.entry(path.folders().next()).or_default().push(path);
    }
    for (folder, paths) in by_folder {
        let ways = folder.iter().flat_map(|folder| std::iter::once(folder.clone()).chain(folder.folders()));
        let ways: Vec<TreePath> = ways.collect();
        if !ways.is_empty() {
            call(&mut script, b"if real", ways.iter());
            script.extend_from_slice(b"then\n");
        }
        for chunk in paths.chunks(CHUNK) {
            call(&mut script, b"rm -f --", chunk.iter().copied());
        }
        if !ways.is_empty() {
            script.extend_from_slice(b"fi\n");
        }
    }
    // One by one: they are in each other.
    for folder in &plan.remove_folders {
        call(&mut script, b"empty", std::iter::once(folder));
    }
    for chunk in plan.folders.chunks(CHUNK) {
        call(&mut script, b"room", chunk.iter());
    }
    script
}

const PRUNE: &[u8] = b"real() { for p do if [ -L \"$p\" ]; then return 1; fi; done; }
room() { for p do if [ -L \"$p\" ]; then rm -f -- \"$p\"; fi; done; }
empty() { rmdir -- \"$1\" 2>/dev/null || :; }
";

fn call<'a>(script: &mut Vec<u8>, command: &[u8], paths: impl Iterator<Item = &'a TreePath>) {
    script.extend_from_slice(command);
    for path in paths {
        script.push(b' ');
        // No path begins with a dash, nor with what a shell would take for something else.
        quote(&[b"./", path.bytes()].concat(), script);
    }
    script.push(b'\n');
}

/// Takes the lock, prunes, unpacks standard input, and puts record and manifest in force if all of it arrived.
#[must_use]
pub fn transfer(transfer: &Transfer<'_>) -> String {
    let Transfer { workdir, meta, token, generation, gzip, prune } = transfer;
    let stage = quoted(&format!("./{}", staging(meta, token)));
    let unpack = if *gzip { "gzip -dc | tar -xpof -" } else { "tar -xpof -" };
    let prune = prune.unwrap_or(STORED_PRUNE);
    format!(
        "{preamble}stage={stage} token={token} expected={expected}\n{LOCK}{prune}\n\
         {unpack} || exit {NOT_UNPACKED}\n{FINISH}",
        preamble = preamble(workdir),
        expected = quoted(generation),
    )
}

const STORED_PRUNE: &str = r#"pruning=$meta/crabbox-vast-prune.$token
case $pruning in /*) ;; *) pruning=./$pruning ;; esac
. "$pruning""#;

/// The lock is crabbox's: a link whose target is the number of the process that holds it. One whose process is gone is
/// moved away, which only one of several that try can do. Waiting for a live one ends after a minute.
const LOCK: &str = r#"mkdir -p -- "$meta" || exit 97
lock=$meta/sync-finalize-lock waited=0
until ln -s "$$" "$lock" 2>/dev/null; do
  [ "$waited" -lt 60 ] || exit 73
  owner=$(readlink "$lock" 2>/dev/null || :)
  alive=; case $owner in ''|*[!0-9]*) ;; *) if kill -0 "$owner" 2>/dev/null; then alive=yes; fi ;; esac
  sleep 1; waited=$((waited + 1))
  if [ -z "$alive" ] && [ "$(readlink "$lock" 2>/dev/null || :)" = "$owner" ] && mv -- "$lock" "$lock.stale.$$" 2>/dev/null; then
    if [ "$(readlink "$lock.stale.$$")" = "$owner" ]; then rm -f -- "$lock.stale.$$"; else mv -- "$lock.stale.$$" "$lock"; fi
  fi
done
leave() { rm -rf -- "$stage" "$meta/crabbox-vast-prune.$token"; rm -f -- "$lock"; }
trap leave EXIT
trap 'exit 1' HUP INT TERM
[ "$(generation)" = "$expected" ] || exit 75
rm -rf -- "$meta"/crabbox-vast-stage.*
rm -f -- "$meta/sync-fingerprint" "$meta/sync-finalize-token" "$meta/sync-finalize-complete-token" "$meta/sync-deleted"
rm -f -- "$meta"/sync-manifest.*.new "$meta"/sync-deleted.*.new
"#;

/// The stamp is taken behind everything that was unpacked: what changes later is newer than it.
const FINISH: &str = r#"[ -f "$stage/done" ] || exit 74
rm -f -- "$meta/crabbox-vast-state"
mv -f -- "$stage/manifest" "$meta/sync-manifest" && mv -f -- "$stage/record" "$meta/crabbox-vast-record" || exit 74
if stat -c %z -- "$record" >/dev/null 2>&1; then
  : > "$stage/state"
  stamp=$(stat -c %z -- "$stage/state")
  { printf '%s\n' "$stamp"; list | digest; sum "$meta/sync-manifest"; } > "$stage/state"
  mv -f -- "$stage/state" "$meta/crabbox-vast-state"
fi
exit 0
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staging_stays_in_the_folder() {
        for (meta, want) in [
            (".crabbox", ".crabbox/crabbox-vast-stage.t"),
            (".git/crabbox", ".git/crabbox/crabbox-vast-stage.t"),
            ("/elsewhere/.git/crabbox", ".crabbox/crabbox-vast-stage.t"),
            ("../.git/crabbox", ".crabbox/crabbox-vast-stage.t"),
        ] {
            assert_eq!(staging(meta, "t"), want);
        }
    }
}
