//! Any sequence of what clients, the clock and the log may do.

use proptest::prelude::*;

use super::*;

/// What a client or the machine does next. Numbers choose among those there are.
#[derive(Debug, Clone)]
enum Act {
    Join {
        who: usize,
        is_static: bool,
        other_topic: bool,
    },
    Sync {
        who: usize,
    },
    Heartbeat {
        who: usize,
        stale: bool,
    },
    Commit {
        who: usize,
        stale: bool,
    },
    Leave {
        who: usize,
    },
    Advance(Millis),
    Hold,
    Release {
        fail: bool,
    },
    Expire,
    DeleteOffsets,
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0usize..5, any::<bool>(), any::<bool>())
            .prop_map(|(who, is_static, other_topic)| Act::Join { who, is_static, other_topic }),
        4 => (0usize..5).prop_map(|who| Act::Sync { who }),
        2 => (0usize..5, any::<bool>()).prop_map(|(who, stale)| Act::Heartbeat { who, stale }),
        2 => (0usize..5, any::<bool>()).prop_map(|(who, stale)| Act::Commit { who, stale }),
        1 => (0usize..5).prop_map(|who| Act::Leave { who }),
        2 => (0i64..12_000).prop_map(Act::Advance),
        1 => Just(Act::Hold),
        1 => any::<bool>().prop_map(|fail| Act::Release { fail }),
        1 => Just(Act::Expire),
        1 => Just(Act::DeleteOffsets),
    ]
}

/// A client as it knows itself.
#[derive(Debug, Clone, Default)]
struct Client {
    id: String,
    instance: Option<String>,
    generation: i32,
}

struct World {
    bench: Bench,
    clients: Vec<Client>,
    asked: Vec<Token>,
    joins: HashMap<Token, usize>,
    /// Assignments handed out: by generation, the member that has each.
    owners: BTreeMap<(i32, Bytes), String>,
    syncs: HashMap<Token, (i32, String)>,
    last_generation: i32,
}

impl World {
    fn act(&mut self, act: Act) {
        match act {
            Act::Join {
                who,
                is_static,
                other_topic,
            } => {
                let client = self.clients[who].clone();
                let mut request = self.bench.join_request(&client.id);
                request.instance_id = if client.id.is_empty() {
                    is_static.then(|| format!("i{who}"))
                } else {
                    client.instance
                };
                if other_topic {
                    request.protocols = vec![protocol("range", "other")];
                }
                self.clients[who].instance.clone_from(&request.instance_id);
                request.require_known_member_id = request.instance_id.is_none();
                self.joins.insert(request.token, who);
                self.asked.push(request.token);
                self.bench.join(request);
            }
            Act::Sync { who } => {
                let reference = self.reference(who, false);
                let plan: Vec<(String, Bytes)> = self
                    .bench
                    .group
                    .members
                    .keys()
                    .enumerate()
                    .map(|(index, id)| (id.clone(), Bytes::from(format!("p{index}"))))
                    .collect();
                let token = self.bench.token();
                self.syncs
                    .insert(token, (reference.generation, reference.member_id.clone()));
                self.asked.push(token);
                self.bench.step(Event::Sync(SyncRequest {
                    token,
                    member: reference,
                    protocol_type: None,
                    protocol_name: None,
                    assignments: plan,
                }));
            }
            Act::Heartbeat { who, stale } => {
                let reference = self.reference(who, stale);
                let is_old = reference.generation != self.bench.group.generation();
                let error = self.bench.heartbeat(reference);
                assert!(!is_old || !error.is_none(), "G1");
            }
            Act::Commit { who, stale } => {
                let reference = self.reference(who, stale);
                let is_old = reference.generation != self.bench.group.generation();
                let token = self.bench.commit_from(reference, 1);
                self.asked.push(token);
                if is_old {
                    assert!(!self.bench.commit_answer(token).is_none(), "G1");
                }
            }
            Act::Leave { who } => {
                let client = self.clients[who].clone();
                if !client.id.is_empty() {
                    self.bench.leave(&client.id, client.instance.as_deref());
                }
            }
            Act::Advance(by) => self.bench.advance(by),
            Act::Hold => {
                if self.bench.held.is_none() {
                    self.bench.hold();
                }
            }
            Act::Release { fail } => {
                self.bench.release(if fail {
                    Err(ErrorCode::NotEnoughReplicas)
                } else {
                    Ok(())
                });
            }
            Act::Expire => self.bench.step(Event::Expire),
            Act::DeleteOffsets => {
                let _ = self.bench.delete_offsets("t");
            }
        }
        self.learn();
        self.check();
    }

    fn reference(&self, who: usize, stale: bool) -> MemberRef {
        let client = &self.clients[who];
        MemberRef {
            member_id: client.id.clone(),
            instance_id: client.instance.clone(),
            // A generation the group has left, or never had.
            generation: if stale {
                self.bench.group.generation() - 1
            } else {
                client.generation
            }
            .max(0),
        }
    }

    /// Clients read their answers.
    fn learn(&mut self) {
        let joins: Vec<_> = self.joins.iter().map(|(t, w)| (*t, *w)).collect();
        for (token, who) in joins {
            if let Some(Answer::Join(answer)) = self.bench.answers.get(&token) {
                let client = &mut self.clients[who];
                match answer.error {
                    ErrorCode::None => {
                        client.id.clone_from(&answer.member_id);
                        client.generation = answer.generation;
                    }
                    ErrorCode::MemberIdRequired => client.id.clone_from(&answer.member_id),
                    ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => {
                        client.id.clear();
                    }
                    _ => {}
                }
                self.joins.remove(&token);
            }
        }
        let syncs: Vec<_> = self.syncs.keys().copied().collect();
        for token in syncs {
            if let Some(Answer::Sync(answer)) = self.bench.answers.get(&token) {
                let (generation, id) = self.syncs.remove(&token).unwrap();
                if answer.error.is_none() && !answer.assignment.is_empty() {
                    let key = (generation, answer.assignment.clone());
                    let owner = self.owners.entry(key).or_insert_with(|| id.clone());
                    let is_successor =
                        owner.split('-').next() == id.split('-').next() && owner.starts_with('i');
                    assert!(*owner == id || is_successor, "two owners in one generation");
                }
            }
        }
    }

    fn check(&mut self) {
        let group = &self.bench.group;
        assert!(group.generation() >= self.last_generation, "G2");
        self.last_generation = group.generation();
        if let Some(leader) = &group.leader {
            assert!(group.members.contains_key(leader));
        } else {
            assert!(group.members.is_empty());
        }
        for (instance, id) in &group.static_members {
            assert_eq!(group.members[id].instance_id.as_ref(), Some(instance));
        }
        if group.state() == State::Empty {
            assert!(group.members.is_empty());
        }
        if matches!(group.state(), State::Stable | State::CompletingRebalance) {
            assert!(!group.members.is_empty() && group.protocol_name.is_some());
        }
    }
}

/// Generation, protocol, members with their assignments, offsets.
type Durable = (i32, Option<String>, Vec<(String, Bytes)>, Vec<Offset>);

fn durable(group: &Group) -> Durable {
    let offsets = group
        .fetch(None, false)
        .into_iter()
        .map(|(_, found)| match found {
            Fetched::Committed(value) => value.offset,
            Fetched::Unstable | Fetched::Nothing => -1,
        })
        .collect();
    let members = group
        .members
        .values()
        .map(|member| (member.member_id.clone(), member.assignment.clone()))
        .collect();
    (
        group.generation(),
        group.protocol_name.clone(),
        members,
        offsets,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_sequence_keeps_the_invariants(
        acts in proptest::collection::vec(any_act(), 1..120),
        delay in prop_oneof![Just(0i64), Just(3_000)],
    ) {
        let settings = Settings { initial_rebalance_delay_ms: delay, ..Settings::default() };
        let mut world = World {
            bench: Bench::new(settings.clone()),
            clients: vec![Client::default(); 5],
            asked: Vec::new(),
            joins: HashMap::new(),
            owners: BTreeMap::new(),
            syncs: HashMap::new(),
            last_generation: 0,
        };
        for act in acts {
            if world.bench.forgotten {
                break;
            }
            world.act(act);
        }
        world.bench.release(Ok(()));
        // G4: whenever the group is stable or empty, a load gives the same.
        let group = &world.bench.group;
        if matches!(group.state(), State::Stable | State::Empty)
            && !world.bench.forgotten
            && !world.bench.lost_silently
        {
            let loaded = replayed(&world.bench.log, settings);
            prop_assert_eq!(durable(group), durable(&loaded));
        }
        // G3: after every timer has run out, nobody waits.
        world.bench.advance(3_600_000);
        for token in &world.asked {
            prop_assert!(world.bench.answers.contains_key(token), "token {} is lost", token);
        }
        prop_assert!(matches!(world.bench.group.state(), State::Empty | State::Dead));
    }
}
