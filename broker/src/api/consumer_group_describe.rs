//! ConsumerGroupDescribe (key 69), v0 (KIP-848). A ZooKeeper-mode broker lists it and answers
//! UNSUPPORTED_VERSION for every group; clients then ask DescribeGroups.
//!
//! Source: `KafkaApis.handleConsumerGroupDescribe`.

use kafka_protocol::messages::consumer_group_describe_response::DescribedGroup;
use kafka_protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};

use super::context::Context;
use crate::error::ErrorCode;

pub async fn handle(
    _: &Context<'_>,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    refuse(&request, ErrorCode::UnsupportedVersion)
}

/// The same refusal for every group.
pub fn refuse(
    request: &ConsumerGroupDescribeRequest,
    code: ErrorCode,
) -> ConsumerGroupDescribeResponse {
    let groups = request
        .group_ids
        .iter()
        .map(|group_id| {
            DescribedGroup::default()
                .with_group_id(group_id.clone())
                .with_error_code(code.value())
        })
        .collect();
    ConsumerGroupDescribeResponse::default().with_groups(groups)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::GroupId;
    use kafka_protocol::protocol::{Encodable, StrBytes};

    use super::*;

    #[test]
    fn says_error_35_for_every_group() {
        let id = GroupId(StrBytes::from_static_str("g"));
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![id.clone(), id]);
        let response = refuse(&request, ErrorCode::UnsupportedVersion);
        assert!(response.groups.iter().all(|group| group.error_code == 35));
        assert_eq!(response.groups.len(), 2);
        response.encode(&mut BytesMut::new(), 0).unwrap();
    }
}
