//! ApiVersions, Metadata, DescribeCluster, FindCoordinator, and frames that are not answered.

use anyhow::Result;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiVersionsRequest, DescribeClusterRequest, FindCoordinatorRequest, MetadataRequest,
};
use kafka_protocol::protocol::Request as _;
use protocol_tests::differential::{Case, Test};
use uuid::Uuid;

use crate::make::{metadata, text, topic, topic_name};

pub(crate) const CASES: &[Test] = &[
    ("api versions", api_versions),
    ("metadata", metadata_of_topics),
    ("metadata by id", metadata_by_id),
    ("metadata creates topics", auto_creation),
    ("describe cluster", describe_cluster),
    ("find coordinator", find_coordinator),
    ("frames that are refused", refused_frames),
];

fn api_versions(case: &mut Case<'_>) -> Result<()> {
    for version in case.versions::<ApiVersionsRequest>() {
        case.ask(version, "plain", ApiVersionsRequest::default())?;
        if version >= 3 {
            for (name, of) in [
                ("apache-kafka-java", "3.9.0"),
                ("a", ""),
                ("-a", "1"),
                ("a b", "1"),
                ("a", "1."),
                ("ä", "1"),
            ] {
                let request = ApiVersionsRequest::default()
                    .with_client_software_name(text(name))
                    .with_client_software_version(text(of));
                case.ask(version, &format!("software {name:?} {of:?}"), request)?;
            }
        }
    }
    Ok(())
}

fn metadata_of_topics(case: &mut Case<'_>) -> Result<()> {
    topic(case, "metadata-a", 3, &[])?;
    for version in case.versions::<MetadataRequest>() {
        let mut ask = |what: &str, mut request: MetadataRequest| {
            if version < 4 {
                request.allow_auto_topic_creation = true;
            }
            case.ask(version, what, request)
        };
        // v0: no topics are all topics.
        ask("no topics", metadata(&[]))?;
        if version > 0 {
            ask("all topics", metadata(&[]).with_topics(None))?;
        }
        ask("one topic", metadata(&["metadata-a"]))?;
        ask("a topic twice", metadata(&["metadata-a", "metadata-a"]))?;
        let long = "x".repeat(250);
        for name in ["", ".", "..", "a/b", "a b", "ä", &long] {
            ask(&format!("the name {name:?}"), metadata(&[name]))?;
        }
        if version >= 4 {
            ask(
                "unknown topics",
                metadata(&["no-such", "metadata-a", "nor-this"]),
            )?;
        }
        if version >= 8 {
            let request = metadata(&["metadata-a"]).with_include_topic_authorized_operations(true);
            ask("operations on the topic", request)?;
        }
        if (8..=10).contains(&version) {
            let request =
                metadata(&["metadata-a"]).with_include_cluster_authorized_operations(true);
            ask("operations on the cluster", request)?;
        }
    }
    Ok(())
}

fn metadata_by_id(case: &mut Case<'_>) -> Result<()> {
    let id = topic(case, "metadata-id", 2, &[])?;
    let by_id = |id: Uuid| {
        MetadataRequestTopic::default()
            .with_name(None)
            .with_topic_id(id)
    };
    let request = |topics: Vec<MetadataRequestTopic>| metadata(&[]).with_topics(Some(topics));
    for version in case.versions::<MetadataRequest>().filter(|one| *one >= 10) {
        let known = id.map(|id| request(vec![by_id(*id)]));
        case.ask_each(version, "by id", known)?;
        let unknown = request(vec![by_id(Uuid::from_u128(7))]);
        case.ask(version, "by an unknown id", unknown)?;
        let mixed = id.map(|id| {
            let named = MetadataRequestTopic::default().with_name(Some(topic_name("metadata-id")));
            request(vec![by_id(*id), named])
        });
        case.ask_each(version, "by id and by name", mixed)?;
        let both = id.map(|id| request(vec![by_id(*id).with_name(Some(topic_name("other")))]));
        case.ask_each(version, "id and name at once", both)?;
        let neither = request(vec![MetadataRequestTopic::default().with_name(None)]);
        case.ask(version, "neither id nor name", neither)?;
    }
    Ok(())
}

fn auto_creation(case: &mut Case<'_>) -> Result<()> {
    for version in case.versions::<MetadataRequest>() {
        let name = format!("auto-{version}");
        let request = metadata(&[&name]).with_allow_auto_topic_creation(true);
        case.ask(version, "a topic that is created", request)?;
        case.until(
            4,
            "the created topic",
            metadata(&[&name]).into(),
            |answer| {
                answer
                    .topics
                    .iter()
                    .all(|topic| topic.error_code == 0 && topic.partitions.len() == 1)
            },
        )?;
        let request = metadata(&[&name]).with_allow_auto_topic_creation(true);
        case.ask(version, "the created topic", request)?;
        let collides = [format!("auto.{version}.x"), format!("auto_{version}_x")];
        for name in &collides {
            let request = metadata(&[name]).with_allow_auto_topic_creation(true);
            case.ask(version, "names that collide", request)?;
            if *name == collides[0] {
                case.until(4, "the first of them", metadata(&[name]).into(), |answer| {
                    answer.topics.iter().all(|topic| topic.error_code == 0)
                })?;
            }
        }
    }
    Ok(())
}

fn describe_cluster(case: &mut Case<'_>) -> Result<()> {
    for version in case.versions::<DescribeClusterRequest>() {
        case.ask(version, "plain", DescribeClusterRequest::default())?;
        let request =
            DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
        case.ask(version, "operations", request)?;
        if version >= 1 {
            for kind in [0, 2, 3] {
                let request = DescribeClusterRequest::default().with_endpoint_type(kind);
                case.ask(version, &format!("endpoints of type {kind}"), request)?;
            }
        }
    }
    Ok(())
}

fn find_coordinator(case: &mut Case<'_>) -> Result<()> {
    let keys = |names: &[&str]| names.iter().copied().map(text).collect();
    let group = FindCoordinatorRequest::default().with_coordinator_keys(keys(&["some"]));
    case.until(4, "a coordinator", group.into(), |answer| {
        answer.coordinators.iter().all(|one| one.error_code == 0)
    })?;
    for version in case.versions::<FindCoordinatorRequest>() {
        if version < 4 {
            for name in ["some", ""] {
                let request = FindCoordinatorRequest::default().with_key(text(name));
                case.ask(version, &format!("group {name:?}"), request)?;
            }
        } else {
            for names in [&["some"][..], &["a", "b", "a"], &[""], &[]] {
                let request = FindCoordinatorRequest::default().with_coordinator_keys(keys(names));
                case.ask(version, &format!("groups {names:?}"), request)?;
            }
        }
        for kind in [2, 3, -1].into_iter().filter(|_| version >= 1) {
            let request = FindCoordinatorRequest::default().with_key_type(kind);
            let request = match version {
                ..4 => request.with_key(text("some")),
                _ => request.with_coordinator_keys(keys(&["some", "other"])),
            };
            case.ask(version, &format!("key type {kind}"), request)?;
        }
    }
    Ok(())
}

fn refused_frames(case: &mut Case<'_>) -> Result<()> {
    // Key, version, correlation id 7, no client id, then the body.
    let frames: &[(&str, &[u8])] = &[
        ("an unknown API", &[0, 99, 0, 0, 0, 0, 0, 7, 255, 255]),
        ("a negative API", &[255, 255, 0, 0, 0, 0, 0, 7, 255, 255]),
        (
            "an API of KRaft",
            &[0, 55, 0, 0, 0, 0, 0, 7, 255, 255, 0, 0],
        ),
        (
            "Metadata of the future",
            &[0, 3, 0, 13, 0, 0, 0, 7, 255, 255, 0, 0, 0, 0],
        ),
        (
            "ApiVersions of the future",
            &[0, 18, 0, 9, 0, 0, 0, 7, 255, 255, 0, 1, 1, 0],
        ),
        (
            "ApiVersions of the past",
            &[0, 18, 255, 255, 0, 0, 0, 7, 255, 255],
        ),
        ("a short header", &[0, 3, 0, 1, 0, 0]),
        ("an empty body", &[0, 3, 0, 1, 0, 0, 0, 7, 255, 255]),
        (
            "null topics in Metadata v0",
            &[0, 3, 0, 0, 0, 0, 0, 7, 255, 255, 255, 255, 255, 255],
        ),
        (
            "a name without end",
            &[0, 3, 0, 1, 0, 0, 0, 7, 255, 255, 0, 0, 0, 1, 0, 9, 97],
        ),
        (
            "trailing bytes",
            &[0, 18, 0, 0, 0, 0, 0, 7, 255, 255, 1, 2, 3],
        ),
        (
            "an unknown tag in the header",
            &[0, 60, 0, 0, 0, 0, 0, 7, 255, 255, 1, 99, 1, 5, 0, 0],
        ),
        (
            "an unknown tag in the body",
            &[0, 60, 0, 0, 0, 0, 0, 7, 255, 255, 0, 0, 1, 99, 2, 5, 6],
        ),
    ];
    for (what, frame) in frames {
        let wire = case.wire();
        case.send_frame(wire, frame)?;
        let key = i16::from_be_bytes([frame[0], frame[1]]);
        if key == ApiVersionsRequest::KEY {
            case.receive::<ApiVersionsRequest>(wire, 0, what)?;
        } else if key == DescribeClusterRequest::KEY {
            case.receive::<DescribeClusterRequest>(wire, 0, what)?;
        } else {
            case.receive_bytes(wire, key, 0, what);
        }
    }
    Ok(())
}
