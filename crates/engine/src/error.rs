//! What can go wrong, in one table: a stable code, the exit code it maps to, and whether trying again can help.
//!
//! Every public operation returns [`Error`]. The command line prints its message and hint and exits with
//! [`Error::exit_code`]; the Node addon makes a `VastLeaseError` with the same `code`.

use std::fmt;

/// `Result` with the engine's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! codes {
    ($( $(#[doc = $doc:literal])* $variant:ident = $text:literal, exit $exit:literal, retryable $retryable:literal; )*) => {
        /// The situation an [`Error`] describes. The text form is stable: scripts and programs may match on it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code { $( $(#[doc = $doc])* $variant, )* }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Code] = &[ $( Code::$variant, )* ];
            /// The stable text, e.g. `lease_not_found`.
            #[must_use]
            pub fn as_str(self) -> &'static str { match self { $( Code::$variant => $text, )* } }
            /// The process exit code of the command line (crabbox's classes: 1 API, 2 usage and identity,
            /// 4 not found, 5 timeout or unexpected provider state, 6 sync, 7 remote control).
            #[must_use]
            pub fn exit_code(self) -> u8 { match self { $( Code::$variant => $exit, )* } }
            /// The situation in one sentence.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $( Code::$variant => concat!($($doc),*).trim(), )* }
            }
            /// Whether the same call may succeed later without any change by the user.
            #[must_use]
            pub fn retryable(self) -> bool { match self { $( Code::$variant => $retryable, )* } }
        }
    };
}

codes! {
    /// An argument or option of a call is not acceptable.
    InvalidArgument = "invalid_argument", exit 2, retryable false;
    /// A setting from a file, the environment or a flag is not acceptable.
    InvalidConfig = "invalid_config", exit 2, retryable false;
    /// No API key was given.
    MissingApiKey = "missing_api_key", exit 2, retryable false;
    /// A repository file names the server that would receive the API key.
    CredentialDestination = "credential_destination", exit 2, retryable false;
    /// The state or configuration directory cannot be used (permissions, full disk).
    StateUnavailable = "state_unavailable", exit 2, retryable false;
    /// A claim file is not a readable claim.
    ClaimCorrupt = "claim_corrupt", exit 2, retryable false;
    /// The claim changed or vanished while the operation ran.
    ClaimChanged = "claim_changed", exit 2, retryable true;
    /// The instance carries an ownership label, but no claim here belongs to it.
    ClaimMissing = "claim_missing", exit 2, retryable false;
    /// Claim and live instance disagree (lease, slug, instance, account or endpoint).
    IdentityMismatch = "identity_mismatch", exit 2, retryable false;
    /// The instance was not made by crabbox or crabbox-vast.
    NotOurs = "not_ours", exit 2, retryable false;
    /// The lease is bound to another repository.
    RepositoryMismatch = "repository_mismatch", exit 2, retryable false;
    /// Another process is working on the lease.
    LeaseBusy = "lease_busy", exit 2, retryable true;
    /// The lease's state does not allow the step.
    InvalidState = "invalid_state", exit 2, retryable false;
    /// The lease id was used for another request.
    LeaseIdConflict = "lease_id_conflict", exit 2, retryable false;
    /// The lease of this id was used and given back; its id is spent.
    LeaseReleased = "lease_released", exit 2, retryable false;
    /// The call would drop or lose something and was not confirmed.
    ConfirmationNeeded = "confirmation_needed", exit 2, retryable false;
    /// No lease, slug or instance of that name.
    LeaseNotFound = "lease_not_found", exit 4, retryable false;
    /// More than one lease matches.
    LeaseAmbiguous = "lease_ambiguous", exit 4, retryable false;
    /// No offer meets the requirements.
    NoOffers = "no_offers", exit 4, retryable true;
    /// The API key was refused.
    AuthFailed = "auth_failed", exit 1, retryable false;
    /// The API key needs a two-factor session.
    TwoFactorRequired = "two_factor_required", exit 1, retryable false;
    /// The API key lacks a permission group.
    PermissionDenied = "permission_denied", exit 1, retryable false;
    /// The account has no credit for this.
    InsufficientCredit = "insufficient_credit", exit 1, retryable false;
    /// The vendor limits how fast this account may spend.
    SpendLimited = "spend_limited", exit 1, retryable true;
    /// The API asks to slow down.
    RateLimited = "rate_limited", exit 1, retryable true;
    /// The API could not be reached or the connection broke.
    ApiUnreachable = "api_unreachable", exit 1, retryable true;
    /// The API did not answer in time.
    ApiTimeout = "api_timeout", exit 1, retryable true;
    /// The API answered with a failure of its own (5xx, gateway page).
    ApiUnavailable = "api_unavailable", exit 1, retryable true;
    /// The API refused the request.
    ApiRejected = "api_rejected", exit 1, retryable false;
    /// The API's answer could not be understood.
    ApiMalformed = "api_malformed", exit 1, retryable true;
    /// The offer was taken by somebody else.
    OfferGone = "offer_gone", exit 4, retryable true;
    /// The bid is below the price at which the machine runs.
    BidTooLow = "bid_too_low", exit 5, retryable false;
    /// The instance costs more than the cap allows.
    PriceCapExceeded = "price_cap_exceeded", exit 5, retryable true;
    /// What the lease may cost does not fit its own limit or what is left of the day's.
    CostLimitExceeded = "cost_limit_exceeded", exit 5, retryable false;
    /// The instance was rented on demand where a bid was made, or the other way round.
    RentalMismatch = "rental_mismatch", exit 5, retryable true;
    /// Somebody bid more: the instance is stopped, its disk is billed on.
    Outbid = "outbid", exit 5, retryable true;
    /// The create may or may not have rented a machine.
    CreateAmbiguous = "create_ambiguous", exit 5, retryable true;
    /// The create was answered with an instance that never appeared.
    CreatePhantom = "create_phantom", exit 5, retryable true;
    /// The claimed instance does not exist any more.
    InstanceGone = "instance_gone", exit 1, retryable false;
    /// The instance cannot start because of its host.
    StartFailedHost = "start_failed_host", exit 5, retryable true;
    /// The instance cannot start because of its image.
    StartFailedImage = "start_failed_image", exit 5, retryable false;
    /// The instance makes no progress in starting.
    StartStalled = "start_stalled", exit 5, retryable true;
    /// A stopped instance cannot start now because its GPUs are taken; the queued start was withdrawn.
    StartQueued = "start_queued", exit 5, retryable true;
    /// The instance is stopped, failed or otherwise not usable.
    InstanceNotRunning = "instance_not_running", exit 5, retryable false;
    /// The instance did not come up in time.
    BootTimeout = "boot_timeout", exit 5, retryable true;
    /// SSH did not accept us in time.
    SshTimeout = "ssh_timeout", exit 5, retryable true;
    /// SSH refused the key or the session.
    SshRefused = "ssh_refused", exit 5, retryable true;
    /// The host key differs from the one recorded for this lease.
    HostKeyChanged = "host_key_changed", exit 5, retryable false;
    /// The SSH connection dropped.
    SshLost = "ssh_lost", exit 255, retryable true;
    /// The release was sent, but that the instance is gone could not be proved.
    ReleaseUnproved = "release_unproved", exit 5, retryable true;
    /// What is to be synced is not a git repository.
    NotARepository = "not_a_repository", exit 6, retryable false;
    /// The working tree is larger than the limits of a sync.
    SyncTooLarge = "sync_too_large", exit 6, retryable false;
    /// So many tracked files are deleted that it looks like an accident.
    MassDeletion = "mass_deletion", exit 6, retryable false;
    /// Another sync is at work on the same folder.
    SyncBusy = "sync_busy", exit 6, retryable true;
    /// The sync took longer than allowed.
    SyncTimeout = "sync_timeout", exit 6, retryable true;
    /// Listing, sending or unpacking the working tree failed.
    SyncFailed = "sync_failed", exit 6, retryable true;
    /// A file or folder could not be copied from or to the instance.
    CopyFailed = "copy_failed", exit 7, retryable true;
    /// Preparing or controlling the remote side failed.
    RemoteControl = "remote_control", exit 7, retryable true;
    /// Another run works in the workspace of the lease.
    WorkspaceBusy = "workspace_busy", exit 7, retryable true;
    /// The command worked, the release after it did not.
    CleanupFailed = "cleanup_failed", exit 7, retryable true;
    /// `doctor` found a problem.
    DoctorFailed = "doctor_failed", exit 1, retryable false;
    /// The caller cancelled the call.
    Cancelled = "cancelled", exit 130, retryable true;
    /// A defect in crabbox-vast.
    Internal = "internal", exit 1, retryable false;
}

/// What each exit code of the command line says; for its help, and for the page of errors.
pub const EXITS: &[(&str, &str)] = &[
    ("0", "success"),
    ("1", "the Vast API failed, or `doctor` found a problem"),
    ("2", "usage, configuration, state directory, or a lease that is not ours to touch"),
    ("4", "not found: lease, or an offer that fits"),
    ("5", "timeout, or the machine is in an unexpected state"),
    ("6", "the working tree could not be synced"),
    ("7", "controlling the remote side failed, or the release after a successful command"),
    ("130", "interrupted by Ctrl-C"),
    ("143", "interrupted by SIGTERM"),
    ("129", "interrupted by SIGHUP"),
    ("255", "the SSH connection was lost"),
    ("n", "`run` and `connect` pass on the exit code of the command"),
];

/// The Markdown table of the exit codes.
#[must_use]
pub fn exits_markdown() -> String {
    let rows = EXITS.iter().map(|(code, meaning)| format!("| {code} | {meaning} |\n"));
    std::iter::once("| Exit code | Meaning |\n| --- | --- |\n".to_owned()).chain(rows).collect()
}

/// The Markdown table of all codes.
#[must_use]
pub fn errors_markdown() -> String {
    let mut out = String::from(
        "| Code | Exit code | Trying again may help | What it says |\n| --- | --- | --- | --- |\n",
    );
    for code in Code::ALL {
        let again = if code.retryable() { "yes" } else { "no" };
        out.push_str(&format!("| `{code}` | {} | {again} | {} |\n", code.exit_code(), code.meaning()));
    }
    out
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an operation failed: what happened and where, what to do now, and a stable code.
///
/// The message never holds a secret: everything that enters it from outside passes [`crate::redact`].
#[derive(Debug, thiserror::Error)]
#[error("{}", .inner.message)]
pub struct Error {
    /// Boxed, so that results stay small.
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    code: Code,
    message: String,
    hint: Option<String>,
    details: serde_json::Map<String, serde_json::Value>,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of this code; the message is one line, lower-case, without a final stop.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let details = serde_json::Map::new();
        Self { inner: Box::new(Inner { code, message: message.into(), hint: None, details, cause: None }) }
    }

    /// Adds what the user should do now.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.inner.hint = Some(hint.into());
        self
    }

    /// Adds a named fact for programs (`lease`, `instance`, `offer`, `status`, …).
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.inner.details.insert(name.to_owned(), value.into());
        self
    }

    /// The cause, if one was recorded.
    #[must_use]
    pub fn cause(&self) -> Option<&(dyn std::error::Error + Send + Sync)> {
        self.inner.cause.as_deref()
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.inner.cause = Some(source.into());
        self
    }

    /// Joins a second failure, such as that of the clean-up. The first keeps its code; the second's facts are added.
    #[must_use]
    pub fn and(mut self, other: &Error) -> Self {
        let inner = &mut self.inner;
        inner.message = format!("{}; and {}", inner.message, other.inner.message);
        for (name, value) in &other.inner.details {
            inner.details.entry(name.clone()).or_insert_with(|| value.clone());
        }
        if inner.hint.is_none() {
            inner.hint.clone_from(&other.inner.hint);
        }
        self
    }

    /// Puts what was being done before the message: `context: message`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.inner.message = format!("{context}: {}", self.inner.message);
        self
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.inner.code
    }

    /// What to do now, if the engine knows.
    #[must_use]
    pub fn hint_text(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }

    /// The named facts.
    #[must_use]
    pub fn details(&self) -> &serde_json::Map<String, serde_json::Value> {
        &self.inner.details
    }

    /// The process exit code of the command line.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.inner.code.exit_code()
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        self.inner.code.retryable()
    }

    /// A document with a shape of its own, and as its `error` what failed, where something did.
    pub(crate) fn beside(document: &impl serde::Serialize, failure: Option<Error>) -> serde_json::Value {
        let mut document = serde_json::json!(document);
        if let Some(failure) = failure {
            document["error"] = failure.to_json()["error"].take();
        }
        document
    }

    /// The document that `--json` prints for a failure: `{"error":{code,message,hint?,retryable,details?}}`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let mut inner = serde_json::Map::new();
        inner.insert("code".into(), self.code().as_str().into());
        inner.insert("message".into(), self.inner.message.clone().into());
        if let Some(hint) = &self.inner.hint {
            inner.insert("hint".into(), hint.clone().into());
        }
        inner.insert("retryable".into(), self.retryable().into());
        if !self.inner.details.is_empty() {
            inner.insert("details".into(), self.inner.details.clone().into());
        }
        serde_json::json!({ "error": inner })
    }
}
