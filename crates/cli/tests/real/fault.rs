//! What can go wrong with one call.

use super::http::{Delivery, Reply, Request};
use super::route::Route;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use std::io::Write as _;

/// An answer in the place of the right one.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Plain {
    name: &'static str,
    says: Says,
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    /// The calls that may be answered so; all, where none is named.
    at: &'static [Route],
}

/// What an answer means to its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Says {
    /// Nothing about the call, and the next one may go through.
    Trouble,
    /// That a good key is bad, or a page instead of JSON: nothing either, but it costs a question or time.
    Doubt,
    /// That the call was not carried out.
    No,
    /// The same without a reason, as everything is refused for a minute to whoever calls too often.
    LockedOut,
    /// That it was, without anything that was asked for.
    Done,
    /// No refusal, and no word that it was carried out.
    Vague,
}

const INSTANCE: &[Route] = &[Route::Show, Route::Attach, Route::Manage, Route::Destroy, Route::Logs];
const CREATE: &[Route] = &[Route::Create];

const fn plain(name: &'static str, says: Says, status: u16, body: &'static str) -> Plain {
    Plain { name, says, status, headers: &[], body, at: &[] }
}

const fn at(routes: &'static [Route], plain: Plain) -> Plain {
    Plain { at: routes, ..plain }
}

static PLAIN: [Plain; 27] = [
    plain(
        "500",
        Says::Trouble,
        500,
        r#"{"success":false,"error":"server_error","msg":"Something went wrong"}"#,
    ),
    plain("502 page", Says::Trouble, 502, "<html><title>502 Bad Gateway</title></html>"),
    plain("504 bare", Says::Trouble, 504, ""),
    plain("429 text", Says::Trouble, 429, "API requests too frequent"),
    plain("429 threshold", Says::Trouble, 429, "API requests too frequent: endpoint threshold=2.0"),
    plain(
        "429 detail",
        Says::Trouble,
        429,
        r#"{"detail":"API requests too frequent endpoint threshold=2.0"}"#,
    ),
    plain(
        "429 token",
        Says::Trouble,
        429,
        r#"{"success":false,"error":"rate_limit_exceeded","msg":"API requests too frequent endpoint threshold=3.0"}"#,
    ),
    Plain {
        headers: &[("retry-after", "2")],
        ..plain("429 retry-after", Says::Trouble, 429, r#"{"detail":"API requests too frequent"}"#)
    },
    plain("200 page", Says::Doubt, 200, "<html><title>Just a moment...</title></html>"),
    plain(
        "404 auth_error",
        Says::Doubt,
        404,
        r#"{"success":false,"error":"auth_error","msg":"Invalid user key"}"#,
    ),
    plain("401", Says::Doubt, 401, r#"{"success":false,"error":"auth","msg":"please log in"}"#),
    plain("401 bare", Says::Doubt, 401, ""),
    plain("403 permission", Says::No, 403, r#"{"msg":"Your key lacks the instance_write permission group"}"#),
    plain("403 bare", Says::LockedOut, 403, ""),
    plain("410", Says::No, 410, r#"{"success":false,"error":"deprecated_endpoint","msg":"is deprecated"}"#),
    plain("410 bare", Says::No, 410, ""),
    plain("success:false", Says::No, 200, r#"{"success":false,"msg":"not now"}"#),
    plain("success:true", Says::Done, 200, r#"{"success":true}"#),
    plain(
        "nulls",
        Says::Vague,
        200,
        r#"{"success":null,"id":null,"offers":null,"instances":null,"new_contract":null,"result_url":null}"#,
    ),
    plain(
        "wrong types",
        Says::Vague,
        200,
        r#"{"success":"yes","id":[],"offers":7,"instances":"none","new_contract":{},"result_url":1}"#,
    ),
    plain("an array", Says::Vague, 200, "[null]"),
    at(
        INSTANCE,
        plain(
            "no_such_instance",
            Says::No,
            404,
            r#"{"success":false,"error":"no_such_instance","msg":"No such instance"}"#,
        ),
    ),
    at(
        CREATE,
        plain(
            "400 taken",
            Says::No,
            400,
            r#"{"success":false,"error":"invalid_args","msg":"error 404/3603: no_such_ask is not available"}"#,
        ),
    ),
    at(
        CREATE,
        plain(
            "410 taken",
            Says::No,
            410,
            r#"{"success":false,"error":"no_such_ask","msg":"error 410/3907: no_such_ask"}"#,
        ),
    ),
    at(CREATE, plain("200 taken", Says::No, 200, r#"{"success":false,"msg":"error 404/3603: no_such_ask"}"#)),
    at(CREATE, plain("no credit", Says::No, 400, r#"{"success":false,"error":"insufficient_credit"}"#)),
    at(
        CREATE,
        plain(
            "403 not your own",
            Says::No,
            403,
            r#"{"error":"invalid_args","msg":"error 403/3586: Offer 7 is not your own"}"#,
        ),
    ),
];

/// How an answer is spoiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    Plain(&'static Plain),
    /// Right, and after three seconds.
    Late,
    /// Right, and compressed.
    Gzip,
    /// Right, and in chunks of odd sizes.
    Chunked,
    Reset,
    Truncated,
    Empty,
    /// Headers, then silence.
    Stall,
    /// Silence.
    Mute,
    /// More than 8 MB, as its length tells.
    Huge,
    /// More than 8 MB, in chunks.
    HugeChunked,
    /// 308 to another path of the same host, which answers.
    Moved,
    /// 308 to another host, where nobody may come with the key.
    MovedAway,
    /// A list with nothing in it, whose total is the true one.
    EmptyListHonest,
    /// A list with nothing in it, and a total of nothing.
    EmptyList,
    /// A list without the newest machine, whose total is the true one.
    ShortListHonest,
    /// A list without the newest machine, and a total that agrees.
    ShortList,
    /// A refusal that names a machine as rented: ours, or where nothing was rented a stranger's.
    RefusedAndNamed,
    /// A success that names a machine which never appears.
    Phantom,
}

const OTHERS: [Fault; 18] = [
    Fault::Late,
    Fault::Gzip,
    Fault::Chunked,
    Fault::Reset,
    Fault::Truncated,
    Fault::Empty,
    Fault::Stall,
    Fault::Mute,
    Fault::Huge,
    Fault::HugeChunked,
    Fault::Moved,
    Fault::MovedAway,
    Fault::EmptyListHonest,
    Fault::EmptyList,
    Fault::ShortListHonest,
    Fault::ShortList,
    Fault::RefusedAndNamed,
    Fault::Phantom,
];

impl Fault {
    pub fn all() -> impl Iterator<Item = Fault> {
        PLAIN.iter().map(Fault::Plain).chain(OTHERS)
    }

    /// Whether it can strike a call of this route before or after its effect. What is left out is no answer to that call,
    /// or a lie that nobody could see through:
    ///
    /// - a change that was carried out, said of a destroy, a key, a label or a state that was not touched;
    /// - a create that was refused in plain words, or sent elsewhere to be made, and rented.
    pub fn strikes(self, route: Route, after: bool) -> bool {
        let changes = route.changes();
        // A read has no effect that could come before its answer.
        if after && !changes {
            return false;
        }
        match self {
            Fault::Plain(plain) => {
                let fits = plain.at.is_empty() || plain.at.contains(&route);
                let lie = match plain.says {
                    Says::Trouble | Says::Doubt => false,
                    Says::No | Says::LockedOut => after && route == Route::Create,
                    Says::Done => !after && changes && route != Route::Create,
                    Says::Vague => !after && matches!(route, Route::Attach | Route::Manage),
                };
                fits && !lie
            }
            Fault::Late | Fault::Gzip | Fault::Chunked => after == changes,
            Fault::Moved | Fault::MovedAway => !(after && route == Route::Create),
            Fault::EmptyListHonest | Fault::EmptyList | Fault::ShortListHonest | Fault::ShortList => {
                route == Route::List
            }
            Fault::RefusedAndNamed => route == Route::Create,
            Fault::Phantom => route == Route::Create && !after,
            Fault::Reset
            | Fault::Truncated
            | Fault::Empty
            | Fault::Stall
            | Fault::Mute
            | Fault::Huge
            | Fault::HugeChunked => true,
        }
    }

    /// Whether a single one of its kind, on any call but the create, must not make a command fail.
    pub fn is_passing(self) -> bool {
        match self {
            Fault::Plain(plain) => plain.says == Says::Trouble,
            Fault::Late
            | Fault::Gzip
            | Fault::Chunked
            | Fault::Reset
            | Fault::Truncated
            | Fault::Empty
            | Fault::Huge
            | Fault::HugeChunked
            | Fault::Moved => true,
            _ => false,
        }
    }

    /// Whether it says no, or what is not so: a command may believe it and end, as long as it leaves nothing behind.
    pub fn may_be_believed(self) -> bool {
        match self {
            Fault::Plain(plain) => !matches!(plain.says, Says::Trouble | Says::Doubt),
            Fault::MovedAway
            | Fault::EmptyListHonest
            | Fault::EmptyList
            | Fault::ShortListHonest
            | Fault::ShortList
            | Fault::RefusedAndNamed
            | Fault::Phantom => true,
            _ => false,
        }
    }

    /// Whether it may be a lock-out, which passes.
    pub fn is_lock_out(self) -> bool {
        matches!(self, Fault::Plain(plain) if plain.says == Says::LockedOut)
    }

    /// Whether it takes a time limit to get over it.
    pub fn is_slow(self) -> bool {
        matches!(self, Fault::Stall | Fault::Mute | Fault::Phantom)
    }

    pub fn name(self) -> String {
        match self {
            Fault::Plain(plain) => plain.name.to_owned(),
            other => format!("{other:?}"),
        }
    }

    /// The answer as the fault leaves it. `elsewhere` is the other host.
    pub fn spoil(self, whole: Reply, request: &Request, elsewhere: &str) -> Reply {
        let by = |delivery| move |whole| Reply { delivery, ..whole };
        let moved = |to: String| Reply {
            status: 308,
            headers: vec![("location", to)],
            body: Vec::new(),
            delivery: Delivery::Whole,
        };
        match self {
            Fault::Plain(plain) => plain.reply(),
            Fault::Late => by(Delivery::Late)(whole),
            Fault::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(&whole.body).unwrap();
                let mut packed = Reply { body: encoder.finish().unwrap(), ..whole };
                packed.headers.push(("content-encoding", "gzip".to_owned()));
                packed
            }
            Fault::Chunked => by(Delivery::Chunked)(whole),
            Fault::Reset => by(Delivery::Reset)(whole),
            Fault::Truncated => by(Delivery::Truncated)(whole),
            Fault::Stall => by(Delivery::Stall)(whole),
            Fault::Mute => by(Delivery::Mute)(whole),
            Fault::Huge => by(Delivery::Huge)(whole),
            Fault::HugeChunked => by(Delivery::HugeChunked)(whole),
            Fault::Empty => Reply { body: Vec::new(), ..whole },
            Fault::Moved => moved(format!("/moved{}", request.target)),
            Fault::MovedAway => moved(format!("http://{elsewhere}{}", request.target)),
            Fault::EmptyListHonest => shorten(&whole, usize::MAX, true),
            Fault::EmptyList => shorten(&whole, usize::MAX, false),
            Fault::ShortListHonest => shorten(&whole, 1, true),
            Fault::ShortList => shorten(&whole, 1, false),
            Fault::RefusedAndNamed => {
                let named = read(&whole)["new_contract"].clone();
                let named = if named.is_null() { json!(super::vendor::STRANGER) } else { named };
                Reply::refusal(400, &json!({"error": "invalid_args", "new_contract": named}))
            }
            Fault::Phantom => Reply::json(&json!({"success": true, "new_contract": 799_999})),
        }
    }
}

impl Plain {
    fn reply(&self) -> Reply {
        let kind = match self.body.as_bytes().first() {
            Some(b'<') => "text/html",
            Some(b'{' | b'[') => "application/json",
            _ => "text/plain",
        };
        let headers = self.headers.iter().map(|(name, value)| (*name, (*value).to_owned()));
        Reply {
            status: self.status,
            headers: headers.chain([("content-type", kind.to_owned())]).collect(),
            body: self.body.as_bytes().to_vec(),
            delivery: Delivery::Whole,
        }
    }
}

fn read(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap_or(Value::Null)
}

/// A list without its last entries, with the total it had or the one it has.
fn shorten(whole: &Reply, by: usize, honest: bool) -> Reply {
    let mut list = read(whole);
    if let Some(all) = list["instances"].as_array_mut() {
        let total = all.len();
        all.truncate(total.saturating_sub(by));
        let left = all.len();
        list["total_instances"] = json!(if honest { total } else { left });
    }
    Reply::json(&list)
}

/// What a trap does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    Spoil(Fault),
    /// The caller is killed with SIGKILL, and nobody gets an answer.
    Kill,
}

/// Strikes once: at the `nth` call of a route, counted from 1 since it was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Trap {
    pub route: Route,
    pub nth: usize,
    pub what: What,
    /// The call has taken effect; only its answer suffers.
    pub after: bool,
}
