//! What stands behind a telling name.

use super::Span;
use regex::Regex;
use std::sync::LazyLock;

/// The ends of names whose value is never shown; a hyphen counts as `_`.
const TELLING: &[&str] = &[
    "_key",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "token",
    "jwt",
    "password",
    "passwd",
    "passphrase",
    "_pass",
    "sshpass",
    "_pwd",
    "_pat",
    "secret",
    "sid",
    "sig",
    "signature",
    "credential",
    "credentials",
    "auth",
    "authorization",
    "cookie",
    "image_login",
    "result_url",
];

/// Names of which the rest of the line is the value: what a header says of who asks is more than one word.
const WHOLE_LINE: &[&str] = &["authorization", "registry_auth", "cookie"];

/// What stands between a name and its value.
struct Signs {
    /// `=`, `:`, `=>` and the like, behind whatever closes the name; the line may go on below.
    sign: Regex,
    /// `["name", "value"]`
    pair: Regex,
    /// A name and its value as members of their own: `name: NAME`, `value: …`.
    member: Regex,
    /// `<name>value</name>`, and a table whose columns are parted by tabs.
    other: Regex,
    /// Behind the name of a variable of the environment: `(NAME, value)`, `NAME value`, `NAME is value`.
    variable: Regex,
}

static SIGNS: LazyLock<Option<Signs>> = LazyLock::new(|| {
    Some(Signs {
        sign: Regex::new(r#"^[\\"'\])]*\s*(?:(?::=|=>|==?|%3[dD])(?:[ \t]|\\\r?\n)*|:\s*)"#).ok()?,
        pair: Regex::new(r#"^[\\"']+\s*,\s*"#).ok()?,
        member: Regex::new(r#"^[\\"']*[,\s]+[\\"']*(?:[vV]alue|VALUE)[\\"']*\s*[:=]\s*"#).ok()?,
        other: Regex::new(r"^(?:>|[ ]*\t\s*)").ok()?,
        variable: Regex::new(r"^(?:\s*,\s*|[ ]+(?:(?:is|was)[ ]+)?)").ok()?,
    })
});

/// The values of telling names.
pub fn spans(text: &str) -> Vec<Span> {
    // Without its signs nothing can be told from a secret.
    let Some(signs) = SIGNS.as_ref() else { return std::iter::once(0..text.len()).collect() };
    let lower = text.to_ascii_lowercase().replace('-', "_");
    let mut spans = Vec::new();
    for (end, _) in lower.match_indices(|c: char| !is_of_a_name(c)).chain([(lower.len(), "")]) {
        let name = &lower[..end];
        if name.ends_with("bearer") {
            let signs = |c: char| c.is_whitespace() || matches!(c, ':' | '"' | '\'' | ',');
            let blanks = text.len() - end - text[end..].trim_start_matches(signs).len();
            spans.push(end + blanks..end + blanks + word_length(&text[end + blanks..]));
        }
        if !TELLING.iter().any(|telling| name.ends_with(telling)) {
            continue;
        }
        let whole_line = WHOLE_LINE.iter().any(|telling| name.ends_with(telling));
        for at in starts(text, end, signs) {
            mark(text, at, whole_line, &mut spans);
        }
    }
    spans
}

fn is_of_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Where the value of the name that ends here may begin.
fn starts(text: &str, end: usize, signs: &Signs) -> impl Iterator<Item = usize> {
    let behind = &text[end..];
    let after = |sign: &Regex| sign.find(behind).map(|found| end + found.end());
    let word = text[..end].rsplit(|c: char| !is_of_a_name(c) && c != '-').next().unwrap_or_default();
    let is_variable = word.contains('_') && !word.contains(|c: char| c.is_ascii_lowercase());
    let is_quoted = |at: &usize| text[*at..].trim_start_matches('\\').starts_with(['"', '\'']);
    let blanks = behind.len() - behind.trim_start_matches([' ', '\t']).len();
    let option = (word.starts_with('-') && blanks > 0).then_some(end + blanks);
    [
        after(&signs.sign),
        after(&signs.pair).filter(is_quoted).filter(|at| !is_name(&text[*at..])),
        after(&signs.member),
        after(&signs.other),
        after(&signs.variable).filter(|_| is_variable),
        option.filter(|at| !text[*at..].starts_with('-')),
    ]
    .into_iter()
    .flatten()
}

/// Whether a quoted text is the name of a member: a colon follows.
fn is_name(quoted: &str) -> bool {
    quoted[quoted_length(quoted).1..].trim_start().starts_with(':')
}

/// Marks the value that begins here: a list or an object, or words and quoted texts as far as they are joined.
fn mark(text: &str, mut at: usize, whole_line: bool, spans: &mut Vec<Span>) {
    loop {
        let value = &text[at..];
        let bare = value.trim_start_matches('\\');
        let escapes = value.len() - bare.len();
        if bare.starts_with(['[', '{']) {
            spans.push(at..at + escapes + bracket_length(bare));
            return;
        }
        if bare.starts_with(['"', '\'']) {
            let (inside, length) = quoted_length(value);
            spans.push(at + escapes + 1..at + inside);
            at += length;
            if escapes > 0 {
                return;
            }
        } else {
            let length =
                if whole_line { value.find('\n').unwrap_or(value.len()) } else { word_length(value) };
            spans.push(at..at + length);
            at += length;
            if length == 0 || whole_line {
                return;
            }
        }
        // Shells join what touches; elsewhere a closing bracket or a comma follows.
        if !text[at..].starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '"' | '\'' | '$')) {
            return;
        }
    }
}

/// The length of a word without the brackets that close behind it.
fn word_length(text: &str) -> usize {
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '&' | ',' | ';' | '<' | '>');
    text[..text.find(ends).unwrap_or(text.len())].trim_end_matches(['}', ']', ')']).len()
}

/// Of a quoted text: up to its closing quote, and with it; to the end of the line where none closes.
fn quoted_length(value: &str) -> (usize, usize) {
    let bare = value.trim_start_matches('\\');
    let escapes = value.len() - bare.len();
    let quote = bare.chars().next();
    let mut before = 0;
    for (at, c) in bare.char_indices().skip(1) {
        // A quote closes if as many backslashes precede it as precede the opening one.
        if Some(c) == quote && before <= escapes {
            return (escapes + at - before, escapes + at + 1);
        }
        if c == '\n' {
            return (escapes + at, escapes + at);
        }
        before = if c == '\\' { before + 1 } else { 0 };
    }
    (value.len(), value.len())
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
                let quoted = text[at..].trim_start_matches('\\').starts_with(['"', '\'']);
                at += if quoted { quoted_length(&text[at..]).1.max(1) } else { 1 };
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
