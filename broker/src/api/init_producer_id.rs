//! InitProducerId (key 22), v0–5. v2 flexible, v3 producer id and epoch (KIP-360), v5 no change
//! for idempotent producers.
//!
//! Without a transactional id every request gets a new id. There is no transaction coordinator
//! yet: with one the answer is UNSUPPORTED_VERSION, which clients report at once and do not retry.

use kafka_protocol::messages::{
    InitProducerIdRequest, InitProducerIdResponse, ProducerId as WireProducerId,
};
use tracing::warn;

use super::context::Context;
use crate::error::{ErrorCode, KafkaCode};

const NO_PRODUCER_ID: i64 = -1;
const NO_PRODUCER_EPOCH: i16 = -1;

pub async fn handle(cx: &Context<'_>, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let has_id = request.producer_id.0 != NO_PRODUCER_ID;
    if has_id != (request.producer_epoch != NO_PRODUCER_EPOCH) {
        return refuse(&request, ErrorCode::InvalidRequest);
    }
    match &request.transactional_id {
        None => {}
        Some(id) if id.is_empty() => return refuse(&request, ErrorCode::InvalidRequest),
        Some(_) => return refuse(&request, ErrorCode::UnsupportedVersion),
    }
    // Without a transactional id, what the producer had before does not matter.
    match cx.rooms.producer_ids.next().await {
        Ok(id) => InitProducerIdResponse::default()
            .with_producer_id(WireProducerId(id))
            .with_producer_epoch(0),
        Err(error) => {
            warn!(target: "kafka.coordinator.transaction.ProducerIdManager", "{error}");
            refuse(&request, error.code())
        }
    }
}

pub fn refuse(_: &InitProducerIdRequest, code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
        .with_error_code(code.value())
        .with_producer_id(WireProducerId(-1))
        .with_producer_epoch(-1)
}
