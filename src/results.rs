//! The engine's results as the plain objects of `lib/results.d.ts`: ids are text, times RFC 3339, money dollars.

use crabbox_vast_engine::lease::moment;
use crabbox_vast_engine::ops::list::{Listed, Ownership};
use crabbox_vast_engine::ops::offers::OfferLine;
use crabbox_vast_engine::ops::status::LeaseStatus;
use crabbox_vast_engine::ops::touch::Touched;
use crabbox_vast_engine::ops::{Adopted, Cleaned, Deadman, Event, Facts, Forgotten, Released, RunResult};
use crabbox_vast_engine::vast::Endpoint;
use crabbox_vast_engine::world::ExecExit;
use serde_json::{Value, json};

fn endpoint(endpoint: &Endpoint, user: &str) -> Value {
    json!({"host": endpoint.host, "port": endpoint.port, "user": user, "kind": endpoint.kind})
}

fn text(id: Option<impl ToString>) -> Option<String> {
    id.map(|id| id.to_string())
}

fn deadman(deadman: &Deadman) -> Value {
    json!({
        "armed": deadman.armed,
        "until": deadman.until,
        "endsAt": deadman.ends_at,
        "idleUntil": deadman.idle_until,
        "confirmed": deadman.confirmed,
        "clients": deadman.clients,
        "whyNot": deadman.why_not,
    })
}

pub(crate) fn facts(facts: &Facts) -> Value {
    json!({
        "id": facts.id,
        "slug": facts.slug,
        "instance": facts.instance.to_string(),
        "offer": text(facts.offer),
        "price": facts.price,
        "gpu": facts.gpu,
        "endpoint": endpoint(&facts.endpoint, &facts.user),
        "keep": facts.keep,
        "workRoot": facts.work_root,
        "idleTimeoutSeconds": facts.idle_timeout_secs,
        "expiresAt": facts.expires_at.map(moment),
        "deadman": deadman(&facts.deadman),
    })
}

pub(crate) fn listed(line: &Listed) -> Value {
    json!({
        "id": line.lease(),
        "slug": line.name,
        "instance": line.instance.to_string(),
        "state": line.status,
        "gpu": line.gpu,
        "price": line.price,
        "accruedDollars": line.accrued_dollars,
        "host": Some(&line.host).filter(|host| !host.is_empty()),
        "keep": line.keep(),
        "claimed": line.ownership == Ownership::Claimed,
        "labels": line.labels,
    })
}

pub(crate) fn status(status: &LeaseStatus) -> Value {
    json!({
        "id": status.id,
        "slug": status.slug,
        "instance": text(status.instance),
        "state": status.state,
        "advice": status.advice,
        "ready": status.ready,
        "gpu": status.gpu,
        "price": status.price,
        "priceWarning": status.price_warning,
        "accruedDollars": status.accrued_dollars,
        "endpoint": status.endpoint.as_ref().map(|at| endpoint(at, &status.user)),
        "keyPath": Some(&status.key_path).filter(|path| !path.is_empty()),
        "keep": status.keep,
        "pond": status.pond,
        "claimed": !status.unclaimed,
        "createdAt": status.created_at,
        "lastTouchedAt": status.last_touched_at,
        "idleSeconds": status.idle_secs,
        "idleTimeoutSeconds": status.idle_timeout_secs,
        "ttlSeconds": status.ttl_secs,
        "expiresAt": status.expires_at,
        "deadman": status.deadman.as_ref().map(deadman),
        "labels": status.labels,
    })
}

pub(crate) fn touched(touched: &Touched) -> Value {
    json!({
        "id": touched.id,
        "slug": touched.slug,
        "state": touched.state,
        "lastTouchedAt": touched.last_touched_at,
        "expiresAt": touched.expires_at,
        "deadman": touched.deadman.as_ref().map(deadman),
    })
}

pub(crate) fn released(released: &Released) -> Value {
    json!({
        "id": released.lease,
        "slug": released.slug,
        "instance": text(released.instance),
        "action": released.action,
        "outcome": released.outcome,
    })
}

pub(crate) fn offer(offer: &OfferLine) -> Value {
    json!(offer)
}

pub(crate) fn ended(exit: &ExecExit) -> Value {
    match exit {
        ExecExit::Code(code) => json!({"exitCode": code, "signal": null}),
        ExecExit::Signal(name) => json!({"exitCode": null, "signal": name}),
    }
}

pub(crate) fn run(run: &RunResult) -> Value {
    json!({
        "runId": run.run_id,
        "lease": facts(&run.lease),
        "workdir": run.workdir,
        "exitCode": run.exit_code,
        "signal": run.signal,
        "leaseSeconds": run.lease_secs,
        "sync": run.sync,
        "commandSeconds": run.command_secs,
        "totalSeconds": run.total_secs,
        "costDollars": run.cost_dollars,
        "released": run.released,
        "releaseOutcome": run.release_outcome,
        "releaseError": run.release_error,
        "policy": run.policy,
        "stopCommand": run.stop_command,
        "artifacts": run.artifacts,
        "failureBundle": run.failure_bundle,
        "timing": run.timing,
    })
}

pub(crate) fn cleaned(cleaned: &Cleaned) -> Value {
    let items: Vec<Value> = cleaned
        .items
        .iter()
        .map(|item| {
            json!({
                "action": item.action,
                "lease": item.lease,
                "instance": text(item.instance),
                "name": item.name,
                "reason": item.reason,
                "outcome": item.outcome,
                "error": item.error,
            })
        })
        .collect();
    json!({
        "dryRun": cleaned.dry_run,
        "items": items,
        "problems": cleaned.problems,
        "summary": cleaned.summary,
    })
}

pub(crate) fn forgotten(forgotten: &Forgotten) -> Value {
    json!({
        "id": forgotten.lease,
        "slug": forgotten.slug,
        "instance": text(forgotten.instance),
        "provedGone": forgotten.proved_gone,
        "left": forgotten.left,
        "price": forgotten.price,
    })
}

pub(crate) fn adopted(adopted: &Adopted) -> Value {
    json!({
        "id": adopted.lease,
        "slug": adopted.slug,
        "instance": adopted.instance.to_string(),
        "claimed": adopted.claimed,
        "keyAttached": adopted.key_attached,
        "expiresAt": adopted.expires_at.map(moment),
    })
}

/// An event; a lease in it looks like every other lease. `None` for one that cannot be written.
pub(crate) fn event(event: &Event) -> Option<Value> {
    let mut value = serde_json::to_value(event).ok()?;
    if let Event::RunContext { lease, .. } | Event::Running { lease, .. } = event {
        value["lease"] = facts(lease);
    }
    Some(value)
}
