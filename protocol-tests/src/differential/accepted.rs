//! THE table of accepted differences. A row that no longer meets one fails the run.

use std::ops::RangeInclusive;

/// In all texts `*` stands for any.
#[derive(Debug)]
pub struct Accepted {
    /// Name of the API.
    pub api: &'static str,
    pub versions: RangeInclusive<i16>,
    pub case: &'static str,
    pub answer: &'static str,
    /// Path of the field.
    pub path: &'static str,
    pub reason: &'static str,
}

const ANY: RangeInclusive<i16> = 0..=i16::MAX;

macro_rules! accepted {
    ($($api:literal $versions:expr, $case:literal $answer:literal $path:literal: $reason:expr;)*) => {
        pub const ACCEPTED: &[Accepted] = &[$(Accepted {
            api: $api,
            versions: $versions,
            case: $case,
            answer: $answer,
            path: $path,
            reason: $reason,
        },)*];
    };
}

const NOT_BUILT: &str =
    "not everything of Kafka is built yet, and only what is built is advertised";
const OWN_WORDS: &str = "keys are documented in our own words";
const PACKED: &str = "Kafka unpacks every packed batch, Ottla only where a rule needs a look at the records: \
    what is wrong inside is stored by Ottla and refused by Kafka";
const DELTAS: &str = "Kafka stores a plain batch whose offset deltas are not 0 to n-1 as it is, and so \
    skips or repeats offsets; Ottla refuses it (H15)";
const JAVA: &str = "Kafka fails with a Java exception that it does not expect, hence UNKNOWN_SERVER_ERROR; \
    no client sends this, and Ottla says what is wrong";
const OVERFLOW: &str = "Kafka lets times overflow and wrap; Ottla refuses them (H18)";
const PADDING: &str = "Kafka promises the size before it converts, and fills up with the head of a message; \
    Ottla sends what the conversion gave";
const HASHED: &str = "Kafka answers in the order of a hash map; Ottla in the order of names";
const NULL_RECORDS: &str =
    "some versions of librdkafka reject null records; Ottla sends empty ones";

// API, versions, case, answer, path: reason.
accepted! {
    "ApiVersions" ANY, "*" "*" "api_keys*": NOT_BUILT;
    "InitProducerId" ANY, "golden frames" "*" "error_code": NOT_BUILT;
    "AlterPartitionReassignments" ANY, "golden frames" "*" "responses*": HASHED;
    "AlterPartitionReassignments" ANY, "reassign partitions" "an unknown partition" "responses*": HASHED;
    "ElectLeaders" ANY, "elect leaders" "wrong partitions*" "replica_election_results*": HASHED;
    "DescribeConfigs" ANY, "*" "*" "*.documentation": OWN_WORDS;
    "IncrementalAlterConfigs" ANY, "configs: alter in steps" "*operation*" "*.error_*": JAVA;
    "IncrementalAlterConfigs" ANY, "configs: alter in steps" "type 8*" "*.error_message":
        "Kafka's text names its own id twice";
    "DescribeGroups" ANY, "groups: joining wrongly" "nobody joined" "*.group_state":
        "Kafka keeps a group that nobody could join for some minutes; Ottla drops it at once (H26)";
    "ListOffsets" 0..=0, "list offsets" "*, -1 offsets" "*": JAVA;
    "OffsetCommit" 0..=0, "groups: commit and fetch offsets" "no group" "*": JAVA;
    "OffsetFetch" 0..=0, "groups: commit and fetch offsets" "no group" "*": JAVA;
    "Metadata" 12..=12, "metadata by id" "neither id nor name" "*": JAVA;
    "Fetch" ANY, "fetch by topic id" "nil id*" "*": JAVA;
    "Fetch" ANY, "fetch within sizes" "-*" "*": JAVA;
    "Fetch" 0..=3, "fetch*" "*" "*.records*": PADDING;
    "Fetch" ANY, "*" "*" "*.records": NULL_RECORDS;
    "CreateTopics" ANY, "create topics, defaults and assignments" "a negative partition" "*": JAVA;
    "OffsetCommit" 0..=0, "groups: commit and fetch offsets" "twice, and unknown" "topics*":
        "v0 of Kafka lists a partition as often as it was named; Ottla as every other version does";
    "Produce" ANY, "produce and pack anew" "none, a gap" "*": DELTAS;
    "Produce" ANY, "produce and pack anew" "*, a gap" "*": PACKED;
    "Fetch" ANY, "produce and pack anew" "stored of a gap" "*": PACKED;
    "Produce" ANY, "produce batches that are wrong" "* that is none" "*": PACKED;
    "Fetch" ANY, "produce batches that are wrong" "stored of * that is none" "*": PACKED;
    "Produce" ANY, "produce batches that are wrong" "H22 codec*" "*": JAVA;
    "Produce" ANY, "produce batches that are wrong" "H13 a length of 2 GB" "*": JAVA;
    "Produce" 0..=2, "produce batches that are wrong" "H13 length 14" "*": JAVA;
    "Produce" ANY, "produce batches that are wrong" "H18*" "*": OVERFLOW;
    "Fetch" ANY, "produce batches that are wrong" "stored of H18*" "*": OVERFLOW;
    "Produce" 0..=2, "produce old formats" "*H21*" "*": JAVA;
    "Produce" 0..=2, "produce old formats" "*wrapper of *" "*": JAVA;
    "Produce" 0..=2, "produce old formats" "*a time of -2" "*": JAVA;
    "Produce" ANY, "produce packed batches" "*" "*": PACKED;
    "Fetch" ANY, "produce packed batches" "stored of*" "*": PACKED;
    "Produce" ANY, "produce records that are wrong" "H15*, none" "*": DELTAS;
    "Fetch" ANY, "produce records that are wrong" "stored of H15*, none" "*": DELTAS;
    "Produce" ANY, "produce records that are wrong" "H18*" "*": OVERFLOW;
    "Fetch" ANY, "produce records that are wrong" "stored of H18*" "*": OVERFLOW;
    "Produce" ANY, "produce records that are wrong" "H1*, gzip" "*": PACKED;
    "Fetch" ANY, "produce records that are wrong" "stored of H1*, gzip" "*": PACKED;
    "Produce" ANY, "produce records that are wrong" "H1*, snappy" "*": PACKED;
    "Fetch" ANY, "produce records that are wrong" "stored of H1*, snappy" "*": PACKED;
    "Produce" ANY, "produce records that are wrong" "H1*, lz4" "*": PACKED;
    "Fetch" ANY, "produce records that are wrong" "stored of H1*, lz4" "*": PACKED;
    "Produce" ANY, "produce records that are wrong" "H1*, zstd" "*": PACKED;
    "Fetch" ANY, "produce records that are wrong" "stored of H1*, zstd" "*": PACKED;
}
