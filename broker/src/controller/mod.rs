//! The controller: election, partition and replica state machines, topic deletion.

pub mod batch;
pub mod core;
pub mod election;
pub mod event;
mod partition;
mod replica;
pub mod run;
pub mod state;
mod topic_deletion;
