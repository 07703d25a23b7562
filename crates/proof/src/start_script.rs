//! The start script of a create as the vendor gets it: what is packed in it, and when it ends its machine.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use std::cell::RefCell;
use std::io::Read as _;
use std::time::Duration;

/// When a machine ends by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lifetime {
    /// So long after its first start.
    pub ttl: Option<Duration>,
    /// So long after its last use.
    pub idle: Option<Duration>,
}

impl Lifetime {
    /// That of a lease: 90 minutes, or 30 without use. One that is kept has no idle end, and the 90 minutes only where
    /// they were asked for.
    pub(crate) fn of_lease(keep: bool, asked: bool) -> Self {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        Self { ttl: (!keep || asked).then(|| minutes(90)), idle: (!keep).then(|| minutes(30)) }
    }

    /// What is left of it once a lease has used up so much of its time on machines before this one.
    pub(crate) fn after(self, used: Duration) -> Self {
        Self { ttl: self.ttl.map(|ttl| ttl.saturating_sub(used)), ..self }
    }

    /// Whether it is the same but for a second: a process knows when it sends a create, not when that arrives.
    pub(crate) fn is_about(&self, other: &Self) -> bool {
        let near = match (self.ttl, other.ttl) {
            (Some(one), Some(other)) => one.abs_diff(other) <= Duration::from_secs(1),
            (one, other) => one == other,
        };
        near && self.idle == other.idle
    }

    /// Whether anything ends it.
    pub(crate) fn ends(&self) -> bool {
        self.ttl.is_some() || self.idle.is_some()
    }
}

thread_local! {
    /// What was unpacked last: each script is looked at three times in a row.
    static LAST: RefCell<(String, Option<String>)> = RefCell::default();
}

/// What is packed in a script, as the machine unpacks it.
pub(crate) fn unpacked(script: &str) -> Option<String> {
    let packed = script.split("$(echo ").nth(1)?.split("|base64 -d|gzip -dc)").next()?;
    LAST.with_borrow_mut(|(last, text)| {
        if last != packed {
            *text = unpack(packed);
            packed.clone_into(last);
        }
        text.clone()
    })
}

fn unpack(packed: &str) -> Option<String> {
    let mut text = String::new();
    GzDecoder::new(STANDARD.decode(packed).ok()?.as_slice()).read_to_string(&mut text).ok()?;
    Some(text)
}

/// When the machine of this script ends by itself: the assignments before the packed text, if it is one that destroys.
pub(crate) fn lifetime(script: &str) -> Lifetime {
    let text = unpacked(script).filter(|text| text.contains("DELETE") && text.contains("/uptime"));
    let Some(text) = text else { return Lifetime::default() };
    let words = || text.lines().next().unwrap_or_default().split_whitespace();
    let seconds = |name: &str| {
        let value = words().find_map(|word| word.strip_prefix(name)?.parse().ok());
        value.filter(|value| *value > 0).map(Duration::from_secs)
    };
    Lifetime { ttl: seconds("T="), idle: seconds("I=").filter(|_| seconds("A=").is_some()) }
}

/// Packs a text as the engine does.
#[cfg(test)]
pub(crate) fn pack(text: &str) -> String {
    use std::io::Write as _;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(text.as_bytes()).unwrap();
    STANDARD.encode(packed.finish().unwrap())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crabbox_vast_engine::ssh::deadman::{Plan, line};

    #[test]
    fn the_switch_of_the_engine_is_read_as_it_was_armed() {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let script = |keep, explicit| {
            let plan = Plan::of(keep, minutes(90), explicit, minutes(30));
            plan.map(|plan| line(&plan, "http://127.0.0.1:9/api/v0").unwrap() + "\nmore").unwrap_or_default()
        };
        let both = Lifetime { ttl: Some(minutes(90)), idle: Some(minutes(30)) };
        assert_eq!(lifetime(&script(false, false)), both);
        assert_eq!(both, Lifetime::of_lease(false, false));
        assert_eq!(lifetime(&script(true, true)), Lifetime { idle: None, ..both });
        assert_eq!(lifetime(&script(true, true)), Lifetime::of_lease(true, true));
        assert_eq!(lifetime(&script(true, false)), Lifetime::of_lease(true, false));
        assert!(!Lifetime::of_lease(true, false).ends());
        let nothing = format!("$(echo {}|base64 -d|gzip -dc)", pack("T=5400 I=1800 A=1\n: DELETE"));
        assert!(!lifetime(&nothing).ends(), "it looks at no clock");
    }
}
