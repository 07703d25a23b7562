//! A connection forwarded through an instance.

use russh::server::{ChannelOpenHandle, Msg};
use russh::{Channel, ChannelOpenFailure};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// Connects first and accepts after, so that a refusal arrives as one.
pub(crate) async fn serve(
    channel: Channel<Msg>,
    target: (String, u16),
    reply: ChannelOpenHandle,
    run: CancellationToken,
) {
    let connected = tokio::select! {
        biased;
        () = run.cancelled() => return,
        connected = TcpStream::connect((target.0.as_str(), target.1)) => connected,
    };
    let Ok(mut socket) = connected else {
        reply.reject(ChannelOpenFailure::ConnectFailed).await;
        return;
    };
    let _ = socket.set_nodelay(true);
    reply.accept().await;
    let mut stream = channel.into_stream();
    tokio::select! {
        biased;
        () = run.cancelled() => {}
        // Either side may break off; the other is closed with it.
        _ = tokio::io::copy_bidirectional(&mut stream, &mut socket) => {}
    }
}
