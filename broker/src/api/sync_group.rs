//! SyncGroup (key 14), v0–5. v3 group.instance.id, v4 flexible, v5 protocol type and name, which
//! must be there and be the group's.
//!
//! Source: `KafkaApis.handleSyncGroupRequest`, `GroupCoordinatorAdapter.syncGroup`.

use bytes::Bytes;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use kafka_protocol::protocol::StrBytes;

use super::context::Context;
use crate::error::ErrorCode;
use crate::group::event::{MemberRef, SyncAnswer, SyncRequest};

pub async fn handle(cx: &Context<'_>, request: SyncGroupRequest) -> SyncGroupResponse {
    if cx.version >= 5 && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        return refuse(&request, ErrorCode::InconsistentGroupProtocol);
    }
    let syncing = cx.rooms.groups.sync(&request.group_id, translate(&request));
    // Its frame does not wait for the leader.
    drop(request);
    respond(syncing.await)
}

/// The same refusal in this API's shape.
pub fn refuse(_: &SyncGroupRequest, code: ErrorCode) -> SyncGroupResponse {
    respond(SyncAnswer::refusal(code))
}

/// Copies what is kept: the request is a slice of its frame.
fn translate(request: &SyncGroupRequest) -> SyncRequest {
    let owned = |text: &Option<StrBytes>| text.as_ref().map(ToString::to_string);
    SyncRequest {
        token: 0,
        member: MemberRef {
            member_id: request.member_id.to_string(),
            instance_id: owned(&request.group_instance_id),
            generation: request.generation_id,
        },
        protocol_type: owned(&request.protocol_type),
        protocol_name: owned(&request.protocol_name),
        assignments: request
            .assignments
            .iter()
            .map(|assignment| {
                (
                    assignment.member_id.to_string(),
                    Bytes::copy_from_slice(&assignment.assignment),
                )
            })
            .collect(),
    }
}

fn respond(answer: SyncAnswer) -> SyncGroupResponse {
    SyncGroupResponse::default()
        .with_error_code(answer.error.value())
        .with_protocol_type(answer.protocol_type.map(StrBytes::from_string))
        .with_protocol_name(answer.protocol_name.map(StrBytes::from_string))
        .with_assignment(answer.assignment)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::protocol::Encodable;

    use super::*;

    #[test]
    fn every_answer_encodes_in_every_version() {
        for version in 0..=5 {
            for answer in [
                SyncAnswer {
                    error: ErrorCode::None,
                    protocol_type: Some("consumer".into()),
                    protocol_name: Some("range".into()),
                    assignment: Bytes::from_static(&[1]),
                },
                SyncAnswer::refusal(ErrorCode::RebalanceInProgress),
            ] {
                respond(answer)
                    .encode(&mut BytesMut::new(), version)
                    .unwrap();
            }
        }
    }
}
