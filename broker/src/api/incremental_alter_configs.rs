//! IncrementalAlterConfigs (key 44), v0–1: sets, deletes, appends to and subtracts from single keys
//! of topics, brokers and broker loggers (KIP-339, KIP-412). v1 flexible. Source:
//! `ConfigAdminManager.preprocess`, `RuntimeLoggerManager`, `ZkAdminManager.incrementalAlterConfigs`.

use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use kafka_protocol::messages::incremental_alter_configs_response::{
    AlterConfigsResourceResponse, IncrementalAlterConfigsResponse,
};

use super::alter_configs::{
    alter_broker, alter_topic, appears_twice, check_broker, check_pairs, named_twice,
    only_topics_and_brokers, unknown_type,
};
use super::config_resource::{Desk, Refusal, Resource, ResourceType, broker_of, entity_of};
use super::context::Context;
use crate::config::dynamic::accept_stored;
use crate::config::logging::{self, Level, Loggers};
use crate::config::value::Type;
use crate::config::{Properties, Scope, keys, topic_keys};
use crate::error::ErrorCode;
use crate::types::BrokerId;
use crate::zk::configs::read_config;

/// `AlterConfigOp.OpType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Set,
    Delete,
    Append,
    Subtract,
}

impl Operation {
    fn from_id(id: i8) -> Option<Self> {
        Some(match id {
            0 => Self::Set,
            1 => Self::Delete,
            2 => Self::Append,
            3 => Self::Subtract,
            _ => return None,
        })
    }
}

pub async fn handle(
    cx: &Context<'_>,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    alter_all(Desk::of(cx), &request).await
}

async fn alter_all(
    desk: Desk<'_>,
    request: &IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
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
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

/// The same refusal for every resource.
pub fn refuse(
    request: &IncrementalAlterConfigsRequest,
    code: ErrorCode,
) -> IncrementalAlterConfigsResponse {
    let refusal = Refusal {
        code,
        message: None,
    };
    let responses = request
        .resources
        .iter()
        .map(|resource| response_of(resource, Some(refusal.clone())))
        .collect();
    IncrementalAlterConfigsResponse::default().with_responses(responses)
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
    request: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refusal> {
    let operations = &request.configs;
    let pairs: Vec<(&str, Option<&str>)> = operations
        .iter()
        .map(|config| (&*config.name, config.value.as_deref()))
        .collect();
    let deletes = |index: usize| {
        Operation::from_id(operations[index].config_operation) == Some(Operation::Delete)
    };
    check_pairs(&pairs, deletes)?;
    let resource = Resource {
        kind: ResourceType::from_id(request.resource_type),
        name: &request.resource_name,
    };
    match resource.kind {
        ResourceType::Topic if resource.name.is_empty() => Err(Refusal::invalid_request(
            "Default topic resources are not allowed.",
        )),
        ResourceType::Topic => {
            let mut config = stored(desk, resource).await?;
            apply(operations, &mut config, |key| {
                topic_keys::find(key).map(|key| (key.kind, Some(key.default)))
            })?;
            alter_topic(desk, resource, &config, validate_only).await
        }
        ResourceType::Broker => {
            broker_of(resource.name, desk.broker_id, "Node")?;
            let scope = if resource.name.is_empty() {
                Scope::ClusterDefault
            } else {
                Scope::ThisBroker
            };
            let mut config = accept_stored(scope, &stored(desk, resource).await?);
            apply(operations, &mut config, |key| {
                keys::find(key).map(|key| (key.kind, key.default))
            })?;
            check_broker(desk, resource, &config)?;
            alter_broker(desk, resource, &config, validate_only).await
        }
        ResourceType::BrokerLogger => alter_loggers(
            logging::loggers(),
            desk.broker_id,
            resource.name,
            operations,
            validate_only,
        ),
        ResourceType::ClientMetrics => Err(only_topics_and_brokers(resource)),
        ResourceType::Unknown => Err(unknown_type(request.resource_type)),
    }
}

async fn stored(desk: Desk<'_>, resource: Resource<'_>) -> Result<Properties, Refusal> {
    match entity_of(resource) {
        Some((entity_type, entity_name)) => {
            Ok(read_config(desk.store, entity_type, entity_name).await?)
        }
        None => Ok(Properties::new()),
    }
}

/// Carries the operations out on what is set. `key_of` gives a key's type and default.
fn apply(
    operations: &[AlterableConfig],
    config: &mut Properties,
    key_of: impl Fn(&str) -> Option<(Type, Option<&'static str>)>,
) -> Result<(), Refusal> {
    for operation in operations {
        let key = &*operation.name;
        let value = operation.value.as_deref().unwrap_or_default();
        let list_now = |what: &str| match key_of(key) {
            Some((Type::List, default)) => Ok(config
                .get(key)
                .cloned()
                .or_else(|| default.map(str::to_owned))
                .unwrap_or_default()),
            Some(_) => Err(Refusal::new(
                ErrorCode::InvalidConfig,
                format!("Config value {what} is not allowed for config key: {key}"),
            )),
            None => Err(Refusal::new(
                ErrorCode::InvalidConfig,
                format!("Unknown config name: {key}"),
            )),
        };
        let changed = match Operation::from_id(operation.config_operation) {
            None => {
                return Err(Refusal::invalid_request(format!(
                    "Unknown operations type {}",
                    operation.config_operation
                )));
            }
            Some(Operation::Set) => Some(value.to_owned()),
            Some(Operation::Delete) => None,
            Some(Operation::Append) => {
                let now = list_now("append")?;
                let mut items = if now.is_empty() {
                    Vec::new()
                } else {
                    split(&now)
                };
                let added: Vec<&str> = split(value)
                    .into_iter()
                    .filter(|item| !items.contains(item))
                    .collect();
                items.extend(added);
                Some(items.join(","))
            }
            Some(Operation::Subtract) => {
                let now = list_now("subtract")?;
                let mut items = split(&now);
                for item in split(value) {
                    if let Some(index) = items.iter().position(|one| *one == item) {
                        items.remove(index);
                    }
                }
                Some(items.join(","))
            }
        };
        match changed {
            Some(value) => config.insert(key.to_owned(), value),
            None => config.remove(key),
        };
    }
    Ok(())
}

/// As Java's `split(",")`: items keep their white space, trailing empty ones go, and what has no
/// comma is one item.
fn split(list: &str) -> Vec<&str> {
    if !list.contains(',') {
        return vec![list];
    }
    let mut items: Vec<&str> = list.split(',').collect();
    while items.last().is_some_and(|item| item.is_empty()) {
        items.pop();
    }
    items
}

/// Levels of loggers live in this process only: nothing is stored.
fn alter_loggers(
    loggers: &Loggers,
    me: BrokerId,
    name: &str,
    operations: &[AlterableConfig],
    validate_only: bool,
) -> Result<(), Refusal> {
    const TARGET: &str = "kafka.server.ConfigAdminManager";
    let id: BrokerId = name.parse().map_err(|_| {
        Refusal::invalid_request(format!("Node id must be an integer, but it is: {name}"))
    })?;
    if id != me {
        return Err(Refusal::invalid_request(format!(
            "Unexpected node id. Expected {me}, but received {id}"
        )));
    }
    let mut changes = Vec::with_capacity(operations.len());
    for operation in operations {
        changes.push((&*operation.name, level_change(loggers, operation)?));
    }
    if validate_only {
        return Ok(());
    }
    for (logger, level) in changes {
        match level {
            Some(level) => {
                loggers.set_level(logger, level);
                tracing::warn!(target: TARGET, "Updated the log level of {logger} to {}", level.name());
            }
            None => {
                loggers.unset_level(logger);
                tracing::warn!(target: TARGET, "Unset the log level of {logger}");
            }
        }
    }
    Ok(())
}

/// The level an operation asks for; `None` takes the logger's own away.
fn level_change(loggers: &Loggers, operation: &AlterableConfig) -> Result<Option<Level>, Refusal> {
    let logger = &*operation.name;
    let not_allowed = |what: &str| {
        Refusal::invalid_request(format!(
            "{what} is not allowed for the BROKER_LOGGER resource"
        ))
    };
    let exists = || match loggers.exists(logger) {
        true => Ok(()),
        false => Err(Refusal::new(
            ErrorCode::InvalidConfig,
            format!("Logger {logger} does not exist!"),
        )),
    };
    match Operation::from_id(operation.config_operation) {
        Some(Operation::Set) => {
            exists()?;
            let level = operation.value.as_deref().unwrap_or_default();
            match Level::from_name(level) {
                Some(known) if logging::LEVELS.contains(&level) => Ok(Some(known)),
                _ => Err(Refusal::new(
                    ErrorCode::InvalidConfig,
                    format!(
                        "Cannot set the log level of {logger} to {level} as it is not a supported log level. Valid log levels are {}",
                        logging::LEVELS.join(", ")
                    ),
                )),
            }
        }
        Some(Operation::Delete) => {
            exists()?;
            if logger == logging::ROOT {
                return Err(Refusal::invalid_request(
                    "Removing the log level of the root logger is not allowed",
                ));
            }
            Ok(None)
        }
        Some(Operation::Append) => Err(not_allowed("APPEND operation")),
        Some(Operation::Subtract) => Err(not_allowed("SUBTRACT operation")),
        None => Err(not_allowed(&format!(
            "Unknown operation type {}",
            operation.config_operation
        ))),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::protocol::{Encodable as _, StrBytes};

    use super::super::config_resource::TestDesk;
    use super::*;
    use crate::zk::Store as _;

    fn operation(id: i8, key: &str, value: Option<&str>) -> AlterableConfig {
        AlterableConfig::default()
            .with_config_operation(id)
            .with_name(StrBytes::from_string(key.to_owned()))
            .with_value(value.map(|value| StrBytes::from_string(value.to_owned())))
    }

    /// Applies to a topic with `retention.ms=1` and shows what is set then.
    fn check(operations: &[AlterableConfig]) -> Result<String, String> {
        let mut config = Properties::from([("retention.ms".to_owned(), "1".to_owned())]);
        apply(operations, &mut config, |key| {
            topic_keys::find(key).map(|key| (key.kind, Some(key.default)))
        })
        .map_err(|refusal| refusal.message.unwrap())?;
        let set: Vec<String> = config
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        Ok(set.join(" "))
    }

    /// Alters one resource and shows code and message.
    async fn alter_one(
        desk: &TestDesk,
        (kind, name): (i8, &str),
        operations: Vec<AlterableConfig>,
        validate_only: bool,
    ) -> (i16, Option<String>) {
        let resource = AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(StrBytes::from_string(name.to_owned()))
            .with_configs(operations);
        let request = IncrementalAlterConfigsRequest::default()
            .with_resources(vec![resource])
            .with_validate_only(validate_only);
        let response = alter_all(desk.desk(), &request).await;
        let response = &response.responses[0];
        let message = response.error_message.as_ref().map(ToString::to_string);
        (response.error_code, message)
    }

    #[tokio::test]
    async fn topics_and_brokers_are_altered_in_the_store_and_told() {
        let desk = TestDesk::new().await;
        let set = |key, value| vec![operation(0, key, Some(value))];
        for (resource, operations) in [
            ((2, "t"), set("retention.ms", "5")),
            (
                (2, "t"),
                vec![operation(2, "cleanup.policy", Some("compact"))],
            ),
            ((4, "1"), set("log.segment.bytes", "99")),
            ((4, ""), set("message.max.bytes", "77")),
            ((4, ""), set("log.segment.bytes", "98")),
            ((4, ""), vec![operation(1, "message.max.bytes", None)]),
        ] {
            assert_eq!(
                alter_one(&desk, resource, operations, false).await,
                (0, None)
            );
        }
        assert_eq!(
            desk.stored("topics", "t").await,
            "cleanup.policy=delete,compact retention.ms=5"
        );
        assert_eq!(desk.stored("brokers", "1").await, "log.segment.bytes=99");
        assert_eq!(
            desk.stored("brokers", "<default>").await,
            "log.segment.bytes=98"
        );
        let changes = desk.store.children("/config/changes").await.unwrap();
        assert_eq!(changes.len(), 6);
    }

    #[tokio::test]
    async fn refusals_carry_kafkas_code_and_text_and_change_nothing() {
        let desk = TestDesk::new().await;
        let set = |key, value| vec![operation(0, key, Some(value))];
        for (resource, operations, code, message) in [
            (
                (2, "nope"),
                set("retention.ms", "5"),
                3,
                "The topic 'nope' does not exist.",
            ),
            (
                (2, ""),
                set("retention.ms", "5"),
                42,
                "Default topic resources are not allowed.",
            ),
            (
                (2, "t"),
                set("foo", "5"),
                40,
                "Unknown topic config name: foo",
            ),
            (
                (2, "t"),
                set("retention.ms", "x"),
                40,
                "Invalid config value for resource ConfigResource(type=TOPIC, name='t'): Invalid value x for configuration retention.ms: Not a number of type LONG",
            ),
            (
                (2, "t"),
                vec![operation(0, "retention.ms", None)],
                42,
                "Null value not supported for : retention.ms",
            ),
            (
                (4, "2"),
                set("log.segment.bytes", "99"),
                42,
                "Unexpected broker id, expected 1, but received 2",
            ),
            (
                (4, "x"),
                set("log.segment.bytes", "99"),
                42,
                "Node id must be an integer, but it is: x",
            ),
            (
                (4, "1"),
                set("num.partitions", "2"),
                42,
                "Cannot update these configs dynamically: Set(num.partitions)",
            ),
            (
                (4, "1"),
                set("log.segment.bytes", "1"),
                42,
                "Invalid value 1 for configuration log.segment.bytes: Value must be at least 14",
            ),
            (
                (16, "m"),
                set("a", "1"),
                42,
                "AlterConfigs is only supported for topics and brokers, but resource type is CLIENT_METRICS",
            ),
            ((99, "m"), set("a", "1"), 42, "Unknown resource type 99"),
        ] {
            assert_eq!(
                alter_one(&desk, resource, operations, false).await,
                (code, Some(message.to_owned())),
                "{resource:?}"
            );
        }
        assert_eq!(desk.store.exists("/config").await, Ok(None));
    }

    #[tokio::test]
    async fn validation_alone_writes_nothing() {
        let desk = TestDesk::new().await;
        let operations = || vec![operation(0, "retention.ms", Some("5"))];
        assert_eq!(
            alter_one(&desk, (2, "t"), operations(), true).await,
            (0, None)
        );
        assert_eq!(desk.store.exists("/config").await, Ok(None));
    }

    #[tokio::test]
    async fn without_a_controller_nothing_is_written() {
        let desk = TestDesk::new().await;
        desk.store.delete("/controller", None).await.unwrap();
        let operations = vec![operation(0, "retention.ms", Some("5"))];
        assert_eq!(
            alter_one(&desk, (2, "t"), operations, false).await,
            (
                11,
                Some(
                    "Cannot set entity configs for topics t when there is no controller."
                        .to_owned()
                )
            )
        );
    }

    #[tokio::test]
    async fn a_resource_named_twice_is_refused_each_time() {
        let desk = TestDesk::new().await;
        let resource = AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(StrBytes::from_static_str("t"));
        let request = IncrementalAlterConfigsRequest::default()
            .with_resources(vec![resource.clone(), resource]);
        let response = alter_all(desk.desk(), &request).await;
        let codes: Vec<i16> = response
            .responses
            .iter()
            .map(|one| one.error_code)
            .collect();
        assert_eq!(codes, [42, 42]);
    }

    #[test]
    fn operations_change_what_is_set() {
        let policy = "cleanup.policy";
        for (operations, expect) in [
            (
                vec![operation(0, "segment.ms", Some("5"))],
                "retention.ms=1 segment.ms=5",
            ),
            (vec![operation(1, "retention.ms", None)], ""),
            (vec![operation(1, "absent", None)], "retention.ms=1"),
            (
                vec![operation(2, policy, Some("compact"))],
                "cleanup.policy=delete,compact retention.ms=1",
            ),
            (
                vec![operation(2, policy, Some("delete"))],
                "cleanup.policy=delete retention.ms=1",
            ),
            (
                vec![operation(3, policy, Some("delete"))],
                "cleanup.policy= retention.ms=1",
            ),
            (
                vec![
                    operation(2, policy, Some("compact")),
                    operation(3, policy, Some("delete")),
                ],
                "cleanup.policy=compact retention.ms=1",
            ),
            (
                vec![operation(
                    2,
                    "leader.replication.throttled.replicas",
                    Some("0:1,1:1"),
                )],
                "leader.replication.throttled.replicas=0:1,1:1 retention.ms=1",
            ),
        ] {
            assert_eq!(check(&operations).as_deref(), Ok(expect));
        }
    }

    #[test]
    fn operations_that_do_not_fit_are_refused() {
        for (wrong, expect) in [
            (
                operation(2, "retention.ms", Some("1")),
                "Config value append is not allowed for config key: retention.ms",
            ),
            (
                operation(3, "retention.ms", Some("1")),
                "Config value subtract is not allowed for config key: retention.ms",
            ),
            (operation(2, "what", Some("1")), "Unknown config name: what"),
            (
                operation(9, "retention.ms", Some("1")),
                "Unknown operations type 9",
            ),
        ] {
            assert_eq!(check(&[wrong]), Err(expect.to_owned()));
        }
    }

    #[test]
    fn loggers_are_changed_at_once_or_not_at_all() {
        let loggers = logging::loggers();
        let alter = |name: &str, operations: &[AlterableConfig], validate_only| {
            alter_loggers(loggers, 1, name, operations, validate_only)
                .map_err(|refusal| refusal.message.unwrap())
        };
        let logger = "kafka.cluster.Partition";
        let level = || {
            let all = loggers.all();
            all.into_iter().find(|(name, _)| name == logger).unwrap().1
        };
        let set = operation(0, logger, Some("DEBUG"));
        assert_eq!(alter("1", std::slice::from_ref(&set), true), Ok(()));
        assert_eq!(level(), Level::Info);
        assert_eq!(alter("1", std::slice::from_ref(&set), false), Ok(()));
        assert_eq!(level(), Level::Debug);
        assert_eq!(alter("1", &[operation(1, logger, None)], false), Ok(()));
        assert_eq!(level(), Level::Info);
        for (name, wrong, expect) in [
            ("x", set.clone(), "Node id must be an integer, but it is: x"),
            (
                "2",
                set.clone(),
                "Unexpected node id. Expected 1, but received 2",
            ),
            (
                "1",
                operation(0, "no.such", Some("INFO")),
                "Logger no.such does not exist!",
            ),
            (
                "1",
                operation(0, logger, Some("OFF")),
                "Cannot set the log level of kafka.cluster.Partition to OFF as it is not a supported log level. Valid log levels are DEBUG, ERROR, FATAL, INFO, TRACE, WARN",
            ),
            (
                "1",
                operation(1, "root", None),
                "Removing the log level of the root logger is not allowed",
            ),
            (
                "1",
                operation(2, logger, Some("INFO")),
                "APPEND operation is not allowed for the BROKER_LOGGER resource",
            ),
        ] {
            assert_eq!(
                alter(name, &[set.clone(), wrong], false),
                Err(expect.to_owned())
            );
            assert_eq!(level(), Level::Info);
        }
    }

    #[test]
    fn every_version_encodes() {
        let resource = AlterConfigsResource::default()
            .with_resource_type(4)
            .with_resource_name(StrBytes::from_static_str("1"));
        let request =
            IncrementalAlterConfigsRequest::default().with_resources(vec![resource.clone()]);
        let mut response = refuse(&request, ErrorCode::InvalidRequest);
        response.responses.push(response_of(&resource, None));
        for version in 0..=1 {
            let mut buffer = BytesMut::new();
            response.encode(&mut buffer, version).unwrap();
        }
    }
}
