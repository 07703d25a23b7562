//! What the documents draw from the code is what the code says; `cargo run --example documents` prints it anew.

use crabbox_vast_engine::{config, lease};

fn assert_holds(document: &str, part: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(document);
    let text = std::fs::read_to_string(path).expect("the document");
    assert!(text.contains(part.trim()), "{document} must hold:\n{part}");
}

#[test]
fn the_readme_lists_every_setting() {
    assert_holds("README.md", &config::settings_markdown());
}

#[test]
fn the_architecture_draws_the_state_table() {
    assert_holds("docs/architecture.md", &lease::mermaid());
}
