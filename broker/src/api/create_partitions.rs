//! CreatePartitions (key 37), v0–3.
//!
//! Source: `KafkaApis.handleCreatePartitionsRequest`, `ZkAdminManager.createPartitions`.

use std::collections::HashMap;
use std::time::Duration;

use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, TopicName as WireTopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::controller::admin::TopicAdmin;
use crate::error::{ErrorCode, KafkaCode};
use crate::types::BrokerId;

use super::context::Context;

pub async fn handle(
    cx: &Context<'_>,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    if !cx.rooms.controller.is_active() {
        return all(&request, ErrorCode::NotController, None);
    }
    let config = cx.rooms.config.load();
    let admin = TopicAdmin {
        store: &*cx.rooms.store,
        cluster: &cx.rooms.cluster,
        config: &config,
    };
    let mut times: HashMap<&str, usize> = HashMap::new();
    for topic in &request.topics {
        *times.entry(topic.name.as_str()).or_default() += 1;
    }
    let mut results: Vec<CreatePartitionsTopicResult> = Vec::new();
    let mut waiting = Vec::new();
    for topic in &request.topics {
        let name = topic.name.as_str();
        if times[name] > 1 {
            // Answered once, however often it was named.
            if !results.iter().any(|result| result.name == topic.name) {
                let message = Some("Duplicate topic in request.".to_owned());
                results.push(result(&topic.name, ErrorCode::InvalidRequest, message));
            }
            continue;
        }
        if cx.rooms.controller.is_queued_for_deletion(name) {
            let message = Some("The topic is queued for deletion.".to_owned());
            results.push(result(
                &topic.name,
                ErrorCode::InvalidTopicException,
                message,
            ));
            continue;
        }
        let assignments: Option<Vec<Vec<BrokerId>>> = topic.assignments.as_ref().map(|given| {
            given
                .iter()
                .map(|assignment| assignment.broker_ids.iter().map(|id| id.0).collect())
                .collect()
        });
        let added = admin
            .add_partitions(
                name,
                topic.count,
                assignments.as_deref(),
                request.validate_only,
            )
            .await;
        match added {
            Ok(count) => {
                if !request.validate_only {
                    waiting.push((name.to_owned(), count));
                }
                results.push(result(&topic.name, ErrorCode::None, None));
            }
            Err(error) => results.push(result(&topic.name, error.code(), error.message())),
        }
    }
    if !waiting.is_empty() {
        let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
        let late = if timeout.is_zero() {
            waiting.into_iter().map(|(name, _)| name).collect()
        } else {
            admin.wait_for_leaders(&waiting, timeout).await
        };
        for result in &mut results {
            if result.error_code == 0 && late.contains(result.name.as_str()) {
                result.error_code = ErrorCode::RequestTimedOut.value();
            }
        }
    }
    CreatePartitionsResponse::default().with_results(results)
}

pub fn refuse(request: &CreatePartitionsRequest, code: ErrorCode) -> CreatePartitionsResponse {
    all(request, code, Some(code.message().to_owned()))
}

fn all(
    request: &CreatePartitionsRequest,
    code: ErrorCode,
    message: Option<String>,
) -> CreatePartitionsResponse {
    CreatePartitionsResponse::default().with_results(
        request
            .topics
            .iter()
            .map(|topic| result(&topic.name, code, message.clone()))
            .collect(),
    )
}

fn result(
    name: &WireTopicName,
    code: ErrorCode,
    message: Option<String>,
) -> CreatePartitionsTopicResult {
    CreatePartitionsTopicResult::default()
        .with_name(name.clone())
        .with_error_code(code.value())
        .with_error_message(message.map(StrBytes::from_string))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
    use kafka_protocol::protocol::Encodable;

    use super::*;

    #[test]
    fn every_version_encodes() {
        let topic = CreatePartitionsTopic::default()
            .with_name(WireTopicName(StrBytes::from_static_str("t")));
        let request = CreatePartitionsRequest::default().with_topics(vec![topic]);
        for version in 0..=3 {
            refuse(&request, ErrorCode::NotController)
                .encode(&mut BytesMut::new(), version)
                .unwrap_or_else(|error| panic!("v{version}: {error}"));
        }
    }
}
