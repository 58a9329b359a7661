//! Collects differences, leaves out the accepted ones, and tells the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::Both;
use super::accepted::{ACCEPTED, Accepted};

const ABSENT: &str = "(no such field)";
/// Path of the line that says why there are no others.
pub(super) const NO_ANSWER: &str = "(no answer)";

/// A difference, whatever the version.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Difference {
    api: String,
    case: String,
    what: String,
    path: String,
    kafka: String,
    ottla: String,
}

#[derive(Debug, Default)]
pub(super) struct Report {
    answers: usize,
    differences: BTreeMap<Difference, Vec<i16>>,
    accepted: usize,
    /// Rows of [`ACCEPTED`] that met something.
    used: BTreeSet<usize>,
    broken: Vec<String>,
}

impl Report {
    pub(super) fn answers(&self) -> usize {
        self.answers
    }

    /// A case that could not go on.
    pub(super) fn broken(&mut self, case: &str, why: String) {
        self.broken.push(format!("BROKEN case {case}: {why}"));
    }

    pub(super) fn compare(
        &mut self,
        api: &str,
        version: i16,
        case: &str,
        what: &str,
        lines: &Both<BTreeMap<String, String>>,
    ) {
        self.answers += 1;
        let mut paths: BTreeSet<_> = lines.kafka.keys().chain(lines.ottla.keys()).collect();
        if paths.iter().any(|path| path.as_str() == NO_ANSWER) {
            paths.retain(|path| path.as_str() == NO_ANSWER);
        }
        for path in paths {
            let value = |side: &BTreeMap<String, String>| {
                side.get(path).map_or(ABSENT, String::as_str).to_owned()
            };
            let (kafka, ottla) = (value(&lines.kafka), value(&lines.ottla));
            if kafka == ottla {
                continue;
            }
            let rows = ACCEPTED.iter().enumerate();
            match rows
                .into_iter()
                .find(|(_, row)| row.meets(api, version, case, what, path))
            {
                Some((at, _)) => {
                    self.accepted += 1;
                    self.used.insert(at);
                }
                None => {
                    let difference = Difference {
                        api: api.to_owned(),
                        case: case.to_owned(),
                        what: what.to_owned(),
                        path: path.clone(),
                        kafka,
                        ottla,
                    };
                    self.differences
                        .entry(difference)
                        .or_default()
                        .push(version);
                }
            }
        }
    }

    /// `is_whole`: every case ran, so that a row of the table that met nothing is stale.
    pub(super) fn finish(mut self, is_whole: bool) -> Result<String, String> {
        if is_whole {
            for (at, row) in ACCEPTED.iter().enumerate() {
                if !self.used.contains(&at) {
                    self.broken.push(format!(
                        "STALE accepted difference {} {:?} {:?} {}: it no longer occurs, delete the row",
                        row.api, row.case, row.answer, row.path
                    ));
                }
            }
        }
        let counts = format!(
            "{} answers compared, {} fields differ as accepted",
            self.answers, self.accepted
        );
        if self.differences.is_empty() && self.broken.is_empty() {
            return Ok(counts);
        }
        let mut out = String::new();
        for (one, versions) in &self.differences {
            let _ = writeln!(
                out,
                "DIFFERENT {} {} case {:?} answer {:?} field {}\n    Kafka: {}\n    Ottla: {}",
                one.api,
                ranges(versions),
                one.case,
                one.what,
                one.path,
                one.kafka,
                one.ottla
            );
        }
        for line in &self.broken {
            let _ = writeln!(out, "{line}");
        }
        let _ = write!(
            out,
            "{} differences, {} broken; {counts}",
            self.differences.len(),
            self.broken.len()
        );
        Err(out)
    }
}

impl Accepted {
    fn meets(&self, api: &str, version: i16, case: &str, what: &str, path: &str) -> bool {
        matches(self.api, api)
            && self.versions.contains(&version)
            && matches(self.case, case)
            && matches(self.answer, what)
            && matches(self.path, path)
    }
}

/// `*` in the pattern stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// `v0-3, v5`.
fn ranges(versions: &[i16]) -> String {
    let versions: BTreeSet<_> = versions.iter().copied().collect();
    let mut ranges: Vec<(i16, i16)> = Vec::new();
    for version in versions {
        match ranges.last_mut() {
            Some((_, end)) if *end + 1 == version => *end = version,
            _ => ranges.push((version, version)),
        }
    }
    let ranges: Vec<_> = ranges
        .into_iter()
        .map(|(start, end)| match start == end {
            true => format!("v{start}"),
            false => format!("v{start}-{end}"),
        })
        .collect();
    ranges.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_texts() {
        assert!(matches("a*c", "abc") && matches("*", "") && matches("a", "a"));
        assert!(!matches("a", "ab") && !matches("a*c", "abd") && !matches("b*", "ab"));
        assert!(matches("*[*].x", "list[3].x"));
    }

    #[test]
    fn versions_are_told_in_ranges() {
        assert_eq!(ranges(&[3, 0, 1, 1, 5]), "v0-1, v3, v5");
    }

    #[test]
    fn a_difference_names_both_sides() {
        let side = |value: &str| BTreeMap::from([("a.b".to_owned(), value.to_owned())]);
        let lines = Both {
            kafka: side("1"),
            ottla: side("2"),
        };
        let mut report = Report::default();
        report.compare("Fetch", 3, "some case", "first", &lines);
        report.compare("Fetch", 4, "some case", "first", &lines);
        let text = report.finish(false).expect_err("a difference");
        let expected = "DIFFERENT Fetch v3-4 case \"some case\" answer \"first\" field a.b\n    \
                        Kafka: 1\n    Ottla: 2\n";
        assert!(text.starts_with(expected), "{text}");
    }
}
