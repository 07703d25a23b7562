//! Each setting is declared once, in [`SETTINGS`]; parsing, help, documentation, Node options and `config show`
//! are read off that table.
//!
//! A skin hands over a [`Snapshot`] of the environment and its flags or options as [`Overrides`]. [`Resolved::load`]
//! puts the layers on top of each other (defaults, user file, `crabbox.yaml`, `.crabbox.yaml`, environment, flags)
//! and remembers where each value came from; [`Resolved::settings`] turns the result into typed [`Settings`].
//! Files of a repository are written by others than the person who pays, so they may not choose the server that
//! receives the API key, nor loosen what limits the costs.

mod check;
mod declare;
mod directories;
mod document;
mod environment;
mod file;
mod origin;
mod repository;
mod resolve;
mod setting;
mod settings;
mod show;
mod snapshot;
mod trust;

#[cfg(test)]
mod tests;

pub use check::{OrderTerm, parse_order};
pub use declare::{SETTINGS, setting};
pub use directories::{directories, user_file};
pub use document::settings_markdown;
pub use environment::Environment;
pub use file::ConfigFile;
pub use origin::{Level, Origin};
pub use resolve::{Resolved, Value, own_files};
pub use setting::{Kind, Scope, Setting, Trust};
pub use settings::{Bootstrap, InstanceType, Settings, SyncSettings, resolve};
pub use show::{origins_json, origins_text, show_json, show_text};
pub use snapshot::{OverrideOrigin, Overrides, Snapshot, has_api_key};
pub use trust::Refusal;
