//! ConsumerGroupHeartbeat (key 68), v0 (KIP-848). A ZooKeeper-mode broker lists it and answers
//! UNSUPPORTED_VERSION, by which clients learn to use the classic protocol.
//!
//! Source: `KafkaApis.handleConsumerGroupHeartbeat`.

use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::context::Context;
use crate::error::ErrorCode;

pub async fn handle(
    _: &Context<'_>,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    refuse(&request, ErrorCode::UnsupportedVersion)
}

/// The same refusal in this API's shape.
pub fn refuse(
    _: &ConsumerGroupHeartbeatRequest,
    code: ErrorCode,
) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse::default().with_error_code(code.value())
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::protocol::Encodable;

    use super::*;

    #[test]
    fn says_error_35() {
        let request = ConsumerGroupHeartbeatRequest::default();
        let response = refuse(&request, ErrorCode::UnsupportedVersion);
        assert_eq!(response.error_code, 35);
        response.encode(&mut BytesMut::new(), 0).unwrap();
    }
}
