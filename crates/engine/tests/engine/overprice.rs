//! A price that rose above the cap is said by what looks at the lease; the lease is left alone.

use crate::support::{open, run_on, warm, warnings};
use crate::virtual_time::Stage;
use crabbox_vast_engine::lease::DollarsPerHour;
use serde_json::json;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn status_and_run_say_that_the_price_is_above_the_cap() {
    let stage = Stage::new();
    let process = stage.process_with(None, |settings| settings.max_dph_total = Some(DollarsPerHour(2.0)));
    let engine = &process.engine;
    let lease = warm(&stage, &process, "one", true).await;
    let call = stage.call();
    let status = engine.status("one", &call).await.expect("shows");
    assert_eq!((status.price_warning.as_ref(), warnings(&stage).len()), (None, 0));
    assert!(status.to_json().get("priceWarning").is_none());

    stage.control("POST", &format!("/_sim/instances/{}", lease.instance), &json!({"dph_total": 2.5}));
    let status = engine.status_wait("one", Duration::from_secs(30), &call).await.expect("shows");
    let warning = "price $2.5000/h is above the cap $2.0000/h: `stop one` ends it; raise vast.maxDphTotal to accept \
                   the price";
    assert_eq!(status.price_warning.as_deref(), Some(warning));
    assert_eq!(status.to_json()["priceWarning"], warning);
    assert_eq!(warnings(&stage), [warning]);
    engine.status("one", &call).await.expect("shows");
    assert_eq!(warnings(&stage), [warning, warning]);
    run_on(engine, Some("one"), false, &call).await.expect("runs all the same");
    assert_eq!(warnings(&stage), [warning, warning, warning]);
    assert_eq!(open(&stage), [lease.instance]);

    // Where nothing caps the price nothing is said.
    let uncapped = stage.process_with(None, |settings| settings.max_dph_total = None);
    assert_eq!(uncapped.engine.status("one", &call).await.expect("shows").price_warning, None);
}
