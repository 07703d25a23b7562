//! `known_hosts`, which ssh and others write too: a recorded key is found again, and no line is lost.
//! The input's first line is a host and a port, the rest the file.
#![no_main]

use crabbox_vast_engine::lease::LeaseId;
use crabbox_vast_engine::store::Store;
use crabbox_vast_fuzz::{folder, run, split, store};
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

thread_local! {
    static HOME: RefCell<(tempfile::TempDir, Store)> = {
        let folder = folder();
        let store = store(folder.path());
        RefCell::new((folder, store))
    };
}

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let (head, _) = split(&text);
    let file = data.iter().position(|byte| *byte == b'\n').map_or(&[][..], |at| &data[at + 1..]);
    let (host, port) = head.split_once(' ').unwrap_or((head, "22"));
    let Ok(port) = port.parse::<u16>() else { return };
    HOME.with_borrow(|(_, store)| {
        let lease = LeaseId::parse("cbx_3f9a1c7be204").expect("a lease id");
        let folder = store.paths().keys(&lease);
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("known_hosts");
        std::fs::write(&path, file).expect("written");
        run(async {
            let known = store.known_hosts(&lease, host, port).await.expect("a file can be read");
            if store.learn_host(&lease, host, port, KEY).await.is_err() {
                return;
            }
            let learnt = store.known_hosts(&lease, host, port).await.expect("a file can be read");
            assert!(learnt.iter().any(|key| key == KEY), "{head:?} is not found again");
            assert!(known.iter().all(|key| learnt.contains(key)), "a key was lost");
            let text = std::fs::read(&path).expect("read");
            assert!(text.starts_with(file), "a line of others was changed");
            // Nothing but one line was added.
            let added = &text[file.len()..];
            assert!(added.iter().filter(|byte| **byte == b'\n').count() <= 2, "more than one line was added");
        });
    });
});
