//! Maps that every request looks into, by partition or topic. The standard library's hash withstands
//! keys that are chosen to collide and costs a hundred instructions more for it; that is for maps
//! which clients fill with names at will and which last, such as groups and their protocols. (Members
//! have ids of our choice.) This one is seeded at the start, so that collisions cannot be prepared,
//! and what a request or a fetch session names is bounded.

use foldhash::fast::RandomState;

pub type DashMap<K, V> = dashmap::DashMap<K, V, RandomState>;
pub type HashMap<K, V> = std::collections::HashMap<K, V, RandomState>;
pub type HashSet<T> = std::collections::HashSet<T, RandomState>;
pub type IndexMap<K, V> = indexmap::IndexMap<K, V, RandomState>;
