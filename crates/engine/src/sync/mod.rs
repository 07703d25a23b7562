//! Bringing a working tree over: what belongs to it, what of it is there already, and what has to travel.
//!
//! [`manifest`] asks the local git which files there are and drops what [`excludes`] say; [`guard`] refuses what is too
//! much; [`record`] is what we know of the far side; [`plan`] compares the two; [`load`] writes the difference as one tar
//! stream, and [`script`] holds the few shell scripts that unpack it, prune, and remember. [`unpack`] is the way back, for
//! copies from an instance: it trusts nothing that a stream says.

pub mod excludes;
pub mod guard;
pub mod load;
pub mod manifest;
pub mod pack;
pub mod path;
pub mod pattern;
pub mod place;
pub mod plan;
pub mod record;
pub mod script;
pub mod there;
pub mod unpack;
