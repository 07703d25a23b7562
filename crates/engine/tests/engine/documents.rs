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
fn the_page_of_errors_lists_every_code() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors.md");
    let text = std::fs::read_to_string(&path).expect("the document");
    let (head, _) = text.split_once("| Code |").expect("a table");
    let (codes, exits) = (crabbox_vast_engine::errors_markdown(), crabbox_vast_engine::exits_markdown());
    let wanted = format!("{head}{codes}\n## Exit codes\n\n{exits}");
    if std::env::var_os("CRABBOX_VAST_WRITE_DOCUMENTS").is_some() {
        std::fs::write(&path, &wanted).expect("written");
    } else {
        assert!(
            text == wanted,
            "docs/errors.md is not in step: CRABBOX_VAST_WRITE_DOCUMENTS=1 writes it anew"
        );
    }
}

#[test]
fn the_architecture_draws_the_state_table() {
    assert_holds("docs/architecture.md", &lease::mermaid());
}

#[test]
fn every_test_that_the_page_of_contract_tests_names_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/contract-tests.md")).unwrap();
    let mut code = String::new();
    let mut folders = vec![root.join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                code.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let names = page
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.matches('_').count() >= 2 && word.chars().all(|c| !c.is_ascii_uppercase()));
    let missing: Vec<&str> = names.filter(|name| !code.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
