//! Takes secrets out of text that came from outside, before it enters an error, an event or a log.

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

/// Replaces what a secret could be: values of telling JSON members, bearer tokens, private-key blocks, and query strings
/// of URLs (a signed log URL is a credential). The rest stays as it is.
#[must_use]
pub fn redact(text: &str) -> String {
    let mut out = Cow::Borrowed(text);
    // Blocks first: their opening line may pass for the value of a member.
    while let Some(at) = out.find(BEGIN) {
        let stop = at + block_length(&out[at..]);
        out = Cow::Owned(format!("{}<redacted>{}", &out[..at], &out[stop..]));
    }
    if let Some(next) = blank_members(&out) {
        out = Cow::Owned(next);
    }
    blank_queries(&blank_words(&out))
}

const BEGIN: &str = "-----BEGIN";
const END: &str = "-----END";

/// The length of a block of key text: to the dashes that close it, to the end of that line where they are missing, or
/// to the end of all where nothing ends it.
fn block_length(block: &str) -> usize {
    let Some(end) = block.find(END).map(|at| at + END.len()) else { return block.len() };
    let line = block[end..].find('\n').map_or(block.len(), |length| end + length);
    let Some(closed) = block[end..line].find("-----").map(|at| end + at) else { return line };
    // Those dashes may already open the next block.
    if block[closed..].starts_with(BEGIN) { closed } else { closed + 5 }
}

/// Blanks the values of telling members in what may be JSON, broken JSON, JSON inside a JSON string, or a dictionary as
/// Python prints it; `None` where there is none.
fn blank_members(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let mut out = String::new();
    let mut from = 0;
    while let Some(value_at) = next_value(&lower, from) {
        let mut end = value_at + value_length(&text[value_at..]);
        // Where quotes are missing a name may pass for a value: then its own value follows.
        while text[end..].trim_start().starts_with(':') && end > value_at {
            let colon = end + text[end..].find(':').unwrap_or_default() + 1;
            let next = text.len() - text[colon..].trim_start().len();
            let length = value_length(&text[next..]);
            if length == 0 {
                break;
            }
            end = next + length;
        }
        out.push_str(&text[from..value_at]);
        out.push_str("\"<redacted>\"");
        from = end;
    }
    if out.is_empty() {
        return None;
    }
    out.push_str(&text[from..]);
    Some(out)
}

/// Where the value of the next telling member begins: behind its name, a closing quote and a colon.
fn next_value(lower: &str, from: usize) -> Option<usize> {
    lower[from..].match_indices(['"', '\'']).find_map(|(at, _)| {
        let name = lower[from..from + at].trim_end_matches('\\');
        if !is_telling(name) {
            return None;
        }
        let value = lower[from + at + 1..].trim_start().strip_prefix(':')?.trim_start();
        Some(lower.len() - value.len())
    })
}

fn is_telling(lower: &str) -> bool {
    SECRET_MEMBERS.iter().any(|name| lower.ends_with(name))
}

/// The length of a value: to its closing quote, or to whatever ends an unquoted one.
fn value_length(value: &str) -> usize {
    let bare = value.trim_start_matches('\\');
    let escapes = value.len() - bare.len();
    let Some(quote @ ('"' | '\'')) = bare.chars().next() else {
        return value.find([',', '}', ']', '\n']).unwrap_or(value.len());
    };
    let mut before = 0;
    for (at, c) in bare.char_indices().skip(1) {
        // A quote closes if as many backslashes precede it as precede the opening one.
        if c == quote && before <= escapes {
            return escapes + at + 1;
        }
        if c == '\n' {
            return escapes + at;
        }
        before = if c == '\\' { before + 1 } else { 0 };
    }
    value.len()
}

/// Blanks `Bearer …`, and `name=…` with a telling name, up to where a word ends.
fn blank_words(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '&' | ',' | ';' | '<' | '>');
    let mut out = String::new();
    let mut from = 0;
    while let Some(found) = lower[from..].find(['=', ' ']) {
        let value_at = from + found + 1;
        let before = &lower[from..value_at - 1];
        let telling = if lower.as_bytes()[from + found] == b'=' {
            is_telling(before)
        } else {
            before.ends_with("bearer")
        };
        out.push_str(&text[from..value_at]);
        from = value_at;
        let length = text[value_at..].find(ends).unwrap_or(text.len() - value_at);
        if telling && length > 0 {
            out.push_str("<redacted>");
            from += length;
        }
    }
    out.push_str(&text[from..]);
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
            Some((path, query)) => {
                out.push_str(path);
                // One that is blanked already stays as it is.
                let blank = query.is_empty() && tail.starts_with("<redacted>");
                out.push_str(if blank { "?" } else { "?<redacted>" });
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
    fn other_notations_and_broken_ones_go_too() {
        for text in [
            r#"{\"api_key\": \"CANARY\"}"#,
            r#"{"msg":"{\\\"token\\\":\\\"CANARY\\\"}"}"#,
            "{'jupyter_token': 'CANARY'}",
            r#""api_key":""instance_api_key":"CANARY""#,
            "\"token\":\n\"api_key\": \"CANARY\"",
            "\"token\": \"open\n\"api_key\": \"CANARY\"",
            "authorization: bearer CANARY",
            "GET /api/v0/instances/?api_key=CANARY&x=1",
            "PASSWORD=CANARY; next",
            "\"private_key\": -----BEGIN A-----\nCANARY\n-----END A-----",
            "-----BEGIN A-----\n-----END A----\n-----BEGIN B-----\nCANARY\n-----END B-----",
            "-----BEGIN A----- -----END A -----BEGIN B-----\nCANARY\n-----END B-----",
        ] {
            let shown = redact(text);
            assert!(!shown.contains("CANARY"), "{text}: {shown}");
            assert_eq!(redact(&shown), shown);
        }
        assert_eq!(redact("see https://x.example/a?b=c now"), "see https://x.example/a?<redacted> now");
        assert_eq!(
            redact("see https://x.example/a?<redacted> now"),
            "see https://x.example/a?<redacted> now"
        );
    }

    #[test]
    fn plain_text_stays() {
        assert_eq!(redact("error 404/3603: no_such_ask  x"), "error 404/3603: no_such_ask  x");
    }
}
