//! The engine of a call, over this process's network, files and SSH.

use crate::convert::{CallContext, Context};
use crabbox_vast_engine::config::Settings;
use crabbox_vast_engine::ssh::RusshSsh;
use crabbox_vast_engine::world::real::{RealAmbient, RealFiles, RealLocal, ReqwestHttp};
use crabbox_vast_engine::world::{Disk, World};
use crabbox_vast_engine::{Engine, Result};
use once_cell::sync::Lazy;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// An engine for one call.
pub(crate) fn engine(context: CallContext) -> Result<Engine> {
    engine_for(Context::try_from(context)?.settings()?)
}

/// An engine with these settings.
pub(crate) fn engine_for(settings: Settings) -> Result<Engine> {
    Engine::new(world(settings.extra_ca_file.clone()), settings)
}

/// The real world. Connections and certificates are kept between calls: one HTTP client for each CA file.
pub(crate) fn world(extra_ca: Option<PathBuf>) -> World {
    static CLIENTS: Lazy<Mutex<HashMap<Option<PathBuf>, Arc<ReqwestHttp>>>> = Lazy::new(Mutex::default);
    static AMBIENT: Lazy<Arc<RealAmbient>> = Lazy::new(|| Arc::new(RealAmbient::detect()));
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    let http = clients.entry(extra_ca.clone()).or_insert_with(|| Arc::new(ReqwestHttp::new(extra_ca)));
    World {
        http: http.clone(),
        disk: Disk::blocking(Arc::new(RealFiles)),
        local: Arc::new(RealLocal),
        ssh: Arc::new(RusshSsh),
        ambient: AMBIENT.clone(),
    }
}
