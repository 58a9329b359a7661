//! The golden frame of every API and version that both offer, answered as a whole; last, as some
//! of them change the broker.

use anyhow::Result;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::Request;
use protocol_tests::differential::{Case, Test};
use protocol_tests::each_request;
use protocol_tests::golden::frames;

pub(crate) const CASES: &[Test] = &[("golden frames", golden_frames)];

/// Left out: what tells a broker of a cluster that does not exist would end both brokers' world, and
/// what creates and deletes topics is answered by who is faster; those have cases of their own.
const LEFT_OUT: [i16; 9] = [
    MetadataRequest::KEY,
    CreateTopicsRequest::KEY,
    DeleteTopicsRequest::KEY,
    LeaderAndIsrRequest::KEY,
    StopReplicaRequest::KEY,
    UpdateMetadataRequest::KEY,
    ControlledShutdownRequest::KEY,
    EnvelopeRequest::KEY,
    AlterPartitionRequest::KEY,
];

fn golden_frames(case: &mut Case<'_>) -> Result<()> {
    let frames = frames()?;
    macro_rules! check {
        ($request:ident) => {
            if !LEFT_OUT.contains(&$request::KEY) {
                for version in case.versions::<$request>() {
                    let frame = frames
                        .iter()
                        .find(|frame| (frame.key, frame.version) == ($request::KEY, version));
                    if let Some(frame) = frame {
                        let wire = case.wire();
                        case.send_frame(wire, &frame.bytes)?;
                        case.receive::<$request>(wire, version, "the golden frame")?;
                    }
                }
            }
        };
    }
    each_request!(check);
    Ok(())
}
