//! Which files of a repository stay behind: ordered rules, the last one that matches decides.

use super::pattern;

/// What every repository leaves behind: version control, dependencies, caches, build results.
const BUILT_IN: &[&str] = &[
    ".git",
    "._*",
    "node_modules",
    ".ignored",
    ".turbo",
    ".next",
    ".vite",
    ".parcel-cache",
    ".rollup.cache",
    "dist",
    "dist-runtime",
    "coverage",
    "playwright-report",
    "test-results",
    ".cache",
    ".tmp",
    ".local",
    ".swiftpm",
    ".build",
    "apps/*/.build",
    ".pnpm-store",
    ".npm",
    ".yarn/cache",
    ".venv",
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".gradle",
    "target",
];

/// Names of build results that are also names of sources: they do not drop a regular file that git tracks.
const AMBIGUOUS: &[&str] = &[
    "dist",
    "dist-runtime",
    "coverage",
    "playwright-report",
    "test-results",
    ".build",
    "apps/*/.build",
    "target",
];

/// What crabbox and this program keep in a working tree; it may hold environment values, and no rule brings it back.
const PROTECTED: &[&str] =
    &[".crabbox/env", ".crabbox/scripts", ".crabbox/logs", ".crabbox/captures", ".crabbox/runs"];

/// How many rules there are before anybody configures one.
pub const BUILT_IN_COUNT: usize = BUILT_IN.len() + PROTECTED.len();

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    BuiltIn,
    Configured,
    Protected,
}

#[derive(Debug, Clone)]
struct Rule {
    pattern: String,
    brings_back: bool,
    origin: Origin,
}

/// The rules of one repository, in their order.
#[derive(Debug, Clone)]
pub struct Excludes {
    rules: Vec<Rule>,
}

/// What the rules say about one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It travels.
    Kept,
    /// It travels although this built-in rule names it: git tracks it.
    KeptDespite(&'a str),
    /// It stays behind.
    Dropped,
}

impl Excludes {
    /// The rules: built in, `configured`, the lines of `.crabboxignore`, and last what nothing brings back.
    #[must_use]
    pub fn new(configured: &[String], ignore_file: &str) -> Self {
        let lines =
            ignore_file.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let rules = (BUILT_IN.iter().map(|text| rule(text, Origin::BuiltIn)))
            .chain(configured.iter().map(|text| rule(text, Origin::Configured)))
            .chain(lines.map(|text| rule(text, Origin::Configured)))
            .chain(PROTECTED.iter().map(|text| rule(text, Origin::Protected)))
            .filter(|rule| !rule.pattern.is_empty());
        Self { rules: rules.collect() }
    }

    /// What becomes of a path; `tracked` says that git tracks it as a regular file.
    #[must_use]
    pub fn verdict(&self, path: &str, tracked: bool) -> Verdict<'_> {
        let mut verdict = Verdict::Kept;
        let lower = path.to_lowercase();
        let parts: Vec<&str> = path.split('/').collect();
        for rule in &self.rules {
            let matches = match rule.origin {
                // Also on a file system that knows no upper case.
                Origin::Protected => lies_below(&lower, &rule.pattern),
                Origin::BuiltIn | Origin::Configured => names(&rule.pattern, path, &parts),
            };
            if !matches {
                continue;
            }
            verdict = if rule.brings_back {
                Verdict::Kept
            } else if tracked && rule.origin == Origin::BuiltIn && AMBIGUOUS.contains(&rule.pattern.as_str())
            {
                match verdict {
                    Verdict::Dropped => Verdict::Dropped,
                    _ => Verdict::KeptDespite(&rule.pattern),
                }
            } else {
                Verdict::Dropped
            };
        }
        verdict
    }
}

/// `!pattern` brings back what an earlier rule dropped; `\!` begins a name with an exclamation mark.
fn rule(text: &str, origin: Origin) -> Rule {
    let text = text.trim();
    let (pattern, brings_back) = match text.strip_prefix('!') {
        Some(rest) => (rest.trim(), true),
        None => (text.strip_prefix('\\').filter(|rest| rest.starts_with('!')).unwrap_or(text), false),
    };
    Rule { pattern: pattern.trim_matches('/').to_owned(), brings_back, origin }
}

/// Whether a rule's pattern names the path or a folder that it lies in. Without a slash it may be any part of the path.
fn names(wanted: &str, path: &str, parts: &[&str]) -> bool {
    if lies_below(path, wanted) {
        return true;
    }
    let is_pattern = wanted.contains(['*', '?', '[', '\\']);
    if !wanted.contains('/') {
        return parts.iter().any(|part| *part == wanted || (is_pattern && pattern::matches(wanted, part)));
    }
    is_pattern
        && (pattern::matches(wanted, path)
            || path.match_indices('/').any(|(end, _)| pattern::matches(wanted, &path[..end])))
}

fn lies_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The whitelist: with patterns, only what one of them names from the root on travels.
#[must_use]
pub fn included(path: &str, includes: &[String]) -> bool {
    let mut wanted =
        includes.iter().map(|text| text.trim().trim_matches('/')).filter(|text| !text.is_empty()).peekable();
    wanted.peek().is_none() || wanted.any(|text| lies_below(path, text) || pattern::matches(text, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped(rules: &[&str], path: &str, tracked: bool) -> bool {
        let rules: Vec<String> = rules.iter().map(|rule| (*rule).to_owned()).collect();
        Excludes::new(&rules, "").verdict(path, tracked) == Verdict::Dropped
    }

    #[test]
    fn thirty_five_rules_are_built_in() {
        assert_eq!(BUILT_IN_COUNT, 35);
    }

    #[test]
    fn the_table_of_rules() {
        for (rules, path, tracked, want) in [
            // built in
            (&[][..], "src/main.rs", true, false),
            (&[], "node_modules/x/y.js", true, true),
            (&[], "a/node_modules", false, true),
            (&[], "a/._icon", true, true),
            (&[], "._icon", false, true),
            (&[], "node_modules2/x", true, false),
            (&[], "pkg/dist/a.js", false, true),
            (&[], "pkg/dist/a.js", true, false),
            (&[], "target/debug/x", false, true),
            (&[], "target/keep.rs", true, false),
            (&[], "apps/web/.build/x", false, true),
            (&[], "apps/web/.build/x", true, false),
            (&[], ".yarn/cache/x", true, true),
            (&[], "sub/.yarn/cache/x", true, false),
            (&[], "__pycache__/m.pyc", true, true),
            // a tracked file in dist below node_modules is dropped by the sharper rule, whichever comes first
            (&[], "node_modules/a/dist/x.js", true, true),
            // configured: also what git tracks
            (&["dist"], "dist/x", true, true),
            (&["*.log"], "deep/a.log", true, true),
            (&["*.log"], "deep/a.log/inner", true, true),
            (&["data/*.bin"], "data/a.bin", true, true),
            (&["data/*.bin"], "data/sub/a.bin", true, false),
            (&["data/*"], "data/sub/a.bin", true, true),
            (&["/docs/"], "docs/a", true, true),
            (&["docs/a"], "sub/docs/a", true, false),
            (&["docs"], "sub/docs/a", true, true),
            (&["d[o]c?"], "sub/docs/a", true, true),
            (&["[broken"], "[broken", true, true),
            (&["[broken"], "b", true, false),
            (&[""], "a", true, false),
            (&["/"], "a", true, false),
            // later rules win
            (&["data", "!data/keep"], "data/keep", true, false),
            (&["data", "!data/keep"], "data/keep/deep", true, false),
            (&["data", "!data/keep"], "data/drop", true, true),
            (&["!data/keep", "data"], "data/keep", true, true),
            (&["!node_modules/mine"], "node_modules/mine/x", false, false),
            (&["!node_modules/mine"], "node_modules/other/x", false, true),
            (&["target", "!apps/target"], "apps/target/x", false, false),
            (&["! spaced "], "dist/spaced", false, false),
            (&["\\!important"], "!important", true, true),
            (&["\\!important"], "important", true, false),
            (&["\\*x"], "*x", true, true),
            (&["\\*x"], "ax", true, false),
            // never
            (&["!**", "!.crabbox", "!.crabbox/env"], ".crabbox/env/run.env", true, true),
            (&["!.crabbox/env"], ".Crabbox/ENV/run.env", true, true),
            (&[], ".crabbox/runs", true, true),
            (&[], ".crabbox/config.yaml", true, false),
            (&[], ".crabbox/environment", true, false),
            (&["ü*"], "über/x", true, true),
            (&["*.log"], "new\nline.log", true, true),
        ] {
            assert_eq!(dropped(rules, path, tracked), want, "{rules:?} {path:?} tracked={tracked}");
        }
    }

    #[test]
    fn the_file_of_the_repository_adds_rules_behind_the_configured_ones() {
        let rules = Excludes::new(&["data".into()], "# ours\n\n  !data/keep \n/logs\r\n");
        assert_eq!(rules.verdict("data/keep", true), Verdict::Kept);
        assert_eq!(rules.verdict("data/x", true), Verdict::Dropped);
        assert_eq!(rules.verdict("logs/x", true), Verdict::Dropped);
        assert_eq!(rules.verdict("# ours", true), Verdict::Kept);
    }

    #[test]
    fn what_is_kept_all_the_same_names_its_rule() {
        let rules = Excludes::new(&[], "");
        assert_eq!(rules.verdict("a/dist/x", true), Verdict::KeptDespite("dist"));
        assert_eq!(rules.verdict("a/x", true), Verdict::Kept);
        let rules = Excludes::new(&["!dist".into()], "");
        assert_eq!(rules.verdict("a/dist/x", true), Verdict::Kept);
    }

    #[test]
    fn a_whitelist_counts_from_the_root() {
        let only = |includes: &[&str], path: &str| {
            included(path, &includes.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
        };
        assert!(only(&[], "x") && only(&[" ", "/"], "x"));
        assert!(only(&["src"], "src/a") && !only(&["src"], "lib/src/a"));
        assert!(only(&["*.toml"], "Cargo.toml") && !only(&["*.toml"], "a/Cargo.toml"));
        assert!(only(&["/src/", "x"], "x") && !only(&["src/*"], "src/a/b"));
    }

    /// Random rules and paths against a second reading of the same rules: the last rule that names a path or one of
    /// its folders decides.
    #[test]
    fn random_rules_follow_the_order() {
        let seed = 0x5eed_u64;
        let mut state = seed;
        let mut pick = |count: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap_or_default() % count
        };
        let parts = ["a", "b", "c1", "d.x"];
        for round in 0..5_000 {
            let path = (0..=pick(3)).map(|_| parts[pick(4)]).collect::<Vec<_>>().join("/");
            let rules: Vec<String> = (0..pick(5))
                .map(|_| format!("{}{}", ["", "!"][pick(2)], ["a", "b", "a/b", "c?", "*.x", "a/*"][pick(6)]))
                .collect();
            let folders: Vec<String> = {
                let split: Vec<&str> = path.split('/').collect();
                (1..=split.len()).map(|end| split[..end].join("/")).collect()
            };
            let mut want = false;
            for text in &rules {
                let bare = text.trim_start_matches('!');
                let hit = folders.iter().any(|folder| match bare {
                    "a" | "b" => folder.rsplit('/').next() == Some(bare),
                    "a/b" => folder == "a/b",
                    "c?" => folder.rsplit('/').next() == Some("c1"),
                    "*.x" => folder.rsplit('/').next() == Some("d.x"),
                    _ => folder.starts_with("a/") && folder.matches('/').count() == 1,
                });
                if hit {
                    want = !text.starts_with('!');
                }
            }
            let got = Excludes::new(&rules, "").verdict(&path, true) == Verdict::Dropped;
            assert_eq!(got, want, "seed {seed} round {round}: {rules:?} {path}");
        }
    }
}
