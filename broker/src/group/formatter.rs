//! Records of `__consumer_offsets` as text: what `--formatter …OffsetsMessageFormatter` and
//! `…GroupMetadataMessageFormatter` of the console consumer print, one JSON object per record.
//!
//! Source: `org.apache.kafka.tools.consumer.ApiMessageFormatter` and its two subclasses.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::offsets::OffsetAndMetadata;
use super::record::{GroupValue, Record};

/// Which records a formatter shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    Offsets,
    Groups,
}

/// The record's line, without an end of line; `None` when this formatter leaves it out, as one of
/// the other kind, or when it cannot be read.
pub fn describe(shown: Shown, key: Option<&[u8]>, value: Option<&[u8]>) -> Option<String> {
    let key_json = match key {
        None => "null".to_owned(),
        Some(bytes) => {
            let data = match (Record::decode(key, None).ok()?, shown) {
                (
                    Record::Offset {
                        group, partition, ..
                    },
                    Shown::Offsets,
                ) => json(&OffsetKey {
                    group: &group,
                    topic: &partition.topic,
                    partition: partition.partition,
                })?,
                (Record::Group { group, .. }, Shown::Groups) => json(&GroupKey { group: &group })?,
                (Record::Unknown { .. }, _) => "\"unknown\"".to_owned(),
                (Record::Offset { .. } | Record::Group { .. }, _) => return None,
            };
            versioned(bytes, &data)?
        }
    };
    let value_json = match value {
        None => "null".to_owned(),
        Some(bytes) => versioned(bytes, &describe_value(shown, bytes)?)?,
    };
    Some(format!("{{\"key\":{key_json},\"value\":{value_json}}}"))
}

fn describe_value(shown: Shown, bytes: &[u8]) -> Option<String> {
    let version = version_of(bytes)?;
    if !(0..=4).contains(&version) {
        return Some("\"unknown\"".to_owned());
    }
    // Any key of the kind will do to read the value by.
    let key: &[u8] = match shown {
        Shown::Offsets => &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        Shown::Groups => &[0, 2, 0, 0],
    };
    match Record::decode(Some(key), Some(bytes)).ok()? {
        Record::Offset {
            value: Some(value), ..
        } => json(&offset_value(version, &value)),
        Record::Group {
            value: Some(value), ..
        } => json(&group_value(version, &value)),
        Record::Offset { .. } | Record::Group { .. } | Record::Unknown { .. } => None,
    }
}

fn version_of(bytes: &[u8]) -> Option<i16> {
    Some(i16::from_be_bytes(*bytes.first_chunk()?))
}

fn versioned(bytes: &[u8], data: &str) -> Option<String> {
    let version = version_of(bytes)?;
    Some(format!("{{\"version\":{version},\"data\":{data}}}"))
}

fn json(value: &impl Serialize) -> Option<String> {
    serde_json::to_string(value).ok()
}

#[derive(Serialize)]
struct OffsetKey<'a> {
    group: &'a str,
    topic: &'a str,
    partition: i32,
}

#[derive(Serialize)]
struct GroupKey<'a> {
    group: &'a str,
}

/// Fields that a version lacks are left out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OffsetValue<'a> {
    offset: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    leader_epoch: Option<i32>,
    metadata: &'a str,
    commit_timestamp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expire_timestamp: Option<i64>,
}

fn offset_value(version: i16, value: &OffsetAndMetadata) -> OffsetValue<'_> {
    OffsetValue {
        offset: value.offset,
        leader_epoch: (version >= 3).then(|| value.leader_epoch.unwrap_or(-1)),
        metadata: &value.metadata,
        commit_timestamp: value.commit_timestamp,
        expire_timestamp: (version == 1).then(|| value.expire_timestamp.unwrap_or(-1)),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupJson<'a> {
    protocol_type: &'a str,
    generation: i32,
    protocol: Option<&'a str>,
    leader: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_state_timestamp: Option<i64>,
    members: Vec<MemberJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MemberJson<'a> {
    member_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_instance_id: Option<Option<&'a str>>,
    client_id: &'a str,
    client_host: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rebalance_timeout: Option<i32>,
    session_timeout: i32,
    subscription: String,
    assignment: String,
}

fn group_value(version: i16, value: &GroupValue) -> GroupJson<'_> {
    GroupJson {
        protocol_type: &value.protocol_type,
        generation: value.generation,
        protocol: value.protocol.as_deref(),
        leader: value.leader.as_deref(),
        current_state_timestamp: (version >= 2).then_some(value.current_state_timestamp),
        members: value
            .members
            .iter()
            .map(|member| MemberJson {
                member_id: &member.member_id,
                group_instance_id: (version >= 3).then_some(member.instance_id.as_deref()),
                client_id: &member.client_id,
                client_host: &member.client_host,
                rebalance_timeout: (version >= 1).then_some(member.rebalance_timeout_ms),
                session_timeout: member.session_timeout_ms,
                subscription: STANDARD.encode(&member.subscription),
                assignment: STANDARD.encode(&member.assignment),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::record::MemberValue;
    use super::*;
    use crate::types::TopicPartition;

    fn line(shown: Shown, record: &Record) -> Option<String> {
        let key = record.encode_key().unwrap();
        let value = record.encode_value().unwrap();
        describe(shown, Some(&key), value.as_deref())
    }

    #[test]
    fn offsets_as_kafka_prints_them() {
        let record = |expire_timestamp| Record::Offset {
            group: "g\"1".into(),
            partition: TopicPartition::new("t", 2),
            value: Some(OffsetAndMetadata {
                offset: 5,
                leader_epoch: None,
                metadata: "".into(),
                commit_timestamp: 9,
                expire_timestamp,
            }),
        };
        assert_eq!(
            line(Shown::Offsets, &record(None)).unwrap(),
            r#"{"key":{"version":1,"data":{"group":"g\"1","topic":"t","partition":2}},"value":{"version":3,"data":{"offset":5,"leaderEpoch":-1,"metadata":"","commitTimestamp":9}}}"#
        );
        assert!(
            line(Shown::Offsets, &record(Some(10)))
                .unwrap()
                .ends_with(r#""commitTimestamp":9,"expireTimestamp":10}}}"#)
        );
        assert_eq!(line(Shown::Groups, &record(None)), None);
    }

    #[test]
    fn groups_and_tombstones_as_kafka_prints_them() {
        let record = Record::Group {
            group: "g".into(),
            value: Some(GroupValue {
                protocol_type: "consumer".into(),
                generation: 1,
                protocol: Some("range".into()),
                leader: None,
                current_state_timestamp: 7,
                members: vec![MemberValue {
                    member_id: "m".into(),
                    subscription: Bytes::from_static(&[0, 1]),
                    ..MemberValue::default()
                }],
            }),
        };
        assert_eq!(
            line(Shown::Groups, &record).unwrap(),
            r#"{"key":{"version":2,"data":{"group":"g"}},"value":{"version":3,"data":{"protocolType":"consumer","generation":1,"protocol":"range","leader":null,"currentStateTimestamp":7,"members":[{"memberId":"m","groupInstanceId":null,"clientId":"","clientHost":"","rebalanceTimeout":0,"sessionTimeout":0,"subscription":"AAE=","assignment":""}]}}}"#
        );
        assert_eq!(
            describe(Shown::Groups, Some(&[0, 2, 0, 1, b'g']), None).unwrap(),
            r#"{"key":{"version":2,"data":{"group":"g"}},"value":null}"#
        );
        assert_eq!(
            describe(Shown::Groups, Some(&[0, 8]), Some(&[0, 9])).unwrap(),
            r#"{"key":{"version":8,"data":"unknown"},"value":{"version":9,"data":"unknown"}}"#
        );
    }
}
