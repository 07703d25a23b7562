//! The production versions of the seams.

mod ambient;
mod disk;

pub use ambient::RealAmbient;
pub use disk::RealFiles;
