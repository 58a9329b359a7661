//! What a run is measured by, and what is made of several runs.

use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    MbPerSecond,
    RequestsPerSecond,
    /// Broker seconds per 10^9 bytes.
    CpuPerGb,
    /// Broker microseconds per request: seconds per million requests.
    CpuPerRequest,
    /// Closed loop: from the send to the answer. Fixed rate: from when it was due to the answer.
    P50,
    P99,
    P999,
    /// From when a record was due to be sent until a consumer has it.
    EndToEndP50,
    EndToEndP99,
    EndToEndP999,
    /// p99 of answers while something else goes on, by the p99 without it.
    P99Growth,
    Rss,
    /// Since the start, or since it was last set back.
    PeakRss,
    RssPerConnection,
    FirstAnswer,
    AllLeaders,
    IdleCpu,
    Stop,
    Stable,
    CpuMillis,
    Creations,
    Deletions,
    /// Of what was not flushed, from the start until all leaders are known.
    Recovery,
    /// The same by the speed at which the files can be read.
    RecoveryShare,
    DiskSize,
    ClientCpuPerGb,
    ClientCpuPerRequest,
    ClientCpuMillis,
}

impl Figure {
    pub fn label(self) -> &'static str {
        match self {
            Self::MbPerSecond => "throughput, MB/s",
            Self::RequestsPerSecond => "requests/s",
            Self::CpuPerGb => "broker CPU s per GB",
            Self::CpuPerRequest => "broker CPU µs per request",
            Self::P50 => "answer p50, µs",
            Self::P99 => "answer p99, µs",
            Self::P999 => "answer p99.9, µs",
            Self::EndToEndP50 => "end to end p50, µs",
            Self::EndToEndP99 => "end to end p99, µs",
            Self::EndToEndP999 => "end to end p99.9, µs",
            Self::P99Growth => "p99 by p99 without it",
            Self::Rss => "RSS, MB",
            Self::PeakRss => "peak RSS, MB",
            Self::RssPerConnection => "RSS per connection, KB",
            Self::FirstAnswer => "start to first Metadata answer, ms",
            Self::AllLeaders => "start to all leaders known, ms",
            Self::IdleCpu => "idle CPU, ms per minute",
            Self::Stop => "clean stop, ms",
            Self::Stable => "group stable after, ms",
            Self::CpuMillis => "broker CPU ms in all",
            Self::Creations => "topics created per s",
            Self::Deletions => "topics deleted per s",
            Self::Recovery => "recovered, MB/s",
            Self::RecoveryShare => "recovery speed, share of reading the files",
            Self::DiskSize => "what must be on disk to run it, MB",
            Self::ClientCpuPerGb => "client CPU s per GB",
            Self::ClientCpuPerRequest => "client CPU µs per request",
            Self::ClientCpuMillis => "client CPU ms in all",
        }
    }

    /// For a plot that has one of a kind only.
    pub fn short(self) -> &'static str {
        match self {
            Self::P50 | Self::EndToEndP50 => "p50",
            Self::P99 | Self::EndToEndP99 => "p99",
            Self::P999 | Self::EndToEndP999 => "p99.9",
            other => other.label(),
        }
    }

    pub fn is_better_when_higher(self) -> bool {
        matches!(
            self,
            Self::MbPerSecond
                | Self::RequestsPerSecond
                | Self::Creations
                | Self::Deletions
                | Self::Recovery
                | Self::RecoveryShare
        )
    }

    /// Whether it says something about the broker; the generator's own cost is only told.
    pub fn is_of_broker(self) -> bool {
        !matches!(
            self,
            Self::ClientCpuPerGb | Self::ClientCpuPerRequest | Self::ClientCpuMillis
        )
    }
}

/// Of one run.
pub type Figures = BTreeMap<Figure, f64>;

/// Median, least and most of several runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// `None` of no values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            (values[middle - 1] + values[middle]) / 2.0
        };
        Some(Self { median, min, max })
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", number(self.median))?;
        if self.min != self.max {
            write!(f, " ({}–{})", number(self.min), number(self.max))?;
        }
        Ok(())
    }
}

/// Three significant digits.
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        size if size >= 0.1 => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_the_sorted_values() {
        let spread = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of([4.0, 1.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of([]), None);
        assert_eq!(
            Spread::of([0.25, 12.0, 345.6]).unwrap().to_string(),
            "12.0 (0.250–346)"
        );
    }
}
