//! How keys and values of records become text: `--offsets-decoder`, `--key-decoder-class` and
//! `--value-decoder-class` of Kafka's tool. Classes of Java cannot be loaded; those that Kafka
//! brings are known by name.

use anyhow::bail;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Buf as _;
use kafka_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use kafka_protocol::protocol::Decodable as _;
use serde_json::{Map, Value, json};

use crate::group::formatter::{Shown, describe};

/// One of Kafka's decoders of a single field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decoder {
    Text,
    Integer,
    Long,
}

impl Decoder {
    /// By the name of its class, in any package; none is text.
    pub(super) fn named(class: Option<&str>) -> anyhow::Result<Self> {
        let Some(class) = class.filter(|class| !class.is_empty()) else {
            return Ok(Self::Text);
        };
        Ok(match class.rsplit('.').next() {
            Some("StringDecoder") => Self::Text,
            Some("IntegerDecoder") => Self::Integer,
            Some("LongDecoder") => Self::Long,
            _ => bail!(
                "{class}: this tool cannot load classes; it has StringDecoder, IntegerDecoder and LongDecoder"
            ),
        })
    }

    pub(super) fn text(self, bytes: &[u8]) -> anyhow::Result<String> {
        Ok(match self {
            Self::Text => String::from_utf8_lossy(bytes).into_owned(),
            Self::Integer => match bytes.first_chunk() {
                Some(number) => i32::from_be_bytes(*number).to_string(),
                None => bail!("{} bytes are too few for an integer", bytes.len()),
            },
            Self::Long => match bytes.first_chunk() {
                Some(number) => i64::from_be_bytes(*number).to_string(),
                None => bail!("{} bytes are too few for a long", bytes.len()),
            },
        })
    }
}

/// Key and value of a record of `__consumer_offsets` as JSON.
pub(super) fn group_record(
    offset: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> anyhow::Result<(String, Option<String>)> {
    if key.is_none() {
        bail!(
            "Failed to decode message at offset {offset} using offset topic decoder (message had a missing key)"
        );
    }
    let described = [Shown::Offsets, Shown::Groups]
        .into_iter()
        .find_map(|shown| describe(shown, key, value))
        .and_then(|line| serde_json::from_str::<Value>(&line).ok());
    let Some(described) = described else {
        return Ok((format!("Error at offset {offset}, skipping. "), None));
    };
    let version = |part: &Value| part["version"].to_string();
    let (key, value) = (&described["key"], &described["value"]);
    if key["data"] == "unknown" {
        let kind = version(key);
        return Ok((
            format!("Unknown record type {kind} at offset {offset}, skipping."),
            None,
        ));
    }
    let key_text = json!({"type": version(key), "data": key["data"]}).to_string();
    let value_text = if value.is_null() {
        "<DELETE>".to_owned()
    } else {
        let data = readable_members(value["data"].clone());
        json!({"version": version(value), "data": data}).to_string()
    };
    Ok((key_text, Some(value_text)))
}

/// The members of a group of consumers with what they subscribe to and have in plain.
fn readable_members(mut group: Value) -> Value {
    if group["protocolType"] != "consumer" {
        return group;
    }
    for member in group["members"].as_array_mut().into_iter().flatten() {
        for (field, read) in [
            ("subscription", subscription as fn(&[u8]) -> Option<Value>),
            ("assignment", assignment),
        ] {
            let bytes = member[field].as_str().map(|text| STANDARD.decode(text));
            // What cannot be read stays as bytes, as in Kafka.
            if let Some(plain) = bytes.and_then(|bytes| read(&bytes.ok()?)) {
                member[field] = plain;
            }
        }
    }
    group
}

fn subscription(mut bytes: &[u8]) -> Option<Value> {
    let version = protocol_version(&mut bytes)?;
    let read = ConsumerProtocolSubscription::decode(&mut bytes, version).ok()?;
    let mut fields = Map::new();
    fields.insert(
        "topics".to_owned(),
        json!(
            read.topics
                .iter()
                .map(|topic| topic.as_str())
                .collect::<Vec<_>>()
        ),
    );
    fields.insert("userData".to_owned(), user_data(read.user_data.as_deref()));
    if version >= 1 {
        let owned = read.owned_partitions.iter();
        let owned = owned
            .map(|owned| json!({"topic": owned.topic.0.as_str(), "partitions": owned.partitions}));
        fields.insert("ownedPartitions".to_owned(), owned.collect());
    }
    if version >= 2 {
        fields.insert("generationId".to_owned(), json!(read.generation_id));
    }
    if version >= 3 {
        let rack = read.rack_id.as_ref().map(|rack| rack.as_str());
        fields.insert("rackId".to_owned(), json!(rack));
    }
    Some(Value::Object(fields))
}

fn assignment(mut bytes: &[u8]) -> Option<Value> {
    let version = protocol_version(&mut bytes)?;
    let read = ConsumerProtocolAssignment::decode(&mut bytes, version).ok()?;
    let assigned = read.assigned_partitions.iter();
    let assigned: Value = assigned
        .map(|topic| json!({"topic": topic.topic.0.as_str(), "partitions": topic.partitions}))
        .collect();
    Some(json!({
        "assignedPartitions": assigned,
        "userData": user_data(read.user_data.as_deref()),
    }))
}

fn protocol_version(bytes: &mut &[u8]) -> Option<i16> {
    if bytes.len() < 2 {
        return None;
    }
    let version = bytes.get_i16();
    (0..=3).contains(&version).then_some(version)
}

fn user_data(bytes: Option<&[u8]>) -> Value {
    bytes.map_or(Value::Null, |bytes| json!(STANDARD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoders_are_known_by_their_class() {
        let long = Decoder::named(Some("org.apache.kafka.tools.api.LongDecoder")).unwrap();
        assert_eq!(long.text(&7i64.to_be_bytes()).unwrap(), "7");
        let integer = Decoder::named(Some("kafka.serializer.IntegerDecoder")).unwrap();
        assert_eq!(integer.text(&[255; 4]).unwrap(), "-1");
        assert!(integer.text(&[1]).is_err());
        assert_eq!(Decoder::named(None).unwrap().text(b"a").unwrap(), "a");
        assert!(Decoder::named(Some("com.example.Mine")).is_err());
    }

    #[test]
    fn group_records_are_json() {
        // A deleted offset of g, t-0; a key of a kind that nobody knows.
        let key = [0, 1, 0, 1, b'g', 0, 1, b't', 0, 0, 0, 0];
        let (key, value) = group_record(3, Some(&key), None).unwrap();
        assert_eq!(
            key,
            r#"{"type":"1","data":{"group":"g","topic":"t","partition":0}}"#
        );
        assert_eq!(value.as_deref(), Some("<DELETE>"));
        let (said, value) = group_record(3, Some(&[0, 99]), None).unwrap();
        assert_eq!(said, "Unknown record type 99 at offset 3, skipping.");
        assert_eq!(value, None);
        assert!(group_record(3, None, None).is_err());
    }

    #[test]
    fn members_of_consumer_groups_are_readable() {
        let subscription = STANDARD.encode([0, 0, 0, 0, 0, 1, 0, 1, b't', 255, 255, 255, 255]);
        let assigned = [
            0, 0, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 2, 255, 255, 255, 255,
        ];
        let group = json!({
            "protocolType": "consumer",
            "members": [{"subscription": subscription, "assignment": STANDARD.encode(assigned)}],
        });
        assert_eq!(
            readable_members(group)["members"][0],
            json!({
                "subscription": {"topics": ["t"], "userData": null},
                "assignment": {
                    "assignedPartitions": [{"topic": "t", "partitions": [2]}],
                    "userData": null,
                },
            })
        );
        let torn = json!({"protocolType": "consumer", "members": [{"subscription": "AA=="}]});
        assert_eq!(readable_members(torn.clone()), torn);
    }
}
