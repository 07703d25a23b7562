//! Status: the truth about one lease, from its claim and a look at the cloud and at SSH.

use super::halt::Halt;
use super::lease::Address;
use super::resolve::{Resolved, gone};
use super::wish::to_come;
use super::{Call, Deadman, Engine, Event, Phase};
use crate::lease::labels::{self, Labels, key};
use crate::lease::{Claim, DollarsPerHour, InstanceId, LeaseId, go_duration, moment};
use crate::store::StepKind;
use crate::vast::{Endpoint, Instance};
use crate::{Code, Error, Result};
use futures_util::future::BoxFuture;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// How long the look at SSH may take.
const PROBE: Duration = Duration::from_secs(4);

/// How long [`Engine::status_wait`] waits where nobody says.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(300);

/// The state of an interruptible lease that others stopped.
const OUTBID: &str = "outbid";

/// A lease as it stands.
#[derive(Debug, Clone)]
pub struct LeaseStatus {
    /// Lease id.
    pub id: String,
    /// Slug.
    pub slug: String,
    /// `ready`, `provisioning`, `stopped`, `outbid`, …: the claim's state where the instance runs, what the container does where
    /// it does not.
    pub state: String,
    /// The instance, if known.
    pub instance: Option<InstanceId>,
    /// GPU name.
    pub gpu: String,
    /// SSH endpoint that answered, or the first one known.
    pub endpoint: Option<Endpoint>,
    /// SSH user.
    pub user: String,
    /// Path of the lease's private key, where it is on this machine.
    pub key_path: String,
    /// A handshake with the lease's key succeeded just now.
    pub ready: bool,
    /// Cleanup leaves it alone.
    pub keep: bool,
    /// When it was created, RFC 3339.
    pub created_at: Option<String>,
    /// Last use, RFC 3339.
    pub last_touched_at: Option<String>,
    /// Time since the last use, seconds.
    pub idle_secs: Option<u64>,
    /// Idle timeout, seconds.
    pub idle_timeout_secs: Option<u64>,
    /// Time to live, seconds.
    pub ttl_secs: Option<u64>,
    /// When cleanup may sweep it, RFC 3339.
    pub expires_at: Option<String>,
    /// $/h, disk included.
    pub price: Option<DollarsPerHour>,
    /// What to do about a price that rose above the cap, where it did.
    pub price_warning: Option<String>,
    /// When the host's contract ends, RFC 3339: the machine is stopped then, and its data removed later.
    pub contract_ends_at: Option<String>,
    /// What to do about a contract that ends before the lease, where it does.
    pub contract_warning: Option<String>,
    /// What it cost so far, $: an upper bound.
    pub accrued_dollars: Option<f64>,
    /// What is to become of it and is not done yet, `destroy` or `stop`: its user asked for it, or a command began it and
    /// died. The next command that rents, starts or ends anything does it.
    pub ending: Option<StepKind>,
    /// What to do about its state, where something is to be done.
    pub advice: Option<String>,
    /// The group it belongs to.
    pub pond: Option<String>,
    /// There is no claim for it here.
    pub unclaimed: bool,
    /// The dead-man switch on the instance; absent where there is no lease to speak of.
    pub deadman: Option<Deadman>,
    /// The claim's labels.
    pub labels: Labels,
}

impl Serialize for LeaseStatus {
    /// In the words of the other results; the command line prints [`LeaseStatus::to_json`] instead.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut out = to.serialize_struct("LeaseStatus", 26)?;
        out.serialize_field("id", &self.id)?;
        out.serialize_field("slug", &self.slug)?;
        out.serialize_field("instance", &self.instance)?;
        out.serialize_field("state", &self.state)?;
        out.serialize_field("ending", &self.ending)?;
        out.serialize_field("advice", &self.advice)?;
        out.serialize_field("ready", &self.ready)?;
        out.serialize_field("gpu", &self.gpu)?;
        out.serialize_field("price", &self.price)?;
        out.serialize_field("priceWarning", &self.price_warning)?;
        out.serialize_field("accruedDollars", &self.accrued_dollars)?;
        out.serialize_field("contractEndsAt", &self.contract_ends_at)?;
        out.serialize_field("contractWarning", &self.contract_warning)?;
        let user = self.user.as_str();
        let address = self.endpoint.as_ref().map(|endpoint| Address { endpoint, user });
        out.serialize_field("endpoint", &address)?;
        out.serialize_field("keyPath", &Some(&self.key_path).filter(|path| !path.is_empty()))?;
        out.serialize_field("keep", &self.keep)?;
        out.serialize_field("pond", &self.pond)?;
        out.serialize_field("claimed", &!self.unclaimed)?;
        out.serialize_field("createdAt", &self.created_at)?;
        out.serialize_field("lastTouchedAt", &self.last_touched_at)?;
        out.serialize_field("idleSeconds", &self.idle_secs)?;
        out.serialize_field("idleTimeoutSeconds", &self.idle_timeout_secs)?;
        out.serialize_field("ttlSeconds", &self.ttl_secs)?;
        out.serialize_field("expiresAt", &self.expires_at)?;
        out.serialize_field("deadman", &self.deadman)?;
        out.serialize_field("labels", &self.labels)?;
        out.end()
    }
}

impl LeaseStatus {
    /// Says what is to be done about it before it costs something.
    fn warn(&self, call: &Call) {
        let warnings = self.price_warning.iter().chain(&self.contract_warning);
        warnings.for_each(|warning| call.warn(warning.clone()));
    }

    /// The line crabbox prints.
    #[must_use]
    pub fn line(&self) -> String {
        let or_dash = |text: Option<String>| text.filter(|t| !t.is_empty()).unwrap_or_else(|| "-".to_owned());
        let seconds = |secs: Option<u64>| or_dash(secs.map(|secs| go_duration(Duration::from_secs(secs))));
        let host = self.endpoint.as_ref().map(|endpoint| endpoint.host.clone());
        format!(
            "{} slug={} provider=vast target=linux windows_mode=normal state={} type={} host={} pond={} network=public ready={} has_host={} idle_for={} idle_timeout={} expires={}",
            self.id,
            or_dash(Some(self.slug.clone())),
            self.state,
            or_dash(Some(self.gpu.clone())),
            or_dash(host),
            or_dash(self.pond.clone()),
            self.ready,
            self.endpoint.is_some(),
            seconds(self.idle_secs),
            seconds(self.idle_timeout_secs),
            or_dash(self.expires_at.clone())
        )
    }

    /// The document crabbox prints under `--json`, with what only we know at its end.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (host, port) = self
            .endpoint
            .as_ref()
            .map_or_else(Default::default, |endpoint| (endpoint.host.clone(), endpoint.port.to_string()));
        let user = if host.is_empty() { "" } else { self.user.as_str() };
        let mut out = Map::new();
        let mut put = |name: &str, value: Value| {
            if !value.is_null() {
                out.insert(name.to_owned(), value);
            }
        };
        let text = |text: &Option<String>| json!(text);
        let seconds = |secs: Option<u64>| json!(secs.map(|secs| go_duration(Duration::from_secs(secs))));
        put("id", json!(self.id));
        put("slug", json!(Some(&self.slug).filter(|slug| !slug.is_empty())));
        put("provider", json!("vast"));
        put("target", json!("linux"));
        put("windowsMode", json!("normal"));
        put("state", json!(self.state));
        put("serverId", json!(self.instance.map_or_else(String::new, |id| id.to_string())));
        put("serverType", json!(self.gpu));
        put("host", json!(host));
        put("pond", text(&self.pond));
        put("network", json!("public"));
        put("sshHost", json!(host));
        put("sshUser", json!(user));
        put("sshPort", json!(port));
        put("sshKey", json!(self.key_path));
        put("lastTouchedAt", text(&self.last_touched_at));
        put("idleFor", seconds(self.idle_secs));
        put("idleTimeout", seconds(self.idle_timeout_secs));
        put("expiresAt", text(&self.expires_at));
        put("labels", json!(self.labels));
        put("hasHost", json!(self.endpoint.is_some()));
        put("ready", json!(self.ready));
        put("createdAt", text(&self.created_at));
        put("keep", json!(self.keep));
        put("ttl", seconds(self.ttl_secs));
        put("pricePerHour", json!(self.price.map(|price| price.0)));
        put("priceWarning", text(&self.price_warning));
        put("accruedDollars", json!(self.accrued_dollars));
        put("contractEndsAt", text(&self.contract_ends_at));
        put("contractWarning", text(&self.contract_warning));
        put("deadman", json!(self.deadman));
        put("ending", json!(self.ending));
        put("advice", text(&self.advice));
        Value::Object(out)
    }
}

impl Engine {
    /// A lease as claim, cloud and SSH show it. Changes nothing.
    ///
    /// # Errors
    /// [`Code::LeaseNotFound`], [`Code::NotOurs`], [`Code::IdentityMismatch`], [`Code::InstanceGone`].
    pub fn status<'a>(&'a self, identifier: &'a str, call: &'a Call) -> BoxFuture<'a, Result<LeaseStatus>> {
        Box::pin(async move {
            let look = async {
                let resolved = self.resolve(identifier).await?;
                resolved.tell_of_twins(call);
                self.status_of(resolved, call).await
            };
            let (status, _) = call.until_cancelled(look).await?;
            status.warn(call);
            Ok(status)
        })
    }

    async fn look_at(&self, identifier: &str, call: &Call) -> Result<(LeaseStatus, Option<Halt>)> {
        call.until_cancelled(async {
            let resolved = self.resolve(identifier).await?;
            self.status_of(resolved, call).await
        })
        .await
    }

    /// Waits until the lease answers over SSH.
    ///
    /// # Errors
    /// Those of [`Engine::status`]; [`Code::SshTimeout`] after `limit`; [`Code::InstanceNotRunning`] once it cannot
    /// become ready any more, [`Code::Outbid`] and [`Code::InsufficientCredit`] where that is why.
    pub fn status_wait<'a>(
        &'a self,
        identifier: &'a str,
        limit: Duration,
        call: &'a Call,
    ) -> BoxFuture<'a, Result<LeaseStatus>> {
        Box::pin(async move {
            let deadline = Instant::now() + limit;
            loop {
                let (status, halt) = self.look_at(identifier, call).await?;
                if status.ready {
                    status.warn(call);
                    return Ok(status);
                }
                if let (Some(halt), Some(instance)) = (halt, status.instance) {
                    return Err(halt.error(instance, Some(&status.slug)));
                }
                if labels::is_terminal(&status.state) || matches!(status.state.as_str(), "exited" | "offline")
                {
                    return Err(Error::new(
                        Code::InstanceNotRunning,
                        format!("lease {} is in state {} and will not become ready", status.id, status.state),
                    )
                    .hint(super::open::ended_hint(&status.slug)));
                }
                if Instant::now() >= deadline {
                    return Err(Error::new(
                        Code::SshTimeout,
                        format!(
                            "timed out waiting for lease {} to become ready: state {}",
                            status.id, status.state
                        ),
                    )
                    .hint("raise --wait-timeout, or release it and take another machine"));
                }
                call.phase(
                    Phase::Connect,
                    format!("lease {} is {}; waiting until it answers", status.id, status.state),
                );
                call.until_cancelled(async {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    Ok(())
                })
                .await?;
            }
        })
    }

    async fn status_of(&self, resolved: Resolved, call: &Call) -> Result<(LeaseStatus, Option<Halt>)> {
        let Resolved { claim, instance, .. } = resolved;
        let lease = match (&claim, &instance) {
            (Some(claim), _) => claim.lease_id.clone(),
            (None, Some(instance)) => instance.ownership().map(|label| label.lease).unwrap_or_default(),
            (None, None) => String::new(),
        };
        if let (Some(claim), None) = (&claim, &instance)
            && claim.instance_id().is_some()
        {
            return Err(gone(claim));
        }
        let endpoints = instance.as_ref().map(Instance::endpoints).unwrap_or_default();
        let id = LeaseId::parse(&lease);
        let key = match &id {
            Some(id) if claim.is_some() => self.store.key(id).await?,
            _ => None,
        };
        let running = instance.as_ref().is_some_and(Instance::is_running);
        let none = Labels::new();
        let claimed = claim.as_ref().map_or(&none, |claim| &claim.labels);
        let (mut answered, mut deadman) = (None, None);
        if let (Some(id), Some(key), true) = (&id, &key, running && !endpoints.is_empty()) {
            let quiet = Call::default();
            match self.connect(id, key, endpoints.clone(), PROBE, &quiet).await {
                Ok(connected) => {
                    deadman = Some(self.deadman_of(id, claimed, Some(connected.session.as_ref())).await);
                    connected.session.close().await;
                    answered = Some(connected.endpoint);
                }
                Err(error) if error.code() == Code::HostKeyChanged => call.warn(error.to_string()),
                // Not reachable now: that is what `ready=false` says.
                Err(_) => {}
            }
        }
        if let (Some(id), true, None) = (&id, claim.is_some(), &deadman) {
            deadman = Some(match &instance {
                Some(instance) if !instance.is_running() => Deadman::asleep(),
                _ => self.deadman_of(id, claimed, None).await,
            });
        }
        let slug = slug_of(claim.as_ref(), instance.as_ref());
        let halt = match &instance {
            Some(instance) => self.halt(instance, claim.as_ref()).await,
            None => None,
        };
        let state = state_of(claim.as_ref(), instance.as_ref(), halt);
        if let (Some(Halt::Outbid), Some(lease), Some(instance)) = (halt, &id, &instance) {
            call.event(Event::Outbid { lease: lease.clone(), instance: instance.id });
        }
        let labels = claim.as_ref().map(|claim| claim.labels.clone()).unwrap_or_default();
        let price_warning = instance.as_ref().and_then(|instance| self.price_warning(instance, &slug));
        let price = instance.as_ref().and_then(|instance| instance.dph_total);
        let now = self.unix_now();
        let since = labels::created_at(&labels);
        let journal = match &id {
            Some(id) => self.store.journal(id).await.ok().flatten(),
            None => None,
        };
        let cost =
            instance.as_ref().and_then(|instance| self.cost_so_far(instance, &labels, journal.as_ref()));
        let contract_end = instance.as_ref().and_then(Instance::contract_ends_at);
        let contract_warning =
            instance.as_ref().and_then(|instance| self.contract_warning(instance, &slug, &labels));
        let ending = match &instance {
            Some(instance) => self.ending(instance, claim.as_ref(), journal.as_ref()).await,
            None => None,
        };
        let to_come = ending.map(|end| to_come(end, &slug));
        let why_it_stands = halt.map(|halt| {
            format!(
                "instance {} {}; {}",
                instance.as_ref().map_or_else(String::new, |i| i.id.to_string()),
                halt.why(),
                halt.advice(&slug)
            )
        });
        let status = LeaseStatus {
            ending,
            advice: to_come.or(why_it_stands),
            slug,
            state,
            instance: instance.as_ref().map(|instance| instance.id),
            gpu: instance.as_ref().and_then(|instance| instance.gpu_name.clone()).unwrap_or_default(),
            ready: answered.is_some(),
            endpoint: answered.or_else(|| endpoints.first().cloned()),
            user: self.settings.user.clone(),
            key_path: key.map(|key| key.private_path.display().to_string()).unwrap_or_default(),
            keep: labels::keep(&labels),
            created_at: since.map(moment),
            last_touched_at: labels::last_touched_at(&labels).map(moment),
            idle_secs: labels::last_touched_at(&labels).map(|at| u64::try_from(now - at).unwrap_or(0)),
            idle_timeout_secs: labels::idle_timeout(&labels).map(|idle| idle.as_secs()),
            ttl_secs: labels::ttl(&labels).map(|ttl| ttl.as_secs()),
            expires_at: labels::expires_at(&labels).map(moment),
            accrued_dollars: cost.map(|cost| cost.0),
            contract_ends_at: contract_end.map(moment),
            contract_warning,
            price,
            price_warning,
            pond: claim.as_ref().and_then(Claim::pond).map(|pond| pond.to_string()),
            unclaimed: claim.is_none(),
            deadman,
            id: lease,
            labels,
        };
        Ok((status, halt))
    }

    /// What to say of a host's contract that ends before its lease; `None` where it does not, or is not told.
    fn contract_warning(&self, instance: &Instance, slug: &str, labels: &Labels) -> Option<String> {
        let (end, expires) = instance.contract_ends_at().zip(labels::expires_at(labels))?;
        (self.on_our_clock(end) < expires).then(|| {
            format!(
                "the contract of its host ends at {}, before the lease does at {}: the machine is stopped then, and its data \
                 removed about two days later; fetch what you need, and take another with a longer one (`stop {slug}` gives \
                 this one back)",
                moment(end),
                moment(expires)
            )
        })
    }
}

fn slug_of(claim: Option<&Claim>, instance: Option<&Instance>) -> String {
    claim.map(|claim| claim.slug.clone()).or_else(|| Some(instance?.ownership()?.slug)).unwrap_or_default()
}

/// The claim's word counts while the container runs; otherwise what the container does.
fn state_of(claim: Option<&Claim>, instance: Option<&Instance>, halt: Option<Halt>) -> String {
    let claimed = claim.and_then(|claim| claim.label(key::STATE));
    match instance {
        Some(instance) if instance.is_running() => match claimed {
            Some(state) => state.to_owned(),
            None => instance.ownership().map_or_else(|| instance.shown_status(), |label| label.state),
        },
        Some(_) if halt == Some(Halt::Outbid) => OUTBID.to_owned(),
        Some(_) if claimed.is_some_and(labels::is_terminal) => claimed.unwrap_or_default().to_owned(),
        Some(instance) if matches!(instance.actual_status.as_deref(), None | Some("created" | "loading")) => {
            "provisioning".to_owned()
        }
        Some(instance) => instance.shown_status(),
        None => claimed.unwrap_or("unknown").to_owned(),
    }
}
