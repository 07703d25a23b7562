//! Bootstrap: the tools that crabbox wants on a machine, installed before the lease is ready where a setting asks for it.
//!
//! Before, not behind: an installer that runs beside the user's first command would hold the package manager's locks.

use super::session_script::run;
use super::{Call, Engine, Phase};
use crate::config::Bootstrap;
use crate::lease::InstanceId;
use crate::world::{ExecExit, SshSession};
use crate::{Code, Error, Result};
use std::time::Duration;

/// A slow mirror takes minutes; the time to boot is limited besides.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Prints what is missing.
const MISSING: &str =
    "for t in git rsync tar python3; do command -v $t >/dev/null 2>&1 || printf '%s ' $t; done";

/// Installs what is named in `$need` and says the end of its log when something is still missing.
const INSTALL: &str = r#"
if [ "$(id -u)" = 0 ]; then as=; else as="sudo -n"; fi
umask 077
log=$(mktemp "${TMPDIR:-/tmp}/crabbox-vast-tools-XXXXXX") || exit 1
{
  if command -v apt-get; then
    $as apt-get update && $as env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $need
  elif command -v dnf; then $as dnf install -y $need
  elif command -v yum; then $as yum install -y $need
  elif command -v apk; then $as apk add --no-cache $need
  else echo "none of apt-get, dnf, yum and apk is there"
  fi
} >"$log" 2>&1 </dev/null
for t in $need; do
  command -v $t >/dev/null 2>&1 || { tail -n 12 "$log" >&2; exit 1; }
done
rm -f "$log"
"#;

impl Engine {
    /// Installs what is missing of crabbox's tools, if the settings ask for it.
    ///
    /// # Errors
    /// [`Code::StartFailedImage`] with the end of the installer's log; [`Code::SshLost`], [`Code::SshTimeout`].
    pub(super) async fn bootstrap(
        &self,
        instance: InstanceId,
        session: &dyn SshSession,
        call: &Call,
    ) -> Result<()> {
        if self.settings.bootstrap == Bootstrap::None {
            return Ok(());
        }
        let missing = run(session, MISSING, LIMIT).await?.success("looking for crabbox's tools")?;
        let missing = String::from_utf8_lossy(&missing).trim().to_owned();
        if missing.is_empty() {
            return Ok(());
        }
        call.phase(Phase::Boot, format!("installing {} on instance {instance}", missing.replace(' ', ", ")));
        let script = format!("need={}\n{INSTALL}", crate::ssh::command::quote(&missing)?);
        let answer = run(session, &script, LIMIT).await?;
        if answer.exit == ExecExit::Code(0) {
            return Ok(());
        }
        let log = answer.stderr.text();
        let tail: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let tail = crate::redact::redact(&tail[tail.len().saturating_sub(4)..].join(" / "));
        Err(Error::new(
            Code::StartFailedImage,
            format!("{missing} could not be installed on instance {instance}: {tail}"),
        )
        .hint("take an image that has them, or leave vast.bootstrap at none: crabbox-vast itself needs none of them")
        .with("instance", instance.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::Path;
    use std::process::{Command, Output};

    /// A machine with these programs, as a folder of them.
    fn machine(programs: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for tool in ["id", "mktemp", "tail", "rm", "env", "cat", "chmod"] {
            let real = ["/usr/bin", "/bin"].map(|place| Path::new(place).join(tool));
            symlink(real.iter().find(|file| file.exists()).unwrap(), folder.path().join(tool)).unwrap();
        }
        for (name, text) in programs {
            let file = folder.path().join(name);
            fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        folder
    }

    fn sh(machine: &Path, script: &str) -> Output {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).env_clear().env("PATH", machine).env("TMPDIR", machine);
        command.output().unwrap()
    }

    const MAKES: &str = "for t; do case $t in -*|install|update) ;; *) echo '#!/bin/sh' >\"$PATH/$t\"; \
                         chmod 755 \"$PATH/$t\" ;; esac; done; echo \"$0 $*\" >>\"$PATH/asked\"";

    #[test]
    fn what_is_missing_is_installed_by_what_is_there() {
        let found = sh(machine(&[("git", ""), ("tar", "")]).path(), MISSING);
        assert_eq!(String::from_utf8_lossy(&found.stdout), "rsync python3 ");
        for (manager, asked) in [
            ("apt-get", "apt-get install -y --no-install-recommends rsync python3"),
            ("dnf", "dnf install -y rsync python3"),
            ("yum", "yum install -y rsync python3"),
            ("apk", "apk add --no-cache rsync python3"),
        ] {
            let machine = machine(&[(manager, MAKES), ("sudo", "shift; \"$@\"")]);
            let done = sh(machine.path(), &format!("need='rsync python3'\n{INSTALL}"));
            assert!(done.status.success(), "{manager}: {}", String::from_utf8_lossy(&done.stderr));
            let said = fs::read_to_string(machine.path().join("asked")).unwrap();
            assert!(said.trim_end().ends_with(asked), "{said}");
            assert_eq!(sh(machine.path(), "command -v rsync python3 >/dev/null").status.code(), Some(0));
        }
    }

    #[test]
    fn a_failure_shows_the_end_of_the_log() {
        let failing = machine(&[
            ("apk", "echo 'fetch index'; echo 'ERROR: unable to select rsync' >&2; exit 1"),
            ("sudo", "shift; \"$@\""),
        ]);
        for (machine, want) in [
            (failing, "ERROR: unable to select rsync"),
            (machine(&[]), "none of apt-get, dnf, yum and apk is there"),
        ] {
            let done = sh(machine.path(), &format!("need=rsync\n{INSTALL}"));
            let said = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.code() == Some(1) && said.contains(want), "{said}");
        }
    }
}
