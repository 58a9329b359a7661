//! AlterPartition (key 56), v0–3: a leader asks the controller for another ISR (KIP-497). v1 leader
//! recovery state (KIP-704), v2 topic ids and INELIGIBLE_REPLICA, v3 broker epochs in the ISR.
//!
//! Source: `KafkaApis.handleAlterPartitionRequest`, `KafkaController.tryProcessAlterPartition`.

use kafka_protocol::messages::alter_partition_request::PartitionData as WantedPartition;
use kafka_protocol::messages::alter_partition_response::{PartitionData, TopicData};
use kafka_protocol::messages::{
    AlterPartitionRequest, AlterPartitionResponse, BrokerId as WireBrokerId,
    TopicName as WireTopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::controller::event::{IsrChange, TopicRef};
use crate::controller::state::LeaderAndIsr;
use crate::error::ErrorCode;
use crate::types::TopicName;

use super::context::Context;

pub async fn handle(cx: &Context<'_>, request: AlterPartitionRequest) -> AlterPartitionResponse {
    let topics = request
        .topics
        .iter()
        .map(|topic| {
            let reference = if cx.version > 1 {
                TopicRef::Id(topic.topic_id)
            } else {
                TopicRef::Name(TopicName::new(&topic.topic_name))
            };
            let changes = topic
                .partitions
                .iter()
                .map(|partition| change(cx.version, partition));
            (reference, changes.collect())
        })
        .collect();
    let asked =
        cx.rooms
            .controller
            .alter_partition(request.broker_id.0, request.broker_epoch, topics);
    match asked.await {
        Err(code) => refuse(&request, code),
        Ok(answers) => {
            let topics = answers.into_iter().map(|(topic, results)| {
                let partitions = results
                    .into_iter()
                    .map(|(index, result)| answer(cx.version, index, result));
                let answer = TopicData::default().with_partitions(partitions.collect());
                match topic {
                    TopicRef::Id(id) => answer.with_topic_id(id),
                    TopicRef::Name(name) => answer
                        .with_topic_name(WireTopicName(StrBytes::from_string(name.to_string()))),
                }
            });
            AlterPartitionResponse::default().with_topics(topics.collect())
        }
    }
}

pub fn refuse(_: &AlterPartitionRequest, code: ErrorCode) -> AlterPartitionResponse {
    AlterPartitionResponse::default().with_error_code(code.value())
}

/// Broker epochs of the members are −1 without KRaft, and nobody looks at them.
fn change(version: i16, wanted: &WantedPartition) -> IsrChange {
    let isr = if version >= 3 {
        let members = wanted.new_isr_with_epochs.iter();
        members.map(|member| member.broker_id.0).collect()
    } else {
        wanted.new_isr.iter().map(|id| id.0).collect()
    };
    IsrChange {
        partition: wanted.partition_index,
        leader_epoch: wanted.leader_epoch,
        isr,
        recovering: wanted.leader_recovery_state == 1,
        partition_epoch: wanted.partition_epoch,
    }
}

fn answer(version: i16, index: i32, result: Result<LeaderAndIsr, ErrorCode>) -> PartitionData {
    let answer = PartitionData::default().with_partition_index(index);
    match result {
        Ok(state) => answer
            .with_leader_id(WireBrokerId(state.leader))
            .with_leader_epoch(state.leader_epoch)
            .with_isr(state.isr.iter().copied().map(WireBrokerId).collect())
            // Version 0 has no such field; what it asked for was RECOVERED.
            .with_leader_recovery_state(i8::from(version > 0 && state.recovering))
            .with_partition_epoch(state.partition_epoch),
        Err(ErrorCode::IneligibleReplica) if version < 2 => {
            answer.with_error_code(ErrorCode::OperationNotAttempted.value())
        }
        Err(code) => answer.with_error_code(code.value()),
    }
}
