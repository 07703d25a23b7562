//! How Vast speaks.
//!
//! [`request`] builds calls as data, [`decode`] reads the answers leniently, [`failure`] tells by body token what a
//! refusal means, [`offer`] and [`select`] know offers and which one to rent, [`instance`] what a rented machine
//! shows, [`pacing`] the published intervals. All of that is pure. [`client`] has the calls, and one sender for all of them.

pub mod client;
pub mod decode;
pub mod failure;
mod field;
pub mod instance;
pub mod offer;
pub mod pacing;
pub mod request;
pub mod select;
mod sender;
mod skew;

pub use client::{Client, Inventory};
pub use decode::Account;
pub use failure::{Failure, Kind, judge};
pub use instance::{Endpoint, EndpointKind, Instance};
pub use offer::Offer;
pub use request::{Filter, Request};
