//! The controller: election, partition and replica state machines, topic deletion.

pub mod admin;
mod alter_partition;
pub mod assignment;
pub mod batch;
mod bug;
pub mod channel;
mod controlled_shutdown;
pub mod core;
mod elect_leaders;
pub mod election;
pub mod event;
mod partition;
mod reassignment;
#[cfg(test)]
mod recording_store;
mod replica;
pub mod run;
pub mod state;
mod store;
mod topic_deletion;
pub mod topic_name;
mod znode;
