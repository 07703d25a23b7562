//! Puts the layers on top of each other and remembers who decided.

use super::check::{canonical, says_nothing};
use super::directories::{Platform, directories_on, user_file_below};
use super::file::{Content, OURS, read};
use super::repository::{lies_in, repository_root};
use super::trust::{self, Refusal};
use super::{ConfigFile, Kind, Level, Origin, OverrideOrigin, Overrides, SETTINGS, Setting, Snapshot, Trust};
use crate::lease::parse_go_duration;
use crate::store::Paths;
use crate::{Code, Error, Result};
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// A setting's canonical text and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// The text; for a secret, whether it is there.
    pub text: String,
    /// Who decided.
    pub origin: Origin,
}

/// Every setting with its value and origin, and the files and folders they were found by.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The values by key.
    pub values: BTreeMap<&'static str, Value>,
    /// The files that were looked for, lowest layer first.
    pub files: Vec<ConfigFile>,
    /// The user's own configuration file, whether it was read or not.
    pub user_file: PathBuf,
    /// Where state and keys are.
    pub paths: Paths,
    /// The repository of the working directory, or the working directory.
    pub repo_root: PathBuf,
    /// The working directory.
    pub cwd: PathBuf,
    /// The API key, if there is one.
    pub api_key: Option<SecretString>,
    /// `HOME`, for what is shown relative to it.
    pub home: Option<PathBuf>,
    /// What the files say that has no effect and was hardly meant so, one sentence each.
    pub notes: Vec<String>,
    /// The limits of a repository's file that are not its to set, and are not in `values`.
    pub refusals: Vec<Refusal>,
}

impl Resolved {
    /// Reads the files and resolves every setting.
    ///
    /// # Errors
    /// [`Code::StateUnavailable`] when the user's directories are unknown, [`Code::InvalidConfig`] for an unreadable
    /// file or a value that does not fit, [`Code::CredentialDestination`] when a repository's file names the server
    /// that would receive the API key.
    pub fn load(snapshot: &Snapshot, overrides: &Overrides) -> Result<Self> {
        Self::load_on(snapshot, overrides, Platform::here())
    }

    pub(super) fn load_on(snapshot: &Snapshot, overrides: &Overrides, platform: Platform) -> Result<Self> {
        let paths = directories_on(snapshot, platform)?;
        let user_file = user_file_below(&paths);
        let repo_root = repository_root(&snapshot.cwd);
        let mut files = candidates(snapshot, &repo_root, &user_file);
        let mut layers = Vec::new();
        for file in &mut files {
            let content = read(&file.path)?;
            file.present = content.is_some();
            layers.push(Layer { file: file.clone(), content: content.unwrap_or_default() });
        }
        let notes = notes(snapshot, &layers);
        let mut values = BTreeMap::new();
        let mut api_key = None;
        for setting in SETTINGS {
            let value = if setting.kind == Kind::Secret {
                let (key, origin) = secret(setting, snapshot, overrides);
                let text = if key.is_some() { "configured" } else { "missing" };
                api_key = key;
                Value { text: text.to_owned(), origin }
            } else {
                decide(setting, &layers, snapshot, overrides)?
            };
            values.insert(setting.key, value);
        }
        let mut resolved = Resolved {
            values,
            files,
            user_file,
            paths,
            repo_root,
            cwd: snapshot.cwd.clone(),
            api_key,
            home: snapshot.vars.get("HOME").filter(|home| !home.is_empty()).map(PathBuf::from),
            notes,
            refusals: Vec::new(),
        };
        resolved.refusals = trust::check(&mut resolved, |setting| {
            let own: Vec<Layer> =
                layers.iter().filter(|layer| layer.file.level == Level::User).cloned().collect();
            decide(setting, &own, &Snapshot::default(), &Overrides::default())
        })?;
        resolved
            .notes
            .extend(resolved.refusals.iter().map(|refusal| format!("{}; yours holds", refusal.error())));
        Ok(resolved)
    }

    /// The value of a declared setting.
    ///
    /// # Errors
    /// [`Code::Internal`] for a key that is not in the table.
    pub fn value(&self, key: &str) -> Result<&Value> {
        self.values
            .get(key)
            .ok_or_else(|| Error::new(Code::Internal, format!("the setting {key} is not declared")))
    }
}

#[derive(Clone)]
pub(super) struct Layer {
    file: ConfigFile,
    content: Content,
}

/// What was hardly meant so: a limit that is misspelt limits nothing.
fn notes(snapshot: &Snapshot, layers: &[Layer]) -> Vec<String> {
    let mut notes = Vec::new();
    let named = snapshot.vars.get("CRABBOX_CONFIG").is_some_and(|path| !path.is_empty());
    for Layer { file, content } in layers {
        let path = file.path.display();
        if named && !file.present {
            notes.push(format!("CRABBOX_CONFIG names {path}, which is not there: no file is read"));
        }
        let mut strange = 0;
        for place in &content.unknown {
            let meant = match nearest(place) {
                _ if place == "vast.apiKey" => "a key is taken from the environment only".to_owned(),
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    strange += 1;
                    continue;
                }
            };
            notes.push(format!("{path}: `{place}` is no setting; {meant}"));
        }
        for place in &content.doubtful {
            if let Some(near) = nearest(place) {
                notes.push(format!("{path}: `{place}` is no setting; did you mean `{near}`?"));
            }
        }
        if strange > 0 {
            // Not by their names: these may be anything, a credential that stands in the wrong place among them.
            notes.push(format!(
                "{path}: {strange} of the names below `vast` are no settings and have no effect"
            ));
        }
    }
    notes
}

/// Longer than every name of a setting, however it is misspelt.
const LONGEST_NAME: usize = 40;

/// The setting beside it that a misspelt place is nearest to, where one is near.
fn nearest(place: &str) -> Option<&'static str> {
    let Some((section, name)) = place.rsplit_once('.') else { return misplaced(place) };
    if name.len() > LONGEST_NAME || !name.chars().all(|one| one.is_ascii_alphanumeric() || "_-".contains(one))
    {
        return None;
    }
    let wanted = squashed(name);
    let places = SETTINGS.iter().flat_map(|setting| setting.yaml.iter().copied());
    let beside = places.filter_map(|known| Some((known, known.strip_prefix(section)?.strip_prefix('.')?)));
    let measured =
        beside.map(|(known, one)| (strsim::damerau_levenshtein(&wanted, &one.to_lowercase()), known));
    measured.filter(|(distance, _)| distance * 3 <= wanted.len()).min().map(|(_, known)| known)
}

/// What a name at the top of a file was meant for: our section, or one of the limits, which limits nothing there.
fn misplaced(name: &str) -> Option<&'static str> {
    let wanted = squashed(name);
    let limits = SETTINGS.iter().filter(|setting| matches!(setting.trust, Trust::CostCap | Trust::Lifetime));
    let mut places = limits.flat_map(|setting| setting.yaml.iter().copied());
    let below = |place: &&str| place.rsplit_once('.').is_some_and(|(_, last)| squashed(last) == wanted);
    if wanted == OURS { Some(OURS) } else { places.find(below) }
}

fn squashed(name: &str) -> String {
    name.to_lowercase().replace(['_', '-'], "")
}

/// The user's own configuration file, or the one that `CRABBOX_CONFIG` names in its place where that is the user's;
/// whether it exists or not.
///
/// # Errors
/// [`Code::StateUnavailable`] when the user's directories are unknown.
pub fn own_files(snapshot: &Snapshot) -> Result<Vec<PathBuf>> {
    let paths = directories_on(snapshot, Platform::here())?;
    let files = candidates(snapshot, &repository_root(&snapshot.cwd), &user_file_below(&paths));
    Ok(files.into_iter().filter(|file| file.level == Level::User).map(|file| file.path).collect())
}

fn candidates(
    snapshot: &Snapshot,
    repo_root: &std::path::Path,
    user_file: &std::path::Path,
) -> Vec<ConfigFile> {
    let file = |path: PathBuf, level| ConfigFile { path, level, present: false };
    if let Some(explicit) = snapshot.vars.get("CRABBOX_CONFIG").filter(|path| !path.is_empty()) {
        let path = snapshot.cwd.join(explicit);
        // A file that the repository brought along is not the user's own just because it was named.
        let level = if lies_in(repo_root, &path) { Level::Repository } else { Level::User };
        return vec![file(path, level)];
    }
    let here = |name: &str| file(snapshot.cwd.join(name), Level::Repository);
    vec![file(user_file.to_owned(), Level::User), here("crabbox.yaml"), here(".crabbox.yaml")]
}

/// The topmost word on one setting.
fn decide(setting: &Setting, layers: &[Layer], snapshot: &Snapshot, overrides: &Overrides) -> Result<Value> {
    if setting.kind == Kind::Patterns {
        return collect(setting, layers, overrides);
    }
    let mut text = setting.default;
    let mut origin = Origin::Default;
    for layer in layers {
        for place in setting.yaml {
            if let Some((found, line)) = layer.content.entries.get(place)
                && !says_nothing(setting.kind, found)
            {
                text = found;
                origin = Origin::File { level: layer.file.level, path: layer.file.path.clone(), line: *line };
            }
        }
    }
    if let Some((name, found)) = variable(setting, snapshot) {
        text = found;
        origin = Origin::Environment(name);
    }
    if let Some((found, from)) = overrides.values.get(setting.key) {
        text = found;
        origin = given(setting, *from);
    }
    match canonical(setting, text) {
        Ok(text) => Ok(Value { text, origin }),
        Err(complaint) => Err(unfit(setting, &origin, &complaint)),
    }
}

fn given(setting: &Setting, from: OverrideOrigin) -> Origin {
    match from {
        OverrideOrigin::Flag => Origin::Flag(setting.flag.unwrap_or(setting.key)),
        OverrideOrigin::Option => Origin::Option(setting.key),
    }
}

impl Overrides {
    /// A duration that was given with the call itself, for calls that take no other setting.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] for a text that is none.
    pub fn duration(&self, key: &str) -> Result<Option<Duration>> {
        let (Some(setting), Some((text, from))) = (super::setting(key), self.values.get(key)) else {
            return Ok(None);
        };
        let origin = given(setting, *from);
        let text = canonical(setting, text).map_err(|complaint| unfit(setting, &origin, &complaint))?;
        Ok(parse_go_duration(&text))
    }
}

/// What all layers say on a setting whose layers add up, lowest first. The origin is that of the topmost.
fn collect(setting: &Setting, layers: &[Layer], overrides: &Overrides) -> Result<Value> {
    let mut texts: Vec<&str> = Vec::new();
    let mut origin = Origin::Default;
    for layer in layers {
        for (found, line) in setting.yaml.iter().filter_map(|place| layer.content.entries.get(place)) {
            texts.push(found);
            origin = Origin::File { level: layer.file.level, path: layer.file.path.clone(), line: *line };
        }
    }
    if let Some((found, _)) = overrides.values.get(setting.key) {
        texts.push(found);
        origin = Origin::Option(setting.key);
    }
    match canonical(setting, &texts.join(",")) {
        Ok(text) => Ok(Value { text, origin }),
        Err(complaint) => Err(unfit(setting, &origin, &complaint)),
    }
}

fn secret(setting: &Setting, snapshot: &Snapshot, overrides: &Overrides) -> (Option<SecretString>, Origin) {
    if let Some(key) = &overrides.api_key {
        return (Some(key.clone()), Origin::Option(setting.key));
    }
    match variable(setting, snapshot) {
        Some((name, key)) => (Some(SecretString::from(key)), Origin::Environment(name)),
        None => (None, Origin::Default),
    }
}

fn variable<'a>(setting: &Setting, snapshot: &'a Snapshot) -> Option<(&'static str, &'a str)> {
    setting.env.iter().find_map(|name| snapshot.var(name).map(|value| (*name, value)))
}

fn unfit(setting: &Setting, origin: &Origin, complaint: &str) -> Error {
    let name = setting.name();
    let hint = match origin {
        _ if setting.key == "provider" => {
            "this program only does vast; use --provider vast, or crabbox for other providers".to_owned()
        }
        Origin::Environment(name) => format!("change or unset {name}"),
        Origin::Default => "this is a defect: please report it".to_owned(),
        Origin::File { .. } | Origin::Flag(_) | Origin::Option(_) => {
            format!("change {origin}; {}", setting.help)
        }
    };
    Error::new(Code::InvalidConfig, format!("{name} {complaint} (from {origin})"))
        .hint(hint)
        .with("setting", setting.key)
        .with("origin", origin.word())
}
