//! The znodes the controller reads and writes, between their JSON and the controller's types
//! (contract: `ZkData.scala`). Readers ignore keys they do not know.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::cluster::image::{BrokerImage, Endpoint};
use crate::config::Properties;
use crate::types::{BrokerId, Millis, TopicName, TopicPartition, format_uuid, parse_uuid};

use super::state::{LeaderAndIsr, Leadership, ReplicaAssignment, TopicAssignment};

pub(super) const CONTROLLER: &str = "/controller";
pub(super) const CONTROLLER_EPOCH: &str = "/controller_epoch";
pub(super) const BROKER_IDS: &str = "/brokers/ids";
pub(super) const TOPICS: &str = "/brokers/topics";
pub(super) const DELETE_TOPICS: &str = "/admin/delete_topics";
pub(super) const LOG_DIR_EVENTS: &str = "/log_dir_event_notification";
pub(super) const ISR_CHANGES: &str = "/isr_change_notification";
pub(super) const FEATURE: &str = "/feature";

pub(super) fn broker(id: BrokerId) -> String {
    format!("{BROKER_IDS}/{id}")
}

pub(super) fn topic(name: &str) -> String {
    format!("{TOPICS}/{name}")
}

pub(super) fn partitions(topic: &str) -> String {
    format!("{TOPICS}/{topic}/partitions")
}

pub(super) fn partition(partition: &TopicPartition) -> String {
    format!(
        "{TOPICS}/{}/partitions/{}",
        partition.topic, partition.partition
    )
}

pub(super) fn state(partition: &TopicPartition) -> String {
    format!(
        "{TOPICS}/{}/partitions/{}/state",
        partition.topic, partition.partition
    )
}

pub(super) fn deletion(topic: &str) -> String {
    format!("{DELETE_TOPICS}/{topic}")
}

pub(super) fn topic_config(topic: &str) -> String {
    format!("/config/topics/{topic}")
}

pub(super) fn encode_controller(id: BrokerId, now: Millis) -> Bytes {
    bytes(&json!({
        "version": 2,
        "brokerid": id,
        "timestamp": now.to_string(),
        "kraftControllerEpoch": -1,
    }))
}

pub(super) fn decode_controller(data: &[u8]) -> Option<BrokerId> {
    number(object(data)?.get("brokerid")?)
}

pub(super) fn encode_feature() -> Bytes {
    bytes(&json!({"version": 2, "status": 1, "features": {}}))
}

pub(super) fn encode_state(leadership: &Leadership) -> Bytes {
    let state = &leadership.state;
    let mut value = json!({
        "version": 1,
        "leader": state.leader,
        "leader_epoch": state.leader_epoch,
        "controller_epoch": leadership.controller_epoch,
        "isr": state.isr,
    });
    if state.recovering {
        value["leader_recovery_state"] = json!(1);
    }
    bytes(&value)
}

pub(super) fn decode_state(data: &[u8], version: i32) -> Option<Leadership> {
    let state = object(data)?;
    Some(Leadership {
        controller_epoch: number(state.get("controller_epoch")?)?,
        state: LeaderAndIsr {
            leader: number(state.get("leader")?)?,
            leader_epoch: number(state.get("leader_epoch")?)?,
            isr: numbers(state.get("isr")?)?,
            recovering: state.get("leader_recovery_state").and_then(number) == Some(1),
            partition_epoch: version,
        },
    })
}

pub(super) fn encode_topic(topic: &TopicAssignment) -> Bytes {
    let mut partitions = Map::new();
    let mut adding = Map::new();
    let mut removing = Map::new();
    for (partition, assignment) in &topic.partitions {
        let key = partition.to_string();
        partitions.insert(key.clone(), json!(assignment.replicas));
        if !assignment.adding.is_empty() {
            adding.insert(key.clone(), json!(assignment.adding));
        }
        if !assignment.removing.is_empty() {
            removing.insert(key, json!(assignment.removing));
        }
    }
    let mut value = json!({
        "version": 3,
        "partitions": partitions,
        "adding_replicas": adding,
        "removing_replicas": removing,
    });
    if let Some(id) = topic.id {
        value["topic_id"] = json!(format_uuid(id));
    }
    bytes(&value)
}

/// Versions 1 and 2 lack the id, or the lists of a reassignment.
pub(super) fn decode_topic(name: &TopicName, data: &[u8]) -> Option<TopicAssignment> {
    let node = object(data)?;
    let lists = |key: &str| -> HashMap<i32, Vec<BrokerId>> {
        node.get(key).and_then(by_partition).unwrap_or_default()
    };
    let mut adding = lists("adding_replicas");
    let mut removing = lists("removing_replicas");
    let partitions: BTreeMap<i32, ReplicaAssignment> = by_partition(node.get("partitions")?)?
        .into_iter()
        .map(|(partition, replicas)| {
            let assignment = ReplicaAssignment {
                replicas,
                adding: adding.remove(&partition).unwrap_or_default(),
                removing: removing.remove(&partition).unwrap_or_default(),
            };
            (partition, assignment)
        })
        .collect();
    Some(TopicAssignment {
        name: name.clone(),
        id: node
            .get("topic_id")
            .and_then(Value::as_str)
            .and_then(parse_uuid),
        partitions,
    })
}

/// Versions before 3 lack some of: endpoints' listener names, rack, features.
pub(super) fn decode_broker(id: BrokerId, data: &[u8]) -> Option<BrokerImage> {
    let node = object(data)?;
    let protocols = node
        .get("listener_security_protocol_map")
        .and_then(Value::as_object);
    let mut endpoints = Vec::new();
    for endpoint in node.get("endpoints").and_then(Value::as_array)? {
        let (listener, address) = endpoint.as_str()?.split_once("://")?;
        let (host, port) = address.rsplit_once(':')?;
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let protocol = protocols
            .and_then(|map| map.get(listener))
            .and_then(Value::as_str)
            .unwrap_or(listener);
        endpoints.push(Endpoint {
            listener: listener.to_owned(),
            security_protocol: security_protocol(protocol)?,
            host: host.to_owned(),
            port: port.parse().ok()?,
        });
    }
    Some(BrokerImage {
        id,
        endpoints,
        rack: node.get("rack").and_then(Value::as_str).map(str::to_owned),
    })
}

fn security_protocol(name: &str) -> Option<i16> {
    match name {
        "PLAINTEXT" => Some(0),
        "SSL" => Some(1),
        "SASL_PLAINTEXT" => Some(2),
        "SASL_SSL" => Some(3),
        _ => None,
    }
}

pub(super) fn decode_config(data: &[u8]) -> Option<HashMap<String, String>> {
    Some(
        object(data)?
            .get("config")?
            .as_object()?
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect(),
    )
}

pub(super) fn encode_config(config: &Properties) -> Bytes {
    bytes(&json!({"version": 1, "config": config}))
}

/// The broker whose log dir has failed.
pub(super) fn decode_log_dir_event(data: &[u8]) -> Option<BrokerId> {
    number(object(data)?.get("broker")?)
}

fn object(data: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(data).ok()? {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

fn number(value: &Value) -> Option<i32> {
    i32::try_from(value.as_i64()?).ok()
}

fn numbers(value: &Value) -> Option<Vec<i32>> {
    value.as_array()?.iter().map(number).collect()
}

fn by_partition(value: &Value) -> Option<HashMap<i32, Vec<BrokerId>>> {
    value
        .as_object()?
        .iter()
        .map(|(partition, replicas)| Some((partition.parse().ok()?, numbers(replicas)?)))
        .collect()
}

fn bytes(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}
