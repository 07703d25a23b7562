//! A configuration file, as the user's and as a repository's: never a panic, and a repository's file never gets what only
//! the user may decide.
#![no_main]

use crabbox_vast_engine::config::{Overrides, Resolved, Snapshot, origins_text, show_json, show_text};
use crabbox_vast_fuzz::folder;
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;

const KEY: &str = "canary0api0key7";

struct Home {
    folder: tempfile::TempDir,
    snapshot: Snapshot,
}

impl Home {
    fn new() -> Self {
        let folder = folder();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("config/crabbox")).expect("a folder");
        std::fs::create_dir_all(at("repo/.git")).expect("a folder");
        let mut snapshot = Snapshot { cwd: at("repo"), ..Snapshot::default() };
        for (name, value) in [
            ("HOME", folder.path().display().to_string()),
            ("XDG_CONFIG_HOME", at("config").display().to_string()),
            ("XDG_STATE_HOME", at("state").display().to_string()),
            ("CRABBOX_VAST_API_KEY", KEY.to_owned()),
        ] {
            snapshot.vars.insert(name.to_owned(), value);
        }
        Home { folder, snapshot }
    }
}

thread_local! {
    static HOME: RefCell<Home> = RefCell::new(Home::new());
}

fn load(snapshot: &Snapshot) -> Option<Resolved> {
    match Resolved::load(snapshot, &Overrides::new()) {
        Ok(resolved) => Some(resolved),
        Err(error) => {
            assert!(!error.to_string().contains(KEY));
            None
        }
    }
}

fuzz_target!(|data: &[u8]| {
    HOME.with_borrow(|home| {
        let user = home.folder.path().join("config/crabbox/config.yaml");
        let repository = home.folder.path().join("repo/.crabbox.yaml");
        let _ = std::fs::remove_file(&repository);
        let _ = std::fs::remove_file(&user);
        let plain = load(&home.snapshot).expect("no file is fine");
        std::fs::write(&user, data).expect("written");
        if let Some(resolved) = load(&home.snapshot) {
            let json = show_json(&resolved).map(|document| document.to_string());
            for shown in [show_text(&resolved), json, Ok(origins_text(&resolved))] {
                let shown = shown.unwrap_or_else(|error| error.to_string());
                assert!(!shown.contains(KEY));
            }
            let _ = resolved.settings();
        }
        std::fs::remove_file(&user).expect("removed");
        std::fs::write(&repository, data).expect("written");
        if let Some(resolved) = load(&home.snapshot) {
            for key in ["apiUrl", "apiKey"] {
                assert_eq!(resolved.values[key].text, plain.values[key].text, "a repository chose {key}");
            }
        }
    });
});
