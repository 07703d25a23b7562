//! Whatever surrounds a secret, it does not come through. The input's first line stands before it, the rest behind it.
#![no_main]

use crabbox_vast_engine::redact::redact;
use libfuzzer_sys::fuzz_target;

const SECRET: &str = "canary0secret7";

fuzz_target!(|text: &str| {
    let shown = redact(text);
    // What was redacted once is left as it is.
    assert_eq!(redact(&shown), shown);
    if text.contains(SECRET) {
        return;
    }
    let (before, behind) = text.split_once('\n').unwrap_or((text, ""));
    for planted in [
        format!("\"api_key\": \"{SECRET}\""),
        format!("\"instance_api_key\":\"{SECRET}\","),
        format!("{{\"jupyter_token\":\"{SECRET}\"}}"),
        format!("{{\\\"api_key\\\":\\\"{SECRET}\\\"}}"),
        format!("'token': '{SECRET}'"),
        format!("Authorization: Bearer {SECRET}"),
        format!("Authorization: Basic {SECRET}"),
        format!("X-Api-Key: {SECRET}"),
        format!("declare -x CONTAINER_API_KEY=\"{SECRET}\""),
        format!("export CONTAINER_API_KEY='{SECRET}'"),
        format!("login --password {SECRET} host"),
        format!("[[\"JUPYTER_TOKEN\",\"{SECRET}\"]]"),
        format!("CONTAINER_API_KEY = {SECRET}"),
        format!("JUPYTER_TOKEN\t{SECRET}"),
        format!("\u{1b}[1mCONTAINER_API_KEY\u{1b}[0m=\u{1b}[32m{SECRET}\u{1b}[0m"),
        format!("- name: CONTAINER_API_KEY\n  value: {SECRET}"),
        format!("(CONTAINER_API_KEY, {SECRET})"),
        format!("<password>{SECRET}</password>"),
        format!("https:\\/\\/user:{SECRET}@registry.example"),
        format!("https://user:{SECRET}@registry.example/v2/"),
        format!("https://logs.example/a?signature={SECRET}&x=1"),
        format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}\n-----END OPENSSH PRIVATE KEY-----"),
    ] {
        let shown = redact(&format!("{before}\n{planted}\n{behind}"));
        assert!(!shown.contains(SECRET), "{planted} behind {before:?}: {shown}");
    }
});
