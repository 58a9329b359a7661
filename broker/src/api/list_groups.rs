//! ListGroups (key 16), v0–5. v3 flexible, v4 filter by state, v5 filter by type (KIP-848), of which
//! we only know classic groups.
//!
//! Source: `KafkaApis.handleListGroupsRequest`, `GroupCoordinator.handleListGroups`.

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use super::context::Context;
use crate::error::ErrorCode;
use crate::group::coordinator::Listed;

const CLASSIC: &str = "classic";

pub async fn handle(cx: &Context<'_>, request: ListGroupsRequest) -> ListGroupsResponse {
    let (code, groups) = cx.rooms.groups.list();
    respond(cx.version, &request, code, groups)
}

/// The same refusal in this API's shape.
pub fn refuse(_: &ListGroupsRequest, code: ErrorCode) -> ListGroupsResponse {
    ListGroupsResponse::default().with_error_code(code.value())
}

fn respond(
    version: i16,
    request: &ListGroupsRequest,
    code: ErrorCode,
    groups: Vec<Listed>,
) -> ListGroupsResponse {
    let matches = |filter: &[StrBytes], name: &str| {
        filter.is_empty()
            || filter
                .iter()
                .any(|wanted| wanted.eq_ignore_ascii_case(name))
    };
    let groups = groups
        .into_iter()
        .filter(|group| {
            matches(&request.states_filter, group.state.name())
                && matches(&request.types_filter, CLASSIC)
        })
        .map(|group| {
            let mut listed = ListedGroup::default()
                .with_group_id(GroupId(StrBytes::from_string(group.group_id)))
                .with_protocol_type(StrBytes::from_string(group.protocol_type));
            if version >= 4 {
                listed.group_state = StrBytes::from_static_str(group.state.name());
            }
            if version >= 5 {
                listed.group_type = StrBytes::from_static_str(CLASSIC);
            }
            listed
        })
        .collect();
    ListGroupsResponse::default()
        .with_error_code(code.value())
        .with_groups(groups)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::protocol::Encodable;

    use super::*;
    use crate::group::group::State;

    fn listed(states: &[&'static str], types: &[&'static str], version: i16) -> usize {
        let text = |names: &[&'static str]| {
            names
                .iter()
                .map(|name| StrBytes::from_static_str(name))
                .collect()
        };
        let request = ListGroupsRequest::default()
            .with_states_filter(text(states))
            .with_types_filter(text(types));
        let groups = [("a", State::Stable), ("b", State::Empty)]
            .map(|(id, state)| Listed {
                group_id: id.into(),
                protocol_type: "consumer".into(),
                state,
            })
            .to_vec();
        let response = respond(version, &request, ErrorCode::None, groups);
        response.encode(&mut BytesMut::new(), version).unwrap();
        response.groups.len()
    }

    #[test]
    fn filters() {
        for version in 0..=5 {
            assert_eq!(listed(&[], &[], version), 2);
        }
        assert_eq!(listed(&["stable"], &[], 5), 1);
        assert_eq!(listed(&["EMPTY", "Dead"], &["Classic"], 5), 1);
        assert_eq!(listed(&["unheard of"], &[], 5), 0);
        assert_eq!(listed(&[], &["consumer"], 5), 0);
    }
}
