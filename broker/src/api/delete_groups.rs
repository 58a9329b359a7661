//! DeleteGroups (key 42), v0–2. v2 flexible.
//!
//! Source: `KafkaApis.handleDeleteGroupsRequest`.

use std::collections::HashSet;

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse, GroupId};

use super::context::Context;
use crate::error::ErrorCode;

pub async fn handle(cx: &Context<'_>, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut seen = HashSet::new();
    let mut results = Vec::with_capacity(request.groups_names.len());
    for group_id in &request.groups_names {
        if seen.insert(group_id.as_str()) {
            let code = cx.rooms.groups.delete_group(group_id).await;
            results.push(result(group_id, code));
        }
    }
    DeleteGroupsResponse::default().with_results(results)
}

/// The same refusal for every group.
pub fn refuse(request: &DeleteGroupsRequest, code: ErrorCode) -> DeleteGroupsResponse {
    let results = request
        .groups_names
        .iter()
        .map(|group_id| result(group_id, code))
        .collect();
    DeleteGroupsResponse::default().with_results(results)
}

fn result(group_id: &GroupId, code: ErrorCode) -> DeletableGroupResult {
    DeletableGroupResult::default()
        .with_group_id(group_id.clone())
        .with_error_code(code.value())
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::protocol::{Encodable, StrBytes};

    use super::*;

    #[test]
    fn every_answer_encodes_in_every_version() {
        let request = DeleteGroupsRequest::default()
            .with_groups_names(vec![GroupId(StrBytes::from_static_str("g"))]);
        for version in 0..=2 {
            refuse(&request, ErrorCode::NonEmptyGroup)
                .encode(&mut BytesMut::new(), version)
                .unwrap();
        }
    }
}
