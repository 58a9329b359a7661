//! The records of `__consumer_offsets` (`OffsetCommitKey/Value`, `GroupMetadataKey/Value`).
//!
//! Key and value each begin with an int16 version; the key's version says what the record is.
//!
//! | key version | record | key | value versions read (written) |
//! |---|---|---|---|
//! | 0, 1 (writes 1) | offset commit | group string, topic string, partition int32 | 0–4 (3; 1 with an explicit expiry) |
//! | 2 | group metadata | group string | 0–4 (3) |
//! | other | KIP-848 and share groups | not ours | ignored, and never deleted |
//!
//! Versions below 4 are not flexible: strings have an int16 length, bytes and arrays an int32
//! one. Version 4 (KIP-915) has compact lengths and tagged fields, which are skipped. A null value
//! is a tombstone. Lengths are compared with what is left before anything is allocated.
//!
//! Source: `group-coordinator/src/main/resources/common/message/*.json`, `GroupMetadataManager`.

use std::sync::Arc;

use bytes::{BufMut, Bytes};

use super::offsets::OffsetAndMetadata;
use crate::error::{ErrorCode, KafkaCode};
use crate::types::{Millis, TopicPartition};

const OFFSET_COMMIT_KEY_VERSION: i16 = 1;
const GROUP_METADATA_KEY_VERSION: i16 = 2;
/// The last version that is not flexible.
const VALUE_VERSION: i16 = 3;
/// Has an expire timestamp.
const OFFSET_VALUE_VERSION_WITH_EXPIRY: i16 = 1;
const HIGHEST_VALUE_VERSION: i16 = 4;

/// What is wrong with a record, or why it cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{field}: needs {needed} bytes, {left} are left")]
    Truncated {
        field: &'static str,
        needed: usize,
        left: usize,
    },
    #[error("{field}: length {length} is not possible")]
    BadLength { field: &'static str, length: i64 },
    #[error("{field}: not UTF-8")]
    NotUtf8 { field: &'static str },
    #[error("{field}: null, which its schema does not allow")]
    Null { field: &'static str },
    #[error("{what} value of version {version}, we know 0 to {HIGHEST_VALUE_VERSION}")]
    UnknownValueVersion { what: &'static str, version: i16 },
    #[error("a record without a key")]
    NoKey,
    #[error("{field}: {length} bytes, a record holds at most {max}", max = i16::MAX)]
    TooLong { field: &'static str, length: usize },
    #[error(transparent)]
    Batch(#[from] crate::record::Error),
}

impl KafkaCode for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Truncated { .. }
            | Self::BadLength { .. }
            | Self::NotUtf8 { .. }
            | Self::Null { .. }
            | Self::UnknownValueVersion { .. }
            | Self::NoKey => ErrorCode::CorruptMessage,
            Self::TooLong { .. } => ErrorCode::RecordListTooLarge,
            Self::Batch(error) => error.code(),
        }
    }
}

/// One record, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    Offset {
        group: Arc<str>,
        partition: TopicPartition,
        /// `None` is a tombstone.
        value: Option<OffsetAndMetadata>,
    },
    Group {
        group: Arc<str>,
        /// `None` is a tombstone.
        value: Option<GroupValue>,
    },
    /// A record of a coordinator that is not ours.
    Unknown { key_version: i16 },
}

/// The value of a group metadata record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupValue {
    /// Empty for a group that only stores offsets.
    pub protocol_type: String,
    pub generation: i32,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    /// Milliseconds since the epoch, −1 before version 2.
    pub current_state_timestamp: Millis,
    pub members: Vec<MemberValue>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemberValue {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub subscription: Bytes,
    pub assignment: Bytes,
}

impl Record {
    /// Reads a record. The result shares no memory with the input.
    pub fn decode(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Self, Error> {
        let mut key = Reader::new(key.ok_or(Error::NoKey)?);
        let key_version = key.i16("key version")?;
        match key_version {
            0 | OFFSET_COMMIT_KEY_VERSION => Ok(Self::Offset {
                group: key.string("group")?.into(),
                partition: {
                    let topic = key.string("topic")?;
                    TopicPartition::new(topic, key.i32("partition")?)
                },
                value: value.map(decode_offset).transpose()?,
            }),
            GROUP_METADATA_KEY_VERSION => Ok(Self::Group {
                group: key.string("group")?.into(),
                value: value.map(decode_group).transpose()?,
            }),
            _ => Ok(Self::Unknown { key_version }),
        }
    }

    /// Puts the key's bytes, in the version Kafka 3.9 writes. A record of an unknown key is never
    /// written.
    pub fn put_key(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        match self {
            Self::Offset {
                group, partition, ..
            } => {
                out.reserve(10 + group.len() + partition.topic.len());
                out.put_i16(OFFSET_COMMIT_KEY_VERSION);
                put_string(out, "group", group)?;
                put_string(out, "topic", &partition.topic)?;
                out.put_i32(partition.partition);
            }
            Self::Group { group, .. } => {
                out.put_i16(GROUP_METADATA_KEY_VERSION);
                put_string(out, "group", group)?;
            }
            Self::Unknown { key_version } => out.put_i16(*key_version),
        }
        Ok(())
    }

    /// Puts the value's bytes; false for a tombstone, which has none.
    pub fn put_value(&self, out: &mut Vec<u8>) -> Result<bool, Error> {
        match self {
            Self::Offset {
                value: Some(value), ..
            } => put_offset(out, value)?,
            Self::Group {
                value: Some(value), ..
            } => put_group(out, value)?,
            Self::Offset { value: None, .. }
            | Self::Group { value: None, .. }
            | Self::Unknown { .. } => return Ok(false),
        }
        Ok(true)
    }
}

fn put_offset(out: &mut Vec<u8>, value: &OffsetAndMetadata) -> Result<(), Error> {
    let size = if value.expire_timestamp.is_some() {
        28
    } else {
        24
    };
    out.reserve(size + value.metadata.len());
    match value.expire_timestamp {
        Some(expire_timestamp) => {
            out.put_i16(OFFSET_VALUE_VERSION_WITH_EXPIRY);
            out.put_i64(value.offset);
            put_string(out, "metadata", &value.metadata)?;
            out.put_i64(value.commit_timestamp);
            out.put_i64(expire_timestamp);
        }
        None => {
            out.put_i16(VALUE_VERSION);
            out.put_i64(value.offset);
            out.put_i32(value.leader_epoch.unwrap_or(-1));
            put_string(out, "metadata", &value.metadata)?;
            out.put_i64(value.commit_timestamp);
        }
    }
    Ok(())
}

fn decode_offset(bytes: &[u8]) -> Result<OffsetAndMetadata, Error> {
    let mut reader = Reader::new(bytes);
    let version = reader.value_version("offset commit")?;
    let offset = reader.i64("offset")?;
    let leader_epoch = if version >= 3 {
        Some(reader.i32("leaderEpoch")?).filter(|epoch| *epoch != -1)
    } else {
        None
    };
    let metadata = reader.string("metadata")?;
    let commit_timestamp = reader.i64("commitTimestamp")?;
    let expire_timestamp = if version == 1 {
        Some(reader.i64("expireTimestamp")?).filter(|timestamp| *timestamp != -1)
    } else {
        None
    };
    reader.skip_tags()?;
    Ok(OffsetAndMetadata {
        offset,
        leader_epoch,
        metadata: metadata.into(),
        commit_timestamp,
        expire_timestamp,
    })
}

fn put_group(out: &mut Vec<u8>, value: &GroupValue) -> Result<(), Error> {
    let of_members: usize = value.members.iter().map(encoded_len).sum();
    out.reserve(128 + of_members);
    out.put_i16(VALUE_VERSION);
    put_string(out, "protocolType", &value.protocol_type)?;
    out.put_i32(value.generation);
    put_nullable_string(out, "protocol", value.protocol.as_deref())?;
    put_nullable_string(out, "leader", value.leader.as_deref())?;
    out.put_i64(value.current_state_timestamp);
    put_len(out, "members", value.members.len())?;
    for member in &value.members {
        put_string(out, "memberId", &member.member_id)?;
        put_nullable_string(out, "groupInstanceId", member.instance_id.as_deref())?;
        put_string(out, "clientId", &member.client_id)?;
        put_string(out, "clientHost", &member.client_host)?;
        out.put_i32(member.rebalance_timeout_ms);
        out.put_i32(member.session_timeout_ms);
        put_len(out, "subscription", member.subscription.len())?;
        out.put_slice(&member.subscription);
        put_len(out, "assignment", member.assignment.len())?;
        out.put_slice(&member.assignment);
    }
    Ok(())
}

/// Bytes that a member takes.
fn encoded_len(member: &MemberValue) -> usize {
    let instance_id = member.instance_id.as_ref().map_or(0, String::len);
    let texts = member.member_id.len() + member.client_id.len() + member.client_host.len();
    24 + texts + instance_id + member.subscription.len() + member.assignment.len()
}

fn decode_group(bytes: &[u8]) -> Result<GroupValue, Error> {
    let mut reader = Reader::new(bytes);
    let version = reader.value_version("group metadata")?;
    let protocol_type = reader.string("protocolType")?;
    let generation = reader.i32("generation")?;
    let protocol = reader.nullable_string("protocol")?;
    let leader = reader.nullable_string("leader")?;
    let current_state_timestamp = if version >= 2 {
        reader.i64("currentStateTimestamp")?
    } else {
        -1
    };
    let count = reader.array_len("members")?;
    // A member takes at least 18 bytes (13 when flexible), so the count bounds nothing by itself.
    let mut members = Vec::with_capacity(count.min(reader.left() / 13));
    for _ in 0..count {
        let member_id = reader.string("memberId")?;
        let instance_id = if version >= 3 {
            reader.nullable_string("groupInstanceId")?
        } else {
            None
        };
        let client_id = reader.string("clientId")?;
        let client_host = reader.string("clientHost")?;
        let rebalance_timeout_ms = if version >= 1 {
            Some(reader.i32("rebalanceTimeout")?)
        } else {
            None
        };
        let session_timeout_ms = reader.i32("sessionTimeout")?;
        members.push(MemberValue {
            member_id,
            instance_id,
            client_id,
            client_host,
            rebalance_timeout_ms: rebalance_timeout_ms.unwrap_or(session_timeout_ms),
            session_timeout_ms,
            subscription: reader.bytes("subscription")?,
            assignment: reader.bytes("assignment")?,
        });
        reader.skip_tags()?;
    }
    reader.skip_tags()?;
    Ok(GroupValue {
        protocol_type,
        generation,
        protocol,
        leader,
        current_state_timestamp,
        members,
    })
}

fn put_string(out: &mut Vec<u8>, field: &'static str, text: &str) -> Result<(), Error> {
    let length = i16::try_from(text.len()).map_err(|_| Error::TooLong {
        field,
        length: text.len(),
    })?;
    out.put_i16(length);
    out.put_slice(text.as_bytes());
    Ok(())
}

fn put_nullable_string(
    out: &mut Vec<u8>,
    field: &'static str,
    text: Option<&str>,
) -> Result<(), Error> {
    match text {
        Some(text) => put_string(out, field, text),
        None => {
            out.put_i16(-1);
            Ok(())
        }
    }
}

fn put_len(out: &mut Vec<u8>, field: &'static str, length: usize) -> Result<(), Error> {
    out.put_i32(i32::try_from(length).map_err(|_| Error::TooLong { field, length })?);
    Ok(())
}

/// Reads a message of either encoding; keys are never flexible.
struct Reader<'a> {
    left: &'a [u8],
    flexible: bool,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            left: bytes,
            flexible: false,
        }
    }

    fn left(&self) -> usize {
        self.left.len()
    }

    fn take(&mut self, field: &'static str, needed: usize) -> Result<&'a [u8], Error> {
        let left = self.left.len();
        let (taken, rest) = self.left.split_at_checked(needed).ok_or(Error::Truncated {
            field,
            needed,
            left,
        })?;
        self.left = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(field, N)?);
        Ok(array)
    }

    fn i16(&mut self, field: &'static str) -> Result<i16, Error> {
        Ok(i16::from_be_bytes(self.array(field)?))
    }

    fn i32(&mut self, field: &'static str) -> Result<i32, Error> {
        Ok(i32::from_be_bytes(self.array(field)?))
    }

    fn i64(&mut self, field: &'static str) -> Result<i64, Error> {
        Ok(i64::from_be_bytes(self.array(field)?))
    }

    fn unsigned_varint(&mut self, field: &'static str) -> Result<u32, Error> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array(field)?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::BadLength { field, length: -1 })
    }

    fn value_version(&mut self, what: &'static str) -> Result<i16, Error> {
        let version = self.i16("value version")?;
        if !(0..=HIGHEST_VALUE_VERSION).contains(&version) {
            return Err(Error::UnknownValueVersion { what, version });
        }
        self.flexible = version >= 4;
        Ok(version)
    }

    /// A length as written: `None` for null.
    fn length(&mut self, field: &'static str, short: bool) -> Result<Option<usize>, Error> {
        let length = if self.flexible {
            i64::from(self.unsigned_varint(field)?) - 1
        } else if short {
            i64::from(self.i16(field)?)
        } else {
            i64::from(self.i32(field)?)
        };
        if length == -1 {
            return Ok(None);
        }
        usize::try_from(length)
            .map(Some)
            .map_err(|_| Error::BadLength { field, length })
    }

    fn nullable_string(&mut self, field: &'static str) -> Result<Option<String>, Error> {
        let Some(length) = self.length(field, true)? else {
            return Ok(None);
        };
        let bytes = self.take(field, length)?;
        let text = std::str::from_utf8(bytes).map_err(|_| Error::NotUtf8 { field })?;
        Ok(Some(text.to_owned()))
    }

    fn string(&mut self, field: &'static str) -> Result<String, Error> {
        self.nullable_string(field)?.ok_or(Error::Null { field })
    }

    fn bytes(&mut self, field: &'static str) -> Result<Bytes, Error> {
        let length = self.length(field, false)?.ok_or(Error::Null { field })?;
        Ok(Bytes::copy_from_slice(self.take(field, length)?))
    }

    fn array_len(&mut self, field: &'static str) -> Result<usize, Error> {
        self.length(field, false)?.ok_or(Error::Null { field })
    }

    fn skip_tags(&mut self) -> Result<(), Error> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.unsigned_varint("tagged fields")? {
            self.unsigned_varint("tag")?;
            let size = self.unsigned_varint("tag size")?;
            self.take("tagged field", size as usize)?;
        }
        Ok(())
    }
}

/// The topics a consumer subscribes to, from the metadata of its protocol: version int16, then
/// the topics of version 0, which every later version begins with (`ConsumerProtocol`).
pub fn subscribed_topics(metadata: &[u8]) -> Result<Vec<String>, Error> {
    let mut reader = Reader::new(metadata);
    let version = reader.i16("subscription version")?;
    if version < 0 {
        return Err(Error::UnknownValueVersion {
            what: "subscription",
            version,
        });
    }
    let count = reader.array_len("topics")?;
    let mut topics = Vec::with_capacity(count.min(reader.left() / 2));
    for _ in 0..count {
        topics.push(reader.string("topic")?);
    }
    if let Some(length) = reader.length("userData", false)? {
        reader.take("userData", length)?;
    }
    Ok(topics)
}

#[cfg(test)]
mod tests;
