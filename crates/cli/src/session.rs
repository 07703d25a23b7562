//! What a command works with: settings, the world, the engine and the listener.

use crate::advice;
use crate::args::Common;
use crate::printer::Printer;
use crate::progress::Progress;
use crate::signals;
use crate::simulate::{self, Simulation};
use crabbox_vast_engine::config::{OverrideOrigin, Overrides, Resolved, SETTINGS, Settings, Snapshot};
use crabbox_vast_engine::ssh::RusshSsh;
use crabbox_vast_engine::world::real::{RealAmbient, RealFiles, RealLocal, ReqwestHttp};
use crabbox_vast_engine::world::{Disk, World};
use crabbox_vast_engine::{Call, Code, Engine, Error, Result};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The environment of this process. Variables that are not valid UTF-8 are none of ours.
pub fn snapshot() -> Result<Snapshot> {
    let vars = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let cwd = std::env::current_dir().map_err(|error| {
        Error::new(Code::InvalidConfig, format!("the working directory is unknown: {error}"))
            .hint("change to a directory that exists")
    })?;
    Ok(Snapshot { vars, cwd })
}

/// The production seams.
pub fn world(settings: Option<&Settings>) -> World {
    World {
        http: Arc::new(ReqwestHttp::new(settings.and_then(|settings| settings.extra_ca_file.clone()))),
        disk: Disk::blocking(Arc::new(RealFiles)),
        local: Arc::new(RealLocal),
        ssh: Arc::new(RusshSsh),
        ambient: Arc::new(RealAmbient::detect()),
    }
}

/// One command's surroundings.
pub struct Session {
    /// Writes.
    pub printer: Printer,
    /// Shows events.
    pub progress: Progress,
    /// Passed to every operation.
    pub call: Call,
    /// Ends the operation.
    pub cancel: CancellationToken,
    /// The signal that did, if one did.
    pub interrupted: signals::Interrupted,
    /// Whether one JSON document is wanted.
    pub json: bool,
    /// The environment.
    pub snapshot: Snapshot,
    settings: Result<Settings>,
    simulation: Option<Simulation>,
}

impl Session {
    /// Resolves the settings (a failure is kept for [`Session::engine`]; `doctor` reports it) and starts to listen
    /// for signals.
    pub async fn open(common: &Common, overrides: Overrides, printer: &Printer) -> Result<Self> {
        if common.system != "linux" {
            return Err(Error::new(
                Code::InvalidArgument,
                format!("provider=vast has no {} machines", common.system),
            )
            .hint("leave --target out, or give linux"));
        }
        let progress = Progress::new(printer, common.json || common.quiet);
        let cancel = CancellationToken::new();
        let interrupted =
            signals::watch(cancel.clone(), progress.clone(), printer.clone(), common.sim, common.json);
        let (listener, sim) = (progress.clone(), common.sim);
        let tell = move |event| listener.show(advice::on_event(event, sim));
        let call = Call::new(tell, cancel.clone());
        let snapshot = snapshot()?;
        let (settings, simulation) = if common.sim {
            let (mut keyless, mut overrides) = (snapshot.clone(), overrides);
            let simulation = simulated(&mut keyless, &mut overrides).await?;
            let settings = crabbox_vast_engine::config::resolve(&keyless, &overrides);
            let settings = settings.map(|settings| Settings { paths: simulation.paths.clone(), ..settings });
            progress.say(&format!("simulation at {}: nothing is rented, nothing is billed", simulation.url));
            (settings, Some(simulation))
        } else {
            (crabbox_vast_engine::config::resolve(&snapshot, &overrides), None)
        };
        Ok(Self {
            printer: printer.clone(),
            progress,
            call,
            cancel,
            interrupted,
            json: common.json,
            snapshot,
            settings,
            simulation,
        })
    }

    /// The settings, or why there are none.
    pub fn settings(&self) -> Result<&Settings, Error> {
        self.settings.as_ref().map_err(copy)
    }

    /// The engine.
    pub fn engine(&self) -> Result<Engine> {
        let settings = self.settings()?.clone();
        Engine::new(world(Some(&settings)), settings)
    }

    /// What every hint to the user should carry: ` --sim` in a simulation.
    pub fn suffix(&self) -> &'static str {
        if self.is_simulation() { " --sim" } else { "" }
    }

    /// Whether nothing of this is rented from Vast.
    pub fn is_simulation(&self) -> bool {
        self.simulation.is_some()
    }

    /// Whether leases cannot outlive this command.
    pub fn is_fleeting(&self) -> bool {
        self.simulation.as_ref().is_some_and(Simulation::is_own)
    }

    /// Ends what this command started.
    pub async fn close(self) {
        self.progress.pause();
        if let Some(simulation) = self.simulation {
            simulation.end().await;
        }
    }
}

/// Leads a call to a simulator: its address, key and work root, and none of the account's variables.
pub async fn simulated(snapshot: &mut Snapshot, overrides: &mut Overrides) -> Result<Simulation> {
    for name in
        ["apiKey", "apiUrl"].iter().filter_map(|key| SETTINGS.iter().find(|setting| setting.key == *key))
    {
        for variable in name.env {
            snapshot.vars.remove(*variable);
        }
    }
    let paths = Resolved::load(snapshot, &Overrides::new())?.paths;
    let simulation = simulate::open(&paths).await?;
    overrides.set("apiUrl", &simulation.url, OverrideOrigin::Flag)?;
    overrides.set("apiKey", &simulation.api_key, OverrideOrigin::Option)?;
    overrides.set("workRoot", simulation.work_root.display().to_string(), OverrideOrigin::Option)?;
    Ok(simulation)
}

/// An error again, for a second report of it.
fn copy(error: &Error) -> Error {
    let mut again = Error::new(error.code(), error.to_string());
    if let Some(hint) = error.hint_text() {
        again = again.hint(hint);
    }
    for (name, value) in error.details() {
        again = again.with(name, value.clone());
    }
    again
}
