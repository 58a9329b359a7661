//! Hostile bytes against a running broker (reliability H1–H12, H33): what is answered, what closes
//! the connection, and what memory it may cost. After each the broker still serves.

#![expect(clippy::unwrap_used, reason = "test code outside of test functions")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable as _, HeaderVersion as _, Request};
use ottla::api::APIS;
use protocol_tests::each_request;
use protocol_tests::golden::{Frame, frames};
use protocol_tests::ottla::Ottla;

/// ApiVersions v0, correlation id 9, no client id.
const API_VERSIONS: [u8; 10] = [0, 18, 0, 0, 0, 0, 0, 9, 0xff, 0xff];

fn frame(body: &[u8]) -> Vec<u8> {
    let mut out = (body.len() as i32).to_be_bytes().to_vec();
    out.extend_from_slice(body);
    out
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream
}

fn read_frame(stream: &mut TcpStream) -> io::Result<Bytes> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut body = vec![0; i32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body)?;
    Ok(body.into())
}

/// Sends bytes as they are; the answer, or nothing when the broker closes instead.
fn exchange(address: SocketAddr, bytes: &[u8]) -> Option<Bytes> {
    let mut stream = connect(address);
    // The broker may close before it has taken all.
    let _ = stream.write_all(bytes);
    match read_frame(&mut stream) {
        Ok(answer) => Some(answer),
        Err(error) => {
            assert!(
                !matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ),
                "neither answered nor closed: {:02x?}",
                &bytes[..bytes.len().min(100)]
            );
            None
        }
    }
}

#[track_caller]
fn closes(broker: &Ottla, what: &str, bytes: &[u8]) {
    assert_eq!(exchange(broker.address(), bytes), None, "{what}");
    serves(broker);
}

#[track_caller]
fn serves(broker: &Ottla) {
    let answer = exchange(broker.address(), &frame(&API_VERSIONS)).expect("an answer");
    assert_eq!(&answer[..6], [0, 0, 0, 9, 0, 0]);
}

/// A request header v1 (no client id) before a body.
fn request(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut out = key.to_be_bytes().to_vec();
    out.extend(version.to_be_bytes());
    out.extend([0, 0, 0, 7, 0xff, 0xff]);
    out.extend_from_slice(body);
    frame(&out)
}

/// The same with header v2, of a flexible version.
fn flexible(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    request(key, version, &[&[0], body].concat())
}

#[test]
fn hostile_frames_close_their_connection_and_nothing_else() {
    let broker = Ottla::start(&[]).unwrap();
    // H1.
    closes(&broker, "a negative length", &[0xff; 8]);
    closes(&broker, "length 0", &[0; 4]);
    closes(
        &broker,
        "one byte over the limit",
        &104_857_601_i32.to_be_bytes(),
    );
    closes(&broker, "HTTP", b"GET / HTTP/1.1\r\nHost: kafka\r\n\r\n");
    closes(&broker, "TLS", &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]);
    // H6.
    for key in [-1, 52, 55, 71, 999, i16::MAX] {
        closes(&broker, "an unknown API", &request(key, 0, &[]));
    }
    closes(&broker, "a version of the future", &request(3, 13, &[0; 8]));
    closes(&broker, "a negative version", &request(3, -1, &[0; 8]));
    closes(&broker, "a frame of one byte", &frame(&[0]));
    // H7: 4 bytes that would make the codec reserve 154 GB and 2.9 GB.
    closes(
        &broker,
        "2^31-1 topics",
        &request(3, 1, &[0x7f, 0xff, 0xff, 0xff]),
    );
    closes(&broker, "40 M topics", &request(3, 1, &[2, 0x62, 0x5a, 0]));
    closes(
        &broker,
        "topics of a Produce",
        &request(
            0,
            3,
            &[0xff, 0xff, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff],
        ),
    );
    // H8.
    let mut names = 500_000_i32.to_be_bytes().to_vec();
    names.extend(std::iter::repeat_n([0, 1, b'a'], 500_000).flatten());
    closes(
        &broker,
        "half a million names of a letter",
        &request(3, 1, &names),
    );
    // H9.
    closes(
        &broker,
        "a varint of 35 bits",
        &flexible(3, 12, &[0xff, 0xff, 0xff, 0xff, 0x7f]),
    );
    closes(
        &broker,
        "a varint without end",
        &flexible(3, 12, &[0x80; 20]),
    );
    closes(
        &broker,
        "a name longer than the rest",
        &flexible(3, 9, &[2, 0x7f, b'a']),
    );
    closes(
        &broker,
        "null topics in Metadata v0",
        &request(3, 0, &[0xff; 4]),
    );
    closes(
        &broker,
        "a name that is not UTF-8",
        &request(3, 1, &[0, 0, 0, 1, 0, 1, 0xc3]),
    );
    closes(
        &broker,
        "a client id that is not UTF-8",
        &frame(&[0, 18, 0, 0, 0, 0, 0, 1, 0, 1, 0xff]),
    );
    // H12.
    let mut tags = vec![0xff, 0xff, 0xff, 0x7f];
    tags.extend(std::iter::repeat_n([1, 0], 1_000_000).flatten());
    closes(
        &broker,
        "a header of millions of tags",
        &request(18, 3, &tags),
    );
    let mut body = vec![0, 2, b'a', 2, b'1', 0x81, 8];
    body.extend((0..1025_u32).flat_map(|tag| [0x80 | (tag & 0x7f) as u8, (tag >> 7) as u8, 0]));
    closes(&broker, "1025 tags", &request(18, 3, &body));
    let log = broker.log().unwrap();
    assert!(
        log.contains("Closing the connection of 127.0.0.1:"),
        "{log}"
    );
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn what_kafka_answers_is_answered() {
    let broker = Ottla::start(&[]).unwrap();
    let address = broker.address();
    // H6: ApiVersions of the future is answered in v0 and names itself alone.
    for version in [5, 99, i16::MAX] {
        let answer = exchange(address, &flexible(18, version, &[2, b'a', 2, b'b', 0])).unwrap();
        assert_eq!(
            answer[..],
            [0, 0, 0, 7, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]
        );
    }
    // A software name of other letters.
    let answer = exchange(address, &flexible(18, 3, &[2, b'_', 2, b'1', 0])).unwrap();
    assert_eq!(&answer[4..6], [0, 42]);
    // H10.
    let answer = exchange(address, &request(18, 0, b"trailing")).unwrap();
    assert_eq!(&answer[4..6], [0, 0]);
    // The list is the table.
    let mut body = answer.slice(4..);
    let response = ApiVersionsResponse::decode(&mut body, 0).unwrap();
    let listed: Vec<_> = response
        .api_keys
        .iter()
        .map(|api| (api.api_key, api.min_version, api.max_version))
        .collect();
    let table: Vec<_> = APIS
        .iter()
        .map(|api| (api.key, api.min_version, api.max_version))
        .collect();
    assert_eq!(listed, table);
}

/// What lies in the receive queues of all connections to `address`, as the kernel lists them.
fn unread_bytes(address: SocketAddr) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{:04X}", address.port());
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let local = fields.next()?;
            let queues = fields.nth(2)?;
            let (_, received) = queues.split_once(':')?;
            local
                .ends_with(&port)
                .then(|| u64::from_str_radix(received, 16).unwrap())
        })
        .sum()
}

/// H2.
#[test]
fn a_claim_of_100_mib_costs_no_memory() {
    const CONNECTIONS: u64 = 1000;
    let broker = Ottla::start(&[]).unwrap();
    serves(&broker);
    let before = broker.resident_kib().unwrap();
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = connect(broker.address());
        stream.write_all(&104_857_600_i32.to_be_bytes()).unwrap();
        held.push(stream);
    }
    serves(&broker);
    let deadline = Instant::now() + Duration::from_secs(20);
    while unread_bytes(broker.address()) > 0 {
        assert!(Instant::now() < deadline, "the broker does not read");
        std::thread::sleep(Duration::from_millis(5));
    }
    let grown = broker.resident_kib().unwrap().saturating_sub(before);
    let limit = 8 * CONNECTIONS + 2048;
    assert!(grown <= limit, "{grown} KiB for {CONNECTIONS} connections");
    drop(held);
    serves(&broker);
}

/// H33.
#[test]
fn a_peer_that_does_not_read_is_not_read_from() {
    let broker = Ottla::start(&[]).unwrap();
    serves(&broker);
    let before = broker.resident_kib().unwrap();
    let mut stream = connect(broker.address());
    stream.set_nonblocking(true).unwrap();
    let thousand = frame(&API_VERSIONS).repeat(1000);
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut written = 0;
    let mut blocked_since = None;
    // Until nothing was taken for a second.
    loop {
        assert!(
            Instant::now() < deadline,
            "{written} bytes taken and no end"
        );
        match stream.write(&thousand[written % 14..]) {
            Ok(count) => {
                written += count;
                blocked_since = None;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let since = *blocked_since.get_or_insert_with(Instant::now);
                if since.elapsed() > Duration::from_secs(1) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    }
    serves(&broker);
    let grown = broker.resident_kib().unwrap().saturating_sub(before);
    assert!(grown < 4096, "{grown} KiB");
    // What was asked is answered once it is read.
    stream.set_nonblocking(false).unwrap();
    for _ in 0..written / 14 {
        assert_eq!(&read_frame(&mut stream).unwrap()[..4], [0, 0, 0, 9]);
    }
}

/// Frames whose handler may wait for others: JoinGroup, SyncGroup.
const MAY_WAIT: [i16; 2] = [11, 14];

fn answered<R: Request>(address: SocketAddr, golden: &Frame) {
    if golden.key == ControlledShutdownRequest::KEY || MAY_WAIT.contains(&golden.key) {
        return;
    }
    let what = format!("API {} v{}", golden.key, golden.version);
    let mut answer = exchange(address, &frame(&golden.bytes)).expect(&what);
    let header_version = R::Response::header_version(golden.version);
    let header = ResponseHeader::decode(&mut answer, header_version).expect(&what);
    assert_eq!(
        header.correlation_id,
        1000 + i32::from(golden.key),
        "{what}"
    );
    R::Response::decode(&mut answer, golden.version).expect(&what);
    assert!(!answer.has_remaining(), "{what}: {answer:02x?}");
}

#[test]
fn every_golden_frame_of_an_offered_api_is_answered_in_its_version() {
    let broker = Ottla::start(&[]).unwrap();
    let frames = frames().unwrap();
    macro_rules! check {
        ($request:ident) => {
            if APIS.iter().any(|api| api.key == $request::KEY) {
                for golden in frames.iter().filter(|one| one.key == $request::KEY) {
                    answered::<$request>(broker.address(), golden);
                }
            }
        };
    }
    each_request!(check);
    let log = broker.log().unwrap();
    assert!(!log.contains("panicked"), "{log}");
    assert!(!log.contains("cannot be encoded"), "{log}");
}
