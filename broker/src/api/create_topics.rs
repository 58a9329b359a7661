//! CreateTopics (key 19), v0–7. v1 validate_only and messages, v5 flexible, counts and configs in
//! the answer, v7 topic ids. The controller answers; others say NOT_CONTROLLER.
//!
//! Source: `KafkaApis.handleCreateTopicsRequest`, `ZkAdminManager.createTopics`.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use kafka_protocol::protocol::StrBytes;
use tracing::info;

use crate::config::{Config, Properties, dynamic};
use crate::controller::admin::{CreatedTopic, NewTopic, TopicAdmin};
use crate::controller::topic_name::CLUSTER_METADATA_TOPIC;
use crate::error::{ErrorCode, KafkaCode};

use super::context::Context;

/// Ids of `ConfigSource`.
const TOPIC_CONFIG: i8 = 1;
const DYNAMIC_BROKER_CONFIG: i8 = 2;
const DYNAMIC_DEFAULT_BROKER_CONFIG: i8 = 3;
const STATIC_BROKER_CONFIG: i8 = 4;
const DEFAULT_CONFIG: i8 = 5;

pub async fn handle(cx: &Context<'_>, request: CreateTopicsRequest) -> CreateTopicsResponse {
    if !cx.rooms.controller.is_active() {
        let topics = request.topics.iter().map(|topic| {
            CreatableTopicResult::default()
                .with_name(topic.name.clone())
                .with_error_code(ErrorCode::NotController.value())
        });
        return CreateTopicsResponse::default().with_topics(topics.collect());
    }
    let config = cx.rooms.config.load();
    let layers = cx.rooms.config.layers();
    let admin = TopicAdmin {
        store: &*cx.rooms.store,
        cluster: &cx.rooms.cluster,
        config: &config,
    };
    let sources = [
        (&*layers.dynamic_broker, DYNAMIC_BROKER_CONFIG),
        (&*layers.dynamic_default, DYNAMIC_DEFAULT_BROKER_CONFIG),
        (&*layers.static_broker, STATIC_BROKER_CONFIG),
    ];
    let mut times: HashMap<&str, usize> = HashMap::new();
    for topic in &request.topics {
        *times.entry(topic.name.as_str()).or_default() += 1;
    }
    let mut results = Vec::with_capacity(request.topics.len());
    let mut waiting = Vec::new();
    for topic in &request.topics {
        let result = CreatableTopicResult::default()
            .with_name(topic.name.clone())
            .with_error_message(None);
        let refused = |message: String| {
            result
                .clone()
                .with_error_code(ErrorCode::InvalidRequest.value())
                .with_error_message(Some(StrBytes::from_string(message)))
        };
        if topic.name.as_str() == CLUSTER_METADATA_TOPIC {
            results.push(refused(format!(
                "Creation of internal topic {CLUSTER_METADATA_TOPIC} is prohibited."
            )));
            continue;
        }
        if times[topic.name.as_str()] > 1 {
            results.push(refused("Found multiple entries for this topic.".to_owned()));
            continue;
        }
        match admin.create(&new_topic(topic), request.validate_only).await {
            Ok(created) => {
                if !request.validate_only {
                    let partitions = i32::try_from(created.assignments.len()).unwrap_or(i32::MAX);
                    waiting.push((topic.name.to_string(), partitions));
                }
                results.push(described(result, &created, &config, &sources));
            }
            Err(error) => {
                info!(target: "kafka.server.ZkAdminManager", "Error processing create topic request {}: {error}", topic.name.as_str());
                results.push(
                    result
                        .with_error_code(error.code().value())
                        .with_error_message(error.message().map(StrBytes::from_string)),
                );
            }
        }
    }
    if !waiting.is_empty() {
        let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
        let late = if timeout.is_zero() {
            waiting.into_iter().map(|(name, _)| name).collect()
        } else {
            admin.wait_for_leaders(&waiting, timeout).await
        };
        for result in &mut results {
            if result.error_code == 0 && late.contains(result.name.as_str()) {
                *result = timed_out(result);
            }
        }
    }
    CreateTopicsResponse::default().with_topics(results)
}

pub fn refuse(request: &CreateTopicsRequest, code: ErrorCode) -> CreateTopicsResponse {
    let topics = request.topics.iter().map(|topic| {
        CreatableTopicResult::default()
            .with_name(topic.name.clone())
            .with_error_code(code.value())
            .with_error_message(Some(StrBytes::from_static_str(code.message())))
    });
    CreateTopicsResponse::default().with_topics(topics.collect())
}

/// Names and values are copied: they outlive the frame.
fn new_topic(topic: &CreatableTopic) -> NewTopic {
    NewTopic {
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: i32::from(topic.replication_factor),
        assignments: topic
            .assignments
            .iter()
            .map(|assignment| {
                let brokers = assignment.broker_ids.iter().map(|id| id.0).collect();
                (assignment.partition_index, brokers)
            })
            .collect::<BTreeMap<_, _>>(),
        configs: topic
            .configs
            .iter()
            .map(|config| {
                let value = config.value.as_ref().map(|value| value.to_string());
                (config.name.to_string(), value)
            })
            .collect(),
    }
}

/// The topic was written, but has no leaders yet: nothing is told of it but its id.
fn timed_out(result: &CreatableTopicResult) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(result.name.clone())
        .with_topic_id(result.topic_id)
        .with_error_code(ErrorCode::RequestTimedOut.value())
        .with_error_message(None)
}

fn described(
    result: CreatableTopicResult,
    created: &CreatedTopic,
    config: &Config,
    sources: &[(&Properties, i8)],
) -> CreatableTopicResult {
    let configs = config
        .topic_values(&created.configs)
        .into_iter()
        .map(|(key, value)| {
            let source = if created.configs.contains_key(key.name) {
                TOPIC_CONFIG
            } else {
                key.server_default
                    .map_or(DEFAULT_CONFIG, |name| default_source(name, sources))
            };
            CreatableTopicConfigs::default()
                .with_name(StrBytes::from_static_str(key.name))
                .with_value(value.text().map(StrBytes::from_string))
                .with_config_source(source)
        })
        .collect();
    let replicas = created.assignments.values().next().map_or(0, Vec::len);
    result
        .with_topic_id(created.id.unwrap_or_default())
        .with_num_partitions(i32::try_from(created.assignments.len()).unwrap_or(i32::MAX))
        .with_replication_factor(i16::try_from(replicas).unwrap_or(i16::MAX))
        .with_configs(Some(configs))
}

/// The first layer that sets the broker key or one of its synonyms.
fn default_source(key: &str, sources: &[(&Properties, i8)]) -> i8 {
    let names = dynamic::synonyms(key);
    sources
        .iter()
        .find(|(layer, _)| names.iter().any(|name| layer.contains_key(*name)))
        .map_or(DEFAULT_CONFIG, |(_, source)| *source)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::TopicName;
    use kafka_protocol::protocol::Encodable;

    use super::*;

    #[test]
    fn every_version_encodes_and_tells_where_configs_come_from() {
        let config = Config::from_pairs(&[("log.retention.hours", "1")]).expect("valid");
        let set = config.properties().clone();
        let created = CreatedTopic {
            id: Some(uuid::Uuid::from_u128(7)),
            assignments: BTreeMap::from([(0, vec![0]), (1, vec![0])]),
            configs: Properties::from([("segment.bytes".to_owned(), "1048576".to_owned())]),
        };
        let name = TopicName(StrBytes::from_static_str("t"));
        let result = CreatableTopicResult::default().with_name(name);
        let result = described(result, &created, &config, &[(&set, STATIC_BROKER_CONFIG)]);
        let check = |key: &str, value: &str, source: i8| {
            let configs = result.configs.as_ref().expect("described");
            let found = configs.iter().find(|config| config.name.as_str() == key);
            let found = found.expect(key);
            assert_eq!(found.value.as_deref(), Some(value), "{key}");
            assert_eq!(found.config_source, source, "{key}");
        };
        check("segment.bytes", "1048576", TOPIC_CONFIG);
        check("retention.ms", "3600000", STATIC_BROKER_CONFIG);
        check("cleanup.policy", "delete", DEFAULT_CONFIG);
        for version in 0..=7 {
            for result in [result.clone(), timed_out(&result)] {
                CreateTopicsResponse::default()
                    .with_topics(vec![result])
                    .encode(&mut BytesMut::new(), version)
                    .unwrap_or_else(|error| panic!("v{version}: {error}"));
            }
        }
    }
}
