//! The life of consumer groups, and their offsets.

use anyhow::Result;
use bytes::Bytes;
use kafka_protocol::messages::delete_groups_request::DeleteGroupsRequest;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DescribeGroupsRequest, FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;
use protocol_tests::differential::{Both, Case, Test, Wire};

use crate::make::{group_id, text, topic, topic_name};

pub(crate) const CASES: &[Test] = &[
    ("groups: the coordinator", coordinator),
    ("groups: one member in every version", one_member),
    ("groups: joining wrongly", join_wrongly),
    ("groups: two members", two_members),
    ("groups: protocols", protocols),
    ("groups: static members", static_members),
    ("groups: sync and heartbeat wrongly", wrong_members),
    ("groups: leave", leave),
    ("groups: commit and fetch offsets", offsets),
    ("groups: commit as a member", member_offsets),
    ("groups: delete offsets", delete_offsets),
    ("groups: describe, list, delete", describe_list_delete),
    ("groups: KIP-848 is not offered", consumer_protocol),
];

fn coordinator(case: &mut Case<'_>) -> Result<()> {
    let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
    case.until(4, "a coordinator", request.into(), |answer| {
        answer.coordinators.iter().all(|one| one.error_code == 0)
    })?;
    let list = ListGroupsRequest::default();
    case.until(0, "loaded groups", list.into(), |answer| {
        answer.error_code == 0
    })
}

/// What a consumer subscribes with: version 0, topics, no user data.
fn subscription(topics: &[&str]) -> Bytes {
    let mut out = vec![0, 0];
    out.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        out.extend((topic.len() as i16).to_be_bytes());
        out.extend(topic.as_bytes());
    }
    out.extend((-1i32).to_be_bytes());
    out.into()
}

fn protocol(name: &str, metadata: Bytes) -> JoinGroupRequestProtocol {
    JoinGroupRequestProtocol::default()
        .with_name(text(name))
        .with_metadata(metadata)
}

fn join(version: i16, group: &str, member: &StrBytes) -> JoinGroupRequest {
    let request = JoinGroupRequest::default()
        .with_group_id(group_id(group))
        .with_session_timeout_ms(30_000)
        .with_member_id(member.clone())
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![
            protocol("range", subscription(&["group-topic"])),
            protocol("roundrobin", subscription(&["group-topic"])),
        ]);
    match version {
        0 => request,
        _ => request.with_rebalance_timeout_ms(30_000),
    }
}

/// Joins, with the member id that the broker gives where it wants one; the last answer.
fn enter(case: &mut Case<'_>, version: i16, group: &str) -> Result<Both<JoinGroupResponse>> {
    let first = case.ask(version, "join", join(version, group, &text("")))?;
    if version < 4 {
        return Ok(first);
    }
    let again = first.map(|answer| join(version, group, &answer.member_id));
    case.ask_each(version, "join with the given id", again)
}

fn member_of(answer: &Both<JoinGroupResponse>) -> Both<StrBytes> {
    answer.map(|answer| answer.member_id.clone())
}

fn sync(version: i16, group: &str, joined: &JoinGroupResponse) -> SyncGroupRequest {
    let request = SyncGroupRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone());
    if version >= 5 {
        request
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text("range")))
    } else {
        request
    }
}

fn assign(request: SyncGroupRequest, members: &[&StrBytes]) -> SyncGroupRequest {
    request.with_assignments(
        members
            .iter()
            .enumerate()
            .map(|(at, member)| {
                SyncGroupRequestAssignment::default()
                    .with_member_id((*member).clone())
                    .with_assignment(Bytes::from(vec![at as u8, 1, 2]))
            })
            .collect(),
    )
}

fn heartbeat(group: &str, generation: i32, member: &StrBytes) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id(generation)
        .with_member_id(member.clone())
}

fn describe(case: &mut Case<'_>, version: i16, what: &str, groups: &[&str]) -> Result<()> {
    let groups = groups.iter().map(|group| group_id(group)).collect();
    case.ask(
        version,
        what,
        DescribeGroupsRequest::default().with_groups(groups),
    )?;
    Ok(())
}

/// A version of another API that goes with a version of JoinGroup.
fn beside(case: &Case<'_>, version: i16) -> (i16, i16, i16, i16) {
    let last = |versions: &mut dyn Iterator<Item = i16>| {
        versions.filter(|one| *one <= version).last().unwrap_or(0)
    };
    (
        last(&mut case.versions::<SyncGroupRequest>()),
        last(&mut case.versions::<HeartbeatRequest>()),
        last(&mut case.versions::<LeaveGroupRequest>()),
        last(&mut case.versions::<DescribeGroupsRequest>()),
    )
}

fn leave_request(
    version: i16,
    group: &str,
    members: &[(&StrBytes, Option<&str>)],
) -> LeaveGroupRequest {
    let request = LeaveGroupRequest::default().with_group_id(group_id(group));
    if version < 3 {
        return request.with_member_id(
            members
                .first()
                .map_or_else(|| text(""), |one| one.0.clone()),
        );
    }
    request.with_members(
        members
            .iter()
            .map(|(member, instance)| {
                MemberIdentity::default()
                    .with_member_id((*member).clone())
                    .with_group_instance_id(instance.map(text))
            })
            .collect(),
    )
}

fn one_member(case: &mut Case<'_>) -> Result<()> {
    for version in case.versions::<JoinGroupRequest>() {
        let group = format!("one-{version}");
        let (sync_v, beat_v, leave_v, describe_v) = beside(case, version);
        let joined = enter(case, version, &group)?;
        let member = member_of(&joined);
        describe(case, describe_v, "joined", &[&group])?;
        let beat = joined.map(|one| heartbeat(&group, one.generation_id, &one.member_id));
        case.ask_each(beat_v, "a beat before the sync", beat.clone())?;
        let request = joined.map(|one| assign(sync(sync_v, &group, one), &[&one.member_id]));
        case.ask_each(sync_v, "sync", request.clone())?;
        describe(case, describe_v, "synced", &[&group])?;
        case.ask_each(sync_v, "sync again", request)?;
        case.ask_each(beat_v, "a beat", beat)?;
        let again = member.map(|member| join(version, &group, member));
        let joined = case.ask_each(version, "join again", again)?;
        let request = joined.map(|one| assign(sync(sync_v, &group, one), &[&one.member_id]));
        case.ask_each(sync_v, "sync the next generation", request)?;
        let goes = member.map(|member| leave_request(leave_v, &group, &[(member, None)]));
        case.ask_each(leave_v, "leave", goes.clone())?;
        describe(case, describe_v, "left", &[&group])?;
        case.ask_each(leave_v, "leave again", goes)?;
        let beat = joined.map(|one| heartbeat(&group, one.generation_id, &one.member_id));
        case.ask_each(beat_v, "a beat of one who left", beat)?;
    }
    Ok(())
}

fn join_wrongly(case: &mut Case<'_>) -> Result<()> {
    for version in case.versions::<JoinGroupRequest>() {
        let group = format!("wrong-{version}");
        let plain = || join(version, &group, &text(""));
        for timeout in [0, 99, 1_800_001, -1] {
            let request = plain().with_session_timeout_ms(timeout);
            case.ask(version, &format!("session timeout {timeout}"), request)?;
        }
        let request = plain().with_group_id(group_id(""));
        case.ask(version, "no group", request)?;
        case.ask(version, "no protocols", plain().with_protocols(vec![]))?;
        case.ask(
            version,
            "no protocol type",
            plain().with_protocol_type(text("")),
        )?;
        let request = join(version, &group, &text("stranger"));
        case.ask(version, "an unknown member", request)?;
        describe(case, 0, "nobody joined", &[&group])?;
        let joined = enter(case, version, &group)?;
        let request = join(version, &group, &text("stranger"));
        case.ask(version, "an unknown member of a group that is", request)?;
        let request = plain().with_protocol_type(text("connect"));
        case.ask(version, "another protocol type", request)?;
        let request = plain().with_protocols(vec![protocol("other", Bytes::new())]);
        case.ask(version, "other protocols", request)?;
        let request = member_of(&joined).map(|member| {
            join(version, &group, member).with_protocols(vec![protocol("other", Bytes::new())])
        });
        case.ask_each(version, "other protocols of the member", request)?;
        describe(case, 5, "after all", &[&group])?;
    }
    Ok(())
}

/// Lets a second member join: its join waits, the first is told by a beat, joins again, and both
/// are answered.
fn second(
    case: &mut Case<'_>,
    version: i16,
    group: &str,
    first: &Both<JoinGroupResponse>,
) -> Result<(Both<JoinGroupResponse>, Both<JoinGroupResponse>, Wire)> {
    let wire = case.wire();
    let beat_v = beside(case, version).1;
    let mut request: Both<_> = join(version, group, &text("")).into();
    if version >= 4 {
        let told = case.ask_on(wire, version, "the second's id", request)?;
        request = told.map(|answer| join(version, group, &answer.member_id));
    }
    case.send(wire, version, &request)?;
    let beat = first.map(|one| heartbeat(group, one.generation_id, &one.member_id));
    case.until(beat_v, "a rebalance", beat.clone(), |answer| {
        answer.error_code == 27
    })?;
    case.ask_each(beat_v, "a beat of the first", beat)?;
    let again = first.map(|one| join(version, group, &one.member_id));
    let first = case.ask_each(version, "the first joins again", again)?;
    let second = case.receive::<JoinGroupRequest>(wire, version, "the second has joined")?;
    Ok((first, second, wire))
}

fn two_members(case: &mut Case<'_>) -> Result<()> {
    for version in case.versions::<JoinGroupRequest>() {
        let group = format!("two-{version}");
        let (sync_v, beat_v, leave_v, describe_v) = beside(case, version);
        let first = enter(case, version, &group)?;
        let request = first.map(|one| assign(sync(sync_v, &group, one), &[&one.member_id]));
        case.ask_each(sync_v, "sync of one", request)?;
        let (first, other, wire) = second(case, version, &group, &first)?;
        describe(case, describe_v, "both joined", &[&group])?;
        let request = other.map(|one| sync(sync_v, &group, one));
        case.send(wire, sync_v, &request)?;
        let members = member_of(&first).zip(&member_of(&other));
        let request = first
            .zip(&members)
            .map(|(one, (a, b))| assign(sync(sync_v, &group, one), &[a, b]));
        case.ask_each(sync_v, "the leader syncs", request)?;
        case.receive::<SyncGroupRequest>(wire, sync_v, "the follower has synced")?;
        describe(case, describe_v, "both synced", &[&group])?;
        let request = other.map(|one| sync(sync_v, &group, one));
        case.ask_each(sync_v, "the follower syncs again", request)?;
        let again = other.map(|one| join(version, &group, &one.member_id));
        case.ask_each(version, "the follower joins again unchanged", again)?;
        let goes = first.map(|one| leave_request(leave_v, &group, &[(&one.member_id, None)]));
        case.ask_each(leave_v, "the leader leaves", goes)?;
        let beat = other.map(|one| heartbeat(&group, one.generation_id, &one.member_id));
        case.ask_each(beat_v, "a beat of who is left", beat)?;
        let again = other.map(|one| join(version, &group, &one.member_id));
        let alone = case.ask_each(version, "who is left joins again", again)?;
        let request = alone.map(|one| assign(sync(sync_v, &group, one), &[&one.member_id]));
        case.ask_each(sync_v, "and syncs", request)?;
        describe(case, describe_v, "one is left", &[&group])?;
    }
    Ok(())
}

fn protocols(case: &mut Case<'_>) -> Result<()> {
    for (group, kind, names) in [
        ("connect-group", "connect", &["compatible", "default"][..]),
        ("registry-group", "sr", &["v0"]),
        ("odd-group", "consumer", &["x"]),
    ] {
        let request = || {
            join(5, group, &text(""))
                .with_protocol_type(text(kind))
                .with_protocols(
                    names
                        .iter()
                        .map(|name| protocol(name, Bytes::from_static(&[1, 2, 3])))
                        .collect(),
                )
        };
        let told = case.ask(5, "an id", request())?;
        let again = told.map(|answer| request().with_member_id(answer.member_id.clone()));
        let joined = case.ask_each(5, "join", again)?;
        let sync = joined.map(|one| assign(sync(3, group, one), &[&one.member_id]));
        case.ask_each(3, "sync", sync)?;
        describe(case, 5, "described", &[group])?;
        for (what, request) in [
            ("another type", request().with_protocol_type(text("other"))),
            (
                "another protocol",
                request().with_protocols(vec![protocol("other", Bytes::new())]),
            ),
        ] {
            case.ask(5, what, request)?;
        }
    }
    // Names that a SyncGroup of v5 must repeat.
    let joined = enter(case, 7, "named")?;
    for (kind, name) in [
        (Some("consumer"), Some("other")),
        (Some("other"), Some("range")),
        (None, Some("range")),
        (Some("consumer"), None),
        (None, None),
    ] {
        let request = joined.map(|one| {
            sync(5, "named", one)
                .with_protocol_type(kind.map(text))
                .with_protocol_name(name.map(text))
        });
        case.ask_each(5, &format!("sync of {kind:?} {name:?}"), request)?;
    }
    Ok(())
}

fn static_members(case: &mut Case<'_>) -> Result<()> {
    for version in case
        .versions::<JoinGroupRequest>()
        .filter(|version| *version >= 5)
    {
        let group = format!("static-{version}");
        let (sync_v, beat_v, leave_v, describe_v) = beside(case, version);
        let named = |member: &StrBytes| {
            join(version, &group, member).with_group_instance_id(Some(text("instance")))
        };
        let stranger = named(&text("stranger"));
        case.ask(version, "an id that nobody gave", stranger)?;
        let joined = case.ask(version, "join", named(&text("")))?;
        let request = joined.map(|one| {
            assign(sync(sync_v, &group, one), &[&one.member_id])
                .with_group_instance_id(Some(text("instance")))
        });
        case.ask_each(sync_v, "sync", request)?;
        describe(case, describe_v, "synced", &[&group])?;
        let back = case.ask(version, "back without id", named(&text("")))?;
        describe(case, describe_v, "back", &[&group])?;
        let old = joined.map(|one| {
            heartbeat(&group, one.generation_id, &one.member_id)
                .with_group_instance_id(Some(text("instance")))
        });
        case.ask_each(beat_v, "a beat of the one before", old)?;
        let request = joined.map(|one| named(&one.member_id));
        case.ask_each(version, "the one before joins", request)?;
        let request = joined
            .map(|one| sync(sync_v, &group, one).with_group_instance_id(Some(text("instance"))));
        case.ask_each(sync_v, "the one before syncs", request)?;
        let beat = back.map(|one| heartbeat(&group, one.generation_id, &one.member_id));
        case.ask_each(beat_v, "a beat without instance", beat)?;
        let beat = back.map(|one| {
            heartbeat(&group, one.generation_id, &one.member_id)
                .with_group_instance_id(Some(text("other")))
        });
        case.ask_each(beat_v, "a beat of another instance", beat)?;
        let request = back.map(|one| {
            named(&one.member_id).with_protocols(vec![protocol("range", subscription(&["more"]))])
        });
        let changed = case.ask_each(version, "another subscription", request)?;
        let request = changed.map(|one| {
            assign(sync(sync_v, &group, one), &[&one.member_id])
                .with_group_instance_id(Some(text("instance")))
        });
        case.ask_each(sync_v, "its sync", request)?;
        let changed = joined.map(|_| {
            named(&text("")).with_protocols(vec![protocol("range", subscription(&["even-more"]))])
        });
        let changed = case.ask_each(version, "back with another subscription", changed)?;
        describe(case, describe_v, "then", &[&group])?;
        let fenced =
            joined.map(|one| leave_request(leave_v, &group, &[(&one.member_id, Some("instance"))]));
        case.ask_each(leave_v, "the one before leaves", fenced)?;
        let unknown = leave_request(leave_v, &group, &[(&text(""), Some("nobody"))]);
        case.ask(leave_v, "an unknown instance leaves", unknown)?;
        let goes = leave_request(leave_v, &group, &[(&text(""), Some("instance"))]);
        case.ask(leave_v, "the instance leaves", goes)?;
        let beat = changed.map(|one| heartbeat(&group, one.generation_id, &one.member_id));
        case.ask_each(beat_v, "a beat of who left", beat)?;
        describe(case, describe_v, "left", &[&group])?;
    }
    Ok(())
}

fn wrong_members(case: &mut Case<'_>) -> Result<()> {
    let joined = enter(case, 5, "wrongs")?;
    for version in case.versions::<SyncGroupRequest>() {
        let change = |f: &dyn Fn(SyncGroupRequest) -> SyncGroupRequest| {
            joined.map(|one| f(sync(version, "wrongs", one)))
        };
        let requests = [
            (
                "an unknown group",
                change(&|one| one.with_group_id(group_id("no-such"))),
            ),
            ("no group", change(&|one| one.with_group_id(group_id("")))),
            (
                "an unknown member",
                change(&|one| one.with_member_id(text("stranger"))),
            ),
            (
                "a generation before",
                change(&|one| one.with_generation_id(0)),
            ),
            (
                "a generation to come",
                change(&|one| one.with_generation_id(9)),
            ),
        ];
        for (what, request) in requests {
            case.ask_each(version, what, request)?;
        }
        if version >= 3 {
            let request = change(&|one| one.with_group_instance_id(Some(text("nobody"))));
            case.ask_each(version, "an unknown instance", request)?;
        }
    }
    for version in case.versions::<HeartbeatRequest>() {
        let change = |f: &dyn Fn(HeartbeatRequest) -> HeartbeatRequest| {
            joined.map(|one| f(heartbeat("wrongs", one.generation_id, &one.member_id)))
        };
        let requests = [
            ("right", change(&|one| one)),
            (
                "an unknown group",
                change(&|one| one.with_group_id(group_id("no-such"))),
            ),
            ("no group", change(&|one| one.with_group_id(group_id("")))),
            (
                "an unknown member",
                change(&|one| one.with_member_id(text("stranger"))),
            ),
            (
                "a generation before",
                change(&|one| one.with_generation_id(0)),
            ),
            (
                "a generation to come",
                change(&|one| one.with_generation_id(9)),
            ),
        ];
        for (what, request) in requests {
            case.ask_each(version, what, request)?;
        }
        if version >= 3 {
            let request = change(&|one| one.with_group_instance_id(Some(text("nobody"))));
            case.ask_each(version, "an unknown instance", request)?;
        }
    }
    Ok(())
}

fn leave(case: &mut Case<'_>) -> Result<()> {
    for version in case.versions::<LeaveGroupRequest>() {
        let group = format!("leave-{version}");
        let joined = enter(case, 5, &group)?;
        let nobody = text("stranger");
        let unknown = leave_request(version, "no-such", &[(&nobody, None)]);
        case.ask(version, "an unknown group", unknown)?;
        case.ask(
            version,
            "no group",
            leave_request(version, "", &[(&nobody, None)]),
        )?;
        let unknown = leave_request(version, &group, &[(&nobody, None)]);
        case.ask(version, "an unknown member", unknown)?;
        if version >= 3 {
            case.ask(version, "no members", leave_request(version, &group, &[]))?;
            let several = joined.map(|one| {
                let members = [
                    (&nobody, None),
                    (&one.member_id, None),
                    (&one.member_id, None),
                    (&nobody, Some("x")),
                ];
                leave_request(version, &group, &members)
            });
            case.ask_each(version, "several", several)?;
        }
        // One who was given an id but has not joined with it.
        let pending = case.ask(4, "an id", join(4, &group, &text("")))?;
        let goes = pending.map(|one| leave_request(version, &group, &[(&one.member_id, None)]));
        case.ask_each(version, "who did not join", goes)?;
        describe(case, 5, "then", &[&group])?;
    }
    Ok(())
}

fn commit_partition(
    version: i16,
    index: i32,
    offset: i64,
    metadata: Option<&str>,
) -> OffsetCommitRequestPartition {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(index)
        .with_committed_offset(offset)
        .with_committed_metadata(metadata.map(text));
    if version >= 6 {
        partition.with_committed_leader_epoch(3)
    } else {
        partition
    }
}

fn commit(
    group: &str,
    topics: Vec<(&str, Vec<OffsetCommitRequestPartition>)>,
) -> OffsetCommitRequest {
    OffsetCommitRequest::default()
        .with_group_id(group_id(group))
        .with_topics(
            topics
                .into_iter()
                .map(|(name, partitions)| {
                    OffsetCommitRequestTopic::default()
                        .with_name(topic_name(name))
                        .with_partitions(partitions)
                })
                .collect(),
        )
}

type Wanted<'a> = Option<Vec<(&'a str, Vec<i32>)>>;

fn fetch_request(version: i16, groups: &[(&str, Wanted<'_>)]) -> OffsetFetchRequest {
    if version < 8 {
        let (group, topics) = &groups[0];
        let topics = topics.as_ref().map(|topics| {
            topics
                .iter()
                .map(|(name, partitions)| {
                    OffsetFetchRequestTopic::default()
                        .with_name(topic_name(name))
                        .with_partition_indexes(partitions.clone())
                })
                .collect()
        });
        return OffsetFetchRequest::default()
            .with_group_id(group_id(group))
            .with_topics(topics);
    }
    let groups = groups
        .iter()
        .map(|(group, topics)| {
            let topics = topics.as_ref().map(|topics| {
                topics
                    .iter()
                    .map(|(name, partitions)| {
                        OffsetFetchRequestTopics::default()
                            .with_name(topic_name(name))
                            .with_partition_indexes(partitions.clone())
                    })
                    .collect()
            });
            OffsetFetchRequestGroup::default()
                .with_group_id(group_id(group))
                .with_topics(topics)
        })
        .collect();
    OffsetFetchRequest::default().with_groups(groups)
}

fn offsets(case: &mut Case<'_>) -> Result<()> {
    topic(case, "group-topic", 3, &[])?;
    let long = "m".repeat(4097);
    for version in case.versions::<OffsetCommitRequest>() {
        let group = format!("offsets-{version}");
        let one = |index, offset| commit_partition(version, index, offset, Some("note"));
        let simple = |request: OffsetCommitRequest| match version {
            0 => request,
            _ => request.with_generation_id_or_member_epoch(-1),
        };
        let request = commit(&group, vec![("group-topic", vec![one(0, 5), one(1, 6)])]);
        case.ask(version, "two partitions", simple(request))?;
        let request = commit(
            &group,
            vec![(
                "group-topic",
                vec![
                    one(2, -1),
                    one(9, 7),
                    one(-1, 7),
                    commit_partition(version, 0, 8, None),
                ],
            )],
        );
        case.ask(version, "odd partitions", simple(request))?;
        let request = commit(
            &group,
            vec![
                ("group-topic", vec![one(1, 10), one(1, 11)]),
                ("no-such", vec![one(0, 1)]),
                ("group-topic", vec![one(0, 12)]),
                ("a/b", vec![one(0, 1)]),
            ],
        );
        case.ask(version, "twice, and unknown", simple(request))?;
        let big = commit_partition(version, 0, 1, Some(&long));
        let request = commit(&group, vec![("group-topic", vec![big, one(1, 13)])]);
        case.ask(version, "too much metadata", simple(request))?;
        case.ask(version, "no topics", simple(commit(&group, vec![])))?;
        let request = commit(&group, vec![("group-topic", vec![])]);
        case.ask(version, "no partitions", simple(request))?;
        let request = commit("", vec![("group-topic", vec![one(0, 3)])]);
        case.ask(version, "no group", simple(request))?;
        if version >= 1 {
            let request = commit("no-such", vec![("group-topic", vec![one(0, 3)])])
                .with_generation_id_or_member_epoch(3)
                .with_member_id(text("m"));
            case.ask(version, "of an unknown group", request)?;
            let request = commit(&group, vec![("group-topic", vec![one(0, 3)])])
                .with_generation_id_or_member_epoch(3)
                .with_member_id(text("m"));
            case.ask(version, "of an unknown member", request)?;
            let request = commit(&group, vec![("group-topic", vec![one(2, 3)])])
                .with_generation_id_or_member_epoch(-1)
                .with_member_id(text("m"));
            case.ask(version, "of a member without generation", request)?;
        }
        if version >= 7 {
            let request = commit(&group, vec![("group-topic", vec![one(2, 3)])])
                .with_generation_id_or_member_epoch(-1)
                .with_group_instance_id(Some(text("i")));
            case.ask(version, "of an instance", request)?;
        }
        if version == 1 {
            let timed = one(0, 20).with_commit_timestamp(1_600_000_000_000);
            let request = commit(&group, vec![("group-topic", vec![timed])]);
            case.ask(version, "with a time", simple(request))?;
        }
        if (2..=4).contains(&version) {
            for retention in [0, 1_000_000_000_000] {
                let request = commit(&group, vec![("group-topic", vec![one(2, 21)])])
                    .with_retention_time_ms(retention);
                case.ask(version, &format!("kept for {retention}"), simple(request))?;
            }
        }
        // v0 keeps offsets in ZooKeeper.
        let of = |partitions: &[i32]| Some(vec![("group-topic", partitions.to_vec())]);
        for fetch in case.versions::<OffsetFetchRequest>() {
            let request = fetch_request(fetch, &[(&group, of(&[0, 1, 2, 9, -1]))]);
            case.ask(fetch, &format!("fetch what v{version} committed"), request)?;
            if fetch >= 2 {
                let request = fetch_request(fetch, &[(&group, None)]);
                case.ask(
                    fetch,
                    &format!("fetch all that v{version} committed"),
                    request,
                )?;
            }
        }
    }
    for version in case.versions::<OffsetFetchRequest>() {
        let of = |name, partitions: &[i32]| Some(vec![(name, partitions.to_vec())]);
        let groups: Vec<(&str, (&str, Wanted<'_>))> = vec![
            ("an unknown group", ("no-such", of("group-topic", &[0, 1]))),
            ("an unknown topic", ("offsets-5", of("no-such", &[0]))),
            ("no group", ("", of("group-topic", &[0]))),
            (
                "a partition twice",
                ("offsets-5", of("group-topic", &[0, 0])),
            ),
            ("no topics", ("offsets-5", Some(vec![]))),
            ("no partitions", ("offsets-5", of("group-topic", &[]))),
            (
                "a topic twice",
                (
                    "offsets-5",
                    Some(vec![("group-topic", vec![0]), ("group-topic", vec![0, 1])]),
                ),
            ),
        ];
        for (what, group) in &groups {
            case.ask(
                version,
                what,
                fetch_request(version, std::slice::from_ref(group)),
            )?;
        }
        if version >= 2 {
            let all = fetch_request(version, &[("no-such", None)]);
            case.ask(version, "all of an unknown group", all)?;
        }
        if version >= 7 {
            let request = fetch_request(version, &[("offsets-5", of("group-topic", &[0]))])
                .with_require_stable(true);
            case.ask(version, "stable ones", request)?;
        }
        if version >= 8 {
            let several: Vec<_> = groups.iter().map(|(_, group)| group.clone()).collect();
            case.ask(version, "several groups", fetch_request(version, &several))?;
            // No groups at all is left out: Kafka never answers.
            let twice = [("offsets-5", None), ("offsets-5", of("group-topic", &[0]))];
            case.ask(version, "a group twice", fetch_request(version, &twice))?;
        }
        if version >= 9 {
            for (member, epoch) in [(Some("m"), 0), (None, 3), (Some("m"), -1)] {
                let mut request = fetch_request(version, &[("offsets-5", of("group-topic", &[0]))]);
                request.groups[0].member_id = member.map(text);
                request.groups[0].member_epoch = epoch;
                case.ask(
                    version,
                    &format!("as member {member:?} of epoch {epoch}"),
                    request,
                )?;
            }
        }
    }
    Ok(())
}

fn member_offsets(case: &mut Case<'_>) -> Result<()> {
    let joined = enter(case, 5, "committers")?;
    let states = ["before the sync", "stable"];
    for state in states {
        if state == "stable" {
            let request = joined.map(|one| assign(sync(3, "committers", one), &[&one.member_id]));
            case.ask_each(3, "sync", request)?;
        }
        for version in case.versions::<OffsetCommitRequest>() {
            let base = |one: &JoinGroupResponse| {
                let partition = commit_partition(version, 0, 5, Some(""));
                let request = commit("committers", vec![("group-topic", vec![partition])]);
                if version == 0 {
                    return request;
                }
                request
                    .with_generation_id_or_member_epoch(one.generation_id)
                    .with_member_id(one.member_id.clone())
            };
            case.ask_each(version, state, joined.map(base))?;
            if version == 0 {
                continue;
            }
            let wrong = joined.map(|one| base(one).with_generation_id_or_member_epoch(0));
            case.ask_each(version, &format!("{state}, a generation before"), wrong)?;
            let wrong = joined.map(|one| base(one).with_member_id(text("stranger")));
            case.ask_each(version, &format!("{state}, a stranger"), wrong)?;
            let wrong = joined.map(|one| {
                base(one)
                    .with_member_id(text(""))
                    .with_generation_id_or_member_epoch(-1)
            });
            case.ask_each(version, &format!("{state}, nobody"), wrong)?;
            if version >= 7 {
                let wrong = joined.map(|one| base(one).with_group_instance_id(Some(text("x"))));
                case.ask_each(version, &format!("{state}, an unknown instance"), wrong)?;
            }
        }
    }
    Ok(())
}

fn delete_offsets(case: &mut Case<'_>) -> Result<()> {
    let request = |group: &str, topics: &[(&str, &[i32])]| {
        OffsetDeleteRequest::default()
            .with_group_id(group_id(group))
            .with_topics(
                topics
                    .iter()
                    .map(|(name, partitions)| {
                        OffsetDeleteRequestTopic::default()
                            .with_name(topic_name(name))
                            .with_partitions(
                                partitions
                                    .iter()
                                    .map(|index| {
                                        OffsetDeleteRequestPartition::default()
                                            .with_partition_index(*index)
                                    })
                                    .collect(),
                            )
                    })
                    .collect(),
            )
    };
    topic(case, "group-topic-b", 2, &[])?;
    let joined = enter(case, 5, "deleters")?;
    let sync = joined.map(|one| assign(sync(3, "deleters", one), &[&one.member_id]));
    case.ask_each(3, "sync", sync)?;
    let topics = || {
        let partition = |at| commit_partition(5, at, 5, None);
        vec![
            ("group-topic", vec![partition(0)]),
            ("group-topic-b", vec![partition(0), partition(1)]),
        ]
    };
    let members = joined.map(|one| {
        commit("deleters", topics())
            .with_generation_id_or_member_epoch(one.generation_id)
            .with_member_id(one.member_id.clone())
    });
    case.ask_each(5, "commit", members)?;
    let simple = commit("simple-deleters", topics()).with_generation_id_or_member_epoch(-1);
    case.ask(5, "commit", simple)?;
    for version in case.versions::<OffsetDeleteRequest>() {
        for group in ["deleters", "simple-deleters", "no-such", ""] {
            let wrong = request(group, &[("group-topic-b", &[9, -1]), ("no-such", &[0])]);
            case.ask(version, &format!("wrong ones of {group:?}"), wrong)?;
            let some = request(group, &[("group-topic", &[0, 2]), ("group-topic-b", &[0])]);
            case.ask(version, &format!("some of {group:?}"), some)?;
            let twice = request(
                group,
                &[("group-topic-b", &[1, 1]), ("group-topic-b", &[0])],
            );
            case.ask(version, &format!("twice of {group:?}"), twice)?;
            case.ask(version, &format!("none of {group:?}"), request(group, &[]))?;
            let left = fetch_request(7, &[(group, None)]);
            case.ask(7, &format!("what is left of {group:?}"), left)?;
        }
    }
    Ok(())
}

fn describe_list_delete(case: &mut Case<'_>) -> Result<()> {
    // One of each state.
    let stable = enter(case, 5, "listed-stable")?;
    let sync = stable.map(|one| assign(sync(3, "listed-stable", one), &[&one.member_id]));
    case.ask_each(3, "sync", sync)?;
    enter(case, 5, "listed-completing")?;
    let partition = commit_partition(5, 0, 5, None);
    let simple = commit("listed-empty", vec![("group-topic", vec![partition])])
        .with_generation_id_or_member_epoch(-1);
    case.ask(5, "commit", simple)?;
    let left = enter(case, 5, "listed-left")?;
    let goes = left.map(|one| leave_request(3, "listed-left", &[(&one.member_id, None)]));
    case.ask_each(3, "leave", goes)?;
    case.ask(5, "an id", join(5, "listed-pending", &text("")))?;
    let all = [
        "listed-stable",
        "listed-completing",
        "listed-empty",
        "listed-left",
        "listed-pending",
        "no-such",
        "",
    ];
    for version in case.versions::<DescribeGroupsRequest>() {
        describe(case, version, "all", &all)?;
        describe(case, version, "none", &[])?;
        describe(case, version, "twice", &["listed-stable", "listed-stable"])?;
        if version >= 3 {
            let request = DescribeGroupsRequest::default()
                .with_groups(vec![group_id("listed-stable"), group_id("no-such")])
                .with_include_authorized_operations(true);
            case.ask(version, "with operations", request)?;
        }
    }
    for version in case.versions::<ListGroupsRequest>() {
        let request = ListGroupsRequest::default;
        case.ask(version, "all", request())?;
        if version >= 4 {
            for states in [
                &["Stable"][..],
                &["stable", "EMPTY"],
                &["Dead"],
                &["No"],
                &["", "Empty"],
            ] {
                let states: Vec<_> = states.iter().copied().map(text).collect();
                let what = format!("states {states:?}");
                case.ask(version, &what, request().with_states_filter(states))?;
            }
        }
        if version >= 5 {
            for types in [
                &["classic"][..],
                &["Classic"],
                &["consumer"],
                &["share"],
                &["no"],
                &[""],
            ] {
                let types: Vec<_> = types.iter().copied().map(text).collect();
                let what = format!("types {types:?}");
                case.ask(version, &what, request().with_types_filter(types))?;
            }
            let both = request()
                .with_states_filter(vec![text("Stable")])
                .with_types_filter(vec![text("consumer")]);
            case.ask(version, "both filters", both)?;
        }
    }
    for version in case.versions::<DeleteGroupsRequest>() {
        let request = |groups: &[&str]| {
            let groups = groups.iter().map(|group| group_id(group)).collect();
            DeleteGroupsRequest::default().with_groups_names(groups)
        };
        let name = format!("deleted-{version}");
        let partition = commit_partition(5, 0, 5, None);
        let simple = commit(&name, vec![("group-topic", vec![partition])])
            .with_generation_id_or_member_epoch(-1);
        case.ask(5, "commit", simple)?;
        case.ask(version, "one", request(&[&name]))?;
        case.ask(version, "again", request(&[&name]))?;
        let wrong = ["listed-stable", "listed-completing", "no-such", ""];
        case.ask(version, "wrong ones", request(&wrong))?;
        case.ask(version, "none", request(&[]))?;
        describe(case, 5, "deleted", &[&name])?;
        case.ask(
            7,
            "offsets of the deleted",
            fetch_request(7, &[(&name, None)]),
        )?;
    }
    let last = DeleteGroupsRequest::default().with_groups_names(
        [
            "listed-empty",
            "listed-left",
            "listed-left",
            "listed-pending",
        ]
        .map(group_id)
        .to_vec(),
    );
    case.ask(2, "the rest", last)?;
    describe(case, 5, "all, then", &all)?;
    Ok(())
}

fn consumer_protocol(case: &mut Case<'_>) -> Result<()> {
    use kafka_protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest};
    for version in case.versions::<ConsumerGroupHeartbeatRequest>() {
        let request = ConsumerGroupHeartbeatRequest::default().with_group_id(group_id("new"));
        case.ask(version, "a beat", request)?;
    }
    for version in case.versions::<ConsumerGroupDescribeRequest>() {
        for groups in [&["new", "listed-stable"][..], &[], &["new", "new"]] {
            let groups: Vec<_> = groups.iter().map(|group| group_id(group)).collect();
            let what = format!("{groups:?}");
            let request = ConsumerGroupDescribeRequest::default().with_group_ids(groups);
            case.ask(version, &what, request)?;
        }
    }
    Ok(())
}
