//! DescribeConfigs (key 32), v0–4. v1 synonyms and sources instead of "is default", v3 types and
//! documentation, v4 flexible. Source: `ConfigHelper`.
//!
//! Entries come in the order of the key tables, where Kafka's come in the order of a hash map.

use kafka_protocol::messages::describe_configs_request::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult,
    DescribeConfigsSynonym,
};
use kafka_protocol::protocol::StrBytes;

use super::config_resource::{Desk, Refusal, Resource, ResourceType, invalid_topic};
use super::context::Context;
use crate::config::dynamic::{self, Layers};
use crate::config::keys::{self, KEYS, Mode};
use crate::config::value::{Type, Value};
use crate::config::{Config, Properties, logging, topic_keys};
use crate::controller::topic_name;
use crate::error::ErrorCode;
use crate::zk::configs::{TOPICS, read_config};

/// `DescribeConfigsResponse.ConfigSource`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Topic = 1,
    DynamicBroker = 2,
    DynamicDefaultBroker = 3,
    StaticBroker = 4,
    Default = 5,
    DynamicBrokerLogger = 6,
}

/// What the client wants beside names and values.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    synonyms: bool,
    documentation: bool,
}

pub async fn handle(cx: &Context<'_>, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    // One resource of a type that does not exist spoils the whole request.
    if let Some(resource) = request
        .resources
        .iter()
        .find(|one| ResourceType::from_id(one.resource_type) == ResourceType::Unknown)
    {
        tracing::debug!(
            target: "kafka.server.KafkaApis",
            "Unexpected resource type {} for resource {}",
            resource.resource_type,
            resource.resource_name
        );
        return refuse(&request, ErrorCode::InvalidRequest);
    }
    let wanted = Wanted {
        synonyms: request.include_synonyms,
        documentation: request.include_documentation,
    };
    let mut results = Vec::with_capacity(request.resources.len());
    for resource in &request.resources {
        results.push(describe(Desk::of(cx), resource, wanted).await);
    }
    DescribeConfigsResponse::default().with_results(results)
}

/// The same refusal for every resource.
pub fn refuse(request: &DescribeConfigsRequest, code: ErrorCode) -> DescribeConfigsResponse {
    let results = request
        .resources
        .iter()
        .map(|resource| {
            result_of(resource)
                .with_error_code(code.value())
                .with_error_message(Some(StrBytes::from_static_str(code.message())))
        })
        .collect();
    DescribeConfigsResponse::default().with_results(results)
}

fn result_of(resource: &DescribeConfigsResource) -> DescribeConfigsResult {
    DescribeConfigsResult::default()
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name.clone())
}

async fn describe(
    desk: Desk<'_>,
    resource: &DescribeConfigsResource,
    wanted: Wanted,
) -> DescribeConfigsResult {
    let result = result_of(resource);
    match entries(desk, resource, wanted).await {
        Ok(Some(entries)) => {
            let asked = |name: &str| match &resource.configuration_keys {
                Some(keys) if !keys.is_empty() => keys.iter().any(|key| &**key == name),
                _ => true,
            };
            result.with_configs(
                entries
                    .into_iter()
                    .filter(|entry| asked(&entry.name))
                    .collect(),
            )
        }
        Ok(None) => result.with_error_code(ErrorCode::UnknownTopicOrPartition.value()),
        Err(refusal) => {
            tracing::info!(
                target: "kafka.server.ConfigHelper",
                "Error processing describe configs request for resource {}: {:?}",
                resource.resource_name,
                refusal.message
            );
            result
                .with_error_code(refusal.code.value())
                .with_error_message(refusal.text())
        }
    }
}

/// All entries of a resource; `None` for a topic that is not there.
async fn entries(
    desk: Desk<'_>,
    resource: &DescribeConfigsResource,
    wanted: Wanted,
) -> Result<Option<Vec<DescribeConfigsResourceResult>>, Refusal> {
    let resource = Resource {
        kind: ResourceType::from_id(resource.resource_type),
        name: &resource.resource_name,
    };
    match resource.kind {
        ResourceType::Topic => {
            if let Some(reason) = topic_name::invalid_reason(resource.name) {
                return Err(invalid_topic(&reason));
            }
            if desk.cluster.image().topic(resource.name).is_none() {
                return Ok(None);
            }
            let overrides = read_config(desk.store, TOPICS, resource.name).await?;
            let view = View {
                config: &desk.config.load(),
                layers: &desk.config.layers(),
                wanted,
            };
            Ok(Some(view.topic(&overrides)))
        }
        ResourceType::Broker => {
            let layers = desk.config.layers();
            let view = View {
                config: &desk.config.load(),
                layers: &layers,
                wanted,
            };
            match local_broker(resource.name, desk.broker_id, " or empty string,")? {
                None => Ok(Some(view.cluster_default())),
                Some(()) => Ok(Some(view.broker())),
            }
        }
        ResourceType::BrokerLogger => match local_broker(resource.name, desk.broker_id, "")? {
            None => Err(Refusal::invalid_request("Broker id must not be empty")),
            Some(()) => Ok(Some(loggers())),
        },
        ResourceType::ClientMetrics if resource.name.is_empty() => Err(Refusal::invalid_request(
            "Client metrics subscription name must not be empty",
        )),
        ResourceType::ClientMetrics => Err(Refusal::invalid_request(
            "Config type client-metrics is only supported on KRaft clusters",
        )),
        ResourceType::Unknown => Err(Refusal::invalid_request(format!(
            "Unsupported resource type: {}",
            resource.kind
        ))),
    }
}

/// `None` for the empty name; an error for any broker but this one.
fn local_broker(name: &str, me: i32, or_empty: &str) -> Result<Option<()>, Refusal> {
    if name.is_empty() {
        return Ok(None);
    }
    match name.parse::<i32>() {
        Err(_) => Err(Refusal::invalid_request(format!(
            "Broker id must be an integer, but it is: {name}"
        ))),
        Ok(id) if id != me => Err(Refusal::invalid_request(format!(
            "Unexpected broker id, expected {me}{or_empty} but received {name}"
        ))),
        Ok(_) => Ok(Some(())),
    }
}

fn loggers() -> Vec<DescribeConfigsResourceResult> {
    logging::loggers()
        .all()
        .into_iter()
        .map(|(logger, level)| {
            DescribeConfigsResourceResult::default()
                .with_name(StrBytes::from_string(logger))
                .with_value(Some(StrBytes::from_static_str(level.name())))
                .with_config_source(Source::DynamicBrokerLogger as i8)
        })
        .collect()
}

/// The configuration as one request sees it.
struct View<'a> {
    config: &'a Config,
    layers: &'a Layers,
    wanted: Wanted,
}

impl View<'_> {
    fn topic(&self, overrides: &Properties) -> Vec<DescribeConfigsResourceResult> {
        let mut entries: Vec<_> = self
            .config
            .topic_values(overrides)
            .into_iter()
            .map(|(key, value)| {
                let mut synonyms = key
                    .server_default
                    .map(|server| self.synonyms(server, false))
                    .unwrap_or_default();
                let text = value.text();
                if overrides.contains_key(key.name) {
                    synonyms.insert(0, synonym(key.name, text.clone(), Source::Topic));
                }
                self.entry(key.name, text, Some(key.kind), synonyms)
                    .with_documentation(self.doc(Some(key.doc)))
            })
            .collect();
        // Names that are no topic key are shown, but not what they hold.
        for name in overrides.keys() {
            if topic_keys::find(name).is_none() {
                let synonyms = vec![synonym(name, None, Source::Topic)];
                entries.push(
                    self.entry(name, None, None, synonyms)
                        .with_is_sensitive(true)
                        .with_documentation(None),
                );
            }
        }
        entries
    }

    /// This broker: every key but internal ones, and whatever else was set.
    fn broker(&self) -> Vec<DescribeConfigsResourceResult> {
        let set = self.config.properties();
        let known = KEYS
            .iter()
            .filter(|key| !key.internal || set.contains_key(key.name))
            .map(|key| self.broker_entry(key.name, self.config.value(key.name), true));
        let unknown = set
            .keys()
            .filter(|name| keys::find(name).is_none())
            .map(|name| self.broker_entry(name, None, true));
        known.chain(unknown).collect()
    }

    /// What is set as the cluster's default, and nothing else.
    fn cluster_default(&self) -> Vec<DescribeConfigsResourceResult> {
        self.layers
            .dynamic_default
            .keys()
            .map(|name| self.broker_entry(name, None, false))
            .collect()
    }

    /// `value` is `None` where the text of the layers is all there is.
    fn broker_entry(
        &self,
        name: &str,
        value: Option<&Value>,
        per_broker: bool,
    ) -> DescribeConfigsResourceResult {
        let kind = dynamic::type_of(name);
        let sensitive = dynamic::is_sensitive(name);
        let mut synonyms = self.synonyms(name, sensitive);
        if !per_broker {
            synonyms.retain(|one| one.source == Source::DynamicDefaultBroker as i8);
        }
        let text = match value {
            _ if sensitive => None,
            Some(value) => value.text(),
            None if per_broker => self.config.properties().get(name).cloned(),
            None => self.layers.dynamic_default.get(name).cloned(),
        };
        let read_only = keys::find(name).is_none_or(|key| key.mode == Mode::ReadOnly);
        self.entry(name, text, kind, synonyms)
            .with_is_sensitive(sensitive)
            .with_read_only(read_only)
            .with_documentation(self.doc(keys::find(name).map(|key| key.doc)))
    }

    fn entry(
        &self,
        name: &str,
        value: Option<String>,
        kind: Option<Type>,
        synonyms: Vec<DescribeConfigsSynonym>,
    ) -> DescribeConfigsResourceResult {
        let source = synonyms
            .first()
            .map_or(Source::Default as i8, |synonym| synonym.source);
        DescribeConfigsResourceResult::default()
            .with_name(StrBytes::from_string(name.to_owned()))
            .with_value(value.map(StrBytes::from_string))
            .with_config_source(source)
            .with_config_type(kind.map_or(0, Type::wire_id))
            .with_synonyms(if self.wanted.synonyms {
                synonyms
            } else {
                Vec::new()
            })
    }

    fn doc(&self, doc: Option<&'static str>) -> Option<StrBytes> {
        doc.filter(|_| self.wanted.documentation)
            .map(StrBytes::from_static_str)
    }

    /// Everything that could give `name` its value, in the order of precedence, from the first
    /// entry under its own name on.
    fn synonyms(&self, name: &str, sensitive: bool) -> Vec<DescribeConfigsSynonym> {
        let names = dynamic::synonyms_with_listeners(name);
        let layers = [
            (&self.layers.dynamic_broker, Source::DynamicBroker),
            (&self.layers.dynamic_default, Source::DynamicDefaultBroker),
            (&self.layers.static_broker, Source::StaticBroker),
        ];
        let mut found = Vec::new();
        for (layer, source) in layers {
            for name in &names {
                if let Some(value) = layer.get(*name) {
                    let value = (!sensitive).then(|| value.clone());
                    found.push(synonym(name, value, source));
                }
            }
        }
        for name in &names {
            if let Some(default) = keys::find(name).and_then(|key| key.default) {
                let value = (!sensitive).then(|| default.to_owned());
                found.push(synonym(name, value, Source::Default));
            }
        }
        // Drops, for example, what stands under a finer key when the coarser one is described.
        let first = found
            .iter()
            .position(|synonym| &*synonym.name == name)
            .unwrap_or(found.len());
        found.split_off(first)
    }
}

fn synonym(name: &str, value: Option<String>, source: Source) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym::default()
        .with_name(StrBytes::from_string(name.to_owned()))
        .with_value(value.map(StrBytes::from_string))
        .with_source(source as i8)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::protocol::Encodable as _;

    use super::super::config_resource::TestDesk;
    use super::*;
    use crate::config::{LiveConfig, Scope};

    const ALL: Wanted = Wanted {
        synonyms: true,
        documentation: true,
    };

    fn properties(pairs: &[(&str, &str)]) -> Properties {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn live(pairs: &[(&str, &str)]) -> LiveConfig {
        LiveConfig::new(Config::from_pairs(pairs).unwrap())
    }

    fn view<T>(live: &LiveConfig, wanted: Wanted, look: impl Fn(&View<'_>) -> T) -> T {
        look(&View {
            config: &live.load(),
            layers: &live.layers(),
            wanted,
        })
    }

    /// `value source type read-only|changeable [synonym=value@source …]`
    fn line(entries: &[DescribeConfigsResourceResult], name: &str) -> String {
        let Some(entry) = entries.iter().find(|entry| &*entry.name == name) else {
            return "absent".to_owned();
        };
        let text =
            |value: &Option<StrBytes>| value.as_ref().map_or("null".into(), ToString::to_string);
        let mut line = format!(
            "{} {} {} {}{}",
            text(&entry.value),
            entry.config_source,
            entry.config_type,
            if entry.read_only {
                "read-only"
            } else {
                "changeable"
            },
            if entry.is_sensitive { " sensitive" } else { "" },
        );
        for synonym in &entry.synonyms {
            line += &format!(
                " {}={}@{}",
                &*synonym.name,
                text(&synonym.value),
                synonym.source
            );
        }
        line
    }

    #[tokio::test]
    async fn resources_are_found_or_refused() {
        let desk = TestDesk::new().await;
        for (kind, name, keys, code, message, entries) in [
            (2, "t", Some("retention.ms"), 0, Some(""), Some(1)),
            (
                2,
                "t",
                None,
                0,
                Some(""),
                Some(topic_keys::TOPIC_KEYS.len()),
            ),
            (2, "nope", None, 3, Some(""), Some(0)),
            (
                2,
                "a b",
                None,
                17,
                Some(
                    "Topic name is invalid: 'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'",
                ),
                Some(0),
            ),
            (4, "1", Some("log.dirs"), 0, Some(""), Some(1)),
            (4, "", None, 0, Some(""), Some(0)),
            (
                4,
                "2",
                None,
                42,
                Some("Unexpected broker id, expected 1 or empty string, but received 2"),
                Some(0),
            ),
            (8, "1", None, 0, Some(""), None),
            (
                8,
                "",
                None,
                42,
                Some("Broker id must not be empty"),
                Some(0),
            ),
            (
                8,
                "2",
                None,
                42,
                Some("Unexpected broker id, expected 1 but received 2"),
                Some(0),
            ),
            (
                16,
                "m",
                None,
                42,
                Some("Config type client-metrics is only supported on KRaft clusters"),
                Some(0),
            ),
        ] {
            let resource = DescribeConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(StrBytes::from_static_str(name))
                .with_configuration_keys(keys.map(|key| vec![StrBytes::from_static_str(key)]));
            let result = describe(desk.desk(), &resource, ALL).await;
            assert_eq!(result.error_code, code, "{kind} {name}");
            assert_eq!(result.error_message.as_deref(), message, "{kind} {name}");
            match entries {
                Some(entries) => assert_eq!(result.configs.len(), entries, "{kind} {name}"),
                None => assert!(result.configs.len() > 10, "{kind} {name}"),
            }
        }
    }

    #[test]
    fn a_throttles_rate_is_shown_where_it_is_set() {
        let rate = "leader.replication.throttled.rate";
        let live = live(&[]);
        let shown = || line(&view(&live, ALL, |view| view.broker()), rate);
        assert_eq!(shown(), "absent");
        assert!(live.apply(Scope::ThisBroker, &properties(&[(rate, "5")])));
        assert_eq!(
            shown(),
            "5 2 5 read-only leader.replication.throttled.rate=5@2"
        );
    }

    #[test]
    fn entries_are_those_of_kafka() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/src/api/testdata/describe-configs.properties"
        );
        let file = crate::config::file::read(std::path::Path::new(path)).unwrap();
        let live = LiveConfig::new(Config::new(file).unwrap());
        let overrides = properties(&[
            ("retention.ms", "5"),
            ("cleanup.policy", "compact,delete"),
            ("min.cleanable.dirty.ratio", "0.75"),
            ("odd", "1"),
        ]);
        let quoted = |text: &Option<StrBytes>| {
            text.as_ref()
                .map_or("null".to_owned(), |text| format!("\"{}\"", &**text))
        };
        let mut ours = Vec::new();
        for (kind, mut entries) in [
            ("broker", view(&live, ALL, |view| view.broker())),
            ("topic", view(&live, ALL, |view| view.topic(&overrides))),
        ] {
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            for entry in entries {
                let synonyms: Vec<String> = entry
                    .synonyms
                    .iter()
                    .map(|one| format!("{}={}@{}", &*one.name, quoted(&one.value), one.source))
                    .collect();
                ours.push(format!(
                    "{kind}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
                    &*entry.name,
                    quoted(&entry.value),
                    entry.config_source,
                    entry.config_type,
                    entry.read_only,
                    entry.is_sensitive,
                    synonyms.join(" ")
                ));
            }
        }
        let kafka: Vec<&str> = include_str!("testdata/describe-configs.tsv")
            .lines()
            .filter(|line| !line.starts_with('#'))
            .collect();
        for (ours, kafka) in ours.iter().zip(&kafka) {
            assert_eq!(ours, kafka);
        }
        assert_eq!(ours.len(), kafka.len());
    }

    #[test]
    fn a_topics_entries_show_override_broker_value_and_default() {
        let live = live(&[("log.retention.hours", "2"), ("log.segment.bytes", "5000")]);
        live.apply(
            Scope::ClusterDefault,
            &properties(&[("message.max.bytes", "99"), ("log.segment.bytes", "6000")]),
        );
        let overrides = properties(&[("segment.bytes", "7000"), ("odd", "1")]);
        let entries = view(&live, ALL, |view| view.topic(&overrides));
        for (name, expect) in [
            (
                "segment.bytes",
                "7000 1 3 changeable segment.bytes=7000@1 log.segment.bytes=6000@3 log.segment.bytes=5000@4 log.segment.bytes=1073741824@5",
            ),
            (
                "max.message.bytes",
                "99 3 3 changeable message.max.bytes=99@3 message.max.bytes=1048588@5",
            ),
            // log.retention.ms has no value under its own name, so Kafka shows none at all.
            ("retention.ms", "7200000 5 5 changeable"),
            (
                "cleanup.policy",
                "delete 5 7 changeable log.cleanup.policy=delete@5",
            ),
            (
                "min.cleanable.dirty.ratio",
                "0.5 5 6 changeable log.cleaner.min.cleanable.ratio=0.5@5",
            ),
            ("leader.replication.throttled.replicas", " 5 7 changeable"),
            ("odd", "null 1 0 changeable sensitive odd=null@1"),
        ] {
            assert_eq!(line(&entries, name), expect, "{name}");
        }
        assert_eq!(entries.len(), topic_keys::TOPIC_KEYS.len() + 1);
        let doc = entries[0].documentation.as_ref();
        assert_eq!(
            doc.map(|doc| &**doc),
            Some("Largest size of one segment file.")
        );
    }

    #[test]
    fn a_brokers_entries_show_every_key_and_its_sources() {
        let live = live(&[
            ("broker.id", "1"),
            ("ssl.keystore.password", "secret"),
            ("my.own.key", "x"),
            ("log.roll.hours", "1"),
            ("listener.name.a.ssl.keystore.type", "PEM"),
        ]);
        live.apply(Scope::ThisBroker, &properties(&[("log.roll.ms", "5")]));
        let entries = view(&live, ALL, |view| view.broker());
        for (name, expect) in [
            ("broker.id", "1 4 3 read-only broker.id=1@4 broker.id=-1@5"),
            ("node.id", "1 4 3 read-only node.id=1@4 node.id=-1@5"),
            (
                "ssl.keystore.password",
                "null 4 9 changeable sensitive ssl.keystore.password=null@4",
            ),
            (
                "my.own.key",
                "null 4 0 read-only sensitive my.own.key=null@4",
            ),
            (
                "log.roll.ms",
                "5 2 5 changeable log.roll.ms=5@2 log.roll.hours=1@4 log.roll.hours=168@5",
            ),
            // The dynamic log.roll.ms took log.roll.hours out of the sum, not out of the sources.
            (
                "log.roll.hours",
                "168 4 3 read-only log.roll.hours=1@4 log.roll.hours=168@5",
            ),
            ("log.dirs", "null 5 2 read-only"),
            (
                "listener.name.a.ssl.keystore.type",
                "PEM 4 2 read-only listener.name.a.ssl.keystore.type=PEM@4 ssl.keystore.type=JKS@5",
            ),
            (
                "log.cleaner.io.max.bytes.per.second",
                "1.7976931348623157E308 5 6 changeable log.cleaner.io.max.bytes.per.second=1.7976931348623157E308@5",
            ),
            ("log.initial.task.delay.ms", "absent"),
        ] {
            assert_eq!(line(&entries, name), expect, "{name}");
        }
    }

    #[test]
    fn the_clusters_default_shows_only_what_is_set_there() {
        let live = live(&[("log.segment.bytes", "5000")]);
        live.apply(
            Scope::ThisBroker,
            &properties(&[("message.max.bytes", "98")]),
        );
        live.apply(
            Scope::ClusterDefault,
            &properties(&[("message.max.bytes", "99")]),
        );
        let entries = view(&live, ALL, |view| view.cluster_default());
        assert_eq!(entries.len(), 1);
        assert_eq!(
            line(&entries, "message.max.bytes"),
            "99 3 3 changeable message.max.bytes=99@3"
        );
    }

    #[test]
    fn without_being_asked_for_synonyms_and_documentation_stay_away() {
        let live = live(&[]);
        let wanted = Wanted {
            synonyms: false,
            documentation: false,
        };
        for entry in view(&live, wanted, |view| view.broker()) {
            assert!(entry.synonyms.is_empty());
            assert_eq!(entry.documentation, None);
        }
    }

    #[test]
    fn every_version_encodes() {
        let live = live(&[("ssl.keystore.password", "secret")]);
        let configs = view(&live, ALL, |view| view.broker());
        let configs = configs.into_iter().chain(loggers()).collect();
        let result = DescribeConfigsResult::default().with_configs(configs);
        let response = DescribeConfigsResponse::default().with_results(vec![result]);
        for version in 0..=4 {
            let mut buffer = BytesMut::new();
            response.encode(&mut buffer, version).unwrap();
        }
    }

    #[test]
    fn other_brokers_are_refused_with_kafkas_text() {
        let check = |name: &str, or_empty: &str| {
            local_broker(name, 1, or_empty).map_err(|refusal| refusal.message.unwrap())
        };
        assert_eq!(check("", ""), Ok(None));
        assert_eq!(check("1", ""), Ok(Some(())));
        assert_eq!(
            check("2", " or empty string,"),
            Err("Unexpected broker id, expected 1 or empty string, but received 2".to_owned())
        );
        assert_eq!(
            check("x", ""),
            Err("Broker id must be an integer, but it is: x".to_owned())
        );
    }
}
