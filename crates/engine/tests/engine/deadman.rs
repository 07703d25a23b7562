//! The dead-man switch as it runs on an instance: real shells, real clients, a vendor on loopback, real seconds.

mod leases;

use crate::watchdog::{Container, SHELLS, Vendor, files, in_arguments};
use crabbox_vast_engine::ssh::deadman::{
    LOOK, Plan, Report, disarm, first_look, install, is_off, renewal, second_look,
};
use std::fs;
use std::time::{Duration, Instant};

const OK: &[(u16, &str)] = &[(200, r#"{"success": true}"#)];
/// Other work on the machine may hold things up; nothing here depends on how fast it is.
const LIMIT: Duration = Duration::from_secs(30);

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn ttl(count: u64) -> Plan {
    Plan { ttl: Some(secs(count)), idle: None, grace: secs(1) }
}

fn idle(count: u64) -> Plan {
    Plan { ttl: None, idle: Some(secs(count)), grace: secs(count) }
}

/// Starts one container per shell and client, waits until each has asked, and looks at what it asked.
async fn each_asks(vendor: impl AsyncFn() -> Vendor, clients: &[&str]) {
    let mut started = Vec::new();
    for shell in SHELLS {
        for client in clients {
            // A standalone busybox takes its own wget, which cannot delete.
            if shell[0] == "busybox" && *client == "wget" {
                continue;
            }
            let vendor = vendor().await;
            let mut container = Container::with(&[client]).trusting(&vendor);
            container.start(shell, &ttl(1), &vendor, "");
            started.push((shell, client, vendor, container));
        }
    }
    for (shell, client, vendor, container) in started {
        let asked = &vendor.after(1, LIMIT).await[0];
        let told = format!("{shell:?} {client}: {asked:?}");
        assert!(asked.head.starts_with("DELETE /api/v0/instances/4711/ HTTP/1.1\r\n"), "{told}");
        let head = asked.head.to_lowercase();
        assert!(head.contains(&format!("\r\nauthorization: bearer {}", container.key)), "{told}");
        assert!(head.contains("\r\ncontent-type: application/json"), "{told}");
        assert_eq!(asked.body, "{}", "{told}");
    }
}

// The scenarios wait for real seconds, most of the time: they wait together.

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_asks_and_when() {
    tokio::join!(
        at_its_deadline_it_asks_by_whichever_client_is_there(),
        it_asks_over_tls(),
        a_server_that_nobody_vouches_for_gets_nothing(),
        a_certificate_for_another_name_is_refused(),
        it_asks_again_until_the_container_dies(),
        silence_moves_on_to_the_next_client(),
        key_and_id_may_come_from_the_first_process(),
        the_key_is_in_no_argument_and_in_no_file(),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_moves_a_deadline_and_what_does_not() {
    tokio::join!(
        a_touch_moves_the_idle_deadline_and_not_the_time_to_live(),
        a_touch_may_change_the_timeout(),
        garbage_in_its_files_stops_nothing(),
        the_users_start_script_runs_as_if_alone(),
        a_restart_keeps_the_end(),
        the_newest_of_two_watches(),
        who_works_there_is_not_idle(),
        the_report_names_what_is_missing(),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_comes_over_a_session() {
    tokio::join!(
        an_install_over_a_session(),
        what_is_disarmed_stays_so(),
        a_first_look_starts_what_does_not_run(),
    );
}

async fn at_its_deadline_it_asks_by_whichever_client_is_there() {
    each_asks(async || Vendor::http(OK).await, &["curl", "wget", "python3", "python", "bash"]).await;
}

async fn it_asks_over_tls() {
    each_asks(async || Vendor::https(OK).await, &["curl", "python3", "openssl"]).await;
}

async fn a_server_that_nobody_vouches_for_gets_nothing() {
    let vendor = Vendor::https(OK).await;
    let mut started = Vec::new();
    for client in ["curl", "wget", "python3", "openssl"] {
        let mut container = Container::with(&[client]);
        container.start(&["dash"], &ttl(1), &vendor, "");
        started.push(container);
    }
    // Each has asked by then, and asked again.
    tokio::time::sleep(secs(5)).await;
    assert!(vendor.asked().is_empty(), "{:?}", vendor.asked());
    // The same containers do reach it once they trust it.
    let mut container = Container::with(&["openssl"]).trusting(&vendor);
    container.start(&["dash"], &ttl(1), &vendor, "");
    vendor.after(1, LIMIT).await;
}

async fn a_certificate_for_another_name_is_refused() {
    let mut vendor = Vendor::https(OK).await;
    vendor.url = vendor.url.replace("localhost", "127.0.0.1");
    let mut container = Container::with(&["curl", "wget", "python3", "openssl"]).trusting(&vendor);
    container.start(&["dash"], &ttl(1), &vendor, "");
    tokio::time::sleep(secs(5)).await;
    assert!(vendor.asked().is_empty(), "{:?}", vendor.asked());
}

async fn a_touch_moves_the_idle_deadline_and_not_the_time_to_live() {
    let (touched, bounded) = (Vendor::http(OK).await, Vendor::http(OK).await);
    let (mut one, mut other) = (Container::with(&["curl"]), Container::with(&["curl"]));
    let began = Instant::now();
    one.start(&["dash"], &idle(3), &touched, "");
    other.start(&["dash"], &Plan { ttl: Some(secs(5)), ..idle(3) }, &bounded, "");
    one.report().await;
    other.report().await;
    while began.elapsed() < secs(7) {
        one.says(&renewal(secs(3))).expect("a report");
        other.says(&renewal(secs(3)));
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let last = Instant::now();
    assert!(touched.asked().is_empty(), "it was touched all the time");
    let ended = bounded.after(1, LIMIT).await[0].at;
    assert!(ended >= began + secs(4), "not before its time to live was over");
    assert!(touched.after(1, LIMIT).await[0].at > last + secs(1), "not before the last touch was used up");
}

async fn a_touch_may_change_the_timeout() {
    let vendor = Vendor::http(OK).await;
    let mut container = Container::with(&["curl"]);
    container.start(&["dash"], &idle(8), &vendor, "");
    let before = container.report().await;
    assert!(before.idle.unwrap().abs_diff(before.written + 8) <= 3, "{before:?}");
    let after = container.says(&renewal(secs(2))).unwrap();
    assert!(after.now >= before.now);
    // It has gone to sleep until its own deadline (for 15 s, were that further away).
    vendor.after(1, LIMIT).await;
    let renewed = container.says(&renewal(secs(600))).unwrap();
    assert_eq!(renewed.deadline(), after.deadline(), "past its deadline nothing moves it");
}

async fn it_asks_again_until_the_container_dies() {
    const REPLIES: &[(u16, &str)] = &[
        (500, "<html>"),
        (200, r#"{"success": false, "error": "try again"}"#),
        (200, r#"{"success": true}"#),
    ];
    let vendor = Vendor::http(REPLIES).await;
    // Two clients: any answer ends the round, so the second one is never needed.
    let mut container = Container::with(&["curl", "python3"]);
    container.start(&["dash"], &ttl(1), &vendor, "");
    let asked = vendor.after(3, LIMIT).await;
    assert!(asked.iter().all(|asked| asked.head.contains("curl/")), "{asked:?}");
    assert!(asked[1].at - asked[0].at > secs(1) && asked[2].at - asked[1].at > secs(3), "{asked:?}");
    // It reports meanwhile: its silence would mean that it is dead.
    let report = container.report().await;
    assert!(report.written >= report.end.unwrap() + 2, "{report:?}");
    container.stop();
    let count = vendor.asked().len();
    tokio::time::sleep(secs(1)).await;
    assert_eq!(vendor.asked().len(), count);
}

async fn silence_moves_on_to_the_next_client() {
    let vendor = Vendor::https(OK).await;
    // A curl that trusts nobody is silent; Python trusts the authority.
    let mut container =
        Container::with(&["curl", "python3"]).trusting(&vendor).env("CURL_CA_BUNDLE", Some("/dev/null"));
    container.start(&["dash"], &ttl(1), &vendor, "");
    let asked = vendor.after(1, LIMIT).await;
    assert!(!asked[0].head.contains("curl/"), "{asked:?}");
}

async fn garbage_in_its_files_stops_nothing() {
    let mut started = Vec::new();
    for (shell, garbage) in SHELLS.iter().zip(["x y", "99999999999999999999 1", "0800 -5\n"]) {
        let vendor = Vendor::http(OK).await;
        let mut container = Container::with(&["curl"]);
        fs::create_dir_all(container.state("")).unwrap();
        for name in ["end", "idle", "report"] {
            fs::write(container.state(name), garbage).unwrap();
        }
        container.start(shell, &Plan { ttl: Some(secs(600)), ..idle(3) }, &vendor, "");
        started.push((garbage, vendor, container));
    }
    for (garbage, vendor, container) in started {
        container.report().await;
        // A deadline further away than the timeout is no honest one either.
        for text in [garbage, "9999999999 3", ""] {
            fs::write(container.state("idle"), text).unwrap();
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
        vendor.after(1, LIMIT).await;
    }
}

async fn the_users_start_script_runs_as_if_alone() {
    for shell in SHELLS {
        let vendor = Vendor::http(OK).await;
        let mut container = Container::with(&["curl"]).env("x", Some("mine"));
        let own = "set -eu\necho \"$x ${T-none} $(umask)\" >own.txt\ntrap - HUP\n";
        container.start(shell, &ttl(2), &vendor, own);
        let said = fs::read_to_string(container.path("own.txt")).unwrap();
        assert!(said.starts_with("mine none ") && !said.contains("077"), "{shell:?}: {said}");
        assert!(vendor.asked().is_empty());
        vendor.after(1, LIMIT).await;
    }
}

async fn a_restart_keeps_the_end() {
    for shell in SHELLS {
        let vendor = Vendor::http(OK).await;
        let plan = Plan { ttl: Some(secs(1000)), idle: Some(secs(50)), grace: secs(50) };
        let mut container = Container::with(&["curl"]);
        container.start(shell, &plan, &vendor, "");
        let first = container.report().await;
        container.stop();
        tokio::time::sleep(Duration::from_millis(1200)).await;
        fs::remove_file(container.state("report")).unwrap();
        container.start(shell, &plan, &vendor, "");
        let second = container.report().await;
        assert_eq!(second.end, first.end);
        // It took its time on a second's edge, and then wrote.
        assert!(second.idle.unwrap() + 5 >= second.written + 50, "{second:?}");
        container.stop();

        // Long over: one idle timeout from the start. Another boot of the machine: what was left is left.
        let now = second.now;
        for (end, boot, report, left) in [
            (now.saturating_sub(5), "one", now, 50),
            (900_500, "another", 900_000, 500),
            (900_020, "another", 900_000, 50),
            (900_000, "one", 0, 1000),
        ] {
            fs::write(container.state("end"), format!("{end} {boot}\n")).unwrap();
            fs::write(container.state("report"), format!("1 {report} {end} 0 key id curl\n")).unwrap();
            container.start(shell, &plan, &vendor, "");
            let third = loop {
                let third = container.report().await;
                if third.written >= now && third.idle.is_some() {
                    break third;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            let off = third.end.unwrap().abs_diff(third.written + left);
            assert!(off <= 5, "{shell:?} {end} {boot}: {third:?}");
            container.stop();
        }
        assert!(vendor.asked().is_empty());
    }
}

async fn the_newest_of_two_watches() {
    let vendor = Vendor::http(OK).await;
    let mut container = Container::with(&["curl"]);
    container.start(&["dash"], &idle(2), &vendor, "");
    container.report().await;
    container.start(&["bash"], &idle(4), &vendor, "");
    let asked = vendor.after(2, LIMIT).await;
    assert!(asked[1].at - asked[0].at > secs(1), "only one asks: {asked:?}");
}

async fn an_install_over_a_session() {
    for shell in SHELLS {
        let vendor = Vendor::http(OK).await;
        let mut container = Container::with(&["curl"]);
        container.start(shell, &ttl(1), &vendor, "");
        vendor.after(1, LIMIT).await;
        // Past its deadline too the former gives way; the end that it had is over, and one grace is left.
        let later = Plan { ttl: Some(secs(600)), idle: None, grace: secs(100) };
        let said = container.leaves(shell, &install(&later, &vendor.url, false).unwrap()).await;
        let report = Report::parse(&said).unwrap_or_else(|| panic!("{shell:?}: {said:?}"));
        assert!(report.end.unwrap().abs_diff(report.now + 100) <= 2, "{shell:?}: {report:?}");
        let said = container.leaves(shell, &install(&later, &vendor.url, true).unwrap()).await;
        let report = Report::parse(&said).unwrap();
        assert!(report.end.unwrap().abs_diff(report.now + 600) <= 2, "{shell:?}: {report:?}");
        let asked = vendor.asked().len();
        tokio::time::sleep(secs(5)).await;
        assert!(vendor.asked().len() <= asked + 1, "the former still asks");
        // A start script that runs again keeps to what came over the session.
        container.stop();
        fs::remove_file(container.state("report")).unwrap();
        container.start(shell, &idle(2), &vendor, "");
        let report = container.report().await;
        assert!(report.idle.is_none() && report.end.is_some_and(|end| end > report.now + 500), "{report:?}");
    }
}

async fn what_is_disarmed_stays_so() {
    let mut started = Vec::new();
    for shell in SHELLS {
        let vendor = Vendor::http(OK).await;
        let mut container = Container::with(&["curl"]);
        container.start(shell, &idle(3), &vendor, "");
        container.report().await;
        let said = container.leaves(shell, &disarm(&vendor.url).unwrap()).await;
        assert!(is_off(&said), "{shell:?}: {said:?}");
        container.start(shell, &ttl(1), &vendor, "");
        started.push((shell, vendor, container));
    }
    tokio::time::sleep(secs(5)).await;
    for (shell, vendor, container) in started {
        assert!(vendor.asked().is_empty(), "{shell:?}: {:?}", vendor.asked());
        assert_eq!(container.says(LOOK), None, "{shell:?}");
    }
    // Without the programs that it takes nothing is said to be off.
    let vendor = Vendor::http(OK).await;
    let mut bare = Container::with(&[]);
    fs::remove_file(bare.path("bin/gzip")).unwrap();
    assert!(!is_off(&bare.leaves(&["dash"], &disarm(&vendor.url).unwrap()).await));
}

async fn a_first_look_starts_what_does_not_run() {
    for shell in SHELLS {
        let vendor = Vendor::http(OK).await;
        let plan = Plan { ttl: Some(secs(600)), idle: Some(secs(60)), grace: secs(60) };
        // A start script that runs later, or never: the look does not wait for what it started.
        let mut container = Container::with(&["curl"]);
        let began = Instant::now();
        container.leaves(shell, &first_look(&plan, &vendor.url).unwrap()).await;
        let took = began.elapsed();
        let report = container.says(&second_look()).unwrap_or_else(|| panic!("{shell:?}"));
        assert!(took < secs(2), "{took:?}");
        assert!(report.end.unwrap().abs_diff(report.now + 600) <= 5, "{shell:?}: {report:?}");
        // Where one watches nothing is started.
        let watch = fs::read(container.state("watch")).unwrap();
        let said = container.leaves(shell, &first_look(&plan, &vendor.url).unwrap()).await;
        assert!(Report::parse(&said).is_some(), "{shell:?}: {said:?}");
        assert_eq!(fs::read(container.state("watch")).unwrap(), watch, "{shell:?}");
        // The late one keeps to the end that there is.
        container.start(shell, &Plan { ttl: Some(secs(900)), ..plan }, &vendor, "");
        tokio::time::sleep(secs(1)).await;
        assert_eq!(container.report().await.end, report.end, "{shell:?}");
    }
}

async fn who_works_there_is_not_idle() {
    let mut started = Vec::new();
    for who in ["session", "newer session", "port 22", "owner", "scanner", "nobody"] {
        let vendor = Vendor::http(OK).await;
        let mut container = Container::with(&["curl"]);
        match who {
            "session" => container.process(77, "sshd: root@pts/0"),
            "newer session" => container.process(77, "sshd-session: root@notty"),
            // Somebody knocks, nobody got in: no use of the lease.
            "scanner" => container.process(77, "sshd: [accepted]"),
            _ => {}
        }
        if ["session", "scanner"].contains(&who) {
            container.process(76, "sshd: /usr/sbin/sshd -D [listener] 1 of 10-100 startups");
        }
        if who != "owner" {
            let connection = "  sl  local_address rem_address   st tx_queue\n   0: 0100007F:0016 0200007F:9C40 01 00000000:00000000\n";
            let table = if who == "port 22" || who == "scanner" { connection } else { "" };
            fs::write(container.path("proc/net/tcp6"), table).unwrap();
        }
        container.start(&["dash"], &idle(2), &vendor, "");
        started.push((who, vendor, container));
    }
    let owners = started[3].2.path("home/.crabbox/workspace-owners");
    fs::create_dir_all(&owners).unwrap();
    let began = Instant::now();
    while began.elapsed() < secs(6) {
        fs::write(owners.join("0123.owner"), "v1\n").unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for (who, vendor, _) in &started {
        let asks = ["scanner", "nobody"].contains(who);
        assert_eq!(!vendor.asked().is_empty(), asks, "{who}");
    }
    started[0].2.gone(77);
    started[1].2.gone(77);
    fs::write(started[2].2.path("proc/net/tcp6"), "").unwrap();
    for (_, vendor, _) in &started {
        vendor.after(1, LIMIT).await;
    }
}

async fn the_key_is_in_no_argument_and_in_no_file() {
    let mut started = Vec::new();
    for client in ["curl", "wget", "python3", "openssl", "bash"] {
        // Nobody ever answers the one over TLS, so that clients live long enough to be looked at.
        let vendor = if client == "openssl" { Vendor::https(OK).await } else { Vendor::http(OK).await };
        let mut container = Container::with(&[client]).trusting(&vendor);
        container.start(&["bash"], &ttl(1), &vendor, "");
        started.push((client, vendor, container));
    }
    let began = Instant::now();
    let mut looks = 0;
    while began.elapsed() < secs(6) || looks < 50 {
        for (client, _, container) in &started {
            assert!(!in_arguments(&container.key), "{client} shows the key in its arguments");
        }
        looks += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for (client, vendor, container) in &started {
        vendor.after(1, LIMIT).await;
        for file in files(&container.path("")) {
            let text = fs::read(&file).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            assert!(!text.contains(&container.key), "{client} left the key in {}", file.display());
        }
    }
}

async fn key_and_id_may_come_from_the_first_process() {
    let vendor = Vendor::http(OK).await;
    let mut container = Container::with(&["curl"]).env("CONTAINER_API_KEY", None).env("CONTAINER_ID", None);
    fs::write(container.path("proc/1/environ"), "A=1\0CONTAINER_API_KEY=of.one\0CONTAINER_ID=42\0B=2\0")
        .unwrap();
    container.start(&["dash"], &ttl(1), &vendor, "");
    let asked = &vendor.after(1, LIMIT).await[0];
    assert!(asked.head.starts_with("DELETE /api/v0/instances/42/ "), "{asked:?}");
    assert!(asked.head.contains("Bearer of.one"), "{asked:?}");
}

async fn the_report_names_what_is_missing() {
    let vendor = Vendor::https(OK).await;
    for (clients, key, want) in [
        (&["curl"][..], Some("k"), ""),
        (&[][..], Some("k"), "no curl, wget, python3 or openssl"),
        (&["bash"][..], Some("k"), "no curl, wget, python3 or openssl"),
        (&["openssl"][..], None, "CONTAINER_API_KEY"),
        (&["openssl"][..], Some("a\"b"), "CONTAINER_API_KEY"),
    ] {
        let mut container = Container::with(clients).env("CONTAINER_API_KEY", key);
        container.start(&["dash"], &ttl(600), &vendor, "");
        let weakness = container.report().await.weakness().unwrap_or_default();
        assert!(weakness.contains(want) && weakness.is_empty() == want.is_empty(), "{clients:?}: {weakness}");
    }
    // Programs of the system, and no certificates where these look for them; then some, at each of the places.
    for place in ["", "etc/ssl/certs/one.pem", "etc/pki/tls/certs/bundle", "etc/ssl/cert.pem", "elsewhere"] {
        let mut container = Container::with(&["curl", "openssl"]);
        let root = container.path("").display().to_string();
        container = container.env("CRABBOX_ROOT", Some(root.trim_end_matches('/')));
        if !place.is_empty() {
            let file = container.path(place);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "certificate").unwrap();
        }
        if place == "elsewhere" {
            let file = container.path(place).display().to_string();
            container = container.env("SSL_CERT_FILE", Some(&file));
        }
        container.start(&["dash"], &ttl(600), &vendor, "");
        let weakness = container.report().await.weakness().unwrap_or_default();
        assert_eq!(weakness.contains("no ca-certificates"), place.is_empty(), "{place}: {weakness}");
    }
    assert_eq!(Container::with(&[]).says(LOOK), None, "without a watchdog there is no report");
    assert_eq!(Container::with(&[]).says(&renewal(secs(1))), None);
}
