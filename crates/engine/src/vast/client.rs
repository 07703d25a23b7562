//! The calls of the Vast API, typed: what each is sent as, and what its answers mean. How they are sent is the sender's.
//! A create is sent once, whatever happens.

use super::decode::{self, Account};
use super::failure::{Failure, Kind};
use super::instance::Instance;
use super::offer::Offer;
use super::pacing::LimitClass;
use super::request::{self, CreateBody, Filter, LogSource, OfferQuery};
use super::sender::Sender;
pub use super::sender::Unsent;
use crate::lease::{AccountId, InstanceId, OfferId};
use crate::redact::{last_lines, plain, redact};
use crate::store::Store;
use crate::world::{Ambient, Http};
use crate::{Code, Error, Result};
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::Instant;

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

/// The Vast API under one address and key. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    sender: Sender,
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
        let sender = Sender::new(http, store, ambient, api_url, key)?;
        Ok(Self { inner: Arc::new(Inner { sender, account: OnceLock::new() }) })
    }

    /// Who we are. The only proof that the key works.
    ///
    /// # Errors
    /// [`Failure`] as the API tells it.
    pub async fn account(&self) -> Result<Account, Failure> {
        let account = self.sender().call(&request::current_user(), decode::account).await?;
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
        self.sender().call(&request::search_offers(query), decode::offers).await
    }

    /// Waits until the published interval allows another create. To be called right before [`Client::create`], which
    /// itself sends at once, so that the time recorded in between is the time of sending.
    pub async fn create_slot(&self) {
        self.sender().pace(LimitClass::Create).await;
    }

    /// Rents. Sent once.
    pub async fn create(&self, offer: OfferId, what: &CreateBody) -> Created {
        let request = request::create(offer, what);
        let outcome = match self.sender().exchange(&request).await {
            Ok(reply) => self.sender().judge(&request, &reply).map(|body| (reply.status, body)),
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
                    self.sender().slow_down(request.class, &failure).await;
                }
                if failure.kind == Kind::NoSuchInstance {
                    // What a create names is an offer.
                    failure.kind = Kind::OfferGone;
                }
                // The API is known to call a good key bad in passing: unless it says so again, it proves nothing.
                let doubtful = failure.kind == Kind::BadKey && !self.sender().key_is_refused().await;
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
        self.sender().call(&request::list_page(filter, after), decode::page).await
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
        match self.sender().call(&request::show(id), decode::instance).await {
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
        self.sender().call(&request::set_label(id, label), decode::accepted).await
    }

    /// Asks for `running` or `stopped`, asking `look` right before each time, when no wait for its turn is left.
    ///
    /// # Errors
    /// [`Unsent::Withheld`] with what `look` said, else the [`Failure`] as the API tells it.
    pub async fn set_state_if<F: Future<Output = Result<()>>>(
        &self,
        id: InstanceId,
        state: &str,
        look: impl Fn() -> F,
    ) -> Result<(), Unsent> {
        self.sender().call_if(&request::set_state(id, state), decode::accepted, look).await
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
        Ok(Accepted::of(self.sender().call_if(&request::destroy(id), decode::says_success, look).await?))
    }

    /// Attaches a public key; one that is there already is fine.
    ///
    /// # Errors
    /// [`Failure`] as the API tells it; [`Kind::NoSuchInstance`] while the instance is not visible yet.
    pub async fn attach_key(&self, id: InstanceId, public_key: &str) -> Result<(), Failure> {
        match self.sender().call(&request::attach_key(id, public_key), decode::accepted).await {
            Err(failure) if failure.message.to_ascii_lowercase().contains("already associated") => Ok(()),
            other => other,
        }
    }

    /// The texts of the attached public keys.
    ///
    /// # Errors
    /// [`Failure`] as the API tells it.
    pub async fn keys(&self, id: InstanceId) -> Result<Vec<String>, Failure> {
        self.sender().call(&request::list_keys(id), decode::keys).await
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
        let address = self.sender().call(&request, decode::log_address).await?;
        let deadline = Instant::now() + patience;
        loop {
            match self.sender().fetch(address.clone(), Duration::from_secs(10)).await {
                Some(reply) if reply.status == 200 => {
                    let text = String::from_utf8_lossy(&reply.body);
                    return Ok(redact(&self.sender().without_key(&plain(last_lines(&text)))));
                }
                _ if Instant::now() >= deadline => {
                    return Err(Failure::malformed(&request.name(), 200, "the log did not appear in time"));
                }
                _ => tokio::time::sleep(Duration::from_millis(300)).await,
            }
        }
    }
    /// Local time minus the API's, seconds, as its newest answer told; `None` before the first one that did.
    #[must_use]
    pub fn clock_skew(&self) -> Option<i64> {
        self.sender().clock_skew()
    }

    /// Whether the single read may be sent sooner than the list, so that a look at one instance waits as little as
    /// the published intervals allow.
    pub async fn show_is_sooner(&self) -> bool {
        self.sender().show_is_sooner().await
    }

    fn sender(&self) -> &Sender {
        &self.inner.sender
    }
}

/// Turns a missing key, and one that cannot be sent, into its error.
///
/// # Errors
/// [`Code::MissingApiKey`]; [`Code::InvalidConfig`] for a key of which part is no key.
pub fn require_key(key: Option<&SecretString>) -> Result<SecretString> {
    let Some(key) = key.filter(|key| !key.expose_secret().trim().is_empty()) else {
        return Err(Error::new(
            Code::MissingApiKey,
            "provider=vast requires CRABBOX_VAST_API_KEY or VAST_API_KEY",
        )
        .hint(
            "make a key in the Vast console and export it, or add --sim to try everything without an account",
        ));
    };
    if !key.expose_secret().chars().all(|one| one.is_ascii_graphic()) {
        return Err(Error::new(
            Code::InvalidConfig,
            "the API key has blanks, line breaks or other characters in it that no key has",
        )
        .hint("look at CRABBOX_VAST_API_KEY or VAST_API_KEY: more than the key was copied")
        .with("setting", "apiKey"));
    }
    Ok(key.clone())
}
