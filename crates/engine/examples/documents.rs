//! Prints the parts of the documentation that are drawn from the code: `settings`, `states` or `errors`.
fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("settings") => print!("{}", crabbox_vast_engine::config::settings_markdown()),
        Some("states") => print!("{}", crabbox_vast_engine::lease::mermaid()),
        Some("errors") => print!("{}", crabbox_vast_engine::errors_markdown()),
        _ => std::process::exit(2),
    }
}
