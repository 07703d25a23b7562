//! Flags that several commands share.

use clap::{Arg, Args};
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

/// Which leases a list or a cleanup keeps to.
pub fn pond() -> Arg {
    Arg::new("pond").long("pond").value_name("NAME").help("Only the leases of this pond")
}
