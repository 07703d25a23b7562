//! What the binary costs beyond what nobody can avoid: the machine's own boot, and two calls of the API.
//! `cargo bench -p crabbox-vast-cli --bench overhead [-- REPETITIONS]`
//!
//! The vendor of the tests answers every call after a fixed time and boots a machine in a fixed time; the instance is a
//! system `sshd`. Nothing is asserted: figures depend on the machine, ratios carry over.

#[cfg(unix)]
#[path = "../tests/desk/mod.rs"]
mod desk;
#[cfg(unix)]
#[path = "../tests/real/mod.rs"]
mod real;

#[cfg(unix)]
fn main() {
    use real::{Options, Traveller};
    use std::time::Duration;

    const LATENCY: Duration = Duration::from_millis(150);
    const BOOT: Duration = Duration::from_secs(2);
    // Long enough for every published interval: a person does not type faster.
    const PAUSE: Duration = Duration::from_secs(6);
    const COMMANDS: [(&str, &[&str]); 5] = [
        ("warmup", &["warmup", "--slug", "box"]),
        ("list", &["list"]),
        ("status", &["status", "box"]),
        ("run --id", &["run", "--no-sync", "--id", "box", "--", "true"]),
        ("stop", &["stop", "box"]),
    ];
    if !real::is_here() {
        return;
    }
    let repetitions = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(5);
    let mut took = vec![Vec::new(); COMMANDS.len()];
    for _ in 0..repetitions {
        let options = Options { latency: LATENCY, boot: BOOT, limits: true, ..Options::default() };
        let traveller = Traveller::new(options);
        for (index, (_, words)) in COMMANDS.iter().enumerate() {
            let ended = traveller.run(words);
            assert!(ended.succeeded(), "{}", ended.stderr);
            took[index].push(ended.took);
            std::thread::sleep(PAUSE);
        }
        assert!(traveller.vendor.open().is_empty() && traveller.vendor.refused().is_empty());
    }
    println!(
        "a call {} ms, boot {} s, published limits enforced, median of {repetitions}",
        LATENCY.as_millis(),
        BOOT.as_secs()
    );
    println!("{:<10} {:>8} {:>8} {:>9} {:>7}", "command", "took", "floor", "overhead", "ratio");
    for ((name, _), times) in COMMANDS.iter().zip(&mut took) {
        times.sort();
        let median = times[times.len() / 2].as_secs_f64();
        let boot = if *name == "warmup" { BOOT } else { Duration::ZERO };
        let floor = (boot + LATENCY * 2).as_secs_f64();
        println!("{name:<10} {median:>7.2}s {floor:>7.2}s {:>8.2}s {:>7.2}", median - floor, median / floor);
    }
}

#[cfg(not(unix))]
fn main() {}
