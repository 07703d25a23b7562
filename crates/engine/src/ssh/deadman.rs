//! The dead-man switch: a small watchdog on the instance that destroys that one instance at its deadline.
//!
//! The script is `deadman.sh`. Here are its settings, the form in which it travels, and what is said to it over SSH:
//! renew, and look.

use super::command::quote;
use crate::{Code, Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::{Compression, write::GzEncoder};
use reqwest::Url;
use std::io::Write as _;
use std::time::Duration;

const SCRIPT: &str = include_str!("deadman.sh");

/// Longer deadlines are no deadlines; the script counts with ten digits.
const LONGEST: u64 = 1_000_000_000;

/// A watchdog reports every 15 s, and past its deadline before each of its requests, which may take longer; after this
/// much silence it is dead.
const SILENCE: u64 = 90;

/// What ends an instance by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// From the first start on, whatever happens meanwhile.
    pub ttl: Option<Duration>,
    /// From the last use on.
    pub idle: Option<Duration>,
    /// The idle timeout of the lease, also where being idle does not count: after a restart no deadline is closer.
    pub grace: Duration,
}

impl Plan {
    /// What a lease arms: both deadlines, or, where it is kept, a time to live that somebody asked for. `None` where
    /// nothing is armed.
    #[must_use]
    pub fn of(keep: bool, ttl: Duration, ttl_explicit: bool, idle: Duration) -> Option<Self> {
        match (keep, ttl_explicit) {
            (false, _) => Some(Self { ttl: Some(ttl), idle: Some(idle), grace: idle }),
            (true, true) => Some(Self { ttl: Some(ttl), idle: None, grace: idle }),
            (true, false) => None,
        }
    }

    /// Whether anything ends the instance.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.ttl.or(self.idle).is_some()
    }
}

/// The watchdog as a line of a start script, for the API at `api_url`. It runs in the background and disturbs nothing
/// that follows. Holds no secret: the key of the instance is in the container.
///
/// # Errors
/// [`Code::InvalidConfig`] for an address without a host.
pub fn line(plan: &Plan, api_url: &str) -> Result<String> {
    packed(plan, api_url, "")
}

/// The same, from where `origin` says: 1 over a session, nothing for a start script.
fn packed(plan: &Plan, api_url: &str, origin: &str) -> Result<String> {
    let text = format!("P={origin} {}{}", settings(plan, api_url)?, without_comments(SCRIPT));
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    let packed = packed.write_all(text.as_bytes()).and_then(|()| packed.finish()).map_err(|error| {
        Error::new(Code::Internal, "the dead-man switch could not be packed").because(error)
    })?;
    Ok(format!("( eval \"$(echo {}|base64 -d|gzip -dc)\" )", STANDARD.encode(packed)))
}

/// The assignments that stand before the script.
fn settings(plan: &Plan, api_url: &str) -> Result<String> {
    let unusable = || {
        Error::new(Code::InvalidConfig, "vast.apiUrl is no address that an instance can call")
            .hint("give an absolute URL such as https://console.vast.ai/api/v0")
    };
    let url = Url::parse(api_url).map_err(|_| unusable())?;
    let host = url.host_str().ok_or_else(unusable)?;
    let port = url.port_or_known_default().ok_or_else(unusable)?;
    let name = host.trim_matches(['[', ']']);
    // A parsed host of digits and dots is an address, and so is one in brackets.
    let address = host.starts_with('[') || host.chars().all(|c| c.is_ascii_digit() || c == '.');
    let kind = if address { "ip" } else { "hostname" };
    let tls = if url.scheme() == "https" { "S" } else { "" };
    let whole = |time: Duration| time.as_secs().clamp(1, LONGEST);
    Ok(format!(
        "T={} I={} A={} U={} H={} N={} V={kind} B={} S={tls}\n",
        plan.ttl.map_or(0, whole),
        whole(plan.idle.unwrap_or(plan.grace)),
        u8::from(plan.idle.is_some()),
        quote(api_url.trim_end_matches('/'))?,
        quote(&format!("{host}:{port}"))?,
        quote(name)?,
        quote(url.path().trim_end_matches('/'))?,
    ))
}

/// What is for readers stays here.
fn without_comments(script: &str) -> String {
    let lines = script.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Says how things stand: [`Report::parse`] reads it.
pub const LOOK: &str = "read -r n _ <\"${CRABBOX_PROC:-/proc}/uptime\"; \
    read -r r <\"$HOME/.crabbox/deadman/report\" || exit 3; echo \"deadman: ${n%%.*} $r\"";

/// Waits up to three seconds for something to be true of the watchdog's files.
fn wait_for(what: &str) -> String {
    format!(
        "x=0; while [ $x -lt 30 ] && ! {what}; do \
         if sleep 0.1 2>/dev/null; then x=$((x+1)); else sleep 1; x=$((x+10)); fi; done"
    )
}

/// That a watchdog has reported.
const REPORTED: &str = "[ -s \"$d/report\" ]";

/// Looks for the watchdog of the start script, for whose first report it waits once that script has begun. Where it has
/// not, or does nothing, the watchdog is started from here, and nothing is waited for: of two the newest watches, and a
/// new lease is not held up by a start script that runs later, or never.
///
/// # Errors
/// As [`line()`].
pub fn first_look(plan: &Plan, api_url: &str) -> Result<String> {
    let (wait, own) = (wait_for(REPORTED), packed(plan, api_url, "1")?);
    Ok(format!(
        "d=\"$HOME/.crabbox/deadman\"; if [ -d \"$d\" ]; then {wait}; fi; {REPORTED} || {own}; {LOOK}"
    ))
}

/// Looks once more where [`first_look`] has started a watchdog: waits for its first report.
#[must_use]
pub fn second_look() -> String {
    format!("d=\"$HOME/.crabbox/deadman\"; {}; {LOOK}", wait_for(REPORTED))
}

/// Starts a watchdog in place of whichever watches, and looks. The end that the former had is kept, unless all is to begin
/// `afresh`.
///
/// # Errors
/// As [`line()`].
pub fn install(plan: &Plan, api_url: &str, afresh: bool) -> Result<String> {
    // The former may report once more before it sees that it is not the newest.
    let wait = wait_for(
        "{ read -r g _ <\"$d/watch\" && read -r r <\"$d/report\" && [ \"${r##*=}\" = \"$g\" ]; } 2>/dev/null",
    );
    let own = packed(plan, api_url, "1")?;
    let before = if afresh { CLEAR } else { "mv -f \"$d/report\" \"$d/last\"" };
    Ok(format!(
        "d=\"$HOME/.crabbox/deadman\"; {{ {before}; rm -f \"$d/watch\"; }} 2>/dev/null; {own}; {wait}; {LOOK}"
    ))
}

/// Removes what a watchdog goes by.
const CLEAR: &str = "rm -f \"$d/report\" \"$d/last\" \"$d/end\" \"$d/idle\" \"$d/plan\"";

/// Ends whichever watchdog watches, also for the starts to come; [`is_off`] reads whether that came about.
///
/// # Errors
/// As [`line()`].
pub fn disarm(api_url: &str) -> Result<String> {
    let nothing = Plan { ttl: None, idle: None, grace: Duration::ZERO };
    let (wait, own) = (wait_for("[ -s \"$d/plan\" ]"), packed(&nothing, api_url, "1")?);
    Ok(format!(
        "d=\"$HOME/.crabbox/deadman\"; {CLEAR} 2>/dev/null; {own}; {wait}; [ -s \"$d/plan\" ] && echo \"deadman off\""
    ))
}

/// Whether [`disarm`] did its work.
#[must_use]
pub fn is_off(text: &str) -> bool {
    text.lines().any(|line| line == "deadman off")
}

/// Moves the idle deadline to `idle` from now, by the instance's own clock, then looks.
#[must_use]
pub fn renewal(idle: Duration) -> String {
    let idle = idle.as_secs().clamp(1, LONGEST);
    format!(
        "umask 077; d=\"$HOME/.crabbox/deadman\"; [ -s \"$d/report\" ] || exit 3; \
         read -r n _ <\"${{CRABBOX_PROC:-/proc}}/uptime\"; \
         echo \"$((${{n%%.*}} + {idle})) {idle}\" >\"$d/idle.$$\" && mv -f \"$d/idle.$$\" \"$d/idle\" || exit 4; {LOOK}"
    )
}

/// What a watchdog last wrote down, and when, by the uptime of its machine in seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// When it was read.
    pub now: u64,
    /// When it was written.
    pub written: u64,
    /// The hard end.
    pub end: Option<u64>,
    /// The idle deadline.
    pub idle: Option<u64>,
    /// Key and id of the instance are known to it.
    pub has_key: bool,
    /// The clients with which it can ask.
    pub clients: Vec<String>,
    /// None of these can tell the API from somebody else.
    pub trusts_nobody: bool,
}

impl Report {
    /// Reads what [`LOOK`] printed, wherever it stands among what a login shell said.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("deadman: "))?;
        let mut words = line.split_whitespace();
        let now = words.next()?.parse().ok()?;
        if words.next()? != "1" {
            return None;
        }
        let written = words.next()?.parse().ok()?;
        let end: u64 = words.next()?.parse().ok()?;
        let idle: u64 = words.next()?.parse().ok()?;
        let rest: Vec<String> = words.map(str::to_owned).collect();
        let has = |what: &str| rest.iter().any(|word| word == what);
        let has_key = has("key") && has("id");
        let trusts_nobody = has("noca");
        // The last word says which watchdog wrote it.
        let others =
            |word: &String| !["key", "id", "noca"].contains(&word.as_str()) && !word.starts_with('=');
        let clients = rest.into_iter().filter(others).collect();
        let some = |at: u64| Some(at).filter(|at| *at > 0);
        Some(Self { now, written, end: some(end), idle: some(idle), has_key, clients, trusts_nobody })
    }

    /// The deadline that comes first.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.end.into_iter().chain(self.idle).min()
    }

    /// Seconds since it was written; `None` where the machine was started anew since then.
    #[must_use]
    pub fn age(&self) -> Option<u64> {
        // It may be written between the look at the clock and the one at the report.
        (self.written <= self.now + 5).then(|| self.now.saturating_sub(self.written))
    }

    /// Why it will not destroy its instance, if it will not.
    #[must_use]
    pub fn weakness(&self) -> Option<String> {
        let why = if !self.has_key {
            "the container has no key of its own (CONTAINER_API_KEY)".to_owned()
        } else if self.clients.is_empty() {
            "the image has no client to call the API with: no curl, wget, python3 or openssl".to_owned()
        } else if self.trusts_nobody {
            "the image has no certificates to know the API by: no ca-certificates".to_owned()
        } else {
            match self.age() {
                Some(age) if age <= SILENCE => return None,
                Some(age) => format!("it has not been heard for {age} s"),
                None => "it has not been heard since the machine was started anew".to_owned(),
            }
        };
        Some(why)
    }
}

#[cfg(test)]
#[path = "deadman_tests.rs"]
mod tests;
