//! What was measured, as JSON, as Markdown, and held against the targets.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::figure::{Figure, Figures, Spread, number};
use crate::plot;
use crate::scenario::{Bar, Target};
use crate::system::{Kind, Places};

/// A run whose machine was taken away for more than this is marked.
const STOLEN: f64 = 0.05;

struct Plot {
    file: &'static str,
    title: &'static str,
    unit: &'static str,
    /// Beginnings of their names.
    scenarios: &'static [&'static str],
    figures: &'static [Figure],
}

const PLOTS: &[Plot] = &[
    Plot {
        file: "cpu-per-gb.svg",
        title: "Broker CPU per GB",
        unit: "seconds of broker CPU per 10^9 bytes, median and least–most (less is better)",
        scenarios: &["produce-", "fetch-1m", "fetch-64k"],
        figures: &[Figure::CpuPerGb],
    },
    Plot {
        file: "cpu-per-request.svg",
        title: "Broker CPU per request, by connections and partitions",
        unit: "microseconds of broker CPU per request of one record (less is better)",
        scenarios: &["unbatched-", "connections-", "partitions-"],
        figures: &[Figure::CpuPerRequest],
    },
    Plot {
        file: "latency.svg",
        title: "End-to-end latency at fixed rates, acks=1",
        unit: "microseconds from when a record was due until a consumer has it (less is better)",
        scenarios: &["tail-"],
        figures: &[
            Figure::EndToEndP50,
            Figure::EndToEndP99,
            Figure::EndToEndP999,
        ],
    },
];

/// One run of each system, one right after the other.
#[derive(Default)]
pub struct Pair {
    pub figures: BTreeMap<Kind, Figures>,
    /// Share of the machine's time that its host gave to others, of the worst of the runs.
    pub stolen: f64,
}

impl Pair {
    fn get(&self, kind: Kind, figure: Figure) -> Option<f64> {
        self.figures.get(&kind)?.get(&figure).copied()
    }
}

pub struct Outcome {
    pub name: &'static str,
    pub about: &'static str,
    pub targets: Vec<Target>,
    pub pairs: Vec<Pair>,
    /// Why it did not come to its end.
    pub failure: Option<String>,
}

impl Outcome {
    fn figures(&self) -> Vec<Figure> {
        let mut figures: Vec<_> = self
            .pairs
            .iter()
            .flat_map(|pair| pair.figures.values())
            .flat_map(|figures| figures.keys().copied())
            .collect();
        figures.sort();
        figures.dedup();
        figures
    }

    pub fn spread(&self, kind: Kind, figure: Figure) -> Option<Spread> {
        Spread::of(self.pairs.iter().filter_map(|pair| pair.get(kind, figure)))
    }

    /// Ottla's figure by that of `other`, pair by pair.
    fn ratio(&self, other: Kind, figure: Figure) -> Option<Spread> {
        self.ratio_of(Kind::Ottla, other, figure)
    }

    fn ratio_of(&self, one: Kind, other: Kind, figure: Figure) -> Option<Spread> {
        Spread::of(self.pairs.iter().filter_map(|pair| {
            let other = pair.get(other, figure).filter(|value| *value != 0.0)?;
            Some(pair.get(one, figure)? / other)
        }))
    }

    /// How near Ottla comes to the floor, 1 being as good.
    fn share_of_floor(&self, figure: Figure) -> Option<Spread> {
        if figure.is_better_when_higher() {
            return self.ratio(Kind::Floor, figure);
        }
        Spread::of(self.pairs.iter().filter_map(|pair| {
            let own = pair
                .get(Kind::Ottla, figure)
                .filter(|value| *value != 0.0)?;
            Some(pair.get(Kind::Floor, figure)? / own)
        }))
    }

    /// In how many pairs Ottla was the better one.
    fn wins(&self, other: Kind, figure: Figure) -> usize {
        self.pairs
            .iter()
            .filter(|pair| {
                let both = pair.get(Kind::Ottla, figure).zip(pair.get(other, figure));
                both.is_some_and(|(own, other)| {
                    if figure.is_better_when_higher() {
                        own > other
                    } else {
                        own < other
                    }
                })
            })
            .count()
    }

    /// For the terminal.
    pub fn lines(&self, first: Kind) -> String {
        let mut out = format!("{}: {}", self.name, self.about);
        if let Some(failure) = &self.failure {
            let _ = write!(out, "\n  FAILED {failure}");
        }
        for figure in self.figures() {
            let cell = |kind| {
                self.spread(kind, figure)
                    .map_or_else(|| "–".to_owned(), |spread| spread.to_string())
            };
            let _ = write!(
                out,
                "\n  {:32} {} {}, Ottla {}",
                figure.label(),
                first.label(),
                cell(first),
                cell(Kind::Ottla)
            );
            if let Some(ratio) = self.ratio(first, figure) {
                let _ = write!(out, ", ratio {ratio}");
            }
            if let (Some(floor), Some(share)) = (
                self.spread(Kind::Floor, figure),
                self.share_of_floor(figure),
            ) {
                let _ = write!(out, "; floor {floor}, share {}", number(share.median));
            }
        }
        out
    }

    fn table(&self, first: Kind) -> String {
        let mut out = format!(
            "| | {} | Ottla | Ottla : {} | better in | floor | share of floor |\n|---|---|---|---|---|---|---|\n",
            first.label(),
            first.label()
        );
        let cell = |spread: Option<Spread>| spread.map_or_else(String::new, |it| it.to_string());
        for figure in self.figures() {
            let ratio = self.ratio(first, figure);
            let wins = match ratio {
                Some(_) if figure.is_of_broker() => {
                    format!("{} of {}", self.wins(first, figure), self.pairs.len())
                }
                _ => String::new(),
            };
            let share = self
                .share_of_floor(figure)
                .filter(|_| figure.is_of_broker())
                .map_or_else(String::new, |share| number(share.median));
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {wins} | {} | {share} |",
                figure.label(),
                cell(self.spread(first, figure)),
                cell(self.spread(Kind::Ottla, figure)),
                cell(ratio),
                cell(self.spread(Kind::Floor, figure)),
            );
        }
        out
    }

    fn json(&self) -> Value {
        let mut figures = Map::new();
        for figure in self.figures() {
            let mut kinds = Map::new();
            for kind in [
                Kind::Kafka,
                Kind::Base,
                Kind::Peer,
                Kind::Ottla,
                Kind::Floor,
            ] {
                let values: Vec<_> = self
                    .pairs
                    .iter()
                    .filter_map(|pair| pair.get(kind, figure))
                    .collect();
                if !values.is_empty() {
                    kinds.insert(kind.label().to_owned(), json!(values));
                }
            }
            figures.insert(figure.label().to_owned(), Value::Object(kinds));
        }
        let stolen: Vec<_> = self.pairs.iter().map(|pair| pair.stolen).collect();
        json!({
            "name": self.name,
            "about": self.about,
            "failure": self.failure,
            "figures": figures,
            "stolen": stolen,
        })
    }
}

pub struct Report {
    machine: Vec<(&'static str, String)>,
    command: String,
    pairs: usize,
    first: Kind,
    /// The first scenario before anything was warm.
    pub cold: BTreeMap<Kind, Figures>,
    pub outcomes: Vec<Outcome>,
}

impl Report {
    pub fn new(
        machine: Vec<(&'static str, String)>,
        command: String,
        pairs: usize,
        first: Kind,
    ) -> Self {
        Self {
            machine,
            command,
            pairs,
            first,
            cold: BTreeMap::new(),
            outcomes: Vec::new(),
        }
    }

    /// `results.json` and `README.md` in `folder`, and its plots.
    pub fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        let json = serde_json::to_string_pretty(&self.json())?;
        fs::write(folder.join("results.json"), json + "\n")?;
        fs::write(folder.join("README.md"), self.markdown())?;
        for plot in PLOTS {
            if let Some(svg) = plot::bars(plot.title, plot.unit, &self.groups(plot)) {
                fs::write(folder.join(plot.file), svg)?;
            }
        }
        Ok(())
    }

    fn groups(&self, plot: &Plot) -> Vec<plot::Group> {
        let mut groups = Vec::new();
        for outcome in &self.outcomes {
            if !plot
                .scenarios
                .iter()
                .any(|name| outcome.name.starts_with(name))
            {
                continue;
            }
            for &figure in plot.figures {
                let bars: Vec<_> = [self.first, Kind::Ottla, Kind::Floor]
                    .into_iter()
                    .filter_map(|kind| Some((kind, outcome.spread(kind, figure)?)))
                    .collect();
                let label = match plot.figures {
                    [_] => outcome.name.to_owned(),
                    _ => format!("{}: {}", outcome.name, figure.short()),
                };
                if !bars.is_empty() {
                    groups.push((label, bars));
                }
            }
        }
        groups
    }

    fn json(&self) -> Value {
        let machine: Map<_, _> = self
            .machine
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        let cold: Map<_, _> = self
            .cold
            .iter()
            .map(|(kind, figures)| {
                let figures: Map<_, _> = figures
                    .iter()
                    .map(|(figure, value)| (figure.label().to_owned(), json!(value)))
                    .collect();
                (kind.label().to_owned(), Value::Object(figures))
            })
            .collect();
        let scenarios: Vec<_> = self.outcomes.iter().map(Outcome::json).collect();
        json!({
            "machine": machine,
            "command": self.command,
            "pairs": self.pairs,
            "cold": cold,
            "scenarios": scenarios,
        })
    }

    /// Each target with what was reached, and what the floor reaches: where that is not enough either, the
    /// machine does not allow it.
    pub fn headline(&self) -> String {
        let mut out = String::from(
            "| | scenario | figure | target | measured | | the floor |\n|---|---|---|---|---|---|---|\n",
        );
        for outcome in &self.outcomes {
            for target in &outcome.targets {
                let wanted = self.wanted(target);
                let found = self.found(Kind::Ottla, outcome, target);
                let is_reached = match &outcome.failure {
                    Some(_) => Some(false),
                    None => found.map(|found| target.is_reached(found.median)),
                };
                let measured = match &outcome.failure {
                    Some(_) => "failed".to_owned(),
                    None => found.map_or_else(String::new, |found| found.to_string()),
                };
                let floor = self.found(Kind::Floor, outcome, target).map(|floor| {
                    let is_enough = target.is_reached(floor.median);
                    let number = number(floor.median);
                    if is_enough {
                        number
                    } else {
                        format!("{number}: not enough")
                    }
                });
                let verdict = match is_reached {
                    Some(true) => "reached",
                    Some(false) => "**not reached**",
                    None => "not measured",
                };
                let _ = writeln!(
                    out,
                    "| {} | {} | {} | {wanted} | {measured} | {verdict} | {} |",
                    target.point,
                    outcome.name,
                    target.figure.label(),
                    floor.unwrap_or_default(),
                );
            }
        }
        out
    }

    fn wanted(&self, target: &Target) -> String {
        match target.bar {
            Bar::OfKafka(most) => format!("≤ {} of {}'s", number(most), self.first.label()),
            Bar::OfFloor(least) => format!("≥ {} of the floor", number(least)),
            Bar::AtMost(most) => format!("≤ {}", number(most)),
            Bar::AtLeast(least) => format!("≥ {}", number(least)),
            Bar::OfScenario(other, most) => format!("≤ {} of {other}'s", number(most)),
        }
    }

    /// What is held against the bar, for `kind` in Ottla's place.
    fn found(&self, kind: Kind, outcome: &Outcome, target: &Target) -> Option<Spread> {
        let figure = target.figure;
        match target.bar {
            Bar::OfKafka(_) => outcome.ratio_of(kind, self.first, figure),
            Bar::OfFloor(_) if kind == Kind::Floor => None,
            Bar::OfFloor(_) => outcome.share_of_floor(figure),
            Bar::AtMost(_) | Bar::AtLeast(_) => outcome.spread(kind, figure),
            Bar::OfScenario(other, _) => {
                let other = self.outcomes.iter().find(|found| found.name == other)?;
                let (own, other) = (outcome.spread(kind, figure)?, other.spread(kind, figure)?);
                Some(Spread {
                    median: own.median / other.median,
                    min: own.min / other.median,
                    max: own.max / other.median,
                })
            }
        }
    }

    fn markdown(&self) -> String {
        let mut out = String::from("# Figures\n\n");
        let _ = writeln!(
            out,
            "Made by `cargo run --release -p bench -- {}` in one run; see [bench](../../bench/README.md) for \
             how. Median (least–most) of up to {} pairs; ratios are taken pair by pair.\n",
            self.command, self.pairs
        );
        for (name, value) in &self.machine {
            let _ = writeln!(out, "- {name}: {value}");
        }
        let stolen = self
            .outcomes
            .iter()
            .flat_map(|outcome| &outcome.pairs)
            .filter(|pair| pair.stolen > STOLEN)
            .count();
        let _ = writeln!(
            out,
            "- pairs in which the host took more than {:.0} % of the machine: {stolen}",
            STOLEN * 100.0
        );
        let _ = writeln!(out, "\n## Targets\n\n{}", self.headline());
        if !self.cold.is_empty() {
            let _ = writeln!(
                out,
                "## Before anything was warm\n\nThe first scenario, run once right after the start:\n"
            );
            for (kind, figures) in &self.cold {
                let cpu = figures.get(&Figure::CpuPerGb).copied().map(number);
                let rate = figures.get(&Figure::MbPerSecond).copied().map(number);
                let _ = writeln!(
                    out,
                    "- {}: {} broker CPU s per GB, {} MB/s",
                    kind.label(),
                    cpu.unwrap_or_default(),
                    rate.unwrap_or_default()
                );
            }
            out.push('\n');
        }
        out.push_str("## Plots\n\n");
        for plot in PLOTS {
            if !self.groups(plot).is_empty() {
                let _ = writeln!(out, "![{}]({})\n", plot.title, plot.file);
            }
        }
        out.push_str("## All scenarios\n");
        for outcome in &self.outcomes {
            let _ = writeln!(out, "\n### {}\n\n{}.\n", outcome.name, outcome.about);
            if let Some(failure) = &outcome.failure {
                let _ = writeln!(out, "**Failed**: {failure}\n");
            }
            let _ = writeln!(out, "{}", outcome.table(self.first));
        }
        out
    }
}

/// Processor, kernel, versions: what a reader needs to compare.
pub fn describe_machine(places: &Places) -> Result<Vec<(&'static str, String)>> {
    let cpu_info = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu_info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or_else(|| "unknown".to_owned(), |(_, model)| model.to_owned());
    let memory = fs::read_to_string("/proc/meminfo")?;
    let memory: f64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.trim().parse().ok())
        .unwrap_or(0.0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let java = Command::new(&places.java).arg("-version").output();
    let java = java.map_or_else(
        |_| "none".to_owned(),
        |output| {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            text.lines().next().unwrap_or_default().to_owned()
        },
    );
    let kafka = fs::read_dir(&places.kafka_libs)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .find(|name| name.starts_with("kafka_2.13-"))
        .map_or_else(
            || "none".to_owned(),
            |name| name.trim_end_matches(".jar").replacen("kafka_2.13-", "", 1),
        );
    let version = Command::new(&places.ottla).arg("--version").output();
    let ottla = version.map_or_else(
        |_| "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    );
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    Ok(vec![
        ("machine", format!("{cores} cores of {model}, {:.0} GB", memory * 1024.0 / 1e9)),
        ("kernel", kernel.trim().to_owned()),
        ("Apache Kafka", format!("{kafka}, ZooKeeper mode, heap and JVM options of its own start script")),
        ("Java", java),
        ("Ottla", ottla),
        (
            "settings of all",
            "Kafka's defaults, but for replication factors of 1, group.initial.rebalance.delay.ms=0, zookeeper.session.timeout.ms=6000, \
             auto.create.topics.enable=false and log.segment.delete.delay.ms=200"
                .to_owned(),
        ),
    ])
}
