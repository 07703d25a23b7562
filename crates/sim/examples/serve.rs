//! Runs a simulator for another program: prints one line of JSON with what a client needs, and works until its standard
//! input ends or a SIGTERM arrives.
//!
//! ```sh
//! cargo run --package crabbox-vast-sim --example serve -- /tmp/some-folder
//! ```

use crabbox_vast_sim::{Options, start};
use serde_json::json;
use std::io::{Read as _, Write as _};
use tokio::signal::unix::{SignalKind, signal};

/// How many times faster than a real hurry.
const TIME_SCALE: f64 = 4.0;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args_os().nth(1).ok_or("usage: serve STATE_FOLDER")?;
    let sim = start(Options { time_scale: TIME_SCALE, ..Options::demo(folder) }).await?;
    let facts = json!({
        "url": sim.url(),
        "controlUrl": sim.control_url(),
        "apiKey": sim.api_key(),
        "workRoot": sim.work_root(),
        "stateDir": sim.state_dir(),
    });
    // A reader that went away is noticed by the end of standard input.
    let _ = writeln!(std::io::stdout(), "{facts}");
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        () = input_ended() => {}
        _ = terminated.recv() => {}
        () = sim.shutdown_asked() => {}
    }
    sim.shutdown().await;
    Ok(())
}

/// On a thread that nobody waits for: a blocking read cannot be cancelled.
async fn input_ended() {
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut rest = [0; 64];
        while std::io::stdin().read(&mut rest).is_ok_and(|read| read > 0) {}
        let _ = ended.send(());
    });
    let _ = end.await;
}
