//! DeleteTopics (key 20), v0–6. v3 TOPIC_DELETION_DISABLED, v5 messages, v6 by id.
//!
//! Source: `KafkaApis.handleDeleteTopicsRequest`, `ZkAdminManager.deleteTopics`.

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    DeleteTopicsRequest, DeleteTopicsResponse, TopicName as WireTopicName,
};
use kafka_protocol::protocol::StrBytes;
use tracing::error;

use crate::controller::admin::TopicAdmin;
use crate::error::{ErrorCode, KafkaCode};
use crate::types::Uuid;

use super::context::Context;

pub async fn handle(cx: &Context<'_>, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    if !cx.rooms.controller.is_active() {
        return all(&request, ErrorCode::NotController);
    }
    let config = cx.rooms.config.load();
    if !config.delete_topic_enable() {
        let code = if cx.version < 3 {
            ErrorCode::InvalidRequest
        } else {
            ErrorCode::TopicDeletionDisabled
        };
        return all(&request, code);
    }
    let asked = asked(&request);
    if asked
        .iter()
        .any(|(name, id)| name.is_some() && !id.is_nil())
    {
        return refuse(&request, ErrorCode::InvalidRequest);
    }
    let image = cx.rooms.cluster.image();
    let admin = TopicAdmin {
        store: &*cx.rooms.store,
        cluster: &cx.rooms.cluster,
        config: &config,
    };
    let mut results = Vec::with_capacity(asked.len());
    let mut deleted: Vec<String> = Vec::new();
    for (name, id) in asked {
        let name = match name {
            Some(name) => Some(name),
            None => image
                .topic_by_id(id)
                .map(|topic| WireTopicName(StrBytes::from_string(topic.name.to_string()))),
        };
        let mut code = ErrorCode::None;
        match name.as_ref().map(|name| name.as_str()) {
            None if !id.is_nil() => code = ErrorCode::UnknownTopicId,
            // Kafka finds no topic that anyone could be authorized for.
            None => code = ErrorCode::TopicAuthorizationFailed,
            Some(name) if image.topic(name).is_none() => {
                code = ErrorCode::UnknownTopicOrPartition;
            }
            // Named twice: both wait for the one deletion.
            Some(name) if deleted.iter().any(|known| known == name) => {}
            Some(name) => match admin.delete(name).await {
                Ok(()) => deleted.push(name.to_owned()),
                Err(failure) => {
                    error!(target: "kafka.server.ZkAdminManager", "Error processing delete topic request for topic {name}: {failure}");
                    code = failure.code();
                }
            },
        }
        results.push(result(name, id, code));
    }
    if !deleted.is_empty() {
        let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
        let late: BTreeSet<String> = if timeout.is_zero() {
            deleted.into_iter().collect()
        } else {
            admin.wait_for_deletion(&deleted, timeout).await
        };
        for result in &mut results {
            let is_late = result
                .name
                .as_ref()
                .is_some_and(|name| late.contains(name.as_str()));
            if result.error_code == 0 && is_late {
                result.error_code = ErrorCode::RequestTimedOut.value();
            }
        }
    }
    DeleteTopicsResponse::default().with_responses(results)
}

pub fn refuse(request: &DeleteTopicsRequest, code: ErrorCode) -> DeleteTopicsResponse {
    all(request, code)
}

/// Topics by name or id, whichever way the version lists them.
fn asked(request: &DeleteTopicsRequest) -> Vec<(Option<WireTopicName>, Uuid)> {
    let by_state = request
        .topics
        .iter()
        .map(|topic| (topic.name.clone(), topic.topic_id));
    let by_name = request
        .topic_names
        .iter()
        .map(|name| (Some(name.clone()), Uuid::nil()));
    by_state.chain(by_name).collect()
}

fn all(request: &DeleteTopicsRequest, code: ErrorCode) -> DeleteTopicsResponse {
    DeleteTopicsResponse::default().with_responses(
        asked(request)
            .into_iter()
            .map(|(name, id)| result(name, id, code))
            .collect(),
    )
}

fn result(name: Option<WireTopicName>, id: Uuid, code: ErrorCode) -> DeletableTopicResult {
    DeletableTopicResult::default()
        .with_name(name)
        .with_topic_id(id)
        .with_error_code(code.value())
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
    use kafka_protocol::protocol::Encodable;

    use super::*;

    #[test]
    fn every_version_encodes() {
        let name = WireTopicName(StrBytes::from_static_str("t"));
        let by_name = DeleteTopicsRequest::default().with_topic_names(vec![name]);
        let by_id = DeleteTopicsRequest::default().with_topics(vec![
            DeleteTopicState::default()
                .with_name(None)
                .with_topic_id(Uuid::from_u128(3)),
        ]);
        for version in 0..=6 {
            let request = if version < 6 { &by_name } else { &by_id };
            let response = refuse(request, ErrorCode::NotController);
            assert_eq!(response.responses.len(), 1);
            response
                .encode(&mut BytesMut::new(), version)
                .unwrap_or_else(|error| panic!("v{version}: {error}"));
        }
    }
}
