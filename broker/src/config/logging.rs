//! Log lines in the shape of Kafka's log4j default, `[2024-11-06 12:34:56,789] INFO message
//! (logger.name)`, on standard output, with a level per logger that may change while the broker
//! runs (the broker logger resources of DescribeConfigs and IncrementalAlterConfigs, KIP-412).
//!
//! Loggers form log4j's hierarchy: a logger without a level of its own has that of the nearest
//! ancestor by dots, in the end the root's. Names are Java's: code gives them as the target of an
//! event, and a target that is a module path is translated by its room ([`logger_name`]).
//!
//! Times are UTC.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::environment::Environment;
use crate::clock::{Clock, SystemClock};
use crate::types::Millis;

/// The root logger's name in DescribeConfigs.
pub const ROOT: &str = "root";

/// The levels a broker logger may be set to, in the order Kafka's messages list them.
pub const LEVELS: [&str; 6] = ["DEBUG", "ERROR", "FATAL", "INFO", "TRACE", "WARN"];

/// Loggers that exist from the start, so that their levels can be set before they first speak.
const KNOWN: [&str; 38] = [
    "kafka",
    "kafka.authorizer.logger",
    "kafka.cluster.Partition",
    "kafka.common",
    "kafka.controller",
    "kafka.controller.KafkaController",
    "kafka.controller.PartitionStateMachine",
    "kafka.controller.ReplicaStateMachine",
    "kafka.controller.TopicDeletionManager",
    "kafka.coordinator.group",
    "kafka.coordinator.group.GroupCoordinator",
    "kafka.coordinator.group.GroupMetadataManager",
    "kafka.coordinator.transaction",
    "kafka.log",
    "kafka.log.LogCleaner",
    "kafka.log.LogManager",
    "kafka.log.UnifiedLog",
    "kafka.network",
    "kafka.network.Acceptor",
    "kafka.network.Processor",
    "kafka.network.RequestChannel$",
    "kafka.network.SocketServer",
    "kafka.request.logger",
    "kafka.server",
    "kafka.server.BrokerConfigHandler",
    "kafka.server.DynamicBrokerConfig",
    "kafka.server.KafkaApis",
    "kafka.server.KafkaConfig",
    "kafka.server.KafkaServer",
    "kafka.server.ReplicaFetcherManager",
    "kafka.server.ReplicaManager",
    "kafka.server.TopicConfigHandler",
    "kafka.server.ZkAdminManager",
    "kafka.server.ZkConfigManager",
    "kafka.zk.KafkaZkClient",
    "org.apache.kafka",
    "org.apache.zookeeper",
    "state.change.logger",
];

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// As Kafka's log4j.properties.
    #[default]
    Kafka,
    /// One JSON object a line: timestamp, level, logger, message and the event's fields.
    Json,
}

/// The levels of all loggers.
#[derive(Debug)]
pub struct Loggers {
    levels: ArcSwap<Levels>,
    /// Names that events came from, beside [`KNOWN`].
    seen: Mutex<BTreeSet<String>>,
}

#[derive(Debug, Clone)]
struct Levels {
    root: Level,
    own: BTreeMap<String, Level>,
}

/// A level of log4j. `Fatal` is above every event we make; `Off` cannot be set through the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Off,
    Fatal,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    /// Reads log4j's names in any case; `ALL` is `TRACE`.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name.trim().to_ascii_uppercase().as_str() {
            "OFF" => Self::Off,
            "FATAL" => Self::Fatal,
            "ERROR" => Self::Error,
            "WARN" => Self::Warn,
            "INFO" => Self::Info,
            "DEBUG" => Self::Debug,
            "TRACE" | "ALL" => Self::Trace,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "OFF",
            Self::Fatal => "FATAL",
            Self::Error => "ERROR",
            Self::Warn => "WARN",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
            Self::Trace => "TRACE",
        }
    }

    fn filter(self) -> LevelFilter {
        match self {
            Self::Off | Self::Fatal => LevelFilter::OFF,
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

static LOGGERS: LazyLock<Arc<Loggers>> = LazyLock::new(|| Arc::new(Loggers::new()));

/// The loggers of this process.
pub fn loggers() -> &'static Loggers {
    &LOGGERS
}

/// Makes lines go to standard output, with the levels of the environment. Call once, first thing;
/// a second call changes levels only.
pub fn install(format: Format, environment: &Environment) {
    let loggers = Arc::clone(&LOGGERS);
    loggers.configure(environment);
    let lines = Lines {
        loggers,
        format,
        write: |line: &str| {
            // A closed standard output is no reason to stop serving.
            let _ = std::io::stdout().lock().write_all(line.as_bytes());
        },
    };
    let _ = tracing_subscriber::registry().with(lines).try_init();
    tracing::callsite::rebuild_interest_cache();
}

impl Loggers {
    fn new() -> Self {
        Self {
            levels: ArcSwap::from_pointee(Levels {
                root: Level::Info,
                own: BTreeMap::new(),
            }),
            seen: Mutex::new(BTreeSet::new()),
        }
    }

    /// `KAFKA_LOG4J_ROOT_LOGLEVEL` and `KAFKA_LOG4J_LOGGERS`; unreadable levels are skipped.
    fn configure(&self, environment: &Environment) {
        self.change(|levels| {
            if let Some(level) = environment.root_level.as_deref().and_then(Level::from_name) {
                levels.root = level;
            }
            for (logger, level) in &environment.loggers {
                if let Some(level) = Level::from_name(level) {
                    levels.own.insert(logger.clone(), level);
                }
            }
        });
    }

    /// Every logger with the level in force, the root first, then by name.
    pub fn all(&self) -> Vec<(String, Level)> {
        let levels = self.levels.load();
        let mut names: BTreeSet<String> = KNOWN.iter().map(|name| (*name).to_owned()).collect();
        names.extend(self.seen.lock().iter().cloned());
        names.extend(levels.own.keys().cloned());
        let mut all = vec![(ROOT.to_owned(), levels.root)];
        all.extend(names.into_iter().map(|name| {
            let level = levels.of(&name);
            (name, level)
        }));
        all
    }

    pub fn exists(&self, logger: &str) -> bool {
        logger == ROOT
            || KNOWN.contains(&logger)
            || self.seen.lock().contains(logger)
            || self.levels.load().own.contains_key(logger)
    }

    /// Gives a logger a level of its own, in force at once.
    pub fn set_level(&self, logger: &str, level: Level) {
        self.change(|levels| {
            if logger == ROOT {
                levels.root = level;
            } else {
                levels.own.insert(logger.to_owned(), level);
            }
        });
    }

    /// Takes a logger's own level away: it has its ancestor's again.
    pub fn unset_level(&self, logger: &str) {
        self.seen.lock().insert(logger.to_owned());
        self.change(|levels| {
            levels.own.remove(logger);
        });
    }

    fn change(&self, edit: impl Fn(&mut Levels)) {
        self.levels.rcu(|levels| {
            let mut levels = Levels::clone(levels);
            edit(&mut levels);
            levels
        });
        tracing::callsite::rebuild_interest_cache();
    }

    fn lets(&self, metadata: &Metadata<'_>) -> bool {
        let logger = logger_name(metadata.target());
        *metadata.level() <= self.levels.load().of(&logger).filter()
    }
}

impl Levels {
    fn of(&self, logger: &str) -> Level {
        let mut name = logger;
        loop {
            if let Some(level) = self.own.get(name) {
                return *level;
            }
            match name.rsplit_once('.') {
                Some((ancestor, _)) => name = ancestor,
                None => return self.root,
            }
        }
    }

    fn most_verbose(&self) -> Level {
        self.own.values().copied().fold(self.root, Level::max)
    }
}

/// The logger of a target: Java names as they are, module paths by their room.
pub fn logger_name(target: &str) -> Cow<'_, str> {
    const ROOMS: [(&str, &str); 12] = [
        ("ottla::api", "kafka.server.KafkaApis"),
        ("ottla::broker", "kafka.server.KafkaServer"),
        ("ottla::cluster", "kafka.server.metadata"),
        ("ottla::config", "kafka.server.KafkaConfig"),
        ("ottla::controller", "kafka.controller"),
        ("ottla::group", "kafka.coordinator.group"),
        ("ottla::log", "kafka.log"),
        ("ottla::net", "kafka.network"),
        ("ottla::replica", "kafka.server.ReplicaManager"),
        ("ottla::txn", "kafka.coordinator.transaction"),
        ("ottla::zk", "kafka.zk"),
        ("zookeeper_client", "org.apache.zookeeper"),
    ];
    if !target.contains("::") && !target.contains('_') {
        return Cow::Borrowed(target);
    }
    for (room, logger) in ROOMS {
        if let Some(rest) = target.strip_prefix(room)
            && (rest.is_empty() || rest.starts_with("::"))
        {
            return Cow::Owned(format!("{logger}{}", rest.replace("::", ".")));
        }
    }
    Cow::Owned(target.replace("::", "."))
}

/// The layer that filters and writes.
struct Lines<W> {
    loggers: Arc<Loggers>,
    format: Format,
    write: W,
}

impl<S: Subscriber, W: Fn(&str) + 'static> Layer<S> for Lines<W>
where
    Self: Sized,
{
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        let logger = logger_name(metadata.target());
        if !self.loggers.seen.lock().contains(&*logger) {
            self.loggers.seen.lock().insert(logger.into_owned());
        }
        if self.loggers.lets(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.loggers.lets(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.loggers.levels.load().most_verbose().filter())
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields {
            message: String::with_capacity(256),
            others: Vec::new(),
        };
        event.record(&mut fields);
        let now = SystemClock.now();
        let level = event.metadata().level().as_str();
        let logger = logger_name(event.metadata().target());
        let line = match self.format {
            Format::Kafka => kafka_line(now, level, &logger, &fields),
            Format::Json => json_line(now, level, &logger, &fields),
        };
        (self.write)(&line);
    }
}

/// An event's message and its other fields.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => {
                // Writing to a String cannot fail.
                let _ = write!(self.message, "{value:?}");
            }
            name => self.others.push((name, format!("{value:?}"))),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            name => self.others.push((name, value.to_owned())),
        }
    }
}

fn kafka_line(now: Millis, level: &str, logger: &str, fields: &Fields) -> String {
    // 40: timestamp, level and what stands between.
    let mut line = String::with_capacity(40 + fields.message.len() + logger.len());
    line.push('[');
    push_timestamp(&mut line, now, ' ', ',');
    line.push_str("] ");
    line.push_str(level);
    line.push(' ');
    line.push_str(&fields.message);
    for (name, value) in &fields.others {
        // Writing to a String cannot fail.
        let _ = write!(line, " {name}={value}");
    }
    line.push_str(" (");
    line.push_str(logger);
    line.push_str(")\n");
    line
}

fn json_line(now: Millis, level: &str, logger: &str, fields: &Fields) -> String {
    let mut object = serde_json::Map::new();
    let mut put = |name: &str, value: &str| {
        object.insert(name.to_owned(), serde_json::Value::from(value));
    };
    put("timestamp", &format!("{}Z", timestamp(now, 'T', '.')));
    put("level", level);
    put("logger", logger);
    put("message", &fields.message);
    for (name, value) in &fields.others {
        put(name, value);
    }
    format!("{}\n", serde_json::Value::Object(object))
}

/// `2024-11-06 12:34:56,789` in UTC, with the separators asked for.
pub(crate) fn timestamp(now: Millis, between: char, before_millis: char) -> String {
    let mut text = String::with_capacity(23);
    push_timestamp(&mut text, now, between, before_millis);
    text
}

/// By hand: a line of a busy log would otherwise cost more for its time than for what it says.
fn push_timestamp(text: &mut String, now: Millis, between: char, before_millis: char) {
    let days = now.div_euclid(86_400_000);
    let of_day = now.rem_euclid(86_400_000);
    let (year, month, day) = civil_date(days);
    // Writing to a String cannot fail.
    let _ = write!(text, "{year:04}");
    for (before, number, digits) in [
        ('-', month, 2),
        ('-', day, 2),
        (between, of_day / 3_600_000, 2),
        (':', of_day / 60_000 % 60, 2),
        (':', of_day / 1000 % 60, 2),
        (before_millis, of_day % 1000, 3),
    ] {
        text.push(before);
        push_number(text, number, digits);
    }
}

/// With leading zeros.
fn push_number(text: &mut String, number: i64, digits: u32) {
    for place in (0..digits).rev() {
        let digit = number / 10_i64.pow(place) % 10;
        text.push(char::from(b'0' + digit as u8));
    }
}

/// Year, month and day of a day number since 1970-01-01, in the Gregorian calendar: years are
/// counted from March, so that the leap day comes last.
fn civil_date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_calendar_time() {
        for (millis, text) in [
            (0, "1970-01-01 00:00:00,000"),
            (1_730_896_496_789, "2024-11-06 12:34:56,789"),
            (951_782_400_000, "2000-02-29 00:00:00,000"),
            (4_107_542_399_999, "2100-02-28 23:59:59,999"),
            (4_107_542_400_000, "2100-03-01 00:00:00,000"),
        ] {
            assert_eq!(timestamp(millis, ' ', ','), text);
        }
    }

    #[test]
    fn targets_become_java_loggers() {
        for (target, logger) in [
            ("kafka.server.KafkaServer", "kafka.server.KafkaServer"),
            ("ottla::log::recovery", "kafka.log.recovery"),
            ("ottla::controller", "kafka.controller"),
            ("ottla::logging", "ottla.logging"),
            ("zookeeper_client::session", "org.apache.zookeeper.session"),
            ("mio::poll", "mio.poll"),
        ] {
            assert_eq!(logger_name(target), logger);
        }
    }

    #[test]
    fn a_logger_without_a_level_has_its_nearest_ancestors() {
        let loggers = Loggers::new();
        let level = |name: &str| {
            let all = loggers.all();
            all.into_iter()
                .find(|(logger, _)| logger == name)
                .map(|(_, level)| level)
        };
        assert_eq!(loggers.all()[0], (ROOT.to_owned(), Level::Info));
        loggers.set_level("kafka", Level::Warn);
        loggers.set_level("kafka.log.LogManager", Level::Trace);
        assert_eq!(level("kafka.server.KafkaApis"), Some(Level::Warn));
        assert_eq!(level("kafka.log.LogManager"), Some(Level::Trace));
        assert_eq!(level("state.change.logger"), Some(Level::Info));
        loggers.unset_level("kafka");
        assert_eq!(level("kafka.server.KafkaApis"), Some(Level::Info));
        loggers.set_level(ROOT, Level::Error);
        assert_eq!(level("state.change.logger"), Some(Level::Error));
        assert!(loggers.exists(ROOT) && loggers.exists("kafka"));
        assert!(!loggers.exists("no.such.logger"));
    }

    #[test]
    fn levels_of_the_environment_are_taken() {
        let loggers = Loggers::new();
        loggers.configure(&Environment {
            root_level: Some("warn".into()),
            loggers: vec![
                ("kafka.controller".into(), "TRACE".into()),
                ("kafka.log".into(), "LOUD".into()),
            ],
            ..Environment::default()
        });
        let levels = loggers.levels.load();
        assert_eq!(levels.of("kafka.controller.KafkaController"), Level::Trace);
        assert_eq!(levels.of("kafka.log"), Level::Warn);
    }

    #[test]
    fn lines_have_kafkas_shape_and_levels_change_at_run_time() {
        static WRITTEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let loggers = Arc::new(Loggers::new());
        let lines = Lines {
            loggers: Arc::clone(&loggers),
            format: Format::Kafka,
            write: |line: &str| WRITTEN.lock().push(line.to_owned()),
        };
        let subscriber = tracing_subscriber::registry().with(lines);
        tracing::subscriber::with_default(subscriber, || {
            let speak = || tracing::debug!(target: "kafka.test.Speaker", "quiet");
            tracing::info!(target: "kafka.test.Speaker", size = 3, "[KafkaServer id={}] started", 1);
            speak();
            loggers.set_level("kafka.test", Level::Debug);
            speak();
        });
        let written = WRITTEN.lock();
        let tails: Vec<&str> = written.iter().map(|line| &line[26..]).collect();
        assert_eq!(
            tails,
            [
                "INFO [KafkaServer id=1] started size=3 (kafka.test.Speaker)\n",
                "DEBUG quiet (kafka.test.Speaker)\n"
            ]
        );
        assert!(written[0].starts_with("[20"));
        assert_eq!(&written[0][24..26], "] ");
        assert!(loggers.exists("kafka.test.Speaker"));
    }

    #[test]
    fn json_lines_parse() {
        let fields = Fields {
            message: "say \"hi\"".into(),
            others: vec![("size", "3".into())],
        };
        let line = json_line(0, "INFO", "kafka", &fields);
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["message"], "say \"hi\"");
        assert_eq!(read["timestamp"], "1970-01-01T00:00:00.000Z");
        assert_eq!(read["size"], "3");
    }
}
