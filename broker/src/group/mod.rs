//! Classic consumer groups and committed offsets.

pub mod coordinator;
