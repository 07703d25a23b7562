//! Prints the parts of the documentation that are drawn from the code: `settings` or `states`.
fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("settings") => print!("{}", crabbox_vast_engine::config::settings_markdown()),
        Some("states") => print!("{}", crabbox_vast_engine::lease::mermaid()),
        _ => std::process::exit(2),
    }
}
