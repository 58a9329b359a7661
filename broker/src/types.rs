//! The words every room shares: topic partitions, ids, offsets.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
pub use uuid::Uuid;

/// A broker's id (`broker.id`), −1 for none.
pub type BrokerId = i32;
/// An offset in a partition's log.
pub type Offset = i64;
/// A partition's leader epoch, −1 for unknown.
pub type LeaderEpoch = i32;
/// Stands for no epoch; other negative ones are epochs of the past.
pub const NO_LEADER_EPOCH: LeaderEpoch = -1;
/// Milliseconds: a point since the Unix epoch or a length of time, as the name says.
pub type Millis = i64;
/// A producer id (KIP-98), −1 for none.
pub type ProducerId = i64;
/// A producer epoch (KIP-98), −1 for none.
pub type ProducerEpoch = i16;

/// A topic's name, cheap to clone and never a slice of a network frame.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(Arc<str>);

impl TopicName {
    pub fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for TopicName {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&str> for TopicName {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for TopicName {
    fn from(name: String) -> Self {
        Self(Arc::from(name))
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// One partition of one topic; prints as Kafka does: `topic-0`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: TopicName,
    pub partition: i32,
}

impl TopicPartition {
    pub fn new(topic: impl Into<TopicName>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// [`TopicPartition`] by a borrowed name: that of a request, say, which need not be copied for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PartitionRef<'a> {
    pub topic: &'a str,
    pub partition: i32,
}

impl PartitionRef<'_> {
    pub fn to_owned(self) -> TopicPartition {
        TopicPartition::new(self.topic, self.partition)
    }
}

impl fmt::Display for PartitionRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for PartitionRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What maps by [`TopicPartition`] are asked with: either of the two, which hash alike.
pub trait AsPartition {
    fn as_partition(&self) -> PartitionRef<'_>;
}

impl AsPartition for TopicPartition {
    fn as_partition(&self) -> PartitionRef<'_> {
        PartitionRef {
            topic: &self.topic,
            partition: self.partition,
        }
    }
}

impl AsPartition for PartitionRef<'_> {
    fn as_partition(&self) -> PartitionRef<'_> {
        *self
    }
}

impl<'a> Borrow<dyn AsPartition + 'a> for TopicPartition {
    fn borrow(&self) -> &(dyn AsPartition + 'a) {
        self
    }
}

impl Hash for dyn AsPartition + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_partition().hash(state);
    }
}

impl PartialEq for dyn AsPartition + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.as_partition() == other.as_partition()
    }
}

impl Eq for dyn AsPartition + '_ {}

/// A UUID the way Kafka prints it: base64url of the 16 bytes without padding, 22 characters.
pub fn format_uuid(id: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(id.as_bytes())
}

/// Reads what [`format_uuid`] wrote.
pub fn parse_uuid(text: &str) -> Option<Uuid> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    Uuid::from_slice(&bytes).ok()
}

/// A random topic, cluster or directory id: never zero or one (reserved), and never one whose
/// text starts with `-`, which command lines would take for a flag (`Uuid.randomUuid`).
pub fn random_uuid() -> Uuid {
    loop {
        let id = Uuid::new_v4();
        if id.as_u128() > 1 && !format_uuid(id).starts_with('-') {
            return id;
        }
    }
}

/// The random part of a member's id (`UUID.randomUUID`). Unpredictable too, yet without a system call
/// for each.
pub fn random_member_id() -> Uuid {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid()
}

/// `String.hashCode` of Java over UTF-16 code units: the partitioner of `__consumer_offsets`,
/// `__transaction_state` and the replica fetchers.
pub fn java_string_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    })
}

/// The partition of a group or transactional id: `abs(hash) mod partitions`, where the absolute
/// value of `i32::MIN` is 0 (`Utils.abs`).
pub fn coordinator_partition(id: &str, partitions: i32) -> i32 {
    let hash = java_string_hash(id);
    let abs = if hash == i32::MIN { 0 } else { hash.abs() };
    abs % partitions
}

/// The internal topics, which clients may not write.
pub const GROUP_METADATA_TOPIC: &str = "__consumer_offsets";
/// See [`GROUP_METADATA_TOPIC`].
pub const TRANSACTION_STATE_TOPIC: &str = "__transaction_state";

/// See [`GROUP_METADATA_TOPIC`]; nothing of 3.9 with ZooKeeper uses it, but its name is reserved.
pub const SHARE_GROUP_STATE_TOPIC: &str = "__share_group_state";

/// True for the three internal topics (`Topic.isInternal`).
pub fn is_internal_topic(name: &str) -> bool {
    name == GROUP_METADATA_TOPIC
        || name == TRANSACTION_STATE_TOPIC
        || name == SHARE_GROUP_STATE_TOPIC
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_hash_matches_java() {
        assert_eq!(java_string_hash(""), 0);
        assert_eq!(java_string_hash("hello"), 99162322);
        assert_eq!(java_string_hash("polygenelubricants"), i32::MIN);
        assert_eq!(coordinator_partition("polygenelubricants", 50), 0);
    }

    #[test]
    fn a_map_by_partition_is_asked_with_either_kind() {
        let map = crate::hash::HashMap::from_iter([(TopicPartition::new("t", 3), ())]);
        let has = |partition: &dyn AsPartition| map.contains_key(partition);
        assert!(has(&TopicPartition::new("t", 3)));
        let named = |topic, partition| PartitionRef { topic, partition };
        assert!(has(&named("t", 3)));
        assert!(!has(&named("t", 4)) && !has(&named("u", 3)));
    }

    #[test]
    fn uuid_text_round_trips_in_22_characters() {
        let id = random_uuid();
        let text = format_uuid(id);
        assert_eq!(text.len(), 22);
        assert_eq!(parse_uuid(&text), Some(id));
    }
}
