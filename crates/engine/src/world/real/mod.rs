//! The production versions of the seams.

mod ambient;
mod disk;
mod http;
mod local;

pub use ambient::RealAmbient;
pub use disk::RealFiles;
pub use http::{ReqwestHttp, is_loopback};
pub use local::RealLocal;
