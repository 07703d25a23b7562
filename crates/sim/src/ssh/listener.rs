//! A port of an instance.

use super::machine::Machine;
use super::session::Session;
use crate::api::{Door, SshAccess};
use crate::shared::Shared;
use russh::server::Config;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Serves a port until its time is over.
pub(crate) async fn serve(
    listener: TcpListener,
    machine: Arc<Machine>,
    door: Door,
    shared: Weak<Shared>,
    end: CancellationToken,
) {
    let config = Arc::new(config(&machine));
    loop {
        let accepted = tokio::select! {
            biased;
            () = end.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let Some(strong) = shared.upgrade() else { return };
        // The vendor's proxy, and a container's port mapping, accept before anything listens behind them.
        if strong.ssh_access(machine.container.id, door) == SshAccess::Closed {
            continue;
        }
        let (machine, shared, config) = (Arc::clone(&machine), shared.clone(), Arc::clone(&config));
        tokio::spawn(connection(stream, config, machine, door, shared));
    }
}

async fn connection(
    stream: TcpStream,
    config: Arc<Config>,
    machine: Arc<Machine>,
    door: Door,
    shared: Weak<Shared>,
) {
    let _ = stream.set_nodelay(true);
    let run = machine.run();
    let serve = async {
        let session = Session::new(machine, door, shared);
        let Ok(running) = russh::server::run_stream(config, stream, session).await else { return };
        let handle = running.handle();
        tokio::select! {
            biased;
            () = run.cancelled() => {
                let reason = russh::Disconnect::ByApplication;
                let _ = handle.disconnect(reason, "the container stopped".to_owned(), String::new()).await;
            }
            // However a session ends, there is nobody to tell.
            _ = running => {}
        }
    };
    serve.await;
}

fn config(machine: &Machine) -> Config {
    Config {
        methods: russh::MethodSet::from(&[russh::MethodKind::PublicKey][..]),
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![machine.host_key.clone()],
        inactivity_timeout: None,
        nodelay: true,
        ..Config::default()
    }
}
