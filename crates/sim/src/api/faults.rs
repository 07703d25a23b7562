//! Faults as rules: which call, how often, and what goes wrong.

use super::create::no_such_ask;
use super::limits::too_many;
use super::message::{Delivery, Reply, Request};
use serde_json::{Value, json};
use std::time::Duration;

/// One rule. It applies to the calls that match method and path.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// The method, or none for any.
    pub method: Option<String>,
    /// The path with `*` for any run of characters, such as `/api/v0/asks/*/`.
    pub path: String,
    /// The first matching call it strikes, counted from 1.
    pub nth: u64,
    /// How many calls it strikes from then on; none means all.
    pub count: Option<u64>,
    /// Whether the call has taken effect when it strikes.
    pub timing: Timing,
    /// What goes wrong.
    pub effect: Effect,
}

/// When a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// Nothing has happened on the server.
    BeforeCommit,
    /// Everything has happened; only the answer suffers.
    AfterCommit,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// This status and body; `{id}` in the body stands for the first number in the path.
    Answer {
        /// The HTTP status.
        status: u16,
        /// The content type.
        content_type: String,
        /// The body.
        body: String,
        /// Further headers, such as `retry-after` or `location`.
        headers: Vec<(String, String)>,
    },
    /// The connection is reset before the first byte.
    Reset,
    /// The answer breaks off in the middle. Before the commit: an empty object does.
    Truncate,
    /// Status 200 and an empty body.
    Empty,
    /// Headers, then silence.
    Stall,
    /// The gateway's HTML page with this status.
    Html(u16),
    /// 429 with one of the four observed bodies, 0 to 3.
    TooMany(usize),
    /// The offer is gone, in the form observed.
    NoSuchAsk,
    /// The right answer, late by this much real time. It takes effect when it arrives, whatever the timing.
    Delay(Duration),
}

impl Fault {
    /// A rule that strikes once, at the first call of this method and path, before the commit.
    pub fn once(method: &str, path: &str, effect: Effect) -> Self {
        Self {
            method: Some(method.to_owned()),
            path: path.to_owned(),
            nth: 1,
            count: Some(1),
            timing: Timing::BeforeCommit,
            effect,
        }
    }

    /// Whether the rule is about calls of this method and path.
    pub fn concerns(&self, method: &str, path: &str) -> bool {
        self.method.as_ref().is_none_or(|only| only == method) && glob(&self.path, path)
    }

    /// The same rule striking after the commit.
    #[must_use]
    pub fn after_commit(mut self) -> Self {
        self.timing = Timing::AfterCommit;
        self
    }

    /// The same rule striking this many times, or always.
    #[must_use]
    pub fn times(mut self, count: Option<u64>) -> Self {
        self.count = count;
        self
    }

    /// A rule from the control plane's JSON:
    /// `{"method"?, "path", "nth"?, "count"?: n|null, "timing"?: "before"|"instead"|"after", "effect": …}`,
    /// the effect by name (`reset`, `truncate`, `empty`, `stall`, `html_502`, `html_200`, `no_such_ask`) or as
    /// `{"status", "body"?, "content_type"?, "headers"?}`, `{"too_many": 0-3}` or `{"delay_ms": n}`.
    ///
    /// # Errors
    /// What the rule lacks, in words.
    pub fn from_json(rule: &Value) -> Result<Self, String> {
        let path = rule["path"].as_str().ok_or("a fault needs a `path`")?.to_owned();
        let count = match rule.get("count") {
            None => Some(1),
            Some(Value::Null) => None,
            Some(count) => Some(count.as_u64().ok_or("`count` is a number or null")?),
        };
        let timing = match rule.get("timing").and_then(Value::as_str) {
            None | Some("before" | "before-commit" | "instead") => Timing::BeforeCommit,
            Some("after" | "after-commit") => Timing::AfterCommit,
            Some(other) => return Err(format!("unknown timing `{other}`")),
        };
        Ok(Self {
            method: rule["method"].as_str().map(str::to_owned),
            path,
            nth: rule["nth"].as_u64().unwrap_or(1).max(1),
            count,
            timing,
            effect: effect(&rule["effect"])?,
        })
    }
}

fn effect(effect: &Value) -> Result<Effect, String> {
    if let Some(name) = effect.as_str() {
        return match name {
            "reset" => Ok(Effect::Reset),
            "truncate" => Ok(Effect::Truncate),
            "empty" => Ok(Effect::Empty),
            "stall" => Ok(Effect::Stall),
            "no_such_ask" => Ok(Effect::NoSuchAsk),
            _ => match name.strip_prefix("html_").and_then(|status| status.parse().ok()) {
                Some(status) => Ok(Effect::Html(status)),
                None => Err(format!("unknown effect `{name}`")),
            },
        };
    }
    if let Some(milliseconds) = effect["delay_ms"].as_u64() {
        return Ok(Effect::Delay(Duration::from_millis(milliseconds)));
    }
    if let Some(variant) = effect["too_many"].as_u64() {
        return Ok(Effect::TooMany(variant as usize));
    }
    let status = effect["status"].as_u64().and_then(|status| u16::try_from(status).ok());
    let status = status.filter(|status| (200..600).contains(status));
    let (body, default_type) = match &effect["body"] {
        Value::Null => (String::new(), "text/plain"),
        Value::String(body) => (body.clone(), "text/plain"),
        body => (body.to_string(), "application/json"),
    };
    let headers = effect["headers"].as_object().into_iter().flatten();
    Ok(Effect::Answer {
        status: status.ok_or("an effect needs a name, `status`, `too_many` or `delay_ms`")?,
        content_type: effect["content_type"].as_str().unwrap_or(default_type).to_owned(),
        body,
        headers: headers.map(|(key, value)| (key.clone(), value.as_str().unwrap_or("").to_owned())).collect(),
    })
}

/// A rule in force.
#[derive(Clone, Debug)]
struct Rule {
    fault: Fault,
    /// How many calls it has matched.
    seen: u64,
    /// Whether it has struck one.
    struck: bool,
}

/// The rules in force.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Vec<Rule>);

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.0.push(Rule { fault, seen: 0, struck: false });
    }

    /// Takes the latest rule like this one out.
    pub(crate) fn remove(&mut self, fault: &Fault) {
        if let Some(at) = self.0.iter().rposition(|rule| rule.fault == *fault) {
            self.0.remove(at);
        }
    }

    /// How many rules have struck no call.
    pub(crate) fn idle(&self) -> usize {
        self.0.iter().filter(|rule| !rule.struck).count()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Counts the call on every matching rule and returns the first that strikes.
    pub(crate) fn strike(&mut self, request: &Request) -> Option<Fault> {
        let mut struck = None;
        for Rule { fault, seen, struck: has_struck } in &mut self.0 {
            if !fault.concerns(&request.method, &request.path) {
                continue;
            }
            *seen += 1;
            let due = *seen >= fault.nth && fault.count.is_none_or(|count| *seen - fault.nth < count);
            if due && struck.is_none() {
                *has_struck = true;
                struck = Some(fault.clone());
            }
        }
        struck
    }
}

impl Effect {
    /// The answer as the fault leaves it; `real` is the true answer where the call took effect.
    pub(crate) fn spoil(&self, request: &Request, real: Option<Reply>) -> Reply {
        let id = request.path.split('/').find_map(|part| part.parse::<u64>().ok()).unwrap_or(0);
        let mut whole = real.unwrap_or_else(|| Reply::json(200, &json!({"success": true})));
        match self {
            Self::Answer { status, content_type, body, headers } => {
                let mut reply = Reply::typed(*status, content_type, body.replace("{id}", &id.to_string()));
                reply.headers.extend(headers.iter().cloned());
                reply
            }
            Self::Reset => {
                whole.delivery = Delivery::Reset;
                whole
            }
            Self::Truncate => {
                whole.delivery = Delivery::Truncate(whole.body.len() / 2);
                whole
            }
            Self::Stall => {
                whole.delivery = Delivery::Stall;
                whole
            }
            Self::Empty => Reply::typed(200, "application/json", ""),
            Self::Html(status) => Reply::typed(*status, "text/html", gateway_page(*status)),
            Self::TooMany(variant) => too_many(*variant, 4.5),
            Self::NoSuchAsk => no_such_ask(id),
            Self::Delay(delay) => {
                whole.delay += *delay;
                whole
            }
        }
    }
}

fn gateway_page(status: u16) -> String {
    format!(
        "<html>\r\n<head><title>{status} Bad Gateway</title></head>\r\n<body>\r\n<center><h1>{status} Bad \
         Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    )
}

/// Matches `*` against any run of characters, also across slashes.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut tail) = text.strip_prefix(head) else { return false };
    loop {
        if glob(rest, tail) {
            return true;
        }
        let mut characters = tail.chars();
        if characters.next().is_none() {
            return false;
        }
        tail = characters.as_str();
    }
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn a_star_matches_any_run() {
        assert!(glob("/api/v0/asks/*/", "/api/v0/asks/17/"));
        assert!(glob("*", "/anything"));
        assert!(glob("/a/*/ssh/", "/a/1/ssh/"));
        assert!(!glob("/a/*/ssh/", "/a/1/"));
        assert!(!glob("/a/", "/a/b"));
    }
}
