//! Shared pieces of the wire tests.

pub mod batches;
pub mod differential;
pub mod golden;
pub mod kafka;
pub mod ottla;
pub mod zookeeper;
