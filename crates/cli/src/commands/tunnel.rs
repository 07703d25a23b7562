//! `tunnel`: ports of this machine that lead to an instance.

use crate::advice;
use crate::session::Session;
use clap::{ArgMatches, Args, Command};
use crabbox_vast_engine::ops::TunnelRequest;
use crabbox_vast_engine::{Code, Error, Result};

#[derive(Debug, Args)]
struct Options {
    /// The lease (id, slug or instance id), and what to forward: LOCAL, LOCAL:PORT or LOCAL:HOST:PORT; a local port of 0
    /// takes any that is free
    #[arg(value_name = "LEASE PORTS", required = true)]
    words: Vec<String>,
    /// The lease as a flag; then the one word is a port of the machine, and its URL here is printed
    #[arg(long, value_name = "LEASE")]
    id: Option<String>,
    /// With --id, the port here; by default any that is free
    #[arg(long, value_name = "PORT", default_value_t = 0, requires = "id")]
    local_port: u16,
    /// Take over a lease that another repository made
    #[arg(long)]
    reclaim: bool,
}

pub fn definition() -> Command {
    super::command::<Options>("tunnel", false)
        .about("Forward ports of this machine to a lease, until interrupted")
        .override_usage(
            "crabbox-vast tunnel [flags] <lease> <ports...>\n       \
             crabbox-vast tunnel [flags] --id <lease> [--local-port <port>] <port>",
        )
        .after_help(
            "Examples:\n  crabbox-vast tunnel swift-krill 8888\n  crabbox-vast tunnel swift-krill 8080:80 5432:db.local:5432\n\n\
             Only this machine reaches the ports. The lease counts as used while the tunnel is open; a dropped\n\
             connection is opened again. Ctrl-C ends it with exit code 0.",
        )
}

impl Options {
    /// The lease and its forwards. With the flag a single word is a port of the machine, as crabbox takes it.
    fn wanted(&self) -> Result<(String, Vec<String>)> {
        match (&self.id, self.words.as_slice()) {
            (None, [lease, ports @ ..]) if !ports.is_empty() => Ok((lease.clone(), ports.to_vec())),
            (Some(lease), [port]) if port.parse::<u16>().is_ok() => {
                Ok((lease.clone(), vec![format!("{}:{port}", self.local_port)]))
            }
            _ => Err(Error::new(
                Code::InvalidArgument,
                "usage: crabbox-vast tunnel <lease> <ports...>, or tunnel --id <lease> [--local-port <port>] <port>",
            )
            .hint("for example: crabbox-vast tunnel swift-krill 8080:80")),
        }
    }
}

pub async fn run(matches: &ArgMatches, session: &Session) -> Result<u8> {
    let options: Options = super::read(matches)?;
    let shows_url = options.id.is_some();
    let (identifier, ports) = options.wanted()?;
    let forwards = ports.iter().map(|text| text.parse()).collect::<Result<_>>()?;
    let request = TunnelRequest { identifier, reclaim: options.reclaim, forwards };
    let tunnel = session.engine()?.tunnel(&request, &session.call).await?;
    session.progress.pause();
    let facts = tunnel.facts();
    if session.json {
        session.printer.json(&super::run::document(&facts)?);
    } else if shows_url {
        facts.forwards.iter().for_each(|forward| {
            session.printer.line(&format!("http://127.0.0.1:{}", forward.local));
        });
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
            // The one document is out: this one goes to standard error.
            let error = advice::on_failure(error, session.is_simulation());
            session.printer.note(&error.to_json().to_string());
            Ok(error.exit_code())
        }
        outcome => outcome.map(|()| 0),
    }
}
