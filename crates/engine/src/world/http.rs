//! The seam to the Vast API: one request, one reply. Pacing, retries, redirects and decoding are above it.

use async_trait::async_trait;
use bytes::Bytes;
use secrecy::SecretString;
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

/// One request as it goes out. The URL never holds a secret.
#[derive(Debug, Clone)]
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

/// One reply, body whole and decompressed. Redirects come back as they are (3xx).
#[derive(Debug, Clone, Default)]
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
