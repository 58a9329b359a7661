//! The golden request frames: written by Apache Kafka's own serializer (`golden/GoldenFrames.java`),
//! one per API and version.

use std::path::Path;

use anyhow::{Context as _, Result};
use bytes::Bytes;

/// A request without its length prefix.
#[derive(Debug, Clone)]
pub struct Frame {
    pub key: i16,
    pub version: i16,
    /// Header and body.
    pub bytes: Bytes,
}

/// All of them, by file and version.
pub fn frames() -> Result<Vec<Frame>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut files: Vec<_> = std::fs::read_dir(&folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    let mut frames = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path)?;
        for line in text.lines() {
            let frame = frame(line).with_context(|| format!("{}: {line}", path.display()))?;
            frames.push(frame);
        }
    }
    Ok(frames)
}

fn frame(line: &str) -> Result<Frame> {
    let (version, hex) = line
        .strip_prefix('v')
        .and_then(|rest| rest.split_once(' '))
        .context("not `v<version> <hex>`")?;
    let bytes: Vec<u8> = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?))
        .collect::<Result<_>>()?;
    let key = bytes.first_chunk::<2>().context("no API key")?;
    Ok(Frame {
        key: i16::from_be_bytes(*key),
        version: version.parse()?,
        bytes: bytes.into(),
    })
}

/// Calls `$check!(RequestType)` for every API of a ZooKeeper-mode broker.
#[macro_export]
macro_rules! each_request {
    ($check:ident) => {
        $check!(ProduceRequest);
        $check!(FetchRequest);
        $check!(ListOffsetsRequest);
        $check!(MetadataRequest);
        $check!(LeaderAndIsrRequest);
        $check!(StopReplicaRequest);
        $check!(UpdateMetadataRequest);
        $check!(ControlledShutdownRequest);
        $check!(OffsetCommitRequest);
        $check!(OffsetFetchRequest);
        $check!(FindCoordinatorRequest);
        $check!(JoinGroupRequest);
        $check!(HeartbeatRequest);
        $check!(LeaveGroupRequest);
        $check!(SyncGroupRequest);
        $check!(DescribeGroupsRequest);
        $check!(ListGroupsRequest);
        $check!(SaslHandshakeRequest);
        $check!(ApiVersionsRequest);
        $check!(CreateTopicsRequest);
        $check!(DeleteTopicsRequest);
        $check!(DeleteRecordsRequest);
        $check!(InitProducerIdRequest);
        $check!(OffsetForLeaderEpochRequest);
        $check!(AddPartitionsToTxnRequest);
        $check!(AddOffsetsToTxnRequest);
        $check!(EndTxnRequest);
        $check!(WriteTxnMarkersRequest);
        $check!(TxnOffsetCommitRequest);
        $check!(DescribeAclsRequest);
        $check!(CreateAclsRequest);
        $check!(DeleteAclsRequest);
        $check!(DescribeConfigsRequest);
        $check!(AlterConfigsRequest);
        $check!(AlterReplicaLogDirsRequest);
        $check!(DescribeLogDirsRequest);
        $check!(SaslAuthenticateRequest);
        $check!(CreatePartitionsRequest);
        $check!(CreateDelegationTokenRequest);
        $check!(RenewDelegationTokenRequest);
        $check!(ExpireDelegationTokenRequest);
        $check!(DescribeDelegationTokenRequest);
        $check!(DeleteGroupsRequest);
        $check!(ElectLeadersRequest);
        $check!(IncrementalAlterConfigsRequest);
        $check!(AlterPartitionReassignmentsRequest);
        $check!(ListPartitionReassignmentsRequest);
        $check!(OffsetDeleteRequest);
        $check!(DescribeClientQuotasRequest);
        $check!(AlterClientQuotasRequest);
        $check!(DescribeUserScramCredentialsRequest);
        $check!(AlterUserScramCredentialsRequest);
        $check!(AlterPartitionRequest);
        $check!(UpdateFeaturesRequest);
        $check!(EnvelopeRequest);
        $check!(DescribeClusterRequest);
        $check!(DescribeProducersRequest);
        $check!(DescribeTransactionsRequest);
        $check!(ListTransactionsRequest);
        $check!(AllocateProducerIdsRequest);
        $check!(ConsumerGroupHeartbeatRequest);
        $check!(ConsumerGroupDescribeRequest);
    };
}
