//! Listeners and connections over real sockets.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::time::timeout;

use super::out::Out;
use super::*;
use crate::log::FileRegion;

/// Says its frames back; some first bytes mean something else.
#[derive(Default)]
struct Echo {
    /// Holds back frames that start with `w` (abandonable) or `W`.
    release: Notify,
    waiting: AtomicUsize,
    finished: AtomicUsize,
    file: Option<FileRegion>,
}

impl Handler for Echo {
    type Connection = usize;

    fn connect(&self, _: &Peer) -> usize {
        0
    }

    async fn handle(&self, handled: &mut usize, _: &Peer, frame: &[u8]) -> Outcome {
        *handled += 1;
        match frame.first() {
            Some(b'w' | b'W') => {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                let _dropped = CountDown(&self.waiting);
                self.release.notified().await;
                self.finished.fetch_add(1, Ordering::SeqCst);
            }
            Some(b's') => return Outcome::Silent,
            Some(b'c') => return Outcome::Close("asked to".to_owned()),
            Some(b'p') => panic!("asked to"),
            Some(b'f') => {
                let region = self.file.clone().expect("a test with a file");
                let mut out = Out::new(false, 0);
                out.raw(b"head");
                out.region(region);
                out.raw(b"tail");
                return Outcome::Respond(out.finish());
            }
            _ => {}
        }
        Outcome::Respond(Vec::from(frame).into())
    }

    fn is_abandonable(&self, frame: &[u8]) -> bool {
        frame.first() == Some(&b'w')
    }
}

struct CountDown<'a>(&'a AtomicUsize);

impl Drop for CountDown<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Server {
    address: SocketAddr,
    handler: Arc<Echo>,
    connections: Arc<Connections>,
    limits: watch::Sender<Arc<Limits>>,
}

fn serve(handler: Echo, limits: Limits) -> Server {
    let listener = Listener::bind("PLAINTEXT", Some("127.0.0.1"), 0, &limits).unwrap();
    let address = listener.local_addr();
    let handler = Arc::new(handler);
    let connections = Connections::new();
    let (sender, limits) = watch::channel(Arc::new(limits));
    listener
        .accept(Arc::clone(&handler), limits, &connections)
        .unwrap();
    Server {
        address,
        handler,
        connections,
        limits: sender,
    }
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut out = (body.len() as i32).to_be_bytes().to_vec();
    out.extend_from_slice(body);
    out
}

async fn read_frame(stream: &mut TcpStream) -> Vec<u8> {
    let length = stream.read_i32().await.unwrap();
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await.unwrap();
    body
}

/// True when the peer has closed, by FIN or reset, within ten seconds and without a byte.
async fn closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    let read = timeout(Duration::from_secs(10), stream.read(&mut byte)).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn pipelined_frames_are_answered_in_order_and_silent_ones_skipped() {
    let server = serve(Echo::default(), Limits::default());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let mut bytes = Vec::new();
    for index in 0..200_u32 {
        bytes.extend(frame(&index.to_be_bytes()));
        bytes.extend(frame(b"s"));
    }
    // The last frame comes in two pieces, cut in its length.
    let (now, later) = bytes.split_at(bytes.len() - 3);
    stream.write_all(now).await.unwrap();
    for index in 0..200_u32 {
        assert_eq!(read_frame(&mut stream).await, index.to_be_bytes());
    }
    stream.write_all(later).await.unwrap();
    stream.write_all(&frame(b"end")).await.unwrap();
    assert_eq!(read_frame(&mut stream).await, b"end");
}

#[tokio::test]
async fn large_frames_arrive_whole() {
    let server = serve(Echo::default(), Limits::default());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for size in [4095, 4096, 70_000, 3_000_000] {
        let body: Vec<u8> = (0..size).map(|i: u32| (i % 251) as u8).collect();
        let (mut read, mut write) = stream.split();
        let sent = frame(&body);
        let (written, answer) = tokio::join!(write.write_all(&sent), async {
            let length = read.read_i32().await.unwrap();
            let mut answer = vec![0; length as usize];
            read.read_exact(&mut answer).await.unwrap();
            answer
        });
        written.unwrap();
        assert!(answer == body, "{size}");
    }
}

#[tokio::test]
async fn file_regions_go_out_between_their_bytes() {
    let content: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&content).unwrap();
    let file = Arc::new(file);
    for (position, len) in [(0, 3_000_000), (17, 8192), (5, 100), (2_999_999, 1)] {
        let handler = Echo {
            file: Some(FileRegion {
                file: Arc::clone(&file),
                position: position as u64,
                len,
            }),
            ..Echo::default()
        };
        let server = serve(handler, Limits::default());
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&frame(b"f")).await.unwrap();
        stream.write_all(&frame(b"next")).await.unwrap();
        let answer = read_frame(&mut stream).await;
        let length = (len as i32).to_be_bytes();
        let expected = [
            b"head",
            &length[..],
            &content[position..position + len],
            b"tail",
        ]
        .concat();
        assert!(answer == expected, "{position} {len}");
        assert_eq!(read_frame(&mut stream).await, b"next");
    }
}

#[tokio::test]
async fn a_truncated_file_closes_the_connection() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(20_000).unwrap();
    let handler = Echo {
        file: Some(FileRegion {
            file: Arc::new(file),
            position: 0,
            len: 30_000,
        }),
        ..Echo::default()
    };
    let server = serve(handler, Limits::default());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&frame(b"f")).await.unwrap();
    let mut answer = Vec::new();
    timeout(Duration::from_secs(10), stream.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer.len(), 4 + 8 + 20_000);
}

#[tokio::test]
async fn answers_before_a_waiting_request_are_sent_at_once() {
    let server = serve(Echo::default(), Limits::default());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let bytes = [frame(b"a"), frame(b"W1"), frame(b"b")].concat();
    stream.write_all(&bytes).await.unwrap();
    assert_eq!(read_frame(&mut stream).await, b"a");
    server.handler.release.notify_one();
    assert_eq!(read_frame(&mut stream).await, b"W1");
    assert_eq!(read_frame(&mut stream).await, b"b");
}

#[tokio::test]
async fn a_peer_that_leaves_ends_a_long_poll_but_not_a_change() {
    let server = serve(Echo::default(), Limits::default());
    let handler = &server.handler;
    let mut poll = TcpStream::connect(server.address).await.unwrap();
    // What follows the poll unread does not hide the end.
    let bytes = [frame(b"w"), frame(b"more")].concat();
    poll.write_all(&bytes).await.unwrap();
    let mut change = TcpStream::connect(server.address).await.unwrap();
    change.write_all(&frame(b"W")).await.unwrap();
    until("both wait", || handler.waiting.load(Ordering::SeqCst) == 2).await;
    drop(poll);
    drop(change);
    until("the poll is dropped", || {
        handler.waiting.load(Ordering::SeqCst) == 1
    })
    .await;
    handler.release.notify_one();
    until("the change is finished", || {
        handler.finished.load(Ordering::SeqCst) == 1
    })
    .await;
    until("both are gone", || server.connections.count() == 0).await;
}

#[tokio::test]
async fn a_panic_ends_one_connection_and_no_other() {
    let server = serve(Echo::default(), Limits::default());
    let mut other = TcpStream::connect(server.address).await.unwrap();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&frame(b"p")).await.unwrap();
    assert!(closed(&mut stream).await);
    other.write_all(&frame(b"x")).await.unwrap();
    assert_eq!(read_frame(&mut other).await, b"x");
    until("it is not counted", || server.connections.count() == 1).await;
}

#[tokio::test]
async fn a_refused_request_closes_after_the_answers_before_it() {
    let server = serve(Echo::default(), Limits::default());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let bytes = [frame(b"a"), frame(b"c"), frame(b"never")].concat();
    stream.write_all(&bytes).await.unwrap();
    assert_eq!(read_frame(&mut stream).await, b"a");
    assert!(closed(&mut stream).await);
}

#[tokio::test]
async fn hostile_lengths_close_at_once() {
    let server = serve(Echo::default(), Limits::default());
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff, 0xff, 0xff, 0xff],
        &[0x16, 3, 1, 2, 0],
        &[0x06, 0x40, 0, 1],
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        assert!(closed(&mut stream).await, "{bytes:?}");
    }
}

#[tokio::test]
async fn a_frame_that_does_not_come_closes_at_its_deadline() {
    let limits = Limits {
        frame_deadline: Duration::from_millis(100),
        ..Limits::default()
    };
    let server = serve(Echo::default(), limits);
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    silent.write_all(&[0, 0, 1, 0]).await.unwrap();
    let mut half_a_length = TcpStream::connect(server.address).await.unwrap();
    half_a_length.write_all(&[0]).await.unwrap();
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    assert!(closed(&mut silent).await);
    assert!(closed(&mut half_a_length).await);
    // Nothing was begun, nothing is due.
    idle.write_all(&frame(b"x")).await.unwrap();
    assert_eq!(read_frame(&mut idle).await, b"x");
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let limits = Limits {
        max_idle: Some(Duration::from_millis(300)),
        ..Limits::default()
    };
    let server = serve(Echo::default(), limits);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&frame(b"x")).await.unwrap();
    assert_eq!(read_frame(&mut stream).await, b"x");
    let began = tokio::time::Instant::now();
    assert!(closed(&mut stream).await);
    assert!(began.elapsed() >= Duration::from_millis(250));
}

#[tokio::test]
async fn connections_above_the_limit_of_an_address_are_closed() {
    let limits = Limits {
        max_connections_per_ip: 1,
        max_connections_per_ip_overrides: [(Ipv4Addr::new(127, 0, 0, 2).into(), 0)].into(),
        ..Limits::default()
    };
    let server = serve(Echo::default(), limits);
    let mut first = TcpStream::connect(server.address).await.unwrap();
    first.write_all(&frame(b"x")).await.unwrap();
    assert_eq!(read_frame(&mut first).await, b"x");
    let mut second = TcpStream::connect(server.address).await.unwrap();
    assert!(closed(&mut second).await);
    drop(first);
    until("the first is gone", || server.connections.count() == 0).await;
    let mut third = TcpStream::connect(server.address).await.unwrap();
    third.write_all(&frame(b"x")).await.unwrap();
    assert_eq!(read_frame(&mut third).await, b"x");
}

#[tokio::test]
async fn a_full_broker_accepts_when_a_connection_has_gone() {
    let limits = Limits {
        max_connections: 1,
        ..Limits::default()
    };
    let server = serve(Echo::default(), limits);
    let mut first = TcpStream::connect(server.address).await.unwrap();
    first.write_all(&frame(b"x")).await.unwrap();
    assert_eq!(read_frame(&mut first).await, b"x");
    let mut second = TcpStream::connect(server.address).await.unwrap();
    second.write_all(&frame(b"y")).await.unwrap();
    let early = timeout(Duration::from_millis(100), second.read_u8()).await;
    assert!(early.is_err());
    drop(first);
    assert_eq!(read_frame(&mut second).await, b"y");
}

#[tokio::test]
async fn a_full_broker_accepts_when_its_limit_is_raised() {
    let server = serve(
        Echo::default(),
        Limits {
            max_connections: 0,
            ..Limits::default()
        },
    );
    let mut client = TcpStream::connect(server.address).await.unwrap();
    client.write_all(&frame(b"x")).await.unwrap();
    let early = timeout(Duration::from_millis(100), client.read_u8()).await;
    assert!(early.is_err());
    server.limits.send_replace(Arc::new(Limits::default()));
    assert_eq!(read_frame(&mut client).await, b"x");
}

#[tokio::test]
async fn nobody_connects_before_accept_and_nothing_is_left_after_stop() {
    let listener = Listener::bind("PLAINTEXT", Some("127.0.0.1"), 0, &Limits::default()).unwrap();
    let address = listener.local_addr();
    assert_ne!(address.port(), 0);
    let early = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(early.kind(), std::io::ErrorKind::ConnectionRefused);

    let handler = Arc::new(Echo::default());
    let connections = Connections::new();
    listener
        .accept(
            Arc::clone(&handler),
            watch::channel(Arc::new(Limits::default())).1,
            &connections,
        )
        .unwrap();
    let mut idle = TcpStream::connect(address).await.unwrap();
    let mut change = TcpStream::connect(address).await.unwrap();
    change.write_all(&frame(b"W")).await.unwrap();
    until("it waits", || handler.waiting.load(Ordering::SeqCst) == 1).await;
    let (_, answer) = tokio::join!(connections.stop(), async {
        assert!(closed(&mut idle).await);
        handler.release.notify_one();
        read_frame(&mut change).await
    });
    assert_eq!(answer, b"W");
    assert_eq!(connections.count(), 0);
    assert!(TcpStream::connect(address).await.is_err());
}
