//! HTTP over reqwest with rustls. HTTP/1.1, no retries, no redirects, no cookies of the library's own.

use crate::world::{Http, HttpReply, HttpRequest, Method, TransportError, TransportErrorKind};
use crate::{Code, Error, Result};
use async_trait::async_trait;
use once_cell::sync::OnceCell;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderValue, LOCATION, RETRY_AFTER};
use secrecy::ExposeSecret;
use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Sends requests with reqwest. Building a client reads the system's certificates, which takes some milliseconds, so
/// it happens at the first request.
pub struct ReqwestHttp {
    /// For addresses on this machine: proxy variables do not apply, no certificates are needed.
    loopback: OnceCell<reqwest::Client>,
    outside: OnceCell<reqwest::Client>,
    extra_ca: Option<PathBuf>,
}

impl ReqwestHttp {
    /// `extra_ca` is a PEM file whose certificates are trusted besides the system's (Node's `NODE_EXTRA_CA_CERTS`).
    #[must_use]
    pub fn new(extra_ca: Option<PathBuf>) -> Self {
        Self { loopback: OnceCell::new(), outside: OnceCell::new(), extra_ca }
    }

    fn client(&self, url: &reqwest::Url) -> Result<&reqwest::Client> {
        let local = is_loopback(url);
        let cell = if local { &self.loopback } else { &self.outside };
        cell.get_or_try_init(|| build(local, self.extra_ca.as_deref()))
    }
}

/// Whether a URL leads to this machine.
#[must_use]
pub fn is_loopback(url: &reqwest::Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        None => false,
    }
}

fn build(local: bool, extra_ca: Option<&Path>) -> Result<reqwest::Client> {
    // A second call finds a provider installed already, which is just as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let extra = match extra_ca {
        Some(path) => certificates(path)?,
        None => Vec::new(),
    };
    let builder = || {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("crabbox-vast/", env!("CARGO_PKG_VERSION")))
            .http1_only()
            .retry(reqwest::retry::never())
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .tcp_nodelay(true)
            .pool_idle_timeout(Duration::from_secs(30))
            .connect_timeout(Duration::from_secs(10));
        if local { builder.no_proxy() } else { builder }
    };
    let with_system_roots =
        if extra.is_empty() { builder().build() } else { builder().tls_certs_merge(extra.clone()).build() };
    with_system_roots
        .or_else(|_| {
            // Slim images have no certificate store at all; the platform verifier then refuses to be built.
            let bundled = webpki_root_certs::TLS_SERVER_ROOT_CERTS
                .iter()
                .filter_map(|der| reqwest::Certificate::from_der(der).ok())
                .chain(extra);
            builder().tls_certs_only(bundled).build()
        })
        .map_err(|error| {
            Error::new(Code::Internal, format!("cannot set up HTTPS: {}", chain(&error))).because(error)
        })
}

fn certificates(path: &Path) -> Result<Vec<reqwest::Certificate>> {
    let refuse = |why: String| {
        Error::new(Code::InvalidConfig, format!("cannot use the CA file {}: {why}", path.display()))
            .hint("NODE_EXTRA_CA_CERTS names a PEM file with certificates; correct it or unset it")
    };
    let pem = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
    reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| refuse(chain(&error)))
}

#[async_trait]
impl Http for ReqwestHttp {
    async fn send(&self, request: HttpRequest) -> Result<HttpReply, TransportError> {
        let fail = |kind, message: String| TransportError { kind, message };
        let url = reqwest::Url::parse(&request.url)
            .map_err(|error| fail(TransportErrorKind::NotSent, format!("not a URL: {error}")))?;
        let client =
            self.client(&url).map_err(|error| fail(TransportErrorKind::NotSent, error.to_string()))?;
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Delete => reqwest::Method::DELETE,
        };
        let mut builder = client.request(method, url).header("Accept", "application/json");
        if let Some(key) = &request.bearer {
            let mut value =
                HeaderValue::from_str(&format!("Bearer {}", key.expose_secret())).map_err(|_| {
                    fail(TransportErrorKind::NotSent, "the API key has characters no header can carry".into())
                })?;
            value.set_sensitive(true);
            builder = builder.header(AUTHORIZATION, value);
        }
        if let Some(body) = request.body {
            builder = builder.header(CONTENT_TYPE, "application/json").body(body);
        }
        let limits = request.limits;
        let answered = tokio::time::timeout(limits.connect + limits.headers, builder.send()).await;
        let mut reply = match answered {
            Err(_) => {
                let seconds = (limits.connect + limits.headers).as_secs();
                return Err(fail(TransportErrorKind::TimedOut, format!("no answer within {seconds} s")));
            }
            Ok(Err(error)) => {
                let kind = if error.is_connect() {
                    TransportErrorKind::NotSent
                } else if error.is_timeout() {
                    TransportErrorKind::TimedOut
                } else {
                    TransportErrorKind::Broken
                };
                return Err(fail(kind, chain(&error)));
            }
            Ok(Ok(reply)) => reply,
        };
        let header =
            |name| reply.headers().get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
        let (status, retry_after, location, date) =
            (reply.status().as_u16(), header(RETRY_AFTER), header(LOCATION), header(DATE));
        let mib = limits.body_bytes / 1024 / 1024;
        let too_large = || fail(TransportErrorKind::BadBody, format!("the answer is larger than {mib} MiB"));
        if reply.content_length().is_some_and(|length| length > limits.body_bytes as u64) {
            return Err(too_large());
        }
        let read = async {
            let mut body = Vec::new();
            while let Some(chunk) = reply.chunk().await.map_err(|error| {
                let kind = if is_badly_packed(&error) {
                    TransportErrorKind::BadBody
                } else {
                    TransportErrorKind::Broken
                };
                fail(kind, chain(&error))
            })? {
                if body.len() + chunk.len() > limits.body_bytes {
                    return Err(too_large());
                }
                body.extend_from_slice(&chunk);
            }
            Ok(body)
        };
        match tokio::time::timeout(limits.body, read).await {
            Err(_) => {
                let seconds = limits.body.as_secs();
                Err(fail(TransportErrorKind::TimedOut, format!("the answer stalled for {seconds} s")))
            }
            Ok(body) => Ok(HttpReply { status, retry_after, location, date, body: body?.into() }),
        }
    }
}

/// Whether a body came as it was sent and cannot be decompressed. The library says the same of every body that breaks
/// off; only there a cause is the connection's own error.
fn is_badly_packed(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if !inner.is::<std::io::Error>() && !inner.is::<reqwest::Error>() {
            return false;
        }
        cause = inner.source();
    }
    error.is_decode()
}

/// An error with its causes and without its URL, whose query may be a credential.
fn chain(error: &reqwest::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if parts.last() != Some(&text) {
            parts.push(text);
        }
        cause = inner.source();
    }
    if parts.is_empty() {
        parts.push(if error.is_builder() { "bad request".into() } else { "connection failed".into() });
    }
    parts.join(": ")
}
