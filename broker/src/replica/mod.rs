//! Leader and follower of each partition: append, fetch, high watermark, and those who wait
//! (`kafka.server.ReplicaManager`, `kafka.cluster.Partition`).
//!
//! `state.rs` decides (epochs, ISR, high watermark), `partition.rs` is one partition with its log
//! and its waiting requests, `manager.rs` all of them, `orders.rs` what the controller orders,
//! `append.rs`, `fetch.rs`, `offsets.rs` what clients ask, `session.rs` and `fetch_context.rs`
//! incremental fetch sessions, `selector.rs` from which replica a consumer reads.
//!
//! Between brokers: `fetcher/` copies what other brokers lead, cutting by `truncation.rs`; `isr.rs`
//! takes changes of the ISR to the controller, in the shape of `alter_partition.rs`. Between log
//! dirs of this broker: `alter_log_dirs.rs`, with the same core.
//!
//! Invariants:
//! 1. A partition's leadership does not change while an append to it runs (a shared lock, taken
//!    exclusively by changes). No lock is held across an await.
//! 2. The high watermark is advanced before the append that moved it is answered, and whoever waits
//!    is signalled after.
//! 3. What a client may read ends at the high watermark (read_uncommitted) or the last stable offset
//!    (read_committed), taken before the read.

pub mod alter_log_dirs;
pub mod alter_partition;
mod append;
mod fetch;
mod fetch_context;
pub mod fetcher;
mod isr;
pub mod manager;
pub mod offsets;
mod orders;
pub mod partition;
pub mod selector;
pub mod session;
pub mod state;
mod throttles;
pub mod truncation;

pub use append::{AppendFailure, Appended, Appends, ToAppend, Unreplicated};
pub use fetch::{FetchParams, Fetched, Reading, ToFetch};
pub use fetch_context::{FetchContext, SessionRequest};
pub use offsets::{Deleted, FoundOffset};

#[cfg(test)]
mod tests;
