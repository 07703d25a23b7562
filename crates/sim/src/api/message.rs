//! A request and its reply, as data: what a skin (HTTP server, memory) carries in and out of the core.

use serde_json::{Value, json};
use std::time::Duration;

/// One API request, already taken off the wire.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The method in capitals, such as `PUT`.
    pub method: String,
    /// The path with its leading slash and without the query, percent-decoded only where needed for ids.
    pub path: String,
    /// The decoded query pairs in their order.
    pub query: Vec<(String, String)>,
    /// The token of `Authorization: Bearer …`, when one was sent.
    pub bearer: Option<String>,
    /// The caller's address without the port; part of a caller's identity for the search limit.
    pub client_ip: Option<String>,
    /// The body as it came.
    pub body: Vec<u8>,
}

impl Request {
    /// A request without a body.
    pub fn new(method: &str, path: &str) -> Self {
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, parse_query(query)),
            None => (path, Vec::new()),
        };
        Self { method: method.to_owned(), path: path.to_owned(), query, ..Self::default() }
    }

    /// The same request with a bearer token.
    #[must_use]
    pub fn bearer(mut self, key: &str) -> Self {
        self.bearer = Some(key.to_owned());
        self
    }

    /// The same request with a JSON body.
    #[must_use]
    pub fn json(mut self, body: &Value) -> Self {
        self.body = body.to_string().into_bytes();
        self
    }

    /// The first value of a query parameter.
    pub fn query_value(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The credential as the vendor reads it: the bearer, else the old `api_key` query parameter.
    pub(crate) fn credential(&self) -> Option<&str> {
        self.bearer.as_deref().or_else(|| self.query_value("api_key"))
    }
}

/// Splits a query string into decoded pairs.
pub fn parse_query(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
    };
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) => (decode(key), decode(value)),
            None => (decode(pair), String::new()),
        })
        .collect()
}

/// What happens to a reply on its way to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Delivery {
    /// The whole reply arrives.
    #[default]
    Whole,
    /// The connection is reset before the first byte.
    Reset,
    /// Headers and this many bytes of the body arrive, then the connection is reset.
    Truncate(usize),
    /// Headers arrive, the body never does, and the connection stays open.
    Stall,
}

/// One API reply.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Header pairs; always with a content type where there is a body.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// How long the skin holds the reply back, in real time.
    pub delay: Duration,
    /// What the skin does to the connection.
    pub delivery: Delivery,
}

impl Reply {
    /// A JSON reply.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::typed(status, "application/json", body.to_string().into_bytes())
    }

    /// A reply with any content type.
    pub fn typed(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body: body.into(),
            delay: Duration::ZERO,
            delivery: Delivery::Whole,
        }
    }

    /// 200 with `{"success": true}`.
    pub(crate) fn success() -> Self {
        Self::json(200, &json!({"success": true}))
    }

    /// The vendor's usual error envelope.
    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::json(status, &json!({"success": false, "error": code, "msg": message}))
    }

    /// The body as JSON; `Null` where it is none.
    pub fn body_json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}
