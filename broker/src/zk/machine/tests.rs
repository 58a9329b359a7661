use proptest::prelude::*;

use super::*;

/// A machine with an open session.
fn machine() -> (Machine, SessionId) {
    let mut machine = Machine::new();
    let session = open(&mut machine);
    (machine, session)
}

fn open(machine: &mut Machine) -> SessionId {
    machine
        .apply(&Command::Open, 0, &mut Vec::new())
        .expect("a session opens");
    machine.zxid()
}

fn create_op(path: &str, mode: CreateMode) -> Op {
    Op::Create {
        path: path.to_owned(),
        data: Bytes::from_static(b"data"),
        mode,
    }
}

fn set_op(path: &str, version: Option<i32>) -> Op {
    Op::Set {
        path: path.to_owned(),
        data: Bytes::from_static(b"more"),
        version,
    }
}

fn delete_op(path: &str, version: Option<i32>) -> Op {
    Op::Delete {
        path: path.to_owned(),
        version,
    }
}

fn write(machine: &mut Machine, session: SessionId, op: Op) -> Result<Applied, Error> {
    let applied = machine
        .apply(&Command::Write(session, vec![op]), 7, &mut Vec::new())
        .map_err(|error| error.error)?;
    Ok(applied.into_iter().next().expect("one answer"))
}

fn create(machine: &mut Machine, session: SessionId, path: &str, mode: CreateMode) -> String {
    match write(machine, session, create_op(path, mode)) {
        Ok(Applied::Create(path, _)) => path,
        other => panic!("create of {path}: {other:?}"),
    }
}

#[test]
fn refusals_come_in_the_order_of_zookeeper() {
    let (mut machine, session) = machine();
    create(&mut machine, session, "/a", CreateMode::Persistent);
    create(&mut machine, session, "/a/b", CreateMode::Ephemeral);
    let mut check = |op: Op, expected: &str| {
        let error = write(&mut machine, session, op).expect_err(expected);
        assert_eq!(error.to_string(), expected);
    };
    check(
        create_op("/x/y", CreateMode::Persistent),
        "/x/y: no such node",
    );
    check(create_op("/a", CreateMode::Persistent), "/a: node exists");
    check(
        create_op("/a/b/c", CreateMode::Persistent),
        "/a/b/c: ephemeral nodes have no children",
    );
    check(set_op("/x", Some(3)), "/x: no such node");
    check(set_op("/a", Some(3)), "/a: version is not the expected one");
    check(
        delete_op("/a", Some(3)),
        "/a: version is not the expected one",
    );
    check(delete_op("/a", Some(0)), "/a: has children");
    check(delete_op("/", None), "/: not a valid path");
    for bad in [
        "",
        "a",
        "/a/",
        "//a",
        "/a//b",
        "/.",
        "/a/../b",
        "/\u{1}",
        "/\u{10000}",
    ] {
        check(
            create_op(bad, CreateMode::Persistent),
            &format!("{bad}: not a valid path"),
        );
    }
}

#[test]
fn sequence_counts_creations_and_cversion_changes() {
    let (mut machine, session) = machine();
    create(&mut machine, session, "/s", CreateMode::Persistent);
    let sequential = CreateMode::PersistentSequential;
    assert_eq!(
        create(&mut machine, session, "/s/n_", sequential),
        "/s/n_0000000000"
    );
    assert_eq!(
        create(&mut machine, session, "/s/", sequential),
        "/s/0000000001"
    );
    write(&mut machine, session, delete_op("/s/0000000001", None)).expect("deleted");
    assert_eq!(
        create(&mut machine, session, "/s/n_", sequential),
        "/s/n_0000000002"
    );
    let (_, stat) = machine.get("/s").expect("there");
    assert_eq!((stat.cversion, stat.num_children), (4, 2));
}

#[test]
fn multi_is_all_or_nothing_with_one_zxid() {
    let (mut machine, session) = machine();
    create(&mut machine, session, "/a", CreateMode::Persistent);
    create(&mut machine, session, "/gone", CreateMode::Ephemeral);
    let before: Vec<_> = machine.images().collect();
    let zxid = machine.zxid();
    let ops = vec![
        create_op("/a/b", CreateMode::PersistentSequential),
        set_op("/a", Some(0)),
        delete_op("/gone", None),
        create_op("/e", CreateMode::Ephemeral),
        Op::Check {
            path: "/a".to_owned(),
            version: 0,
        },
    ];
    let mut fired = Vec::new();
    let watch = machine.watch(session, WatchKind::Data, "/a");
    let error = machine
        .apply(&Command::Write(session, ops.clone()), 9, &mut fired)
        .expect_err("the check sees the version the multi set");
    assert_eq!(error.index, Some(4));
    assert_eq!(machine.images().collect::<Vec<_>>(), before);
    assert_eq!((machine.zxid(), fired.len()), (zxid, 0));
    // The ephemerals are with their session again: closing takes exactly `/gone`.
    let applied = machine
        .apply(&Command::Write(session, ops[..4].to_vec()), 9, &mut fired)
        .expect("applies without the check");
    assert_eq!(machine.zxid(), zxid + 1);
    assert_eq!(
        fired,
        [Fired {
            watch,
            event: WatchEvent::DataChanged
        }]
    );
    let Some(Applied::Create(path, stat)) = applied.first() else {
        panic!("{applied:?}");
    };
    assert_eq!((path.as_str(), stat.czxid), ("/a/b0000000000", zxid + 1));
}

#[test]
fn broker_registration_takes_its_epoch_from_the_set_of_the_same_multi() {
    let (mut machine, session) = machine();
    let ops = vec![
        Op::Create {
            path: "/1".to_owned(),
            data: Bytes::new(),
            mode: CreateMode::Ephemeral,
        },
        set_op("/1", Some(0)),
    ];
    let applied = machine
        .apply(&Command::Write(session, ops), 0, &mut Vec::new())
        .expect("registers");
    let Some(Applied::Set(stat)) = applied.last() else {
        panic!("{applied:?}");
    };
    assert_eq!((stat.czxid, stat.version), (machine.zxid(), 1));
    assert_eq!(stat.ephemeral_owner, session);
}

#[test]
fn watches_fire_once_in_the_order_of_zookeeper() {
    let (mut machine, session) = machine();
    let created = machine.watch(session, WatchKind::Data, "/a");
    let below_root = machine.watch(session, WatchKind::Children, "/");
    let mut fired = Vec::new();
    let mut run = |machine: &mut Machine, op| {
        fired.clear();
        machine
            .apply(&Command::Write(session, vec![op]), 0, &mut fired)
            .expect("applies");
        fired.iter().map(|f| (f.watch, f.event)).collect::<Vec<_>>()
    };
    assert_eq!(
        run(&mut machine, create_op("/a", CreateMode::Persistent)),
        [
            (created, WatchEvent::Created),
            (below_root, WatchEvent::ChildrenChanged)
        ]
    );
    assert_eq!(run(&mut machine, set_op("/a", None)), []);
    let data = machine.watch(session, WatchKind::Data, "/a");
    let children = machine.watch(session, WatchKind::Children, "/a");
    let below_root = machine.watch(session, WatchKind::Children, "/");
    assert_eq!(
        run(&mut machine, create_op("/a/b", CreateMode::Persistent)),
        [(children, WatchEvent::ChildrenChanged)]
    );
    let children = machine.watch(session, WatchKind::Children, "/a");
    assert_eq!(
        run(&mut machine, delete_op("/a/b", None)),
        [(children, WatchEvent::ChildrenChanged)]
    );
    let children = machine.watch(session, WatchKind::Children, "/a");
    assert_eq!(
        run(&mut machine, delete_op("/a", None)),
        [
            (data, WatchEvent::Deleted),
            (children, WatchEvent::Deleted),
            (below_root, WatchEvent::ChildrenChanged),
        ]
    );
}

#[test]
fn closing_a_session_takes_its_ephemerals_and_watches() {
    let (mut machine, first) = machine();
    let second = open(&mut machine);
    create(&mut machine, first, "/e", CreateMode::Ephemeral);
    create(&mut machine, second, "/other", CreateMode::Ephemeral);
    let own = machine.watch(first, WatchKind::Data, "/e");
    let foreign = machine.watch(second, WatchKind::Data, "/e");
    let mut fired = Vec::new();
    machine
        .apply(&Command::Close(first), 0, &mut fired)
        .expect("closes");
    assert_eq!(
        fired,
        [
            Fired {
                watch: own,
                event: WatchEvent::Lost
            },
            Fired {
                watch: foreign,
                event: WatchEvent::Deleted
            },
        ]
    );
    assert_eq!(machine.exists("/e"), Ok(None));
    assert!(machine.exists("/other").expect("a path").is_some());
    let error = write(&mut machine, first, create_op("/e", CreateMode::Ephemeral));
    assert_eq!(error, Err(Error::SessionExpired));
}

/// What a tree must be after commands: a flat map, checked with the rules written out naively.
#[derive(Default)]
struct Model(BTreeMap<String, (i32, SessionId)>);

impl Model {
    fn apply(&mut self, session: SessionId, op: &Op) -> bool {
        let parent = |path: &str| split(path).0.to_owned();
        match op {
            Op::Check { path, version } => self.0.get(path).is_some_and(|node| node.0 == *version),
            Op::Create { path, mode, .. } => {
                let below = parent(path);
                let fits = below == "/" || self.0.get(&below).is_some_and(|node| node.1 == 0);
                let owner = if *mode == CreateMode::Ephemeral {
                    session
                } else {
                    0
                };
                fits && !self.0.contains_key(path)
                    && self.0.insert(path.clone(), (0, owner)).is_none()
            }
            Op::Set { path, version, .. } => match self.0.get_mut(path) {
                Some(node) if version.is_none_or(|version| version == node.0) => {
                    node.0 += 1;
                    true
                }
                _ => false,
            },
            Op::Delete { path, version } => match self.0.get(path) {
                Some(node)
                    if version.is_none_or(|version| version == node.0)
                        && !self.0.keys().any(|other| parent(other) == *path) =>
                {
                    self.0.remove(path).is_some()
                }
                _ => false,
            },
        }
    }
}

fn any_op() -> impl Strategy<Value = Op> {
    let path = prop::sample::select(vec!["/a", "/b", "/a/a", "/a/b", "/b/a", "/a/a/a"]);
    let version = prop::option::of(0..2i32);
    (path, version, 0..5u8).prop_map(|(path, version, kind)| match kind {
        0 => Op::Check {
            path: path.to_owned(),
            version: version.unwrap_or(0),
        },
        1 => set_op(path, version),
        2 => delete_op(path, version),
        3 => create_op(path, CreateMode::Ephemeral),
        _ => create_op(path, CreateMode::Persistent),
    })
}

proptest! {
    #[test]
    fn machine_does_what_a_naive_model_does(
        steps in prop::collection::vec((prop::collection::vec(any_op(), 1..4), 0..2usize, 0..12u8), 1..60)
    ) {
        let mut machine = Machine::new();
        let mut sessions = [open(&mut machine), open(&mut machine)];
        let mut model = Model::default();
        for (ops, which, close) in steps {
            if close == 0 {
                machine.apply(&Command::Close(sessions[which]), 0, &mut Vec::new()).unwrap();
                model.0.retain(|_, node| node.1 != sessions[which]);
                sessions[which] = open(&mut machine);
            }
            let session = sessions[which];
            let mut tried = Model(model.0.clone());
            let fits = ops.iter().all(|op| tried.apply(session, op));
            let result = machine.apply(&Command::Write(session, ops), 0, &mut Vec::new());
            prop_assert_eq!(result.is_ok(), fits);
            if fits {
                model = tried;
            }
            let nodes: BTreeMap<_, _> = machine
                .images()
                .filter(|node| node.path != "/")
                .map(|node| (node.path, (node.version, node.owner)))
                .collect();
            prop_assert_eq!(&nodes, &model.0);
            // Z3, and the snapshot holds everything.
            let copy = Machine::restore(machine.zxid(), machine.sessions(), machine.images());
            let copy = copy.expect("a snapshot restores");
            prop_assert_eq!(&copy.nodes, &machine.nodes);
            prop_assert_eq!(&copy.sessions, &machine.sessions);
        }
    }
}
