//! Takes secrets out of text that came from outside, before it enters an error, an event or a log.
//!
//! Each rule marks spans of one and the same text, and all spans are blanked together: no rule can hide from another
//! what that one would have found.

mod values;
mod written;

use std::borrow::Cow;
use std::ops::Range;

/// Replaces what a secret could be: values of telling names, as JSON, headers, shells, tables and command lines write
/// them, bearer tokens, private-key blocks, long hexadecimal words (so the vendor makes its keys), and of URLs who asks
/// and the query string (a signed log URL is a credential). Colours and other control sequences go; the rest stays as
/// it is.
#[must_use]
pub fn redact(text: &str) -> String {
    // A colour between a name and its value would part them.
    let mut shown = head(&plain(text), LONGEST).to_owned();
    // What is blanked may join what it parted: it is looked at again. More passes have never been needed.
    for _ in 0..4 {
        let next = blank(&shown);
        if next == shown {
            break;
        }
        shown = next;
    }
    shown
}

/// The longest text that is looked at, bytes: what is made to be hard to look through must not hold anybody up.
const LONGEST: usize = 16 * 1024;

/// A text without colours and other control sequences.
#[must_use]
pub fn plain(text: &str) -> String {
    let text = anstream::adapter::strip_str(text).to_string();
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// The beginning of a text, as whole words.
#[must_use]
pub fn head(text: &str, longest: usize) -> &str {
    if text.len() <= longest {
        return text;
    }
    let cut = &text[..text.floor_char_boundary(longest)];
    cut.rfind(char::is_whitespace).map_or("", |at| &cut[..at])
}

/// The last lines of a text, as whole lines, no more than [`redact`] looks at.
#[must_use]
pub fn last_lines(text: &str) -> &str {
    if text.len() <= LONGEST {
        return text;
    }
    let cut = &text[text.ceil_char_boundary(text.len() - LONGEST)..];
    cut.find('\n').map_or("", |at| &cut[at + 1..])
}

/// Takes out one secret that is known, wherever it stands.
#[must_use]
pub fn without<'a>(secret: &str, text: &'a str) -> Cow<'a, str> {
    if secret.is_empty() || !text.contains(secret) { text.into() } else { text.replace(secret, BLANK).into() }
}

/// A text from outside without backticks: what stands between those in a message of ours is for the user to type.
#[must_use]
pub fn unquoted(text: &str) -> String {
    text.replace('`', "'")
}

const BLANK: &str = "<redacted>";

type Span = Range<usize>;

fn blank(text: &str) -> String {
    let mut spans = values::spans(text);
    spans.extend(written::spans(text));
    spans.retain(|span| !span.is_empty());
    spans.sort_by_key(|span| span.start);
    let mut out = String::new();
    let mut from = 0;
    for span in spans {
        if span.start >= from {
            out.push_str(&text[from..span.start]);
            // One that begins where the last one ended goes with it.
            if span.start > from || !out.ends_with(BLANK) {
                out.push_str(BLANK);
            }
        }
        from = from.max(span.end);
    }
    out.push_str(&text[from..]);
    out
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, last_lines, redact, without};

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
            "CONTAINER_API_KEY = CANARY",
            r#"{"Key": "API_KEY", "Value": "CANARY"}"#,
            r#"{"key": "api_key", "value" : "CANARY"}"#,
            "bearer: CANARY",
            r#"["Bearer", "CANARY"]"#,
            "CONTAINER_API_KEY : CANARY",
            "Authorization : Basic CANARY",
            "CONTAINER_API_KEY=\tCANARY",
            "CONTAINER_API_KEY\t=CANARY",
            "CONTAINER_API_KEY\u{1b}[0m=\u{1b}[32mCANARY\u{1b}[0m",
            "JUPYTER_TOKEN\tCANARY",
            "JUPYTER_TOKEN CANARY",
            "CONTAINER_API_KEY is CANARY",
            r#""CONTAINER_API_KEY" => "CANARY""#,
            "(CONTAINER_API_KEY, CANARY)",
            "[('CONTAINER_API_KEY', 'CANARY')]",
            r"CONTAINER_API_KEY=$'CAN\'ARY'",
            "CONTAINER_API_KEY:='CANARY'",
            r#"CONTAINER_API_KEY='CAN'"ARY""#,
            "export CONTAINER_API_KEY=\\\n  CANARY",
            "- name: CONTAINER_API_KEY\n  value: CANARY",
            r#"{"name": "CONTAINER_API_KEY", "value": "CANARY"}"#,
            "SECRET_KEY=CANARY",
            "DB_PASS=CANARY",
            "SSHPASS=CANARY",
            "GITHUB_PAT=CANARY",
            "FOO_KEY=CANARY",
            "AZURE_CREDENTIALS=CANARY",
            "Cookie: a=b; session=CANARY",
            "docker login -u me -p CANARY registry.example",
            "mysql -pCANARY",
            "curl -s -u me:CANARY host",
            r#"auth: {"auth": "CANARY"}"#,
            "x.log?sig=CANARY",
            r"https:\/\/user:CANARY@host.example\/v2",
            "https%3A%2F%2Fuser%3ACANARY%40host.example%2Fv2",
            "user:CANARY@registry.example",
            "<password>CANARY</password>",
            "api_key%3DCANARY",
            "jwt=CANARY",
        ] {
            let shown = redact(text);
            assert!(!shown.contains("CAN") && !shown.contains("ARY"), "{text}: {shown}");
            assert_eq!(redact(&shown), shown);
        }
        assert_eq!(redact("see https://x.example/a?b=c now"), "see https://x.example/a?<redacted> now");
        let key = "0123456789abcdef".repeat(4);
        assert_eq!(redact(&format!("say {key}, and {key}")), "say <redacted>, and <redacted>");
        assert_eq!(redact(&format!("key5:{key}")), "key5:<redacted>");
        assert_eq!(
            redact("see https://x.example/a?<redacted> now"),
            "see https://x.example/a?<redacted> now"
        );
    }

    #[test]
    fn what_is_known_goes_wherever_it_stands() {
        assert_eq!(without("hunter2", "say hunter2, hunter22"), "say <redacted>, <redacted>2");
        assert_eq!(without("", "nothing"), "nothing");
    }

    #[test]
    fn a_text_that_is_made_to_be_long_is_cut_between_words() {
        let hostile = "token:[".repeat(1_000_000);
        let began = std::time::Instant::now();
        assert!(redact(&hostile).len() < 20_000);
        assert!(redact(&format!("{}{hostile}", "a ".repeat(7_000))).starts_with("a a a"));
        assert!(began.elapsed() < std::time::Duration::from_secs(60), "{:?}", began.elapsed());
        let long = format!("{}TOKEN=CANARY", "a ".repeat(LONGEST / 2 - 4));
        assert!(!redact(&long).contains("CAN"), "a value is cut with its name or not at all");
        let log = format!("TOKEN={}\nlast line", "x".repeat(LONGEST));
        assert_eq!((last_lines(&log), last_lines("a\nb")), ("last line", "a\nb"));
        assert_eq!(last_lines(&"x".repeat(LONGEST + 1)), "");
    }

    #[test]
    fn a_log_may_begin_inside_a_block() {
        let log = "b3BlbnNzaC1CANARY\nCANARY\n-----END OPENSSH PRIVATE KEY-----\nready";
        assert_eq!(redact(log), "<redacted>-----END OPENSSH PRIVATE KEY-----\nready");
        let two = "CANARY\n-----END A-----\n-----BEGIN B-----\nCANARY\n-----END B-----";
        assert!(!redact(two).contains("CANARY"), "{}", redact(two));
    }

    #[test]
    fn plain_text_stays() {
        for text in [
            "error 404/3603: no_such_ask  x",
            "docker login --password --verbose",
            "see https://x.example/a@b and mail@x.example",
            "ssh -p 22 host: no such token",
            "pull access denied for a/b:c, authorization failed",
            "image a/b:c@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef not found",
            r#"{"names": ["a", "b"], "token_count": 3}"#,
        ] {
            assert_eq!(redact(text), text);
        }
    }
}
