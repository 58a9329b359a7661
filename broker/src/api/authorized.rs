//! `AuthorizedOperations` of Metadata, DescribeCluster and DescribeGroups: a bit per operation.
//! Without an authorizer everything that a resource knows is allowed (`AclEntry`).

/// The field's value when nobody asked for it.
pub const NOT_ASKED: i32 = i32::MIN;

const READ: u32 = 3;
const WRITE: u32 = 4;
const CREATE: u32 = 5;
const DELETE: u32 = 6;
const ALTER: u32 = 7;
const DESCRIBE: u32 = 8;
const CLUSTER_ACTION: u32 = 9;
const DESCRIBE_CONFIGS: u32 = 10;
const ALTER_CONFIGS: u32 = 11;
const IDEMPOTENT_WRITE: u32 = 12;

const fn bits(operations: &[u32]) -> i32 {
    let mut field = 0;
    let mut i = 0;
    while i < operations.len() {
        field |= 1 << operations[i];
        i += 1;
    }
    field
}

/// All operations on a topic.
pub const TOPIC: i32 = bits(&[
    READ,
    WRITE,
    CREATE,
    DESCRIBE,
    DELETE,
    ALTER,
    DESCRIBE_CONFIGS,
    ALTER_CONFIGS,
]);
/// All operations on a group.
pub const GROUP: i32 = bits(&[READ, DESCRIBE, DELETE]);
/// All operations on the cluster.
pub const CLUSTER: i32 = bits(&[
    CREATE,
    CLUSTER_ACTION,
    DESCRIBE_CONFIGS,
    ALTER_CONFIGS,
    IDEMPOTENT_WRITE,
    ALTER,
    DESCRIBE,
]);

#[cfg(test)]
mod tests {
    /// The figures of Kafka 3.9 without an authorizer.
    #[test]
    fn as_kafka_answers() {
        assert_eq!(super::TOPIC, 3576);
        assert_eq!(super::GROUP, 328);
        assert_eq!(super::CLUSTER, 8096);
    }
}
