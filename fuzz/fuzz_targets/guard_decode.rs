//! A request body of any API and version: what the guard lets through, the codec decodes without a
//! panic or a large reservation; what it does not, never reaches it.
//!
//! `cargo +nightly fuzz run guard_decode -- -max_len=4096 -rss_limit_mb=512`. The first two bytes pick
//! API and version, as a request header does.
#![no_main]

use bytes::Bytes;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::Request;
use libfuzzer_sys::fuzz_target;
use ottla::net::guard::{self, Direction};

fn decode<R: Request>(version: i16, body: &Bytes) {
    if guard::check(Direction::Request, R::KEY, version, body).is_ok() {
        // An error is fine: it closes the connection.
        let _ = R::decode(&mut body.clone(), version);
    }
    if guard::check(Direction::Response, R::KEY, version, body).is_ok() {
        use kafka_protocol::protocol::Decodable as _;
        let _ = R::Response::decode(&mut body.clone(), version);
    }
}

macro_rules! decode_any {
    ($key:ident $version:ident $body:ident; $($request:ident)*) => {
        match i16::from($key) {
            $($request::KEY => decode::<$request>($version, &$body),)*
            _ => {}
        }
    };
}

fuzz_target!(|data: &[u8]| {
    let [key, version, body @ ..] = data else {
        return;
    };
    let (key, version) = (*key, i16::from(*version));
    let body = Bytes::copy_from_slice(body);
    let _ = guard::request_header(&body, 2);
    decode_any! { key version body;
        ProduceRequest
        FetchRequest
        ListOffsetsRequest
        MetadataRequest
        LeaderAndIsrRequest
        StopReplicaRequest
        UpdateMetadataRequest
        ControlledShutdownRequest
        OffsetCommitRequest
        OffsetFetchRequest
        FindCoordinatorRequest
        JoinGroupRequest
        HeartbeatRequest
        LeaveGroupRequest
        SyncGroupRequest
        DescribeGroupsRequest
        ListGroupsRequest
        SaslHandshakeRequest
        ApiVersionsRequest
        CreateTopicsRequest
        DeleteTopicsRequest
        DeleteRecordsRequest
        InitProducerIdRequest
        OffsetForLeaderEpochRequest
        AddPartitionsToTxnRequest
        AddOffsetsToTxnRequest
        EndTxnRequest
        WriteTxnMarkersRequest
        TxnOffsetCommitRequest
        DescribeAclsRequest
        CreateAclsRequest
        DeleteAclsRequest
        DescribeConfigsRequest
        AlterConfigsRequest
        AlterReplicaLogDirsRequest
        DescribeLogDirsRequest
        SaslAuthenticateRequest
        CreatePartitionsRequest
        CreateDelegationTokenRequest
        RenewDelegationTokenRequest
        ExpireDelegationTokenRequest
        DescribeDelegationTokenRequest
        DeleteGroupsRequest
        ElectLeadersRequest
        IncrementalAlterConfigsRequest
        AlterPartitionReassignmentsRequest
        ListPartitionReassignmentsRequest
        OffsetDeleteRequest
        DescribeClientQuotasRequest
        AlterClientQuotasRequest
        DescribeUserScramCredentialsRequest
        AlterUserScramCredentialsRequest
        AlterPartitionRequest
        UpdateFeaturesRequest
        EnvelopeRequest
        DescribeClusterRequest
        DescribeProducersRequest
        DescribeTransactionsRequest
        ListTransactionsRequest
        AllocateProducerIdsRequest
        ConsumerGroupHeartbeatRequest
        ConsumerGroupDescribeRequest
    }
});
