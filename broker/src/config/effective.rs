//! Values that several keys, or a parser, make together, and the rules that span keys
//! (`KafkaConfig`'s derived fields and `validateValues`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::keys::Slot;
use super::listener::{self, Listener, ProtocolMap, SecurityProtocol};
use super::topic::{BrokerCompression, CleanupPolicy, TimestampType};
use super::value::{Password, Value};
use super::{Config, Error, version};
use crate::types::{BrokerId, Millis};

const MILLIS_PER_MINUTE: i64 = 60_000;
const MILLIS_PER_HOUR: i64 = 3_600_000;
const UNSET_RECOVERY_THREADS: usize = 2;

/// The parsed forms, made once per [`Config`].
#[derive(Debug, Clone, Default)]
pub(super) struct Effective {
    /// Taken, not configured; may lie above `reserved.broker.max.id`.
    pub(super) broker_id: Option<BrokerId>,
    pub(super) listeners: Vec<Listener>,
    pub(super) advertised_listeners: Vec<Listener>,
    pub(super) protocols: ProtocolMap,
    pub(super) inter_broker: Option<(String, SecurityProtocol)>,
    pub(super) control_plane: Option<String>,
    pub(super) log_dirs: Vec<PathBuf>,
    pub(super) connections_per_ip: BTreeMap<String, i32>,
}

impl Config {
    /// This broker's id; −1 until one is taken.
    pub fn broker_id(&self) -> BrokerId {
        match (
            self.effective.broker_id,
            &self.values[Slot::broker_id as usize],
        ) {
            (Some(id), _) | (None, &Value::Int(id)) => id,
            _ => -1,
        }
    }

    /// Where the broker listens, in the order given.
    pub fn listeners(&self) -> &[Listener] {
        &self.effective.listeners
    }

    /// What clients and other brokers are told; `listeners` when not set.
    pub fn advertised_listeners(&self) -> &[Listener] {
        &self.effective.advertised_listeners
    }

    pub fn listener_security_protocol_map(&self) -> &ProtocolMap {
        &self.effective.protocols
    }

    /// Name of the listener brokers use among themselves: `inter.broker.listener.name`, or the
    /// name of `security.inter.broker.protocol`.
    pub fn inter_broker_listener_name(&self) -> &str {
        self.effective
            .inter_broker
            .as_ref()
            .map_or("PLAINTEXT", |(name, _)| name)
    }

    pub fn inter_broker_security_protocol(&self) -> SecurityProtocol {
        self.effective
            .inter_broker
            .as_ref()
            .map_or(SecurityProtocol::Plaintext, |(_, protocol)| *protocol)
    }

    /// Name of the listener kept for the controller's requests, if there is one.
    pub fn control_plane_listener_name(&self) -> Option<&str> {
        self.effective.control_plane.as_deref()
    }

    /// `log.dirs`, else `log.dir`; never empty.
    pub fn log_dirs(&self) -> &[PathBuf] {
        &self.effective.log_dirs
    }

    /// Threads that recover the logs of one log dir: `num.recovery.threads.per.data.dir` where it is set.
    /// Where it is not, two, which is Kafka 4's default (3.9's is 1): while one waits for the disk or
    /// the copy out of the page cache, the other checks CRCs.
    pub fn recovery_threads(&self) -> usize {
        let configured = usize::try_from(self.num_recovery_threads_per_data_dir()).unwrap_or(1);
        if self.is_set("num.recovery.threads.per.data.dir") {
            configured
        } else {
            configured.max(UNSET_RECOVERY_THREADS)
        }
    }

    /// `max.connections.per.ip.overrides`: limit by address or host name.
    pub fn max_connections_per_ip_overrides(&self) -> &BTreeMap<String, i32> {
        &self.effective.connections_per_ip
    }

    /// `log.retention.ms`, else `.minutes`, else `.hours`, in milliseconds; −1 without limit.
    pub fn log_retention_ms(&self) -> Millis {
        let millis = match (
            self.optional(Slot::log_retention_ms),
            self.optional(Slot::log_retention_minutes),
        ) {
            (Some(millis), _) => millis,
            (None, Some(minutes)) => minutes * MILLIS_PER_MINUTE,
            (None, None) => {
                self.optional(Slot::log_retention_hours).unwrap_or(168) * MILLIS_PER_HOUR
            }
        };
        millis.max(-1)
    }

    /// `log.roll.ms`, else `.hours`, in milliseconds.
    pub fn log_roll_ms(&self) -> Millis {
        self.optional(Slot::log_roll_ms)
            .unwrap_or_else(|| self.optional(Slot::log_roll_hours).unwrap_or(168) * MILLIS_PER_HOUR)
    }

    /// `log.roll.jitter.ms`, else `.hours`, in milliseconds.
    pub fn log_roll_jitter_ms(&self) -> Millis {
        self.optional(Slot::log_roll_jitter_ms).unwrap_or_else(|| {
            self.optional(Slot::log_roll_jitter_hours).unwrap_or(0) * MILLIS_PER_HOUR
        })
    }

    /// `log.flush.interval.ms`, else `log.flush.scheduler.interval.ms`.
    pub fn log_flush_interval_ms(&self) -> Millis {
        self.optional(Slot::log_flush_interval_ms)
            .unwrap_or_else(|| self.log_flush_scheduler_interval_ms())
    }

    /// `log.message.timestamp.before.max.ms`; the older difference limit where it was not set.
    pub fn log_message_timestamp_before_max_ms(&self) -> Millis {
        self.timestamp_limit(Slot::log_message_timestamp_before_max_ms)
    }

    /// `log.message.timestamp.after.max.ms`; the older difference limit where it was not set.
    pub fn log_message_timestamp_after_max_ms(&self) -> Millis {
        self.timestamp_limit(Slot::log_message_timestamp_after_max_ms)
    }

    fn timestamp_limit(&self, slot: Slot) -> Millis {
        match self.optional(slot) {
            Some(limit) if limit != i64::MAX => limit,
            _ => self.log_message_timestamp_difference_max_ms(),
        }
    }

    pub fn compression_type(&self) -> BrokerCompression {
        BrokerCompression::from_name(self.text_of(Slot::compression_type))
            .unwrap_or(BrokerCompression::Producer)
    }

    pub fn log_cleanup_policy(&self) -> CleanupPolicy {
        match &self.values[Slot::log_cleanup_policy as usize] {
            Value::List(policies) => CleanupPolicy::from_list(policies),
            _ => CleanupPolicy::from_list(&[]),
        }
    }

    pub fn log_message_timestamp_type(&self) -> TimestampType {
        TimestampType::from_name(self.text_of(Slot::log_message_timestamp_type))
            .unwrap_or(TimestampType::CreateTime)
    }

    /// `zookeeper.connection.timeout.ms`, else the session timeout.
    pub fn zookeeper_connection_timeout_ms(&self) -> i32 {
        match self.values[Slot::zookeeper_connection_timeout_ms as usize] {
            Value::Int(timeout) => timeout,
            _ => self.zookeeper_session_timeout_ms(),
        }
    }

    /// `delegation.token.secret.key`, else its older name.
    pub fn delegation_token_secret_key(&self) -> Option<&Password> {
        [
            Slot::delegation_token_secret_key,
            Slot::delegation_token_master_key,
        ]
        .into_iter()
        .find_map(|slot| match &self.values[slot as usize] {
            Value::Password(secret) => Some(secret),
            _ => None,
        })
    }

    /// True when no `zookeeper.connect` is given: the embedded store coordinates.
    pub fn uses_embedded_store(&self) -> bool {
        self.zookeeper_connect().is_none()
    }

    fn optional(&self, slot: Slot) -> Option<i64> {
        match self.values[slot as usize] {
            Value::Long(value) => Some(value),
            Value::Int(value) => Some(i64::from(value)),
            _ => None,
        }
    }

    fn text_of(&self, slot: Slot) -> &str {
        match &self.values[slot as usize] {
            Value::String(text) => text,
            _ => "",
        }
    }

    fn optional_text(&self, slot: Slot) -> Option<&str> {
        match &self.values[slot as usize] {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Parses what spans keys and checks it, in Kafka's order.
    pub(super) fn derive(&mut self) -> Result<(), Error> {
        if self.optional(Slot::node_id) != self.optional(Slot::broker_id) {
            return Err(Error::rule(
                "You must set `node.id` to the same value as `broker.id`.",
            ));
        }
        if !self.process_roles().is_empty() {
            return Err(Error::rule(format!(
                "process.roles={} asks for a KRaft cluster. Ottla coordinates through ZooKeeper (set zookeeper.connect) or, for a single broker, by itself (leave out both).",
                self.process_roles().join(",")
            )));
        }
        require(
            self.zookeeper_connect() != Some(""),
            "zookeeper.connect is empty: give host:port[,host:port…][/chroot], or leave the key out for a single broker that coordinates by itself.",
        )?;
        self.check_broker_id()?;
        self.check_times()?;
        self.effective.log_dirs = self.parse_log_dirs();
        require(
            !self.effective.log_dirs.is_empty(),
            "At least one log directory must be defined via log.dirs or log.dir.",
        )?;
        let threads = i64::from(self.log_cleaner_threads());
        // Kafka divides; no threads at all is a division by zero there.
        require(
            threads > 0 && self.log_cleaner_dedupe_buffer_size() / threads > 1024 * 1024,
            "log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread.",
        )?;
        require(
            self.replica_fetch_wait_max_ms() <= self.replica_socket_timeout_ms(),
            "replica.socket.timeout.ms should always be at least replica.fetch.wait.max.ms to prevent unnecessary socket timeouts",
        )?;
        require(
            i64::from(self.replica_fetch_wait_max_ms()) <= self.replica_lag_time_max_ms(),
            "replica.fetch.wait.max.ms should always be less than or equal to replica.lag.time.max.ms to prevent frequent changes in ISR",
        )?;
        self.derive_listeners()?;
        self.check_group_protocols()?;
        require(
            self.queued_max_request_bytes() <= 0
                || self.queued_max_request_bytes() >= i64::from(self.socket_request_max_bytes()),
            "queued.max.request.bytes must be larger or equal to socket.request.max.bytes",
        )?;
        self.derive_connection_limits()?;
        if self.connections_max_idle_ms() >= 0 {
            let delay = self.connection_failed_authentication_delay_ms();
            let idle = self.connections_max_idle_ms();
            require(
                i64::from(delay) < idle,
                &format!(
                    "connection.failed.authentication.delay.ms={delay} should always be less than connections.max.idle.ms={idle} to prevent failed authentication responses from timing out"
                ),
            )?;
        }
        require(
            (0..=4).contains(&self.offsets_topic_compression_codec()),
            &format!(
                "Unknown compression type id: {} (offsets.topic.compression.codec)",
                self.offsets_topic_compression_codec()
            ),
        )?;
        let lag = (
            self.log_cleaner_min_compaction_lag_ms(),
            self.log_cleaner_max_compaction_lag_ms(),
        );
        require(
            lag.0 <= lag.1,
            &format!(
                "conflict topic config setting min.compaction.lag.ms ({}) > max.compaction.lag.ms ({})",
                lag.0, lag.1
            ),
        )
    }

    fn check_broker_id(&self) -> Result<(), Error> {
        let id = self.broker_id();
        if self.broker_id_generation_enable() {
            require(
                id >= -1 && id <= self.reserved_broker_max_id(),
                "broker.id must be greater than or equal to -1 and not greater than reserved.broker.max.id",
            )
            .map_err(|error| {
                Error::rule(format!(
                    "{error} (broker.id={id}, reserved.broker.max.id={})",
                    self.reserved_broker_max_id()
                ))
            })
        } else {
            require(id >= 0, "broker.id must be greater than or equal to 0")
        }
    }

    fn check_times(&self) -> Result<(), Error> {
        require(
            self.log_roll_ms() >= 1,
            "log.roll.ms must be greater than or equal to 1",
        )?;
        require(
            self.log_roll_jitter_ms() >= 0,
            "log.roll.jitter.ms must be greater than or equal to 0",
        )?;
        let retention = self.log_retention_ms();
        require(
            retention >= 1 || retention == -1,
            "log.retention.ms must be unlimited (-1) or, greater than or equal to 1",
        )
    }

    fn parse_log_dirs(&self) -> Vec<PathBuf> {
        self.optional_text(Slot::log_dirs)
            .or_else(|| self.optional_text(Slot::log_dir))
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .filter(|dir| !dir.is_empty())
            .map(PathBuf::from)
            .collect()
    }

    fn derive_listeners(&mut self) -> Result<(), Error> {
        let protocols =
            listener::parse_protocol_map(self.text_of(Slot::listener_security_protocol_map))?;
        let listeners = listener::parse_listeners(self.text_of(Slot::listeners), &protocols, true)?;
        let advertised = match self.optional_text(Slot::advertised_listeners) {
            Some(text) => listener::parse_listeners(text, &protocols, false)?,
            None => listeners.clone(),
        };
        require(
            self.controller_listener_names()
                .unwrap_or_default()
                .is_empty(),
            &format!(
                "controller.listener.names must be empty when not running in KRaft mode: [{}]",
                self.controller_listener_names().unwrap_or_default()
            ),
        )?;
        require(
            !advertised.is_empty(),
            "There must be at least one broker advertised listener.",
        )?;
        let names = |listeners: &[Listener]| {
            let names: Vec<&str> = listeners.iter().map(|one| one.name.as_str()).collect();
            names.join(",")
        };
        let (inter_broker, protocol) = self.parse_inter_broker(&protocols)?;
        require(
            advertised.iter().any(|one| one.name == inter_broker),
            &format!(
                "inter.broker.listener.name must be a listener name defined in advertised.listeners. The valid options based on currently configured listeners are {}",
                names(&advertised)
            ),
        )?;
        require(
            advertised
                .iter()
                .all(|one| listeners.iter().any(|other| other.name == one.name)),
            &format!(
                "advertised.listeners listener names must be equal to or a subset of the ones defined in listeners. Found {}. The valid options based on the current configuration are {}",
                names(&advertised),
                names(&listeners)
            ),
        )?;
        require(
            advertised
                .iter()
                .all(|one| one.host.as_deref() != Some("0.0.0.0")),
            "advertised.listeners cannot use the nonroutable meta-address 0.0.0.0. Use a routable IP address.",
        )?;
        let control_plane = match self.optional_text(Slot::control_plane_listener_name) {
            None => None,
            Some(name) => {
                let name = listener::normalised(name)?;
                require(
                    protocols.contains_key(&name),
                    &format!(
                        "Listener with {name} defined in control.plane.listener.name not found in listener.security.protocol.map."
                    ),
                )?;
                require(
                    advertised.iter().any(|one| one.name == name),
                    &format!(
                        "control.plane.listener.name must be a listener name defined in advertised.listeners. The valid options based on currently configured listeners are {}",
                        names(&advertised)
                    ),
                )?;
                require(
                    name != inter_broker,
                    &format!(
                        "control.plane.listener.name, when defined, should have a different value from the inter broker listener name. Currently they both have the value {name}"
                    ),
                )?;
                Some(name)
            }
        };
        self.effective.protocols = protocols;
        self.effective.listeners = listeners;
        self.effective.advertised_listeners = advertised;
        self.effective.inter_broker = Some((inter_broker, protocol));
        self.effective.control_plane = control_plane;
        Ok(())
    }

    fn parse_inter_broker(
        &self,
        protocols: &ProtocolMap,
    ) -> Result<(String, SecurityProtocol), Error> {
        match self.optional_text(Slot::inter_broker_listener_name) {
            Some(_) if self.is_set("security.inter.broker.protocol") => Err(Error::rule(
                "Only one of inter.broker.listener.name and security.inter.broker.protocol should be set.",
            )),
            Some(name) => {
                let name = listener::normalised(name)?;
                let protocol = *protocols.get(&name).ok_or_else(|| {
                    Error::rule(format!(
                        "Listener with name {name} defined in inter.broker.listener.name not found in listener.security.protocol.map."
                    ))
                })?;
                Ok((name, protocol))
            }
            None => {
                let text = self.text_of(Slot::security_inter_broker_protocol);
                let protocol = SecurityProtocol::from_name(text).ok_or_else(|| {
                    Error::rule(format!(
                        "Invalid security protocol `{text}` defined in security.inter.broker.protocol"
                    ))
                })?;
                Ok((protocol.name().to_owned(), protocol))
            }
        }
    }

    fn check_group_protocols(&self) -> Result<(), Error> {
        let protocols = self.group_coordinator_rebalance_protocols();
        let has = |name: &str| protocols.iter().any(|one| one.eq_ignore_ascii_case(name));
        require(
            has("classic"),
            "Disabling the 'classic' protocol is not supported.",
        )?;
        require(
            !has("consumer"),
            "The new 'consumer' rebalance protocol is only supported in KRaft cluster.",
        )
    }

    fn derive_connection_limits(&mut self) -> Result<(), Error> {
        const KEY: &str = "max.connections.per.ip.overrides";
        let text = self.text_of(Slot::max_connections_per_ip_overrides);
        let mut limits = BTreeMap::new();
        for (address, limit) in listener::parse_csv_map(KEY, text)? {
            let limit = limit
                .parse()
                .map_err(|_| Error::invalid(KEY, text, "Not a number of type INT"))?;
            limits.insert(address, limit);
        }
        require(
            self.max_connections_per_ip() != 0 || !limits.is_empty(),
            "max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides property is set.",
        )?;
        let invalid: Vec<&str> = limits
            .keys()
            .map(String::as_str)
            .filter(|address| !listener::is_host_text(address))
            .collect();
        require(
            invalid.is_empty(),
            &format!("{KEY} contains invalid addresses : {}", invalid.join(",")),
        )?;
        self.effective.connections_per_ip = limits;
        Ok(())
    }

    /// True from inter.broker.protocol.version 2.8 on: topics have ids.
    pub fn uses_topic_ids(&self) -> bool {
        version::at_least(self.inter_broker_protocol_version(), "2.8-IV0")
    }
}

fn require(holds: bool, rule: &str) -> Result<(), Error> {
    if holds {
        Ok(())
    } else {
        Err(Error::rule(rule))
    }
}
