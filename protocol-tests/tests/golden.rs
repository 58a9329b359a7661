//! Golden frames: what Apache Kafka writes we read, and write again to the byte.

use std::collections::BTreeSet;

use bytes::{Buf as _, BytesMut};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, Request};
use ottla::api::{APIS, request_header_version};
use ottla::net::guard::{self, Direction};
use protocol_tests::each_request;
use protocol_tests::golden::{Frame, frames};

fn check<R: Request>(frame: &Frame) {
    let what = format!("API {} v{}", frame.key, frame.version);
    let mut bytes = frame.bytes.clone();
    assert_eq!(
        guard::peek(&bytes),
        Ok((frame.key, frame.version)),
        "{what}"
    );
    let header_version = R::header_version(frame.version);
    let header = guard::request_header(&frame.bytes, header_version).expect(&what);
    assert_eq!(header.correlation_id, 1000 + i32::from(frame.key), "{what}");
    // ControlledShutdown v0 has a header without it.
    let expected = (header_version > 0).then_some("golden");
    assert_eq!(header.client_id, expected, "{what}");

    bytes.advance(header.len);
    assert_eq!(
        guard::check(Direction::Request, frame.key, frame.version, &bytes),
        Ok(()),
        "{what}"
    );
    let request = R::decode(&mut bytes, frame.version).expect(&what);
    assert!(bytes.is_empty(), "{what}: {} bytes left", bytes.len());

    let mut again = BytesMut::new();
    let mut header_bytes = frame.bytes.slice(..header.len);
    RequestHeader::decode(&mut header_bytes, header_version)
        .expect(&what)
        .encode(&mut again, header_version)
        .expect(&what);
    request.encode(&mut again, frame.version).expect(&what);
    assert_eq!(again, frame.bytes, "{what}");
}

#[test]
fn every_frame_is_read_and_written_again_to_the_byte() {
    let frames = frames().unwrap();
    let mut checked = 0;
    macro_rules! check {
        ($request:ident) => {
            for frame in frames.iter().filter(|frame| frame.key == $request::KEY) {
                check::<$request>(frame);
                checked += 1;
            }
        };
    }
    each_request!(check);
    assert_eq!(checked, frames.len());
    assert_eq!(checked, 286);
}

#[test]
fn every_version_offered_has_a_golden_frame_and_its_header_version() {
    let golden: BTreeSet<_> = frames()
        .unwrap()
        .iter()
        .map(|frame| (frame.key, frame.version))
        .collect();
    for api in APIS {
        for version in api.min_version..=api.max_version {
            assert!(
                golden.contains(&(api.key, version)),
                "{} v{version} has no golden frame",
                api.name
            );
            assert!(request_header_version(api.key, version).is_some());
        }
        assert_eq!(request_header_version(api.key, api.max_version + 1), None);
    }
}
