//! The settings as typed values, with what follows from several of them.

use super::check::{items, parse_order, ports};
use super::{
    Environment, OrderTerm, Origin, Overrides, Refusal, Resolved, SETTINGS, Setting, Snapshot, Trust,
};
use crate::lease::{Dollars, DollarsPerHour, ReleaseAction, Slug, parse_go_duration};
use crate::store::Paths;
use crate::sync::guard::Limits;
use crate::{Code, Error, Result};
use secrecy::SecretString;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// How an instance is rented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceType {
    /// At the host's price, until we give it back.
    OnDemand,
    /// At a bid, until somebody bids more.
    Interruptible,
}

impl InstanceType {
    /// The word in settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            InstanceType::OnDemand => "ondemand",
            InstanceType::Interruptible => "interruptible",
        }
    }
}

/// What is installed on an instance before it counts as ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bootstrap {
    /// Nothing: a shell and tar are enough for us.
    None,
    /// The tools that crabbox needs on a machine.
    Wait,
}

/// What the engine needs to know; each field is one setting unless its comment says more.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What the configuration files say that has no effect and was hardly meant so. Whoever rents is told.
    pub notes: Vec<String>,
    /// The limits that a repository's file may not set so: what would spend is refused.
    pub refusals: Vec<Refusal>,
    /// What was said with flags on what is rented and for how much: the flag, and its value.
    pub limits: Vec<(&'static str, String)>,
    /// The keys of the settings that a repository's file decided.
    pub from_repository: BTreeSet<&'static str>,
    /// Who chose the provider: `default`, `user`, `repository`, `environment` or `flag`.
    pub provider_source: String,
    /// The API key; operations that need it fail with [`Code::MissingApiKey`].
    pub api_key: Option<SecretString>,
    /// The API's address without a final slash.
    pub api_url: String,
    /// How instances are rented.
    pub instance_type: InstanceType,
    /// The GPU model as the API spells it (blanks, no underscores); `None` means any.
    pub gpu_name: Option<String>,
    /// Fewest GPUs; 0 means any number.
    pub gpu_count: u32,
    /// The container image.
    pub image: String,
    /// Hash of the template to create from.
    pub template_id: Option<String>,
    /// How the instance is reached, always `ssh_direct`.
    pub runtype: String,
    /// The disk in GB.
    pub disk_gb: u32,
    /// The price cap; `None` means no cap.
    pub max_dph_total: Option<DollarsPerHour>,
    /// The bid of an interruptible rental, without its disk; `None` means the lowest that wins.
    pub bid: Option<DollarsPerHour>,
    /// The most one lease may cost in its TTL; `None` means no limit.
    pub max_cost: Option<Dollars>,
    /// Whether that was said, also where it was said that there is no limit.
    pub max_cost_explicit: bool,
    /// The most all leases of this state directory may cost in a day; `None` means no limit.
    pub max_cost_per_day: Option<Dollars>,
    /// Lowest reliability, 0 to 1.
    pub min_reliability: f64,
    /// The order of offers as it was written.
    pub order: String,
    /// The same, read.
    pub order_terms: Vec<OrderTerm>,
    /// The SSH user: `ssh.user` when that is set, else `vast.user`.
    pub user: String,
    /// The work root: `vast.workRoot` when that is set, else `workRoot`, else the default.
    pub work_root: String,
    /// What a release does.
    pub release_action: ReleaseAction,
    /// Whether somebody chose the release action, so that it beats the one recorded on a lease.
    pub release_action_explicit: bool,
    /// Longest time from the create to ready.
    pub boot_timeout: Duration,
    /// How long a fresh instance may refuse the key.
    pub ssh_timeout: Duration,
    /// What is installed on a new instance.
    pub bootstrap: Bootstrap,
    /// Longest life of a new lease.
    pub ttl: Duration,
    /// Whether somebody chose the TTL: a lease that is kept ends by itself only then.
    pub ttl_explicit: bool,
    /// Idle time after which a new lease expires.
    pub idle_timeout: Duration,
    /// Profile recorded on new leases.
    pub profile: String,
    /// Machine class recorded on new leases.
    pub class: String,
    /// Group recorded on new leases.
    pub pond: Option<Slug>,
    /// Whether this very call names the pond, so that a list or a cleanup keeps to it.
    pub pond_given: bool,
    /// Ports recorded on new leases, sorted.
    pub expose: Vec<u16>,
    /// How a working tree is brought over.
    pub sync: SyncSettings,
    /// Names of local variables that remote commands receive; a final `*` matches any ending.
    pub env_allow: Vec<String>,
    /// The local environment, of which [`Settings::env_allow`] lets some through.
    pub environment: Environment,
    /// Private key of the user for crabbox's other providers; shown, not used.
    pub ssh_key: PathBuf,
    /// PEM file of certificate authorities to trust besides the system's.
    pub extra_ca_file: Option<PathBuf>,
    /// Where state and keys are.
    pub paths: Paths,
    /// The repository of the working directory, or the working directory.
    pub repo_root: String,
    /// What the working folder on an instance is called: the name of the origin, else of the folder.
    pub repo_name: String,
    /// The working directory.
    pub cwd: PathBuf,
}

/// How a working tree is brought over.
#[derive(Debug, Clone)]
pub struct SyncSettings {
    /// Remove on the instance what an earlier sync brought and is gone here.
    pub delete: bool,
    /// Compare contents, not sizes and times.
    pub checksum: bool,
    /// Skip the sync when nothing changed on either side.
    pub fingerprint: bool,
    /// Rules behind the built-in ones.
    pub exclude: Vec<String>,
    /// The whitelist; empty lets everything in.
    pub include: Vec<String>,
    /// Longest time of a sync.
    pub timeout: Duration,
    /// What is too much.
    pub limits: Limits,
}

/// Resolves the settings of one call.
///
/// # Errors
/// Those of [`Resolved::load`].
pub fn resolve(snapshot: &Snapshot, overrides: &Overrides) -> Result<Settings> {
    let mut settings = Resolved::load(snapshot, overrides)?.settings()?;
    settings.environment = Environment::new(snapshot.vars.clone());
    Ok(settings)
}

impl Settings {
    /// Whether anything may be spent under these settings.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] where a repository's file sets a limit that is not its to set.
    pub fn may_spend(&self) -> Result<()> {
        self.refusals.first().map_or(Ok(()), |refusal| Err(refusal.error()))
    }

    /// Whether a lease may be started again, which ends as it was made to end.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] where a repository's file sets a price that is not its to set.
    pub fn may_start(&self) -> Result<()> {
        let mut of_price = self.refusals.iter().filter(|refusal| refusal.is_of_price());
        of_price.next().map_or(Ok(()), |refusal| Err(refusal.error()))
    }
}

impl Resolved {
    fn limits(&self) -> Vec<(&'static str, String)> {
        let of_it = |setting: &&Setting| {
            matches!(setting.trust, Trust::CostCap | Trust::Lifetime)
                || ["gpuName", "gpuCount", "diskGB", "instanceType"].contains(&setting.key)
        };
        let said = SETTINGS.iter().filter(of_it).filter_map(|setting| {
            let value = self.values.get(setting.key)?;
            let Origin::Flag(flag) = value.origin else { return None };
            Some((flag, value.text.clone()))
        });
        said.collect()
    }

    /// The typed form.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] when a path cannot be written as text, [`Code::Internal`] when the table and this
    /// function disagree.
    pub fn settings(&self) -> Result<Settings> {
        let order = self.text("order")?;
        let repo_root = self.repo_root.to_str().ok_or_else(|| {
            let message = format!("the path {} is not valid UTF-8", self.repo_root.display());
            Error::new(Code::InvalidConfig, message).hint("claims record the repository as text; rename it")
        })?;
        let from_repository = self.values.iter().filter(|(_, value)| value.origin.is_repository());
        Ok(Settings {
            notes: self.notes.clone(),
            refusals: self.refusals.clone(),
            limits: self.limits(),
            from_repository: from_repository.map(|(key, _)| *key).collect(),
            provider_source: self.value("provider")?.origin.word().to_owned(),
            api_key: self.api_key.clone(),
            api_url: self.text("apiUrl")?,
            instance_type: match self.value("instanceType")?.text.as_str() {
                "interruptible" => InstanceType::Interruptible,
                _ => InstanceType::OnDemand,
            },
            gpu_name: self.optional("gpuName")?.map(|name| name.replace('_', " ")),
            gpu_count: self.parsed("gpuCount")?,
            image: self.text("image")?,
            template_id: self.optional("templateId")?,
            runtype: self.text("runtype")?,
            disk_gb: self.parsed("diskGB")?,
            max_dph_total: Some(self.parsed("maxDphTotal")?).filter(|cap| *cap > 0.0).map(DollarsPerHour),
            bid: Some(self.parsed("bid")?).filter(|bid| *bid > 0.0).map(DollarsPerHour),
            max_cost: Some(self.parsed("maxCost")?).filter(|limit| *limit > 0.0).map(Dollars),
            // What a repository says lifts no limit that a lease was made with.
            max_cost_explicit: self.explicit("maxCost")? && !self.value("maxCost")?.origin.is_repository(),
            max_cost_per_day: Some(self.parsed("maxCostPerDay")?).filter(|limit| *limit > 0.0).map(Dollars),
            min_reliability: self.parsed("minReliability")?,
            order_terms: parse_order(&order).unwrap_or_default(),
            order,
            user: self.user()?,
            work_root: self.work_root()?,
            release_action: self.parsed("releaseAction")?,
            release_action_explicit: self.explicit("releaseAction")?,
            boot_timeout: self.duration("bootTimeout")?,
            ssh_timeout: self.duration("sshTimeout")?,
            bootstrap: match self.value("bootstrap")?.text.as_str() {
                "wait" => Bootstrap::Wait,
                _ => Bootstrap::None,
            },
            ttl: self.duration("ttl")?,
            ttl_explicit: self.explicit("ttl")?,
            idle_timeout: self.duration("idleTimeout")?,
            profile: self.text("profile")?,
            class: self.text("class")?,
            pond: Slug::normalise(&self.value("pond")?.text),
            pond_given: matches!(self.value("pond")?.origin, Origin::Flag(_) | Origin::Option(_)),
            expose: ports(&self.value("expose")?.text).unwrap_or_default().into_iter().collect(),
            sync: self.sync()?,
            env_allow: items(&self.value("envAllow")?.text).map(str::to_owned).collect(),
            environment: Environment::default(),
            ssh_key: self.ssh_key()?,
            extra_ca_file: self.optional("extraCaFile")?.map(|file| self.cwd.join(file)),
            paths: self.paths.clone(),
            repo_name: super::repository::repository_name(&self.repo_root),
            repo_root: repo_root.to_owned(),
            cwd: self.cwd.clone(),
        })
    }

    fn sync(&self) -> Result<SyncSettings> {
        let list = |key: &str| Ok::<_, Error>(items(&self.value(key)?.text).map(str::to_owned).collect());
        Ok(SyncSettings {
            delete: self.parsed("syncDelete")?,
            checksum: self.parsed("syncChecksum")?,
            fingerprint: self.parsed("syncFingerprint")?,
            exclude: list("syncExclude")?,
            include: list("syncInclude")?,
            timeout: self.duration("syncTimeout")?,
            limits: Limits {
                warn_files: self.whole("syncWarnFiles")?,
                warn_bytes: self.whole("syncWarnBytes")?,
                fail_files: self.whole("syncFailFiles")?,
                fail_bytes: self.whole("syncFailBytes")?,
                allow_large: self.parsed("syncAllowLarge")?,
                allow_mass_deletions: self.parsed("syncAllowMassDeletions")?,
            },
        })
    }

    /// A number without its fraction.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked not to be negative; more than fits is as good as the most"
    )]
    fn whole(&self, key: &str) -> Result<u64> {
        Ok(self.parsed::<f64>(key)? as u64)
    }

    /// The effective SSH user.
    pub(super) fn user(&self) -> Result<String> {
        Ok(self.optional("sshUser")?.unwrap_or(self.text("user")?))
    }

    /// The effective work root.
    pub(super) fn work_root(&self) -> Result<String> {
        let own = self.text("workRoot")?;
        Ok(if self.explicit("workRoot")? { own } else { self.optional("defaultWorkRoot")?.unwrap_or(own) })
    }

    /// The user's own private key.
    pub(super) fn ssh_key(&self) -> Result<PathBuf> {
        let default = || self.home.clone().unwrap_or_default().join(".ssh").join("id_ed25519");
        Ok(self.optional("sshKey")?.map_or_else(default, PathBuf::from))
    }

    pub(super) fn text(&self, key: &str) -> Result<String> {
        Ok(self.value(key)?.text.clone())
    }

    pub(super) fn optional(&self, key: &str) -> Result<Option<String>> {
        Ok(Some(self.text(key)?).filter(|text| !text.is_empty()))
    }

    pub(super) fn parsed<T: FromStr>(&self, key: &str) -> Result<T> {
        let text = &self.value(key)?.text;
        text.parse()
            .map_err(|_| Error::new(Code::Internal, format!("the setting {key} was not checked: {text:?}")))
    }

    pub(super) fn duration(&self, key: &str) -> Result<Duration> {
        let text = &self.value(key)?.text;
        parse_go_duration(text)
            .ok_or_else(|| Error::new(Code::Internal, format!("the setting {key} was not checked: {text:?}")))
    }

    fn explicit(&self, key: &str) -> Result<bool> {
        Ok(self.value(key)?.origin != Origin::Default)
    }
}
