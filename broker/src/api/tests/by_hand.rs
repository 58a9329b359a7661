//! What the tests of messages that are read and written by hand have in common: the codec is their
//! measure.

use bytes::{Buf as _, Bytes, BytesMut};
use kafka_protocol::messages::ResponseHeader;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use proptest::collection::vec;
use proptest::prelude::*;

pub(in crate::api) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Names of topics, and what is asked of partitions of each.
pub(in crate::api) fn topics<P: Strategy>(
    partition: P,
) -> impl Strategy<Value = Vec<(String, Vec<P::Value>)>> {
    vec(("[a-zß]{0,9}", vec(partition, 0..4)), 0..4)
}

/// Bytes that a message is changed by, and where.
pub(in crate::api) fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)
}

pub(in crate::api) fn damaged(body: &[u8], damage: Vec<(prop::sample::Index, u8)>) -> Vec<u8> {
    let mut body = body.to_vec();
    for (at, byte) in damage {
        let at = at.index(body.len());
        body[at] = byte;
    }
    body
}

/// What the codec reads in a response with its header; it writes the same.
pub(in crate::api) fn decoded<R: Decodable + Encodable + HeaderVersion>(
    version: i16,
    correlation_id: i32,
    mut written: Bytes,
) -> R {
    let header = ResponseHeader::decode(&mut written, R::header_version(version)).unwrap();
    assert_eq!(header.correlation_id, correlation_id);
    let body = written.clone();
    let response = R::decode(&mut written, version).unwrap();
    assert!(!written.has_remaining());
    let mut again = BytesMut::new();
    response.encode(&mut again, version).unwrap();
    assert_eq!(again.freeze(), body);
    response
}
