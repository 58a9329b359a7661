//! LeaderAndIsr (key 4), v0–7: the controller says who leads what. v2 broker epoch and grouping by
//! topic, v3 adding and removing replicas, v5 topic ids and answers by id, v6 leader recovery state.
//!
//! Source: `KafkaApis.handleLeaderAndIsrRequest`.

use kafka_protocol::messages::leader_and_isr_response::{
    LeaderAndIsrPartitionError, LeaderAndIsrTopicError,
};
use kafka_protocol::messages::{
    LeaderAndIsrRequest, LeaderAndIsrResponse, TopicName as WireTopicName,
};

use crate::error::ErrorCode;

use super::context::Context;

/// From this version on answers name topics by id.
const BY_ID: i16 = 5;

pub async fn handle(cx: &Context<'_>, request: LeaderAndIsrRequest) -> LeaderAndIsrResponse {
    let refused = refuse_in(cx.version, &request, ErrorCode::None);
    let answer = cx.rooms.replicas.become_leader_or_follower(request).await;
    if answer.error_code != 0 {
        return filled(refused, answer.error_code);
    }
    if cx.version >= BY_ID {
        return answer;
    }
    // Without ids the answers come in the order of the request.
    let codes = answer
        .topics
        .into_iter()
        .flat_map(|topic| topic.partition_errors)
        .map(|error| error.error_code);
    let errors = refused
        .partition_errors
        .into_iter()
        .zip(codes)
        .map(|(error, code)| error.with_error_code(code))
        .collect();
    LeaderAndIsrResponse::default().with_partition_errors(errors)
}

/// The version is seen by where the partitions are: from v2 on they are grouped, from v5 on topics
/// have ids (the controller of such a version always sends them).
pub fn refuse(request: &LeaderAndIsrRequest, code: ErrorCode) -> LeaderAndIsrResponse {
    let by_id = request
        .topic_states
        .iter()
        .any(|topic| !topic.topic_id.is_nil());
    refuse_in(if by_id { BY_ID } else { 0 }, request, code)
}

fn refuse_in(version: i16, request: &LeaderAndIsrRequest, code: ErrorCode) -> LeaderAndIsrResponse {
    let response = LeaderAndIsrResponse::default().with_error_code(code.value());
    let error = |index: i32| {
        LeaderAndIsrPartitionError::default()
            .with_partition_index(index)
            .with_error_code(code.value())
    };
    if version >= BY_ID {
        let topics = request.topic_states.iter().map(|topic| {
            let errors = topic
                .partition_states
                .iter()
                .map(|state| error(state.partition_index));
            LeaderAndIsrTopicError::default()
                .with_topic_id(topic.topic_id)
                .with_partition_errors(errors.collect())
        });
        return response.with_topics(topics.collect());
    }
    let named = |name: &WireTopicName, index| error(index).with_topic_name(name.clone());
    let grouped = request.topic_states.iter().flat_map(|topic| {
        topic
            .partition_states
            .iter()
            .map(|state| named(&topic.topic_name, state.partition_index))
    });
    let ungrouped = request
        .ungrouped_partition_states
        .iter()
        .map(|state| named(&state.topic_name, state.partition_index));
    response.with_partition_errors(grouped.chain(ungrouped).collect())
}

fn filled(mut response: LeaderAndIsrResponse, code: i16) -> LeaderAndIsrResponse {
    response.error_code = code;
    let by_id = response
        .topics
        .iter_mut()
        .flat_map(|topic| &mut topic.partition_errors);
    for error in by_id.chain(&mut response.partition_errors) {
        error.error_code = code;
    }
    response
}
