//! What Kafka's znodes hold [core]: one type each, written with the keys in Kafka's order and read
//! with Kafka's tolerance (unknown keys ignored, older versions accepted). Content that cannot be
//! read is a [`DataError`]: the reader keeps its last good state.
//!
//! Source: `ZkData.scala`; the paths are in [`super::paths`].

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;

pub use super::json::DataError;
use super::json::{Object, array, integers, ints, object, properties_order, scala_map_order, text};
use crate::cluster::image::{BrokerImage, Endpoint};
use crate::types::{BrokerId, LeaderEpoch, Millis, TopicPartition, Uuid, format_uuid, parse_uuid};

/// `/controller`. Version 2; readers need `brokerid` only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControllerRegistration {
    pub broker: BrokerId,
    /// Above 0 when a KRaft controller holds the node; −1 otherwise; `None` in version 1.
    pub kraft_epoch: Option<i32>,
}

impl ControllerRegistration {
    pub fn encode(broker: BrokerId, now: Millis) -> Bytes {
        bytes(object([
            ("version", "2".to_owned()),
            ("brokerid", broker.to_string()),
            ("timestamp", text(&now.to_string())),
            ("kraftControllerEpoch", "-1".to_owned()),
        ]))
    }

    pub fn decode(data: &[u8]) -> Result<Self, DataError> {
        let node = Object::parse(data)?;
        Ok(Self {
            broker: node.int("brokerid")?,
            kraft_epoch: node.optional_int("kraftControllerEpoch")?,
        })
    }
}

/// `/controller_epoch`: decimal digits.
pub fn encode_controller_epoch(epoch: i32) -> Bytes {
    bytes(epoch.to_string())
}

pub fn decode_controller_epoch(data: &[u8]) -> Result<i32, DataError> {
    number(data, "the controller epoch")
}

/// Numbers by name, by feature.
pub type FeatureVersions = BTreeMap<String, BTreeMap<String, i16>>;

/// `/brokers/ids/<id>`. Written in version 5; versions 1 to 5 are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerRegistration {
    pub endpoints: Vec<Endpoint>,
    /// −1: none.
    pub jmx_port: i32,
    pub rack: Option<String>,
    /// Supported features; a ZooKeeper broker of 3.9 has none.
    pub features: FeatureVersions,
}

impl BrokerRegistration {
    /// The registration of an Ottla broker.
    pub fn new(endpoints: Vec<Endpoint>, rack: Option<String>) -> Self {
        Self {
            endpoints,
            jmx_port: -1,
            rack,
            features: BTreeMap::new(),
        }
    }

    pub fn encode(&self, now: Millis) -> Bytes {
        let features = self.features.iter().map(|(feature, versions)| {
            let versions = versions.iter().map(|(key, value)| (key, value.to_string()));
            (feature, object(versions))
        });
        let protocols = self.endpoints.iter().map(|endpoint| {
            let protocol = security_protocol_name(endpoint.security_protocol);
            (&endpoint.listener, text(protocol))
        });
        let endpoints = self
            .endpoints
            .iter()
            .map(|endpoint| text(&connection_string(endpoint)));
        // Clients before 0.9 look for a plaintext address here.
        let plaintext = self
            .endpoints
            .iter()
            .find(|endpoint| endpoint.security_protocol == 0);
        let (host, port) = match plaintext {
            Some(endpoint) => (text(&endpoint.host), endpoint.port),
            None => ("null".to_owned(), -1),
        };
        let mut entries = vec![
            ("features", object(features)),
            ("listener_security_protocol_map", object(protocols)),
            ("endpoints", array(endpoints)),
        ];
        entries.extend(self.rack.as_ref().map(|rack| ("rack", text(rack))));
        entries.extend([
            ("jmx_port", self.jmx_port.to_string()),
            ("port", port.to_string()),
            ("host", host),
            ("version", "5".to_owned()),
            ("timestamp", text(&now.to_string())),
        ]);
        bytes(object(entries))
    }

    pub fn decode(data: &[u8]) -> Result<Self, DataError> {
        let node = Object::parse(data)?;
        let version = node.int("version")?;
        let jmx_port = node.int("jmx_port")?;
        let endpoints = if version < 1 {
            return Err(DataError::Version { version });
        } else if version == 1 {
            vec![Endpoint {
                listener: "PLAINTEXT".to_owned(),
                security_protocol: 0,
                host: node.string("host")?.to_owned(),
                port: node.int("port")?,
            }]
        } else {
            let protocols = node.map("listener_security_protocol_map")?;
            let mut endpoints = Vec::new();
            for endpoint in node.list("endpoints")? {
                let endpoint = endpoint
                    .as_str()
                    .ok_or_else(|| DataError::not_a("an endpoint", "a string", endpoint))?;
                endpoints.push(parse_endpoint(endpoint, |listener| match protocols {
                    Some(map) => map
                        .get(listener)
                        .and_then(Value::as_str)
                        .and_then(security_protocol_id),
                    None => security_protocol_id(listener),
                })?);
            }
            endpoints
        };
        Ok(Self {
            endpoints,
            jmx_port,
            rack: node.optional_string("rack")?.map(str::to_owned),
            features: decode_levels(&node)?.unwrap_or_default(),
        })
    }

    pub fn image(&self, id: BrokerId) -> BrokerImage {
        BrokerImage {
            id,
            endpoints: self.endpoints.clone(),
            rack: self.rack.clone(),
        }
    }
}

/// `LISTENER://host:port`, an IPv6 address in brackets.
pub fn connection_string(endpoint: &Endpoint) -> String {
    let Endpoint {
        listener,
        host,
        port,
        ..
    } = endpoint;
    if host.contains(':') {
        format!("{listener}://[{host}]:{port}")
    } else {
        format!("{listener}://{host}:{port}")
    }
}

fn parse_endpoint(
    endpoint: &str,
    protocol: impl FnOnce(&str) -> Option<i16>,
) -> Result<Endpoint, DataError> {
    let bad = |expected| DataError::not_a("an endpoint", expected, endpoint);
    let (listener, address) = endpoint
        .split_once("://")
        .ok_or_else(|| bad("LISTENER://host:port"))?;
    let (host, port) = address
        .rsplit_once(':')
        .ok_or_else(|| bad("LISTENER://host:port"))?;
    let host = host.strip_prefix('[').unwrap_or(host);
    let host = host.strip_suffix(']').unwrap_or(host);
    let listener = listener.to_uppercase();
    Ok(Endpoint {
        security_protocol: protocol(&listener)
            .ok_or_else(|| bad("of a listener with a security protocol"))?,
        listener,
        host: host.to_owned(),
        port: port.parse().map_err(|_| bad("LISTENER://host:port"))?,
    })
}

const SECURITY_PROTOCOLS: [&str; 4] = ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];

/// Name of a security protocol's id; unknown ones do not occur in an [`Endpoint`].
fn security_protocol_name(id: i16) -> &'static str {
    usize::try_from(id)
        .ok()
        .and_then(|id| SECURITY_PROTOCOLS.get(id))
        .copied()
        .unwrap_or("UNKNOWN")
}

fn security_protocol_id(name: &str) -> Option<i16> {
    let name = name.to_uppercase();
    (0..)
        .zip(SECURITY_PROTOCOLS)
        .find_map(|(id, known)| (known == name).then_some(id))
}

/// Replicas of a partition; `adding` and `removing` are subsets of `replicas` during a
/// reassignment (KIP-455), else empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartitionReplicas {
    pub replicas: Vec<BrokerId>,
    pub adding: Vec<BrokerId>,
    pub removing: Vec<BrokerId>,
}

/// `/brokers/topics/<topic>`. Written in version 3; 1 and 2 lack the id and the reassignment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicAssignment {
    pub topic_id: Option<Uuid>,
    pub partitions: BTreeMap<i32, PartitionReplicas>,
}

impl TopicAssignment {
    pub fn encode(&self) -> Bytes {
        let by_partition = |list: fn(&PartitionReplicas) -> &Vec<BrokerId>, keep_empty: bool| {
            let mut entries: Vec<_> = self
                .partitions
                .iter()
                .filter(|(_, partition)| keep_empty || !list(partition).is_empty())
                .map(|(id, partition)| (id.to_string(), integers(list(partition))))
                .collect();
            scala_map_order(&mut entries);
            object(entries)
        };
        let mut entries = vec![("partitions", by_partition(|p| &p.replicas, true))];
        entries.extend(self.topic_id.map(|id| ("topic_id", text(&format_uuid(id)))));
        entries.extend([
            ("adding_replicas", by_partition(|p| &p.adding, false)),
            ("removing_replicas", by_partition(|p| &p.removing, false)),
            ("version", "3".to_owned()),
        ]);
        bytes(object(entries))
    }

    pub fn decode(data: &[u8]) -> Result<Self, DataError> {
        let node = Object::parse(data)?;
        let topic_id = match node.get("topic_id") {
            None => None,
            Some(_) => {
                let id = node.string("topic_id")?;
                let parsed = parse_uuid(id);
                Some(parsed.ok_or_else(|| DataError::not_a("topic_id", "a topic id", id))?)
            }
        };
        let adding = node.map("adding_replicas")?;
        let removing = node.map("removing_replicas")?;
        let mut partitions = BTreeMap::new();
        for (key, replicas) in node.map("partitions")?.into_iter().flatten() {
            let id: i32 = key
                .parse()
                .map_err(|_| DataError::not_a("a partition", "a number", key))?;
            let part = |lists: Option<&serde_json::Map<String, Value>>| match lists
                .and_then(|lists| lists.get(key))
            {
                Some(list) => ints(list, key),
                None => Ok(Vec::new()),
            };
            let replicas = PartitionReplicas {
                replicas: ints(replicas, key)?,
                adding: part(adding)?,
                removing: part(removing)?,
            };
            partitions.insert(id, replicas);
        }
        Ok(Self {
            topic_id,
            partitions,
        })
    }
}

/// `/brokers/topics/<topic>/partitions/<n>/state`; the node's version is the partition epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionState {
    /// −1: none.
    pub leader: BrokerId,
    pub leader_epoch: LeaderEpoch,
    pub controller_epoch: i32,
    pub isr: Vec<BrokerId>,
    /// Elected uncleanly and not recovered yet (KIP-704).
    pub recovering: bool,
}

impl PartitionState {
    pub fn encode(&self) -> Bytes {
        let mut entries = vec![
            ("controller_epoch", self.controller_epoch.to_string()),
            ("leader", self.leader.to_string()),
            ("version", "1".to_owned()),
        ];
        if self.recovering {
            entries.push(("leader_recovery_state", "1".to_owned()));
        }
        entries.extend([
            ("leader_epoch", self.leader_epoch.to_string()),
            ("isr", integers(&self.isr)),
        ]);
        bytes(object(entries))
    }

    pub fn decode(data: &[u8]) -> Result<Self, DataError> {
        let node = Object::parse(data)?;
        Ok(Self {
            leader: node.int("leader")?,
            leader_epoch: node.int("leader_epoch")?,
            controller_epoch: node.int("controller_epoch")?,
            isr: node.ints("isr")?,
            recovering: match node.optional_int("leader_recovery_state")? {
                None | Some(0) => false,
                Some(1) => true,
                Some(other) => {
                    return Err(DataError::not_a("leader_recovery_state", "0 or 1", other));
                }
            },
        })
    }
}

/// `/cluster/id`. The version is a string, for once.
pub fn encode_cluster_id(id: &str) -> Bytes {
    bytes(object([("version", text("1")), ("id", text(id))]))
}

pub fn decode_cluster_id(data: &[u8]) -> Result<String, DataError> {
    Ok(Object::parse(data)?.string("id")?.to_owned())
}

/// `/config/<type>/<entity>`.
pub fn encode_config<'a>(config: impl IntoIterator<Item = (&'a str, &'a str)>) -> Bytes {
    let mut entries: Vec<_> = config
        .into_iter()
        .map(|(key, value)| (key, text(value)))
        .collect();
    properties_order(&mut entries);
    bytes(object([
        ("version", "1".to_owned()),
        ("config", object(entries)),
    ]))
}

/// A node without data, or without a `config` object, configures nothing.
pub fn decode_config(data: &[u8]) -> Result<BTreeMap<String, String>, DataError> {
    if data.is_empty() {
        return Ok(BTreeMap::new());
    }
    let Value::Object(mut node) = super::json::parse(data)? else {
        return Ok(BTreeMap::new());
    };
    let Some(Value::Object(config)) = node.remove("config") else {
        return Ok(BTreeMap::new());
    };
    config
        .into_iter()
        .map(|(key, value)| match value {
            Value::String(value) => Ok((key, value)),
            other => Err(DataError::not_a(key, "a string", other)),
        })
        .collect()
}

/// `/config/changes/config_change_<n>`: which entity to read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    pub entity_type: String,
    /// Sanitised; `<user>/clients/<client>` for a pair.
    pub entity: String,
}

impl ConfigChange {
    pub fn encode(&self) -> Bytes {
        bytes(object([
            ("version", "2".to_owned()),
            (
                "entity_path",
                text(&format!("{}/{}", self.entity_type, self.entity)),
            ),
        ]))
    }

    pub fn decode(data: &[u8]) -> Result<Self, DataError> {
        let node = Object::parse(data)?;
        let (entity_type, entity) = match node.int("version")? {
            1 => (node.string("entity_type")?, node.string("entity_name")?),
            2 => {
                let path = node.string("entity_path")?;
                path.split_once('/')
                    .ok_or_else(|| DataError::not_a("entity_path", "<type>/<name>", path))?
            }
            version => return Err(DataError::Version { version }),
        };
        Ok(Self {
            entity_type: entity_type.to_owned(),
            entity: entity.to_owned(),
        })
    }
}

/// `isr_change_<n>` and `/admin/preferred_replica_election`: partitions to look at.
pub fn encode_partitions<'a>(partitions: impl IntoIterator<Item = &'a TopicPartition>) -> Bytes {
    let partitions = partitions.into_iter().map(|partition| {
        object([
            ("topic", text(&partition.topic)),
            ("partition", partition.partition.to_string()),
        ])
    });
    bytes(object([
        ("version", "1".to_owned()),
        ("partitions", array(partitions)),
    ]))
}

pub fn decode_partitions(data: &[u8]) -> Result<Vec<TopicPartition>, DataError> {
    let node = Object::parse(data)?;
    node.list("partitions")?
        .iter()
        .map(|partition| {
            let partition = Object::from_value(partition.clone(), "a partition")?;
            Ok(TopicPartition::new(
                partition.string("topic")?,
                partition.int("partition")?,
            ))
        })
        .collect()
}

/// `/admin/reassign_partitions`: the replicas wanted.
pub fn encode_reassignments<'a>(
    reassignments: impl IntoIterator<Item = (&'a TopicPartition, &'a [BrokerId])>,
) -> Bytes {
    let partitions = reassignments.into_iter().map(|(partition, replicas)| {
        object([
            ("topic", text(&partition.topic)),
            ("partition", partition.partition.to_string()),
            ("replicas", integers(replicas)),
        ])
    });
    bytes(object([
        ("version", "1".to_owned()),
        ("partitions", array(partitions)),
    ]))
}

pub fn decode_reassignments(
    data: &[u8],
) -> Result<Vec<(TopicPartition, Vec<BrokerId>)>, DataError> {
    let node = Object::parse(data)?;
    node.list("partitions")?
        .iter()
        .map(|partition| {
            let partition = Object::from_value(partition.clone(), "a partition")?;
            let replicas = partition.ints("replicas")?;
            let partition =
                TopicPartition::new(partition.string("topic")?, partition.int("partition")?);
            Ok((partition, replicas))
        })
        .collect()
}

/// `log_dir_event_<n>`: a log dir of this broker has failed.
pub fn encode_log_dir_event(broker: BrokerId) -> Bytes {
    bytes(object([
        ("version", "1".to_owned()),
        ("broker", broker.to_string()),
        ("event", "1".to_owned()),
    ]))
}

pub fn decode_log_dir_event(data: &[u8]) -> Result<BrokerId, DataError> {
    Object::parse(data)?.int("broker")
}

/// `/latest_producer_id_block`; created without data, which means that no block was given yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdBlock {
    pub broker: BrokerId,
    pub first: i64,
    /// Inclusive.
    pub last: i64,
}

impl ProducerIdBlock {
    pub fn encode(&self) -> Bytes {
        bytes(object([
            ("version", "1".to_owned()),
            ("broker", self.broker.to_string()),
            ("block_start", text(&self.first.to_string())),
            ("block_end", text(&self.last.to_string())),
        ]))
    }

    pub fn decode(data: &[u8]) -> Result<Option<Self>, DataError> {
        if data.is_empty() {
            return Ok(None);
        }
        let node = Object::parse(data)?;
        Ok(Some(Self {
            broker: node.int("broker")?,
            first: node.long_text("block_start")?,
            last: node.long_text("block_end")?,
        }))
    }
}

/// `/feature`. Written in version 2; the node's version is the epoch of finalized features.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    pub enabled: bool,
    /// Finalized level by feature.
    pub features: BTreeMap<String, i16>,
}

impl Feature {
    pub fn encode(&self) -> Bytes {
        let features = self
            .features
            .iter()
            .map(|(feature, level)| (feature, object([("max_version_level", level.to_string())])));
        bytes(object([
            ("features", object(features)),
            ("version", "2".to_owned()),
            ("status", i32::from(self.enabled).to_string()),
        ]))
    }

    pub fn decode(data: &[u8]) -> Result<Self, DataError> {
        let node = Object::parse(data)?;
        let version = node.int("version")?;
        if !(1..=2).contains(&version) {
            return Err(DataError::Version { version });
        }
        let enabled = match node.int("status")? {
            0 => false,
            1 => true,
            other => return Err(DataError::not_a("status", "0 or 1", other)),
        };
        let levels = decode_levels(&node)?.ok_or(DataError::Missing { key: "features" })?;
        let mut features = BTreeMap::new();
        for (feature, levels) in levels {
            let level = |key| levels.get(key).copied().ok_or(DataError::Missing { key });
            let max = level("max_version_level")?;
            let min = if version == 1 {
                level("min_version_level")?
            } else {
                1
            };
            if min < 1 || max < min {
                return Err(DataError::not_a(
                    feature,
                    "a range of versions",
                    format!("{min} to {max}"),
                ));
            }
            features.insert(feature, max);
        }
        Ok(Self { enabled, features })
    }
}

/// `features` as a map of maps of small numbers.
fn decode_levels(node: &Object) -> Result<Option<FeatureVersions>, DataError> {
    if matches!(node.get("features"), None | Some(Value::Null)) {
        return Ok(None);
    }
    let mut features = BTreeMap::new();
    for (feature, levels) in node.map("features")?.into_iter().flatten() {
        let levels = levels
            .as_object()
            .ok_or_else(|| DataError::not_a(feature, "an object", levels))?;
        let mut numbers = BTreeMap::new();
        for (key, level) in levels {
            let number = super::json::int(level, key)?;
            let number = i16::try_from(number)
                .map_err(|_| DataError::not_a(key, "a number of 16 bits", level))?;
            numbers.insert(key.clone(), number);
        }
        features.insert(feature.clone(), numbers);
    }
    Ok(Some(features))
}

/// `/consumers/<group>/offsets/<topic>/<partition>`: decimal digits.
pub fn encode_consumer_offset(offset: i64) -> Bytes {
    bytes(offset.to_string())
}

pub fn decode_consumer_offset(data: &[u8]) -> Result<i64, DataError> {
    number(data, "the offset")
}

fn number<N: std::str::FromStr>(data: &[u8], what: &str) -> Result<N, DataError> {
    std::str::from_utf8(data)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| DataError::not_a(what, "a number", String::from_utf8_lossy(data)))
}

fn bytes(text: String) -> Bytes {
    Bytes::from(text)
}

#[cfg(test)]
mod tests;
