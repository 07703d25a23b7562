//! What a refusal means. The body's token decides, not the status: a bad key comes as 404, a taken offer as 400,
//! a failed destroy as 200.

use super::field;
use crate::lease::InstanceId;
use crate::redact::{plain, redact, unquoted, without};
use crate::world::{HttpReply, TransportError, TransportErrorKind};
use crate::{Code, Error};
use serde_json::Value;
use std::time::Duration;

/// The situations a call can fail in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The key is unknown or revoked (`auth_error`, as 404 or 401), or there is none.
    BadKey,
    /// The key was made without a two-factor session, or that session ended.
    TwoFactor,
    /// The key lacks a permission group.
    Scope,
    /// 403 and no word of a permission: so the API answers everything for a while once it was called too often.
    Forbidden,
    /// `insufficient_credit`, `missing_billing`: nothing was created or started.
    NoCredit,
    /// `spend_rate_limit` of a new account.
    SpendLimit,
    /// Status 429, or a body that says so.
    RateLimited,
    /// `no_such_ask`: the offer is taken or was withdrawn.
    OfferGone,
    /// The instance does not exist (`no_such_instance`, `not_found`, `invalid_id`).
    NoSuchInstance,
    /// `invalid_price`: the bid is out of range or too low.
    BadPrice,
    /// `deprecated_endpoint`.
    Deprecated,
    /// Any other definite refusal (4xx, or `success:false` with 200).
    Rejected,
    /// The server or a gateway before it failed (5xx, 408, 409, 425, an HTML page).
    Unavailable,
    /// A success whose body is not what the call returns, or any answer too large or too broken to be read.
    Malformed,
    /// Nothing was sent: no connection.
    NotSent,
    /// No answer in time.
    TimedOut,
    /// The connection broke.
    Broken,
    /// The API answered with a redirect away from its own origin.
    ForeignRedirect,
}

/// A failed call.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The situation.
    pub kind: Kind,
    /// `PUT /asks/…/` and the like, without query.
    pub call: String,
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// What the API or the connection said, redacted, one line.
    pub message: String,
    /// The body carried a `new_contract`: an instance exists in spite of the failure, and it is ours.
    pub new_contract: Option<InstanceId>,
    /// How long the API asked to wait.
    pub retry_after: Option<Duration>,
    /// The status is that of a success, and the body names an error without saying that there was no success; or the body
    /// breaks off, and may have said more.
    pub says_not_all: bool,
}

/// How long a 403 that names no permission is taken for one that passes: the API has been seen to lock a caller out for a
/// minute.
pub const LOCKED_OUT: Duration = Duration::from_secs(90);

impl Failure {
    /// Whether the same call may well succeed a moment later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(
            self.kind,
            Kind::RateLimited
                | Kind::Unavailable
                | Kind::Malformed
                | Kind::NotSent
                | Kind::TimedOut
                | Kind::Broken
        )
    }

    /// Whether a read that failed so may be repeated, for [`LOCKED_OUT`] at least: the failure says nothing of what was to be read.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        self.is_passing() || self.kind == Kind::Forbidden
    }

    /// Whether a create that failed so has certainly rented nothing.
    #[must_use]
    pub fn proves_nothing_created(&self) -> bool {
        // A redirect to a page to be read says that the call was carried out. One that asks to repeat it should say that
        // it was not; but it may come from something in between that has passed the call on before.
        let lost = matches!(self.status, Some(300..=399 | 408 | 409 | 425 | 500..));
        self.new_contract.is_none()
            && !lost
            && !self.says_not_all
            && matches!(
                self.kind,
                Kind::BadKey
                    | Kind::TwoFactor
                    | Kind::Scope
                    | Kind::Forbidden
                    | Kind::NoCredit
                    | Kind::SpendLimit
                    | Kind::OfferGone
                    | Kind::NoSuchInstance
                    | Kind::BadPrice
                    | Kind::Deprecated
                    | Kind::Rejected
                    | Kind::NotSent
            )
    }

    /// A failure of the connection.
    #[must_use]
    pub fn transport(call: &str, error: &TransportError) -> Self {
        let kind = match error.kind {
            TransportErrorKind::NotSent => Kind::NotSent,
            TransportErrorKind::TimedOut => Kind::TimedOut,
            TransportErrorKind::Broken => Kind::Broken,
            TransportErrorKind::BadBody => Kind::Malformed,
        };
        Self::of(kind, call, None, &error.message)
    }

    /// A success whose body is not what it should be.
    #[must_use]
    pub fn malformed(call: &str, status: u16, why: &str) -> Self {
        Self::of(Kind::Malformed, call, Some(status), why)
    }

    /// A redirect to another origin: followed, it would hand the key to somebody else.
    #[must_use]
    pub fn foreign_redirect(call: &str, status: u16) -> Self {
        Self::of(Kind::ForeignRedirect, call, Some(status), "redirect to another origin refused")
    }

    fn of(kind: Kind, call: &str, status: Option<u16>, message: &str) -> Self {
        Self {
            kind,
            call: call.to_owned(),
            status,
            message: one_line(&redact(message)),
            new_contract: None,
            retry_after: None,
            says_not_all: false,
        }
    }
}

/// Reads an answer: the JSON of a success, or what the refusal means. `key` is taken out of what the API said, should it
/// echo it, before anything is shortened: the beginning of a key is a secret too.
///
/// # Errors
/// The failure as the body's token tells it.
pub fn judge(call: &str, reply: &HttpReply, key: &str) -> Result<Value, Failure> {
    let shown = |text: &str| cut(&without(key, text));
    let text = String::from_utf8_lossy(&reply.body);
    let json: Option<Value> = serde_json::from_slice(&reply.body).ok();
    let success = (200..300).contains(&reply.status);
    let json = match json {
        Some(mut body) if success && !says_failure(&body) => {
            forget(key, &mut body);
            return Ok(body);
        }
        other => other,
    };
    if json.is_none() && success {
        let page = text.trim_start().starts_with('<');
        let kind = if page { Kind::Unavailable } else { Kind::Malformed };
        let why = if text.trim().is_empty() {
            "empty body".to_owned()
        } else if page {
            "an HTML page instead of JSON".to_owned()
        } else {
            format!("not JSON: {}", shown(&text))
        };
        return Err(Failure::of(kind, call, Some(reply.status), &why));
    }
    let (token, message) = match &json {
        Some(body) => words(body),
        None => (String::new(), text.to_string()),
    };
    let (token, message) = (shown(&token), shown(&message));
    let page = json.is_none() && text.trim_start().starts_with('<');
    let kind = if page && reply.status != 429 {
        Kind::Unavailable
    } else {
        classify(reply.status, &token, &message, json.is_some())
    };
    let mut failure = Failure::of(kind, call, Some(reply.status), &describe(reply.status, &token, &message));
    // Only the field that names a new rental: other ids in a refusal may be anybody's.
    failure.new_contract = json.as_ref().and_then(|body| field::id(body, "new_contract")).map(InstanceId);
    failure.retry_after = retry_after(reply, json.as_ref());
    let breaks_off = json.is_none() && text.trim_start().starts_with('{');
    failure.says_not_all =
        breaks_off || success && json.as_ref().is_none_or(|body| field::flag(body, "success") != Some(false));
    Err(failure)
}

/// Takes the key out of what instances are told to say of themselves. Names and addresses stay as they are: a short key
/// may be part of them.
fn forget(key: &str, body: &mut Value) {
    match body {
        Value::Array(items) => items.iter_mut().for_each(|item| forget(key, item)),
        Value::Object(members) => members.iter_mut().for_each(|(name, member)| match member {
            Value::String(text) if name == "status_msg" => *text = without(key, &plain(text)).into_owned(),
            _ => forget(key, member),
        }),
        _ => {}
    }
}

/// The id of a rented instance, wherever an answer carries one.
#[must_use]
pub(super) fn new_contract(body: &Value) -> Option<InstanceId> {
    field::id(body, "new_contract")
        .or_else(|| {
            body.get("instance").and_then(|i| field::as_integer(i).and_then(|n| u64::try_from(n).ok()))
        })
        .or_else(|| {
            body.get("instance").and_then(|i| field::id(i, "id").or_else(|| field::id(i, "contract_id")))
        })
        .filter(|id| *id > 0)
        .map(InstanceId)
}

fn says_failure(body: &Value) -> bool {
    field::flag(body, "success") == Some(false)
        || (body.get("success").is_none() && field::text(body, "error").is_some())
}

/// Error token and text of a body; `msg`, `message` and `detail` all occur.
fn words(body: &Value) -> (String, String) {
    if let Some(text) = body.as_str() {
        return (String::new(), text.to_owned());
    }
    let token = field::text(body, "error").unwrap_or_default();
    let message =
        ["msg", "message", "detail"].iter().find_map(|name| field::text(body, name)).unwrap_or_default();
    (token, message)
}

fn classify(status: u16, token: &str, message: &str, is_json: bool) -> Kind {
    let said = format!("{token} {message}").to_ascii_lowercase();
    let says = |word: &str| said.contains(word);
    // A list of tokens in order of authority: credentials outrank "gone", whatever the status.
    let credentials = matches!(status, 400 | 401 | 403 | 404);
    if credentials && (says("two factor") || says("two-factor") || says(" 2fa ") || says("session expired")) {
        return Kind::TwoFactor;
    }
    if token == "auth_error" || says("invalid user key") {
        return Kind::BadKey;
    }
    if status == 429 || token == "rate_limit_exceeded" || says("api requests too frequent") {
        return Kind::RateLimited;
    }
    if says("no_such_ask") {
        return Kind::OfferGone;
    }
    if says("insufficient_credit")
        || says("missing_billing")
        || says("insufficient credit")
        || says("lacks credit")
    {
        return Kind::NoCredit;
    }
    if says("spend_rate_limit") {
        return Kind::SpendLimit;
    }
    if token == "deprecated_endpoint" {
        return Kind::Deprecated;
    }
    if token == "invalid_price" || says("bid price") {
        return Kind::BadPrice;
    }
    if says("permission group") || says("lacks the permission") {
        return Kind::Scope;
    }
    if matches!(token, "no_such_instance" | "not_found" | "invalid_id") {
        return Kind::NoSuchInstance;
    }
    match status {
        401 => Kind::BadKey,
        403 if said.contains("not your own") => Kind::OfferGone,
        403 => Kind::Forbidden,
        // A 404 that is not JSON comes from a wrong address, not from the API.
        404 if is_json && (token.is_empty() || says("no_such_instance")) => Kind::NoSuchInstance,
        408 | 409 | 425 => Kind::Unavailable,
        500.. => Kind::Unavailable,
        _ => Kind::Rejected,
    }
}

fn describe(status: u16, token: &str, message: &str) -> String {
    match (token.is_empty(), message.is_empty()) {
        (true, true) => format!("HTTP {status}"),
        (false, true) => format!("HTTP {status} {token}"),
        (true, false) => format!("HTTP {status}: {message}"),
        (false, false) => format!("HTTP {status} {token}: {message}"),
    }
}

fn retry_after(reply: &HttpReply, body: Option<&Value>) -> Option<Duration> {
    let header = reply.retry_after.as_deref().and_then(|text| text.trim().parse::<f64>().ok());
    let seconds = header.or_else(|| body.and_then(|b| field::number(b, "retry_after")))?;
    // A server that asks for more than two minutes is not waited for blindly.
    (seconds > 0.0).then(|| Duration::from_secs_f64(seconds.min(120.0)))
}

fn cut(text: &str) -> String {
    let line = one_line(text);
    match line.char_indices().nth(400) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

fn one_line(text: &str) -> String {
    unquoted(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let (code, hint): (Code, Option<&str>) = match failure.kind {
            Kind::BadKey => (
                Code::AuthFailed,
                Some(
                    "check CRABBOX_VAST_API_KEY (or VAST_API_KEY); keys are made in the Vast console under Account",
                ),
            ),
            Kind::TwoFactor => (
                Code::TwoFactorRequired,
                Some("make a new API key in a session that passed two-factor login"),
            ),
            Kind::Scope => (
                Code::PermissionDenied,
                Some("the key needs the permission groups misc, user_read, instance_read and instance_write"),
            ),
            Kind::Forbidden => (
                Code::PermissionDenied,
                Some(
                    "after too many calls the API refuses everything for a minute: wait, then try again; if it stays so, the key \
                     needs the permission groups misc, user_read, instance_read and instance_write",
                ),
            ),
            Kind::NoCredit => {
                (Code::InsufficientCredit, Some("add credit on the Vast billing page; nothing was rented"))
            }
            Kind::SpendLimit => (
                Code::SpendLimited,
                Some("new accounts may only spend so fast; wait, or rent a cheaper machine"),
            ),
            Kind::RateLimited => (
                Code::RateLimited,
                Some("another program uses this key at the same time; wait a moment and try again"),
            ),
            Kind::OfferGone => (Code::OfferGone, Some("try again: another offer will be taken")),
            Kind::NoSuchInstance => (Code::InstanceGone, None),
            Kind::BadPrice => (Code::BidTooLow, Some("raise the price cap, or rent on demand")),
            Kind::Deprecated | Kind::Rejected | Kind::ForeignRedirect => {
                (Code::ApiRejected, Some("check vast.apiUrl and the settings of this call"))
            }
            Kind::Unavailable => (Code::ApiUnavailable, Some("the API has trouble; try again in a minute")),
            Kind::Malformed => (
                Code::ApiMalformed,
                Some("the answer is not what the Vast API returns; check vast.apiUrl, or try again"),
            ),
            Kind::NotSent | Kind::Broken => (Code::ApiUnreachable, Some("check the network and vast.apiUrl")),
            Kind::TimedOut => (Code::ApiTimeout, Some("try again; check the network and vast.apiUrl")),
        };
        let mut error = Error::new(code, format!("vast {}: {}", failure.call, failure.message));
        if let Some(hint) = hint {
            error = error.hint(hint);
        }
        error = error.because(failure.message);
        if let Some(status) = failure.status {
            error = error.with("status", status);
        }
        error
    }
}
