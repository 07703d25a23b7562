//! The simulated vendor as one process sees it: every call is two steps, one before its effect and one before its
//! answer.

use crate::history::Happening;
use crate::life::Life;
use crate::shared::{ORIGIN, Shared};
use async_trait::async_trait;
use crabbox_vast_engine::world::{Http, HttpReply, HttpRequest, TransportError, TransportErrorKind};
use crabbox_vast_sim::api::{Delivery, Reply, Request};
use secrecy::ExposeSecret;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct ProcessHttp {
    pub shared: Arc<Shared>,
    pub life: Arc<Life>,
}

fn fail(kind: TransportErrorKind, message: &str) -> TransportError {
    TransportError { kind, message: message.to_owned() }
}

#[async_trait]
impl Http for ProcessHttp {
    async fn send(&self, request: HttpRequest) -> Result<HttpReply, TransportError> {
        self.life.step().await;
        let Some(target) = request.url.strip_prefix(ORIGIN).filter(|target| target.starts_with('/')) else {
            // Whoever answers there has read the key by now.
            if request.bearer.is_some() {
                self.shared.note(Happening::Secret { place: format!("a call of {}", request.url) });
            }
            return Err(fail(TransportErrorKind::NotSent, "there is no such host"));
        };
        let mut out = Request::new(request.method.as_str(), target);
        out.bearer = request.bearer.as_ref().map(|key| key.expose_secret().to_owned());
        out.body = request.body.map(|body| body.to_vec()).unwrap_or_default();
        let reply = self.shared.exchange(self.life.process, request.method.as_str(), &out);
        self.life.step().await;
        let date = self.shared.vendor_date();
        let limits = request.limits;
        let delivered = deliver(reply, date, limits.headers, limits.body, limits.body_bytes).await?;
        if request.method.as_str() == "GET" {
            self.shared.note_prices(self.life.process, &delivered.body);
        }
        Ok(delivered)
    }
}

async fn deliver(
    reply: Reply,
    date: String,
    headers: Duration,
    body: Duration,
    most: usize,
) -> Result<HttpReply, TransportError> {
    if reply.delay > headers {
        tokio::time::sleep(headers).await;
        return Err(fail(TransportErrorKind::TimedOut, "no answer in time"));
    }
    tokio::time::sleep(reply.delay).await;
    match reply.delivery {
        Delivery::Whole if reply.body.len().max(declared(&reply)) > most => {
            Err(fail(TransportErrorKind::BadBody, "the answer is too large"))
        }
        Delivery::Whole => {
            let header = |name: &str| {
                let found = reply.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.clone())
            };
            Ok(HttpReply {
                status: reply.status,
                retry_after: header("retry-after"),
                location: header("location"),
                date: Some(date),
                body: reply.body.into(),
            })
        }
        Delivery::Reset | Delivery::Truncate(_) => Err(fail(TransportErrorKind::Broken, "connection reset")),
        Delivery::Stall => {
            tokio::time::sleep(body).await;
            Err(fail(TransportErrorKind::TimedOut, "the answer stalled"))
        }
    }
}

/// The length that an answer declares; such bodies are not made up here.
fn declared(reply: &Reply) -> usize {
    let mut lengths = reply.headers.iter().filter(|(name, _)| name == "content-length");
    lengths.find_map(|(_, length)| length.parse().ok()).unwrap_or(0)
}

/// The instance that a call would change, if it would change one.
pub(crate) fn changes(request: &Request) -> Option<u64> {
    if request.method == "GET" {
        return None;
    }
    let rest = request.path.strip_prefix("/api/v0/instances/")?;
    // Log requests and remote commands on a stopped container change nothing that anybody owns.
    if rest.starts_with("request_logs/") {
        return None;
    }
    rest.split('/').find_map(|part| part.parse().ok())
}

/// The offer that a call would rent.
pub(crate) fn rents(request: &Request) -> Option<u64> {
    let rest = request.path.strip_prefix("/api/v0/asks/").filter(|_| request.method == "PUT")?;
    rest.split('/').next()?.parse().ok()
}

/// Field of a JSON body.
pub(crate) fn field(body: &[u8], name: &str) -> Option<String> {
    let body: BTreeMap<String, serde_json::Value> = serde_json::from_slice(body).ok()?;
    body.get(name)?.as_str().map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::judge;
    use crate::shared::KEY;
    use crate::stage::{Stage, Treatment};
    use crate::vendor::Vendor;
    use crabbox_vast_engine::world::{Limits, Method};
    use std::collections::BTreeSet;

    async fn send(stage: &Stage, method: Method, url: &str, body: &str) -> Result<HttpReply, TransportError> {
        let life = Arc::clone(&stage.process(&Treatment::default()).life);
        let http = ProcessHttp { shared: Arc::clone(stage.shared()), life };
        let limit = Duration::from_secs(1);
        http.send(HttpRequest {
            method,
            url: url.to_owned(),
            bearer: Some(KEY.to_owned().into()),
            body: Some(body.to_owned().into()),
            limits: Limits { connect: limit, headers: limit, body: limit, body_bytes: 1 << 20 },
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_goes_elsewhere_is_a_secret_shown() {
        for url in
            ["https://elsewhere.example/api/v0/", "http://127.0.0.1:9.example/", "http://127.0.0.1:90/"]
        {
            let stage = Stage::new(1, &Vendor::default());
            assert!(send(&stage, Method::Get, url, "").await.is_err(), "{url}");
            assert_eq!(judge(&stage.history(), &BTreeSet::new(), 1.0).secrets, 1, "{url}");
        }
        let stage = Stage::new(1, &Vendor::default());
        send(&stage, Method::Get, &format!("{ORIGIN}/api/v0/users/current/"), "").await.unwrap();
        assert_eq!(judge(&stage.history(), &BTreeSet::new(), 1.0).secrets, 0);
    }

    /// What a client does that follows a redirect of a create to the same host.
    #[tokio::test(start_paused = true)]
    async fn a_create_that_is_sent_to_another_address_of_its_offer_is_a_replay() {
        let stage = Stage::new(1, &Vendor::default());
        let create = r#"{"label": "cbx1|cbx_0123456789ab|blue|provisioning"}"#;
        for url in ["/api/v0/asks/77/", "/api/v0/asks/77/?again=1"] {
            let _ = send(&stage, Method::Put, &format!("{ORIGIN}{url}"), create).await;
        }
        assert_eq!(judge(&stage.history(), &BTreeSet::new(), 1.0).double_creates, 1);
    }
}
