//! What JavaScript needs of results besides their own documents, which are the engine's: ids are text, times RFC 3339,
//! money dollars, and what is not known is `null`.

use crabbox_vast_engine::ops::touch::Touched;
use crabbox_vast_engine::world::ExecExit;
use serde_json::{Value, json};

/// crabbox's document leaves out what it does not know; an object here has all its members.
pub(crate) fn touched(touched: &Touched) -> Value {
    let mut value = json!(touched);
    value["idleTimeoutSeconds"] = json!(touched.idle_timeout_secs);
    value["slug"] = json!(touched.slug);
    for name in ["lastTouchedAt", "idleTimeout", "expiresAt", "deadman"] {
        if value.get(name).is_none() {
            value[name] = Value::Null;
        }
    }
    value
}

pub(crate) fn ended(exit: &ExecExit) -> Value {
    match exit {
        ExecExit::Code(code) => json!({"exitCode": code, "signal": null}),
        ExecExit::Signal(name) => json!({"exitCode": null, "signal": name}),
    }
}
