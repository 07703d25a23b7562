//! What the API says: account, inventory, search, and what follows from them.

use super::report::{Check, class, failed_provider, found, inner};
use super::{PROBE, failed};
use crate::ops::{Call, Engine, Phase};
use crate::store::Journal;
use crate::vast::{Account, Failure, Filter, Inventory, Kind, Offer};
use crate::{Code, Error};
use serde_json::Value;

/// A difference below this is the granularity of the header and the way of the answer.
const TOLERATED_SKEW: i64 = 30;

/// What one probe came to; `None` when it did not answer in time.
type Probe<T> = Option<Result<T, Failure>>;

/// The checks that need the API. `error` becomes why the provider check failed, if it did.
pub(super) async fn checks(engine: &Engine, call: &Call, error: &mut Option<Value>) -> Vec<Check> {
    let query = engine.offer_query();
    let client = engine.client();
    call.phase(Phase::Search, "asking the API for account, instances and offers");
    let (account, inventory, offers) = tokio::join!(
        in_time(client.account()),
        in_time(client.list(&Filter::All)),
        in_time(client.search(&query))
    );
    if let Some(Ok(inventory)) = &inventory
        && !inventory.complete
    {
        call.warn("the list of instances is not complete");
    }
    let mut checks = vec![provider(engine, &account, &inventory, error)];
    if let Some(Ok(inventory)) = &inventory {
        checks.push(instances(engine, inventory).await);
    }
    checks.push(scopes(&account, &inventory, &offers));
    if let Some(Ok(account)) = &account {
        checks.push(billing(account));
    }
    checks.push(search(&offers));
    checks.extend(client.clock_skew().map(clock));
    checks
}

/// One lease as it stands.
pub(super) async fn lease(engine: &Engine, identifier: &str, call: &Call) -> Check {
    let status = match engine.status(identifier, call).await {
        Ok(status) => status,
        Err(why) => return failed("lease", &why),
    };
    let host = status.endpoint.map_or_else(|| "-".to_owned(), |endpoint| endpoint.host);
    let (id, slug, state, ready) = (&status.id, &status.slug, &status.state, status.ready);
    let check = found("lease", format!("lease={id} slug={slug} state={state} host={host} ready={ready}"));
    if ready { check } else { check.warning(format!("it does not answer over SSH; see `status {slug}`")) }
}

async fn in_time<T>(probe: impl Future<Output = Result<T, Failure>>) -> Probe<T> {
    tokio::time::timeout(PROBE, probe).await.ok()
}

fn provider(
    engine: &Engine,
    account: &Probe<Account>,
    inventory: &Probe<Inventory>,
    error: &mut Option<Value>,
) -> Check {
    let settings = engine.settings();
    let why = match (account, inventory) {
        (Some(Ok(_)), Some(Ok(inventory))) => {
            let ours = inventory.instances.iter().filter(|instance| instance.ownership().is_some()).count();
            return found(
                "provider",
                format!(
                    "provider=vast timeout=10s auth=ready control_plane=ready inventory=ready api=list mutation=false \
                     leases={ours} runtime=unchecked default_order={} runtype={} user={}",
                    settings.order, settings.runtype, settings.user
                ),
            )
            .of_provider();
        }
        (Some(Err(failure)), _) | (_, Some(Err(failure))) => Error::from(failure.clone()),
        _ => late(),
    };
    *error = inner(&why);
    failed_provider(&why, class(why.code()))
}

/// What is rented, and whether something is back that was proved gone.
async fn instances(engine: &Engine, inventory: &Inventory) -> Check {
    let journals = engine.store().scan_journals().await.unwrap_or_default();
    let all = inventory.instances.len();
    let ours = inventory.instances.iter().filter(|instance| instance.ownership().is_some()).count();
    let back: Vec<String> = journals
        .iter()
        .flat_map(Journal::tombstones)
        .filter(|(gone, _)| inventory.find(*gone).is_some())
        .map(|(gone, _)| gone.to_string())
        .collect();
    let check = found(
        "inventory",
        format!(
            "instances={all} leases={ours} foreign={} complete={} back={}",
            all - ours,
            inventory.complete,
            back.len()
        ),
    )
    .of_provider();
    let late: Vec<String> = match engine.look_for_latecomers(inventory).await {
        Ok(amiss) => amiss.into_iter().map(|(_, what)| what).collect(),
        Err(error) => vec![error.to_string()],
    };
    if !back.is_empty() {
        check.warning(format!(
            "{} was proved gone and is listed again, possibly billed: look at it in the Vast console",
            back.join(", ")
        ))
    } else if !late.is_empty() {
        check.warning(late.join("; "))
    } else {
        check
    }
}

fn late() -> Error {
    Error::new(Code::ApiTimeout, format!("no answer within {} s", PROBE.as_secs()))
        .hint("check the network and vast.apiUrl, or try again")
}

/// Which permission groups answered. That writing is allowed could only be learnt by writing.
fn scopes(account: &Probe<Account>, inventory: &Probe<Inventory>, offers: &Probe<Vec<Offer>>) -> Check {
    fn word<T>(probe: &Probe<T>) -> &'static str {
        match probe {
            Some(Ok(_)) => "ok",
            Some(Err(failure)) if matches!(failure.kind, Kind::Scope | Kind::Forbidden) => "denied",
            _ => "unknown",
        }
    }
    fn second_factor<T>(probe: &Probe<T>) -> bool {
        matches!(probe, Some(Err(failure)) if failure.kind == Kind::TwoFactor)
    }
    let (user, instances, misc) = (word(account), word(inventory), word(offers));
    let required = second_factor(account) || second_factor(inventory) || second_factor(offers);
    let two_factor = match (required, user, instances) {
        (true, ..) => "required",
        (_, "ok", "ok") => "ok",
        _ => "unknown",
    };
    let check = found(
        "scopes",
        format!(
            "user_read={user} instance_read={instances} misc={misc} instance_write=unchecked two_factor={two_factor}"
        ),
    )
    .of_provider();
    if required {
        check.failing("make a new API key in a session that passed two-factor login")
    } else if [user, instances, misc].contains(&"denied") {
        check.failing("give the key the permission groups misc, user_read, instance_read and instance_write")
    } else {
        check
    }
}

fn billing(account: &Account) -> Check {
    let credit = account.credit.map_or_else(|| "unknown".to_owned(), |credit| format!("{credit:.2}"));
    let check = found("billing", format!("account={} credit={credit}", account.id)).of_provider();
    if account.credit.is_some_and(|credit| credit <= 0.0) {
        check.warning("no credit: a create would be refused; add credit in the Vast console")
    } else {
        check
    }
}

fn search(offers: &Probe<Vec<Offer>>) -> Check {
    match offers {
        Some(Ok(offers)) => {
            let check = found("search", format!("offers={}", offers.len())).of_provider();
            if offers.is_empty() {
                check.warning(
                    "nothing that fits is for rent now: loosen GPU, price cap or reliability, or try later",
                )
            } else {
                check
            }
        }
        Some(Err(failure)) => failed("search", &Error::from(failure.clone())).of_provider(),
        None => failed("search", &late()).of_provider(),
    }
}

/// `skew` is local time minus the API's, seconds.
fn clock(skew: i64) -> Check {
    let check = found("clock", format!("skew={skew}s"));
    if skew.abs() <= TOLERATED_SKEW {
        return check;
    }
    let way = if skew > 0 { "ahead" } else { "behind" };
    check.warning(format!(
        "this machine's clock is {} s {way} of the API's: leases would expire that much off; set it (NTP)",
        skew.abs()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::doctor::Verdict;

    #[test]
    fn a_clock_that_is_off_is_a_warning() {
        assert_eq!(clock(2).verdict, Verdict::Ok);
        let off = clock(-90);
        assert_eq!((off.verdict, off.message.as_str()), (Verdict::Warning, "skew=-90s"));
        assert!(off.hint.unwrap().contains("90 s behind"));
    }

    #[test]
    fn groups_that_are_refused_are_named() {
        let refused = |status, text: &str| {
            let body = format!(r#"{{"success":false,"error":"forbidden","msg":"{text}"}}"#);
            let reply = crate::world::HttpReply { status, body: body.into(), ..Default::default() };
            crate::vast::judge("GET /x/", &reply, "").unwrap_err()
        };
        let denied: Probe<Account> = Some(Err(refused(403, "your key lacks the user_read permission group")));
        let none: Probe<Inventory> = None;
        let check = scopes(&denied, &none, &Some(Ok(Vec::new())));
        assert_eq!(check.verdict, Verdict::Failed);
        assert_eq!(
            check.message,
            "user_read=denied instance_read=unknown misc=ok instance_write=unchecked two_factor=unknown"
        );
        let second: Probe<Account> = Some(Err(refused(401, "API access requires Two Factor Authentication")));
        let check = scopes(&second, &none, &None);
        assert!(check.message.ends_with("two_factor=required"), "{}", check.message);
        assert_eq!(check.verdict, Verdict::Failed);
    }
}
