//! ApiVersions (key 18), v0–4. v1 throttle time, v3 flexible, client software (KIP-511) and features
//! (KIP-584), v4 features with a minimum of 0 (KAFKA-17492; a ZooKeeper-mode broker has none).
//! The response header is version 0 always. Source: `ApiVersionsRequest`, `ApiVersionManager`.
//!
//! Every listener and every principal gets the same list, before authentication too.

use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::Request as _;

use super::context::Context;
use super::{APIS, Api};
use crate::error::ErrorCode;

pub async fn handle(cx: &Context<'_>, request: ApiVersionsRequest) -> ApiVersionsResponse {
    if !is_valid(cx.version, &request) {
        return refuse(&request, ErrorCode::InvalidRequest);
    }
    ApiVersionsResponse::default()
        .with_api_keys(APIS.iter().map(version_range).collect())
        .with_finalized_features_epoch(cx.rooms.cluster.features_epoch())
}

pub fn refuse(_: &ApiVersionsRequest, code: ErrorCode) -> ApiVersionsResponse {
    ApiVersionsResponse::default().with_error_code(code.value())
}

/// The answer to a version we do not know, to be encoded in version 0: it names the versions of
/// ApiVersions itself and nothing else.
pub(super) fn unsupported() -> ApiVersionsResponse {
    ApiVersionsResponse::default()
        .with_error_code(ErrorCode::UnsupportedVersion.value())
        .with_api_keys(
            Api::of(ApiVersionsRequest::KEY)
                .map(version_range)
                .into_iter()
                .collect(),
        )
}

/// Name and version of a client that gives them as it should.
pub(super) fn software(version: i16, request: &ApiVersionsRequest) -> Option<(String, String)> {
    (version >= 3 && is_valid(version, request)).then(|| {
        (
            request.client_software_name.to_string(),
            request.client_software_version.to_string(),
        )
    })
}

fn version_range(api: &Api) -> ApiVersion {
    ApiVersion::default()
        .with_api_key(api.key)
        .with_min_version(api.min_version)
        .with_max_version(api.max_version)
}

fn is_valid(version: i16, request: &ApiVersionsRequest) -> bool {
    version < 3
        || (is_software(&request.client_software_name)
            && is_software(&request.client_software_version))
}

/// Letters, digits, `-` and `.`, the latter two not at the ends.
fn is_software(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    let bytes = text.as_bytes();
    bytes.iter().copied().all(inner)
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_follow_kip_511() {
        for name in ["a", "apache-kafka-java", "3.9.0", "librdkafka", "v1--.2"] {
            assert!(is_software(name), "{name}");
        }
        for name in ["", "-a", "a-", ".a", "a b", "a_b", "ä", "a\n"] {
            assert!(!is_software(name), "{name}");
        }
    }

    #[test]
    fn an_unknown_version_is_told_only_the_versions_of_api_versions() {
        let response = unsupported();
        assert_eq!(response.error_code, 35);
        let [api] = response.api_keys.as_slice() else {
            panic!("{response:?}");
        };
        assert_eq!((api.api_key, api.min_version, api.max_version), (18, 0, 4));
    }
}
