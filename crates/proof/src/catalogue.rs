//! Every way in which one call can go wrong.

use crabbox_vast_sim::api::{Effect, Fault, Timing};
use std::time::Duration;

/// A kind of fault on a call.
#[derive(Clone, Debug)]
pub struct Kind {
    /// A name for people.
    pub name: &'static str,
    /// What goes wrong.
    pub effect: Effect,
    /// Whether it can follow a call that took effect.
    pub after: bool,
    /// Whether it claims success: then it is no answer to a change that did not take effect.
    pub claims: bool,
    /// The calls it can happen to.
    pub calls: fn(&str, &str) -> bool,
}

fn any(_: &str, _: &str) -> bool {
    true
}

fn creates(method: &str, path: &str) -> bool {
    method == "PUT" && path.starts_with("/api/v0/asks/")
}

fn not_creates(method: &str, path: &str) -> bool {
    !creates(method, path)
}

fn destroys(method: &str, path: &str) -> bool {
    method == "DELETE" && on_an_instance(method, path) && !path.contains("/ssh/")
}

fn on_an_instance(method: &str, path: &str) -> bool {
    not_creates(method, path) && path.starts_with("/api/v0/instances/")
}

fn lists(_: &str, path: &str) -> bool {
    path.starts_with("/api/v1/instances/")
}

fn answer(status: u16, body: &str) -> Effect {
    Effect::Answer { status, content_type: "application/json".into(), body: body.into(), headers: Vec::new() }
}

/// A page without instances and a token that leads to it again.
#[must_use]
pub fn repeated_token() -> Effect {
    let body =
        r#"{"success":true,"instances_found":0,"total_instances":3,"instances":[],"next_token":"again"}"#;
    answer(200, body)
}

/// All kinds. Where the vendor's answer itself would be a lie that nothing can survive (a definite refusal of a create
/// that took effect), it is not among them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    let with = |name, effect, after, calls| Kind { name, effect, after, claims: false, calls };
    let claims = |kind: Kind| Kind { claims: true, ..kind };
    let header = |status, body: &str, name: &str, value: &str| Effect::Answer {
        status,
        content_type: "application/json".into(),
        body: body.into(),
        headers: vec![(name.into(), value.into())],
    };
    let mut kinds = vec![
        with(
            "500",
            answer(
                500,
                r#"{"success":false,"error":"server_error","msg":"Something went wrong on the server"}"#,
            ),
            true,
            any as fn(&str, &str) -> bool,
        ),
        with("502 html", Effect::Html(502), true, any),
        with("504 html", Effect::Html(504), true, any),
        with("200 html", Effect::Html(200), true, any),
        with("reset", Effect::Reset, true, any),
        with("truncated", Effect::Truncate, true, any),
        with("empty", Effect::Empty, true, any),
        with("stalled", Effect::Stall, true, any),
        with("late", Effect::Delay(Duration::from_secs(20)), false, any),
        with("too late", Effect::Delay(Duration::from_secs(600)), false, any),
        with("not json", answer(200, "[[[["), true, any),
        claims(with("success without content", answer(200, r#"{"success":true}"#), true, any)),
        claims(with(
            "nulls",
            answer(
                200,
                r#"{"success":true,"instances":null,"offers":null,"id":null,"new_contract":null,"next_token":null}"#,
            ),
            true,
            any,
        )),
        with(
            "success false",
            answer(200, r#"{"success":false,"error":"server_error","msg":"try again later"}"#),
            true,
            not_creates,
        ),
        with("success false, no error", answer(200, r#"{"success":false}"#), true, not_creates),
        with(
            "auth_error in passing",
            answer(404, r#"{"success":false,"error":"auth_error","msg":"Invalid user key"}"#),
            true,
            any,
        ),
        with(
            "401 two factors",
            answer(
                401,
                r#"{"success":false,"error":"tfa_required","msg":"Two factor authentication required"}"#,
            ),
            false,
            any,
        ),
        with(
            "403",
            answer(
                403,
                r#"{"success":false,"error":"permission_denied","msg":"Your key lacks the instance_write permission group for this resource."}"#,
            ),
            false,
            any,
        ),
        with("429 with retry-after", header(429, "API requests too frequent", "retry-after", "2"), true, any),
        with("308 elsewhere", header(308, "", "location", "https://elsewhere.example/api/v0/"), true, any),
        with(
            "no such instance",
            answer(404, r#"{"success":false,"error":"no_such_instance","msg":"Instance not found."}"#),
            true,
            on_an_instance,
        ),
        with(
            "no such page",
            answer(404, "<html><head><title>404 Not Found</title></head></html>"),
            false,
            any,
        ),
        with(
            "410",
            answer(410, r#"{"success":false,"error":"deprecated_endpoint","msg":"deprecated"}"#),
            false,
            lists,
        ),
        with(
            "empty list",
            answer(
                200,
                r#"{"success":true,"instances_found":0,"total_instances":0,"instances":[],"next_token":null}"#,
            ),
            false,
            lists,
        ),
        with(
            "empty list, other total",
            answer(
                200,
                r#"{"success":true,"instances_found":0,"total_instances":3,"instances":[],"next_token":null}"#,
            ),
            false,
            lists,
        ),
        with("a token that repeats", repeated_token(), false, lists),
        with("308 same host", header(308, "", "location", "/api/v0/users/current/"), false, any),
        // Followed, it would send a create twice.
        with("308 to itself", header(308, "", "location", "?again=1"), true, creates),
        with("too large", header(200, "{}", "content-length", "8388609"), true, any),
        // A success of another type may be meant as one.
        claims(with(
            "other types",
            answer(
                200,
                r#"{"success":"yes","instances":"none","offers":7,"id":"x","new_contract":"no","next_token":3}"#,
            ),
            true,
            not_creates,
        )),
        with("a success that is none", answer(200, r#"{"success":"yes"}"#), false, destroys),
        with("ask taken", Effect::NoSuchAsk, false, creates),
        with(
            "ask taken, 410",
            answer(
                410,
                r#"{"success":false,"error":"no_such_ask","msg":"error 410/3907: no_such_ask Instance type {id} is no longer available.","ask_id":{id}}"#,
            ),
            false,
            creates,
        ),
        with(
            "ask taken, 200",
            answer(
                200,
                r#"{"success":false,"error":"invalid_args","msg":"error 404/3603: no_such_ask  Instance type by id {id} is not available."}"#,
            ),
            false,
            creates,
        ),
        with(
            "no credit",
            answer(
                400,
                r#"{"success":false,"error":"insufficient_credit","msg":"Your account lacks credit; see the billing page."}"#,
            ),
            false,
            creates,
        ),
        with(
            "spend rate",
            answer(400, r#"{"success":false,"error":"spend_rate_limit","msg":"Spend rate limit exceeded."}"#),
            false,
            creates,
        ),
    ];
    kinds.extend((0..4).map(|variant| with("429", Effect::TooMany(variant), true, any)));
    kinds
}

/// Kinds of which one on a single call, other than a create, is to be survived.
const PASSING: [&str; 8] =
    ["500", "502 html", "504 html", "reset", "truncated", "empty", "429", "429 with retry-after"];

/// Whether an operation should come to its end all the same when this kind strikes this call once.
#[must_use]
pub fn is_passing(kind: &str, fault: &Fault) -> bool {
    let method = fault.method.as_deref().unwrap_or_default();
    PASSING.contains(&kind) && not_creates(method, &fault.path)
}

/// The call as a rule names it: the numbers in its path may be others.
#[must_use]
pub fn pattern(path: &str) -> String {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    path.split('/').map(|part| if number(part) { "*" } else { part }).collect::<Vec<_>>().join("/")
}

/// The faults that can strike the nth call of a method among those whose path is like this one.
#[must_use]
pub fn faults_at(nth: usize, method: &str, path: &str) -> Vec<(&'static str, Fault)> {
    let mut faults = Vec::new();
    for kind in kinds().into_iter().filter(|kind| (kind.calls)(method, path)) {
        let fault = Fault {
            method: Some(method.to_owned()),
            path: pattern(path),
            nth: nth as u64,
            count: Some(1),
            timing: Timing::BeforeCommit,
            effect: kind.effect,
        };
        if kind.after && method != "GET" {
            faults.push((kind.name, fault.clone().after_commit()));
        }
        if !kind.claims || method == "GET" || creates(method, path) {
            faults.push((kind.name, fault));
        }
    }
    faults
}
