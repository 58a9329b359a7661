//! DescribeCluster (key 60), v0–1. v1 endpoint type (KIP-919); a broker knows brokers only.
//!
//! Source: `AuthHelper.computeDescribeClusterResponse`.

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{
    BrokerId as WireBrokerId, DescribeClusterRequest, DescribeClusterResponse,
};
use kafka_protocol::protocol::StrBytes;

use crate::cluster::image::MetadataImage;
use crate::error::ErrorCode;

use super::authorized;
use super::context::Context;

/// `EndpointType.BROKER`.
const BROKERS: i8 = 1;
/// `EndpointType.CONTROLLER`.
const CONTROLLERS: i8 = 2;

pub async fn handle(cx: &Context<'_>, request: DescribeClusterRequest) -> DescribeClusterResponse {
    let cluster = &cx.rooms.cluster;
    answer(
        &cluster.image(),
        cluster.cluster_id(),
        &cx.peer.listener,
        cx.version,
        &request,
    )
}

pub fn refuse(_: &DescribeClusterRequest, code: ErrorCode) -> DescribeClusterResponse {
    error(code, code.message().to_owned())
}

fn error(code: ErrorCode, message: String) -> DescribeClusterResponse {
    DescribeClusterResponse::default()
        .with_error_code(code.value())
        .with_error_message(Some(StrBytes::from_string(message)))
        .with_controller_id(WireBrokerId(-1))
        .with_cluster_authorized_operations(authorized::NOT_ASKED)
}

fn answer(
    image: &MetadataImage,
    cluster_id: &str,
    listener: &str,
    version: i16,
    request: &DescribeClusterRequest,
) -> DescribeClusterResponse {
    let code = |newer| {
        if version == 0 {
            ErrorCode::InvalidRequest
        } else {
            newer
        }
    };
    match request.endpoint_type {
        BROKERS => {}
        CONTROLLERS => {
            return error(
                code(ErrorCode::MismatchedEndpointType),
                "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER".to_owned(),
            );
        }
        unknown => {
            return error(
                code(ErrorCode::UnsupportedEndpointType),
                format!("Unsupported endpoint type {unknown}"),
            );
        }
    }
    let brokers: Vec<DescribeClusterBroker> = image
        .brokers
        .values()
        .filter_map(|broker| {
            let endpoint = broker.endpoint(listener)?;
            Some(
                DescribeClusterBroker::default()
                    .with_broker_id(WireBrokerId(broker.id))
                    .with_host(StrBytes::from_string(endpoint.host.clone()))
                    .with_port(endpoint.port)
                    .with_rack(broker.rack.clone().map(StrBytes::from_string)),
            )
        })
        .collect();
    // A controller that is not among the brokers shown would only confuse the client.
    let controller = image
        .controller_id
        .filter(|id| brokers.iter().any(|broker| broker.broker_id.0 == *id))
        .unwrap_or(-1);
    let operations = if request.include_cluster_authorized_operations {
        authorized::CLUSTER
    } else {
        authorized::NOT_ASKED
    };
    DescribeClusterResponse::default()
        .with_endpoint_type(BROKERS)
        .with_cluster_id(StrBytes::from_string(cluster_id.to_owned()))
        .with_controller_id(WireBrokerId(controller))
        .with_cluster_authorized_operations(operations)
        .with_brokers(brokers)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::protocol::Encodable;

    use super::*;

    #[test]
    fn endpoint_types_and_every_version_encodes() {
        let image = MetadataImage {
            controller_id: Some(4),
            ..MetadataImage::default()
        };
        let check = |endpoint_type, version, expect: ErrorCode| {
            let request = DescribeClusterRequest::default().with_endpoint_type(endpoint_type);
            let response = answer(&image, "c", "PLAINTEXT", version, &request);
            assert_eq!(ErrorCode::from_value(response.error_code), expect);
            assert_eq!(response.controller_id.0, -1, "4 is not a live broker");
            response
                .encode(&mut BytesMut::new(), version)
                .unwrap_or_else(|error| panic!("v{version}: {error}"));
        };
        check(1, 0, ErrorCode::None);
        check(1, 1, ErrorCode::None);
        check(2, 1, ErrorCode::MismatchedEndpointType);
        check(3, 1, ErrorCode::UnsupportedEndpointType);
        check(3, 0, ErrorCode::InvalidRequest);
    }
}
