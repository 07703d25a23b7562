//! crabbox's flags for machines and services that Vast does not have. They are read so that what becomes of them can be said: a
//! value that means what a Vast machine is anyway passes, one that changes nothing is told, everything else is refused.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use crabbox_vast_engine::{Code, Error, Result};

/// What becomes of a flag.
enum Meaning {
    /// It asks for what is done anyway.
    Agreed,
    /// It changes nothing; what does.
    Idle(&'static str),
    /// It asks for what does not exist here; what to use.
    Refused(&'static str),
}

use Meaning::{Agreed, Idle, Refused};

/// A flag of crabbox.
struct Foreign {
    name: &'static str,
    /// Whether it takes a value.
    valued: bool,
    /// What its value means; of a switch the value is empty.
    meaning: fn(&str) -> Meaning,
}

const fn switch(name: &'static str, meaning: fn(&str) -> Meaning) -> Foreign {
    Foreign { name, valued: false, meaning }
}

const fn valued(name: &'static str, meaning: fn(&str) -> Meaning) -> Foreign {
    Foreign { name, valued: true, meaning }
}

const CHOOSE: &str = "choose a machine with --vast-gpu-name, --vast-gpu-count and --vast-max-dph-total";
const SCREEN: &str = "use a --vast-image that brings it, and `tunnel` to reach it";
const TAILNET: &str = "a machine is reached over SSH at its public address; `tunnel` forwards its ports";
const PROMOTED: &str = "choose the image with --vast-image";
const COORDINATOR: &str = "pools need crabbox's coordinator";
const PULL_REQUEST: &str = "check the pull request out here and run";
const WRITE_OUT: &str = "write the command out";
const DOCUMENT: &str = "`run --json` prints what was done as a document";

/// Those of every command that talks to Vast.
const EVERY: &[Foreign] = &[
    valued("windows-mode", |value| match value {
        "normal" => Agreed,
        _ => Refused("the machines run linux containers"),
    }),
    valued("network", |value| match value {
        "auto" | "public" => Agreed,
        _ => Refused(TAILNET),
    }),
];

/// Those of the commands that create a lease.
const CREATION: &[Foreign] = &[
    valued("class", |_| Refused(CHOOSE)),
    valued("type", |_| Refused(CHOOSE)),
    valued("arch", |value| match value {
        "amd64" | "x86_64" | "x64" => Agreed,
        _ => Refused("Vast.ai machines are rented as amd64"),
    }),
    valued("os", |value| match value.split(':').next().unwrap_or_default() {
        "windows" | "macos" | "darwin" => Refused("the machines run linux containers"),
        _ => Idle("the image decides, see --vast-image"),
    }),
    valued("ssh-port", |value| match value.parse::<u16>() {
        Ok(22) => Agreed,
        Ok(1..) => Idle("Vast.ai assigns the port"),
        _ => Refused("a port is a number from 1 to 65535"),
    }),
    valued("market", |value| match value {
        "on-demand" => Agreed,
        "spot" => Idle("use --vast-instance-type interruptible"),
        _ => Refused("use --vast-instance-type"),
    }),
    switch("tailscale", |_| Refused(TAILNET)),
    valued("tailscale-tags", |_| Refused(TAILNET)),
    valued("tailscale-hostname-template", |_| Refused(TAILNET)),
    valued("tailscale-auth-key-env", |_| Refused(TAILNET)),
    valued("tailscale-exit-node", |_| Refused(TAILNET)),
    switch("tailscale-exit-node-allow-lan-access", |_| Refused(TAILNET)),
    switch("desktop", |_| Refused(SCREEN)),
    valued("desktop-env", |_| Idle("there is no desktop")),
    switch("browser", |_| Refused(SCREEN)),
    switch("code", |_| Refused(SCREEN)),
    valued("image-min-os", |_| Refused(PROMOTED)),
    valued("image-sdk", |_| Refused(PROMOTED)),
    valued("image-runtime", |_| Refused(PROMOTED)),
    switch("image-require-browser", |_| Refused(PROMOTED)),
    switch("image-require-webview2", |_| Refused(PROMOTED)),
    switch("image-require-desktop", |_| Refused(PROMOTED)),
    valued("cache-volume", |_| {
        Refused("a stopped lease keeps its disk: `stop --vast-release-action stop`, then `start`")
    }),
];

/// Those of `warmup` alone. A fresh lease belongs to this repository without being reclaimed.
const WARMUP: &[Foreign] = &[
    switch("reclaim", |_| Agreed),
    switch("actions-runner", |_| Refused("register a runner with `run --id` and its own installer")),
];

/// Those of `run` alone. Two leave out what is never done here.
const RUN: &[Foreign] = &[
    switch("no-hydrate", |_| Agreed),
    switch("debug", |_| Agreed),
    valued("pool", |_| Refused(COORDINATOR)),
    valued("pool-return", |_| Refused(COORDINATOR)),
    valued("pool-compatibility-key", |_| Refused(COORDINATOR)),
    valued("pool-identity-file", |_| Refused(COORDINATOR)),
    valued("lease-output", |_| Refused("`warmup --json` prints the lease as a document")),
    valued("junit", |_| Refused("fetch the report with --artifact-glob")),
    switch("results-auto", |_| Refused("fetch reports with --artifact-glob")),
    switch("fail-on-test-failures", |_| Refused("the exit code of the command is passed on")),
    switch("preflight", |_| Refused("look at the machine with `connect`")),
    valued("preflight-tools", |_| Refused("look at the machine with `connect`")),
    valued("fresh-pr", |_| Refused(PULL_REQUEST)),
    switch("apply-local-patch", |_| Refused(PULL_REQUEST)),
    valued("env-helper", |_| Refused("hand the variables to each run with --env-from-profile")),
    valued("preset", |_| Refused(WRITE_OUT)),
    valued("preset-var", |_| Refused(WRITE_OUT)),
    valued("scenario", |_| Refused(WRITE_OUT)),
    valued("emit-proof", |_| Refused(DOCUMENT)),
    valued("proof-template", |_| Refused(DOCUMENT)),
    valued("attest", |_| Refused(DOCUMENT)),
    valued("attest-key", |_| Refused(DOCUMENT)),
    valued("require-artifact-schema", |_| Refused("check the file's content in the command")),
    valued("require-artifact-change", |_| {
        Refused("remove the file in the command first, and use --require-artifact")
    }),
];

/// Adds those of this command, hidden.
pub fn flags(command: Command) -> Command {
    let own: &[&[Foreign]] = match command.get_name() {
        "run" => &[EVERY, CREATION, RUN],
        "warmup" => &[EVERY, CREATION, WARMUP],
        _ => &[EVERY],
    };
    let known = own.iter().copied().flatten().map(|flag| {
        let action = if flag.valued { ArgAction::Append } else { ArgAction::SetTrue };
        Arg::new(flag.name).long(flag.name).action(action).hide(true)
    });
    command.args(known)
}

/// Refuses what was given and asks for something else than a Vast machine; what changes nothing, in one line each.
pub fn check(matches: &ArgMatches) -> Result<Vec<String>> {
    let given = |name: &str| {
        let mut ids = matches.ids().map(clap::Id::as_str);
        ids.any(|id| id == name) && matches.value_source(name) == Some(ValueSource::CommandLine)
    };
    let mut idle = Vec::new();
    for flag in [EVERY, CREATION, RUN, WARMUP].into_iter().flatten().filter(|flag| given(flag.name)) {
        let values: Vec<&str> = match flag.valued {
            true => {
                matches.get_many::<String>(flag.name).unwrap_or_default().map(|value| value.trim()).collect()
            }
            false => vec![""],
        };
        for value in values {
            let shown = format!("--{} {value}", flag.name);
            match (flag.meaning)(value) {
                Agreed => {}
                Idle(instead) => idle.push(format!("{} has no effect: {instead}", shown.trim_end())),
                Refused(instead) => {
                    let message = format!("provider=vast does not support {}", shown.trim_end());
                    return Err(Error::new(Code::InvalidArgument, message).hint(instead));
                }
            }
        }
    }
    Ok(idle)
}
