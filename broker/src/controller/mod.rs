//! The controller: election, partition and replica state machines, topic deletion.

pub mod admin;
pub mod assignment;
pub mod batch;
pub mod channel;
pub mod core;
pub mod election;
pub mod event;
mod partition;
#[cfg(test)]
mod recording_store;
mod replica;
pub mod run;
pub mod state;
mod store;
mod topic_deletion;
pub mod topic_name;
mod window;
mod znode;
