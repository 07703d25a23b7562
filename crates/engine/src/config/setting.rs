//! What a setting is: how its text is read, who has a flag for it, and what a repository may do with it.

/// How a setting's text is read and checked.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// Any text; empty means the default, and clears a setting without one.
    Text,
    /// An absolute http or https URL without user info, query or fragment.
    Url,
    /// One of these words; the second member of a pair is what it stands for.
    Word(&'static [(&'static str, &'static str)]),
    /// A whole number, zero meaning the default.
    Count,
    /// A number from zero to this limit, where zero is a value like any other.
    Number(f64),
    /// A positive duration such as `90m` or `1h30m`.
    Duration,
    /// Words between commas; a sequence in a file.
    List,
    /// As [`Kind::List`], and every layer adds to the one below.
    Patterns,
    /// `field [asc|desc], …`.
    Order,
    /// `true` or `false`.
    Switch,
    /// A name that is normalised as slugs are; empty means none.
    Slug,
    /// TCP ports between commas; sorted, each once.
    Ports,
    /// A credential: never from a file or a flag, never shown.
    Secret,
}

/// Where a setting has a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// On every command that talks to Vast.
    Every,
    /// On the commands that may create a lease.
    Creating,
    /// On those, and on the command that starts one again.
    Paying,
}

/// What a file of a repository may do with a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Set it.
    Free,
    /// Set it only while no API key is present: the value decides who receives the key.
    CredentialDestination,
    /// Lower it, but not raise or remove it.
    CostCap,
    /// Set it to something that bills less, but not to something that bills more.
    ReleaseAction,
    /// Shorten it, but not lengthen it: what lives longer bills longer.
    Lifetime,
    /// Not set it.
    UserOnly,
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The name: the member of a Node options object, the key of [`super::Overrides`].
    pub key: &'static str,
    /// Where it stands in a configuration file, with dots; of several the later one wins within one file.
    pub yaml: &'static [&'static str],
    /// Environment variables; the first that is not empty counts.
    pub env: &'static [&'static str],
    /// The flag, without dashes.
    pub flag: Option<&'static str>,
    /// The commands that have the flag.
    pub scope: Scope,
    /// How the text is read.
    pub kind: Kind,
    /// The text that stands when nobody says anything; empty means that there is none.
    pub default: &'static str,
    /// The unit of a number.
    pub unit: &'static str,
    /// What it does, as one sentence without a final stop.
    pub help: &'static str,
    /// The first version that knows it.
    pub since: &'static str,
    /// What a file of a repository may do with it.
    pub trust: Trust,
}

impl Setting {
    /// How messages call it: the place in a configuration file, else the first environment variable.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.yaml.last().or(self.env.first()).copied().unwrap_or(self.key)
    }
}
