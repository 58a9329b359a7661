//! THE table of broker keys: every key of Kafka 3.9's `KafkaConfig` with type, default, allowed
//! values, importance, how it may change at run time and what it does here. Parsing, validation,
//! DescribeConfigs, AlterConfigs, the typed accessors of [`Config`] and `docs/config.md` are read
//! from it.
//!
//! A row is `(name, get|raw field, type, default, allowed, importance, mode, visibility, state,
//! doc)`. `get` makes the accessor `config.field()`; `raw` keys have a hand-written accessor in
//! `config/effective.rs`, because several keys or a parser make one value. `Opt…` types default to
//! null. Order is Kafka's order of definition.
//!
//! Source: `AbstractKafkaConfig.CONFIG_DEF`, `DynamicBrokerConfig.dynamicConfigUpdateModes`,
//! `DynamicConfig.Broker`.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::Config;
use super::value::Allowed::{self, *};
use super::value::{Password, Type, Value};

/// Kafka's importance of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importance {
    High,
    Medium,
    Low,
}

/// Whether a key may change while the broker runs (KIP-226).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    ReadOnly,
    /// Per broker only: not in `/config/brokers/<default>`.
    PerBroker,
    /// Per broker and as the cluster's default.
    ClusterWide,
}

/// What a key does in this version of Ottla.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As in Kafka.
    Effective,
    /// Accepted, shown and checked; without effect for good, and why.
    Accepted(&'static str),
    /// Accepted, shown and checked; without effect in this version, and what it waits for.
    Later(&'static str),
}

use Importance::{High, Low, Medium};
use Mode::{ClusterWide, PerBroker, ReadOnly};
use State::{Accepted, Effective, Later};

/// One row of the table.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: Type,
    /// As text; `None` is null.
    pub default: Option<&'static str>,
    pub allowed: Allowed,
    pub importance: Importance,
    pub mode: Mode,
    /// Internal keys are not shown unless set.
    pub internal: bool,
    pub state: State,
    pub doc: &'static str,
}

impl Key {
    /// Passwords are never shown.
    pub fn sensitive(&self) -> bool {
        self.kind == Type::Password
    }
}

const SECURITY: &str = "TLS, SASL and ACLs come in a later version";
const QUOTAS: &str = "quotas come in a later version";
const CLEANER: &str = "log compaction comes in a later version";
const REPLICATION: &str = "replication between brokers comes in a later version";
const TRANSACTIONS: &str = "transactions come in a later version";
const TIERED: &str = "no tiered storage";
const NEW_GROUPS: &str = "only KRaft clusters have these group protocols";
const KRAFT: &str = "KRaft only";
const THREADS: &str = "Ottla runs one worker per processor for all connections";
const PURGATORY: &str = "completed operations leave Ottla's purgatories at once";
const JVM: &str = "no Java class is loaded and no JMX is served";
const FORMAT: &str = "ignored by Kafka as well from inter.broker.protocol.version 3.0 on";

const COMPRESSION: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
const CLEANUP: &[&str] = &["compact", "delete"];
const TIMESTAMP_TYPES: &[&str] = &["CreateTime", "LogAppendTime"];
const PROTOCOLS: &[&str] = &["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];
const CLIENT_AUTH: &[&str] = &["required", "requested", "none"];
const ROLES: &[&str] = &["broker", "controller"];
const GROUP_TYPES: &[&str] = &["consumer", "classic", "share", "unknown"];
const MIGRATION_POLICIES: &[&str] = &["DISABLED", "DOWNGRADE", "UPGRADE", "BIDIRECTIONAL"];

macro_rules! kind {
    (Bool) => {
        Type::Boolean
    };
    (Int) => {
        Type::Int
    };
    (OptInt) => {
        Type::Int
    };
    (Long) => {
        Type::Long
    };
    (OptLong) => {
        Type::Long
    };
    (Short) => {
        Type::Short
    };
    (Double) => {
        Type::Double
    };
    (Str) => {
        Type::String
    };
    (OptStr) => {
        Type::String
    };
    (List) => {
        Type::List
    };
    (OptList) => {
        Type::List
    };
    (Class) => {
        Type::Class
    };
    (OptClass) => {
        Type::Class
    };
    (OptPassword) => {
        Type::Password
    };
}

macro_rules! default {
    (none) => {
        None
    };
    ($text:literal) => {
        Some($text)
    };
}

macro_rules! internal {
    (public) => {
        false
    };
    (internal) => {
        true
    };
}

/// One accessor. The wildcard arms cannot be reached: [`Value::parse`] gives the row's type, and
/// null only where the row says `Opt`.
macro_rules! accessor {
    (raw $field:ident $kind:ident $doc:literal) => {};
    (get $field:ident Bool $doc:literal) => { accessor!(@scalar $field, bool, Boolean, false, $doc); };
    (get $field:ident Int $doc:literal) => { accessor!(@scalar $field, i32, Int, 0, $doc); };
    (get $field:ident Long $doc:literal) => { accessor!(@scalar $field, i64, Long, 0, $doc); };
    (get $field:ident Short $doc:literal) => { accessor!(@scalar $field, i16, Short, 0, $doc); };
    (get $field:ident Double $doc:literal) => { accessor!(@scalar $field, f64, Double, 0.0, $doc); };
    (get $field:ident OptInt $doc:literal) => { accessor!(@option $field, i32, Int, $doc); };
    (get $field:ident OptLong $doc:literal) => { accessor!(@option $field, i64, Long, $doc); };
    (get $field:ident Str $doc:literal) => { accessor!(@text $field, String, $doc); };
    (get $field:ident Class $doc:literal) => { accessor!(@text $field, Class, $doc); };
    (get $field:ident OptStr $doc:literal) => { accessor!(@optional_text $field, String, $doc); };
    (get $field:ident OptClass $doc:literal) => { accessor!(@optional_text $field, Class, $doc); };
    (get $field:ident List $doc:literal) => { accessor!(@list $field, $doc); };
    (get $field:ident OptList $doc:literal) => { accessor!(@list $field, $doc); };
    (get $field:ident OptPassword $doc:literal) => {
        #[doc = $doc]
        pub fn $field(&self) -> Option<&Password> {
            match &self.values[Slot::$field as usize] {
                Value::Password(value) => Some(value),
                _ => None,
            }
        }
    };
    (@scalar $field:ident, $type:ty, $variant:ident, $never:literal, $doc:literal) => {
        #[doc = $doc]
        pub fn $field(&self) -> $type {
            match &self.values[Slot::$field as usize] {
                Value::$variant(value) => *value,
                _ => $never,
            }
        }
    };
    (@option $field:ident, $type:ty, $variant:ident, $doc:literal) => {
        #[doc = $doc]
        pub fn $field(&self) -> Option<$type> {
            match &self.values[Slot::$field as usize] {
                Value::$variant(value) => Some(*value),
                _ => None,
            }
        }
    };
    (@text $field:ident, $variant:ident, $doc:literal) => {
        #[doc = $doc]
        pub fn $field(&self) -> &str {
            match &self.values[Slot::$field as usize] {
                Value::$variant(value) => value,
                _ => "",
            }
        }
    };
    (@optional_text $field:ident, $variant:ident, $doc:literal) => {
        #[doc = $doc]
        pub fn $field(&self) -> Option<&str> {
            match &self.values[Slot::$field as usize] {
                Value::$variant(value) => Some(value),
                _ => None,
            }
        }
    };
    (@list $field:ident, $doc:literal) => {
        #[doc = $doc]
        pub fn $field(&self) -> &[String] {
            match &self.values[Slot::$field as usize] {
                Value::List(value) => value,
                _ => &[],
            }
        }
    };
}

macro_rules! keys {
    ($(($name:literal, $access:ident $field:ident, $kind:ident, $default:tt, $allowed:expr,
        $importance:ident, $mode:ident, $visible:ident, $state:expr, $doc:literal),)*) => {
        /// The place of a key in the table, and of its value in a [`Config`].
        #[allow(non_camel_case_types, reason = "named after the keys")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Slot {
            $($field,)*
        }

        /// Every key of `server.properties`.
        pub static KEYS: &[Key] = &[
            $(Key {
                name: $name,
                kind: kind!($kind),
                default: default!($default),
                allowed: $allowed,
                importance: $importance,
                mode: $mode,
                internal: internal!($visible),
                state: $state,
                doc: $doc,
            },)*
        ];

        impl Config {
            $(accessor!($access $field $kind $doc);)*
        }
    };
}

keys! {
    ("remote.log.storage.system.enable", get remote_log_storage_system_enable, Bool, "false", Any, Medium, ReadOnly, public, Accepted(TIERED),
        "Turns tiered storage on for the broker."),
    ("remote.log.storage.manager.impl.prefix", get remote_log_storage_manager_impl_prefix, Str, "rsm.config.", NonEmpty, Medium, ReadOnly, public, Accepted(TIERED),
        "Prefix of the properties handed to the remote storage plug-in."),
    ("remote.log.metadata.manager.impl.prefix", get remote_log_metadata_manager_impl_prefix, Str, "rlmm.config.", NonEmpty, Medium, ReadOnly, public, Accepted(TIERED),
        "Prefix of the properties handed to the remote metadata plug-in."),
    ("remote.log.storage.manager.class.name", get remote_log_storage_manager_class_name, OptStr, none, NonEmpty, Medium, ReadOnly, public, Accepted(TIERED),
        "Java class that copies segments to remote storage."),
    ("remote.log.storage.manager.class.path", get remote_log_storage_manager_class_path, OptStr, none, Any, Medium, ReadOnly, public, Accepted(TIERED),
        "Class path of the remote storage plug-in."),
    ("remote.log.metadata.manager.class.name", get remote_log_metadata_manager_class_name, Str, "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager", NonEmpty, Medium, ReadOnly, public, Accepted(TIERED),
        "Java class that keeps track of remote segments."),
    ("remote.log.metadata.manager.class.path", get remote_log_metadata_manager_class_path, OptStr, none, Any, Medium, ReadOnly, public, Accepted(TIERED),
        "Class path of the remote metadata plug-in."),
    ("remote.log.metadata.manager.listener.name", get remote_log_metadata_manager_listener_name, OptStr, none, NonEmpty, Medium, ReadOnly, public, Accepted(TIERED),
        "Listener by which the remote metadata plug-in reaches the broker."),
    ("remote.log.metadata.custom.metadata.max.bytes", get remote_log_metadata_custom_metadata_max_bytes, Int, "128", AtLeast(0), Low, ReadOnly, public, Accepted(TIERED),
        "Most bytes of metadata a remote storage plug-in may add to a segment."),
    ("remote.log.index.file.cache.total.size.bytes", get remote_log_index_file_cache_total_size_bytes, Long, "1073741824", AtLeast(1), Low, ClusterWide, public, Accepted(TIERED),
        "Disk space for cached indexes of remote segments."),
    ("remote.log.manager.thread.pool.size", get remote_log_manager_thread_pool_size, Int, "10", AtLeast(1), Medium, ReadOnly, public, Accepted(TIERED),
        "Threads for the tasks of tiered storage."),
    ("remote.log.manager.copier.thread.pool.size", get remote_log_manager_copier_thread_pool_size, Int, "-1", PoolSize, Medium, ReadOnly, public, Accepted(TIERED),
        "Threads that copy segments to remote storage; -1 takes remote.log.manager.thread.pool.size."),
    ("remote.log.manager.expiration.thread.pool.size", get remote_log_manager_expiration_thread_pool_size, Int, "-1", PoolSize, Medium, ReadOnly, public, Accepted(TIERED),
        "Threads that delete expired remote segments; -1 takes remote.log.manager.thread.pool.size."),
    ("remote.log.manager.task.interval.ms", get remote_log_manager_task_interval_ms, Long, "30000", AtLeast(1), Low, ReadOnly, public, Accepted(TIERED),
        "Time between rounds of copying and deleting remote segments."),
    ("remote.log.manager.task.retry.backoff.ms", get remote_log_manager_task_retry_backoff_ms, Long, "500", AtLeast(1), Low, ReadOnly, internal, Accepted(TIERED),
        "First pause after a failed tiered storage task."),
    ("remote.log.manager.task.retry.backoff.max.ms", get remote_log_manager_task_retry_backoff_max_ms, Long, "30000", AtLeast(1), Low, ReadOnly, internal, Accepted(TIERED),
        "Longest pause after repeated failures of a tiered storage task."),
    ("remote.log.manager.task.retry.jitter", get remote_log_manager_task_retry_jitter, Double, "0.2", Ratio(0.0, 0.5), Low, ReadOnly, internal, Accepted(TIERED),
        "Random share of the pause after a failed tiered storage task."),
    ("remote.log.reader.threads", get remote_log_reader_threads, Int, "10", AtLeast(1), Medium, ReadOnly, public, Accepted(TIERED),
        "Threads that read remote segments for consumers."),
    ("remote.log.reader.max.pending.tasks", get remote_log_reader_max_pending_tasks, Int, "100", AtLeast(1), Medium, ReadOnly, public, Accepted(TIERED),
        "Most reads of remote segments that may wait at a time."),
    ("log.local.retention.ms", get log_local_retention_ms, Long, "-2", AtLeast(-2), Medium, ClusterWide, public, Accepted(TIERED),
        "How long a segment stays on local disk once it is in remote storage; -2 takes log.retention.ms."),
    ("log.local.retention.bytes", get log_local_retention_bytes, Long, "-2", AtLeast(-2), Medium, ClusterWide, public, Accepted(TIERED),
        "Most bytes of a partition kept on local disk once they are in remote storage; -2 takes log.retention.bytes."),
    ("remote.log.manager.copy.max.bytes.per.second", get remote_log_manager_copy_max_bytes_per_second, Long, "9223372036854775807", AtLeast(1), Medium, ClusterWide, public, Accepted(TIERED),
        "Bytes per second that may be copied to remote storage."),
    ("remote.log.manager.copy.quota.window.num", get remote_log_manager_copy_quota_window_num, Int, "11", AtLeast(1), Medium, ReadOnly, public, Later(QUOTAS),
        "Number of samples that measure copying to remote storage."),
    ("remote.log.manager.copy.quota.window.size.seconds", get remote_log_manager_copy_quota_window_size_seconds, Int, "1", AtLeast(1), Medium, ReadOnly, public, Later(QUOTAS),
        "Length of one sample that measures copying to remote storage."),
    ("remote.log.manager.fetch.max.bytes.per.second", get remote_log_manager_fetch_max_bytes_per_second, Long, "9223372036854775807", AtLeast(1), Medium, ClusterWide, public, Accepted(TIERED),
        "Bytes per second that may be read from remote storage."),
    ("remote.log.manager.fetch.quota.window.num", get remote_log_manager_fetch_quota_window_num, Int, "11", AtLeast(1), Medium, ReadOnly, public, Later(QUOTAS),
        "Number of samples that measure reading from remote storage."),
    ("remote.log.manager.fetch.quota.window.size.seconds", get remote_log_manager_fetch_quota_window_size_seconds, Int, "1", AtLeast(1), Medium, ReadOnly, public, Later(QUOTAS),
        "Length of one sample that measures reading from remote storage."),
    ("remote.fetch.max.wait.ms", get remote_fetch_max_wait_ms, Int, "500", AtLeast(1), Medium, ClusterWide, public, Accepted(TIERED),
        "Longest wait for remote storage while a fetch is answered."),
    ("zookeeper.connect", get zookeeper_connect, OptStr, none, Any, High, ReadOnly, public, Effective,
        "ZooKeeper servers as host:port[,host:port…][/chroot]; without it a single broker coordinates by its embedded store."),
    ("zookeeper.session.timeout.ms", get zookeeper_session_timeout_ms, Int, "18000", Any, High, ReadOnly, public, Effective,
        "How long ZooKeeper keeps the broker's session without hearing from it."),
    ("zookeeper.connection.timeout.ms", raw zookeeper_connection_timeout_ms, OptInt, none, Any, High, ReadOnly, public, Effective,
        "Longest wait for ZooKeeper at start; zookeeper.session.timeout.ms when not set."),
    ("zookeeper.set.acl", get zookeeper_set_acl, Bool, "false", Any, High, ReadOnly, public, Later(SECURITY),
        "Protects the znodes that the broker creates with ACLs."),
    ("zookeeper.max.in.flight.requests", get zookeeper_max_in_flight_requests, Int, "10", AtLeast(1), High, ReadOnly, public, Accepted("requests are sent to ZooKeeper as they come"),
        "Most requests to ZooKeeper that may be without an answer at a time."),
    ("zookeeper.ssl.client.enable", get zookeeper_ssl_client_enable, Bool, "false", Any, Medium, ReadOnly, public, Later(SECURITY),
        "Speaks TLS to ZooKeeper."),
    ("zookeeper.clientCnxnSocket", get zookeeper_client_cnxn_socket, OptStr, none, Any, Medium, ReadOnly, public, Later(SECURITY),
        "Java class of ZooKeeper's client socket; the Netty one stands for TLS."),
    ("zookeeper.ssl.keystore.location", get zookeeper_ssl_keystore_location, OptStr, none, Any, Medium, ReadOnly, public, Later(SECURITY),
        "File with the broker's key and certificate for ZooKeeper."),
    ("zookeeper.ssl.keystore.password", get zookeeper_ssl_keystore_password, OptPassword, none, Any, Medium, ReadOnly, public, Later(SECURITY),
        "Password of the key store for ZooKeeper."),
    ("zookeeper.ssl.keystore.type", get zookeeper_ssl_keystore_type, OptStr, none, Any, Medium, ReadOnly, public, Later(SECURITY),
        "Format of the key store for ZooKeeper: JKS, PKCS12 or PEM."),
    ("zookeeper.ssl.truststore.location", get zookeeper_ssl_truststore_location, OptStr, none, Any, Medium, ReadOnly, public, Later(SECURITY),
        "File with the certificates that ZooKeeper's servers are checked with."),
    ("zookeeper.ssl.truststore.password", get zookeeper_ssl_truststore_password, OptPassword, none, Any, Medium, ReadOnly, public, Later(SECURITY),
        "Password of the trust store for ZooKeeper."),
    ("zookeeper.ssl.truststore.type", get zookeeper_ssl_truststore_type, OptStr, none, Any, Medium, ReadOnly, public, Later(SECURITY),
        "Format of the trust store for ZooKeeper: JKS, PKCS12 or PEM."),
    ("zookeeper.ssl.protocol", get zookeeper_ssl_protocol, Str, "TLSv1.2", Any, Low, ReadOnly, public, Later(SECURITY),
        "TLS version for ZooKeeper."),
    ("zookeeper.ssl.enabled.protocols", get zookeeper_ssl_enabled_protocols, OptList, none, Any, Low, ReadOnly, public, Later(SECURITY),
        "TLS versions allowed for ZooKeeper; zookeeper.ssl.protocol alone when not set."),
    ("zookeeper.ssl.cipher.suites", get zookeeper_ssl_cipher_suites, OptList, none, Any, Low, ReadOnly, public, Later(SECURITY),
        "Cipher suites allowed for ZooKeeper."),
    ("zookeeper.ssl.endpoint.identification.algorithm", get zookeeper_ssl_endpoint_identification_algorithm, Str, "HTTPS", Any, Low, ReadOnly, public, Later(SECURITY),
        "HTTPS checks the host name in ZooKeeper's certificate; empty does not."),
    ("zookeeper.ssl.crl.enable", get zookeeper_ssl_crl_enable, Bool, "false", Any, Low, ReadOnly, public, Later(SECURITY),
        "Looks ZooKeeper's certificates up in revocation lists."),
    ("zookeeper.ssl.ocsp.enable", get zookeeper_ssl_ocsp_enable, Bool, "false", Any, Low, ReadOnly, public, Later(SECURITY),
        "Asks by OCSP whether ZooKeeper's certificates are revoked."),
    ("broker.id.generation.enable", get broker_id_generation_enable, Bool, "true", Any, Medium, ReadOnly, public, Effective,
        "Lets a broker without broker.id take one above reserved.broker.max.id."),
    ("reserved.broker.max.id", get reserved_broker_max_id, Int, "1000", AtLeast(0), Medium, ReadOnly, public, Effective,
        "Highest broker.id that may be configured; generated ids begin above it."),
    ("broker.id", raw broker_id, Int, "-1", Any, High, ReadOnly, public, Effective,
        "Id of this broker, unique in the cluster; -1 takes a generated one."),
    ("message.max.bytes", get message_max_bytes, Int, "1048588", AtLeast(0), High, ClusterWide, public, Effective,
        "Largest record batch, after compression, that a topic takes by default."),
    ("num.io.threads", get num_io_threads, Int, "8", AtLeast(1), High, ClusterWide, public, Accepted(THREADS),
        "Threads that process requests in Kafka."),
    ("num.replica.alter.log.dirs.threads", get num_replica_alter_log_dirs_threads, OptInt, none, Any, High, ReadOnly, public, Effective,
        "Threads that move replicas between log directories; one per directory when not set."),
    ("background.threads", get background_threads, Int, "10", AtLeast(1), High, ClusterWide, public, Accepted(THREADS),
        "Threads for background work in Kafka."),
    ("request.timeout.ms", get request_timeout_ms, Int, "30000", Any, High, ReadOnly, public, Effective,
        "How long a broker waits for the answer to a request it sent."),
    ("socket.connection.setup.timeout.ms", get socket_connection_setup_timeout_ms, Long, "10000", Any, Medium, ReadOnly, public, Effective,
        "How long a broker waits for a connection to another broker."),
    ("socket.connection.setup.timeout.max.ms", get socket_connection_setup_timeout_max_ms, Long, "30000", Any, Medium, ReadOnly, public, Later(REPLICATION),
        "Longest wait for a connection to another broker after repeated failures."),
    ("authorizer.class.name", get authorizer_class_name, Str, "", NonNull, Low, ReadOnly, public, Later(SECURITY),
        "Java class that decides who may do what; kafka.security.authorizer.AclAuthorizer keeps ACLs in ZooKeeper."),
    ("early.start.listeners", get early_start_listeners, OptStr, none, Any, High, ReadOnly, public, Accepted(KRAFT),
        "Listeners that open before the broker is ready."),
    ("broker.rack", get broker_rack, OptStr, none, Any, Medium, ReadOnly, public, Effective,
        "Name of the rack or zone the broker stands in, for replica placement and reads from close by."),
    ("controlled.shutdown.max.retries", get controlled_shutdown_max_retries, Int, "3", Any, Medium, ReadOnly, public, Effective,
        "How often the broker tries to hand its partitions over before it stops anyway."),
    ("controlled.shutdown.retry.backoff.ms", get controlled_shutdown_retry_backoff_ms, Long, "5000", Any, Medium, ReadOnly, public, Effective,
        "Pause between two tries of a controlled shutdown."),
    ("controlled.shutdown.enable", get controlled_shutdown_enable, Bool, "true", Any, Medium, ReadOnly, public, Effective,
        "Hands leadership of partitions over before stopping."),
    ("delete.topic.enable", get delete_topic_enable, Bool, "true", Any, High, ReadOnly, public, Effective,
        "Lets clients delete topics."),
    ("compression.type", raw compression_type, Str, "producer", OneOf(COMPRESSION), High, ClusterWide, public, Effective,
        "Codec in which batches are stored by default; producer keeps what was sent."),
    ("compression.gzip.level", get compression_gzip_level, Int, "-1", GzipLevel, Medium, ClusterWide, public, Effective,
        "Level at which the broker compresses with gzip."),
    ("compression.lz4.level", get compression_lz4_level, Int, "9", Between(1, 17), Medium, ClusterWide, public, Effective,
        "Level at which the broker compresses with lz4."),
    ("compression.zstd.level", get compression_zstd_level, Int, "3", Between(-131072, 22), Medium, ClusterWide, public, Effective,
        "Level at which the broker compresses with zstd."),
    ("max.incremental.fetch.session.cache.slots", get max_incremental_fetch_session_cache_slots, Int, "1000", AtLeast(0), Medium, ReadOnly, public, Effective,
        "Most incremental fetch sessions kept at a time."),
    ("fetch.max.bytes", get fetch_max_bytes, Int, "57671680", AtLeast(1024), Medium, ReadOnly, public, Effective,
        "Most bytes in the answer to one fetch, but for a larger first batch."),
    ("max.request.partition.size.limit", get max_request_partition_size_limit, Int, "2000", AtLeast(1), Medium, ReadOnly, public, Accepted(KRAFT),
        "Most partitions that one DescribeTopicPartitions request may ask for."),
    ("unstable.api.versions.enable", get unstable_api_versions_enable, Bool, "false", Any, High, ReadOnly, internal, Accepted(KRAFT),
        "Offers versions of requests that are still in development."),
    ("unstable.feature.versions.enable", get unstable_feature_versions_enable, Bool, "false", Any, High, ReadOnly, internal, Accepted(KRAFT),
        "Offers feature levels that are still in development."),
    ("metadata.log.max.record.bytes.between.snapshots", get metadata_log_max_record_bytes_between_snapshots, Long, "20971520", AtLeast(1), High, ReadOnly, public, Accepted(KRAFT),
        "Bytes of metadata records between two snapshots."),
    ("metadata.log.max.snapshot.interval.ms", get metadata_log_max_snapshot_interval_ms, Long, "3600000", AtLeast(0), High, ReadOnly, public, Accepted(KRAFT),
        "Longest time between two metadata snapshots."),
    ("process.roles", get process_roles, List, "", EachOf(ROLES), High, ReadOnly, public, Accepted(KRAFT),
        "Roles of a KRaft node; empty with ZooKeeper."),
    ("node.id", raw node_id, Int, "-1", Any, High, ReadOnly, public, Accepted(KRAFT),
        "Other name of broker.id."),
    ("initial.broker.registration.timeout.ms", get initial_broker_registration_timeout_ms, Int, "60000", Any, Medium, ReadOnly, public, Accepted(KRAFT),
        "How long a KRaft broker tries to register at start."),
    ("broker.heartbeat.interval.ms", get broker_heartbeat_interval_ms, Int, "2000", Any, Medium, ReadOnly, public, Accepted(KRAFT),
        "Time between heartbeats of a KRaft broker."),
    ("broker.session.timeout.ms", get broker_session_timeout_ms, Int, "9000", Any, Medium, ReadOnly, public, Accepted(KRAFT),
        "How long a KRaft controller keeps a silent broker."),
    ("controller.listener.names", get controller_listener_names, OptStr, none, Any, High, ReadOnly, public, Accepted(KRAFT),
        "Listeners of KRaft controllers; must be empty with ZooKeeper."),
    ("sasl.mechanism.controller.protocol", get sasl_mechanism_controller_protocol, Str, "GSSAPI", Any, High, ReadOnly, public, Accepted(KRAFT),
        "SASL mechanism towards KRaft controllers."),
    ("metadata.log.dir", get metadata_log_dir, OptStr, none, Any, High, ReadOnly, public, Accepted(KRAFT),
        "Directory of the KRaft metadata log."),
    ("metadata.log.segment.bytes", get metadata_log_segment_bytes, Int, "1073741824", AtLeast(12), High, ReadOnly, public, Accepted(KRAFT),
        "Largest segment of the KRaft metadata log."),
    ("metadata.log.segment.min.bytes", get metadata_log_segment_min_bytes, Int, "8388608", AtLeast(12), High, ReadOnly, internal, Accepted(KRAFT),
        "Smallest setting allowed for metadata.log.segment.bytes."),
    ("metadata.log.segment.ms", get metadata_log_segment_ms, Long, "604800000", Any, High, ReadOnly, public, Accepted(KRAFT),
        "Age at which the KRaft metadata log starts a new segment."),
    ("metadata.max.retention.bytes", get metadata_max_retention_bytes, Long, "104857600", Any, High, ReadOnly, public, Accepted(KRAFT),
        "Size at which the KRaft metadata log is trimmed."),
    ("metadata.max.retention.ms", get metadata_max_retention_ms, Long, "604800000", Any, High, ReadOnly, public, Accepted(KRAFT),
        "Age at which the KRaft metadata log is trimmed."),
    ("metadata.max.idle.interval.ms", get metadata_max_idle_interval_ms, Int, "500", AtLeast(0), Low, ReadOnly, public, Accepted(KRAFT),
        "Time after which an idle KRaft controller writes a no-op record."),
    ("server.max.startup.time.ms", get server_max_startup_time_ms, Long, "9223372036854775807", AtLeast(0), Medium, ReadOnly, internal, Accepted(KRAFT),
        "Longest time a KRaft node may take to start."),
    ("zookeeper.metadata.migration.enable", get zookeeper_metadata_migration_enable, Bool, "false", Any, High, ReadOnly, public, Accepted(KRAFT),
        "Migrates the cluster from ZooKeeper to KRaft."),
    ("eligible.leader.replicas.enable", get eligible_leader_replicas_enable, Bool, "false", Any, High, ReadOnly, public, Accepted(KRAFT),
        "Tracks replicas that may lead after the ISR is gone."),
    ("zookeeper.metadata.migration.min.batch.size", get zookeeper_metadata_migration_min_batch_size, Int, "200", AtLeast(1), Medium, ReadOnly, internal, Accepted(KRAFT),
        "Records per batch while migrating from ZooKeeper to KRaft."),
    ("listeners", raw listeners, Str, "PLAINTEXT://:9092", Any, High, PerBroker, public, Effective,
        "Where the broker listens, as NAME://host:port,…; an empty host is every interface."),
    ("advertised.listeners", raw advertised_listeners, OptStr, none, Any, High, PerBroker, public, Effective,
        "Addresses that clients are told to connect to; listeners when not set."),
    ("listener.security.protocol.map", raw listener_security_protocol_map, Str, "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT", Any, Low, PerBroker, public, Effective,
        "Security protocol of each listener name, as NAME:PROTOCOL,…."),
    ("control.plane.listener.name", raw control_plane_listener_name, OptStr, none, Any, High, ReadOnly, public, Effective,
        "Listener kept for requests of the controller."),
    ("socket.send.buffer.bytes", get socket_send_buffer_bytes, Int, "102400", Any, High, ReadOnly, public, Effective,
        "SO_SNDBUF of client connections. While it is not set, or -1, the system fits the buffer to the connection."),
    ("socket.receive.buffer.bytes", get socket_receive_buffer_bytes, Int, "102400", Any, High, ReadOnly, public, Effective,
        "SO_RCVBUF of client connections. While it is not set, or -1, the system fits the buffer to the connection."),
    ("socket.request.max.bytes", get socket_request_max_bytes, Int, "104857600", AtLeast(1), High, ReadOnly, public, Effective,
        "Largest request that a connection may send."),
    ("socket.listen.backlog.size", get socket_listen_backlog_size, Int, "50", AtLeast(1), Medium, ReadOnly, public, Effective,
        "Connections that may wait to be accepted on a listener."),
    ("max.connections.per.ip", get max_connections_per_ip, Int, "2147483647", AtLeast(0), Medium, ClusterWide, public, Effective,
        "Most connections from one address."),
    ("max.connections.per.ip.overrides", raw max_connections_per_ip_overrides, Str, "", Any, Medium, ClusterWide, public, Effective,
        "Limits for single addresses or host names, as host:count,…."),
    ("max.connections", get max_connections, Int, "2147483647", AtLeast(0), Medium, ClusterWide, public, Effective,
        "Most connections to the broker at a time."),
    ("max.connection.creation.rate", get max_connection_creation_rate, Int, "2147483647", AtLeast(0), Medium, ClusterWide, public, Later(QUOTAS),
        "Most new connections per second."),
    ("connections.max.idle.ms", get connections_max_idle_ms, Long, "600000", Any, Medium, ReadOnly, public, Effective,
        "Idle time after which a connection is closed; negative never closes."),
    ("connection.failed.authentication.delay.ms", get connection_failed_authentication_delay_ms, Int, "100", AtLeast(0), Low, ReadOnly, public, Later(SECURITY),
        "Pause before a connection is closed whose authentication failed."),
    ("queued.max.requests", get queued_max_requests, Int, "500", AtLeast(1), High, ReadOnly, public, Accepted(THREADS),
        "Requests that may wait for a thread in Kafka."),
    ("queued.max.request.bytes", get queued_max_request_bytes, Long, "-1", Any, Medium, ReadOnly, public, Effective,
        "Memory for requests that are read but not answered yet; -1 without limit."),
    ("num.network.threads", get num_network_threads, Int, "3", AtLeast(1), High, ClusterWide, public, Accepted(THREADS),
        "Threads per listener that read and write sockets in Kafka."),
    ("controller.socket.timeout.ms", get controller_socket_timeout_ms, Int, "30000", Any, Medium, ReadOnly, public, Effective,
        "How long the controller waits for a broker's answer."),
    ("default.replication.factor", get default_replication_factor, Int, "1", Any, Medium, ReadOnly, public, Effective,
        "Replicas of a topic that is created without a number."),
    ("replica.lag.time.max.ms", get replica_lag_time_max_ms, Long, "30000", Any, High, ReadOnly, public, Effective,
        "Time after which a follower that does not catch up leaves the ISR."),
    ("replica.socket.timeout.ms", get replica_socket_timeout_ms, Int, "30000", Any, High, ReadOnly, public, Effective,
        "How long a follower waits for the leader's answer."),
    ("replica.socket.receive.buffer.bytes", get replica_socket_receive_buffer_bytes, Int, "65536", Any, High, ReadOnly, public, Later(REPLICATION),
        "SO_RCVBUF of a follower's connections to leaders."),
    ("replica.fetch.max.bytes", get replica_fetch_max_bytes, Int, "1048576", AtLeast(0), Medium, ReadOnly, public, Effective,
        "Bytes a follower asks for per partition."),
    ("replica.fetch.wait.max.ms", get replica_fetch_wait_max_ms, Int, "500", Any, High, ReadOnly, public, Effective,
        "How long a leader may let a follower's fetch wait for data."),
    ("replica.fetch.backoff.ms", get replica_fetch_backoff_ms, Int, "1000", AtLeast(0), Medium, ReadOnly, public, Effective,
        "Pause of a follower after an error."),
    ("replica.fetch.min.bytes", get replica_fetch_min_bytes, Int, "1", Any, High, ReadOnly, public, Effective,
        "Bytes that answer a follower's fetch at once."),
    ("replica.fetch.response.max.bytes", get replica_fetch_response_max_bytes, Int, "10485760", AtLeast(0), Medium, ReadOnly, public, Effective,
        "Bytes a follower asks for in one fetch."),
    ("num.replica.fetchers", get num_replica_fetchers, Int, "1", Any, High, ClusterWide, public, Effective,
        "Fetchers per leader that a follower runs."),
    ("replica.high.watermark.checkpoint.interval.ms", get replica_high_watermark_checkpoint_interval_ms, Long, "5000", Any, High, ReadOnly, public, Effective,
        "Time between two writes of the high watermarks to disk."),
    ("fetch.purgatory.purge.interval.requests", get fetch_purgatory_purge_interval_requests, Int, "1000", Any, Medium, ReadOnly, public, Accepted(PURGATORY),
        "Completed fetches after which Kafka's purgatory is swept."),
    ("producer.purgatory.purge.interval.requests", get producer_purgatory_purge_interval_requests, Int, "1000", Any, Medium, ReadOnly, public, Accepted(PURGATORY),
        "Completed produces after which Kafka's purgatory is swept."),
    ("delete.records.purgatory.purge.interval.requests", get delete_records_purgatory_purge_interval_requests, Int, "1", Any, Medium, ReadOnly, public, Accepted(PURGATORY),
        "Completed DeleteRecords after which Kafka's purgatory is swept."),
    ("auto.leader.rebalance.enable", get auto_leader_rebalance_enable, Bool, "true", Any, High, ReadOnly, public, Effective,
        "Moves leadership back to preferred replicas from time to time."),
    ("leader.imbalance.per.broker.percentage", get leader_imbalance_per_broker_percentage, Int, "10", Any, High, ReadOnly, public, Effective,
        "Share of partitions not led by their preferred replica above which leadership moves back."),
    ("leader.imbalance.check.interval.seconds", get leader_imbalance_check_interval_seconds, Long, "300", AtLeast(1), High, ReadOnly, public, Effective,
        "Time between two looks at the balance of leadership."),
    ("unclean.leader.election.interval.ms", get unclean_leader_election_interval_ms, Long, "300000", AtLeast(1), Medium, ReadOnly, internal, Later(REPLICATION),
        "Time between two looks for partitions that need an unclean election."),
    ("unclean.leader.election.enable", get unclean_leader_election_enable, Bool, "false", Any, High, ClusterWide, public, Effective,
        "Lets replicas outside the ISR lead, at the price of losing records."),
    ("security.inter.broker.protocol", raw security_inter_broker_protocol, Str, "PLAINTEXT", OneOf(PROTOCOLS), Medium, ReadOnly, public, Later(SECURITY),
        "Security protocol between brokers, when inter.broker.listener.name is not set."),
    ("inter.broker.protocol.version", get inter_broker_protocol_version, Str, "3.9-IV0", Version, Medium, ReadOnly, public, Effective,
        "Release whose protocol brokers speak among themselves; the same on all brokers."),
    ("inter.broker.listener.name", raw inter_broker_listener_name, OptStr, none, Any, Medium, ReadOnly, public, Effective,
        "Listener that brokers use among themselves."),
    ("replica.selector.class", get replica_selector_class, OptStr, none, Any, Medium, ReadOnly, public, Effective,
        "What chooses the replica a consumer reads from: org.apache.kafka.common.replica.RackAwareReplicaSelector goes by client.rack; absent, or anything else, it is the leader."),
    ("group.min.session.timeout.ms", get group_min_session_timeout_ms, Int, "6000", Any, Medium, ReadOnly, public, Effective,
        "Shortest session timeout a group member may ask for."),
    ("group.max.session.timeout.ms", get group_max_session_timeout_ms, Int, "1800000", Any, Medium, ReadOnly, public, Effective,
        "Longest session timeout a group member may ask for."),
    ("group.initial.rebalance.delay.ms", get group_initial_rebalance_delay_ms, Int, "3000", Any, Medium, ReadOnly, public, Effective,
        "How long an empty group waits for more members before its first rebalance."),
    ("group.max.size", get group_max_size, Int, "2147483647", AtLeast(1), Medium, ReadOnly, public, Effective,
        "Most members of one group."),
    ("group.coordinator.rebalance.protocols", get group_coordinator_rebalance_protocols, List, "classic", EachOf(GROUP_TYPES), Medium, ReadOnly, public, Accepted(NEW_GROUPS),
        "Group protocols offered; classic is the only one with ZooKeeper."),
    ("group.coordinator.threads", get group_coordinator_threads, Int, "1", AtLeast(1), Medium, ReadOnly, public, Accepted(NEW_GROUPS),
        "Threads of KRaft's group coordinator."),
    ("group.coordinator.append.linger.ms", get group_coordinator_append_linger_ms, Int, "10", AtLeast(0), Medium, ReadOnly, public, Accepted(NEW_GROUPS),
        "How long KRaft's group coordinator gathers records before it appends."),
    ("group.coordinator.new.enable", get group_coordinator_new_enable, Bool, "false", Any, Medium, ReadOnly, internal, Accepted(NEW_GROUPS),
        "Uses KRaft's group coordinator."),
    ("offset.metadata.max.bytes", get offset_metadata_max_bytes, Int, "4096", Any, High, ReadOnly, public, Effective,
        "Longest metadata string of a committed offset."),
    ("offsets.load.buffer.size", get offsets_load_buffer_size, Int, "5242880", AtLeast(1), High, ReadOnly, public, Effective,
        "Bytes read at a time while committed offsets are loaded."),
    ("offsets.topic.replication.factor", get offsets_topic_replication_factor, Short, "3", AtLeast(1), High, ReadOnly, public, Effective,
        "Replicas of the topic for committed offsets; it is created only once so many brokers live."),
    ("offsets.topic.num.partitions", get offsets_topic_num_partitions, Int, "50", AtLeast(1), High, ReadOnly, public, Effective,
        "Partitions of the topic for committed offsets; do not change it later."),
    ("offsets.topic.segment.bytes", get offsets_topic_segment_bytes, Int, "104857600", AtLeast(1), High, ReadOnly, public, Effective,
        "Segment size of the topic for committed offsets."),
    ("offsets.topic.compression.codec", get offsets_topic_compression_codec, Int, "0", Any, High, ReadOnly, public, Effective,
        "Codec of the topic for committed offsets: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd."),
    ("offsets.retention.minutes", get offsets_retention_minutes, Int, "10080", AtLeast(1), High, ReadOnly, public, Effective,
        "How long offsets are kept after their group became empty."),
    ("offsets.retention.check.interval.ms", get offsets_retention_check_interval_ms, Long, "600000", AtLeast(1), High, ReadOnly, public, Effective,
        "Time between two looks for expired offsets."),
    ("offsets.commit.timeout.ms", get offsets_commit_timeout_ms, Int, "5000", AtLeast(1), High, ReadOnly, public, Effective,
        "How long an offset commit may wait for its replicas."),
    ("offsets.commit.required.acks", get offsets_commit_required_acks, Short, "-1", Any, High, ReadOnly, public, Effective,
        "Acknowledgements an offset commit needs; leave it at -1."),
    ("group.consumer.session.timeout.ms", get group_consumer_session_timeout_ms, Int, "45000", AtLeast(1), Medium, ReadOnly, public, Accepted(NEW_GROUPS),
        "Session timeout of consumer groups of KIP-848."),
    ("group.consumer.min.session.timeout.ms", get group_consumer_min_session_timeout_ms, Int, "45000", AtLeast(1), Medium, ReadOnly, public, Accepted(NEW_GROUPS),
        "Shortest session timeout of consumer groups of KIP-848."),
    ("group.consumer.max.session.timeout.ms", get group_consumer_max_session_timeout_ms, Int, "60000", AtLeast(1), Medium, ReadOnly, public, Accepted(NEW_GROUPS),
        "Longest session timeout of consumer groups of KIP-848."),
    ("group.consumer.heartbeat.interval.ms", get group_consumer_heartbeat_interval_ms, Int, "5000", AtLeast(1), Medium, ReadOnly, public, Accepted(NEW_GROUPS),
        "Heartbeat interval of consumer groups of KIP-848."),
    ("group.consumer.min.heartbeat.interval.ms", get group_consumer_min_heartbeat_interval_ms, Int, "5000", AtLeast(1), Medium, ReadOnly, public, Accepted(NEW_GROUPS),
        "Shortest heartbeat interval of consumer groups of KIP-848."),
    ("group.consumer.max.heartbeat.interval.ms", get group_consumer_max_heartbeat_interval_ms, Int, "15000", AtLeast(1), Medium, ReadOnly, public, Accepted(NEW_GROUPS),
        "Longest heartbeat interval of consumer groups of KIP-848."),
    ("group.consumer.max.size", get group_consumer_max_size, Int, "2147483647", AtLeast(1), Medium, ReadOnly, public, Accepted(NEW_GROUPS),
        "Most members of a consumer group of KIP-848."),
    ("group.consumer.assignors", get group_consumer_assignors, List, "org.apache.kafka.coordinator.group.assignor.UniformAssignor,org.apache.kafka.coordinator.group.assignor.RangeAssignor", Any, Medium, ReadOnly, public, Accepted(NEW_GROUPS),
        "Java classes of the assignors of KIP-848."),
    ("group.consumer.migration.policy", get group_consumer_migration_policy, Str, "disabled", IgnoringCase(MIGRATION_POLICIES), Medium, ReadOnly, internal, Accepted(NEW_GROUPS),
        "How groups may move between the classic protocol and KIP-848."),
    ("group.share.session.timeout.ms", get group_share_session_timeout_ms, Int, "45000", AtLeast(1), Medium, ReadOnly, public, Accepted(NEW_GROUPS),
        "Session timeout of share groups."),
    ("group.share.min.session.timeout.ms", get group_share_min_session_timeout_ms, Int, "45000", AtLeast(1), Medium, ReadOnly, public, Accepted(NEW_GROUPS),
        "Shortest session timeout of share groups."),
    ("group.share.max.session.timeout.ms", get group_share_max_session_timeout_ms, Int, "60000", AtLeast(1), Medium, ReadOnly, public, Accepted(NEW_GROUPS),
        "Longest session timeout of share groups."),
    ("group.share.heartbeat.interval.ms", get group_share_heartbeat_interval_ms, Int, "5000", AtLeast(1), Medium, ReadOnly, public, Accepted(NEW_GROUPS),
        "Heartbeat interval of share groups."),
    ("group.share.min.heartbeat.interval.ms", get group_share_min_heartbeat_interval_ms, Int, "5000", AtLeast(1), Medium, ReadOnly, public, Accepted(NEW_GROUPS),
        "Shortest heartbeat interval of share groups."),
    ("group.share.max.heartbeat.interval.ms", get group_share_max_heartbeat_interval_ms, Int, "15000", AtLeast(1), Medium, ReadOnly, public, Accepted(NEW_GROUPS),
        "Longest heartbeat interval of share groups."),
    ("group.share.max.size", get group_share_max_size, Short, "200", Between(10, 1000), Medium, ReadOnly, public, Accepted(NEW_GROUPS),
        "Most members of a share group."),
    ("log.cleaner.threads", get log_cleaner_threads, Int, "1", AtLeast(0), Medium, ClusterWide, public, Later(CLEANER),
        "Threads that compact logs."),
    ("log.cleaner.io.max.bytes.per.second", get log_cleaner_io_max_bytes_per_second, Double, "1.7976931348623157E308", Any, Medium, ClusterWide, public, Later(CLEANER),
        "Bytes per second that compaction may read and write."),
    ("log.cleaner.dedupe.buffer.size", get log_cleaner_dedupe_buffer_size, Long, "134217728", Any, Medium, ClusterWide, public, Later(CLEANER),
        "Memory for the key maps of all compaction threads together."),
    ("log.cleaner.io.buffer.size", get log_cleaner_io_buffer_size, Int, "524288", AtLeast(0), Medium, ClusterWide, public, Later(CLEANER),
        "Memory for reading and writing of all compaction threads together."),
    ("log.cleaner.io.buffer.load.factor", get log_cleaner_io_buffer_load_factor, Double, "0.9", Any, Medium, ClusterWide, public, Later(CLEANER),
        "How full a key map of compaction may get."),
    ("log.cleaner.backoff.ms", get log_cleaner_backoff_ms, Long, "15000", AtLeast(0), Medium, ClusterWide, public, Later(CLEANER),
        "Pause when there is nothing to compact."),
    ("log.cleaner.min.cleanable.ratio", get log_cleaner_min_cleanable_ratio, Double, "0.5", Ratio(0.0, 1.0), Medium, ClusterWide, public, Later(CLEANER),
        "Share of not yet compacted bytes from which a log is worth compacting."),
    ("log.cleaner.enable", get log_cleaner_enable, Bool, "true", Any, Medium, ReadOnly, public, Later(CLEANER),
        "Runs compaction; the topic for committed offsets grows without it."),
    ("log.cleaner.delete.retention.ms", get log_cleaner_delete_retention_ms, Long, "86400000", AtLeast(0), Medium, ClusterWide, public, Later(CLEANER),
        "How long a delete marker stays in a compacted topic."),
    ("log.cleaner.min.compaction.lag.ms", get log_cleaner_min_compaction_lag_ms, Long, "0", AtLeast(0), Medium, ClusterWide, public, Later(CLEANER),
        "Time for which a record is safe from compaction."),
    ("log.cleaner.max.compaction.lag.ms", get log_cleaner_max_compaction_lag_ms, Long, "9223372036854775807", AtLeast(1), Medium, ClusterWide, public, Later(CLEANER),
        "Time after which a record must be compacted."),
    ("num.partitions", get num_partitions, Int, "1", AtLeast(1), Medium, ReadOnly, public, Effective,
        "Partitions of a topic that is created without a number."),
    ("log.dir", raw log_dir, Str, "/tmp/kafka-logs", Any, High, ReadOnly, public, Effective,
        "Where logs are kept, when log.dirs is not set."),
    ("log.dirs", raw log_dirs, OptStr, none, Any, High, ReadOnly, public, Effective,
        "Directories where logs are kept, separated by commas; log.dir when not set."),
    ("log.segment.bytes", get log_segment_bytes, Int, "1073741824", AtLeast(14), High, ClusterWide, public, Effective,
        "Largest size of one segment file."),
    ("log.roll.ms", raw log_roll_ms, OptLong, none, Any, High, ClusterWide, public, Effective,
        "Age at which a new segment is started; log.roll.hours when not set."),
    ("log.roll.hours", raw log_roll_hours, Int, "168", AtLeast(1), High, ReadOnly, public, Effective,
        "Age in hours at which a new segment is started, when log.roll.ms is not set."),
    ("log.roll.jitter.ms", raw log_roll_jitter_ms, OptLong, none, Any, High, ClusterWide, public, Effective,
        "Largest random amount taken off the roll age; log.roll.jitter.hours when not set."),
    ("log.roll.jitter.hours", raw log_roll_jitter_hours, Int, "0", AtLeast(0), High, ReadOnly, public, Effective,
        "Largest random amount in hours taken off the roll age, when log.roll.jitter.ms is not set."),
    ("log.retention.ms", raw log_retention_ms, OptLong, none, Any, High, ClusterWide, public, Effective,
        "Age at which segments are deleted, -1 never; log.retention.minutes when not set."),
    ("log.retention.minutes", raw log_retention_minutes, OptInt, none, Any, High, ReadOnly, public, Effective,
        "Age in minutes at which segments are deleted; log.retention.hours when not set."),
    ("log.retention.hours", raw log_retention_hours, Int, "168", Any, High, ReadOnly, public, Effective,
        "Age in hours at which segments are deleted, when neither minutes nor milliseconds are set."),
    ("log.retention.bytes", get log_retention_bytes, Long, "-1", Any, High, ClusterWide, public, Effective,
        "Size of a partition above which its oldest segments are deleted; -1 without limit."),
    ("log.retention.check.interval.ms", get log_retention_check_interval_ms, Long, "300000", AtLeast(1), Medium, ReadOnly, public, Effective,
        "Time between two looks for segments to delete."),
    ("log.cleanup.policy", raw log_cleanup_policy, List, "delete", EachOf(CLEANUP), Medium, ClusterWide, public, Effective,
        "What becomes of old segments: delete, compact or both."),
    ("log.index.size.max.bytes", get log_index_size_max_bytes, Int, "10485760", AtLeast(4), Medium, ClusterWide, public, Effective,
        "Largest size of an index file."),
    ("log.index.interval.bytes", get log_index_interval_bytes, Int, "4096", AtLeast(0), Medium, ClusterWide, public, Effective,
        "Bytes of log between two index entries."),
    ("log.flush.interval.messages", get log_flush_interval_messages, Long, "9223372036854775807", AtLeast(1), High, ClusterWide, public, Effective,
        "Records after which a log is forced to disk."),
    ("log.segment.delete.delay.ms", get log_segment_delete_delay_ms, Long, "60000", AtLeast(0), High, ClusterWide, public, Effective,
        "Time between taking a segment out of the log and deleting its file."),
    ("log.flush.scheduler.interval.ms", get log_flush_scheduler_interval_ms, Long, "9223372036854775807", Any, High, ReadOnly, public, Effective,
        "Time between two looks for logs that must be forced to disk."),
    ("log.flush.interval.ms", raw log_flush_interval_ms, OptLong, none, Any, High, ClusterWide, public, Effective,
        "Longest time a record stays in memory only; log.flush.scheduler.interval.ms when not set."),
    ("log.flush.offset.checkpoint.interval.ms", get log_flush_offset_checkpoint_interval_ms, Int, "60000", AtLeast(0), High, ReadOnly, public, Effective,
        "Time between two writes of the recovery points."),
    ("log.flush.start.offset.checkpoint.interval.ms", get log_flush_start_offset_checkpoint_interval_ms, Int, "60000", AtLeast(0), High, ReadOnly, public, Effective,
        "Time between two writes of the log start offsets."),
    ("log.preallocate", get log_preallocate, Bool, "false", Any, Medium, ClusterWide, public, Effective,
        "Gives a new segment its full size on disk at once."),
    ("num.recovery.threads.per.data.dir", get num_recovery_threads_per_data_dir, Int, "1", AtLeast(1), High, ClusterWide, public, Effective,
        "Threads per log directory that recover logs at start and flush them at stop; two where it is not set."),
    ("auto.create.topics.enable", get auto_create_topics_enable, Bool, "true", Any, High, ReadOnly, public, Effective,
        "Creates a topic when a client first asks for it."),
    ("min.insync.replicas", get min_insync_replicas, Int, "1", AtLeast(1), High, ClusterWide, public, Effective,
        "Replicas in the ISR that a write with acks=all needs."),
    ("log.message.format.version", get log_message_format_version, Str, "3.0-IV1", Version, Medium, ReadOnly, public, Accepted(FORMAT),
        "Oldest record format; has no effect."),
    ("log.message.timestamp.type", raw log_message_timestamp_type, Str, "CreateTime", OneOf(TIMESTAMP_TYPES), Medium, ClusterWide, public, Effective,
        "Whose clock stamps records: the producer's (CreateTime) or the broker's (LogAppendTime)."),
    ("log.message.timestamp.difference.max.ms", get log_message_timestamp_difference_max_ms, Long, "9223372036854775807", AtLeast(0), Medium, ClusterWide, public, Effective,
        "Older limit for both directions of a record's time; used where the two newer ones are not set."),
    ("log.message.timestamp.before.max.ms", raw log_message_timestamp_before_max_ms, Long, "9223372036854775807", AtLeast(0), Medium, ClusterWide, public, Effective,
        "How far a record's time may lie in the past."),
    ("log.message.timestamp.after.max.ms", raw log_message_timestamp_after_max_ms, Long, "9223372036854775807", AtLeast(0), Medium, ClusterWide, public, Effective,
        "How far a record's time may lie in the future."),
    ("create.topic.policy.class.name", get create_topic_policy_class_name, OptClass, none, Any, Low, ReadOnly, public, Accepted(JVM),
        "Java class that may refuse new topics."),
    ("alter.config.policy.class.name", get alter_config_policy_class_name, OptClass, none, Any, Low, ReadOnly, public, Accepted(JVM),
        "Java class that may refuse changes of configuration."),
    ("log.message.downconversion.enable", get log_message_downconversion_enable, Bool, "true", Any, Low, ClusterWide, public, Effective,
        "Converts records to older formats for older consumers."),
    ("log.dir.failure.timeout.ms", get log_dir_failure_timeout_ms, Long, "30000", AtLeast(1), Low, ReadOnly, public, Accepted(KRAFT),
        "How long a KRaft broker may take to report a failed log directory."),
    ("log.initial.task.delay.ms", get log_initial_task_delay_ms, Long, "30000", AtLeast(0), Low, ReadOnly, internal, Effective,
        "Pause after start before the first round of retention, flush and checkpoints."),
    ("group.share.enable", get group_share_enable, Bool, "false", Any, Medium, ReadOnly, internal, Accepted(NEW_GROUPS),
        "Offers share groups."),
    ("group.share.delivery.count.limit", get group_share_delivery_count_limit, Int, "5", Between(2, 10), Medium, ReadOnly, public, Accepted(NEW_GROUPS),
        "Deliveries of a record to a share group before it is given up."),
    ("group.share.record.lock.duration.ms", get group_share_record_lock_duration_ms, Int, "30000", Between(1000, 60000), Medium, ReadOnly, public, Accepted(NEW_GROUPS),
        "How long a share group member holds a record."),
    ("group.share.min.record.lock.duration.ms", get group_share_min_record_lock_duration_ms, Int, "15000", Between(1000, 30000), Medium, ReadOnly, public, Accepted(NEW_GROUPS),
        "Shortest time a share group member may hold a record."),
    ("group.share.max.record.lock.duration.ms", get group_share_max_record_lock_duration_ms, Int, "60000", Between(30000, 3600000), Medium, ReadOnly, public, Accepted(NEW_GROUPS),
        "Longest time a share group member may hold a record."),
    ("group.share.max.groups", get group_share_max_groups, Short, "10", Between(1, 100), Medium, ReadOnly, public, Accepted(NEW_GROUPS),
        "Most share groups."),
    ("group.share.partition.max.record.locks", get group_share_partition_max_record_locks, Int, "200", Between(100, 10000), Medium, ReadOnly, public, Accepted(NEW_GROUPS),
        "Most records of a partition that share group members hold at a time."),
    ("transaction.state.log.min.isr", get transaction_state_log_min_isr, Int, "2", AtLeast(1), High, ReadOnly, public, Effective,
        "Replicas in the ISR that a write of transaction state needs."),
    ("transaction.state.log.load.buffer.size", get transaction_state_log_load_buffer_size, Int, "5242880", AtLeast(1), High, ReadOnly, public, Later(TRANSACTIONS),
        "Bytes read at a time while transaction state is loaded."),
    ("transaction.state.log.replication.factor", get transaction_state_log_replication_factor, Short, "3", AtLeast(1), High, ReadOnly, public, Effective,
        "Replicas of the topic for transaction state."),
    ("transaction.state.log.num.partitions", get transaction_state_log_num_partitions, Int, "50", AtLeast(1), High, ReadOnly, public, Effective,
        "Partitions of the topic for transaction state; do not change it later."),
    ("transaction.state.log.segment.bytes", get transaction_state_log_segment_bytes, Int, "104857600", AtLeast(1), High, ReadOnly, public, Effective,
        "Segment size of the topic for transaction state."),
    ("transaction.partition.verification.enable", get transaction_partition_verification_enable, Bool, "true", Any, Low, ClusterWide, public, Later(TRANSACTIONS),
        "Asks the coordinator whether a transaction is open before its records are appended."),
    ("producer.id.expiration.ms", get producer_id_expiration_ms, Int, "86400000", AtLeast(1), Low, ClusterWide, public, Effective,
        "Time after which the state of a silent idempotent producer is dropped."),
    ("producer.id.expiration.check.interval.ms", get producer_id_expiration_check_interval_ms, Int, "600000", AtLeast(1), Low, ReadOnly, internal, Effective,
        "Time between two looks for silent producers."),
    ("transactional.id.expiration.ms", get transactional_id_expiration_ms, Int, "604800000", AtLeast(1), High, ReadOnly, public, Later(TRANSACTIONS),
        "Time after which an unused transactional id is dropped."),
    ("transaction.max.timeout.ms", get transaction_max_timeout_ms, Int, "900000", AtLeast(1), High, ReadOnly, public, Later(TRANSACTIONS),
        "Longest transaction timeout a producer may ask for."),
    ("transaction.abort.timed.out.transaction.cleanup.interval.ms", get transaction_abort_timed_out_transaction_cleanup_interval_ms, Int, "10000", AtLeast(1), Low, ReadOnly, public, Later(TRANSACTIONS),
        "Time between two looks for transactions that took too long."),
    ("transaction.remove.expired.transaction.cleanup.interval.ms", get transaction_remove_expired_transaction_cleanup_interval_ms, Int, "3600000", AtLeast(1), Low, ReadOnly, public, Later(TRANSACTIONS),
        "Time between two looks for unused transactional ids."),
    ("controller.quorum.voters", get controller_quorum_voters, List, "", NonNull, High, ReadOnly, public, Accepted(KRAFT),
        "KRaft voters as id@host:port,…."),
    ("controller.quorum.bootstrap.servers", get controller_quorum_bootstrap_servers, List, "", NonNull, High, ReadOnly, public, Accepted(KRAFT),
        "Servers by which a KRaft node finds the quorum."),
    ("controller.quorum.election.timeout.ms", get controller_quorum_election_timeout_ms, Int, "1000", Any, High, ReadOnly, public, Accepted(KRAFT),
        "How long a KRaft voter waits before it calls an election."),
    ("controller.quorum.fetch.timeout.ms", get controller_quorum_fetch_timeout_ms, Int, "2000", Any, High, ReadOnly, public, Accepted(KRAFT),
        "How long a KRaft voter waits for the leader before it calls an election."),
    ("controller.quorum.election.backoff.max.ms", get controller_quorum_election_backoff_max_ms, Int, "1000", Any, High, ReadOnly, public, Accepted(KRAFT),
        "Longest pause between two KRaft elections."),
    ("controller.quorum.append.linger.ms", get controller_quorum_append_linger_ms, Int, "25", Any, Medium, ReadOnly, public, Accepted(KRAFT),
        "How long the KRaft leader gathers records before it appends."),
    ("controller.quorum.request.timeout.ms", get controller_quorum_request_timeout_ms, Int, "2000", Any, Medium, ReadOnly, public, Accepted(KRAFT),
        "How long a KRaft node waits for an answer."),
    ("controller.quorum.retry.backoff.ms", get controller_quorum_retry_backoff_ms, Int, "20", Any, Low, ReadOnly, public, Accepted(KRAFT),
        "Pause before a KRaft request is repeated."),
    ("metrics.num.samples", get metrics_num_samples, Int, "2", AtLeast(1), Low, ReadOnly, public, Accepted(JVM),
        "Number of samples that make a metric."),
    ("metrics.sample.window.ms", get metrics_sample_window_ms, Long, "30000", AtLeast(1), Low, ReadOnly, public, Accepted(JVM),
        "Length of one sample of a metric."),
    ("metric.reporters", get metric_reporters, List, "", Any, Low, ClusterWide, public, Accepted(JVM),
        "Java classes that publish metrics."),
    ("metrics.recording.level", get metrics_recording_level, Str, "INFO", Any, Low, ReadOnly, public, Accepted(JVM),
        "Least important metrics that are recorded: INFO, DEBUG or TRACE."),
    ("auto.include.jmx.reporter", get auto_include_jmx_reporter, Bool, "true", Any, Low, ReadOnly, public, Accepted(JVM),
        "Adds the JMX reporter to metric.reporters."),
    ("kafka.metrics.reporters", get kafka_metrics_reporters, List, "", Any, Low, ReadOnly, public, Accepted(JVM),
        "Java classes that publish Yammer metrics."),
    ("kafka.metrics.polling.interval.secs", get kafka_metrics_polling_interval_secs, Int, "10", AtLeast(1), Low, ReadOnly, public, Accepted(JVM),
        "Time between two reads by kafka.metrics.reporters."),
    ("telemetry.max.bytes", get telemetry_max_bytes, Int, "1048576", AtLeast(1), Low, ReadOnly, public, Accepted(JVM),
        "Largest block of metrics that a client may push."),
    ("quota.window.num", get quota_window_num, Int, "11", AtLeast(1), Low, ReadOnly, public, Later(QUOTAS),
        "Number of samples that measure client quotas."),
    ("replication.quota.window.num", get replication_quota_window_num, Int, "11", AtLeast(1), Low, ReadOnly, public, Effective,
        "Number of samples that measure replication throttles."),
    ("alter.log.dirs.replication.quota.window.num", get alter_log_dirs_replication_quota_window_num, Int, "11", AtLeast(1), Low, ReadOnly, public, Effective,
        "Number of samples that measure moves between log directories."),
    ("controller.quota.window.num", get controller_quota_window_num, Int, "11", AtLeast(1), Low, ReadOnly, public, Later(QUOTAS),
        "Number of samples that measure quotas on topic changes."),
    ("quota.window.size.seconds", get quota_window_size_seconds, Int, "1", AtLeast(1), Low, ReadOnly, public, Later(QUOTAS),
        "Length of one sample that measures client quotas."),
    ("replication.quota.window.size.seconds", get replication_quota_window_size_seconds, Int, "1", AtLeast(1), Low, ReadOnly, public, Effective,
        "Length of one sample that measures replication throttles."),
    ("alter.log.dirs.replication.quota.window.size.seconds", get alter_log_dirs_replication_quota_window_size_seconds, Int, "1", AtLeast(1), Low, ReadOnly, public, Effective,
        "Length of one sample that measures moves between log directories."),
    ("controller.quota.window.size.seconds", get controller_quota_window_size_seconds, Int, "1", AtLeast(1), Low, ReadOnly, public, Later(QUOTAS),
        "Length of one sample that measures quotas on topic changes."),
    ("client.quota.callback.class", get client_quota_callback_class, OptClass, none, Any, Low, ReadOnly, public, Later(QUOTAS),
        "Java class that computes client quotas."),
    ("connections.max.reauth.ms", get connections_max_reauth_ms, Long, "0", Any, Medium, ReadOnly, public, Later(SECURITY),
        "Time after which a SASL client must authenticate anew; 0 never."),
    ("sasl.server.max.receive.size", get sasl_server_max_receive_size, Int, "524288", Any, Medium, ReadOnly, public, Later(SECURITY),
        "Largest message accepted during SASL authentication."),
    ("security.providers", get security_providers, OptStr, none, Any, Low, ReadOnly, public, Later(SECURITY),
        "Java security providers to load."),
    ("principal.builder.class", get principal_builder_class, Class, "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder", Any, Medium, PerBroker, public, Later(SECURITY),
        "Java class that makes a principal of a connection."),
    ("ssl.client.auth", get ssl_client_auth, Str, "none", OneOf(CLIENT_AUTH), Medium, PerBroker, public, Later(SECURITY),
        "Whether clients show a certificate: required, requested or none."),
    ("ssl.principal.mapping.rules", get ssl_principal_mapping_rules, Str, "DEFAULT", Any, Low, ReadOnly, public, Later(SECURITY),
        "Rules that turn a certificate's name into a user name."),
    ("ssl.allow.dn.changes", get ssl_allow_dn_changes, Bool, "false", Any, Low, ReadOnly, public, Later(SECURITY),
        "Lets a reloaded certificate have another distinguished name."),
    ("ssl.allow.san.changes", get ssl_allow_san_changes, Bool, "false", Any, Low, ReadOnly, public, Later(SECURITY),
        "Lets a reloaded certificate have other alternative names."),
    ("ssl.protocol", get ssl_protocol, Str, "TLSv1.3", Any, Medium, PerBroker, public, Later(SECURITY),
        "TLS version to make connections with."),
    ("ssl.provider", get ssl_provider, OptStr, none, Any, Medium, PerBroker, public, Later(SECURITY),
        "Java security provider for TLS."),
    ("ssl.enabled.protocols", get ssl_enabled_protocols, List, "TLSv1.2,TLSv1.3", Any, Medium, PerBroker, public, Later(SECURITY),
        "TLS versions that are accepted."),
    ("ssl.keystore.type", get ssl_keystore_type, Str, "JKS", Any, Medium, PerBroker, public, Later(SECURITY),
        "Format of the key store: JKS, PKCS12 or PEM."),
    ("ssl.keystore.location", get ssl_keystore_location, OptStr, none, Any, Medium, PerBroker, public, Later(SECURITY),
        "File with the broker's key and certificate."),
    ("ssl.keystore.password", get ssl_keystore_password, OptPassword, none, Any, Medium, PerBroker, public, Later(SECURITY),
        "Password of the key store."),
    ("ssl.key.password", get ssl_key_password, OptPassword, none, Any, Medium, PerBroker, public, Later(SECURITY),
        "Password of the key in the key store."),
    ("ssl.keystore.key", get ssl_keystore_key, OptPassword, none, Any, Medium, PerBroker, public, Later(SECURITY),
        "The broker's private key as PEM text."),
    ("ssl.keystore.certificate.chain", get ssl_keystore_certificate_chain, OptPassword, none, Any, Medium, PerBroker, public, Later(SECURITY),
        "The broker's certificates as PEM text."),
    ("ssl.truststore.type", get ssl_truststore_type, Str, "JKS", Any, Medium, PerBroker, public, Later(SECURITY),
        "Format of the trust store: JKS, PKCS12 or PEM."),
    ("ssl.truststore.location", get ssl_truststore_location, OptStr, none, Any, Medium, PerBroker, public, Later(SECURITY),
        "File with the certificates that peers are checked with."),
    ("ssl.truststore.password", get ssl_truststore_password, OptPassword, none, Any, Medium, PerBroker, public, Later(SECURITY),
        "Password of the trust store."),
    ("ssl.truststore.certificates", get ssl_truststore_certificates, OptPassword, none, Any, Medium, PerBroker, public, Later(SECURITY),
        "Certificates that peers are checked with, as PEM text."),
    ("ssl.keymanager.algorithm", get ssl_keymanager_algorithm, Str, "SunX509", Any, Medium, PerBroker, public, Later(SECURITY),
        "Java algorithm for key stores."),
    ("ssl.trustmanager.algorithm", get ssl_trustmanager_algorithm, Str, "PKIX", Any, Medium, PerBroker, public, Later(SECURITY),
        "Java algorithm for trust stores."),
    ("ssl.endpoint.identification.algorithm", get ssl_endpoint_identification_algorithm, Str, "https", Any, Low, PerBroker, public, Later(SECURITY),
        "https checks the host name in a server's certificate; empty does not."),
    ("ssl.secure.random.implementation", get ssl_secure_random_implementation, OptStr, none, Any, Low, PerBroker, public, Later(SECURITY),
        "Java random generator for TLS."),
    ("ssl.cipher.suites", get ssl_cipher_suites, List, "", Any, Medium, PerBroker, public, Later(SECURITY),
        "Cipher suites that are accepted; empty takes the library's choice."),
    ("ssl.engine.factory.class", get ssl_engine_factory_class, OptClass, none, Any, Low, PerBroker, public, Later(SECURITY),
        "Java class that makes TLS engines."),
    ("sasl.mechanism.inter.broker.protocol", get sasl_mechanism_inter_broker_protocol, Str, "GSSAPI", Any, Medium, PerBroker, public, Later(SECURITY),
        "SASL mechanism between brokers."),
    ("sasl.enabled.mechanisms", get sasl_enabled_mechanisms, List, "GSSAPI", Any, Medium, PerBroker, public, Later(SECURITY),
        "SASL mechanisms offered to clients."),
    ("sasl.server.callback.handler.class", get sasl_server_callback_handler_class, OptClass, none, Any, Medium, ReadOnly, public, Later(SECURITY),
        "Java class that answers the server side of a SASL mechanism."),
    ("sasl.kerberos.principal.to.local.rules", get sasl_kerberos_principal_to_local_rules, List, "DEFAULT", Any, Medium, PerBroker, public, Later(SECURITY),
        "Rules that turn a Kerberos principal into a user name."),
    ("sasl.jaas.config", get sasl_jaas_config, OptPassword, none, Any, Medium, PerBroker, public, Later(SECURITY),
        "JAAS login of a listener's mechanism, in the format of a JAAS file."),
    ("sasl.client.callback.handler.class", get sasl_client_callback_handler_class, OptClass, none, Any, Medium, ReadOnly, public, Later(SECURITY),
        "Java class that answers the client side of a SASL mechanism."),
    ("sasl.login.class", get sasl_login_class, OptClass, none, Any, Medium, ReadOnly, public, Later(SECURITY),
        "Java class that logs in."),
    ("sasl.login.callback.handler.class", get sasl_login_callback_handler_class, OptClass, none, Any, Medium, ReadOnly, public, Later(SECURITY),
        "Java class that answers a login's questions."),
    ("sasl.kerberos.service.name", get sasl_kerberos_service_name, OptStr, none, Any, Medium, PerBroker, public, Later(SECURITY),
        "Kerberos service name of the brokers."),
    ("sasl.kerberos.kinit.cmd", get sasl_kerberos_kinit_cmd, Str, "/usr/bin/kinit", Any, Medium, PerBroker, public, Later(SECURITY),
        "Path of kinit."),
    ("sasl.kerberos.ticket.renew.window.factor", get sasl_kerberos_ticket_renew_window_factor, Double, "0.8", Any, Medium, PerBroker, public, Later(SECURITY),
        "Share of a Kerberos ticket's life after which it is renewed."),
    ("sasl.kerberos.ticket.renew.jitter", get sasl_kerberos_ticket_renew_jitter, Double, "0.05", Any, Medium, PerBroker, public, Later(SECURITY),
        "Random share added to the renewal time of a Kerberos ticket."),
    ("sasl.kerberos.min.time.before.relogin", get sasl_kerberos_min_time_before_relogin, Long, "60000", Any, Medium, PerBroker, public, Later(SECURITY),
        "Shortest time between two Kerberos logins."),
    ("sasl.login.refresh.window.factor", get sasl_login_refresh_window_factor, Double, "0.8", Any, Medium, PerBroker, public, Later(SECURITY),
        "Share of a token's life after which it is refreshed."),
    ("sasl.login.refresh.window.jitter", get sasl_login_refresh_window_jitter, Double, "0.05", Any, Medium, PerBroker, public, Later(SECURITY),
        "Random share added to the refresh time of a token."),
    ("sasl.login.refresh.min.period.seconds", get sasl_login_refresh_min_period_seconds, Short, "60", Any, Medium, PerBroker, public, Later(SECURITY),
        "Shortest time between two refreshes of a token."),
    ("sasl.login.refresh.buffer.seconds", get sasl_login_refresh_buffer_seconds, Short, "300", Any, Medium, PerBroker, public, Later(SECURITY),
        "Time before a token's end by which it is refreshed."),
    ("sasl.login.connect.timeout.ms", get sasl_login_connect_timeout_ms, OptInt, none, Any, Low, ReadOnly, public, Later(SECURITY),
        "Longest wait for a connection to the token provider."),
    ("sasl.login.read.timeout.ms", get sasl_login_read_timeout_ms, OptInt, none, Any, Low, ReadOnly, public, Later(SECURITY),
        "Longest wait for the token provider's answer."),
    ("sasl.login.retry.backoff.max.ms", get sasl_login_retry_backoff_max_ms, Long, "10000", Any, Low, ReadOnly, public, Later(SECURITY),
        "Longest pause between two tries at the token provider."),
    ("sasl.login.retry.backoff.ms", get sasl_login_retry_backoff_ms, Long, "100", Any, Low, ReadOnly, public, Later(SECURITY),
        "First pause between two tries at the token provider."),
    ("sasl.oauthbearer.scope.claim.name", get sasl_oauthbearer_scope_claim_name, Str, "scope", Any, Low, ReadOnly, public, Later(SECURITY),
        "Claim of a token that holds its scope."),
    ("sasl.oauthbearer.sub.claim.name", get sasl_oauthbearer_sub_claim_name, Str, "sub", Any, Low, ReadOnly, public, Later(SECURITY),
        "Claim of a token that holds its subject."),
    ("sasl.oauthbearer.token.endpoint.url", get sasl_oauthbearer_token_endpoint_url, OptStr, none, Any, Medium, ReadOnly, public, Later(SECURITY),
        "Where the broker fetches its own token."),
    ("sasl.oauthbearer.jwks.endpoint.url", get sasl_oauthbearer_jwks_endpoint_url, OptStr, none, Any, Medium, ReadOnly, public, Later(SECURITY),
        "Where the keys are fetched that sign tokens."),
    ("sasl.oauthbearer.jwks.endpoint.refresh.ms", get sasl_oauthbearer_jwks_endpoint_refresh_ms, Long, "3600000", Any, Low, ReadOnly, public, Later(SECURITY),
        "Time between two fetches of the signing keys."),
    ("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", get sasl_oauthbearer_jwks_endpoint_retry_backoff_ms, Long, "100", Any, Low, ReadOnly, public, Later(SECURITY),
        "First pause after a failed fetch of the signing keys."),
    ("sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", get sasl_oauthbearer_jwks_endpoint_retry_backoff_max_ms, Long, "10000", Any, Low, ReadOnly, public, Later(SECURITY),
        "Longest pause after failed fetches of the signing keys."),
    ("sasl.oauthbearer.clock.skew.seconds", get sasl_oauthbearer_clock_skew_seconds, Int, "30", Any, Low, ReadOnly, public, Later(SECURITY),
        "How much clocks may differ when a token's times are checked."),
    ("sasl.oauthbearer.expected.audience", get sasl_oauthbearer_expected_audience, OptList, none, Any, Low, ReadOnly, public, Later(SECURITY),
        "Audiences of which a token must name one."),
    ("sasl.oauthbearer.expected.issuer", get sasl_oauthbearer_expected_issuer, OptStr, none, Any, Low, ReadOnly, public, Later(SECURITY),
        "Issuer that a token must name."),
    ("delegation.token.master.key", raw delegation_token_master_key, OptPassword, none, Any, Medium, ReadOnly, public, Later(SECURITY),
        "Older name of delegation.token.secret.key."),
    ("delegation.token.secret.key", raw delegation_token_secret_key, OptPassword, none, Any, Medium, ReadOnly, public, Later(SECURITY),
        "Secret that signs delegation tokens, the same on all brokers; without it there are none."),
    ("delegation.token.max.lifetime.ms", get delegation_token_max_lifetime_ms, Long, "604800000", AtLeast(1), Medium, ReadOnly, public, Later(SECURITY),
        "Longest life of a delegation token."),
    ("delegation.token.expiry.time.ms", get delegation_token_expiry_time_ms, Long, "86400000", AtLeast(1), Medium, ReadOnly, public, Later(SECURITY),
        "Life of a delegation token between renewals."),
    ("delegation.token.expiry.check.interval.ms", get delegation_token_expiry_check_interval_ms, Long, "3600000", AtLeast(1), Low, ReadOnly, public, Later(SECURITY),
        "Time between two looks for expired delegation tokens."),
    ("password.encoder.secret", get password_encoder_secret, OptPassword, none, Any, Medium, ReadOnly, public, Later(SECURITY),
        "Secret that encrypts passwords set dynamically."),
    ("password.encoder.old.secret", get password_encoder_old_secret, OptPassword, none, Any, Medium, ReadOnly, public, Later(SECURITY),
        "Former secret, while the new one is brought in."),
    ("password.encoder.keyfactory.algorithm", get password_encoder_keyfactory_algorithm, OptStr, none, Any, Low, ReadOnly, public, Later(SECURITY),
        "Java algorithm that derives the key for dynamic passwords."),
    ("password.encoder.cipher.algorithm", get password_encoder_cipher_algorithm, Str, "AES/CBC/PKCS5Padding", Any, Low, ReadOnly, public, Later(SECURITY),
        "Java cipher for dynamic passwords."),
    ("password.encoder.key.length", get password_encoder_key_length, Int, "128", AtLeast(8), Low, ReadOnly, public, Later(SECURITY),
        "Bits of the key for dynamic passwords."),
    ("password.encoder.iterations", get password_encoder_iterations, Int, "4096", AtLeast(1024), Low, ReadOnly, public, Later(SECURITY),
        "Rounds of the key derivation for dynamic passwords."),
}

macro_rules! dynamic_keys {
    ($(($name:literal, $access:ident $field:ident, $kind:ident, $default:tt, $allowed:expr,
        $importance:ident, $mode:ident, $visible:ident, $state:expr, $doc:literal),)*) => {
        /// Keys that exist only as dynamic broker configs (`DynamicConfig.Broker`).
        pub static DYNAMIC_ONLY: &[Key] = &[
            $(Key {
                name: $name,
                kind: kind!($kind),
                default: default!($default),
                allowed: $allowed,
                importance: $importance,
                mode: $mode,
                internal: internal!($visible),
                state: $state,
                doc: $doc,
            },)*
        ];
    };
}

dynamic_keys! {
    ("leader.replication.throttled.rate", get leader_replication_throttled_rate, Long, "9223372036854775807", AtLeast(0), Medium, ReadOnly, public, Effective,
        "Bytes per second that leaders send to throttled followers."),
    ("follower.replication.throttled.rate", get follower_replication_throttled_rate, Long, "9223372036854775807", AtLeast(0), Medium, ReadOnly, public, Effective,
        "Bytes per second that throttled followers fetch."),
    ("replica.alter.log.dirs.io.max.bytes.per.second", get replica_alter_log_dirs_io_max_bytes_per_second, Long, "9223372036854775807", AtLeast(0), Medium, ReadOnly, public, Effective,
        "Bytes per second for moving replicas between log directories."),
}

static BY_NAME: LazyLock<HashMap<&'static str, usize>> = LazyLock::new(|| {
    KEYS.iter()
        .enumerate()
        .map(|(slot, key)| (key.name, slot))
        .collect()
});

/// The slot of a key of `server.properties`.
pub(super) fn slot(name: &str) -> Option<usize> {
    BY_NAME.get(name).copied()
}

/// A key of `server.properties` by its name.
pub fn find(name: &str) -> Option<&'static Key> {
    slot(name).map(|slot| &KEYS[slot])
}

/// A key of `server.properties` or one that is dynamic only.
pub fn find_dynamic(name: &str) -> Option<&'static Key> {
    find(name).or_else(|| DYNAMIC_ONLY.iter().find(|key| key.name == name))
}
