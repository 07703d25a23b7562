//! vast
