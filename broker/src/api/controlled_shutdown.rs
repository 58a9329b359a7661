//! ControlledShutdown (key 7), v0–3: a broker that is about to stop asks the controller to lead its
//! partitions elsewhere. v2 broker epoch, v3 flexible.
//!
//! Source: `KafkaApis.handleControlledShutdownRequest`.

use kafka_protocol::messages::controlled_shutdown_response::RemainingPartition;
use kafka_protocol::messages::{
    ControlledShutdownRequest, ControlledShutdownResponse, TopicName as WireTopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::error::ErrorCode;

use super::context::Context;

pub async fn handle(
    cx: &Context<'_>,
    request: ControlledShutdownRequest,
) -> ControlledShutdownResponse {
    let asked = cx
        .rooms
        .controller
        .controlled_shutdown(request.broker_id.0, request.broker_epoch);
    match asked.await {
        Ok(remaining) => ControlledShutdownResponse::default().with_remaining_partitions(
            remaining
                .iter()
                .map(|partition| {
                    let name = StrBytes::from_string(partition.topic.to_string());
                    RemainingPartition::default()
                        .with_topic_name(WireTopicName(name))
                        .with_partition_index(partition.partition)
                })
                .collect(),
        ),
        // The code of `ControllerMovedException`, which is what Kafka's controller throws here.
        Err(ErrorCode::NotController) => refuse(&request, ErrorCode::StaleControllerEpoch),
        Err(code) => refuse(&request, code),
    }
}

pub fn refuse(_: &ControlledShutdownRequest, code: ErrorCode) -> ControlledShutdownResponse {
    ControlledShutdownResponse::default().with_error_code(code.value())
}
