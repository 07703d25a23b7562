use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn unpacked(line: &str) -> String {
    use std::io::Read as _;
    let packed =
        line.strip_prefix("( eval \"$(echo ").unwrap().strip_suffix("|base64 -d|gzip -dc)\" )").unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(STANDARD.decode(packed).unwrap().as_slice())
        .read_to_string(&mut text)
        .unwrap();
    text
}

#[test]
fn what_is_kept_ends_only_where_somebody_said_when() {
    let of = |keep, explicit| Plan::of(keep, MINUTE * 90, explicit, MINUTE * 30);
    let both = Plan { ttl: Some(MINUTE * 90), idle: Some(MINUTE * 30), grace: MINUTE * 30 };
    assert_eq!((of(false, false), of(false, true)), (Some(both), Some(both)));
    assert_eq!(of(true, true), Some(Plan { idle: None, ..both }));
    assert_eq!(of(true, false), None);
}

#[test]
fn the_address_of_the_lease_is_the_one_that_is_called() {
    let plan = Plan { ttl: Some(MINUTE), idle: None, grace: MINUTE * 2 };
    for (url, want) in [
        (
            "https://console.vast.ai/api/v0",
            "T=60 I=120 A=0 U=https://console.vast.ai/api/v0 H=console.vast.ai:443 N=console.vast.ai V=hostname B=/api/v0 S=S\n",
        ),
        (
            "http://127.0.0.1:8080/it's/",
            "T=60 I=120 A=0 U=\"http://127.0.0.1:8080/it's\" H=127.0.0.1:8080 N=127.0.0.1 V=ip B=\"/it's\" S=\n",
        ),
        ("https://[::1]:7", "T=60 I=120 A=0 U='https://[::1]:7' H='[::1]:7' N=::1 V=ip B='' S=S\n"),
    ] {
        let text = unpacked(&line(&plan, url).unwrap());
        let text = text.strip_prefix("P= ").unwrap();
        assert!(text.starts_with(want), "{text}");
    }
    let plan = Plan { ttl: None, idle: Some(Duration::from_millis(20)), grace: MINUTE };
    assert!(settings(&plan, "https://a.test").unwrap().starts_with("T=0 I=1 A=1 "));
    assert_eq!(line(&plan, "nowhere").unwrap_err().code(), Code::InvalidConfig);
}

#[test]
fn it_leaves_room_for_a_start_script_of_ones_own() {
    let plan = Plan { ttl: Some(MINUTE), idle: Some(MINUTE), grace: MINUTE };
    let line = line(&plan, "https://console.vast.ai/api/v0").unwrap();
    assert!(line.len() < 2_900, "{}", line.len());
    let text = unpacked(&line);
    assert!(text.starts_with("P= T=60 "), "{text}");
    assert!(!text.contains("\n#") && !text.contains("\n "), "{text}");
}

#[test]
fn reports_are_read() {
    let report = Report::parse("Welcome!\ndeadman: 1010 1 1000 5000 0 key id curl openssl\n").unwrap();
    assert_eq!((report.now, report.written, report.end, report.idle), (1010, 1000, Some(5000), None));
    assert_eq!((report.deadline(), report.weakness()), (Some(5000), None));
    assert_eq!(report.clients, ["curl", "openssl"]);
    let weakness = |text: &str| Report::parse(text).unwrap().weakness().unwrap_or_default();
    assert!(weakness("deadman: 9 1 9 50 40 key id").contains("no curl, wget, python3 or openssl"));
    assert!(weakness("deadman: 9 1 9 50 40 id curl").contains("CONTAINER_API_KEY"));
    assert!(weakness("deadman: 9 1 9 50 40 key curl").contains("CONTAINER_API_KEY"));
    assert_eq!(weakness("deadman: 500 1 100 5000 0 key id curl"), "it has not been heard for 400 s");
    // Also past its deadline: then it asks, and reports all the while.
    assert_eq!(weakness("deadman: 500 1 100 110 0 key id curl"), "it has not been heard for 400 s");
    assert_eq!(weakness("deadman: 500 1 490 110 0 key id curl"), "");
    assert_eq!(weakness("deadman: 500 1 501 5000 0 key id curl"), "", "written while it was read");
    assert!(weakness("deadman: 500 1 9000 9900 0 key id curl").contains("started anew"));
    assert!(weakness("deadman: 9 1 9 50 40 key id noca openssl").contains("no ca-certificates"));
    assert_eq!(Report::parse("deadman: 9 1 9 50 40 key id noca curl =9.123").unwrap().clients, ["curl"]);
    let earliest = Report::parse("deadman: 9 1 9 50 40 key id curl").unwrap();
    assert_eq!(earliest.deadline(), Some(40));
    for bad in ["", "deadman: ", "deadman: 1 2 3 4 5 key", "deadman: 1 1 x 4 5 key", "deadman: 1 1 3 4"] {
        assert_eq!(Report::parse(bad), None, "{bad}");
    }
}
