//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs, of every type of resource.

use anyhow::Result;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::{
    AlterConfigsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest,
    alter_configs_request, incremental_alter_configs_request,
};
use protocol_tests::differential::{Case, Test};

use crate::make::{text, topic};

pub(crate) const CASES: &[Test] = &[
    ("configs: describe", describe),
    ("configs: alter", alter),
    ("configs: alter in steps", incremental),
    ("configs: of brokers", brokers),
    ("configs: wrong values", wrong_values),
];

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const LOGGER: i8 = 8;

fn resource(kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResource {
    DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(keys.map(|keys| keys.iter().copied().map(text).collect()))
}

fn described(resources: Vec<DescribeConfigsResource>) -> DescribeConfigsRequest {
    DescribeConfigsRequest::default().with_resources(resources)
}

/// All of a resource with everything that can be told.
fn look(case: &mut Case<'_>, what: &str, kind: i8, name: &str) -> Result<()> {
    let request = described(vec![resource(kind, name, None)]).with_include_synonyms(true);
    case.ask(4, what, request)?;
    Ok(())
}

fn describe(case: &mut Case<'_>) -> Result<()> {
    topic(
        case,
        "configs",
        1,
        &[("retention.ms", "1000"), ("compression.type", "zstd")],
    )?;
    for version in case.versions::<DescribeConfigsRequest>() {
        for (kind, name) in [
            (TOPIC, "configs"),
            (TOPIC, "no-such"),
            (TOPIC, "a/b"),
            (TOPIC, ""),
            (TOPIC, "__consumer_offsets"),
            (BROKER, "0"),
            (BROKER, "1"),
            (BROKER, ""),
            (BROKER, "x"),
            (BROKER, "-1"),
            (LOGGER, "1"),
            (LOGGER, ""),
            (LOGGER, "x"),
            (0, "x"),
            (1, "x"),
            (3, "x"),
            (16, ""),
            (16, "x"),
            (32, "g"),
            (32, ""),
            (99, "x"),
            (-1, "x"),
        ] {
            let what = format!("type {kind} {name:?}");
            let request = described(vec![resource(kind, name, None)]);
            case.ask(version, &what, request.clone())?;
            if version >= 1 {
                let request = request.clone().with_include_synonyms(true);
                case.ask(version, &format!("{what}, synonyms"), request)?;
            }
            if version >= 3 {
                let request = request.with_include_documentation(true);
                case.ask(version, &format!("{what}, documentation"), request)?;
            }
        }
        let some = |kind, name, keys| described(vec![resource(kind, name, Some(keys))]);
        let keys: &[&str] = &["retention.ms", "no.such", "retention.ms", "segment.bytes"];
        case.ask(
            version,
            "some keys of a topic",
            some(TOPIC, "configs", keys),
        )?;
        case.ask(version, "no keys of a topic", some(TOPIC, "configs", &[]))?;
        let keys: &[&str] = &["broker.id", "log.retention.ms", "no.such"];
        case.ask(version, "some keys of a broker", some(BROKER, "0", keys))?;
        let keys: &[&str] = &["kafka.server.KafkaApis", "root", "no.such"];
        case.ask(version, "some loggers", some(LOGGER, "0", keys))?;
        let twice = described(vec![
            resource(TOPIC, "configs", Some(&["retention.ms"])),
            resource(TOPIC, "configs", Some(&["segment.ms"])),
            resource(BROKER, "0", Some(&["log.dirs"])),
        ]);
        case.ask(version, "a topic twice, and a broker", twice)?;
        case.ask(version, "none", described(vec![]))?;
    }
    Ok(())
}

type Pairs<'a> = &'a [(&'a str, Option<&'a str>)];

fn altered(resources: &[(i8, &str, Pairs<'_>)]) -> AlterConfigsRequest {
    use alter_configs_request::{AlterConfigsResource, AlterableConfig};
    AlterConfigsRequest::default().with_resources(
        resources
            .iter()
            .map(|(kind, name, pairs)| {
                AlterConfigsResource::default()
                    .with_resource_type(*kind)
                    .with_resource_name(text(name))
                    .with_configs(
                        pairs
                            .iter()
                            .map(|(key, value)| {
                                AlterableConfig::default()
                                    .with_name(text(key))
                                    .with_value(value.map(text))
                            })
                            .collect(),
                    )
            })
            .collect(),
    )
}

fn alter(case: &mut Case<'_>) -> Result<()> {
    for version in case.versions::<AlterConfigsRequest>() {
        let name = &format!("alter-{version}");
        topic(case, name, 1, &[("retention.ms", "1000")])?;
        let good: Pairs<'_> = &[
            ("segment.bytes", Some("5000")),
            ("cleanup.policy", Some("compact")),
        ];
        let request = altered(&[(TOPIC, name, good)]);
        case.ask(
            version,
            "validate only",
            request.clone().with_validate_only(true),
        )?;
        look(case, "nothing changed", TOPIC, name)?;
        case.ask(version, "a topic", request)?;
        look(case, "the topic", TOPIC, name)?;
        case.ask(version, "nothing", altered(&[(TOPIC, name, &[])]))?;
        look(case, "the topic without configs", TOPIC, name)?;
        let odd: Pairs<'_> = &[("retention.ms", None)];
        case.ask(version, "a null value", altered(&[(TOPIC, name, odd)]))?;
        let odd: Pairs<'_> = &[("retention.ms", Some("1")), ("retention.ms", Some("2"))];
        case.ask(version, "a key twice", altered(&[(TOPIC, name, odd)]))?;
        let wrong: Pairs<'_> = &[("retention.ms", Some("soon"))];
        case.ask(version, "a wrong value", altered(&[(TOPIC, name, wrong)]))?;
        let wrong: Pairs<'_> = &[("no.such", Some("1"))];
        case.ask(version, "an unknown key", altered(&[(TOPIC, name, wrong)]))?;
        // A topic twice is left out: Kafka never answers (IllegalStateException).
        let one: Pairs<'_> = &[("retention.ms", Some("7"))];
        look(case, "the topic then", TOPIC, name)?;
        for (kind, name) in [
            (TOPIC, "no-such"),
            (TOPIC, "a/b"),
            (TOPIC, ""),
            (BROKER, "1"),
            (BROKER, "x"),
            (LOGGER, "0"),
            (0, "x"),
            (1, "x"),
            (16, "x"),
            (32, "x"),
            (99, "x"),
        ] {
            let request = altered(&[(kind, name, one)]);
            case.ask(version, &format!("type {kind} {name:?}"), request)?;
        }
        case.ask(version, "none", altered(&[]))?;
    }
    Ok(())
}

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

type Steps<'a> = &'a [(&'a str, i8, Option<&'a str>)];

fn steps(resources: &[(i8, &str, Steps<'_>)]) -> IncrementalAlterConfigsRequest {
    use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    IncrementalAlterConfigsRequest::default().with_resources(
        resources
            .iter()
            .map(|(kind, name, steps)| {
                AlterConfigsResource::default()
                    .with_resource_type(*kind)
                    .with_resource_name(text(name))
                    .with_configs(
                        steps
                            .iter()
                            .map(|(key, operation, value)| {
                                AlterableConfig::default()
                                    .with_name(text(key))
                                    .with_config_operation(*operation)
                                    .with_value(value.map(text))
                            })
                            .collect(),
                    )
            })
            .collect(),
    )
}

fn incremental(case: &mut Case<'_>) -> Result<()> {
    for version in case.versions::<IncrementalAlterConfigsRequest>() {
        let name = &format!("steps-{version}");
        topic(case, name, 1, &[("retention.ms", "1000")])?;
        let tries: &[(&str, Steps<'_>)] = &[
            ("set", &[("segment.bytes", SET, Some("5000"))]),
            ("append", &[("cleanup.policy", APPEND, Some("compact"))]),
            (
                "append again",
                &[("cleanup.policy", APPEND, Some("compact"))],
            ),
            ("subtract", &[("cleanup.policy", SUBTRACT, Some("delete"))]),
            (
                "subtract what is not there",
                &[("cleanup.policy", SUBTRACT, Some("delete"))],
            ),
            (
                "subtract the last",
                &[("cleanup.policy", SUBTRACT, Some("compact"))],
            ),
            (
                "append to a number",
                &[("segment.bytes", APPEND, Some("1"))],
            ),
            (
                "subtract from a number",
                &[("segment.bytes", SUBTRACT, Some("1"))],
            ),
            ("delete", &[("segment.bytes", DELETE, None)]),
            ("delete again", &[("segment.bytes", DELETE, None)]),
            (
                "delete with a value",
                &[("retention.ms", DELETE, Some("5"))],
            ),
            ("set null", &[("retention.ms", SET, None)]),
            ("append null", &[("cleanup.policy", APPEND, None)]),
            ("set nothing", &[("retention.ms", SET, Some(""))]),
            ("set spaces", &[("retention.ms", SET, Some(" 77 "))]),
            ("an unknown operation", &[("retention.ms", 4, Some("1"))]),
            ("a negative operation", &[("retention.ms", -1, Some("1"))]),
            (
                "a key twice",
                &[
                    ("retention.ms", SET, Some("1")),
                    ("retention.ms", SET, Some("2")),
                ],
            ),
            ("an unknown key", &[("no.such", SET, Some("1"))]),
            ("an unknown key deleted", &[("no.such", DELETE, None)]),
            ("a wrong value", &[("retention.ms", SET, Some("soon"))]),
            (
                "right and wrong",
                &[
                    ("retention.ms", SET, Some("5")),
                    ("segment.ms", SET, Some("x")),
                ],
            ),
            ("no steps", &[]),
            (
                "throttled replicas",
                &[(
                    "leader.replication.throttled.replicas",
                    APPEND,
                    Some("0:0,1:0"),
                )],
            ),
            (
                "fewer throttled replicas",
                &[(
                    "leader.replication.throttled.replicas",
                    SUBTRACT,
                    Some("1:0"),
                )],
            ),
        ];
        for (what, one) in tries {
            let request = steps(&[(TOPIC, name, one)]);
            case.ask(
                version,
                &format!("{what}, validate only"),
                request.clone().with_validate_only(true),
            )?;
            case.ask(version, what, request)?;
            look(case, &format!("after {what}"), TOPIC, name)?;
        }
        let one: Steps<'_> = &[("retention.ms", SET, Some("7"))];
        let twice = [(TOPIC, name.as_str(), one), (TOPIC, name, one)];
        case.ask(version, "a topic twice", steps(&twice))?;
        for (kind, name) in [
            (TOPIC, "no-such"),
            (TOPIC, "a/b"),
            (TOPIC, ""),
            (BROKER, "1"),
            (BROKER, "x"),
            (LOGGER, "1"),
            (LOGGER, "x"),
            (LOGGER, ""),
            (0, "x"),
            (1, "x"),
            (16, "x"),
            (16, ""),
            (32, "x"),
            (99, "x"),
        ] {
            let request = steps(&[(kind, name, one)]);
            case.ask(version, &format!("type {kind} {name:?}"), request)?;
        }
        case.ask(version, "none", steps(&[]))?;
    }
    Ok(())
}

fn brokers(case: &mut Case<'_>) -> Result<()> {
    for version in case.versions::<IncrementalAlterConfigsRequest>() {
        let tries: &[(&str, &str, Steps<'_>)] = &[
            (
                "of the broker",
                "0",
                &[("log.cleaner.threads", SET, Some("2"))],
            ),
            ("of all", "", &[("log.cleaner.threads", SET, Some("2"))]),
            (
                "retention",
                "",
                &[("log.retention.ms", SET, Some("7000000"))],
            ),
            (
                "of one over all",
                "0",
                &[("log.retention.ms", SET, Some("8000000"))],
            ),
            ("deleted of one", "0", &[("log.retention.ms", DELETE, None)]),
            ("deleted of all", "", &[("log.retention.ms", DELETE, None)]),
            (
                "threads deleted",
                "0",
                &[("log.cleaner.threads", DELETE, None)],
            ),
            (
                "threads of all deleted",
                "",
                &[("log.cleaner.threads", DELETE, None)],
            ),
            ("a static key", "0", &[("broker.id", SET, Some("4"))]),
            ("a static key of all", "", &[("log.dirs", SET, Some("x"))]),
            (
                "a key of one broker for all",
                "",
                &[("listeners", SET, Some("PLAINTEXT://:1"))],
            ),
            (
                "a password",
                "0",
                &[("ssl.key.password", SET, Some("secret"))],
            ),
            (
                "a password of all",
                "",
                &[("ssl.key.password", SET, Some("secret"))],
            ),
            ("an unknown key", "0", &[("no.such", SET, Some("1"))]),
            ("an unknown key of all", "", &[("no.such", SET, Some("1"))]),
            (
                "a wrong value",
                "0",
                &[("log.cleaner.threads", SET, Some("x"))],
            ),
            (
                "a value too low",
                "",
                &[("log.retention.ms", SET, Some("-5"))],
            ),
            (
                "a value too low of one",
                "0",
                &[("num.io.threads", SET, Some("0"))],
            ),
            (
                "more threads than may be",
                "",
                &[("num.io.threads", SET, Some("99"))],
            ),
            (
                "a list appended",
                "",
                &[("log.cleanup.policy", APPEND, Some("compact"))],
            ),
            (
                "a list subtracted",
                "",
                &[("log.cleanup.policy", DELETE, None)],
            ),
            (
                "throttle",
                "0",
                &[("leader.replication.throttled.rate", SET, Some("1000"))],
            ),
            (
                "throttle deleted",
                "0",
                &[("leader.replication.throttled.rate", DELETE, None)],
            ),
        ];
        for (what, name, one) in tries {
            let request = steps(&[(BROKER, name, one)]);
            case.ask(
                version,
                &format!("{what}, validate only"),
                request.clone().with_validate_only(true),
            )?;
            case.ask(version, what, request)?;
        }
        let tries: &[(&str, Steps<'_>)] = &[
            ("a level", &[("kafka.server.KafkaApis", SET, Some("DEBUG"))]),
            (
                "a level in small letters",
                &[("kafka.server.KafkaApis", SET, Some("debug"))],
            ),
            ("no level", &[("kafka.server.KafkaApis", DELETE, None)]),
            (
                "an unknown level",
                &[("kafka.server.KafkaApis", SET, Some("LOUD"))],
            ),
            ("an unknown logger", &[("no.such", SET, Some("INFO"))]),
            ("an unknown logger deleted", &[("no.such", DELETE, None)]),
            ("the root's level", &[("root", SET, Some("WARN"))]),
            ("the root's level again", &[("root", SET, Some("INFO"))]),
            ("no root's level", &[("root", DELETE, None)]),
            (
                "append",
                &[("kafka.server.KafkaApis", APPEND, Some("INFO"))],
            ),
        ];
        for (what, one) in tries {
            let request = steps(&[(LOGGER, "0", one)]);
            case.ask(
                version,
                &format!("logger: {what}, validate only"),
                request.clone().with_validate_only(true),
            )?;
            case.ask(version, &format!("logger: {what}"), request)?;
        }
    }
    for version in case.versions::<AlterConfigsRequest>() {
        let tries: &[(&str, &str, Pairs<'_>)] = &[
            ("of the broker", "0", &[("log.cleaner.threads", Some("2"))]),
            ("of all", "", &[("log.cleaner.threads", Some("2"))]),
            ("a static key", "0", &[("broker.id", Some("4"))]),
            ("an unknown key", "0", &[("no.such", Some("4"))]),
            ("a wrong value", "", &[("log.cleaner.threads", Some("x"))]),
            ("nothing of the broker", "0", &[]),
            ("nothing of all", "", &[]),
        ];
        for (what, name, one) in tries {
            let request = altered(&[(BROKER, name, one)]);
            case.ask(
                version,
                &format!("{what}, validate only"),
                request.clone().with_validate_only(true),
            )?;
            case.ask(version, what, request)?;
        }
    }
    // Both hear of changes later than they answer, and then read what is there: one change more of each
    // shows that those before it were heard.
    let last = [
        ("", "log.index.interval.bytes"),
        ("0", "log.flush.interval.messages"),
    ];
    for (name, key) in last {
        let request = steps(&[(BROKER, name, &[(key, SET, Some("4097"))])]);
        case.ask(1, &format!("the last of {name:?}"), request)?;
    }
    let heard = described(vec![resource(BROKER, "0", Some(&last.map(|(_, key)| key)))]);
    case.until(4, "what was altered last", heard.into(), |answer| {
        let configs = answer.results.iter().flat_map(|result| &result.configs);
        let heard = configs.filter(|config| config.value.as_deref() == Some("4097"));
        heard.count() == last.len()
    })?;
    look(case, "the broker after all", BROKER, "0")?;
    look(case, "all brokers after all", BROKER, "")
}

/// Every key of a topic with values that its rule may not like; the texts are compared.
fn wrong_values(case: &mut Case<'_>) -> Result<()> {
    topic(case, "values", 1, &[])?;
    let described = case.ask(
        4,
        "keys of a topic",
        described(vec![resource(TOPIC, "values", None)]),
    )?;
    let mut keys: Vec<_> = described
        .kafka
        .results
        .iter()
        .flat_map(|result| &result.configs)
        .map(|config| config.name.to_string())
        .collect();
    keys.sort();
    for key in keys {
        for value in [
            "",
            "-3",
            "-1",
            "0",
            "x",
            "99999999999999999999",
            "1.5",
            "true",
            "compact",
        ] {
            let request = steps(&[(TOPIC, "values", &[(&key, SET, Some(value))])]);
            case.ask(
                1,
                &format!("{key}={value}"),
                request.with_validate_only(true),
            )?;
        }
    }
    Ok(())
}
