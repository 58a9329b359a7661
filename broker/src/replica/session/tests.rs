use proptest::prelude::*;

use super::*;

fn key(partition: i32) -> PartitionKey {
    PartitionKey {
        topic: TopicKey::Name(TopicName::new("t")),
        partition,
    }
}

fn wanted(fetch_offset: Offset) -> Wanted {
    Wanted {
        fetch_offset,
        max_bytes: 1 << 20,
        current_leader_epoch: None,
        last_fetched_epoch: None,
        log_start_offset: -1,
    }
}

fn nothing(high_watermark: Offset) -> Found {
    Found {
        has_records: false,
        has_error: false,
        is_redirected: false,
        high_watermark,
        log_start_offset: 0,
    }
}

fn new(is_follower: bool, now: Millis) -> NewSession {
    NewSession {
        size: 0,
        is_follower,
        uses_topic_ids: false,
        now,
    }
}

/// A session over partitions `0..size`, with ids counted from 1.
fn create(cache: &mut SessionCache, session: NewSession, size: i32) -> i32 {
    let partitions: Vec<_> = (0..size)
        .map(|partition| (key(partition), wanted(0), nothing(0)))
        .collect();
    let session = NewSession {
        size: partitions.len(),
        ..session
    };
    let mut id = 0;
    cache.create(session, partitions.into_iter(), || {
        id += 1;
        id
    })
}

fn resume(
    cache: &mut SessionCache,
    id: i32,
    epoch: i32,
    changed: &[(PartitionKey, Wanted)],
    forgotten: &[PartitionKey],
) -> Result<Vec<i32>, ErrorCode> {
    cache
        .resume(0, (id, epoch), false, changed, forgotten)
        .map(|resumed| match resumed {
            Resumed::Incremental(partitions) => partitions
                .into_iter()
                .map(|(key, _)| key.partition)
                .collect(),
            Resumed::Emptied => Vec::new(),
        })
}

#[test]
fn epochs_follow_each_other_and_wrap_to_one() {
    assert_eq!(next_epoch(INITIAL_EPOCH), 1);
    assert_eq!(next_epoch(7), 8);
    assert_eq!(next_epoch(i32::MAX), 1);
    assert_eq!(next_epoch(FINAL_EPOCH), FINAL_EPOCH);
}

#[test]
fn a_request_must_name_a_session_its_epoch_and_its_kind_of_topic_names() {
    let mut cache = SessionCache::new(10);
    let id = create(&mut cache, new(false, 0), 2);
    assert_eq!(
        resume(&mut cache, id + 1, 1, &[], &[]),
        Err(ErrorCode::FetchSessionIdNotFound)
    );
    assert_eq!(
        resume(&mut cache, id, 2, &[], &[]),
        Err(ErrorCode::InvalidFetchSessionEpoch)
    );
    assert_eq!(
        cache.resume(0, (id, 1), true, &[], &[]),
        Err(ErrorCode::FetchSessionTopicIdError)
    );
    assert_eq!(resume(&mut cache, id, 1, &[], &[]), Ok(vec![0, 1]));
    assert_eq!(
        resume(&mut cache, id, 1, &[], &[]),
        Err(ErrorCode::InvalidFetchSessionEpoch),
        "keeps 3"
    );
    assert_eq!(resume(&mut cache, id, 2, &[], &[]), Ok(vec![0, 1]));
}

#[test]
fn a_request_adds_changes_and_forgets_partitions() {
    let mut cache = SessionCache::new(10);
    let id = create(&mut cache, new(false, 0), 2);
    let changed = [(key(0), wanted(9)), (key(5), wanted(3))];
    let resumed = cache.resume(0, (id, 1), false, &changed, &[key(1)]);
    assert_eq!(
        resumed,
        Ok(Resumed::Incremental(vec![
            (key(0), wanted(9)),
            (key(5), wanted(3))
        ]))
    );
    assert_eq!(
        cache.resume(0, (id, 2), false, &[], &[key(0), key(5)]),
        Ok(Resumed::Emptied)
    );
    assert!(cache.is_empty());
}

#[test]
fn only_news_are_told() {
    let mut cache = SessionCache::new(10);
    let id = create(&mut cache, new(false, 0), 4);
    resume(&mut cache, id, 1, &[], &[]).expect("the session is there");
    let keys: Vec<_> = (0..4).map(key).collect();
    let answer = |cache: &mut SessionCache, epoch, found: [Found; 4]| {
        cache.answer(id, epoch, keys.iter().zip(found))
    };
    let error = Found {
        has_error: true,
        ..nothing(-1)
    };
    let records = Found {
        has_records: true,
        ..nothing(1)
    };
    assert_eq!(
        answer(&mut cache, 1, [nothing(0), nothing(1), error, records]),
        Ok(vec![false, true, true, true])
    );
    resume(&mut cache, id, 2, &[], &[]).expect("the session is there");
    // After an error the partition is told again although its high watermark did not move.
    assert_eq!(
        answer(
            &mut cache,
            2,
            [nothing(0), nothing(1), nothing(0), nothing(1)]
        ),
        Ok(vec![false, false, true, false])
    );
    assert_eq!(
        answer(&mut cache, 1, [nothing(0); 4]),
        Err(ErrorCode::InvalidFetchSessionEpoch)
    );
}

#[test]
fn partitions_that_returned_records_go_to_the_end() {
    let mut cache = SessionCache::new(10);
    let id = create(&mut cache, new(false, 0), 4);
    resume(&mut cache, id, 1, &[], &[]).expect("the session is there");
    let found = |has_records| Found {
        has_records,
        ..nothing(0)
    };
    let keys: Vec<_> = (0..4).map(key).collect();
    cache
        .answer(
            id,
            1,
            keys.iter().zip([true, false, true, false].map(found)),
        )
        .expect("the epoch is right");
    assert_eq!(resume(&mut cache, id, 2, &[], &[]), Ok(vec![1, 3, 0, 2]));
}

#[test]
fn eviction_prefers_the_idle_then_the_small_and_spares_the_young() {
    let mut cache = SessionCache::new(2);
    let small = create(&mut cache, new(false, 0), 1);
    let large = create(&mut cache, new(false, 0), 5);
    // Both are young: a consumer finds no room, a follower does, whatever its size.
    assert_eq!(create(&mut cache, new(false, 10), 9), NO_SESSION);
    let follower = create(&mut cache, new(true, 10), 1);
    assert_ne!(follower, NO_SESSION);
    assert!(resume(&mut cache, large, 1, &[], &[]).is_ok());
    assert_eq!(cache.len(), 2);
    assert_eq!(
        follower, small,
        "the smaller went, and its id is free again"
    );

    // `large` was used at 0 and is idle for too long.
    let third = create(&mut cache, new(false, EVICTION_MS + 1), 1);
    assert_eq!(third, large, "the idle one went, and its id is free again");
    assert_eq!(cache.len(), 2);
}

#[test]
fn an_old_consumer_makes_room_only_for_one_at_least_as_large() {
    let mut cache = SessionCache::new(1);
    let id = create(&mut cache, new(false, 0), 5);
    let now = EVICTION_MS + 1;
    cache
        .resume(now, (id, 1), false, &[], &[])
        .expect("the session is there");
    assert_eq!(create(&mut cache, new(false, now), 4), NO_SESSION);
    assert_ne!(create(&mut cache, new(false, now), 6), NO_SESSION);
    assert_eq!(cache.len(), 1);
}

#[test]
fn no_slots_means_no_sessions() {
    let mut cache = SessionCache::new(0);
    assert_eq!(create(&mut cache, new(true, 0), 5), NO_SESSION);
}

#[derive(Debug, Clone)]
enum Step {
    Create {
        is_follower: bool,
        size: i32,
    },
    Resume {
        pick: usize,
        change: Vec<i32>,
        forget: Vec<i32>,
    },
    Answer {
        pick: usize,
        with_records: Vec<i32>,
    },
    Close {
        pick: usize,
    },
    Wait {
        ms: Millis,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let partitions = || proptest::collection::vec(0..8i32, 0..5);
    prop_oneof![
        (any::<bool>(), 0..8i32).prop_map(|(is_follower, size)| Step::Create { is_follower, size }),
        (0..4usize, partitions(), partitions()).prop_map(|(pick, change, forget)| Step::Resume {
            pick,
            change,
            forget
        }),
        (0..4usize, partitions())
            .prop_map(|(pick, with_records)| Step::Answer { pick, with_records }),
        (0..4usize).prop_map(|pick| Step::Close { pick }),
        (0..EVICTION_MS * 2).prop_map(|ms| Step::Wait { ms }),
    ]
}

/// A session as a list of partitions, the obvious way.
#[derive(Debug)]
struct Model {
    id: i32,
    epoch: i32,
    order: Vec<i32>,
}

proptest! {
    #[test]
    fn sessions_behave_as_a_plain_list_within_the_slots(
        steps in proptest::collection::vec(step(), 1..60)
    ) {
        let mut cache = SessionCache::new(3);
        let mut models: Vec<Model> = Vec::new();
        let mut now = 0;
        let mut next_id = 0;
        for step in steps {
            models.retain(|model| cache.sessions.contains_key(&model.id));
            match step {
                Step::Create { is_follower, size } => {
                    let partitions: Vec<_> =
                        (0..size).map(|p| (key(p), wanted(0), nothing(0))).collect();
                    let session = NewSession {
                        size: partitions.len(),
                        ..new(is_follower, now)
                    };
                    let id = cache.create(session, partitions.into_iter(), || {
                        next_id += 1;
                        next_id
                    });
                    if id != NO_SESSION {
                        models.push(Model { id, epoch: 1, order: (0..size).collect() });
                    }
                }
                Step::Resume { pick, change, forget } => {
                    let Some(model) = models.get_mut(pick) else { continue };
                    for &p in &change {
                        if !model.order.contains(&p) {
                            model.order.push(p);
                        }
                    }
                    model.order.retain(|p| !forget.contains(p));
                    let change: Vec<_> = change.iter().map(|&p| (key(p), wanted(1))).collect();
                    let forget: Vec<_> = forget.iter().map(|&p| key(p)).collect();
                    let resumed = cache.resume(now, (model.id, model.epoch), false, &change, &forget);
                    model.epoch = next_epoch(model.epoch);
                    let order = match resumed {
                        Ok(Resumed::Incremental(partitions)) => {
                            partitions.iter().map(|(key, _)| key.partition).collect()
                        }
                        Ok(Resumed::Emptied) => Vec::new(),
                        Err(code) => return Err(TestCaseError::fail(code.name())),
                    };
                    prop_assert_eq!(&order, &model.order);
                }
                Step::Answer { pick, with_records } => {
                    let Some(model) = models.get_mut(pick) else { continue };
                    if model.epoch == 1 {
                        continue;
                    }
                    let keys: Vec<_> = model.order.iter().map(|&p| key(p)).collect();
                    let found = keys.iter().map(|key| {
                        let has_records = with_records.contains(&key.partition);
                        (key, Found { has_records, ..nothing(0) })
                    });
                    let told = cache.answer(model.id, model.epoch - 1, found);
                    prop_assert!(told.is_ok());
                    let (with, without): (Vec<_>, Vec<_>) =
                        model.order.iter().partition(|p| with_records.contains(p));
                    model.order = without.into_iter().chain(with).collect();
                }
                Step::Close { pick } => {
                    if let Some(model) = models.get(pick) {
                        cache.close(model.id);
                    }
                }
                Step::Wait { ms } => now += ms,
            }
            prop_assert!(cache.len() <= 3, "keeps 2");
            prop_assert_eq!(cache.by_last_use.len(), cache.len());
            prop_assert!(cache.evictable_by_followers.len() <= cache.len());
            prop_assert!(cache.evictable_by_all.len() <= cache.evictable_by_followers.len());
        }
    }
}
