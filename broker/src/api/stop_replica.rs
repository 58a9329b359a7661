//! StopReplica (key 5), v0–4: the controller takes replicas from this broker, or only stops them.
//! v1 broker epoch and grouping by topic, v3 leader epoch and deletion by partition.
//!
//! Source: `KafkaApis.handleStopReplicaRequest`.

use kafka_protocol::messages::{StopReplicaRequest, StopReplicaResponse};

use crate::error::ErrorCode;

use super::context::Context;

pub async fn handle(cx: &Context<'_>, request: StopReplicaRequest) -> StopReplicaResponse {
    cx.rooms.replicas.stop_replicas(request).await
}

pub fn refuse(_: &StopReplicaRequest, code: ErrorCode) -> StopReplicaResponse {
    StopReplicaResponse::default().with_error_code(code.value())
}
