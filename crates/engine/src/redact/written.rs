//! What tells a secret by how it is written.

use super::Span;
use regex::Regex;
use std::sync::LazyLock;

const BEGIN: &str = "-----BEGIN";
const END: &str = "-----END";

/// The length of the vendor's keys, which are hexadecimal.
const KEY: usize = 64;

/// Patterns whose group is a secret.
static PATTERNS: LazyLock<Option<Vec<Regex>>> = LazyLock::new(|| {
    let patterns = [
        // A password on the command line of what takes it so.
        r"(?:login|sshpass|mysql)\b[^\n|;&]*?\s-p[ =]*([^\s<>]+)",
        r"curl\b[^\n|;&]*?\s-u[ =]*([^\s<>]+)",
        // Who asks, where no scheme precedes it. An image's digest follows the same sign.
        r#"(?:^|[\s"'=(,])[\w.+-]+:([^\s"'/@<>]+)@(?:[^s\s]|s[^h\s]|sh[^a\s])"#,
    ];
    patterns.into_iter().map(|pattern| Regex::new(pattern).ok()).collect()
});

/// Key blocks, parts of URLs, and what the patterns find.
pub fn spans(text: &str) -> Vec<Span> {
    // Without the patterns nothing can be told from a secret.
    let Some(patterns) = PATTERNS.as_ref() else { return std::iter::once(0..text.len()).collect() };
    let mut spans: Vec<Span> =
        text.match_indices(BEGIN).map(|(at, _)| at..at + block_length(&text[at..])).collect();
    // A log may begin inside a block.
    if let Some(end) = text.find(END).filter(|end| text.find(BEGIN).is_none_or(|begin| *end < begin)) {
        spans.push(0..end);
    }
    for pattern in patterns {
        spans.extend(pattern.captures_iter(text).filter_map(|found| found.get(1)).map(|group| group.range()));
    }
    // So the vendor makes its keys. A digest is told by what precedes it.
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).scan(0, |at, word| {
        let from = *at;
        *at += word.len();
        *at += text[*at..].chars().next().map_or(0, char::len_utf8);
        Some(from..from + word.len())
    });
    let is_digest = |at: usize| text[..at].ends_with("sha256:") || text[..at].ends_with("sha512:");
    for word in words {
        if word.len() >= KEY
            && !is_digest(word.start)
            && text[word.clone()].bytes().all(|b| b.is_ascii_hexdigit())
        {
            spans.push(word);
        }
    }
    let lower = text.to_ascii_lowercase();
    for [scheme, slash, at_sign, query] in
        [["://", "/", "@", "?"], [r":\/\/", r"\/", "@", "?"], ["%3a%2f%2f", "%2f", "%40", "%3f"]]
    {
        for (at, _) in lower.match_indices(scheme) {
            let from = at + scheme.len();
            let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>');
            let url = &lower[from..lower[from..].find(ends).map_or(lower.len(), |length| from + length)];
            let first = |signs: &[&str]| signs.iter().filter_map(|sign| url.find(sign)).min();
            let authority = &url[..first(&[slash, query, "/", "?", "#"]).unwrap_or(url.len())];
            if let Some(asks) = authority.rfind(at_sign) {
                spans.push(from..from + asks);
            }
            if let Some(asked) = url.find(query) {
                spans.push(from + asked + query.len()..from + url.len());
            }
        }
    }
    spans
}

/// The length of a block of key text: to the dashes that close it, to the end of that line where they are missing, or
/// to the end of all where nothing ends it.
fn block_length(block: &str) -> usize {
    let Some(end) = block.find(END).map(|at| at + END.len()) else { return block.len() };
    let line = block[end..].find('\n').map_or(block.len(), |length| end + length);
    let Some(closed) = block[end..line].find("-----").map(|at| end + at) else { return line };
    // Those dashes may already open the next block.
    if block[closed..].starts_with(BEGIN) { closed } else { closed + 5 }
}
