//! Shared pieces of the wire tests.

pub mod zookeeper;
