//! `kafka-consumer-groups`: list, describe, reset and delete consumer groups
//! (`ConsumerGroupCommand`).
//!
//! As in Kafka a group that cannot be described, reset or deleted is an `Error:` on stdout and the
//! exit code stays 0; only wrong flags exit with 1. Rows that Kafka prints in the order of a hash
//! table come sorted.

mod describe;
mod reset;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;

use super::admin::{Admin, ApiError, ClientConfig};
use super::options::{clash, parse, usage_error};
use crate::error::ErrorCode;
use crate::types::TopicPartition;

/// Lists, describes, resets and deletes consumer groups.
#[derive(Parser)]
#[command(
    name = "kafka-consumer-groups",
    disable_version_flag = true,
    override_usage = "kafka-consumer-groups --bootstrap-server HOST:PORT ACTION [OPTION]…",
    after_help = "\
Examples, each with --bootstrap-server localhost:9092:
  --list --state                                        all groups and their states
  --describe --group g1                                 who reads what, and how far behind
  --describe --all-groups --members                     who is in which group
  --reset-offsets --group g1 --topic t --to-earliest    what a reset would do
  --reset-offsets --group g1 --topic t:0,1 --shift-by -10 --execute
  --delete-offsets --group g1 --topic t
  --delete --group g1"
)]
struct Options {
    /// HOST:PORT of a broker, or several with commas
    #[arg(long, value_name = "HOST:PORT", help_heading = "Connection")]
    bootstrap_server: Option<String>,
    /// Properties of the connection: client.id, default.api.timeout.ms
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    command_config: Option<String>,
    /// How long to wait for brokers and for groups that are being loaded
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 5000,
        help_heading = "Connection"
    )]
    timeout: u64,
    /// All groups
    #[arg(long, help_heading = "Actions")]
    list: bool,
    /// Offsets and lag (--offsets, the default), --members or --state of groups
    #[arg(long, help_heading = "Actions")]
    describe: bool,
    /// Move committed offsets of groups without members
    #[arg(long, help_heading = "Actions")]
    reset_offsets: bool,
    /// Forget what a group has committed for topics
    #[arg(long, help_heading = "Actions")]
    delete_offsets: bool,
    /// Delete groups without members
    #[arg(long, help_heading = "Actions")]
    delete: bool,
    /// A group; may be repeated
    #[arg(long, value_name = "GROUP", help_heading = "Which groups and topics")]
    group: Vec<String>,
    /// Every group
    #[arg(long, help_heading = "Which groups and topics")]
    all_groups: bool,
    /// A topic, or some of its partitions as TOPIC:0,1; may be repeated
    #[arg(long, value_name = "TOPIC", help_heading = "Which groups and topics")]
    topic: Vec<String>,
    /// With --reset-offsets: all that the group has committed
    #[arg(long, help_heading = "Which groups and topics")]
    all_topics: bool,
    /// Offsets and lag by partition
    #[arg(long, help_heading = "With --describe or --list")]
    offsets: bool,
    /// Members and how many partitions each has
    #[arg(long, help_heading = "With --describe or --list")]
    members: bool,
    /// With --members: which partitions
    #[arg(long, help_heading = "With --describe or --list")]
    verbose: bool,
    /// The groups' states; with --list only groups in these, e.g. stable,empty
    #[arg(
        long,
        value_name = "STATES",
        num_args = 0..=1,
        default_missing_value = "",
        help_heading = "With --describe or --list"
    )]
    state: Option<String>,
    /// With --list: the groups' types, or only groups of these: classic,consumer
    #[arg(
        long = "type",
        value_name = "TYPES",
        num_args = 0..=1,
        default_missing_value = "",
        help_heading = "With --describe or --list"
    )]
    group_type: Option<String>,
    /// To the first record there is
    #[arg(long, help_heading = "With --reset-offsets: where to")]
    to_earliest: bool,
    /// Behind the last record there is
    #[arg(long, help_heading = "With --reset-offsets: where to")]
    to_latest: bool,
    /// To what is committed now (behind the last record where nothing is)
    #[arg(long, help_heading = "With --reset-offsets: where to")]
    to_current: bool,
    /// To this offset, or the nearest there is
    #[arg(
        long,
        value_name = "OFFSET",
        help_heading = "With --reset-offsets: where to"
    )]
    to_offset: Option<i64>,
    /// So many records on, or back when negative
    #[arg(
        long,
        value_name = "N",
        help_heading = "With --reset-offsets: where to"
    )]
    shift_by: Option<i64>,
    /// To the first record that is not older: P1DT2H3M4S
    #[arg(
        long,
        value_name = "DURATION",
        help_heading = "With --reset-offsets: where to"
    )]
    by_duration: Option<String>,
    /// To the first record since: YYYY-MM-DDTHH:mm:SS.sss, in UTC unless an offset such as +02:00
    /// follows
    #[arg(
        long,
        value_name = "TIME",
        help_heading = "With --reset-offsets: where to"
    )]
    to_datetime: Option<String>,
    /// To what a file says: lines of TOPIC,PARTITION,OFFSET, as --export prints
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "With --reset-offsets: where to"
    )]
    from_file: Option<String>,
    /// Only show the new offsets; this is the default
    #[arg(long, help_heading = "With --reset-offsets: where to")]
    dry_run: bool,
    /// Commit the new offsets
    #[arg(long, help_heading = "With --reset-offsets: where to")]
    execute: bool,
    /// Print the new offsets as CSV
    #[arg(long, help_heading = "With --reset-offsets: where to")]
    export: bool,
}

/// Flags that do not go together, in Kafka's words; printed with the usage.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let options: Options = match parse(arguments) {
        Ok(options) => options,
        Err(code) => return code,
    };
    if let Err(Usage(complaint)) = options.check() {
        return usage_error::<Options>(&complaint);
    }
    match options.act() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<Usage>() {
            Some(Usage(complaint)) => usage_error::<Options>(complaint),
            None => {
                let said = said(&error);
                print_error(&format!(
                    "Executing consumer group command failed due to {said}"
                ));
                eprintln!("{said}");
                ExitCode::SUCCESS
            }
        },
    }
}

/// An error as Kafka's tool words it: that of the cluster with its Java class.
fn said(error: &anyhow::Error) -> String {
    match error.downcast_ref::<ApiError>() {
        Some(api) => api.thrown(),
        None => format!("{error:#}"),
    }
}

/// Kafka asks some things inside of a future whose failure it passes on whole.
fn in_future(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<ApiError>() {
        Some(api) => anyhow::anyhow!("java.util.concurrent.ExecutionException: {}", api.thrown()),
        None => error,
    }
}

fn print_error(message: &str) {
    println!("\nError: {message}");
}

impl Options {
    fn check(&self) -> Result<(), Usage> {
        let fail = |message: &str| Err(Usage(message.to_owned()));
        let under = [
            ("members", self.members, self.describe),
            ("verbose", self.verbose, self.describe),
            ("offsets", self.offsets, self.describe),
            ("state", self.state.is_some(), self.describe || self.list),
            ("type", self.group_type.is_some(), self.list),
        ];
        let unavailable: Vec<_> = under
            .iter()
            .filter(|(_, given, allowed)| *given && !allowed)
            .map(|(name, ..)| *name)
            .collect();
        if !unavailable.is_empty() {
            return Err(Usage(format!(
                "Option(s) [{}] are unavailable given other options on the command line",
                unavailable.join(", ")
            )));
        }
        if self.bootstrap_server.is_none() {
            return fail("Missing required argument \"[bootstrap-server]\"");
        }
        let some_group = !self.group.is_empty() || self.all_groups;
        if self.describe {
            if !some_group {
                return fail(
                    "Option [describe] takes one of these options: [list], [describe], [delete], [reset-offsets]",
                );
            }
            let what = [self.members, self.offsets, self.state.is_some()];
            if what.iter().filter(|given| **given).count() > 1 {
                return fail(
                    "Option [describe] takes at most one of these options: [members], [offsets], [state]",
                );
            }
            if self.state.as_deref().is_some_and(|state| !state.is_empty()) {
                return fail("Option [describe] does not take a value for [state]");
            }
        }
        if self.delete {
            if !some_group {
                return fail("Option [delete] takes one of these options: [group], [all-groups]");
            }
            if !self.topic.is_empty() {
                return fail(
                    "The consumer does not support topic-specific offset deletion from a consumer group.",
                );
            }
        }
        if self.delete_offsets && (self.group.is_empty() || self.topic.is_empty()) {
            return fail(
                "Option [delete-offsets] takes the following options: [group], [all-groups]",
            );
        }
        if self.reset_offsets {
            if self.dry_run && self.execute {
                return fail("Option [reset-offsets] only accepts one of [execute] and [dry-run]");
            }
            if !self.dry_run && !self.execute {
                eprintln!(
                    "WARN: No action will be performed as the --execute option is missing.In a future major release, the default behavior of this command will be to prompt the user before executing the reset rather than doing a dry run. You should add the --dry-run option explicitly if you are scripting this command and want to keep the current default behavior without prompting."
                );
            }
            if !some_group {
                return fail(
                    "Option [reset-offsets] takes one of these options: [group], [all-groups]",
                );
            }
            if let [first, second, ..] = self.scenarios()[..] {
                return Err(Usage(format!(
                    "Option \"[{first}]\" can't be used with option \"[{second}]\""
                )));
            }
        }
        let list = ("list", self.list);
        if let Some(complaint) = clash(&[
            (
                "group",
                !self.group.is_empty(),
                &[("all-groups", self.all_groups), list],
            ),
            (
                "topic",
                !self.topic.is_empty(),
                &[list, ("describe", self.describe)],
            ),
        ]) {
            return Err(Usage(complaint));
        }
        let actions = [
            self.list,
            self.describe,
            self.delete,
            self.reset_offsets,
            self.delete_offsets,
        ];
        if actions.iter().filter(|action| **action).count() != 1 {
            return fail(
                "Command must include exactly one action: --list, --describe, --delete, --reset-offsets, --delete-offsets",
            );
        }
        Ok(())
    }

    /// Which of the flags that say where to are given, in the order Kafka checks them.
    fn scenarios(&self) -> Vec<&'static str> {
        [
            ("to-offset", self.to_offset.is_some()),
            ("to-datetime", self.to_datetime.is_some()),
            ("by-duration", self.by_duration.is_some()),
            ("to-earliest", self.to_earliest),
            ("to-latest", self.to_latest),
            ("to-current", self.to_current),
            ("shift-by", self.shift_by.is_some()),
            ("from-file", self.from_file.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
        .collect()
    }

    fn act(&self) -> Result<()> {
        let filter = Filter::new(self)?;
        let mut config =
            ClientConfig::new("adminclient-1").with_file(self.command_config.as_deref())?;
        config.timeout = Duration::from_millis(self.timeout);
        let bootstrap = self.bootstrap_server.as_deref().unwrap_or_default();
        let mut admin = Admin::connect(bootstrap, config)?;
        if self.list {
            self.list_groups(&filter, &mut admin)?;
        } else if self.describe {
            describe::run(self, &mut admin)?;
        } else if self.reset_offsets {
            reset::run(self, &mut admin)?;
        } else if self.delete_offsets {
            self.delete_offsets(&mut admin)?;
        } else {
            self.delete_groups(&mut admin)?;
        }
        std::io::stdout().flush()?;
        Ok(())
    }

    /// The groups that the flags name.
    fn groups(&self, admin: &mut Admin) -> Result<BTreeSet<String>> {
        if !self.all_groups {
            return Ok(self.group.iter().cloned().collect());
        }
        let groups = consumer_groups(admin, &Filter::default()).map_err(in_future)?;
        Ok(groups.into_keys().collect())
    }

    fn list_groups(&self, filter: &Filter, admin: &mut Admin) -> Result<()> {
        let with_type = self.group_type.is_some();
        let with_state = self.state.is_some();
        if !with_type && !with_state {
            for group in consumer_groups(admin, filter).map_err(in_future)?.keys() {
                println!("{group}");
            }
            return Ok(());
        }
        let groups = consumer_groups(admin, filter)?;
        let longest = groups.keys().map(|id| id.chars().count()).max();
        let width = longest.unwrap_or(15).max(15) + 10;
        let print = |id: &str, group_type: &str, state: &str| {
            print!("{id:<width$}");
            if with_type {
                print!(" {group_type:<20}");
            }
            if with_state {
                print!(" {state:<20}");
            }
            println!();
        };
        print("GROUP", "TYPE", "STATE");
        for (id, (state, group_type)) in &groups {
            print(id, group_type, state);
        }
        Ok(())
    }

    fn delete_groups(&self, admin: &mut Admin) -> Result<()> {
        let mut deleted = Vec::new();
        let mut failed = BTreeMap::new();
        for group in self.groups(admin)? {
            match admin.delete_group(&group) {
                Ok(()) => deleted.push(group),
                Err(error) => {
                    failed.insert(group, in_future(error));
                }
            }
        }
        if failed.is_empty() {
            println!(
                "Deletion of requested consumer groups ('{}') was successful.",
                deleted.join(", ")
            );
            return Ok(());
        }
        print_error("Deletion of some consumer groups failed:");
        for (group, error) in &failed {
            println!("* Group '{group}' could not be deleted due to: {error}");
        }
        if !deleted.is_empty() {
            // Kafka's own quotes.
            println!(
                "\nThese consumer groups were deleted successfully: '{}', '",
                deleted.join("'")
            );
        }
        Ok(())
    }

    fn delete_offsets(&self, admin: &mut Admin) -> Result<()> {
        let [group, ..] = &self.group[..] else {
            return Ok(());
        };
        let (mut partitions, unknown) = partitions_of(&self.topic, admin)?;
        let deleted = admin.delete_offsets(group, &partitions)?;
        let mut rows: BTreeMap<TopicPartition, Option<String>> = BTreeMap::new();
        for topic in unknown {
            let error = ApiError::new(ErrorCode::UnknownTopicOrPartition.value(), None);
            rows.insert(TopicPartition::new(topic, -1), Some(error.thrown()));
        }
        let outcome = match &deleted {
            Ok(results) => results
                .values()
                .find_map(|result| result.as_ref().err())
                .map_or(Ok(()), |error| Err(error.clone())),
            Err(error) => Err(error.clone()),
        };
        while let Some(partition) = partitions.pop_first() {
            let result = match &deleted {
                Ok(results) => results.get(&partition).cloned().unwrap_or(Ok(())),
                Err(error) => Err(error.clone()),
            };
            rows.insert(partition, result.err().map(|error| error.thrown()));
        }
        match outcome.map_err(|error| error.code) {
            Ok(()) => println!(
                "Request succeed for deleting offsets with topic {} group {group}",
                self.topic.join(", ")
            ),
            Err(ErrorCode::InvalidGroupId) => print_error(&format!("'{group}' is not valid.")),
            Err(ErrorCode::GroupIdNotFound) => print_error(&format!("'{group}' does not exist.")),
            Err(ErrorCode::GroupAuthorizationFailed) => {
                print_error(&format!("Access to '{group}' is not authorized."));
            }
            Err(ErrorCode::NonEmptyGroup) => print_error(&format!(
                "Deleting offsets of a consumer group '{group}' is forbidden if the group is not empty."
            )),
            Err(
                ErrorCode::GroupSubscribedToTopic
                | ErrorCode::TopicAuthorizationFailed
                | ErrorCode::UnknownTopicOrPartition,
            ) => print_error("Encounter some partition level error, see the follow-up details:"),
            Err(code) => print_error(&format!("Encounter some unknown error: {}", code.name())),
        }
        let print = |topic: &str, partition: &str, status: &str| {
            println!("{topic:<30} {partition:<15} {status:<15}");
        };
        println!();
        print("TOPIC", "PARTITION", "STATUS");
        for (partition, error) in &rows {
            let id = match partition.partition {
                id if id >= 0 => id.to_string(),
                _ => "Not Provided".to_owned(),
            };
            let status = match error {
                Some(error) => format!("Error: :{error}"),
                None => "Successful".to_owned(),
            };
            print(&partition.topic, &id, &status);
        }
        Ok(())
    }
}

/// What `--state` and `--type` let through, in Kafka's spelling; empty lets all through.
#[derive(Debug, Default, PartialEq, Eq)]
struct Filter {
    states: Vec<&'static str>,
    types: Vec<&'static str>,
}

impl Filter {
    fn new(options: &Options) -> Result<Self, Usage> {
        const STATES: [&str; 7] = [
            "PreparingRebalance",
            "CompletingRebalance",
            "Stable",
            "Dead",
            "Empty",
            "Assigning",
            "Reconciling",
        ];
        const TYPES: [&str; 2] = ["Consumer", "Classic"];
        Ok(Self {
            states: chosen(options.state.as_deref(), &STATES).map_err(|given| {
                Usage(format!(
                    "Invalid state list '{given}'. Valid states are: {}",
                    STATES.join(", ")
                ))
            })?,
            types: chosen(options.group_type.as_deref(), &TYPES).map_err(|given| {
                Usage(format!(
                    "Invalid types list '{given}'. Valid types are: {}",
                    TYPES.join(", ")
                ))
            })?,
        })
    }
}

/// The names of a list with commas, whatever their case; all of the list when one is unknown.
fn chosen(given: Option<&str>, known: &[&'static str]) -> Result<Vec<&'static str>, String> {
    let given = given.unwrap_or_default();
    if given.is_empty() {
        return Ok(Vec::new());
    }
    given
        .split(',')
        .map(|word| {
            known
                .iter()
                .find(|name| name.eq_ignore_ascii_case(word.trim()))
                .copied()
                .ok_or_else(|| given.to_owned())
        })
        .collect()
}

/// State and type of the groups of consumers, by id; those of Connect workers and the like are
/// none.
fn consumer_groups(
    admin: &mut Admin,
    filter: &Filter,
) -> Result<BTreeMap<String, (String, String)>> {
    let types: Vec<_> = filter
        .types
        .iter()
        .map(|name| name.to_lowercase())
        .collect();
    let types: Vec<_> = types.iter().map(String::as_str).collect();
    let listed = admin.list_groups(&filter.states, &types)?;
    let or_unknown = |text: &str| match text {
        "" => "Unknown".to_owned(),
        text => text[..1].to_uppercase() + &text[1..],
    };
    Ok(listed
        .into_iter()
        .filter(|(_, group)| matches!(group.protocol_type.as_str(), "" | "consumer"))
        .map(|(id, group)| {
            let state = or_unknown(&group.group_state);
            (id, (state, or_unknown(&group.group_type)))
        })
        .collect())
}

/// What `--topic` names, `TOPIC` or `TOPIC:0,1`, and the topics among it that do not exist.
fn partitions_of(
    given: &[String],
    admin: &mut Admin,
) -> Result<(BTreeSet<TopicPartition>, Vec<String>)> {
    let mut partitions = BTreeSet::new();
    let mut whole = Vec::new();
    for argument in given {
        if argument.contains(':') {
            partitions.extend(named_partitions(argument)?);
        } else {
            whole.push(argument.as_str());
        }
    }
    let mut unknown = Vec::new();
    if !whole.is_empty() {
        for topic in admin.metadata(Some(&whole))?.topics {
            let name = topic
                .name
                .map(|name| name.0.to_string())
                .unwrap_or_default();
            if topic.error_code != 0 {
                unknown.push(name);
                continue;
            }
            partitions.extend(
                topic
                    .partitions
                    .iter()
                    .map(|partition| TopicPartition::new(name.as_str(), partition.partition_index)),
            );
        }
    }
    Ok((partitions, unknown))
}

fn named_partitions(argument: &str) -> Result<Vec<TopicPartition>, Usage> {
    let parts: Vec<_> = argument.split(':').collect();
    let [topic, ids] = parts[..] else {
        return Err(Usage(format!(
            "Invalid topic arg '{argument}', expected topic name and partitions"
        )));
    };
    ids.split(',')
        .map(|id| match id.parse() {
            Ok(id) => Ok(TopicPartition::new(topic, id)),
            Err(_) => Err(Usage(format!(
                "Invalid partition '{id}' specified in topic arg '{argument}''"
            ))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Options {
        let line = format!("kafka-consumer-groups {line}");
        Options::parse_from(line.split_whitespace())
    }

    #[test]
    fn flags_that_do_not_go_together_are_named() {
        for (line, complaint) in [
            ("--list", "Missing required argument \"[bootstrap-server]\""),
            (
                "--bootstrap-server b:1 --list --members",
                "Option(s) [members] are unavailable given other options on the command line",
            ),
            (
                "--bootstrap-server b:1 --describe --group g --members --state",
                "Option [describe] takes at most one of these options: [members], [offsets], [state]",
            ),
            (
                "--bootstrap-server b:1 --delete --group g --topic t",
                "The consumer does not support topic-specific offset deletion from a consumer group.",
            ),
            (
                "--bootstrap-server b:1 --reset-offsets --group g --execute --to-latest --to-offset=5",
                "Option \"[to-offset]\" can't be used with option \"[to-latest]\"",
            ),
            (
                "--bootstrap-server b:1 --delete --group g --all-groups",
                "Option \"[group]\" can't be used with option \"[all-groups]\"",
            ),
            (
                "--bootstrap-server b:1 --group g",
                "Command must include exactly one action: --list, --describe, --delete, --reset-offsets, --delete-offsets",
            ),
        ] {
            let said = options(line).check().map_err(|Usage(said)| said);
            assert_eq!(said, Err(complaint.to_owned()), "{line}");
        }
        let fine = options("--bootstrap-server b:1 --describe --group g --group h --state");
        assert!(fine.check().is_ok());
    }

    #[test]
    fn states_and_types_are_named_in_any_case() {
        let filter = Filter::new(&options("--state=stable,EMPTY --type=Classic")).unwrap();
        assert_eq!(filter.states, ["Stable", "Empty"]);
        assert_eq!(filter.types, ["Classic"]);
        assert_eq!(Filter::new(&options("--state")).unwrap(), Filter::default());
        let Usage(said) = Filter::new(&options("--type=no,classic")).unwrap_err();
        assert_eq!(
            said,
            "Invalid types list 'no,classic'. Valid types are: Consumer, Classic"
        );
    }

    #[test]
    fn partitions_follow_a_colon() {
        let parsed = named_partitions("t:0,2").unwrap();
        assert_eq!(
            parsed,
            [TopicPartition::new("t", 0), TopicPartition::new("t", 2)]
        );
        let Usage(said) = named_partitions("t:0,x").unwrap_err();
        assert_eq!(
            said,
            "Invalid partition 'x' specified in topic arg 't:0,x''"
        );
        assert!(named_partitions("a:b:c").is_err());
    }
}
