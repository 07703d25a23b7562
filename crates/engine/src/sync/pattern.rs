//! Shell patterns over whole paths, as crabbox understands them: `*` and `?` stop at a slash.

/// Whether `text` as a whole matches `pattern`: `*`, `?`, `[a-z]`, `[^a-z]` and `\` before a character that stands for
/// itself. A broken pattern matches nothing.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where the last star was, and how far it reached: enough to try again, as no star needs an earlier one to give way.
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            None if t == text.len() => return true,
            None => None,
            Some('*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some(_) => match one(&pattern[p..], text.get(t).copied()) {
                One::Broken => return false,
                One::Matches(length) => Some(length),
                One::Differs => None,
            },
        };
        if let Some(length) = step {
            p += length;
            t += 1;
            continue;
        }
        match star {
            Some((at, reached)) if text.get(reached).is_some_and(|c| *c != '/') => {
                star = Some((at, reached + 1));
                p = at + 1;
                t = reached + 1;
            }
            _ => return false,
        }
    }
}

enum One {
    /// This many pattern characters stand for the one of the text.
    Matches(usize),
    Differs,
    Broken,
}

/// The first element of a pattern, no star, against one character.
fn one(pattern: &[char], text: Option<char>) -> One {
    let outcome = |length, matches: bool| if matches { One::Matches(length) } else { One::Differs };
    match pattern {
        ['?', ..] => outcome(1, text.is_some_and(|c| c != '/')),
        ['\\', c, ..] => outcome(2, text == Some(*c)),
        ['\\'] => One::Broken,
        ['[', rest @ ..] => class(rest, text),
        [c, ..] => outcome(1, text == Some(*c)),
        [] => One::Broken,
    }
}

/// What follows a `[`.
fn class(rest: &[char], text: Option<char>) -> One {
    let negated = rest.first() == Some(&'^');
    let mut at = usize::from(negated);
    let mut found = false;
    let mut ranges = 0;
    let member = |at: usize| match rest.get(at..).unwrap_or_default() {
        ['\\', c, ..] => Some((*c, at + 2)),
        ['\\'] | ['-', ..] | [']', ..] | [] => None,
        [c, ..] => Some((*c, at + 1)),
    };
    loop {
        if rest.get(at) == Some(&']') && ranges > 0 {
            break;
        }
        let Some((low, next)) = member(at) else { return One::Broken };
        let (high, next) = if rest.get(next) == Some(&'-') {
            let Some(end) = member(next + 1) else { return One::Broken };
            end
        } else {
            (low, next)
        };
        found |= text.is_some_and(|c| low <= c && c <= high);
        ranges += 1;
        at = next;
    }
    match text {
        Some(c) if c != '/' && found != negated => One::Matches(at + 2),
        _ => One::Differs,
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn as_go_matches_paths() {
        for (pattern, text, want) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*", "", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "abc", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "aüb", true),
            ("a[^a]b", "aüb", true),
            ("a???b", "aüb", false),
            ("[a-ü]*", "ö", true),
            ("*[a-ü]", "Z", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "x", true),
            ("[x\\-]", "z", false),
            ("[]a]", "]", false),
            ("[-]", "-", false),
            ("[x-]", "x", false),
            ("[a-b-c]", "a", false),
            ("[", "a", false),
            ("[^", "a", false),
            ("[^bc", "a", false),
            ("a[", "a", false),
            ("a[", "ab", false),
            ("*x", "xxx", true),
            ("**", "a/b", false),
            ("*.log", "new\nline.log", true),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, text), want, "{pattern:?} {text:?}");
        }
    }
}
