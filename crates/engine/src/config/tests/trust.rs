//! What a repository's files may decide, and that the key is never theirs nor anybody's to see.

use super::*;

#[cfg(unix)]
#[test]
fn an_explicit_file_that_leads_into_the_repository_is_the_repositorys() {
    let mut desk = Desk::new();
    desk.write("repo/evil.yaml", "vast: {apiUrl: 'https://evil.test'}");
    let link = desk.folder.path().join("link.yaml");
    std::os::unix::fs::symlink(desk.repo().join("evil.yaml"), &link).unwrap();
    desk.var("CRABBOX_CONFIG", &link.display().to_string()).var("VAST_API_KEY", CANARY);
    assert_eq!(desk.error().code(), Code::CredentialDestination);
}

#[test]
fn the_key_comes_from_the_environment_or_a_node_option() {
    let mut desk = Desk::new();
    desk.user("vast: {apiKey: from-a-file}\n");
    assert!(desk.settings().api_key.is_none());
    desk.var("VAST_API_KEY", "second");
    let key = |desk: &Desk| desk.settings().api_key.unwrap().expose_secret().to_owned();
    assert_eq!(key(&desk), "second");
    desk.var("CRABBOX_VAST_API_KEY", " first ");
    assert_eq!(key(&desk), "first");
    desk.var("CRABBOX_VAST_API_KEY", "");
    assert_eq!(key(&desk), "second");
    desk.overrides.set("apiKey", "third", OverrideOrigin::Option).unwrap();
    assert_eq!(key(&desk), "third");
    let error = desk.overrides.set("apiKey", CANARY, OverrideOrigin::Flag).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(!format!("{error:?}").contains(CANARY));
    assert!(desk.overrides.set("nonsense", "", OverrideOrigin::Option).is_err());
}

#[test]
fn the_key_is_never_shown() {
    let mut desk = Desk::new();
    desk.var("VAST_API_KEY", CANARY);
    let resolved = desk.load().unwrap();
    let settings = resolved.settings().unwrap();
    let mut optional = Overrides::new();
    optional.set("apiKey", CANARY, OverrideOrigin::Option).unwrap();
    let shown = [
        show_text(&resolved).unwrap(),
        show_json(&resolved).unwrap().to_string(),
        origins_text(&resolved),
        origins_json(&resolved).to_string(),
        format!("{resolved:?} {settings:?} {optional:?} {:?}", desk.snapshot()),
    ];
    for text in shown {
        assert!(!text.contains(CANARY), "{text}");
    }
    assert!(show_text(&resolved).unwrap().trim_end().ends_with("auth=configured"));
    assert!(origins_text(&resolved).contains("apiKey=configured  # environment VAST_API_KEY\n"));
}

#[test]
fn a_repository_does_not_choose_who_receives_the_key() {
    let mut desk = Desk::new();
    desk.write("repo/.crabbox.yaml", "vast: {apiUrl: 'https://console.vast.ai/api/v0'}");
    assert_eq!(desk.value("apiUrl").1, "repository", "no key, no refusal");
    desk.var("VAST_API_KEY", "key");
    let error = desk.error();
    assert_eq!((error.code(), error.exit_code()), (Code::CredentialDestination, 2));
    assert_eq!(
        error.to_string(),
        "provider=vast refuses repository-configured vast.apiUrl with inherited credentials; set CRABBOX_VAST_API_URL \
         or --vast-api-url to explicitly approve the credential destination"
    );
    assert!(error.hint_text().unwrap().contains(".crabbox.yaml:1 would receive"), "{error:?}");
    desk.var("CRABBOX_VAST_API_URL", "https://approved.test/");
    assert_eq!(desk.settings().api_url, "https://approved.test");
    desk.vars.remove("CRABBOX_VAST_API_URL");
    desk.flag("apiUrl", "https://flag.test");
    assert_eq!(desk.settings().api_url, "https://flag.test");

    let mut own = Desk::new();
    own.user("vast: {apiUrl: 'https://mine.test//'}");
    own.var("VAST_API_KEY", "key");
    assert_eq!(own.settings().api_url, "https://mine.test");
}

#[test]
fn a_repository_does_not_raise_the_bid() {
    let desk = Desk::new();
    desk.write("repo/crabbox.yaml", "vast: {instanceType: interruptible, bid: 90}");
    let refused = desk.error();
    assert!(refused.to_string().contains("the lowest that wins"), "{refused}");
    desk.user("vast: {bid: 0.4}");
    desk.write("repo/crabbox.yaml", "vast: {instanceType: interruptible, bid: 0.3}");
    assert!(desk.load().is_ok());
}

#[test]
fn a_repository_does_not_loosen_the_cap() {
    let mut desk = Desk::new();
    for (own, repository, fine) in [
        ("0.5", "0.4", true),
        ("0.5", "0.5", true),
        ("0.5", "0.6", false),
        ("0.5", "0", false),
        ("0", "0.6", true),
        ("0", "0", true),
    ] {
        desk.user(&format!("vast: {{maxDphTotal: {own}}}"));
        desk.write("repo/crabbox.yaml", &format!("vast: {{maxDphTotal: {repository}}}"));
        match desk.settings().may_spend() {
            Ok(()) => assert!(fine, "{own} {repository}"),
            Err(error) => {
                assert!(!fine, "{own} {repository}: {error}");
                assert_eq!(error.code(), Code::InvalidConfig);
                assert!(error.to_string().contains("vast.maxDphTotal"), "{error}");
                assert!(error.hint_text().unwrap().contains("allowRepositoryPolicy"));
            }
        }
    }
    desk.user("vast: {maxDphTotal: 0.5}");
    desk.write("repo/crabbox.yaml", "vast: {maxDphTotal: 0}");
    desk.var("CRABBOX_VAST_MAX_DPH_TOTAL", "0.7");
    assert_eq!(desk.settings().max_dph_total, Some(DollarsPerHour(0.7)));
    desk.vars.remove("CRABBOX_VAST_MAX_DPH_TOTAL");
    desk.user("vast: {maxDphTotal: 0.5, allowRepositoryPolicy: true}");
    assert_eq!(desk.settings().max_dph_total, None);
}

#[test]
fn a_repository_does_not_weaken_the_release() {
    let mut desk = Desk::new();
    for (own, repository, fine) in [
        ("destroy", "delete", true),
        ("destroy", "stop", false),
        ("destroy", "keep", false),
        ("stop", "keep", false),
        ("keep", "stop", true),
        ("keep", "destroy", true),
    ] {
        desk.user(&format!("vast: {{releaseAction: {own}}}"));
        desk.write("repo/crabbox.yaml", &format!("vast: {{releaseAction: {repository}}}"));
        let settings = desk.settings();
        assert_eq!(settings.may_spend().is_ok(), fine, "{own} {repository}");
        assert!(settings.may_start().is_ok(), "a start ends as its lease was made to end");
        let holds = if fine { repository } else { own };
        assert_eq!(settings.release_action, holds.parse().unwrap(), "{own} {repository}");
    }
    desk.user("").write("repo/crabbox.yaml", "vast: {releaseAction: keep}");
    assert!(desk.error().to_string().contains("vast.releaseAction"));
    assert!(!desk.settings().release_action_explicit, "what a lease was made with goes before it");
    desk.flag("releaseAction", "stop");
    let settings = desk.settings();
    assert_eq!((settings.release_action, settings.release_action_explicit), (ReleaseAction::Stop, true));
    let mut desk = Desk::new();
    desk.var("CRABBOX_VAST_ALLOW_REPOSITORY_POLICY", "true");
    desk.write("repo/crabbox.yaml", "vast: {releaseAction: keep}");
    assert_eq!(desk.settings().release_action, ReleaseAction::Keep);
    assert!(!Desk::new().settings().release_action_explicit);
}

#[test]
fn a_repository_lifts_no_limit_that_a_lease_was_made_with() {
    let mut desk = Desk::new();
    for text in ["0", "500"] {
        desk.write("repo/crabbox.yaml", &format!("vast: {{maxCost: {text}}}"));
        assert!(!desk.settings().max_cost_explicit, "{text}");
    }
    desk.flag("maxCost", "0");
    assert!(desk.settings().max_cost_explicit);
}

#[test]
fn a_repository_does_not_grant_itself_the_permission() {
    let desk = Desk::new();
    desk.write("repo/crabbox.yaml", "vast: {allowRepositoryPolicy: true, maxDphTotal: 0}");
    let error = desk.error();
    assert_eq!(error.code(), Code::InvalidConfig);
    assert!(error.to_string().contains("your own configuration"), "{error}");
}

#[test]
fn a_repository_does_not_lengthen_the_life_of_a_lease() {
    let mut desk = Desk::new();
    let life = |desk: &Desk| {
        let settings = desk.settings();
        (settings.ttl.as_secs(), settings.idle_timeout.as_secs())
    };
    desk.write("repo/crabbox.yaml", "ttl: 20m\nlease: {idleTimeout: 5m}\n");
    assert_eq!(life(&desk), (1200, 300), "it may shorten it");
    desk.write("repo/crabbox.yaml", "ttl: 90m\nidleTimeout: 30m\n");
    assert_eq!(life(&desk), (5400, 1800), "and say what is so anyway");
    for (text, complaint) in [
        ("ttl: 91m", "lease.ttl in the repository file"),
        ("lease: {ttl: 24h}", "may not lengthen yours of 1h30m0s to 24h0m0s"),
        ("idleTimeout: 31m", "may not lengthen yours of 30m0s to 31m0s"),
    ] {
        desk.write("repo/crabbox.yaml", text);
        let error = desk.error();
        assert_eq!(error.code(), Code::InvalidConfig);
        assert!(error.to_string().contains(complaint), "{error}");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("allowRepositoryPolicy")), "{error}");
        assert_eq!(life(&desk), (5400, 1800), "what spends nothing goes on with the user's own");
        let notes = desk.load().unwrap().notes;
        assert!(
            notes.len() == 1 && notes[0].contains(complaint) && notes[0].ends_with("yours holds"),
            "{notes:?}"
        );
    }
    // The flag or variable of the person who pays replaces it.
    desk.write("repo/crabbox.yaml", "ttl: 24h");
    desk.flag("ttl", "48h");
    assert_eq!(life(&desk).0, 172_800);
    desk.overrides = Overrides::new();
    desk.user("ttl: 25h");
    assert_eq!(life(&desk).0, 86_400, "within what the user allows");
    desk.user("ttl: 23h");
    assert!(desk.error().to_string().contains("may not lengthen yours of 23h0m0s"));
    desk.user("vast: {allowRepositoryPolicy: true}");
    assert_eq!(life(&desk).0, 86_400);
}
