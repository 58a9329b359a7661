//! Shared pieces of the wire tests.

pub mod golden;
pub mod ottla;
pub mod zookeeper;
