//! OffsetDelete (key 47), v0 (KIP-496).
//!
//! Source: `KafkaApis.handleOffsetDeleteRequest`.

use std::collections::HashMap;

use indexmap::IndexMap;
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse, TopicName};

use super::context::Context;
use crate::error::ErrorCode;
use crate::types::TopicPartition;

pub async fn handle(cx: &Context<'_>, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let image = cx.rooms.cluster.image();
    let known: Vec<TopicPartition> = partitions(&request)
        .filter(|partition| image.contains(partition))
        .collect();
    match cx
        .rooms
        .groups
        .delete_offsets(&request.group_id, known)
        .await
    {
        Ok(results) => respond(&request, &results.into_iter().collect()),
        Err(code) => refuse(&request, code),
    }
}

/// The same refusal in this API's shape.
pub fn refuse(_: &OffsetDeleteRequest, code: ErrorCode) -> OffsetDeleteResponse {
    OffsetDeleteResponse::default().with_error_code(code.value())
}

fn partitions(request: &OffsetDeleteRequest) -> impl Iterator<Item = TopicPartition> + '_ {
    request.topics.iter().flat_map(|topic| {
        topic
            .partitions
            .iter()
            .map(|partition| TopicPartition::new(topic.name.as_str(), partition.partition_index))
    })
}

/// Partitions without a result are those that do not exist. Topics and partitions once each, and no
/// topic without partitions, as in Kafka.
fn respond(
    request: &OffsetDeleteRequest,
    results: &HashMap<TopicPartition, ErrorCode>,
) -> OffsetDeleteResponse {
    let mut topics: IndexMap<&TopicName, IndexMap<i32, OffsetDeleteResponsePartition>> =
        IndexMap::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let index = partition.partition_index;
            let code = results
                .get(&TopicPartition::new(topic.name.as_str(), index))
                .copied()
                .unwrap_or(ErrorCode::UnknownTopicOrPartition);
            let answer = OffsetDeleteResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code.value());
            topics.entry(&topic.name).or_default().insert(index, answer);
        }
    }
    let topics = topics
        .into_iter()
        .map(|(name, partitions)| {
            OffsetDeleteResponseTopic::default()
                .with_name(name.clone())
                .with_partitions(partitions.into_values().collect())
        })
        .collect();
    OffsetDeleteResponse::default().with_topics(topics)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::offset_delete_request::{
        OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
    };
    use kafka_protocol::protocol::{Encodable, StrBytes};

    use super::*;

    #[test]
    fn partitions_that_do_not_exist_say_so() {
        let request = OffsetDeleteRequest::default().with_topics(vec![
            OffsetDeleteRequestTopic::default()
                .with_name(TopicName(StrBytes::from_static_str("t")))
                .with_partitions(vec![
                    OffsetDeleteRequestPartition::default().with_partition_index(0),
                    OffsetDeleteRequestPartition::default().with_partition_index(1),
                ]),
        ]);
        let results = HashMap::from([(TopicPartition::new("t", 0), ErrorCode::None)]);
        let response = respond(&request, &results);
        response.encode(&mut BytesMut::new(), 0).unwrap();
        let codes: Vec<i16> = response.topics[0]
            .partitions
            .iter()
            .map(|partition| partition.error_code)
            .collect();
        assert_eq!(codes, vec![0, 3]);
        refuse(&request, ErrorCode::NonEmptyGroup)
            .encode(&mut BytesMut::new(), 0)
            .unwrap();
    }
}
