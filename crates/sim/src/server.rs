//! HTTP/1.1 on loopback: a skin over the world.

use crate::api::{Delivery, Reply, Request, parse_query};
use crate::shared::Shared;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// How long a truncated body's first half is given to leave before the connection breaks.
const FLUSH: Duration = Duration::from_millis(20);

/// Serves until the simulator ends.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>, latency: Duration) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.end.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        // A failed accept (no descriptors left) passes; there is nobody to tell.
        let Ok((stream, address)) = accepted else { continue };
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let end = shared.end.clone();
            tokio::select! {
                biased;
                () = end.cancelled() => {}
                () = connection(stream, address, shared, latency) => {}
            }
        });
    }
}

async fn connection(stream: TcpStream, address: SocketAddr, shared: Arc<Shared>, latency: Duration) {
    let reset = Arc::new(AtomicBool::new(false));
    let service = service_fn({
        let reset = Arc::clone(&reset);
        move |request| answer(request, address, Arc::clone(&shared), latency, Arc::clone(&reset))
    });
    let mut connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let ended = (&mut connection).await;
    if ended.is_err() && reset.load(Ordering::Relaxed) {
        // Without lingering, closing sends a reset instead of an orderly end.
        let _ = connection.into_parts().io.into_inner().set_zero_linger();
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    address: SocketAddr,
    shared: Arc<Shared>,
    latency: Duration,
    reset: Arc<AtomicBool>,
) -> Result<hyper::Response<Delivered>, io::Error> {
    let request = read(request, address).await?;
    let is_api = !request.path.starts_with("/_sim/");
    if is_api {
        tokio::time::sleep(latency / 2).await;
    }
    let reply = shared.handle(&request);
    if is_api {
        tokio::time::sleep(latency / 2 + reply.delay).await;
    }
    if reply.delivery == Delivery::Reset {
        reset.store(true, Ordering::Relaxed);
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    response(reply)
}

async fn read(request: hyper::Request<Incoming>, address: SocketAddr) -> Result<Request, io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let bearer = head
        .headers
        .get(hyper::header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .map(|key| key.trim().to_owned());
    Ok(Request {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().map(parse_query).unwrap_or_default(),
        bearer,
        client_ip: Some(address.ip().to_string()),
        body: body.to_vec(),
    })
}

fn response(reply: Reply) -> Result<hyper::Response<Delivered>, io::Error> {
    let mut response = hyper::Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    let whole = reply.body.len();
    let (length, end) = match reply.delivery {
        Delivery::Truncate(length) => (length.min(whole), End::Break),
        Delivery::Stall => (0, End::Never),
        Delivery::Whole | Delivery::Reset => (whole, End::Orderly),
    };
    // The length is that of the whole body even where less arrives: that is what makes it a truncation.
    response = response.header(hyper::header::CONTENT_LENGTH, whole);
    let first = Bytes::from(reply.body).slice(..length);
    let body = Delivered { first: Some(first), end, pause: Box::pin(tokio::time::sleep(FLUSH)) };
    response.body(body).map_err(io::Error::other)
}

/// A body as far as it is delivered.
struct Delivered {
    first: Option<Bytes>,
    end: End,
    pause: Pin<Box<tokio::time::Sleep>>,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Orderly,
    Break,
    Never,
}

impl Body for Delivered {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(first) = self.first.take().filter(|first| !first.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        match self.end {
            End::Orderly => Poll::Ready(None),
            End::Never => Poll::Pending,
            End::Break => self
                .pause
                .as_mut()
                .poll(context)
                .map(|()| Some(Err(io::Error::from(io::ErrorKind::ConnectionAborted)))),
        }
    }
}
