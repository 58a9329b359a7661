//! Requests that many cases make.

use anyhow::Result;
use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    CreateTopicsRequest, GroupId, MetadataRequest, ProduceRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use protocol_tests::differential::{Both, Case};
use uuid::Uuid;

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

pub(crate) fn group_id(name: &str) -> GroupId {
    GroupId(text(name))
}

pub(crate) fn new_topic(name: &str, partitions: i32, configs: &[(&str, &str)]) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(
            configs
                .iter()
                .map(|(key, value)| {
                    CreatableTopicConfig::default()
                        .with_name(text(key))
                        .with_value(Some(text(value)))
                })
                .collect(),
        )
}

pub(crate) fn create(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest::default()
        .with_topics(topics)
        .with_timeout_ms(20_000)
}

pub(crate) fn metadata(names: &[&str]) -> MetadataRequest {
    MetadataRequest::default()
        .with_allow_auto_topic_creation(false)
        .with_topics(Some(
            names
                .iter()
                .map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name))))
                .collect(),
        ))
}

/// Creates a topic on both and waits until it has leaders; its ids.
pub(crate) fn topic(
    case: &mut Case<'_>,
    name: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> Result<Both<Uuid>> {
    let request = create(vec![new_topic(name, partitions, configs)]);
    let answer = case.ask(7, "create the topic", request)?;
    case.until(
        4,
        "leaders of the new topic",
        metadata(&[name]).into(),
        |answer| {
            answer.topics.iter().all(|topic| {
                topic.partitions.len() == partitions as usize
                    && topic.partitions.iter().all(|one| one.error_code == 0)
            })
        },
    )?;
    Ok(answer.map(|answer| {
        answer
            .topics
            .first()
            .map_or(Uuid::nil(), |topic| topic.topic_id)
    }))
}

pub(crate) fn produce(topic: &str, partitions: Vec<(i32, Bytes)>) -> ProduceRequest {
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![produce_data(topic, partitions)])
}

pub(crate) fn produce_data(topic: &str, partitions: Vec<(i32, Bytes)>) -> TopicProduceData {
    TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_partition_data(
            partitions
                .into_iter()
                .map(|(index, records)| {
                    PartitionProduceData::default()
                        .with_index(index)
                        .with_records(Some(records))
                })
                .collect(),
        )
}
