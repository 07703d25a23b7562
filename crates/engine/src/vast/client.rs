//! The one place that sends calls to the Vast API: pacing, redirects, retries, redaction, in that order.
//!
//! A call that may be repeated is repeated through passing failures until its patience ends. A create is sent
//! once, whatever happens: no retry, no redirect, no second connection.

use super::decode::{self, Account, AttachedKey, Complaint};
use super::failure::{self, Failure, Kind};
use super::instance::Instance;
use super::offer::Offer;
use super::pacing::LimitClass;
use super::request::{self, CreateBody, Filter, LogSource, OfferQuery, Request, Version};
use super::skew::Skew;
use crate::lease::{AccountId, InstanceId, OfferId};
use crate::store::Store;
use crate::world::{Ambient, Http, HttpReply, HttpRequest, Limits, Method};
use crate::{Code, Error, Result};
use backon::BackoffBuilder;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::time::Instant;

/// Largest answer in bytes: an unfiltered search is several MiB.
const BODY_LIMIT: usize = 8 * 1024 * 1024;
const REDIRECTS: usize = 10;

/// Every instance of the account, or those a filter matched.
#[derive(Debug, Clone)]
pub struct Inventory {
    /// What was listed.
    pub instances: Vec<Instance>,
    /// All pages were read, no token came twice, and the total agrees: what is missing here was not there.
    pub complete: bool,
}

impl Inventory {
    /// The instance of this id, if listed.
    #[must_use]
    pub fn find(&self, id: InstanceId) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.id == id)
    }
}

/// What a create came to.
#[derive(Debug)]
pub enum Created {
    /// The instance of this id is ours.
    Instance(InstanceId),
    /// An instance exists although the API refused: ours, unwanted.
    Unwanted(InstanceId, Failure),
    /// Certainly nothing was rented.
    Nothing(Failure),
    /// It may have been rented: the answer was lost or says nothing.
    Unknown(Failure),
}

/// How a destroy was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// `success:true`.
    Yes,
    /// With a success that does not say so, such as `{}`: whether anything happens is for a read to show.
    Unsaid,
}

impl Accepted {
    fn of(said: bool) -> Self {
        if said { Accepted::Yes } else { Accepted::Unsaid }
    }
}

/// Why a call that is asked about right before each send came to nothing.
#[derive(Debug)]
pub enum Unsent {
    /// It was not sent, or not again: what was asked said no.
    Withheld(Box<Error>),
    /// It failed.
    Failed(Failure),
}

impl From<Failure> for Unsent {
    fn from(failure: Failure) -> Self {
        Unsent::Failed(failure)
    }
}

/// The Vast API under one address and key. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    http: Arc<dyn Http>,
    store: Store,
    ambient: Arc<dyn Ambient>,
    base: Url,
    v1_base: Url,
    key: SecretString,
    /// Names the pacing slots of this address and key; a digest, so that it gives nothing away.
    scope: String,
    widened: Mutex<BTreeMap<LimitClass, f64>>,
    skew: Skew,
    account: OnceLock<AccountId>,
}

impl Client {
    /// A client for `api_url` (absolute; a trailing slash does not matter) and `key`.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] for an address that cannot be parsed.
    pub fn new(
        http: Arc<dyn Http>,
        store: Store,
        ambient: Arc<dyn Ambient>,
        api_url: &str,
        key: SecretString,
    ) -> Result<Self> {
        let text = api_url.trim_end_matches('/');
        let base = Url::parse(text).map_err(|error| {
            Error::new(Code::InvalidConfig, format!("vast.apiUrl is not a URL: {error}"))
                .hint("give an absolute https address such as https://console.vast.ai/api/v0")
        })?;
        let root = ["/api/v0", "/api/v1"].iter().find_map(|suffix| base.path().strip_suffix(suffix));
        let v1_path = root.map(|root| format!("{root}/api/v1"));
        let mut v1_base = base.clone();
        if let Some(path) = v1_path {
            v1_base.set_path(&path);
        }
        let mut digest = Sha256::new();
        digest.update(text.as_bytes());
        digest.update([0]);
        digest.update(key.expose_secret().as_bytes());
        let scope = hex::encode(&digest.finalize()[..12]);
        let widened = Mutex::new(BTreeMap::new());
        let (skew, account) = (Skew::default(), OnceLock::new());
        Ok(Self {
            inner: Arc::new(Inner {
                http,
                store,
                ambient,
                base,
                v1_base,
                key,
                scope,
                widened,
                skew,
                account,
            }),
        })
    }

    /// Who we are. The only proof that the key works.
    ///
    /// # Errors
    /// [`Failure`] as the API tells it.
    pub async fn account(&self) -> Result<Account, Failure> {
        let account = self.call(&request::current_user(), decode::account).await?;
        self.inner.account.get_or_init(|| account.id);
        Ok(account)
    }

    /// Whose key this is, as the first answer told; a key does not change hands.
    #[must_use]
    pub fn known_account(&self) -> Option<AccountId> {
        self.inner.account.get().copied()
    }

    /// Offers for `query`; nothing is checked yet (see [`super::select::select`]).
    ///
    /// # Errors
    /// [`Failure`] as the API tells it.
    pub async fn search(&self, query: &OfferQuery) -> Result<Vec<Offer>, Failure> {
        self.call(&request::search_offers(query), decode::offers).await
    }

    /// Waits until the published interval allows another create. To be called right before [`Client::create`], which
    /// itself sends at once, so that the time recorded in between is the time of sending.
    pub async fn create_slot(&self) {
        self.pace(LimitClass::Create).await;
    }

    /// Rents. Sent once.
    pub async fn create(&self, offer: OfferId, what: &CreateBody) -> Created {
        let request = request::create(offer, what);
        let outcome = match self.exchange(&request).await {
            Ok(reply) => failure::judge(&request.name(), &reply)
                .map(|body| (reply.status, body))
                .map_err(|failure| self.scrub(failure, request.sensitive)),
            Err(failure) => Err(failure),
        };
        match outcome.map(|(status, body)| (status, decode::created(&body))) {
            Ok((_, Ok(Some(id)))) => Created::Instance(id),
            Ok((status, Ok(None))) => {
                Created::Unknown(Failure::malformed(&request.name(), status, "the answer names no instance"))
            }
            Ok((status, Err(why))) => Created::Unknown(Failure::malformed(&request.name(), status, &why)),
            Err(mut failure) => {
                if failure.kind == Kind::RateLimited {
                    self.slow_down(request.class, &failure).await;
                }
                if failure.kind == Kind::NoSuchInstance {
                    // What a create names is an offer.
                    failure.kind = Kind::OfferGone;
                }
                // The API is known to call a good key bad in passing: unless it says so again, it proves nothing.
                let doubtful = failure.kind == Kind::BadKey && !self.key_is_refused().await;
                match failure.new_contract {
                    Some(id) => Created::Unwanted(id, failure),
                    None if doubtful => Created::Unknown(failure),
                    None if failure.proves_nothing_created() => Created::Nothing(failure),
                    None => Created::Unknown(failure),
                }
            }
        }
    }

    /// One page of the list.
    ///
    /// # Errors
    /// [`Failure`] as the API tells it.
    pub async fn page(&self, filter: &Filter, after: Option<&str>) -> Result<decode::Page, Failure> {
        self.call(&request::list_page(filter, after), decode::page).await
    }

    /// All pages. A listing whose total disagrees is read once more before it is called incomplete.
    ///
    /// # Errors
    /// [`Failure`] as the API tells it.
    pub async fn list(&self, filter: &Filter) -> Result<Inventory, Failure> {
        let first = self.list_once(filter).await?;
        if first.complete { Ok(first) } else { self.list_once(filter).await }
    }

    async fn list_once(&self, filter: &Filter) -> Result<Inventory, Failure> {
        self.rest_of_list(filter, self.page(filter, None).await?).await
    }

    /// Reads on from a first page.
    ///
    /// # Errors
    /// [`Failure`] as the API tells it.
    pub async fn rest_of_list(&self, filter: &Filter, first: decode::Page) -> Result<Inventory, Failure> {
        let mut found: BTreeMap<InstanceId, Instance> = BTreeMap::new();
        let mut tokens = Vec::new();
        let mut page = first;
        let mut complete = true;
        let total = loop {
            found.extend(page.instances.into_iter().map(|instance| (instance.id, instance)));
            match page.next {
                None => break page.total,
                // A token that comes twice would turn pages for ever.
                Some(token) if tokens.contains(&token) => {
                    complete = false;
                    break page.total;
                }
                Some(token) => {
                    page = self.page(filter, Some(&token)).await?;
                    tokens.push(token);
                }
            }
        };
        complete &= total.is_none_or(|total| total == found.len());
        Ok(Inventory { instances: found.into_values().collect(), complete })
    }

    /// One instance; `None` is "not there at this moment", which proves nothing by itself.
    ///
    /// # Errors
    /// [`Failure`] as the API tells it.
    pub async fn show(&self, id: InstanceId) -> Result<Option<Instance>, Failure> {
        match self.call(&request::show(id), decode::instance).await {
            Ok(Some(instance)) if instance.id != id => {
                Err(Failure::malformed(&request::show(id).name(), 200, "another instance than the asked one"))
            }
            Err(failure) if failure.kind == Kind::NoSuchInstance => Ok(None),
            other => other,
        }
    }

    /// Sets the label.
    ///
    /// # Errors
    /// [`Failure`] as the API tells it.
    pub async fn set_label(&self, id: InstanceId, label: &str) -> Result<(), Failure> {
        self.call(&request::set_label(id, label), decode::accepted).await
    }

    /// Asks for `running` or `stopped`.
    ///
    /// # Errors
    /// [`Failure`] as the API tells it.
    pub async fn set_state(&self, id: InstanceId, state: &str) -> Result<(), Failure> {
        self.call(&request::set_state(id, state), decode::accepted).await
    }

    /// Asks for `stopped`, asking `look` right before each time, when no wait for its turn is left.
    ///
    /// # Errors
    /// [`Unsent::Withheld`] with what `look` said, else as [`Client::set_state`].
    pub async fn stop_if<F: Future<Output = Result<()>>>(
        &self,
        id: InstanceId,
        look: impl Fn() -> F,
    ) -> Result<(), Unsent> {
        self.call_if(&request::set_state(id, "stopped"), decode::accepted, look).await
    }

    /// Destroys, asking `look` right before each time it is sent, when no wait for its turn is left. `Ok` means not
    /// refused, and nothing about being gone.
    ///
    /// # Errors
    /// [`Unsent::Withheld`] with what `look` said, else the [`Failure`]; `success:false` is one, and so is "no such
    /// instance".
    pub async fn destroy_if<F: Future<Output = Result<()>>>(
        &self,
        id: InstanceId,
        look: impl Fn() -> F,
    ) -> Result<Accepted, Unsent> {
        Ok(Accepted::of(self.call_if(&request::destroy(id), decode::says_success, look).await?))
    }

    /// Attaches a public key; one that is there already is fine.
    ///
    /// # Errors
    /// [`Failure`] as the API tells it; [`Kind::NoSuchInstance`] while the instance is not visible yet.
    pub async fn attach_key(&self, id: InstanceId, public_key: &str) -> Result<(), Failure> {
        match self.call(&request::attach_key(id, public_key), decode::accepted).await {
            Err(failure) if failure.message.to_ascii_lowercase().contains("already associated") => Ok(()),
            other => other,
        }
    }

    /// The attached keys.
    ///
    /// # Errors
    /// [`Failure`] as the API tells it.
    pub async fn keys(&self, id: InstanceId) -> Result<Vec<AttachedKey>, Failure> {
        self.call(&request::list_keys(id), decode::keys).await
    }

    /// Detaches a key; one that is not there is fine.
    ///
    /// # Errors
    /// [`Failure`] as the API tells it.
    pub async fn detach_key(&self, id: InstanceId, key: u64) -> Result<(), Failure> {
        match self.call(&request::detach_key(id, key), decode::accepted).await {
            Err(failure)
                if failure.kind == Kind::NoSuchInstance || failure.message.contains("no_such_ssh_key") =>
            {
                Ok(())
            }
            other => other,
        }
    }

    /// The last `tail` lines of a log. The object behind the address appears after some seconds, and is fetched
    /// without our key.
    ///
    /// # Errors
    /// [`Failure`]; the address itself is never part of it.
    pub async fn logs(
        &self,
        id: InstanceId,
        source: LogSource,
        tail: u32,
        patience: Duration,
    ) -> Result<String, Failure> {
        let request = request::request_logs(id, source, tail);
        let address = self.call(&request, decode::log_address).await?;
        let deadline = Instant::now() + patience;
        loop {
            let fetch = HttpRequest {
                method: Method::Get,
                url: address.clone(),
                bearer: None,
                body: None,
                limits: limits(Duration::from_secs(10)),
            };
            match self.inner.http.send(fetch).await {
                Ok(reply) if reply.status == 200 => {
                    return Ok(crate::redact::redact(&String::from_utf8_lossy(&reply.body)));
                }
                _ if Instant::now() >= deadline => {
                    return Err(Failure::malformed(&request.name(), 200, "the log did not appear in time"));
                }
                _ => tokio::time::sleep(Duration::from_millis(300)).await,
            }
        }
    }

    /// Sends a call, repeating it through passing failures if it may be repeated.
    async fn call<T>(
        &self,
        request: &Request,
        read: fn(&Value) -> Result<T, Complaint>,
    ) -> Result<T, Failure> {
        let mut tries = Tries::new(request);
        loop {
            let slot = self.pace(request.class).await;
            let answered = self.once(request, read).await;
            self.arrived(request.class, slot.elapsed()).await;
            match answered {
                Ok(value) => return Ok(value),
                Err(failure) => self.after(failure, &mut tries).await?,
            }
        }
    }

    /// [`Client::call`], asking `look` right before each send: whatever authorises it is read after every wait.
    async fn call_if<T, F: Future<Output = Result<()>>>(
        &self,
        request: &Request,
        read: fn(&Value) -> Result<T, Complaint>,
        look: impl Fn() -> F,
    ) -> Result<T, Unsent> {
        let mut tries = Tries::new(request);
        loop {
            let slot = self.pace(request.class).await;
            look().await.map_err(|error| Unsent::Withheld(Box::new(error)))?;
            let answered = self.once(request, read).await;
            self.arrived(request.class, slot.elapsed()).await;
            match answered {
                Ok(value) => return Ok(value),
                Err(failure) => self.after(failure, &mut tries).await?,
            }
        }
    }

    /// Waits until a call that failed may be sent again.
    ///
    /// # Errors
    /// The failure, where it is final.
    async fn after(&self, failure: Failure, tries: &mut Tries<'_>) -> Result<(), Failure> {
        tries.sent += 1;
        let request = tries.request;
        if failure.kind == Kind::RateLimited {
            self.slow_down(request.class, &failure).await;
        }
        let mut again = failure.is_passing();
        if failure.kind == Kind::BadKey && !tries.doubted {
            // The API is known to call a good key bad in passing: one more call settles it.
            tries.doubted = true;
            again = self.key_works().await;
        }
        let delay = tries.delays.next().unwrap_or(Duration::from_secs(8)).mul_f64(self.jitter());
        let unreachable =
            failure.kind == Kind::NotSent && Instant::now() + delay >= tries.started + request.knocking;
        // One answer that never came may have used up the time: that alone ends nothing.
        let over = tries.sent > 1 && Instant::now() + delay >= tries.started + request.patience;
        if !again || !request.idempotent || unreachable || over {
            return Err(failure);
        }
        tokio::time::sleep(delay).await;
        Ok(())
    }

    async fn once<T>(
        &self,
        request: &Request,
        read: fn(&Value) -> Result<T, Complaint>,
    ) -> Result<T, Failure> {
        let name = request.name();
        let reply = self.exchange(request).await?;
        let status = reply.status;
        let body = failure::judge(&name, &reply).map_err(|failure| self.scrub(failure, request.sensitive))?;
        read(&body).map_err(|why| Failure::malformed(&name, status, &why))
    }

    async fn key_works(&self) -> bool {
        self.once(&request::current_user(), decode::account).await.is_ok()
    }

    async fn key_is_refused(&self) -> bool {
        let asked = self.once(&request::current_user(), decode::account).await;
        asked.is_err_and(|failure| failure.kind == Kind::BadKey)
    }

    /// One exchange with redirects within the origin, for calls that may be repeated.
    async fn exchange(&self, request: &Request) -> Result<HttpReply, Failure> {
        let name = request.name();
        let mut url = self.url(request);
        for _ in 0..=REDIRECTS {
            let out = HttpRequest {
                method: request.method,
                url: url.to_string(),
                bearer: Some(self.inner.key.clone()),
                body: request.body.as_ref().map(|body| body.to_string().into_bytes().into()),
                limits: limits(request.answer),
            };
            let reply = self
                .inner
                .http
                .send(out)
                .await
                .map_err(|error| self.scrub(Failure::transport(&name, &error), request.sensitive))?;
            self.inner.skew.note(&reply, self.inner.ambient.now());
            if !(300..400).contains(&reply.status) || reply.status == 304 {
                return Ok(reply);
            }
            let target = reply.location.as_deref().and_then(|location| url.join(location).ok());
            let Some(target) = target.filter(|_| request.idempotent) else { return Ok(reply) };
            if target.origin() != url.origin() {
                return Err(Failure::foreign_redirect(&name, reply.status));
            }
            url = target;
        }
        Err(Failure::malformed(&name, 310, "too many redirects"))
    }

    /// Local time minus the API's, seconds, as its newest answer told; `None` before the first one that did.
    #[must_use]
    pub fn clock_skew(&self) -> Option<i64> {
        self.inner.skew.seconds()
    }

    fn url(&self, request: &Request) -> Url {
        let base = match request.version {
            Version::V0 => &self.inner.base,
            Version::V1 => &self.inner.v1_base,
        };
        let mut url = base.clone();
        url.set_path(&format!("{}{}", base.path().trim_end_matches('/'), request.path));
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        url
    }

    /// Whether the single read may be sent sooner than the list, so that a look at one instance waits as little as
    /// the published intervals allow.
    pub async fn show_is_sooner(&self) -> bool {
        let wait = async |class: LimitClass| {
            let looked =
                self.inner.store.slot_wait(&self.inner.scope, class.name(), class.pace().interval).await;
            looked.unwrap_or_default()
        };
        let (show, list) = tokio::join!(wait(LimitClass::Show), wait(LimitClass::List));
        show <= list
    }

    /// Waits for the next slot of a class; when it was, at the earliest.
    async fn pace(&self, class: LimitClass) -> Instant {
        let began = Instant::now();
        let pace = class.pace();
        let widened = self.widened().get(&class).copied();
        if pace.interval.is_zero() && pace.burst.is_none() && widened.is_none() {
            return began;
        }
        let factor = widened.unwrap_or(1.0);
        let interval = pace.interval.mul_f64(factor);
        // Slots are a courtesy: where the file cannot be kept, the retry after a 429 still protects the call.
        let wait = self
            .inner
            .store
            .reserve_slot(&self.inner.scope, class.name(), interval, pace.burst)
            .await
            .unwrap_or(interval);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        began + wait
    }

    /// Notes that a call took long. It may have arrived as late as just now - the first of a process opens a connection -
    /// and the server counts from there, while the next one travels quickly.
    async fn arrived(&self, class: LimitClass, took: Duration) {
        let margin = class.margin();
        if !class.pace().interval.is_zero() && took > margin {
            // As in `pace`.
            let _ = self.inner.store.move_slot(&self.inner.scope, class.name(), margin).await;
        }
    }

    async fn slow_down(&self, class: LimitClass, failure: &Failure) {
        {
            let mut widened = self.widened();
            let factor = widened.entry(class).or_insert(1.0);
            *factor = (*factor * 1.5).min(4.0);
        }
        let away = failure.retry_after.unwrap_or_else(|| class.penalty());
        // As in `pace`: without the shared file this process still waits by itself.
        if self.inner.store.widen_slot(&self.inner.scope, class.name(), away).await.is_err() {
            tokio::time::sleep(away).await;
        }
    }

    fn widened(&self) -> std::sync::MutexGuard<'_, BTreeMap<LimitClass, f64>> {
        self.inner.widened.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn jitter(&self) -> f64 {
        let mut byte = [0];
        self.inner.ambient.random(&mut byte);
        0.8 + f64::from(byte[0]) / 255.0 * 0.4
    }

    /// Takes our own key out of what the API said, should it echo it, and everything out of a sensitive answer's text.
    fn scrub(&self, mut failure: Failure, sensitive: bool) -> Failure {
        let key = self.inner.key.expose_secret();
        if !key.is_empty() && failure.message.contains(key) {
            failure.message = failure.message.replace(key, "<redacted>");
        }
        if sensitive && failure.kind == Kind::Malformed {
            failure.message = "an answer that is not JSON".to_owned();
        }
        failure
    }
}

/// The sends of one call.
struct Tries<'a> {
    request: &'a Request,
    started: Instant,
    sent: usize,
    /// Its key was called bad once, and asked about.
    doubted: bool,
    delays: backon::ExponentialBackoff,
}

impl<'a> Tries<'a> {
    fn new(request: &'a Request) -> Self {
        let delays = backon::ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(200))
            .with_factor(2.0)
            .with_max_delay(Duration::from_secs(8))
            .without_max_times()
            .build();
        Self { request, started: Instant::now(), sent: 0, doubted: false, delays }
    }
}

fn limits(answer: Duration) -> Limits {
    Limits {
        connect: Duration::from_secs(10),
        headers: answer,
        body: Duration::from_secs(20),
        body_bytes: BODY_LIMIT,
    }
}

/// Turns a missing key into its error.
///
/// # Errors
/// [`Code::MissingApiKey`].
pub fn require_key(key: Option<&SecretString>) -> Result<SecretString> {
    key.filter(|key| !key.expose_secret().trim().is_empty()).cloned().ok_or_else(|| {
        Error::new(Code::MissingApiKey, "provider=vast requires CRABBOX_VAST_API_KEY or VAST_API_KEY").hint(
            "make a key in the Vast console and export it, or add --sim to try everything without an account",
        )
    })
}
