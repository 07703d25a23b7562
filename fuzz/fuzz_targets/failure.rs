//! Any status and any body: what the refusal means, and that nothing secret of it is shown.
//! The input's first line is the status and the `Retry-After`, the rest the body.
#![no_main]

use crabbox_vast_engine::Error;
use crabbox_vast_engine::vast::failure::{Kind, judge};
use crabbox_vast_engine::world::HttpReply;
use crabbox_vast_fuzz::split;
use libfuzzer_sys::fuzz_target;
use std::time::Duration;

/// The caller's own, which a server may echo.
const KEY: &str = "k3y";

fuzz_target!(|text: &str| {
    let (head, body) = split(text);
    let (status, after) = head.split_once(' ').unwrap_or((head, ""));
    let Ok(status @ 200..=599) = status.parse::<u16>() else { return };
    let reply = HttpReply {
        status,
        retry_after: (!after.is_empty()).then(|| after.to_owned()),
        location: None,
        date: None,
        body: bytes::Bytes::copy_from_slice(body.as_bytes()),
    };
    let Err(failure) = judge("PUT /asks/1/", &reply, KEY) else {
        assert!((200..300).contains(&status), "a success of {status}");
        return;
    };
    assert!(!failure.message.contains(KEY), "{}", failure.message);
    assert!(!failure.message.is_empty() && !failure.message.contains('\n'));
    assert!(failure.message.chars().count() < 1_000, "{}", failure.message.len());
    assert!(failure.retry_after.is_none_or(|time| time > Duration::ZERO && time <= Duration::from_secs(120)));
    assert!(failure.new_contract.is_none_or(|id| id.0 > 0 && !failure.proves_nothing_created()));
    if failure.proves_nothing_created() {
        assert!(status < 500 && !matches!(status, 408 | 409 | 425), "{status} proves nothing");
        assert!(!matches!(failure.kind, Kind::Malformed | Kind::Unavailable | Kind::RateLimited));
    }
    // A bad key is never taken for an instance that is gone.
    if body.contains(r#""error":"auth_error""#) && failure.kind == Kind::NoSuchInstance {
        let told: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
        assert_ne!(told["error"], "auth_error", "{failure:?}");
    }
    let error = Error::from(failure);
    assert!(!error.to_string().is_empty());
});
