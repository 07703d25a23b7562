//! The flags of settings, made from the engine's table.

use clap::{Arg, ArgAction, ArgMatches, Command};
use crabbox_vast_engine::Result;
use crabbox_vast_engine::config::{Kind, OverrideOrigin, Overrides, SETTINGS, Scope, Setting};

/// Adds the settings' flags to a command; `creating` also those of commands that may create a lease.
pub fn flags(command: Command, creating: bool) -> Command {
    let known = SETTINGS.iter().filter(|setting| creating || setting.scope == Scope::Every);
    command.args(known.filter_map(flag))
}

/// Adds the flags of what a lease may cost, for a command that creates none and yet pays.
pub fn paying(command: Command) -> Command {
    command.args(SETTINGS.iter().filter(|setting| setting.scope == Scope::Paying).filter_map(flag))
}

fn flag(setting: &Setting) -> Option<Arg> {
    let name = setting.flag?;
    let mut help = setting.help.to_owned();
    if !setting.default.is_empty() {
        help.push_str(&format!(" [default: {}{}{}]", setting.default, pad(setting.unit), setting.unit));
    }
    if let Some(variable) = setting.env.first() {
        help.push_str(&format!(" [env: {variable}]"));
    }
    let value = match setting.kind {
        Kind::Count | Kind::Number(_) => "NUMBER",
        Kind::Duration => "DURATION",
        Kind::Url => "URL",
        Kind::Slug => "NAME",
        Kind::Ports => "PORT",
        _ => "TEXT",
    };
    // The text is read by the engine, which knows the default that an empty one stands for.
    let arg = Arg::new(name).long(name).value_name(value).help(help).help_heading("Settings");
    Some(if setting.kind == Kind::Ports { arg.action(ArgAction::Append) } else { arg })
}

fn pad(unit: &str) -> &str {
    if unit.is_empty() { "" } else { " " }
}

/// The settings that were given as flags.
pub fn overrides(matches: &ArgMatches) -> Result<Overrides> {
    let mut overrides = Overrides::new();
    for setting in SETTINGS {
        if let Some(name) = setting.flag
            && let Ok(Some(values)) = matches.try_get_many::<String>(name)
        {
            // Only a list may be given more than once.
            let text = values.map(String::as_str).collect::<Vec<_>>().join(",");
            overrides.set(setting.key, text, OverrideOrigin::Flag)?;
        }
    }
    Ok(overrides)
}
