//! Shared pieces of the wire tests.
