//! Heartbeat (key 12), v0–4. v3 group.instance.id, v4 flexible.
//!
//! Source: `KafkaApis.handleHeartbeatRequest`.

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::context::Context;
use crate::error::ErrorCode;
use crate::group::event::MemberRef;

pub async fn handle(cx: &Context<'_>, request: HeartbeatRequest) -> HeartbeatResponse {
    let member = MemberRef {
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_ref().map(ToString::to_string),
        generation: request.generation_id,
    };
    let code = cx.rooms.groups.heartbeat(&request.group_id, member).await;
    refuse(&request, code)
}

/// The same refusal in this API's shape; it has no other.
pub fn refuse(_: &HeartbeatRequest, code: ErrorCode) -> HeartbeatResponse {
    HeartbeatResponse::default().with_error_code(code.value())
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::protocol::Encodable;

    use super::*;

    #[test]
    fn every_answer_encodes_in_every_version() {
        for version in 0..=4 {
            refuse(&HeartbeatRequest::default(), ErrorCode::IllegalGeneration)
                .encode(&mut BytesMut::new(), version)
                .unwrap();
        }
    }
}
