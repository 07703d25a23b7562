//! What each answer to a create means for the money: nothing was rented, something unwanted was, or nobody knows.

use crate::virtual_time::Stage;
use crabbox_vast_engine::lease::OfferId;
use crabbox_vast_engine::vast::Kind;
use crabbox_vast_engine::vast::client::Created;
use crabbox_vast_engine::vast::request::CreateBody;
use crabbox_vast_sim::api::{Effect, Fault};

fn what() -> CreateBody {
    CreateBody {
        image: "a/b:1".into(),
        template: None,
        disk_gb: 20,
        label: "cbx1|cbx_0123456789ab|a|provisioning".into(),
        public_key: "ssh-ed25519 AAAA".into(),
        env: serde_json::Map::new(),
        onstart: None,
        bid: None,
    }
}

async fn outcome(effect: Effect) -> &'static str {
    let stage = Stage::new();
    stage.vast(|vast, _| vast.add_fault(Fault::once("PUT", "/api/v0/asks/*/", effect)));
    let created = stage.process().engine.client().create(OfferId(7), &what()).await;
    let sent =
        stage.calls.lock().expect("not poisoned").iter().filter(|call| call.contains("/asks/")).count();
    assert_eq!(sent, 1, "a create is sent once, whatever happens");
    match created {
        Created::Instance(id) => {
            assert_eq!(id.0, 41);
            "ours"
        }
        Created::Unwanted(id, _) => {
            assert_eq!(id.0, 41);
            "unwanted"
        }
        Created::Nothing(failure) if failure.kind == Kind::OfferGone => "gone",
        Created::Nothing(_) => "nothing",
        Created::Unknown(_) => "unknown",
    }
}

#[tokio::test(start_paused = true)]
async fn every_answer_to_a_create() {
    let cases: &[(u16, &str, &str)] = &[
        // accepted
        (200, r#"{"success":true,"new_contract":41,"instance_api_key":"x"}"#, "ours"),
        (200, r#"{"success":true,"new_contract":"41"}"#, "ours"),
        // definitely nothing, and another offer may do
        (404, "{}", "gone"),
        (404, r#"{"success":false,"error":"not_found","msg":"Not found"}"#, "gone"),
        (404, r#"{"success":false,"error":"no_such_instance"}"#, "gone"),
        // definitely nothing
        (403, r#"{"success":false,"error":"forbidden","msg":"Forbidden"}"#, "nothing"),
        (401, r#"{"msg":"This action requires Two Factor Authentication"}"#, "nothing"),
        (403, r#"{"msg":"Your key lacks the instance_write permission group"}"#, "nothing"),
        (
            400,
            r#"{"success":false,"error":"insufficient_credit","msg":"Your account lacks credit; see the billing page."}"#,
            "nothing",
        ),
        (400, r#"{"success":false,"error":"spend_rate_limit"}"#, "nothing"),
        (
            400,
            r#"{"success":false,"error":"invalid_args","msg":"error 404/3603: no_such_ask  Instance type by id 7 is not available.","ask_id":7}"#,
            "gone",
        ),
        (
            410,
            r#"{"success":false,"error":"no_such_ask","msg":"error 410/3907: no_such_ask Instance type 7 is no longer available.","ask_id":7}"#,
            "gone",
        ),
        (
            200,
            r#"{"success":false,"error":"invalid_args","msg":"error 404/3603: no_such_ask  Instance type by id 7 is not available."}"#,
            "gone",
        ),
        (403, r#"{"error":"invalid_args","msg":"error 403/3586: Offer 7 is not your own offer"}"#, "gone"),
        (
            400,
            r#"{"error":"invalid_args","msg":"error 400/3471: Invalid args: len(image) > 1024, or len(args) > 16384, or len(label) > 256"}"#,
            "nothing",
        ),
        (400, r#"{"error":"invalid_args","msg":"invalid env arguments, total length > 32KB"}"#, "nothing"),
        (400, r#"{"error":"invalid_args","msg":"error 400/3467: Invalid args: image"}"#, "nothing"),
        (
            400,
            r#"{"error":"invalid_args","msg":"error 400/1782: Invalid args: invalid json: {}"}"#,
            "nothing",
        ),
        (400, r#"{"error":"invalid_price","msg":"Invalid bid price."}"#, "nothing"),
        (400, r#"{"error":"no_ssh_key_for_vm"}"#, "nothing"),
        (422, "{}", "nothing"),
        (200, r#"{"success":false,"msg":"no"}"#, "nothing"),
        // refused, and rented all the same
        (200, r#"{"success":false,"error":"invalid_price","new_contract":41}"#, "unwanted"),
        (
            400,
            r#"{"success":false,"error":"invalid_args","msg":"bid too low","new_contract":"41"}"#,
            "unwanted",
        ),
        (500, r#"{"error":"server_error","new_contract":41}"#, "unwanted"),
        (429, r#"{"success":false,"error":"rate_limit_exceeded","new_contract":41}"#, "unwanted"),
        // nobody knows
        (408, "{}", "unknown"),
        (409, "{}", "unknown"),
        (425, "{}", "unknown"),
        (429, "API requests too frequent", "unknown"),
        (429, r#"{"detail":"API requests too frequent endpoint threshold=4.5"}"#, "unknown"),
        (
            500,
            r#"{"success":false,"error":"server_error","msg":"Something went wrong on the server"}"#,
            "unknown",
        ),
        (500, r#"{"success":false,"error":"invalid_args","msg":"error 404/3603: no_such_ask"}"#, "unknown"),
        (502, "<html>Bad Gateway</html>", "unknown"),
        (504, "", "unknown"),
        (200, "<!DOCTYPE html><html></html>", "unknown"),
        (200, "", "unknown"),
        (200, r#"{"success":true}"#, "unknown"),
        // An error beside the status of a success, and no word that there was none.
        (200, r#"{"error":"invalid_args","msg":"Invalid args: image"}"#, "unknown"),
        (200, r#"{"error":"no_such_ask","msg":"Instance type by id 7 is not available."}"#, "unknown"),
        (200, r#"{"success":true,"new_contract":null}"#, "unknown"),
        (200, r#"{"success":true,"new_contract":0}"#, "unknown"),
        (200, r#"{"success":tr"#, "unknown"),
        (404, "<html>not here</html>", "unknown"),
        (302, "", "unknown"),
        (307, "", "unknown"),
        (308, "", "unknown"),
        // The key worked a moment later: then the answer proves nothing.
        (404, r#"{"success":false,"error":"auth_error","msg":"Invalid user key"}"#, "unknown"),
    ];
    for (status, body, expected) in cases {
        let headers = if matches!(*status, 302 | 307 | 308) {
            vec![("location".to_owned(), "https://x.test/".to_owned())]
        } else {
            vec![]
        };
        let effect = Effect::Answer {
            status: *status,
            content_type: "application/json".into(),
            body: (*body).into(),
            headers,
        };
        assert_eq!(outcome(effect).await, *expected, "{status} {body}");
    }
    for effect in [Effect::Reset, Effect::Truncate, Effect::Empty, Effect::Stall] {
        assert_eq!(outcome(effect.clone()).await, "unknown", "{effect:?}");
    }
}
