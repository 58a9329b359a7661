//! One suite for both coordination stores: what holds of a real ZooKeeper holds of the embedded
//! store. Then what only a server can do: go away, come back, expire a session.

#![expect(clippy::unwrap_used, reason = "test code outside of test functions")]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ottla::clock::SystemClock;
use ottla::cluster::image::Endpoint;
use ottla::zk::connect::ConnectString;
use ottla::zk::data::BrokerRegistration;
use ottla::zk::embedded::Embedded;
use ottla::zk::ensemble::{Ensemble, EnsembleConfig};
use ottla::zk::session::{Registrar, cluster_id, create_persistent_paths, ensure_path};
use ottla::zk::{CreateMode, Error, Op, OpResult, SessionState, Store, WatchEvent};
use protocol_tests::zookeeper::ZooKeeper;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const PATIENCE: Duration = Duration::from_secs(30);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

fn data(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn config(server: &str, session_timeout: Duration) -> EnsembleConfig {
    EnsembleConfig {
        connect: ConnectString::parse(server).unwrap(),
        session_timeout,
        connection_timeout: PATIENCE,
    }
}

/// An ensemble below a chroot of its own.
async fn ensemble(server: &ZooKeeper, chroot: &str) -> Ensemble {
    let connect = format!("{}/{chroot}", server.connect_string());
    let config = config(&connect, Duration::from_secs(6));
    Ensemble::connect(config).await.unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Every test of the suite, with two sessions of an empty store.
async fn suite<S: Store, F: Future<Output = (S, S)>>(mut stores: impl FnMut(&'static str) -> F) {
    macro_rules! run {
        ($($test:ident),+ $(,)?) => {$(
            let (a, b) = stores(stringify!($test)).await;
            soon(stringify!($test), $test(&a, &b)).await;
            a.close().await;
            b.close().await;
        )+};
    }
    run!(
        nodes_have_versions,
        many_nodes_are_read_in_the_order_asked,
        refusals_name_the_path,
        sequences_count_up,
        multi_is_all_or_nothing,
        ephemerals_end_with_their_session,
        data_watches_fire_once,
        children_watches_fire_once,
        watches_end_with_their_session,
        calls_take_effect_in_their_order,
        start_up_and_registration,
    );
}

async fn nodes_have_versions(a: &impl Store, b: &impl Store) {
    let (path, created) = a
        .create("/n", data("1"), CreateMode::Persistent)
        .await
        .unwrap();
    assert_eq!(
        (path.as_str(), created.version, created.ephemeral_owner),
        ("/n", 0, 0)
    );
    assert_eq!(created.czxid, created.mzxid);
    assert_eq!(b.get("/n").await.unwrap(), (data("1"), created));
    let set = b.set("/n", data("22"), Some(0)).await.unwrap();
    assert_eq!((set.version, set.czxid), (1, created.czxid));
    assert!(set.mzxid > created.mzxid);
    a.set("/n", Bytes::new(), None).await.unwrap();
    let (content, stat) = a.get("/n").await.unwrap();
    assert_eq!((content.len(), stat.version), (0, 2));
    a.create("/n/b", data(""), CreateMode::Persistent)
        .await
        .unwrap();
    a.create("/n/a", data(""), CreateMode::Persistent)
        .await
        .unwrap();
    a.delete("/n/b", Some(0)).await.unwrap();
    let stat = a.exists("/n").await.unwrap().unwrap();
    assert_eq!((stat.version, stat.cversion, stat.num_children), (2, 3, 1));
    assert_eq!(a.children("/n").await.unwrap(), ["a"]);
    assert_eq!(a.exists("/other").await, Ok(None));
}

async fn many_nodes_are_read_in_the_order_asked(a: &impl Store, b: &impl Store) {
    assert_eq!(a.get_many(Vec::new()).await, Ok(Vec::new()));
    // More than one request of ours takes; every third is not there.
    let paths: Vec<String> = (0..1000).map(|n| format!("/m{n}")).collect();
    let creations: Vec<_> = paths
        .iter()
        .enumerate()
        .filter(|(n, _)| n % 3 != 0)
        .map(|(_, path)| a.create(path, Bytes::from(path.clone()), CreateMode::Persistent))
        .collect();
    let mut stats = Vec::new();
    for creation in creations {
        stats.push(creation.await.unwrap().1);
    }
    let mut stats = stats.into_iter();
    let expected: Vec<_> = paths
        .iter()
        .enumerate()
        .map(|(n, path)| (n % 3 != 0).then(|| (Bytes::from(path.clone()), stats.next().unwrap())))
        .collect();
    // The other session may be on a server that is behind.
    assert_eq!(a.get_many(paths.clone()).await, Ok(expected));
    assert_eq!(b.get_many(vec!["/m0".to_owned()]).await, Ok(vec![None]));
    let mut wrong = paths;
    wrong[500] = "no/path".to_owned();
    let refused = Error::InvalidPath {
        path: "no/path".to_owned(),
    };
    assert_eq!(a.get_many(wrong).await, Err(refused));
}

async fn refusals_name_the_path(a: &impl Store, _: &impl Store) {
    let persistent = CreateMode::Persistent;
    a.create("/p", data(""), persistent).await.unwrap();
    a.create("/p/e", data(""), CreateMode::Ephemeral)
        .await
        .unwrap();
    let path = |path: &str| path.to_owned();
    assert_eq!(a.get("/x").await, Err(Error::NoNode { path: path("/x") }));
    assert_eq!(
        a.children("/x").await,
        Err(Error::NoNode { path: path("/x") })
    );
    assert!(matches!(
        a.get_and_watch("/x").await,
        Err(Error::NoNode { .. })
    ));
    let create = |path: &'static str| async move {
        a.create(path, data(""), persistent)
            .await
            .map(|_| ())
            .unwrap_err()
    };
    assert_eq!(create("/p").await, Error::NodeExists { path: path("/p") });
    assert_eq!(create("/x/y").await, Error::NoNode { path: path("/x/y") });
    assert_eq!(
        create("/p/e/c").await,
        Error::NoChildrenForEphemerals {
            path: path("/p/e/c")
        }
    );
    for bad in ["", "p", "/p/", "//p", "/p/../q"] {
        assert_eq!(create(bad).await, Error::InvalidPath { path: path(bad) });
    }
    assert_eq!(
        a.set("/p", data(""), Some(9)).await,
        Err(Error::BadVersion { path: path("/p") })
    );
    assert_eq!(
        a.delete("/p", Some(9)).await,
        Err(Error::BadVersion { path: path("/p") })
    );
    assert_eq!(
        a.delete("/p", None).await,
        Err(Error::NotEmpty { path: path("/p") })
    );
    assert_eq!(
        a.delete("/x", None).await,
        Err(Error::NoNode { path: path("/x") })
    );
}

async fn sequences_count_up(a: &impl Store, b: &impl Store) {
    let sequential = CreateMode::PersistentSequential;
    a.create("/s", data(""), CreateMode::Persistent)
        .await
        .unwrap();
    let (first, stat) = a.create("/s/n_", data("x"), sequential).await.unwrap();
    assert_eq!((first.as_str(), stat.version), ("/s/n_0000000000", 0));
    a.delete(&first, None).await.unwrap();
    a.create("/s/other", data(""), CreateMode::Persistent)
        .await
        .unwrap();
    let (next, _) = b.create("/s/n_", data(""), sequential).await.unwrap();
    assert_eq!(next, "/s/n_0000000002");
    let op = Op::Create {
        path: "/s/n_".to_owned(),
        data: data(""),
        mode: sequential,
    };
    let results = a.multi(vec![op.clone(), op]).await.unwrap();
    let created = |path: &str| OpResult::Create(path.to_owned());
    assert_eq!(
        results,
        [created("/s/n_0000000003"), created("/s/n_0000000004")]
    );
}

async fn multi_is_all_or_nothing(a: &impl Store, b: &impl Store) {
    let persistent = CreateMode::Persistent;
    a.create("/epoch", data("1"), persistent).await.unwrap();
    a.create("/old", data(""), persistent).await.unwrap();
    let ops = |version| {
        vec![
            Op::Check {
                path: "/epoch".to_owned(),
                version,
            },
            Op::Create {
                path: "/new".to_owned(),
                data: data("n"),
                mode: persistent,
            },
            Op::Set {
                path: "/new".to_owned(),
                data: data("m"),
                version: Some(0),
            },
            Op::Delete {
                path: "/old".to_owned(),
                version: None,
            },
        ]
    };
    let error = a.multi(ops(1)).await.unwrap_err();
    assert_eq!(
        (error.index, error.error),
        (
            Some(0),
            Error::BadVersion {
                path: "/epoch".to_owned()
            }
        )
    );
    let mut failing = ops(0);
    failing.push(Op::Set {
        path: "/none".to_owned(),
        data: data(""),
        version: None,
    });
    let error = a.multi(failing).await.unwrap_err();
    assert_eq!(
        (error.index, error.error),
        (
            Some(4),
            Error::NoNode {
                path: "/none".to_owned()
            }
        )
    );
    assert_eq!(b.exists("/new").await, Ok(None));
    assert!(b.exists("/old").await.unwrap().is_some());
    let results = a.multi(ops(0)).await.unwrap();
    let Some(OpResult::Set(stat)) = results.get(2) else {
        panic!("{results:?}");
    };
    // One zxid for the whole: the stat of the set has the czxid of the create.
    assert_eq!((stat.version, stat.czxid), (1, stat.mzxid));
    assert_eq!(b.get("/new").await.unwrap(), (data("m"), *stat));
    assert_eq!(b.exists("/old").await, Ok(None));
    assert_eq!(a.multi(Vec::new()).await, Ok(Vec::new()));
}

async fn ephemerals_end_with_their_session(a: &impl Store, b: &impl Store) {
    let (_, stat) = a
        .create("/e", data(""), CreateMode::Ephemeral)
        .await
        .unwrap();
    assert_eq!(stat.ephemeral_owner, a.session_id());
    assert_ne!(a.session_id(), b.session_id());
    let (_, _, gone) = b.get_and_watch("/e").await.unwrap();
    a.close().await;
    assert_eq!(gone.await, Ok(WatchEvent::Deleted));
    assert_eq!(b.exists("/e").await, Ok(None));
    assert_eq!(a.exists("/e").await, Err(Error::Closed));
    assert_eq!(*a.session_states().borrow(), SessionState::Closed);
}

async fn data_watches_fire_once(a: &impl Store, b: &impl Store) {
    let (none, created) = b.exists_and_watch("/w").await.unwrap();
    assert_eq!(none, None);
    a.create("/w", data("1"), CreateMode::Persistent)
        .await
        .unwrap();
    assert_eq!(created.await, Ok(WatchEvent::Created));
    let (content, _, changed) = b.get_and_watch("/w").await.unwrap();
    assert_eq!(content, data("1"));
    // A child is no change of the node.
    a.create("/w/c", data(""), CreateMode::Persistent)
        .await
        .unwrap();
    a.delete("/w/c", None).await.unwrap();
    a.set("/w", data("2"), None).await.unwrap();
    a.set("/w", data("3"), None).await.unwrap();
    assert_eq!(changed.await, Ok(WatchEvent::DataChanged));
    let (_, deleted) = b.exists_and_watch("/w").await.unwrap();
    let (_, _, deleted_too) = b.get_and_watch("/w").await.unwrap();
    a.delete("/w", None).await.unwrap();
    assert_eq!(deleted.await, Ok(WatchEvent::Deleted));
    assert_eq!(deleted_too.await, Ok(WatchEvent::Deleted));
}

async fn children_watches_fire_once(a: &impl Store, b: &impl Store) {
    a.create("/w", data(""), CreateMode::Persistent)
        .await
        .unwrap();
    let (names, changed) = b.children_and_watch("/w").await.unwrap();
    assert!(names.is_empty());
    // New data is no change of the children.
    a.set("/w", data("1"), None).await.unwrap();
    a.create("/w/c", data(""), CreateMode::Persistent)
        .await
        .unwrap();
    assert_eq!(changed.await, Ok(WatchEvent::ChildrenChanged));
    let (names, changed) = b.children_and_watch("/w").await.unwrap();
    assert_eq!(names, ["c"]);
    a.delete("/w/c", None).await.unwrap();
    assert_eq!(changed.await, Ok(WatchEvent::ChildrenChanged));
    let (_, deleted) = b.children_and_watch("/w").await.unwrap();
    a.delete("/w", None).await.unwrap();
    assert_eq!(deleted.await, Ok(WatchEvent::Deleted));
}

async fn watches_end_with_their_session(a: &impl Store, _: &impl Store) {
    let (_, watch) = a.exists_and_watch("/never").await.unwrap();
    a.close().await;
    assert!(matches!(watch.await, Ok(WatchEvent::Lost) | Err(_)));
}

async fn calls_take_effect_in_their_order(a: &impl Store, _: &impl Store) {
    a.create("/o", data(""), CreateMode::Persistent)
        .await
        .unwrap();
    // Awaited in the opposite order of the calls.
    let mut calls = Vec::new();
    for version in 0..50 {
        calls.push(a.set("/o", data("x"), Some(version)));
    }
    let last = a.get("/o");
    assert_eq!(last.await.unwrap().1.version, 50);
    for (call, version) in calls.into_iter().rev().zip((1..=50).rev()) {
        assert_eq!(call.await.unwrap().version, version);
    }
}

async fn start_up_and_registration(a: &impl Store, b: &impl Store) {
    create_persistent_paths(a).await.unwrap();
    create_persistent_paths(b).await.unwrap();
    let (first, second) = tokio::join!(cluster_id(a), cluster_id(b));
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(
        a.children("/brokers").await.unwrap(),
        ["ids", "seqid", "topics"]
    );
}

fn registration(port: i32) -> BrokerRegistration {
    let endpoint = Endpoint {
        listener: "PLAINTEXT".to_owned(),
        security_protocol: 0,
        host: "localhost".to_owned(),
        port,
    };
    BrokerRegistration::new(vec![endpoint], None)
}

fn registrar(store: Arc<dyn Store>, patience: Duration) -> Registrar {
    Registrar::new(
        store,
        Arc::new(SystemClock),
        1,
        registration(9092),
        patience,
    )
}

#[test]
fn embedded_store_conforms() {
    runtime().block_on(suite(|_| async {
        let server = Embedded::in_memory(Arc::new(SystemClock));
        (server.connect(), server.connect())
    }));
}

#[test]
fn embedded_store_with_files_conforms() {
    let folder = tempfile::tempdir().unwrap();
    runtime().block_on(suite(|test| {
        let folder = folder.path().join(test);
        async move {
            let server = Embedded::open(&folder, Arc::new(SystemClock)).unwrap();
            (server.connect(), server.connect())
        }
    }));
}

#[test]
fn ensemble_conforms() {
    let Some(server) = ZooKeeper::start().unwrap() else {
        return;
    };
    runtime().block_on(suite(|test| {
        let server = &server;
        async move { (ensemble(server, test).await, ensemble(server, test).await) }
    }));
}

/// F5: the session ends, the process lives.
#[test]
fn expired_session_is_replaced_and_the_broker_registers_anew() {
    let Some(server) = ZooKeeper::start().unwrap() else {
        return;
    };
    runtime().block_on(async {
        let store = Arc::new(ensemble(&server, "expiry").await);
        create_persistent_paths(&*store).await.unwrap();
        let registrar = registrar(store.clone(), PATIENCE);
        let first_epoch = registrar.register().await.unwrap();
        let (_, watch) = store.children_and_watch("/brokers/topics").await.unwrap();
        let old = store.session_id();
        server.expire(old).unwrap();
        assert!(soon("a new session", registrar.session_lost()).await);
        assert_ne!(store.session_id(), old);
        assert!(matches!(
            soon("the watch", watch).await,
            Ok(WatchEvent::Lost) | Err(_)
        ));
        let second_epoch = soon("registration", registrar.register()).await.unwrap();
        assert!(second_epoch > first_epoch);
        let (content, stat) = store.get("/brokers/ids/1").await.unwrap();
        assert_eq!(
            (stat.czxid, stat.ephemeral_owner),
            (second_epoch, store.session_id())
        );
        assert_eq!(BrokerRegistration::decode(&content), Ok(registration(9092)));
    });
}

/// F4: the server goes away for longer than the session timeout, and comes back with its data.
#[test]
fn session_outlives_a_server_that_was_away_for_longer_than_its_timeout() {
    let Some(mut server) = ZooKeeper::start().unwrap() else {
        return;
    };
    runtime().block_on(async {
        let short = config(&server.connect_string(), Duration::from_millis(1500));
        let store = Ensemble::connect(short).await.unwrap();
        store
            .create("/e", data("mine"), CreateMode::Ephemeral)
            .await
            .unwrap();
        let (_, watch) = store.exists_and_watch("/e").await.unwrap();
        let session = store.session_id();
        let mut states = store.session_states();
        server.stop();
        let disconnected = SessionState::Disconnected {
            session_id: session,
        };
        soon(
            "disconnection",
            states.wait_for(|state| *state == disconnected),
        )
        .await
        .unwrap();
        // Asked while the server is away, answered when it is back.
        let read = store.get("/e");
        // Longer than the client of the crate waits: the watch ends with that client.
        assert!(matches!(
            soon("the watch", watch).await,
            Ok(WatchEvent::Lost) | Err(_)
        ));
        assert_eq!(*store.session_states().borrow(), disconnected);
        server.restart().unwrap();
        let connected = SessionState::Connected {
            session_id: session,
        };
        soon("connection", states.wait_for(|state| *state == connected))
            .await
            .unwrap();
        let (content, stat) = soon("the read", read).await.unwrap();
        assert_eq!((content, stat.ephemeral_owner), (data("mine"), session));
    });
}

/// A restart within the timeout: session, ephemerals and watches stay.
#[test]
fn watch_survives_a_restart_of_the_server() {
    let Some(mut server) = ZooKeeper::start().unwrap() else {
        return;
    };
    runtime().block_on(async {
        let long = config(&server.connect_string(), Duration::from_secs(20));
        let store = Ensemble::connect(long).await.unwrap();
        store
            .create("/n", data("1"), CreateMode::Persistent)
            .await
            .unwrap();
        let (_, _, watch) = store.get_and_watch("/n").await.unwrap();
        let session = store.session_id();
        server.restart().unwrap();
        let other = ensemble(&server, "").await;
        other.set("/n", data("2"), None).await.unwrap();
        assert_eq!(soon("the watch", watch).await, Ok(WatchEvent::DataChanged));
        assert_eq!(
            soon("the read", store.get("/n")).await.unwrap().0,
            data("2")
        );
        assert_eq!(store.session_id(), session);
    });
}

/// What a proxy does with a multi-read.
#[derive(Clone, Copy)]
enum MultiReads {
    /// Gives it an operation code that no server knows: the server says so and closes the connection,
    /// as one before 3.6 does.
    Unknown,
    /// Closes the connection, as a server whose `jute.maxbuffer` is less than the request.
    Refused,
}

/// Stands between a client and `server`; counts the multi-reads it meets.
async fn proxy(server: String, with: MultiReads) -> (String, Arc<AtomicUsize>) {
    const MULTI_READ: [u8; 4] = 22_i32.to_be_bytes();
    const UNKNOWN: [u8; 4] = 9999_i32.to_be_bytes();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let met = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&met);
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let (mut requests, mut to_client) = client.into_split();
            let (mut answers, mut to_server) =
                TcpStream::connect(&server).await.unwrap().into_split();
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let forward = async {
                    // Length, then xid and operation code; the first request has neither.
                    let mut first = true;
                    loop {
                        let length = requests.read_u32().await?;
                        let mut request = vec![0; length as usize];
                        requests.read_exact(&mut request).await?;
                        if !first && request[4..8] == MULTI_READ {
                            count.fetch_add(1, Ordering::SeqCst);
                            match with {
                                MultiReads::Unknown => request[4..8].copy_from_slice(&UNKNOWN),
                                MultiReads::Refused => return std::io::Result::Ok(()),
                            }
                        }
                        first = false;
                        to_server.write_u32(length).await?;
                        to_server.write_all(&request).await?;
                    }
                };
                // Either end that closes ends both.
                tokio::select! {
                    _ = forward => {}
                    _ = tokio::io::copy(&mut answers, &mut to_client) => {}
                }
            });
        }
    });
    (address, met)
}

/// Nothing is missed, and the session goes on; an old server is not asked again.
#[test]
fn where_multi_reads_fail_nodes_are_read_one_by_one() {
    let Some(server) = ZooKeeper::start().unwrap() else {
        return;
    };
    runtime().block_on(async {
        for (with, chroot, asked) in [
            (MultiReads::Unknown, "unknown", 1),
            (MultiReads::Refused, "refused", 2),
        ] {
            let (address, met) = proxy(server.connect_string(), with).await;
            let connect = format!("{address}/{chroot}");
            let store = Ensemble::connect(config(&connect, Duration::from_secs(6)))
                .await
                .unwrap();
            let session = store.session_id();
            let paths: Vec<_> = (0..1000).map(|n| format!("/n{n}")).collect();
            let none = soon(chroot, store.get_many(paths.clone())).await;
            assert_eq!(none, Ok(vec![None; 1000]));
            ensure_path(&store, "/n999").await.unwrap();
            let found = soon(chroot, store.get_many(paths)).await.unwrap();
            assert!(found[999].is_some() && found[..999] == vec![None; 999]);
            assert_eq!(met.load(Ordering::SeqCst), asked);
            assert_eq!(store.session_id(), session);
        }
    });
}

/// D12: the server is started after the broker.
#[test]
fn connects_to_a_server_that_starts_later_and_names_one_that_does_not() {
    let Some(mut server) = ZooKeeper::start().unwrap() else {
        return;
    };
    server.stop();
    runtime().block_on(async {
        let mut config = config(&server.connect_string(), Duration::from_secs(6));
        config.connection_timeout = Duration::from_millis(600);
        let error = Ensemble::connect(config.clone())
            .await
            .err()
            .unwrap()
            .to_string();
        let expected = format!("{}: Connection refused", server.connect_string());
        assert!(error.contains(&expected), "{error}");
        config.connection_timeout = PATIENCE;
        config.connect.chroot = Some("/a/b".to_owned());
        let connecting = tokio::spawn(Ensemble::connect(config));
        tokio::task::block_in_place(|| server.restart()).unwrap();
        let store = connecting.await.unwrap().unwrap();
        ensure_path(&store, "/c/d").await.unwrap();
        let root = ensemble(&server, "").await;
        assert!(root.exists("/a/b/c/d").await.unwrap().is_some());
    });
}

/// D13: a predecessor was killed; its registration lasts until its session expires.
#[test]
fn registration_waits_for_the_session_of_a_killed_predecessor() {
    let Some(server) = ZooKeeper::start().unwrap() else {
        return;
    };
    runtime().block_on(async {
        let predecessor = Arc::new(ensemble(&server, "d13").await);
        create_persistent_paths(&*predecessor).await.unwrap();
        let old = registrar(predecessor.clone(), PATIENCE)
            .register()
            .await
            .unwrap();
        let store: Arc<dyn Store> = Arc::new(ensemble(&server, "d13").await);
        let impatient = registrar(store.clone(), Duration::from_millis(300));
        let error = impatient.register().await.unwrap_err().to_string();
        assert!(error.contains("PLAINTEXT://localhost:9092"), "{error}");
        let patient = registrar(store, PATIENCE);
        let (registered, ()) = tokio::join!(patient.register(), async {
            server.expire(predecessor.session_id()).unwrap();
        });
        assert!(registered.unwrap() > old);
    });
}
