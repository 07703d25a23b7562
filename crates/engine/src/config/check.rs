//! Reads one value: its canonical text, or what is wrong with it.

use super::{Kind, Setting};
use crate::lease::{Slug, go_duration, parse_go_duration};
use reqwest::Url;
use std::collections::BTreeSet;
use std::time::Duration;

/// More ports are not recorded on a lease, as in crabbox: a label has no room for them.
const MOST_PORTS: usize = 10;

/// One key of the order in which offers are preferred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderTerm {
    /// The offer's field.
    pub field: String,
    /// Whether larger values come first.
    pub descending: bool,
}

impl OrderTerm {
    /// The word the API uses.
    #[must_use]
    pub fn direction(&self) -> &'static str {
        if self.descending { "desc" } else { "asc" }
    }
}

/// Reads `field [asc|desc], …`; a field alone is descending, as in crabbox. `None` when it is not of that form.
#[must_use]
pub fn parse_order(text: &str) -> Option<Vec<OrderTerm>> {
    text.split(',')
        .map(|term| {
            let mut words = term.split_whitespace();
            let field = words.next()?;
            let descending = match words.next().map(str::to_ascii_lowercase).as_deref() {
                Some("asc") => false,
                None | Some("desc") => true,
                Some(_) => return None,
            };
            let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
            (words.next().is_none() && field.chars().all(legal))
                .then(|| OrderTerm { field: field.to_owned(), descending })
        })
        .collect()
}

/// The canonical text of a value, with the default in the place of nothing.
///
/// The error is the rest of a sentence that begins with the setting's name.
pub(super) fn canonical(setting: &Setting, raw: &str) -> Result<String, String> {
    let text = raw.trim();
    if text.chars().any(char::is_control) {
        return Err("must not contain control characters".to_owned());
    }
    if text.is_empty() && !(setting.default.is_empty() && setting.kind == Kind::Text) {
        return match setting.kind {
            Kind::Count | Kind::Number(_) | Kind::Duration | Kind::Switch => {
                Err(format!("must be {}", expectation(setting.kind)))
            }
            _ => Ok(setting.default.to_owned()),
        };
    }
    let unfit = || format!("must be {}, not {text:?}", expectation(setting.kind));
    match setting.kind {
        Kind::Text | Kind::Secret => Ok(text.to_owned()),
        Kind::Url => url(text),
        Kind::Word(words) => {
            let wanted = text.to_lowercase();
            let found = words.iter().find(|(word, _)| *word == wanted);
            found.map(|(_, meaning)| (*meaning).to_owned()).ok_or_else(unfit)
        }
        Kind::Count => match text.parse::<i64>() {
            Ok(number) if number < 0 => Err(format!("must not be negative, but is {number}")),
            Ok(0) => Ok(setting.default.to_owned()),
            Ok(number) => u32::try_from(number).map(|number| number.to_string()).map_err(|_| unfit()),
            Err(_) => Err(unfit()),
        },
        Kind::Number(limit) => match text.parse::<f64>() {
            Ok(number) if number < 0.0 => Err(format!("must not be negative, but is {text}")),
            Ok(number) if number.is_finite() && number <= limit => Ok(number.to_string()),
            _ => Err(unfit()),
        },
        Kind::Duration => match parse_go_duration(text) {
            Some(duration) if duration >= Duration::from_millis(1) => Ok(go_duration(duration)),
            _ => Err(unfit()),
        },
        Kind::List | Kind::Patterns => Ok(items(text).collect::<Vec<_>>().join(",")),
        Kind::Order => parse_order(text).map(|_| text.to_owned()).ok_or_else(unfit),
        Kind::Switch => match text.to_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok("true".to_owned()),
            "false" | "no" | "off" | "0" => Ok("false".to_owned()),
            _ => Err(unfit()),
        },
        Kind::Slug => slug(text),
        Kind::Ports => match ports(text) {
            Some(ports) if ports.len() > MOST_PORTS => Err(format!("must be at most {MOST_PORTS} ports")),
            Some(ports) => Ok(join(&ports)),
            None => Err(unfit()),
        },
    }
}

/// A name as slugs are written.
fn slug(text: &str) -> Result<String, String> {
    let slug = Slug::normalise(text).ok_or("must hold a letter or a digit")?;
    match slug.as_str().len() {
        length if length > Slug::LONGEST => {
            Err(format!("must have at most {} characters, not {length}", Slug::LONGEST))
        }
        _ => Ok(slug.to_string()),
    }
}

/// TCP ports between commas, sorted, each once; `None` where one is none.
pub(super) fn ports(text: &str) -> Option<BTreeSet<u16>> {
    items(text).map(|port| port.parse().ok().filter(|port| *port > 0)).collect()
}

fn join(ports: &BTreeSet<u16>) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",")
}

/// Whether a file leaves the lower layer as it is by saying nothing: an empty text, or a zero where zero is no value.
pub(super) fn says_nothing(kind: Kind, raw: &str) -> bool {
    let text = raw.trim();
    text.is_empty()
        || match kind {
            Kind::Count => text.parse::<i64>() == Ok(0),
            Kind::Duration => parse_go_duration(text) == Some(Duration::ZERO),
            _ => false,
        }
}

/// The items of a list.
pub(super) fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn expectation(kind: Kind) -> String {
    match kind {
        Kind::Word(words) => {
            let mut meanings: Vec<&str> = words.iter().map(|(_, meaning)| *meaning).collect();
            meanings.dedup();
            meanings.join(", ")
        }
        Kind::Count => "a whole number".to_owned(),
        Kind::Number(limit) if limit < f64::MAX => format!("a number from 0 to {limit}"),
        Kind::Number(_) => "a number".to_owned(),
        Kind::Duration => "a positive duration such as 90m or 1h30m".to_owned(),
        Kind::Order => "of the form `field [asc|desc], …`".to_owned(),
        Kind::Switch => "true or false".to_owned(),
        Kind::Ports => "TCP ports from 1 to 65535 between commas".to_owned(),
        Kind::Url => "an absolute URL".to_owned(),
        Kind::Text | Kind::Slug | Kind::Secret | Kind::List | Kind::Patterns => "text".to_owned(),
    }
}

// The complaints do not repeat the URL: what is wrong with it may be a password in it.
fn url(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    let Ok(url) = Url::parse(text) else {
        return Err("must be an absolute URL".to_owned());
    };
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must use http or https".to_owned());
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("must be an absolute URL with a host".to_owned());
    }
    // An empty user name or query is not visible in the parsed form.
    let authority = text.split_once("://").map_or("", |(_, rest)| rest);
    let authority = &authority[..authority.find(['/', '?', '#']).unwrap_or(authority.len())];
    if authority.contains('@') {
        return Err("must not contain user info".to_owned());
    }
    if text.contains(['?', '#']) {
        return Err("must not contain a query or a fragment".to_owned());
    }
    if url.scheme() == "http" && !is_loopback(&url) {
        return Err("must use https unless it targets localhost".to_owned());
    }
    Ok(text.to_owned())
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::setting;

    fn read(key: &str, text: &str) -> Result<String, String> {
        canonical(setting(key).unwrap(), text)
    }

    #[test]
    fn urls() {
        for (text, want) in [
            (" https://console.vast.ai/api/v0/ ", "https://console.vast.ai/api/v0"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://127.9.9.9", "http://127.9.9.9"),
            ("http://[::1]:80/api//", "http://[::1]:80/api"),
            ("http://localhost:1/x", "http://localhost:1/x"),
            ("", "https://console.vast.ai/api/v0"),
        ] {
            assert_eq!(read("apiUrl", text).unwrap(), want);
        }
        for (text, complaint) in [
            ("console.vast.ai", "absolute URL"),
            ("/api/v0", "absolute URL"),
            ("ftp://x.test", "http or https"),
            ("https://", "absolute URL"),
            ("https://canary:canary@x.test", "user info"),
            ("https://@x.test", "user info"),
            ("https://x.test/?canary", "query"),
            ("https://x.test/?", "query"),
            ("https://x.test/#canary", "fragment"),
            ("http://x.test/", "must use https unless it targets localhost"),
            ("http://localhost.evil.test", "must use https"),
        ] {
            let error = read("apiUrl", text).unwrap_err();
            assert!(error.contains(complaint), "{text}: {error}");
            assert!(!error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn words_and_numbers() {
        assert_eq!(read("instanceType", " On-Demand ").unwrap(), "ondemand");
        assert_eq!(read("instanceType", "on_demand").unwrap(), "ondemand");
        assert_eq!(read("instanceType", "interruptible").unwrap(), "interruptible");
        assert!(read("instanceType", "reserved").unwrap_err().contains("ondemand, interruptible"));
        assert_eq!(read("releaseAction", "DELETE").unwrap(), "destroy");
        assert_eq!(read("releaseAction", "").unwrap(), "destroy");
        assert!(read("releaseAction", "pause").unwrap_err().contains("destroy, stop, keep"));
        assert!(read("runtype", "ssh_proxy").is_err());
        assert_eq!(read("gpuCount", "4").unwrap(), "4");
        assert_eq!(read("diskGB", "0").unwrap(), "20");
        assert!(read("diskGB", "-1").unwrap_err().contains("must not be negative"));
        assert!(read("diskGB", "ten").unwrap_err().contains("\"ten\""));
        assert!(read("gpuCount", "").is_err());
        assert_eq!(read("maxDphTotal", "0.60").unwrap(), "0.6");
        assert_eq!(read("maxDphTotal", "0").unwrap(), "0");
        for bad in ["-0.1", "NaN", "inf", "cheap", ""] {
            assert!(read("maxDphTotal", bad).is_err(), "{bad}");
        }
        assert_eq!(read("minReliability", "1").unwrap(), "1");
        assert!(read("minReliability", "1.01").unwrap_err().contains("from 0 to 1"));
    }

    #[test]
    fn the_rest() {
        assert_eq!(read("ttl", "90m").unwrap(), "1h30m0s");
        for bad in ["0", "-5m", "90", "soon", ""] {
            assert!(read("ttl", bad).is_err(), "{bad}");
        }
        assert_eq!(read("envAllow", " CI , A_*,,").unwrap(), "CI,A_*");
        assert_eq!(read("gpuName", "").unwrap(), "");
        assert_eq!(read("image", "").unwrap(), "nvidia/cuda:12.8.1-cudnn-devel-ubuntu22.04");
        assert!(read("image", "a\nb").unwrap_err().contains("control"));
        assert_eq!(read("allowRepositoryPolicy", "Yes").unwrap(), "true");
        assert_eq!(read("pond", " My_Lab ").unwrap(), "my-lab");
        assert_eq!(read("pond", "").unwrap(), "");
        assert!(read("pond", "!!").unwrap_err().contains("a letter or a digit"));
        assert!(read("pond", &"x".repeat(42)).unwrap_err().contains("at most 41"));
        assert_eq!(read("expose", "9090, 80,9090").unwrap(), "80,9090");
        assert!(read("expose", "1,2,3,4,5,6,7,8,9,10,11").unwrap_err().contains("at most 10"));
        for bad in ["0", "65536", "http", "80-90", "-1"] {
            assert!(read("expose", bad).unwrap_err().contains("TCP ports"), "{bad}");
        }
        assert!(read("allowRepositoryPolicy", "maybe").is_err());
    }

    #[test]
    fn orders() {
        let term = |field: &str, descending| OrderTerm { field: field.to_owned(), descending };
        assert_eq!(
            parse_order("dlperf_per_dphtotal desc, dph_total"),
            Some(vec![term("dlperf_per_dphtotal", true), term("dph_total", true)])
        );
        assert_eq!(parse_order("a ASC"), Some(vec![term("a", false)]));
        for bad in ["", "a down", "a desc b", "a,,b", "a, ", "a-desc", "a;b"] {
            assert_eq!(parse_order(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_default_is_canonical() {
        for setting in crate::config::SETTINGS {
            assert_eq!(
                canonical(setting, setting.default).as_deref(),
                Ok(setting.default),
                "{}",
                setting.key
            );
        }
    }
}
