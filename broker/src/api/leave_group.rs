//! LeaveGroup (key 13), v0–5. v3 several members, by member or instance id, each with its own error
//! (before: one member, its error is the response's), v4 flexible, v5 reasons.
//!
//! Source: `KafkaApis.handleLeaveGroupRequest`, `LeaveGroupResponse`.

use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use kafka_protocol::protocol::StrBytes;

use super::context::Context;
use crate::error::ErrorCode;
use crate::group::event::LeavingMember;

pub async fn handle(cx: &Context<'_>, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let members = leaving(cx.version, &request);
    let result = cx
        .rooms
        .groups
        .leave(&request.group_id, members.clone())
        .await;
    respond(cx.version, members, result)
}

/// The same refusal in this API's shape.
pub fn refuse(_: &LeaveGroupRequest, code: ErrorCode) -> LeaveGroupResponse {
    LeaveGroupResponse::default().with_error_code(code.value())
}

fn leaving(version: i16, request: &LeaveGroupRequest) -> Vec<LeavingMember> {
    if version < 3 {
        return vec![LeavingMember {
            member_id: request.member_id.to_string(),
            instance_id: None,
            reason: None,
        }];
    }
    request
        .members
        .iter()
        .map(|member| LeavingMember {
            member_id: member.member_id.to_string(),
            instance_id: member.group_instance_id.as_ref().map(ToString::to_string),
            reason: member.reason.as_ref().map(ToString::to_string),
        })
        .collect()
}

fn respond(
    version: i16,
    members: Vec<LeavingMember>,
    result: Result<Vec<ErrorCode>, ErrorCode>,
) -> LeaveGroupResponse {
    let results = match result {
        Err(code) => return LeaveGroupResponse::default().with_error_code(code.value()),
        Ok(results) => results,
    };
    if version < 3 {
        let code = results.first().copied().unwrap_or(ErrorCode::None);
        return LeaveGroupResponse::default().with_error_code(code.value());
    }
    let members = members
        .into_iter()
        .zip(results)
        .map(|(member, code)| {
            MemberResponse::default()
                .with_member_id(StrBytes::from_string(member.member_id))
                .with_group_instance_id(member.instance_id.map(StrBytes::from_string))
                .with_error_code(code.value())
        })
        .collect();
    LeaveGroupResponse::default().with_members(members)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::leave_group_request::MemberIdentity;
    use kafka_protocol::protocol::Encodable;

    use super::*;

    #[test]
    fn the_error_of_a_member_is_where_its_version_has_it() {
        let request = LeaveGroupRequest::default()
            .with_member_id(StrBytes::from_static_str("m"))
            .with_members(vec![
                MemberIdentity::default()
                    .with_group_instance_id(Some(StrBytes::from_static_str("i"))),
            ]);
        for version in 0..=5 {
            let members = leaving(version, &request);
            let expected_id = if version < 3 { "m" } else { "" };
            assert_eq!(members[0].member_id, expected_id);
            let response = respond(version, members, Ok(vec![ErrorCode::UnknownMemberId]));
            response.encode(&mut BytesMut::new(), version).unwrap();
            let code = if version < 3 {
                response.error_code
            } else {
                assert_eq!(response.error_code, 0);
                response.members[0].error_code
            };
            assert_eq!(code, ErrorCode::UnknownMemberId.value());
            let refused = respond(version, Vec::new(), Err(ErrorCode::NotCoordinator));
            refused.encode(&mut BytesMut::new(), version).unwrap();
            assert_eq!(refused.error_code, ErrorCode::NotCoordinator.value());
        }
    }
}
