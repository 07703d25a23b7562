//! The seam to the Vast API: one request, one reply. Pacing, retries, redirects and decoding are above it.

use async_trait::async_trait;
use bytes::Bytes;
use secrecy::SecretString;
use std::fmt;
use std::time::Duration;

/// HTTP method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// GET
    Get,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
}

impl Method {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
        }
    }
}

/// Limits on one exchange.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Until the connection stands (TCP and TLS).
    pub connect: Duration,
    /// From the request until the reply's headers.
    pub headers: Duration,
    /// From the headers until the whole body.
    pub body: Duration,
    /// Largest body in bytes after decompression.
    pub body_bytes: usize,
}

/// One request as it goes out. Printed without what may be a secret: of the URL, which a log's signature makes a
/// credential, the path, of the body its size.
#[derive(Clone)]
pub struct HttpRequest {
    /// Method.
    pub method: Method,
    /// Absolute URL, query included.
    pub url: String,
    /// Sent as `Authorization: Bearer …` when present.
    pub bearer: Option<SecretString>,
    /// JSON body; sent with `Content-Type: application/json`.
    pub body: Option<Bytes>,
    /// Time and size limits.
    pub limits: Limits,
}

/// One reply, body whole and decompressed. Redirects come back as they are (3xx). Printed without its body, which may
/// hold an instance's key, and without the query of an address.
#[derive(Clone, Default)]
pub struct HttpReply {
    /// Status code.
    pub status: u16,
    /// `Retry-After`, if it was sent.
    pub retry_after: Option<String>,
    /// `Location`, if it was sent.
    pub location: Option<String>,
    /// `Date`, if it was sent.
    pub date: Option<String>,
    /// Body.
    pub body: Bytes,
}

impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .field("path", &path(&self.url))
            .field("with_key", &self.bearer.is_some())
            .field("body_bytes", &self.body.as_ref().map(Bytes::len))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for HttpReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpReply")
            .field("status", &self.status)
            .field("retry_after", &self.retry_after)
            .field("location", &self.location.as_deref().map(path))
            .field("date", &self.date)
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

/// The path of a URL: without host, which may come with a password, and query.
fn path(url: &str) -> &str {
    let address = url.split(['?', '#']).next().unwrap_or_default();
    match address.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => address,
    }
}

/// What broke an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportErrorKind {
    /// No connection stood: not one byte of the request was sent.
    NotSent,
    /// The time limit passed after the request may have been sent.
    TimedOut,
    /// The connection broke after the request may have been sent.
    Broken,
    /// The body is larger than the limit or cannot be decompressed.
    BadBody,
}

/// A failed exchange. The message holds no query string and no credentials.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct TransportError {
    /// Which kind.
    pub kind: TransportErrorKind,
    /// One line with the chain of causes.
    pub message: String,
}

/// Sends one request once: no retry, no redirect, no cookie.
#[async_trait]
pub trait Http: Send + Sync {
    /// Sends `request` and reads the whole reply within its limits.
    async fn send(&self, request: HttpRequest) -> Result<HttpReply, TransportError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_holds_no_secret() {
        let second = Duration::from_secs(1);
        let request = HttpRequest {
            method: Method::Get,
            url: "https://user:CANARY@logs.example/a/7.log?signature=CANARY#CANARY".into(),
            bearer: Some("CANARY".to_owned().into()),
            body: Some("CANARY".into()),
            limits: Limits { connect: second, headers: second, body: second, body_bytes: 1 },
        };
        let reply = HttpReply {
            status: 200,
            location: Some("/b?signature=CANARY".into()),
            body: r#"{"instance_api_key":"CANARY"}"#.into(),
            ..HttpReply::default()
        };
        let shown = format!("{request:?} {reply:?}");
        assert!(!shown.contains("CANARY"), "{shown}");
        for said in ["Get", "\"/a/7.log\"", "Some(6)", "200", "\"/b\"", "29"] {
            assert!(shown.contains(said), "{said} in {shown}");
        }
        assert_eq!(["https://x", "https://x/", "rel?q"].map(path), ["/", "/", "rel"]);
    }
}
