//! DescribeGroups (key 15), v0–5. v3 authorised operations, v4 group.instance.id, v5 flexible. A
//! group that does not exist is `Dead`, without an error.
//!
//! Source: `KafkaApis.handleDescribeGroupsRequest`.

use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use kafka_protocol::protocol::StrBytes;

use super::authorized;
use super::context::Context;
use crate::error::ErrorCode;
use crate::group::group::{Description, State};

pub async fn handle(cx: &Context<'_>, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let with_operations = cx.version >= 3 && request.include_authorized_operations;
    let groups = request
        .groups
        .iter()
        .map(|group_id| {
            let found = cx.rooms.groups.describe(group_id);
            described(group_id, found, with_operations)
        })
        .collect();
    DescribeGroupsResponse::default().with_groups(groups)
}

/// The same refusal for every group.
pub fn refuse(request: &DescribeGroupsRequest, code: ErrorCode) -> DescribeGroupsResponse {
    let groups = request
        .groups
        .iter()
        .map(|group_id| described(group_id, Err(code), false))
        .collect();
    DescribeGroupsResponse::default().with_groups(groups)
}

fn described(
    group_id: &GroupId,
    found: Result<Option<Description>, ErrorCode>,
    with_operations: bool,
) -> DescribedGroup {
    let text = StrBytes::from_string;
    let group = DescribedGroup::default().with_group_id(group_id.clone());
    let description = match found {
        Err(code) => return group.with_error_code(code.value()),
        Ok(description) => description,
    };
    let group = group.with_authorized_operations(if with_operations {
        authorized::GROUP
    } else {
        authorized::NOT_ASKED
    });
    let Some(description) = description else {
        return group.with_group_state(StrBytes::from_static_str(State::Dead.name()));
    };
    let members = description
        .members
        .into_iter()
        .map(|member| {
            DescribedGroupMember::default()
                .with_member_id(text(member.member_id))
                .with_group_instance_id(member.instance_id.map(text))
                .with_client_id(text(member.client_id))
                .with_client_host(text(member.client_host))
                .with_member_metadata(member.metadata)
                .with_member_assignment(member.assignment)
        })
        .collect();
    group
        .with_group_state(StrBytes::from_static_str(description.state.name()))
        .with_protocol_type(text(description.protocol_type))
        .with_protocol_data(text(description.protocol))
        .with_members(members)
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::protocol::Encodable;

    use super::*;
    use crate::group::group::MemberDescription;

    #[test]
    fn every_answer_encodes_in_every_version() {
        let stable = Description {
            state: State::Stable,
            protocol_type: "consumer".into(),
            protocol: "range".into(),
            members: vec![MemberDescription {
                member_id: "m".into(),
                instance_id: Some("i".into()),
                client_id: "c".into(),
                client_host: "/127.0.0.1".into(),
                metadata: Bytes::from_static(&[1]),
                assignment: Bytes::from_static(&[2]),
            }],
        };
        let id = GroupId(StrBytes::from_static_str("g"));
        for version in 0..=5 {
            for found in [
                Ok(Some(stable.clone())),
                Ok(None),
                Err(ErrorCode::NotCoordinator),
            ] {
                let group = described(&id, found, version >= 3);
                let response = DescribeGroupsResponse::default().with_groups(vec![group]);
                response.encode(&mut BytesMut::new(), version).unwrap();
            }
        }
        let unknown = described(&id, Ok(None), true);
        assert_eq!(unknown.group_state.as_str(), "Dead");
        assert_eq!(unknown.error_code, 0);
        assert_eq!(unknown.authorized_operations, 328);
    }
}
