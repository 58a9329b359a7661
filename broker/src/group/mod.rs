//! Classic consumer groups and committed offsets (`kafka.coordinator.group`), kept in
//! `__consumer_offsets` in Kafka's own record schemas.
//!
//! `group.rs` and its neighbours are the state machine of one group: synchronous, fed by
//! `step(now, event, effects)`. `offsets.rs` holds what a group has committed, `record.rs` the
//! record codec. `coordinator.rs` is the edge: it loads partitions, routes requests to groups,
//! arms timers and appends.
//!
//! Numbered invariants, cited in code and tests:
//! - G1 A member of an old generation can neither commit nor heartbeat.
//! - G2 The generation only grows, by one for each completed join phase.
//! - G3 Every request is answered exactly once, whatever happens to its member or group.
//! - G4 What a load replays equals what the live group had when the last record was appended.
//! - G5 Records of one group reach the log in the order in which `step` produced them.

pub mod coordinator;
pub mod event;
pub mod formatter;
#[expect(
    clippy::module_inception,
    reason = "the state machine of a group is the room's main noun"
)]
pub mod group;
mod join;
mod loader;

pub mod member;
pub mod offsets;
pub mod offsets_topic;
mod rebalance;
pub mod record;

/// Logger of the room, as Kafka's log4j names it.
const LOG: &str = "kafka.coordinator.group.GroupCoordinator";
