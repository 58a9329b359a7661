//! Maps that every request looks into. The standard library's hash withstands keys that are chosen to
//! collide and costs a hundred instructions more for it; that is for what clients name freely, such as
//! groups and members. Partitions and topics are only kept once somebody was allowed to create them, and
//! the hash of theirs is seeded at the start all the same.

use foldhash::fast::RandomState;

pub type DashMap<K, V> = dashmap::DashMap<K, V, RandomState>;
pub type HashMap<K, V> = std::collections::HashMap<K, V, RandomState>;
pub type IndexMap<K, V> = indexmap::IndexMap<K, V, RandomState>;
