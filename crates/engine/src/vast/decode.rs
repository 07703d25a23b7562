//! Reads answers. Shapes vary between routes and over time; what cannot be understood is an error, never "nothing".

use super::failure::new_contract;
use super::field;
use super::instance::Instance;
use super::offer::Offer;
use crate::lease::{AccountId, InstanceId};
use serde_json::Value;

/// A decoder's complaint.
pub type Complaint = String;

/// Who we are.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    /// User id.
    pub id: AccountId,
    /// Spendable prepaid credit, $.
    pub credit: Option<f64>,
}

/// `users/current`.
///
/// # Errors
/// No positive id.
pub fn account(body: &Value) -> Result<Account, Complaint> {
    let id = field::id(body, "id").ok_or("no user id")?;
    Ok(Account { id: AccountId(id), credit: field::number(body, "credit") })
}

/// Search results.
///
/// # Errors
/// No array: a search that cannot be read is not an empty one.
pub fn offers(body: &Value) -> Result<Vec<Offer>, Complaint> {
    let list = array_of(body, &["offers", "bundles", "data", "results"]).ok_or("no list of offers")?;
    Ok(list.iter().filter_map(Offer::read).collect())
}

/// The id of the new instance; `None` when the answer names none, which leaves open whether there is one.
///
/// # Errors
/// None: an answer without id is for the caller to judge.
pub fn created(body: &Value) -> Result<Option<InstanceId>, Complaint> {
    Ok(new_contract(body).or_else(|| {
        // A server may answer with the instance itself.
        body.get("actual_status").and_then(|_| Instance::read(body)).map(|instance| instance.id)
    }))
}

/// One page of the list.
#[derive(Debug, Clone)]
pub struct Page {
    /// Instances of this page.
    pub instances: Vec<Instance>,
    /// Token of the next page.
    pub next: Option<String>,
    /// Matching instances in all, if told.
    pub total: Option<usize>,
}

/// `v1/instances`.
///
/// # Errors
/// No list, or an entry without id: what it was cannot be known.
pub fn page(body: &Value) -> Result<Page, Complaint> {
    let list = match array_of(body, &["instances", "data", "results"]) {
        Some(list) => list.as_slice(),
        // `instances: null` is how an empty page is written.
        None if body.get("instances").is_some_and(Value::is_null) => &[],
        None => return Err("no list of instances".into()),
    };
    let instances = list
        .iter()
        .map(|raw| Instance::read(raw).ok_or_else(|| "an instance without id".to_owned()))
        .collect::<Result<Vec<_>, _>>()?;
    let total = field::integer(body, "total_instances").and_then(|n| usize::try_from(n).ok());
    Ok(Page { instances, next: field::text(body, "next_token"), total })
}

/// A single read: the instance, or `None` for "not there at this moment".
///
/// # Errors
/// A shape that is neither.
pub fn instance(body: &Value) -> Result<Option<Instance>, Complaint> {
    let inner = match ["instances", "instance", "data"].iter().find_map(|name| body.get(name)) {
        Some(inner) => inner,
        None if body.get("id").is_some() => body,
        None => return Err("no instance in the answer".into()),
    };
    let one = match inner {
        Value::Null => return Ok(None),
        Value::Array(list) => match list.as_slice() {
            // An empty list is what comes right after a destroy.
            [] => return Ok(None),
            [one] => one,
            _ => return Err("more than one instance in a single read".into()),
        },
        other => other,
    };
    Instance::read(one).map(Some).ok_or_else(|| "an instance without id".into())
}

/// The keys of an instance: an array, or a JSON *string* that holds one.
///
/// # Errors
/// Neither.
pub fn keys(body: &Value) -> Result<Vec<String>, Complaint> {
    let parsed;
    let list = match array_of(body, &["ssh_keys", "keys", "data"]) {
        Some(list) => list,
        None => {
            let text = body.get("ssh_keys").and_then(Value::as_str).ok_or("no list of keys")?;
            parsed = serde_json::from_str::<Vec<Value>>(text).map_err(|_| "the list of keys is not JSON")?;
            &parsed
        }
    };
    let read = |raw: &Value| field::text(raw, "public_key").or_else(|| field::text(raw, "key"));
    Ok(list.iter().filter_map(read).collect())
}

/// The address of a log. It is a credential: never shown.
///
/// # Errors
/// No address.
pub fn log_address(body: &Value) -> Result<String, Complaint> {
    field::text(body, "result_url").ok_or_else(|| "no log address".into())
}

/// Any success.
///
/// # Errors
/// None: [`super::failure::judge`] has already refused `success:false`.
pub fn accepted(_body: &Value) -> Result<(), Complaint> {
    Ok(())
}

/// Whether an answer that is no refusal says outright that it is a success.
///
/// # Errors
/// None.
pub fn says_success(body: &Value) -> Result<bool, Complaint> {
    Ok(field::flag(body, "success") == Some(true))
}

fn array_of<'a>(body: &'a Value, names: &[&str]) -> Option<&'a Vec<Value>> {
    body.as_array().or_else(|| names.iter().find_map(|name| body.get(name)?.as_array()))
}
