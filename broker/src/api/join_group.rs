//! JoinGroup (key 11), v0–9. v1 rebalance timeout (before: the session timeout), v4 MEMBER_ID_REQUIRED
//! for dynamic members, v5 group.instance.id, v6 flexible, v7 protocol type, v8 reason, v9 static
//! leaders may be told to skip the assignment.
//!
//! Source: `KafkaApis.handleJoinGroupRequest`, `GroupCoordinatorAdapter.joinGroup`.

use std::net::IpAddr;

use bytes::Bytes;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;

use super::context::Context;
use crate::error::ErrorCode;
use crate::group::event::{JoinAnswer, JoinRequest, Protocol};
use crate::types::random_member_id;

pub async fn handle(cx: &Context<'_>, request: JoinGroupRequest) -> JoinGroupResponse {
    let version = cx.version;
    let host = client_host(cx.peer.address.ip());
    let client_id = cx.client_id.unwrap_or_default().to_owned();
    let join = translate(version, client_id, host, &request);
    let joining = cx.rooms.groups.join(&request.group_id, join);
    // Its frame does not wait for the others.
    drop(request);
    respond(version, joining.await)
}

/// The same refusal in this API's shape.
pub fn refuse(_: &JoinGroupRequest, code: ErrorCode) -> JoinGroupResponse {
    respond(0, JoinAnswer::refusal("", code))
}

/// Copies what is kept: the request is a slice of its frame.
fn translate(
    version: i16,
    client_id: String,
    client_host: String,
    request: &JoinGroupRequest,
) -> JoinRequest {
    let owned = |text: &Option<StrBytes>| text.as_ref().map(ToString::to_string);
    let instance_id = owned(&request.group_instance_id);
    JoinRequest {
        token: 0,
        member_id: request.member_id.to_string(),
        unique: random_member_id(),
        require_known_member_id: version >= 4 && instance_id.is_none(),
        instance_id,
        supports_skipping_assignment: version >= 9,
        client_id,
        client_host,
        rebalance_timeout_ms: if version == 0 {
            request.session_timeout_ms
        } else {
            request.rebalance_timeout_ms
        },
        session_timeout_ms: request.session_timeout_ms,
        protocol_type: request.protocol_type.to_string(),
        protocols: request
            .protocols
            .iter()
            .map(|protocol| Protocol {
                name: protocol.name.to_string(),
                metadata: Bytes::copy_from_slice(&protocol.metadata),
            })
            .collect(),
        reason: owned(&request.reason),
    }
}

fn respond(version: i16, answer: JoinAnswer) -> JoinGroupResponse {
    let text = StrBytes::from_string;
    // Before v7 the field knows no null.
    let protocol_name = match answer.protocol_name {
        None if version < 7 => Some(StrBytes::default()),
        Some(name) if version >= 7 && name.is_empty() => None,
        name => name.map(text),
    };
    JoinGroupResponse::default()
        .with_error_code(answer.error.value())
        .with_generation_id(answer.generation)
        .with_protocol_type(answer.protocol_type.map(text))
        .with_protocol_name(protocol_name)
        .with_leader(text(answer.leader))
        .with_skip_assignment(answer.skip_assignment)
        .with_member_id(text(answer.member_id))
        .with_members(
            answer
                .members
                .into_iter()
                .map(|member| {
                    JoinGroupResponseMember::default()
                        .with_member_id(text(member.member_id))
                        .with_group_instance_id(member.instance_id.map(text))
                        .with_metadata(member.metadata)
                })
                .collect(),
        )
}

/// As Java's `InetAddress.toString` prints it, which is what tools show and records hold.
fn client_host(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            // By hand: `Display` pads, which takes some thousand instructions.
            let mut text = String::with_capacity("/255.255.255.255".len());
            for (before, octet) in ['/', '.', '.', '.'].into_iter().zip(address.octets()) {
                text.push(before);
                for place in [100, 10, 1] {
                    if octet >= place || place == 1 {
                        text.push(char::from(b'0' + octet / place % 10));
                    }
                }
            }
            text
        }
        IpAddr::V6(address) => {
            let groups: Vec<String> = address
                .segments()
                .iter()
                .map(|group| format!("{group:x}"))
                .collect();
            format!("/{}", groups.join(":"))
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::protocol::Encodable;

    use super::*;
    use crate::group::event::JoinedMember;

    #[test]
    fn every_answer_encodes_in_every_version() {
        let leader = JoinAnswer {
            error: ErrorCode::None,
            member_id: "i-1".into(),
            generation: 3,
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            leader: "i-1".into(),
            skip_assignment: false,
            members: vec![JoinedMember {
                member_id: "i-1".into(),
                instance_id: Some("i".into()),
                metadata: Bytes::from_static(&[1]),
            }],
        };
        for version in 0..=9 {
            let refusal = JoinAnswer::refusal("", ErrorCode::UnknownMemberId);
            for answer in [leader.clone(), refusal] {
                let response = respond(version, answer);
                response.encode(&mut BytesMut::new(), version).unwrap();
                assert_eq!(
                    response.protocol_name.is_none(),
                    version >= 7 && response.error_code != 0
                );
            }
            refuse(
                &JoinGroupRequest::default(),
                ErrorCode::GroupAuthorizationFailed,
            )
            .encode(&mut BytesMut::new(), version)
            .unwrap();
        }
        let skipping = JoinAnswer {
            skip_assignment: true,
            ..leader
        };
        respond(9, skipping)
            .encode(&mut BytesMut::new(), 9)
            .unwrap();
    }

    #[test]
    fn versions_change_what_is_asked() {
        let request = JoinGroupRequest::default()
            .with_session_timeout_ms(10)
            .with_rebalance_timeout_ms(20);
        let ask = |version| translate(version, String::new(), String::new(), &request);
        assert_eq!(ask(0).rebalance_timeout_ms, 10);
        assert_eq!(ask(1).rebalance_timeout_ms, 20);
        assert!(!ask(3).require_known_member_id);
        assert!(ask(4).require_known_member_id);
        assert!(!ask(8).supports_skipping_assignment);
        assert!(ask(9).supports_skipping_assignment);
        let request = request
            .clone()
            .with_group_instance_id(Some(StrBytes::from_static_str("i")));
        let join = translate(9, String::new(), String::new(), &request);
        assert!(!join.require_known_member_id, "static members have no need");
    }

    #[test]
    fn hosts_are_printed_as_java_does() {
        for (address, expected) in [
            ("10.0.0.1", "/10.0.0.1"),
            ("255.100.9.90", "/255.100.9.90"),
            ("::ffff:10.0.0.1", "/10.0.0.1"),
            ("::1", "/0:0:0:0:0:0:0:1"),
            ("fe80::a:0b", "/fe80:0:0:0:0:0:a:b"),
        ] {
            assert_eq!(client_host(address.parse().unwrap()), expected);
        }
    }
}
