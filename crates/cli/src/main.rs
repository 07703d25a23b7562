//! The command line of crabbox-vast: reads arguments, calls the engine, prints what comes back.
//!
//! `args` is what can be typed, `commands` has one file per command, `session` builds the engine (on Vast, or on the
//! simulator with `--sim`), `terminal` is that of a shell, `progress` shows what happens meanwhile, and `printer` alone writes to the terminal; `advice` is what to type next.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod advice;
mod args;
mod commands;
mod hardening;
mod printer;
mod progress;
#[cfg(test)]
mod reference;
mod session;
mod signals;
mod simulate;
mod terminal;

use printer::Printer;
use std::process::ExitCode;

fn main() -> ExitCode {
    hardening::refuse_core_dumps();
    let printer = Printer::new();
    let code = match args::parse(std::env::args_os()) {
        Ok(matches) => commands::dispatch(&matches, &printer),
        Err(refused) => refused.show(&printer),
    };
    ExitCode::from(printer.end(code))
}
