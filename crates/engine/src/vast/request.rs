//! Calls as data: method, path, body, whether it may be repeated, whether its body is secret, which limit it counts against.
//!
//! Every path ends in a slash: the slash is part of the vendor's routes.

use super::pacing::LimitClass;
use crate::lease::{DollarsPerHour, InstanceId, OfferId};
use crate::world::Method;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Which address space a path belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The configured base (`…/api/v0`).
    V0,
    /// Its v1 sibling; only the instance list lives there.
    V1,
}

/// One call.
#[derive(Debug, Clone)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// Address space.
    pub version: Version,
    /// Path below the base, with both slashes: `/users/current/`.
    pub path: String,
    /// Query, not yet encoded; never a secret.
    pub query: Vec<(&'static str, String)>,
    /// JSON body.
    pub body: Option<Value>,
    /// Repeating it does no harm. A create is not: it would rent twice.
    pub idempotent: bool,
    /// Its answer carries secrets: nothing of the body may be shown.
    pub sensitive: bool,
    /// The limit it counts against.
    pub class: LimitClass,
    /// Longest time from sending to the answer's headers.
    pub answer: Duration,
    /// How long an idempotent call is repeated through passing failures.
    pub patience: Duration,
    /// How long a call that reaches nobody is repeated: a person waits for it, and a wrong address stays wrong.
    pub knocking: Duration,
}

impl Request {
    fn new(method: Method, path: impl Into<String>, class: LimitClass) -> Self {
        Self {
            method,
            version: Version::V0,
            path: path.into(),
            query: Vec::new(),
            body: None,
            idempotent: true,
            sensitive: false,
            class,
            answer: Duration::from_secs(20),
            patience: Duration::from_secs(25),
            knocking: Duration::from_secs(3),
        }
    }

    /// How errors name the call: method and path, no query.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", self.method.as_str(), self.path)
    }
}

/// `GET users/current`: who we are and what credit there is. The only call that proves a key.
#[must_use]
pub fn current_user() -> Request {
    let mut request = Request::new(Method::Get, "/users/current/", LimitClass::Account);
    request.sensitive = true;
    request
}

/// What to look for. Everything here is checked again locally: unknown or unreliable filters widen a search silently.
#[derive(Debug, Clone, PartialEq)]
pub struct OfferQuery {
    /// Bid prices instead of on-demand ones.
    pub interruptible: bool,
    /// Exact GPU name in the wire spelling, with spaces.
    pub gpu_name: Option<String>,
    /// At least so many GPUs; 0 is any.
    pub gpu_count: u32,
    /// Disk to be rented, GB: enters the price and is a minimum of the machine's free space.
    pub disk_gb: u32,
    /// Highest price, $/h, disk included.
    pub cap: Option<DollarsPerHour>,
    /// Least reliability, 0 to 1.
    pub min_reliability: f64,
    /// The machine must be rentable for at least so many seconds.
    pub duration_secs: u64,
    /// Sort terms: field and `asc` or `desc`.
    pub order: Vec<(String, String)>,
}

/// `POST bundles`: search offers.
#[must_use]
pub fn search_offers(query: &OfferQuery) -> Request {
    let mut body = Map::new();
    body.insert("verified".into(), json!({"eq": true}));
    body.insert("rentable".into(), json!({"eq": true}));
    body.insert("rented".into(), json!({"eq": false}));
    body.insert("direct_port_count".into(), json!({"gte": 1}));
    if let Some(name) = &query.gpu_name {
        body.insert("gpu_name".into(), json!({ "eq": name }));
    }
    if query.gpu_count > 0 {
        body.insert("num_gpus".into(), json!({ "gte": query.gpu_count }));
    }
    if query.min_reliability > 0.0 {
        body.insert("reliability".into(), json!({ "gte": query.min_reliability }));
    }
    if let Some(cap) = query.cap {
        body.insert("dph_total".into(), json!({ "lte": cap.0 }));
    }
    body.insert("disk_space".into(), json!({ "gte": query.disk_gb }));
    body.insert("duration".into(), json!({ "gte": query.duration_secs }));
    body.insert("type".into(), json!(if query.interruptible { "bid" } else { "on-demand" }));
    body.insert("allocated_storage".into(), json!(query.disk_gb));
    let order: Vec<Value> = query.order.iter().map(|(field, direction)| json!([field, direction])).collect();
    body.insert("order".into(), Value::Array(order));
    let mut request = Request::new(Method::Post, "/bundles/", LimitClass::Search);
    request.body = Some(Value::Object(body));
    request
}

/// What to rent.
#[derive(Debug, Clone)]
pub struct CreateBody {
    /// Docker image; not sent with a template.
    pub image: String,
    /// Template hash, in place of image and start script.
    pub template: Option<String>,
    /// Disk, GB.
    pub disk_gb: u32,
    /// The ownership label.
    pub label: String,
    /// The lease's public key. An unpublished field: the key is attached afterwards all the same.
    pub public_key: String,
    /// Environment of the container. An object: a string is silently not applied.
    pub env: Map<String, Value>,
    /// Start script.
    pub onstart: Option<String>,
    /// A bid, $/h per machine. Its presence makes the rental interruptible.
    pub bid: Option<DollarsPerHour>,
}

/// `PUT asks/{offer}`: rent. Never repeated by any layer; the answer carries a key of the instance.
#[must_use]
pub fn create(offer: OfferId, what: &CreateBody) -> Request {
    let mut body = Map::new();
    body.insert("client_id".into(), json!("me"));
    match &what.template {
        Some(template) => body.insert("template_hash_id".into(), json!(template)),
        None => body.insert("image".into(), json!(what.image)),
    };
    body.insert("disk".into(), json!(what.disk_gb));
    body.insert("label".into(), json!(what.label));
    body.insert("runtype".into(), json!("ssh_direct"));
    body.insert("target_state".into(), json!("running"));
    // Without it a taken GPU leaves a stopped instance whose disk is billed.
    body.insert("cancel_unavail".into(), json!(true));
    body.insert("vm".into(), json!(false));
    body.insert("env".into(), Value::Object(what.env.clone()));
    body.insert("ssh_key".into(), json!(what.public_key));
    if let (Some(script), None) = (&what.onstart, &what.template) {
        body.insert("onstart".into(), json!(script));
    }
    if let Some(bid) = what.bid {
        body.insert("price".into(), json!(bid.0));
    }
    let mut request = Request::new(Method::Put, format!("/asks/{offer}/"), LimitClass::Create);
    request.body = Some(Value::Object(body));
    request.idempotent = false;
    request.sensitive = true;
    // Official clients allow two minutes because creates can be slow.
    request.answer = Duration::from_secs(120);
    request
}

/// Which instances to list. A server may ignore a filter: callers look at what came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// All of the account.
    All,
    /// One id.
    Id(InstanceId),
    /// One exact label.
    Label(String),
}

/// `GET v1/instances`: one page of at most 25.
#[must_use]
pub fn list_page(filter: &Filter, after: Option<&str>) -> Request {
    let mut request = Request::new(Method::Get, "/instances/", LimitClass::List);
    request.version = Version::V1;
    request.query.push(("limit", "25".into()));
    match filter {
        Filter::All => {}
        Filter::Id(id) => request.query.push(("select_filters", json!({"id": {"eq": id.0}}).to_string())),
        Filter::Label(label) => {
            request.query.push(("select_filters", json!({"label": {"eq": label}}).to_string()));
        }
    }
    if let Some(token) = after {
        request.query.push(("after_token", token.to_owned()));
    }
    request
}

/// `GET instances/{id}`: one instance, or null.
#[must_use]
pub fn show(id: InstanceId) -> Request {
    let mut request = Request::new(Method::Get, format!("/instances/{id}/"), LimitClass::Show);
    request.query.push(("owner", "me".into()));
    request
}

/// `PUT instances/{id}` with a label.
#[must_use]
pub fn set_label(id: InstanceId, label: &str) -> Request {
    let mut request = Request::new(Method::Put, format!("/instances/{id}/"), LimitClass::Manage);
    request.body = Some(json!({ "label": label }));
    request
}

/// `PUT instances/{id}` with `running` or `stopped`.
#[must_use]
pub fn set_state(id: InstanceId, state: &str) -> Request {
    let mut request = Request::new(Method::Put, format!("/instances/{id}/"), LimitClass::Manage);
    request.body = Some(json!({ "state": state }));
    request
}

/// `DELETE instances/{id}`.
#[must_use]
pub fn destroy(id: InstanceId) -> Request {
    let mut request = Request::new(Method::Delete, format!("/instances/{id}/"), LimitClass::Destroy);
    request.body = Some(json!({}));
    // What is not destroyed is billed: nothing is repeated longer.
    request.patience = Duration::from_secs(75);
    request.knocking = Duration::from_secs(20);
    request
}

/// `POST instances/{id}/ssh`: attach a public key. Twice does no harm.
#[must_use]
pub fn attach_key(id: InstanceId, public_key: &str) -> Request {
    let mut request = Request::new(Method::Post, format!("/instances/{id}/ssh/"), LimitClass::KeyAttach);
    request.body = Some(json!({ "ssh_key": public_key }));
    request
}

/// `GET instances/{id}/ssh`: the attached keys.
#[must_use]
pub fn list_keys(id: InstanceId) -> Request {
    Request::new(Method::Get, format!("/instances/{id}/ssh/"), LimitClass::KeyAttach)
}

/// Whose log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSource {
    /// What the container printed.
    Container,
    /// What the host's daemon says of the container: why it cannot be loaded.
    Daemon,
}

/// `PUT instances/request_logs/{id}`: asks for the log's address, which is itself a secret.
#[must_use]
pub fn request_logs(id: InstanceId, source: LogSource, tail: u32) -> Request {
    let mut request = Request::new(Method::Put, format!("/instances/request_logs/{id}/"), LimitClass::Logs);
    let mut body = json!({ "tail": tail.to_string() });
    if source == LogSource::Daemon {
        body["daemon_logs"] = json!("true");
    }
    request.body = Some(body);
    request.sensitive = true;
    request.patience = Duration::from_secs(10);
    request
}
