//! UpdateMetadata (key 6), v0–8: the controller tells of live brokers and of leaders. v1 endpoints,
//! v5 broker epoch and grouping by topic, v7 topic ids.
//!
//! Source: `KafkaApis.handleUpdateMetadataRequest`.

use std::sync::Arc;

use kafka_protocol::messages::{UpdateMetadataRequest, UpdateMetadataResponse};
use tracing::error;

use crate::cluster::image::Cluster;
use crate::cluster::update::{ControllerEpochGate, update_metadata};
use crate::error::ErrorCode;

use super::context::Context;

pub async fn handle(cx: &Context<'_>, request: UpdateMetadataRequest) -> UpdateMetadataResponse {
    let (cluster, gate) = (Arc::clone(&cx.rooms.cluster), Arc::clone(&cx.rooms.gate));
    apply(cluster, gate, request).await
}

pub fn refuse(_: &UpdateMetadataRequest, code: ErrorCode) -> UpdateMetadataResponse {
    UpdateMetadataResponse::default().with_error_code(code.value())
}

/// Not on the caller's thread: it waits behind a LeaderAndIsr that is being carried out.
pub async fn apply(
    cluster: Arc<Cluster>,
    gate: Arc<ControllerEpochGate>,
    request: UpdateMetadataRequest,
) -> UpdateMetadataResponse {
    let work =
        tokio::task::spawn_blocking(move || update_metadata(&cluster, &gate, &request).map(drop));
    let code = match work.await {
        Ok(Ok(())) => ErrorCode::None,
        Ok(Err(code)) => code,
        Err(panic) => {
            error!(target: "state.change.logger", "Error while processing UpdateMetadata request: {panic}");
            ErrorCode::UnknownServerError
        }
    };
    UpdateMetadataResponse::default().with_error_code(code.value())
}
