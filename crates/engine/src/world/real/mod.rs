//! The production versions of the seams.
