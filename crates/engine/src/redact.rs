//! Takes secrets out of text that came from outside, before it enters an error, an event or a log.

use once_cell::sync::Lazy;
use std::borrow::Cow;

/// JSON members whose value is never shown.
const SECRET_MEMBERS: &[&str] = &[
    "api_key",
    "apikey",
    "instance_api_key",
    "jupyter_token",
    "token",
    "access_token",
    "refresh_token",
    "password",
    "passwd",
    "secret",
    "sid",
    "authorization",
    "private_key",
    "ssh_key",
    "image_login",
    "result_url",
];

/// The same outside JSON, as messages and forms write them.
const ASSIGNMENTS: &[&str] = &["api_key=", "apikey=", "token=", "password=", "secret="];

/// Replaces what a secret could be: values of telling JSON members, bearer tokens, private-key blocks, and query strings
/// of URLs (a signed log URL is a credential). The rest stays as it is.
#[must_use]
pub fn redact(text: &str) -> String {
    static MARKS: Lazy<Vec<String>> =
        Lazy::new(|| SECRET_MEMBERS.iter().map(|name| format!("\"{name}\"")).collect());
    let mut out = Cow::Borrowed(text);
    for mark in MARKS.iter() {
        if let Some(next) = blank_member(&out, mark) {
            out = Cow::Owned(next);
        }
    }
    for (start, end) in [("-----BEGIN", "-----END")] {
        while let Some(at) = out.find(start) {
            let stop = out[at..].find(end).map_or(out.len(), |n| {
                let tail = at + n + end.len();
                out[tail..].find("-----").map_or(out.len(), |m| tail + m + 5)
            });
            out = Cow::Owned(format!("{}<redacted>{}", &out[..at], &out[stop..]));
        }
    }
    let mut out = blank_after(&out, "Bearer ", |c| c.is_ascii_whitespace() || c == '"');
    for mark in ASSIGNMENTS {
        out = blank_after(&out, mark, |c| c.is_whitespace() || matches!(c, '"' | '\'' | '&' | ',' | ';'));
    }
    blank_queries(&out)
}

fn blank_member(text: &str, mark: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let mut out = String::new();
    let mut from = 0;
    while let Some(found) = lower[from..].find(mark) {
        let after_name = from + found + mark.len();
        let rest = &text[after_name..];
        let value_at = rest.len() - rest.trim_start_matches([' ', ':', '\t', '\n']).len();
        let value = &rest[value_at..];
        let length = if let Some(inner) = value.strip_prefix('"') {
            let mut escaped = false;
            inner
                .char_indices()
                .find(|&(_, c)| {
                    let end = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    end
                })
                .map_or(value.len(), |(at, _)| at + 2)
        } else {
            value.find([',', '}', ']']).unwrap_or(value.len())
        };
        out.push_str(&text[from..after_name + value_at]);
        out.push_str("\"<redacted>\"");
        from = after_name + value_at + length;
    }
    if out.is_empty() {
        return None;
    }
    out.push_str(&text[from..]);
    Some(out)
}

fn blank_after(text: &str, mark: &str, ends: impl Fn(char) -> bool) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(mark) {
        let value = &rest[at + mark.len()..];
        let length = value.find(&ends).unwrap_or(value.len());
        out.push_str(&rest[..at + mark.len()]);
        out.push_str("<redacted>");
        rest = &value[length..];
    }
    out.push_str(rest);
    out
}

fn blank_queries(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let url = &rest[at..];
        let length =
            url.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>')).unwrap_or(url.len());
        let (url, tail) = url.split_at(length);
        out.push_str(&rest[..at]);
        match url.split_once('?') {
            Some((path, _)) => {
                out.push_str(path);
                out.push_str("?<redacted>");
            }
            None => out.push_str(url),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::redact;

    #[test]
    fn members_tokens_blocks_and_queries_go() {
        let text = r#"{"a":1,"instance_api_key":"CANARY1","Api_Key" : "CAN\"ARY2","token":12345,"b":"Bearer CANARY3"} https://s3.example/x.log?sig=CANARY4 -----BEGIN OPENSSH PRIVATE KEY-----CANARY5-----END OPENSSH PRIVATE KEY----- end"#;
        let shown = redact(text);
        assert!(!shown.contains("CANARY"), "{shown}");
        assert!(!shown.contains("12345"), "{shown}");
        assert!(
            shown.contains(r#""a":1"#)
                && shown.ends_with("end")
                && shown.contains("https://s3.example/x.log?"),
            "{shown}"
        );
    }

    #[test]
    fn plain_text_stays() {
        assert_eq!(redact("error 404/3603: no_such_ask  x"), "error 404/3603: no_such_ask  x");
    }
}
