//! The Node binding: converts, calls, converts back.
