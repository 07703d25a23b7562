//! The production versions of the seams.

pub mod ambient;
pub mod disk;
pub mod http;
