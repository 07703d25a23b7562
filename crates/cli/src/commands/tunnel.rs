//! `tunnel`: ports of this machine that lead to an instance.

use crate::session::Session;
use clap::{ArgMatches, Args, Command};
use crabbox_vast_engine::ops::TunnelRequest;
use crabbox_vast_engine::{Code, Result};

#[derive(Debug, Args)]
struct Options {
    /// Lease id, slug or instance id
    #[arg(value_name = "LEASE")]
    lease: String,
    /// What to forward: LOCAL, LOCAL:PORT or LOCAL:HOST:PORT; a local port of 0 takes any that is free
    #[arg(value_name = "PORTS", required = true)]
    ports: Vec<String>,
    /// Take over a lease that another repository made
    #[arg(long)]
    reclaim: bool,
}

pub fn definition() -> Command {
    super::command::<Options>("tunnel", false)
        .about("Forward ports of this machine to a lease, until interrupted")
        .after_help(
            "Examples:\n  crabbox-vast tunnel swift-krill 8888\n  crabbox-vast tunnel swift-krill 8080:80 5432:db.local:5432\n\n\
             Only this machine reaches the ports. The lease counts as used while the tunnel is open; a dropped\n\
             connection is opened again. Ctrl-C ends it with exit code 0.",
        )
}

pub async fn run(matches: &ArgMatches, session: &Session) -> Result<u8> {
    let options: Options = super::read(matches)?;
    let forwards = options.ports.iter().map(|text| text.parse()).collect::<Result<_>>()?;
    let request = TunnelRequest { identifier: options.lease, reclaim: options.reclaim, forwards };
    let tunnel = session.engine()?.tunnel(&request, &session.call).await?;
    session.progress.pause();
    let facts = tunnel.facts();
    if session.json {
        session.printer.json(&super::run::document(&facts)?);
    } else {
        for forward in &facts.forwards {
            let host = &forward.host;
            let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            session
                .printer
                .line(&format!("forwarding 127.0.0.1:{} -> {host}:{}", forward.local, forward.port));
        }
    }
    match tunnel.serve(&session.call).await {
        // This is how a tunnel ends.
        Err(error) if error.code() == Code::Cancelled => Ok(0),
        Err(error) if session.json => {
            // The one document is out.
            session.printer.note(&error.to_string());
            Ok(error.exit_code())
        }
        outcome => outcome.map(|()| 0),
    }
}
