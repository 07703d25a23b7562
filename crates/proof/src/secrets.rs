//! Where secrets may not be: what leaves a process, by whichever way, is looked through for every secret there is.

use crate::history::Happening;
use crate::shared::{Shared, lock};
use crate::start_script;
use crabbox_vast_sim::api::Request;
use memchr::memmem::Finder;
use serde::Serialize;
use std::path::Path;
use std::sync::LazyLock;

/// What is looked for wherever something is written: each search is prepared once.
#[derive(Clone, Debug)]
pub(crate) struct Secret(Finder<'static>);

impl Secret {
    pub(crate) fn new(text: &str) -> Self {
        Self(Finder::new(text).into_owned())
    }

    fn is(&self, text: &str) -> bool {
        self.0.needle() == text.as_bytes()
    }

    fn is_in(&self, text: &str) -> bool {
        self.0.find(text.as_bytes()).is_some()
    }
}

/// What records say of branches that nothing else shows.
static PIECES: LazyLock<[(Finder, &str); 5]> = LazyLock::new(|| {
    [
        ("adopted: ", "a create without an answer was adopted by its label"),
        ("nothing: proved", "a lost create was proved never to have been"),
        ("discarded: bid_too_low", "a refused create left a machine, which was discarded"),
        ("\"rollback-cleanup\"", "a failed acquire was rolled back"),
        ("the lease is in use again", "a destroy or a stop was called off, for the lease is in use again"),
    ]
    .map(|(piece, branch)| (Finder::new(piece), branch))
});

impl Shared {
    pub(crate) fn keep_secret(&self, secret: String) {
        let mut secrets = lock(&self.secrets);
        if !secrets.iter().any(|known| known.is(&secret)) {
            secrets.push(Secret::new(&secret));
        }
    }

    /// Something was written: no secret may be in it, unless it belongs there. That is a private key in its own file
    /// alone.
    pub(crate) fn look_at_file(&self, path: &Path, bytes: &[u8]) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let text = String::from_utf8_lossy(bytes);
        let place = || format!("the file {}", path.display());
        if path.starts_with(&self.keys) && name.contains("id_ed25519") && !name.contains(".pub") {
            // What stands before it is the same in every key, or public.
            let private: Vec<&str> = text.lines().skip(3).filter(|line| !line.starts_with("---")).collect();
            let rest = text.lines().filter(|line| !private.contains(line)).flat_map(|line| [line, "\n"]);
            self.look_at_text(&rest.collect::<String>(), place);
            private.into_iter().for_each(|line| self.keep_secret(line.to_owned()));
            return;
        }
        self.look_at_text(&text, place);
        for (piece, branch) in PIECES.iter() {
            if piece.find(text.as_bytes()).is_some() {
                self.reach(branch);
            }
        }
    }

    pub(crate) fn look_at_text(&self, text: &str, place: impl FnOnce() -> String) {
        if lock(&self.secrets).iter().any(|secret| secret.is_in(text)) {
            self.note(Happening::Secret { place: place() });
        }
    }

    /// A request is on its way: its address and its body, with what is packed in the start script.
    pub(crate) fn look_at_request(&self, request: &Request) {
        let query = request.query.iter().flat_map(|(name, value)| [name.as_str(), "=", value.as_str(), "&"]);
        let address = format!("{}?{}", request.path, query.collect::<String>());
        self.look_at_text(&address, || format!("the address {address}"));
        if request.body.is_empty() {
            return;
        }
        let body = String::from_utf8_lossy(&request.body);
        let place = || format!("the body of {} {}", request.method, request.path);
        self.look_at_text(&body, place);
        if let Some(packed) = start_script::unpacked(&body) {
            self.look_at_text(&packed, || format!("the start script in {}", place()));
        }
    }

    /// An operation has come to an end well: what its caller is told.
    pub(crate) fn look_at_result(&self, what: &str, result: &impl Serialize) {
        let text = serde_json::to_string(result).unwrap_or_default();
        self.look_at_text(&text, || format!("the result of {what}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::judge;
    use crate::shared::KEY;
    use crate::stage::Stage;
    use crate::start_script::pack;
    use crate::vendor::Vendor;
    use serde_json::json;
    use std::collections::BTreeSet;

    fn shown(show: impl Fn(&Shared)) -> u64 {
        let stage = Stage::new(1, &Vendor::default());
        show(stage.shared());
        judge(&stage.history(), &BTreeSet::new(), 1.0).secrets
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_in_a_request_or_a_result_is_found() {
        let asks = |body: serde_json::Value| Request::new("PUT", "/api/v0/asks/1/").bearer(KEY).json(&body);
        assert_eq!(shown(|shared| shared.look_at_request(&asks(json!({ "env": {} })))), 0);
        assert_eq!(shown(|shared| shared.look_at_request(&asks(json!({ "env": { "K": KEY } })))), 1);
        let script = format!("( eval \"$(echo {}|base64 -d|gzip -dc)\" )", pack(&format!("k={KEY}")));
        assert_eq!(shown(|shared| shared.look_at_request(&asks(json!({ "onstart": script })))), 1);
        let address = Request::new("GET", &format!("/api/v0/users/current/?api_key={KEY}"));
        assert_eq!(shown(|shared| shared.look_at_request(&address)), 1);
        assert_eq!(shown(|shared| shared.look_at_result("a status", &json!({ "key": [KEY] }))), 1);
        assert_eq!(shown(|shared| shared.look_at_result("a status", &json!({ "key": 1 }))), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn in_the_key_folder_a_private_key_stands_in_its_own_file_alone() {
        let key = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn\nQyNTUx\nprivate-half\n-----END\n";
        let writes = |name: &str, text: &str| {
            shown(|shared| {
                let folder = shared.keys.join("cbx_0123456789ab");
                shared.look_at_file(&folder.join(".id_ed25519.tmp-1"), key.as_bytes());
                shared.look_at_file(&folder.join("id_ed25519"), key.as_bytes());
                shared.look_at_file(&folder.join(name), text.as_bytes());
            })
        };
        assert_eq!(writes("known_hosts", "a host"), 0);
        assert_eq!(writes("known_hosts", KEY), 1);
        assert_eq!(writes("known_hosts", "private-half"), 1);
        assert_eq!(writes("id_ed25519.pub", "private-half"), 1);
        assert_eq!(writes("id_ed25519", &key.replace("b3Blbn", KEY)), 1);
    }
}
