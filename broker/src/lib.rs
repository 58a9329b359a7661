//! Ottla: a Kafka 3.9 broker for ZooKeeper clusters. Rooms in the order of their layers: a room
//! imports only from those above it (`tests/layers.rs` checks).

pub mod clock;
pub mod error;
pub mod hash;
pub mod types;

pub mod config;

pub mod record;

pub mod log;

pub mod cluster;
pub mod purgatory;

pub mod zk;

pub mod quota;

pub mod net;

pub mod replica;

pub mod controller;
pub mod group;
pub mod txn;

pub mod api;

pub mod broker;
pub mod cli;
