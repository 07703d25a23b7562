//! The one place that sends calls to the Vast API: pacing, redirects, retries, in that order.
//!
//! A call that may be repeated is repeated through passing failures until its patience ends. One that may not is sent
//! once, whatever happens: no retry, no redirect, no second connection.

use super::decode::{self, Complaint};
use super::failure::{self, Failure, Kind};
use super::pacing::LimitClass;
use super::request::{self, Request, Version};
use super::skew::Skew;
use crate::redact::without;
use crate::store::Store;
use crate::world::{Ambient, Http, HttpReply, HttpRequest, Limits, Method};
use crate::{Code, Error, Result};
use backon::BackoffBuilder;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// Largest answer in bytes: an unfiltered search is several MiB.
const BODY_LIMIT: usize = 8 * 1024 * 1024;
const REDIRECTS: usize = 10;
/// The longest wait before a call that ends a bill.
const LONGEST: Duration = Duration::from_secs(60);

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

impl From<Unsent> for Error {
    fn from(unsent: Unsent) -> Self {
        match unsent {
            Unsent::Withheld(error) => *error,
            Unsent::Failed(failure) => Error::from(failure),
        }
    }
}

/// The way to the API under one address and key.
pub(super) struct Sender {
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
}

impl Sender {
    pub(super) fn new(
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
        Ok(Self { http, store, ambient, base, v1_base, key, scope, widened, skew: Skew::default() })
    }

    /// Sends a call, repeating it through passing failures if it may be repeated.
    pub(super) fn call<T>(
        &self,
        request: &Request,
        read: fn(&Value) -> Result<T, Complaint>,
    ) -> impl Future<Output = Result<T, Failure>> {
        self.repeat(request, read, || std::future::ready(Ok(())))
    }

    /// [`Sender::call`], asking `look` right before each send: whatever authorises it is read after every wait.
    pub(super) fn call_if<T, F: Future<Output = Result<()>>>(
        &self,
        request: &Request,
        read: fn(&Value) -> Result<T, Complaint>,
        look: impl Fn() -> F,
    ) -> impl Future<Output = Result<T, Unsent>> {
        self.repeat(request, read, move || {
            let asked = look();
            async { asked.await.map_err(|error| Unsent::Withheld(Box::new(error))) }
        })
    }

    async fn repeat<T, E: From<Failure>, F: Future<Output = Result<(), E>>>(
        &self,
        request: &Request,
        read: fn(&Value) -> Result<T, Complaint>,
        look: impl Fn() -> F,
    ) -> Result<T, E> {
        let mut tries = Tries::new(request);
        loop {
            let slot = self.pace(request.class).await;
            look().await?;
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
        let body = self.judge(request, &reply)?;
        read(&body).map_err(|why| Failure::malformed(&name, status, &why))
    }

    /// What an answer says. Our own key is taken out of it, should it be echoed, and everything out of a sensitive one.
    pub(super) fn judge(&self, request: &Request, reply: &HttpReply) -> Result<Value, Failure> {
        failure::judge(&request.name(), reply, self.key.expose_secret()).map_err(|mut failure| {
            if request.sensitive && failure.kind == Kind::Malformed {
                failure.message = "an answer that is not JSON".to_owned();
            }
            failure
        })
    }

    /// A text from outside without our own key.
    pub(super) fn without_key<'a>(&self, text: &'a str) -> Cow<'a, str> {
        without(self.key.expose_secret(), text)
    }

    async fn key_works(&self) -> bool {
        self.once(&request::current_user(), decode::account).await.is_ok()
    }

    pub(super) async fn key_is_refused(&self) -> bool {
        let asked = self.once(&request::current_user(), decode::account).await;
        asked.is_err_and(|failure| failure.kind == Kind::BadKey)
    }

    /// One exchange with redirects within the origin, for calls that may be repeated.
    pub(super) async fn exchange(&self, request: &Request) -> Result<HttpReply, Failure> {
        let name = request.name();
        let mut url = self.url(request);
        for _ in 0..=REDIRECTS {
            let out = HttpRequest {
                method: request.method,
                url: url.to_string(),
                bearer: Some(self.key.clone()),
                body: request.body.as_ref().map(|body| body.to_string().into_bytes().into()),
                limits: limits(request.answer),
            };
            let reply = self.http.send(out).await.map_err(|error| Failure::transport(&name, &error))?;
            self.skew.note(&reply, self.ambient.now());
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
    pub(super) fn clock_skew(&self) -> Option<i64> {
        self.skew.seconds()
    }

    /// Reads an address that is not the API's, once and without our key.
    pub(super) async fn fetch(&self, address: String, answer: Duration) -> Option<HttpReply> {
        let fetch = HttpRequest {
            method: Method::Get,
            url: address,
            bearer: None,
            body: None,
            limits: limits(answer),
        };
        self.http.send(fetch).await.ok()
    }

    fn url(&self, request: &Request) -> Url {
        let base = match request.version {
            Version::V0 => &self.base,
            Version::V1 => &self.v1_base,
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
    pub(super) async fn show_is_sooner(&self) -> bool {
        let wait = async |class: LimitClass| {
            let looked = self.store.slot_wait(&self.scope, class.name(), class.pace().interval).await;
            looked.unwrap_or_default()
        };
        let (show, list) = tokio::join!(wait(LimitClass::Show), wait(LimitClass::List));
        show <= list
    }

    /// Waits for the next slot of a class; when it was, at the earliest.
    pub(super) async fn pace(&self, class: LimitClass) -> Instant {
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
            .store
            .reserve_slot(&self.scope, class.name(), interval, pace.burst)
            .await
            .unwrap_or(interval);
        // What ends a bill is not put off by what somebody else was asked to wait.
        let ends = matches!(class, LimitClass::Destroy | LimitClass::Manage);
        let wait = if ends { wait.min(LONGEST) } else { wait };
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
            let _ = self.store.move_slot(&self.scope, class.name(), margin).await;
        }
    }

    pub(super) async fn slow_down(&self, class: LimitClass, failure: &Failure) {
        {
            let mut widened = self.widened();
            let factor = widened.entry(class).or_insert(1.0);
            *factor = (*factor * 1.5).min(4.0);
        }
        let away = failure.retry_after.unwrap_or_else(|| class.penalty());
        // As in `pace`: without the shared file this process still waits by itself.
        if self.store.widen_slot(&self.scope, class.name(), away).await.is_err() {
            tokio::time::sleep(away).await;
        }
    }

    fn widened(&self) -> std::sync::MutexGuard<'_, BTreeMap<LimitClass, f64>> {
        self.widened.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn jitter(&self) -> f64 {
        let mut byte = [0];
        self.ambient.random(&mut byte);
        0.8 + f64::from(byte[0]) / 255.0 * 0.4
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
