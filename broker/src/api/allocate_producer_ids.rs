//! AllocateProducerIds (key 67), v0: a broker asks the controller for a block of producer ids
//! (KIP-730).
//!
//! Source: `KafkaApis.handleAllocateProducerIdsRequest`.

use kafka_protocol::messages::{
    AllocateProducerIdsRequest, AllocateProducerIdsResponse, ProducerId as WireProducerId,
};

use crate::controller::event::PRODUCER_ID_BLOCK_SIZE;
use crate::error::ErrorCode;

use super::context::Context;

pub async fn handle(
    cx: &Context<'_>,
    request: AllocateProducerIdsRequest,
) -> AllocateProducerIdsResponse {
    let asked = cx
        .rooms
        .controller
        .allocate_producer_ids(request.broker_id.0, request.broker_epoch);
    match asked.await {
        Ok(first) => AllocateProducerIdsResponse::default()
            .with_producer_id_start(WireProducerId(first))
            .with_producer_id_len(i32::try_from(PRODUCER_ID_BLOCK_SIZE).unwrap_or(0)),
        Err(code) => refuse(&request, code),
    }
}

pub fn refuse(_: &AllocateProducerIdsRequest, code: ErrorCode) -> AllocateProducerIdsResponse {
    AllocateProducerIdsResponse::default().with_error_code(code.value())
}
