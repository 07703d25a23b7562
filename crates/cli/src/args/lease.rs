//! Flags that several commands share.

use clap::Args;
use crabbox_vast_engine::{Code, Error, Result};

/// The flags of every command that talks to Vast.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Print one JSON document on standard output, for failures too
    #[arg(long)]
    pub json: bool,
    /// Print no progress
    #[arg(long, short)]
    pub quiet: bool,
    /// Use a simulated Vast: no account, no key, no costs
    #[arg(long)]
    pub sim: bool,
    /// Operating system of the machine; only linux
    #[arg(long = "target", hide = true, default_value = "linux")]
    pub system: String,
}

/// Which lease.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// Lease id, slug or instance id
    #[arg(value_name = "LEASE")]
    name: Option<String>,
    /// The same as a flag
    #[arg(long, value_name = "LEASE")]
    id: Option<String>,
}

impl Target {
    /// The identifier that was given, as argument or flag.
    pub fn identifier(&self, command: &str) -> Result<String> {
        match (&self.name, &self.id) {
            (Some(_), Some(_)) => Err(Error::new(Code::InvalidArgument, "the lease is named twice")
                .hint("give it as an argument or with --id, not both")),
            (Some(lease), None) | (None, Some(lease)) if !lease.trim().is_empty() => {
                Ok(lease.trim().to_owned())
            }
            _ => Err(Error::new(
                Code::InvalidArgument,
                format!("usage: crabbox-vast {command} [flags] <lease>"),
            )
            .hint("`crabbox-vast list` shows your leases")),
        }
    }
}

/// Flags of crabbox that choose what Vast machines do not have. They are read so that the refusal can say so.
#[derive(Debug, Clone, Args)]
pub struct Unsupported {
    #[arg(long, hide = true)]
    class: Option<String>,
    #[arg(long = "type", hide = true)]
    machine: Option<String>,
    #[arg(long, hide = true)]
    desktop: bool,
    #[arg(long, hide = true)]
    browser: bool,
    #[arg(long, hide = true)]
    code: bool,
    #[arg(long, hide = true)]
    tailscale: bool,
    /// Accepted and ignored, as crabbox does for Vast.
    #[arg(long, hide = true)]
    market: Option<String>,
    /// Every machine is reached over its public address.
    #[arg(long, hide = true)]
    network: Option<String>,
}

impl Unsupported {
    /// Refuses whatever was given.
    pub fn check(&self) -> Result<()> {
        let given = [
            ("class", self.class.is_some()),
            ("type", self.machine.is_some()),
            ("desktop", self.desktop),
            ("browser", self.browser),
            ("code", self.code),
            ("tailscale", self.tailscale),
            ("network tailscale", self.network.as_deref() == Some("tailscale")),
        ];
        match given.iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((flag, _)) => {
                Err(Error::new(Code::InvalidArgument, format!("provider=vast does not support --{flag}"))
                    .hint("choose a machine with --vast-gpu-name, --vast-gpu-count and --vast-max-dph-total"))
            }
        }
    }
}
