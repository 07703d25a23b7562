//! A simulator without a terminal: started in a session of its own, asked about and ended over its control plane.
//!
//! Nothing here sends a signal: a pid may belong to somebody else by now. Whether a simulator lives is told by the lock
//! of its announcement, and only the simulator that made the announced key obeys that key.

use crate::printer::Printer;
use crate::session::world;
use crate::simulate;
use clap::ArgMatches;
use crabbox_vast_engine::world::{HttpRequest, Limits, Method};
use crabbox_vast_engine::{Code, Error, Result};
use crabbox_vast_sim::Announced;
use serde_json::{Value, json};
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a simulator may take to start, and to end with all its machines.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);

/// Where a simulator in the background writes.
fn log_file(folder: &Path) -> PathBuf {
    folder.join("sim.log")
}

/// Starts this very command once more, in the background, and waits until it is announced.
pub async fn detach(matches: &ArgMatches, printer: &Printer) -> Result<()> {
    let folder = super::folder()?;
    if let Some(running) = crabbox_vast_sim::find(&folder) {
        return Err(Error::new(Code::InvalidState, format!("a simulator runs already at {}", running.url))
            .hint("use it with --sim, or end it with `crabbox-vast sim stop`")
            .with("url", running.url)
            .with("pid", running.pid));
    }
    let log = log_file(&folder);
    let mut child = spawn(&folder, &log).map_err(|error| {
        Error::new(
            Code::StateUnavailable,
            format!("the simulator cannot be started in the background: {error}"),
        )
        .hint(format!("it writes to {}", log.display()))
    })?;
    let deadline = Instant::now() + PATIENCE;
    let found = loop {
        if let Some(found) = crabbox_vast_sim::find(&folder).filter(|found| found.pid == child.id()) {
            break found;
        }
        if matches!(child.try_wait(), Ok(Some(_))) || Instant::now() >= deadline {
            // Never announced: nothing can be using it, and it is our own child that was not waited for yet.
            let _ = child.kill();
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let last = said.lines().rfind(|line| !line.trim().is_empty() && !line.starts_with("hint: "));
            let why = last.unwrap_or("it said nothing").to_owned();
            return Err(Error::new(Code::StateUnavailable, format!("the simulator did not start: {why}"))
                .hint(format!("see {}", log.display())));
        }
        sleep(LOOK).await;
    };
    if matches.get_flag("json") {
        let mut document = described(&found);
        document["apiKey"] = json!(found.api_key);
        document["log"] = json!(log.display().to_string());
        printer.json(&document);
    } else {
        printer.line(&format!("simulating Vast at {} in the background (pid {})", found.url, found.pid));
        printer.note(&format!(
            "commands with --sim use it; `crabbox-vast sim stop` ends it with all its machines; it writes to {}",
            log.display()
        ));
    }
    Ok(())
}

fn spawn(folder: &Path, log: &Path) -> std::io::Result<Child> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let open =
        || -> std::io::Result<File> { OpenOptions::new().create(true).append(true).mode(0o600).open(log) };
    // What an earlier one wrote says nothing about this one.
    let writer = open()?;
    writer.set_len(0)?;
    // The flag is a boolean in any of Go's spellings; what it was is what the last one says, and here it was said.
    let words = std::env::args_os().skip(1).chain(["--detach=false".into(), "--background".into()]);
    Command::new(std::env::current_exe()?)
        .args(words)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()
}

/// Leaves the terminal's session, so that its end is not ours.
pub fn leave_terminal() -> Result<()> {
    rustix::process::setsid().map(drop).map_err(|error| {
        Error::new(Code::Internal, format!("the simulator cannot leave the terminal's session: {error}"))
    })
}

/// Says whether a simulator runs, and what it has come to.
pub async fn status(matches: &ArgMatches, printer: &Printer) -> Result<()> {
    let json = matches.get_flag("json");
    let folder = super::folder()?;
    let Some(found) = crabbox_vast_sim::find(&folder) else {
        if json {
            printer.json(&json!({ "running": false }));
        } else {
            printer.line("no simulator runs");
        }
        return Ok(());
    };
    let ledger = ask(&found, Method::Get, "ledger").await?;
    if json {
        let mut document = described(&found);
        document["ledger"] = ledger;
        printer.json(&document);
    } else {
        printer.line(&format!(
            "a simulator runs at {} (pid {}, version {})",
            found.url, found.pid, found.version
        ));
        printer.line(&account(&ledger));
    }
    Ok(())
}

/// Ends the simulator and all its machines, and says what they came to.
pub async fn stop(matches: &ArgMatches, printer: &Printer) -> Result<()> {
    let json = matches.get_flag("json");
    let folder = super::folder()?;
    let Some(found) = crabbox_vast_sim::find(&folder) else {
        if json {
            printer.json(&json!({ "stopped": false, "running": false }));
        } else {
            printer.note("no simulator runs");
        }
        return Ok(());
    };
    let ledger = ask(&found, Method::Get, "ledger").await?;
    ask(&found, Method::Post, "shutdown").await?;
    let deadline = Instant::now() + PATIENCE;
    while crabbox_vast_sim::find(&folder).is_some_and(|still| still.pid == found.pid) {
        if Instant::now() >= deadline {
            return Err(Error::new(
                Code::InvalidState,
                format!("the simulator at {} was asked to end and still runs", found.url),
            )
            .hint(format!("it is process {}; see {}", found.pid, log_file(&folder).display())));
        }
        sleep(LOOK).await;
    }
    if json {
        printer.json(&json!({ "stopped": true, "running": false, "url": found.url, "ledger": ledger }));
    } else {
        printer.line(&format!("the simulator ended: {}", account(&ledger)));
    }
    Ok(())
}

fn described(found: &Announced) -> Value {
    json!({
        "running": true, "url": found.url, "control": simulate::control_url(&found.url), "pid": found.pid,
        "version": found.version,
    })
}

fn account(ledger: &Value) -> String {
    format!(
        "{} machines rented, {} given back, {} open, {:.4} $ spent",
        ledger["created"],
        ledger["destroyed"],
        ledger["open"].as_array().map_or(0, Vec::len),
        ledger["accrued_dollars"].as_f64().unwrap_or_default()
    )
}

/// One call of the control plane with the announced key.
async fn ask(found: &Announced, method: Method, what: &str) -> Result<Value> {
    let refuse = |why: String| {
        Error::new(Code::InvalidState, format!("the simulator at {} does not answer: {why}", found.url))
            .hint(format!("it is process {}; end it yourself if it hangs", found.pid))
    };
    let second = Duration::from_secs(5);
    let request = HttpRequest {
        method,
        url: format!("{}/{what}", simulate::control_url(&found.url)),
        bearer: Some(found.api_key.clone().into()),
        body: None,
        limits: Limits { connect: second, headers: second, body: second, body_bytes: 1 << 20 },
    };
    let reply = world(None).http.send(request).await.map_err(|error| refuse(error.to_string()))?;
    if reply.status != 200 {
        return Err(refuse(format!("HTTP {}", reply.status)));
    }
    serde_json::from_slice(&reply.body).map_err(|error| refuse(format!("not JSON: {error}")))
}
