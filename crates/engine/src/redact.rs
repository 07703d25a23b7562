//! Takes secrets out of text that came from outside, before it enters an error, an event or a log.

use std::borrow::Cow;

/// The ends of names whose value is never shown; a hyphen counts as `_`.
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
    "signature",
    "access_key",
    "secret_key",
    "credentials",
    "registry_auth",
    "authorization",
    "private_key",
    "ssh_key",
    "image_login",
    "result_url",
];

/// Replaces what a secret could be: values of telling names, as JSON, headers, shells and command lines write them, bearer
/// tokens, private-key blocks, and of URLs who asks and the query string (a signed log URL is a credential). The rest stays
/// as it is.
#[must_use]
pub fn redact(text: &str) -> String {
    let mut shown = blank(text);
    // What is blanked may be what a name or a quote was taken for: what it hid is looked at again.
    for _ in 0..MOST_PASSES {
        let next = blank(&shown);
        if next == shown {
            break;
        }
        shown = next;
    }
    shown
}

/// More have never been needed.
const MOST_PASSES: usize = 8;

fn blank(text: &str) -> String {
    let mut out = Cow::Borrowed(text);
    // Blocks first: their opening line may pass for the value of a member.
    while let Some(at) = out.find(BEGIN) {
        let stop = at + block_length(&out[at..]);
        out = Cow::Owned(format!("{}<redacted>{}", &out[..at], &out[stop..]));
    }
    if let Some(next) = blank_members(&out) {
        out = Cow::Owned(next);
    }
    blank_urls(&blank_words(&out))
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
    let lower = as_names(text);
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

/// Where the value of the next telling member begins: behind its name, a closing quote and a colon, or the comma of a pair
/// in a list.
fn next_value(lower: &str, from: usize) -> Option<usize> {
    lower[from..].match_indices(['"', '\'']).find_map(|(at, _)| {
        let name = lower[from..from + at].trim_end_matches('\\');
        if !is_telling(name) {
            return None;
        }
        let rest = lower[from + at + 1..].trim_start();
        let value = match rest.strip_prefix(':') {
            Some(value) => value.trim_start(),
            // Where it is a name itself, its own value follows.
            None => rest.strip_prefix(',').map(str::trim_start).filter(|value| is_quoted_value(value))?,
        };
        Some(lower.len() - value.len())
    })
}

/// Whether this begins with a quoted text that is no telling name.
fn is_quoted_value(lower: &str) -> bool {
    let quoted = &lower[..value_length(lower)];
    lower.trim_start_matches('\\').starts_with(['"', '\''])
        && !is_telling(quoted.trim_end_matches(['"', '\'', '\\']))
}

/// As names are compared; of the same length.
fn as_names(text: &str) -> String {
    text.to_ascii_lowercase().replace('-', "_")
}

fn is_telling(lower: &str) -> bool {
    SECRET_MEMBERS.iter().any(|name| lower.ends_with(name))
}

/// The length of a value: to its closing quote or bracket, or to whatever ends an unquoted one.
fn value_length(value: &str) -> usize {
    let bare = value.trim_start_matches('\\');
    let escapes = value.len() - bare.len();
    let quote = match bare.chars().next() {
        Some(quote @ ('"' | '\'')) => quote,
        Some('[' | '{') => return escapes + bracket_length(bare),
        _ => return value.find([',', '}', ']', '\n']).unwrap_or(value.len()),
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

/// The length of a list or an object: to its closing bracket, or to the end of all where nothing closes it.
fn bracket_length(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(found) = text[at..].find(['[', ']', '{', '}', '"', '\'', '\\']) {
        at += found;
        match text.as_bytes()[at] {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {
                at += value_length(&text[at..]).max(1);
                continue;
            }
        }
        at += 1;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// Blanks what stands behind `Bearer`, and behind a telling name: `name=…`, `name: …`, `--name …`, quoted or up to where
/// the word ends.
fn blank_words(text: &str) -> String {
    let lower = as_names(text);
    let mut out = String::new();
    let mut from = 0;
    while let Some(found) = lower[from..].find(['=', ':', ' ', '\t']) {
        let at = from + found;
        let (before, behind) = (&lower[from..at], &text[at + 1..]);
        let blanks = behind.len() - behind.trim_start_matches([' ', '\t']).len();
        let skipped = match lower.as_bytes()[at] {
            b'=' if is_telling(before) => Some(0),
            b':' if is_telling(before) => Some(blanks),
            b' ' | b'\t' if before.ends_with("bearer") => Some(blanks),
            b' ' | b'\t' if is_telling(before) && is_option(&text[from..at]) => {
                Some(blanks).filter(|_| !behind[blanks..].starts_with('-'))
            }
            _ => None,
        };
        let value_at = at + 1 + skipped.unwrap_or(0);
        out.push_str(&text[from..value_at]);
        from = value_at;
        // What a header says of who asks is more than one word.
        let whole_line = lower.as_bytes()[at] == b':' && before.ends_with("authorization");
        let length = skipped.map_or(0, |_| word_length(&text[value_at..], whole_line));
        if length > 0 {
            out.push_str("<redacted>");
            from += length;
        }
    }
    out.push_str(&text[from..]);
    out
}

/// Whether the last word is an option of a command line.
fn is_option(text: &str) -> bool {
    text.rsplit(char::is_whitespace).next().is_some_and(|word| word.starts_with('-'))
}

/// The length of a word, which may be quoted, or of the rest of its line.
fn word_length(text: &str, whole_line: bool) -> usize {
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '&' | ',' | ';' | '<' | '>');
    if whole_line {
        text.find('\n').unwrap_or(text.len())
    } else if text.trim_start_matches('\\').starts_with(['"', '\'']) {
        value_length(text)
    } else {
        text.find(ends).unwrap_or(text.len())
    }
}

/// Blanks who asks, and the query string.
fn blank_urls(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let url = &rest[at..];
        let length =
            url.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>')).unwrap_or(url.len());
        // In a path another one may begin; a query goes as a whole.
        let host = "://".len();
        let length = url[host..length]
            .find("://")
            .map(|length| host + length)
            .filter(|length| !url[..*length].contains('?'))
            .unwrap_or(length);
        let (url, tail) = url.split_at(length);
        out.push_str(&rest[..at]);
        let authority = url[host..].find(['/', '?', '#']).map_or(url.len(), |length| host + length);
        let url = match url[..authority].rfind('@') {
            Some(asks) => {
                out.push_str("://<redacted>");
                &url[asks..]
            }
            None => url,
        };
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
            r#"declare -x CONTAINER_API_KEY="CAN ARY""#,
            "export CONTAINER_API_KEY='CAN ARY'",
            r#"sh -c \"export X_TOKEN=\'CAN ARY\' next\""#,
            "api_key: CANARY",
            "JUPYTER_TOKEN:\tCANARY",
            r#"token: "CAN ARY""#,
            "X-Api-Key: CANARY",
            "Authorization: Basic CANARY",
            r#"Authorization: Digest username="a", response="CANARY""#,
            "Bearer  CANARY",
            "x.log?X-Goog-Signature=CANARY&a=b",
            "AWS_SECRET_ACCESS_KEY=CANARY",
            "x-registry-auth: CANARY",
            "https://user:CANARY@host.example/x",
            "Get \"https://CANARY@host.example/v2/?a=@b\": denied",
            "docker login --password CANARY registry.example",
            "curl --token  'CAN ARY'",
            "https://@a://user:CANARY@/y?z=1 ?b",
            r#""token","x://a/?-sid" : "CANARY""#,
            "https://a/x?u=https://user:CANARY@b/y",
            r#"[["JUPYTER_TOKEN","CANARY"],["A","b"]]"#,
            r#"["token", "api_key", "CANARY"]"#,
            r#"{"token": ["a]", "CANARY", {"x": "CANARY"}], "b": 1}"#,
            r#"{"secret": {"a": ["CANARY"#,
        ] {
            let shown = redact(text);
            assert!(!shown.contains("CAN") && !shown.contains("ARY"), "{text}: {shown}");
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
        for text in [
            "error 404/3603: no_such_ask  x",
            "docker login --password --verbose",
            "see https://x.example/a@b and mail@x.example",
            r#"{"names": ["a", "b"], "token_count": 3}"#,
        ] {
            assert_eq!(redact(text), text);
        }
    }
}
