//! `--reset-offsets`: where the offsets of a group without members go, shown, exported or
//! committed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, anyhow, bail};

use super::super::admin::{Admin, ApiError, log};
use super::describe::{at_time, log_ends};
use super::{Options, Usage, in_future, partitions_of, print_error};
use crate::clock::{Clock as _, SystemClock};
use crate::error::ErrorCode;
use crate::types::{Millis, Offset, TopicPartition};

/// New offsets of one group.
type Plan = BTreeMap<TopicPartition, Offset>;

pub(super) fn run(options: &Options, admin: &mut Admin) -> Result<()> {
    let mut plans: BTreeMap<String, Plan> = BTreeMap::new();
    let groups = options.groups(admin)?;
    let mut states = Vec::new();
    for group in groups {
        let (_, described) = admin.describe_group(&group).map_err(in_future)?;
        states.push((group, described.group_state));
    }
    for (group, state) in states {
        if !matches!(state.as_str(), "Empty" | "Dead") {
            print_error(&format!(
                "Assignments can only be reset if the group '{group}' is inactive, but the current state is {state}."
            ));
            plans.insert(group, Plan::new());
            continue;
        }
        let scope = scope(options, &group, admin)?;
        let plan = plan(options, &group, &scope, admin)?;
        if options.execute && !plan.is_empty() {
            admin.alter_offsets(&group, &plan).map_err(in_future)?;
        }
        plans.insert(group, plan);
    }
    if options.export {
        print_csv(&plans, options.group.len() == 1);
    } else if !plans.is_empty() {
        println!(
            "\n{:<30} {:<30} {:<10} {:<15}",
            "GROUP", "TOPIC", "PARTITION", "NEW-OFFSET"
        );
        for (group, plan) in &plans {
            for (partition, offset) in plan {
                println!(
                    "{group:<30} {:<30} {:<10} {offset:<15}",
                    partition.topic.as_str(),
                    partition.partition
                );
            }
        }
    }
    Ok(())
}

/// The partitions to reset.
fn scope(options: &Options, group: &str, admin: &mut Admin) -> Result<BTreeSet<TopicPartition>> {
    if options.all_topics {
        let committed = admin.committed_offsets(group).map_err(in_future)?;
        return Ok(committed.into_keys().collect());
    }
    if options.topic.is_empty() {
        if options.from_file.is_none() {
            bail!(Usage(
                "One of the reset scopes should be defined: --all-topics, --topic.".to_owned()
            ));
        }
        return Ok(BTreeSet::new());
    }
    let (partitions, unknown) = partitions_of(&options.topic, admin)?;
    if !unknown.is_empty() {
        let error = ApiError::new(ErrorCode::UnknownTopicOrPartition.value(), None);
        return Err(in_future(error.into()));
    }
    Ok(partitions)
}

fn plan(
    options: &Options,
    group: &str,
    scope: &BTreeSet<TopicPartition>,
    admin: &mut Admin,
) -> Result<Plan> {
    if let Some(offset) = options.to_offset {
        let wanted = scope.iter().map(|partition| (partition.clone(), offset));
        return within_logs(wanted.collect(), admin);
    }
    if options.to_earliest {
        return at_time(-2, scope, admin).map_err(in_future);
    }
    if options.to_latest {
        return log_ends(scope, admin).map_err(in_future);
    }
    if let Some(by) = options.shift_by {
        let committed = admin.committed_offsets(group).map_err(in_future)?;
        let mut wanted = Plan::new();
        for partition in scope {
            let Some(offset) = committed.get(partition) else {
                bail!(Usage(format!(
                    "Cannot shift offset for partition {partition} since there is no current committed offset"
                )));
            };
            wanted.insert(partition.clone(), offset.saturating_add(by));
        }
        return within_logs(wanted, admin);
    }
    if let Some(given) = &options.to_datetime {
        let since = parse_datetime(given)
            .map_err(|message| anyhow!("java.text.ParseException: {message}"))?;
        return since_then(since, scope, admin);
    }
    if let Some(given) = &options.by_duration {
        let Some(length) = parse_duration(given) else {
            bail!("Text cannot be parsed to a Duration");
        };
        return since_then(SystemClock.now().saturating_sub(length), scope, admin);
    }
    if let Some(path) = &options.from_file {
        let only = match &options.group[..] {
            [group] => Some(group.as_str()),
            _ => None,
        };
        let text = std::fs::read_to_string(path).with_context(|| path.clone())?;
        let mut plans = parse_csv(&text, only).with_context(|| path.clone())?;
        let Some(wanted) = plans.remove(group) else {
            print_error(&format!("No reset plan for group {group} found"));
            return Ok(Plan::new());
        };
        return within_logs(wanted, admin);
    }
    if options.to_current {
        let committed = admin.committed_offsets(group).map_err(in_future)?;
        let missing = scope
            .iter()
            .filter(|partition| !committed.contains_key(*partition));
        let mut plan = log_ends(missing, admin).map_err(in_future)?;
        plan.extend(
            committed
                .into_iter()
                .filter(|(partition, _)| scope.contains(partition)),
        );
        return Ok(plan);
    }
    bail!(Usage(
        "Option '[reset-offsets]' requires one of the following scenarios: [[to-offset], [to-current], [to-datetime], [from-file], [by-duration], [to-earliest], [to-latest], [shift-by]]"
            .to_owned()
    ))
}

/// Offsets outside of a log become its nearest end.
fn within_logs(mut wanted: Plan, admin: &mut Admin) -> Result<Plan> {
    let starts = at_time(-2, wanted.keys(), admin).map_err(in_future)?;
    let ends = log_ends(wanted.keys(), admin).map_err(in_future)?;
    for (partition, offset) in &mut wanted {
        let (start, end) = (starts[partition], ends[partition]);
        let (relation, bound) = if *offset > end {
            ("higher than latest", end)
        } else if *offset < start {
            ("lower than earliest", start)
        } else {
            continue;
        };
        log(
            "WARN",
            &format!(
                "New offset ({offset}) is {relation} offset for topic partition {partition}. Value will be set to {bound}"
            ),
            "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
        );
        *offset = bound;
    }
    Ok(wanted)
}

/// The first record since `since`, or the log's end where there is none.
fn since_then(since: Millis, scope: &BTreeSet<TopicPartition>, admin: &mut Admin) -> Result<Plan> {
    // Negative timestamps mean other things on the wire.
    let mut plan = at_time(since.max(0), scope, admin).map_err(in_future)?;
    let without: Vec<_> = plan
        .iter()
        .filter(|(_, offset)| **offset < 0)
        .map(|(partition, _)| partition.clone())
        .collect();
    for partition in &without {
        println!(
            "\nWarn: Partition {} from topic {} is empty. Falling back to latest known offset.",
            partition.partition, partition.topic
        );
    }
    plan.extend(log_ends(&without, admin).map_err(in_future)?);
    Ok(plan)
}

/// `2024-11-06T12:34:56.789`, in UTC unless `Z`, `+02`, `+0200` or `+02:00` follows
/// (`Utils.getDateTime`). Milliseconds since the epoch.
fn parse_datetime(given: &str) -> Result<Millis, String> {
    if !given.contains('T') {
        return Err(
            "Error parsing timestamp. It does not contain a 'T' according to ISO8601 format"
                .to_owned(),
        );
    }
    let pattern = regex::Regex::new(
        r"^(\d{4})-(\d{1,2})-(\d{1,2})T(\d{1,2}):(\d{1,2}):(\d{1,2})\.(\d{1,3})(?:Z|([+-])(\d{2})(?::?(\d{2}))?)?$",
    )
    .map_err(|error| error.to_string())?;
    let unparseable = || format!("Unparseable date: \"{given}\"");
    let found = pattern.captures(given).ok_or_else(unparseable)?;
    let number = |group: usize| -> i64 {
        found
            .get(group)
            .and_then(|digits| digits.as_str().parse().ok())
            .unwrap_or(0)
    };
    let (year, month, day) = (number(1), number(2), number(3));
    let (hour, minute, second) = (number(4), number(5), number(6));
    let (zone_hours, zone_minutes) = (number(9), number(10));
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => 0,
    };
    if !(1..=month_days).contains(&day)
        || hour > 23
        || minute > 59
        || second > 59
        || zone_hours > 23
        || zone_minutes > 59
    {
        return Err(unparseable());
    }
    // Years begin in March here, so that the leap day is their last.
    let from_march = (month + 9) % 12;
    let march_year = year - i64::from(month <= 2);
    let days = 365 * march_year + march_year.div_euclid(4) - march_year.div_euclid(100)
        + march_year.div_euclid(400)
        + (153 * from_march + 2) / 5
        + day
        - 719_469;
    let ahead = zone_hours * 60 + zone_minutes;
    let zone = match found.get(8).map(|sign| sign.as_str()) {
        Some("-") => -ahead,
        _ => ahead,
    };
    Ok((((days * 24 + hour) * 60 + minute - zone) * 60 + second) * 1000 + number(7))
}

/// `P1DT2H3M4.5S` in either case, each part with a sign if need be (`java.time.Duration.parse`).
/// Milliseconds.
fn parse_duration(given: &str) -> Option<Millis> {
    let pattern = regex::Regex::new(
        r"(?i)^([+-])?P(?:([+-]?\d+)D)?(T(?:([+-]?\d+)H)?(?:([+-]?\d+)M)?(?:([+-]?\d+)(?:[.,](\d{0,9}))?S)?)?$",
    )
    .ok()?;
    let found = pattern.captures(given)?;
    let group = |index: usize| found.get(index).map(|digits| digits.as_str());
    let time = group(3);
    if (2..=6)
        .filter(|index| *index != 3)
        .all(|index| group(index).is_none())
        || time.is_some_and(|time| time.len() == 1)
    {
        return None;
    }
    let mut millis: i64 = 0;
    for (index, unit) in [(2, 86_400_000), (4, 3_600_000), (5, 60_000), (6, 1000)] {
        let Some(digits) = group(index) else { continue };
        let count: i64 = digits.parse().ok()?;
        millis = millis.checked_add(count.checked_mul(unit)?)?;
    }
    let fraction: String = group(7)
        .unwrap_or_default()
        .chars()
        .chain("000".chars())
        .take(3)
        .collect();
    let fraction: i64 = fraction.parse().ok()?;
    millis = if group(6).is_some_and(|seconds| seconds.starts_with('-')) {
        millis.checked_sub(fraction)?
    } else {
        millis.checked_add(fraction)?
    };
    if group(1) == Some("-") {
        return millis.checked_neg();
    }
    Some(millis)
}

/// Lines of `TOPIC,PARTITION,OFFSET`, or with the group first when there are several.
fn print_csv(plans: &BTreeMap<String, Plan>, one_group: bool) {
    for (group, plan) in plans {
        for (partition, offset) in plan {
            if !one_group {
                print!("{},", quoted(group));
            }
            println!(
                "{},{},{offset}",
                quoted(&partition.topic),
                partition.partition
            );
        }
    }
    println!();
}

/// A text of a CSV line, in quotes when it is long or has a character that sorts before `-`: the
/// rule of the library that Kafka's tool writes with.
fn quoted(text: &str) -> String {
    if text.chars().count() > 24 || text.chars().any(|character| character < '-') {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

/// What `print_csv` wrote; lines without a group are for `only`.
fn parse_csv(text: &str, only: Option<&str>) -> Result<BTreeMap<String, Plan>> {
    let mut plans: BTreeMap<String, Plan> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let cells = split_csv(line);
        let cells: Vec<&str> = cells.iter().map(|cell| cell.trim()).collect();
        let (group, topic, partition, offset) = match (&cells[..], only) {
            ([topic, partition, offset], Some(group)) => (group, topic, partition, offset),
            ([group, topic, partition, offset], _) => (*group, topic, partition, offset),
            ([_, _, _], None) => {
                bail!("'{line}': with several groups a line is GROUP,TOPIC,PARTITION,OFFSET")
            }
            _ => {
                bail!("'{line}': a line is TOPIC,PARTITION,OFFSET or GROUP,TOPIC,PARTITION,OFFSET")
            }
        };
        let (Ok(id), Ok(offset)) = (partition.parse(), offset.parse()) else {
            bail!("'{line}': partition {partition} and offset {offset} must be numbers");
        };
        let plan = plans.entry(group.to_owned()).or_default();
        plan.insert(TopicPartition::new(*topic, id), offset);
    }
    Ok(plans)
}

fn split_csv(line: &str) -> Vec<String> {
    let mut cells = Vec::new();
    let mut cell = String::new();
    let mut inside = false;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if inside && characters.next_if_eq(&'"').is_some() => {
                cell.push('"');
            }
            '"' => inside = !inside,
            ',' if !inside => cells.push(std::mem::take(&mut cell)),
            other => cell.push(other),
        }
    }
    cells.push(cell);
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datetimes_are_utc_unless_they_say_otherwise() {
        for (given, millis) in [
            ("1970-01-01T00:00:00.000", 0),
            ("2024-11-06T12:34:56.789", 1_730_896_496_789),
            ("2024-11-06T12:34:56.789Z", 1_730_896_496_789),
            ("2024-11-06T14:34:56.789+02:00", 1_730_896_496_789),
            ("2024-11-06T14:34:56.789+0200", 1_730_896_496_789),
            ("2024-11-06T11:04:56.789-01:30", 1_730_896_496_789),
            ("2000-02-29T00:00:00.000", 951_782_400_000),
            ("1969-12-31T23:59:59.999", -1),
        ] {
            assert_eq!(parse_datetime(given), Ok(millis), "{given}");
        }
        for given in [
            "junk",
            "2024-11-06T12:34:56",
            "2023-02-29T00:00:00.000",
            "2024-13-01T00:00:00.000",
            "2024-11-06T24:00:00.000",
        ] {
            assert!(parse_datetime(given).is_err(), "{given}");
        }
    }

    #[test]
    fn durations_are_those_of_iso_8601() {
        for (given, millis) in [
            ("PT0S", Some(0)),
            ("P1DT2H3M4.5S", Some(93_784_500)),
            ("pt20.345s", Some(20_345)),
            ("PT-6H3M", Some(-21_420_000)),
            ("-PT6H", Some(-21_600_000)),
            ("PT-0.5S", Some(-500)),
            ("P2D", Some(172_800_000)),
            ("P", None),
            ("PT", None),
            ("P1DT", None),
            ("1D", None),
            ("P1M", None),
            ("PT99999999999999999H", None),
        ] {
            assert_eq!(parse_duration(given), millis, "{given}");
        }
    }

    #[test]
    fn exported_plans_are_read_back() {
        let one = parse_csv("t,0,5\n\"a, \"\"b\"\"\",1,7\n\n", Some("g")).unwrap();
        assert_eq!(one["g"][&TopicPartition::new("t", 0)], 5);
        assert_eq!(one["g"][&TopicPartition::new("a, \"b\"", 1)], 7);
        let two = parse_csv("g,t,0,5\nh,t,0,6\n", None).unwrap();
        assert_eq!(two["h"][&TopicPartition::new("t", 0)], 6);
        for wrong in ["t,0", "t,x,5", "g,t,0,5,6"] {
            assert!(parse_csv(wrong, Some("g")).is_err(), "{wrong}");
        }
        assert!(parse_csv("t,0,5", None).is_err());
    }

    #[test]
    fn texts_are_quoted_as_kafkas_csv_library_does() {
        assert_eq!(quoted("topic-1_x.y"), "topic-1_x.y");
        assert_eq!(quoted("a b"), "\"a b\"");
        let long = "a".repeat(25);
        assert_eq!(quoted(&long), format!("\"{long}\""));
    }
}
