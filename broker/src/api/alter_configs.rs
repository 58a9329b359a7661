//! AlterConfigs (key 33), v0–2: replaces the whole configuration of topics and brokers. v1 is v0,
//! v2 flexible. Source: `ConfigAdminManager.preprocess`, `ZkAdminManager.alterConfigs`.
//!
//! The pieces that IncrementalAlterConfigs shares are here too.

use std::collections::HashSet;

use kafka_protocol::messages::alter_configs_request::{AlterConfigsRequest, AlterConfigsResource};
use kafka_protocol::messages::alter_configs_response::{
    AlterConfigsResourceResponse, AlterConfigsResponse,
};

use super::config_resource::{
    Desk, Refusal, Resource, ResourceType, broker_of, entity_of, invalid_topic, refuse_config,
};
use super::context::Context;
use crate::config::{Properties, Scope, dynamic, topic_keys};
use crate::controller::topic_name;
use crate::error::ErrorCode;
use crate::zk::configs::change_config;

pub async fn handle(cx: &Context<'_>, request: AlterConfigsRequest) -> AlterConfigsResponse {
    alter_all(Desk::of(cx), &request).await
}

async fn alter_all(desk: Desk<'_>, request: &AlterConfigsRequest) -> AlterConfigsResponse {
    let twice = named_twice(
        request
            .resources
            .iter()
            .map(|one| (one.resource_type, &*one.resource_name)),
    );
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in &request.resources {
        let outcome = if twice.contains(&(resource.resource_type, &*resource.resource_name)) {
            Err(appears_twice())
        } else {
            alter(desk, resource, request.validate_only).await
        };
        responses.push(response_of(resource, outcome.err()));
    }
    AlterConfigsResponse::default().with_responses(responses)
}

/// The same refusal for every resource.
pub fn refuse(request: &AlterConfigsRequest, code: ErrorCode) -> AlterConfigsResponse {
    let refusal = Refusal {
        code,
        message: None,
    };
    let responses = request
        .resources
        .iter()
        .map(|resource| response_of(resource, Some(refusal.clone())))
        .collect();
    AlterConfigsResponse::default().with_responses(responses)
}

fn response_of(
    resource: &AlterConfigsResource,
    refusal: Option<Refusal>,
) -> AlterConfigsResourceResponse {
    AlterConfigsResourceResponse::default()
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name.clone())
        .with_error_code(refusal.as_ref().map_or(0, |refusal| refusal.code.value()))
        .with_error_message(refusal.and_then(|refusal| refusal.text()))
}

async fn alter(
    desk: Desk<'_>,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refusal> {
    let pairs: Vec<(&str, Option<&str>)> = resource
        .configs
        .iter()
        .map(|config| (&*config.name, config.value.as_deref()))
        .collect();
    check_pairs(&pairs, |_| false)?;
    let proposed: Properties = pairs
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
        .collect();
    let id = resource.resource_type;
    let resource = Resource {
        kind: ResourceType::from_id(id),
        name: &resource.resource_name,
    };
    match resource.kind {
        ResourceType::Topic => alter_topic(desk, resource, &proposed, validate_only).await,
        ResourceType::Broker => {
            check_broker(desk, resource, &proposed)?;
            alter_broker(desk, resource, &proposed, validate_only).await
        }
        ResourceType::ClientMetrics => Err(only_topics_and_brokers(resource)),
        ResourceType::Unknown | ResourceType::BrokerLogger => Err(unknown_type(id)),
    }
}

/// Resources that appear more than once in a request; all of their appearances are refused.
pub(super) fn named_twice<'a>(
    resources: impl Iterator<Item = (i8, &'a str)>,
) -> HashSet<(i8, &'a str)> {
    let mut seen = HashSet::new();
    resources.filter(|one| !seen.insert(*one)).collect()
}

pub(super) fn appears_twice() -> Refusal {
    Refusal::invalid_request("Each resource must appear at most once.")
}

pub(super) fn unknown_type(id: i8) -> Refusal {
    Refusal::invalid_request(format!("Unknown resource type {id}"))
}

pub(super) fn only_topics_and_brokers(resource: Resource<'_>) -> Refusal {
    Refusal::invalid_request(format!(
        "AlterConfigs is only supported for topics and brokers, but resource type is {}",
        resource.kind
    ))
}

/// No key twice, and no null but where `may_be_null`.
pub(super) fn check_pairs(
    pairs: &[(&str, Option<&str>)],
    may_be_null: impl Fn(usize) -> bool,
) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    if !pairs.iter().all(|(key, _)| seen.insert(key)) {
        return Err(Refusal::invalid_request(
            "Error due to duplicate config keys",
        ));
    }
    let nulls: Vec<&str> = pairs
        .iter()
        .enumerate()
        .filter(|(index, (_, value))| value.is_none() && !may_be_null(*index))
        .map(|(_, (key, _))| *key)
        .collect();
    if nulls.is_empty() {
        return Ok(());
    }
    Err(Refusal::invalid_request(format!(
        "Null value not supported for : {}",
        nulls.join(", ")
    )))
}

fn scope_of(resource: Resource<'_>) -> Scope {
    if resource.name.is_empty() {
        Scope::ClusterDefault
    } else {
        Scope::ThisBroker
    }
}

/// Whether a broker's proposed configuration may be; errors here are the client's request's.
pub(super) fn check_broker(
    desk: Desk<'_>,
    resource: Resource<'_>,
    proposed: &Properties,
) -> Result<(), Refusal> {
    broker_of(resource.name, desk.broker_id, "Node")?;
    desk.config
        .validate(scope_of(resource), proposed)
        .map_err(|error| Refusal::invalid_request(error.to_string()))
}

/// Checks and stores a topic's new configuration.
pub(super) async fn alter_topic(
    desk: Desk<'_>,
    resource: Resource<'_>,
    proposed: &Properties,
    validate_only: bool,
) -> Result<(), Refusal> {
    let topic = resource.name;
    if topic.is_empty() {
        return Err(Refusal::invalid_request(
            "Default topic resources are not allowed.",
        ));
    }
    if desk.cluster.image().topic(topic).is_none() {
        return Err(Refusal::new(
            ErrorCode::UnknownTopicOrPartition,
            format!("The topic '{topic}' does not exist."),
        ));
    }
    if let Some(reason) = topic_name::invalid_reason(topic) {
        return Err(invalid_topic(&reason));
    }
    desk.config
        .load()
        .validate_topic_overrides(proposed)
        .map_err(|error| refuse_config(resource, &error))?;
    if !validate_only {
        tracing::info!(
            target: "kafka.server.ZkAdminManager",
            "Updating topic {topic} with new configuration : {}",
            loggable(proposed, |key| topic_keys::find(key).is_none())
        );
        store(desk, resource, proposed).await?;
    }
    Ok(())
}

/// Stores a broker's new configuration, which [`check_broker`] has checked.
pub(super) async fn alter_broker(
    desk: Desk<'_>,
    resource: Resource<'_>,
    proposed: &Properties,
    validate_only: bool,
) -> Result<(), Refusal> {
    if !validate_only {
        tracing::info!(
            target: "kafka.server.ZkAdminManager",
            "Updating {} with new configuration : {}",
            match scope_of(resource) {
                Scope::ThisBroker => format!("broker {}", resource.name),
                Scope::ClusterDefault => "brokers".to_owned(),
            },
            loggable(proposed, dynamic::is_sensitive)
        );
        store(desk, resource, proposed).await?;
    }
    Ok(())
}

async fn store(
    desk: Desk<'_>,
    resource: Resource<'_>,
    proposed: &Properties,
) -> Result<(), Refusal> {
    let Some((entity_type, entity_name)) = entity_of(resource) else {
        return Err(only_topics_and_brokers(resource));
    };
    Ok(change_config(desk.store, entity_type, entity_name, proposed).await?)
}

fn loggable(properties: &Properties, secret: impl Fn(&str) -> bool) -> String {
    let shown: Vec<String> = properties
        .iter()
        .map(|(key, value)| {
            let value = if secret(key) { "[hidden]" } else { value };
            format!("({key},{value})")
        })
        .collect();
    shown.join(",")
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::protocol::{Encodable as _, StrBytes};

    use kafka_protocol::messages::alter_configs_request::AlterableConfig;

    use super::super::config_resource::TestDesk;
    use super::*;

    #[tokio::test]
    async fn the_whole_configuration_is_replaced() {
        let desk = TestDesk::new().await;
        let text = |text: &'static str| StrBytes::from_static_str(text);
        for (kind, name, key, code) in [
            (2, "t", "retention.ms", 0),
            (2, "t", "segment.bytes", 0),
            (4, "1", "log.segment.bytes", 0),
            (4, "", "message.max.bytes", 0),
            (8, "1", "root", 42),
            (2, "nope", "retention.ms", 3),
        ] {
            let config = AlterableConfig::default()
                .with_name(text(key))
                .with_value(Some(text("99")));
            let resource = AlterConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(text(name))
                .with_configs(vec![config]);
            let request = AlterConfigsRequest::default().with_resources(vec![resource]);
            let response = alter_all(desk.desk(), &request).await;
            assert_eq!(response.responses[0].error_code, code, "{name} {key}");
        }
        assert_eq!(desk.stored("topics", "t").await, "segment.bytes=99");
        assert_eq!(desk.stored("brokers", "1").await, "log.segment.bytes=99");
        assert_eq!(
            desk.stored("brokers", "<default>").await,
            "message.max.bytes=99"
        );
    }

    #[test]
    fn duplicate_keys_and_nulls_are_refused_with_kafkas_text() {
        let check = |pairs: &[(&str, Option<&str>)]| {
            check_pairs(pairs, |index| index == 0).map_err(|refusal| refusal.message.unwrap())
        };
        assert_eq!(check(&[("a", None), ("b", Some("1"))]), Ok(()));
        assert_eq!(
            check(&[("a", Some("1")), ("a", Some("2"))]),
            Err("Error due to duplicate config keys".to_owned())
        );
        assert_eq!(
            check(&[("a", None), ("b", None), ("c", None)]),
            Err("Null value not supported for : b, c".to_owned())
        );
    }

    #[test]
    fn a_resource_named_twice_is_found() {
        let twice = named_twice([(2, "t"), (4, "t"), (2, "u"), (2, "t")].into_iter());
        assert_eq!(twice, HashSet::from([(2, "t")]));
    }

    #[test]
    fn errors_of_values_name_the_resource() {
        let topic = Resource {
            kind: ResourceType::Topic,
            name: "t",
        };
        let config = crate::config::Config::from_pairs(&[]).unwrap();
        let refuse = |key: &str, value: &str| {
            let proposed = Properties::from([(key.to_owned(), value.to_owned())]);
            let error = config.validate_topic_overrides(&proposed).unwrap_err();
            refuse_config(topic, &error)
        };
        assert_eq!(
            refuse("retention.ms", "x"),
            Refusal::new(
                ErrorCode::InvalidConfig,
                "Invalid config value for resource ConfigResource(type=TOPIC, name='t'): Invalid value x for configuration retention.ms: Not a number of type LONG"
            )
        );
        assert_eq!(
            refuse("foo", "x").message.as_deref(),
            Some("Unknown topic config name: foo")
        );
    }

    #[test]
    fn every_version_encodes() {
        let resource = AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(StrBytes::from_static_str("t"));
        let request = AlterConfigsRequest::default().with_resources(vec![resource.clone()]);
        let mut response = refuse(&request, ErrorCode::InvalidRequest);
        response.responses.push(response_of(&resource, None));
        for version in 0..=2 {
            let mut buffer = BytesMut::new();
            response.encode(&mut buffer, version).unwrap();
        }
    }
}
