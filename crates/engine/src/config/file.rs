//! Reads one configuration file: the texts of known settings with their lines; everything else is passed over.

use super::{Kind, Level, SETTINGS};
use crate::{Code, Error, Result};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The section of which every key is known: other sections have settings of crabbox's that are none here.
pub(super) const OURS: &str = "vast";

/// The section that ends leases. crabbox may have settings there that are none here.
const SHARED: &str = "lease";

/// A configuration file that was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// Where it would be.
    pub path: PathBuf,
    /// Whose it is.
    pub level: Level,
    /// Whether it is there.
    pub present: bool,
}

/// A text and its line.
pub(super) type Found = (String, u64);

/// The entries of one file by their place in it (`vast.image`).
pub(super) type Entries = BTreeMap<&'static str, Found>;

/// What is read of a file.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    /// What it says of known settings.
    pub entries: Entries,
    /// The places below `vast`, which is ours, that are none.
    pub unknown: Vec<String>,
    /// Those below `lease` and at the top, where crabbox may have settings of its own.
    pub doubtful: Vec<String>,
}

/// What the file says; `None` when there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<Content>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => {
            let message = format!("{} cannot be read: {error}", path.display());
            return Err(Error::new(Code::InvalidConfig, message).because(error));
        }
    };
    parse(&text).map(Some).map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        // Not the excerpt that the parser can add: the line may hold a credential.
        let reason = error.without_snippet().to_string();
        Error::new(Code::InvalidConfig, format!("{} line {line}: {reason}", path.display()))
            .hint("the file must be YAML with the settings that the documentation lists")
            .with("file", path.display().to_string())
            .with("line", line)
    })
}

fn parse(text: &str) -> Result<Content, serde_saphyr::Error> {
    let options = serde_saphyr::Options { with_snippet: false, ..serde_saphyr::Options::default() };
    let document: Option<Document> = serde_saphyr::from_str_with_options(text, options)?;
    Ok(document.map(|document| document.0).unwrap_or_default())
}

struct Document(Content);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut content = Content::default();
        deserializer.deserialize_map(Section { at: String::new(), content: &mut content })?;
        Ok(Document(content))
    }
}

/// A mapping of the file; which of its keys are read, the table of settings says.
struct Section<'a> {
    at: String,
    content: &'a mut Content,
}

impl<'de> Visitor<'de> for Section<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a mapping")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Option<String>>()? {
            let place = match (key, self.at.is_empty()) {
                (None, _) => String::new(),
                (Some(key), true) => key,
                (Some(key), false) => format!("{}.{key}", self.at),
            };
            let known = |&(name, _): &(&'static str, Kind)| name == place;
            if let Some((name, kind)) = places().find(known) {
                let found = if matches!(kind, Kind::List | Kind::Patterns) {
                    map.next_value::<List>()?.0
                } else {
                    map.next_value::<Option<Spanned<String>>>()?
                        .map(|text| (text.value, text.referenced.line()))
                };
                if let Some(found) = found {
                    self.content.entries.insert(name, found);
                }
            } else if places()
                .any(|(name, _)| name.strip_prefix(&place).is_some_and(|rest| rest.starts_with('.')))
            {
                map.next_value_seed(Section { at: place, content: self.content })?;
            } else {
                map.next_value::<IgnoredAny>()?;
                match self.at.as_str() {
                    OURS => self.content.unknown.push(place),
                    SHARED | "" => self.content.doubtful.push(place),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

impl<'de> serde::de::DeserializeSeed<'de> for Section<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(Optional(self))
    }
}

/// `vast:` with nothing below it is an empty section.
struct Optional<'a>(Section<'a>);

impl<'de> Visitor<'de> for Optional<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a mapping")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self.0)
    }
}

/// A sequence, or one text with commas.
struct List(Option<Found>);

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Option::<Spanned<OneOrMany>>::deserialize(deserializer)?;
        Ok(List(value.map(|value| (value.value.0, value.referenced.line()))))
    }
}

struct OneOrMany(String);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = String;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a sequence of texts")
            }
            fn visit_str<E>(self, text: &str) -> Result<String, E> {
                Ok(text.to_owned())
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<String, A::Error> {
                let mut all = Vec::new();
                while let Some(item) = items.next_element::<Option<String>>()? {
                    all.extend(item);
                }
                Ok(all.join(","))
            }
        }
        deserializer.deserialize_any(Texts).map(OneOrMany)
    }
}

fn places() -> impl Iterator<Item = (&'static str, Kind)> {
    SETTINGS.iter().flat_map(|setting| setting.yaml.iter().map(|place| (*place, setting.kind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<(&'static str, String, u64)> {
        parse(text).unwrap().entries.into_iter().map(|(name, (text, line))| (name, text, line)).collect()
    }

    #[test]
    fn takes_what_it_knows_as_written() {
        let text = "\
# mine
provider: vast
unknown: {deep: [1, 2]}
vast:
  templateId: 0123
  gpuName: 4e56
  maxDphTotal: 0.60
  nonsense: true
  image:
env:
  allow: [CI, 'A_*']
  extra: 1
lease:
  ttl: 2h
1: number
? [complex]
: key
";
        // A complex key is not one of ours and no reason to refuse the rest in YAML, but not a text either.
        let text = text.replace("? [complex]\n: key\n", "");
        assert_eq!(
            texts(&text),
            [
                ("env.allow", "CI,A_*".to_owned(), 11),
                ("lease.ttl", "2h".to_owned(), 14),
                ("provider", "vast".to_owned(), 2),
                ("vast.gpuName", "4e56".to_owned(), 6),
                ("vast.maxDphTotal", "0.60".to_owned(), 7),
                ("vast.templateId", "0123".to_owned(), 5),
            ]
        );
        assert_eq!(texts("env: {allow: 'CI,B'}"), [("env.allow", "CI,B".to_owned(), 1)]);
    }

    #[test]
    fn what_is_no_setting_is_noticed_where_every_setting_is_known() {
        let text = "vast: {maxDphTotl: 1, image: x, deep: {er: 1}}\nrun: {maxDphTotal: 1}\nttll: 1\nlease: {tll: 1h}";
        let content = parse(text).unwrap();
        assert_eq!(content.unknown, ["vast.maxDphTotl", "vast.deep"]);
        assert_eq!(content.doubtful, ["run", "ttll", "lease.tll"]);
    }

    #[test]
    fn nothing_is_an_empty_file() {
        for text in
            ["", "\n", "# only a remark\n", "---\n", "vast:\n", "vast: {}\n", "~\n", "vast:\nlease: ~\n"]
        {
            assert_eq!(texts(text), [], "{text:?}");
        }
    }

    #[test]
    fn a_broken_file_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        for (text, line) in [
            ("vast:\n  image: [unclosed\n", 2..=3),
            ("vast:\n  image: {a: b}\n", 2..=2),
            ("a: 1\nvast: text\n", 2..=2),
            ("- a\n- b\n", 1..=1),
            ("a: 'canary\n", 1..=2),
        ] {
            let path = folder.path().join("crabbox.yaml");
            std::fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err();
            assert_eq!((error.code(), error.exit_code()), (Code::InvalidConfig, 2));
            let message = error.to_string();
            assert!(message.contains("crabbox.yaml line "), "{message}");
            assert!(!message.contains('\n') && !message.contains("canary"), "{message}");
            let at = error.details()["line"].as_u64().unwrap();
            assert!(line.contains(&at), "{text:?}: {message}");
        }
        assert!(read(&folder.path().join("missing.yaml")).unwrap().is_none());
        assert_eq!(read(folder.path()).unwrap_err().code(), Code::InvalidConfig);
    }
}
