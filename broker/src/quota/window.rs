//! A rate over the last samples. [core]
//!
//! Each sample gathers what comes within its length; samples that saw nothing within the window
//! count no more. The rate is the sum over the time since the oldest sample began, which is taken as
//! no shorter than one sample, so that the first bytes of a new one are no burst.
//!
//! Source: `SampledStat.java`, `SimpleRate.java`.

use crate::types::Millis;

#[derive(Debug, Clone, Copy)]
struct Sample {
    began: Millis,
    last: Millis,
    value: f64,
}

impl Sample {
    fn at(now: Millis) -> Self {
        Self {
            began: now,
            last: now,
            value: 0.0,
        }
    }
}

/// A sliding window of samples.
#[derive(Debug)]
pub struct RateWindow {
    sample_ms: Millis,
    samples: usize,
    ring: Vec<Sample>,
    current: usize,
}

impl RateWindow {
    /// `samples` of `sample_seconds` each; at least one of each.
    pub fn new(samples: i32, sample_seconds: i32) -> Self {
        Self {
            sample_ms: i64::from(sample_seconds.max(1)) * 1000,
            samples: usize::try_from(samples.max(1)).unwrap_or(1),
            ring: Vec::new(),
            current: 0,
        }
    }

    pub fn record(&mut self, now: Millis, value: f64) {
        self.begin(now);
        if now - self.ring[self.current].began >= self.sample_ms {
            // One more than the window holds: the oldest may reach into it.
            self.current = (self.current + 1) % (self.samples.saturating_add(1));
            match self.ring.get_mut(self.current) {
                Some(oldest) => *oldest = Sample::at(now),
                None => self.ring.push(Sample::at(now)),
            }
        }
        let sample = &mut self.ring[self.current];
        sample.value += value;
        sample.last = now;
    }

    /// Per second.
    pub fn rate(&mut self, now: Millis) -> f64 {
        self.begin(now);
        let window_ms = self
            .sample_ms
            .saturating_mul(i64::try_from(self.samples).unwrap_or(i64::MAX));
        let mut sum = 0.0;
        let mut oldest = now;
        for sample in &mut self.ring {
            if now - sample.last >= window_ms {
                *sample = Sample::at(now);
            }
            sum += sample.value;
            oldest = oldest.min(sample.began);
        }
        let elapsed_ms = (now - oldest).max(self.sample_ms);
        sum * 1000.0 / elapsed_ms as f64
    }

    fn begin(&mut self, now: Millis) {
        if self.ring.is_empty() {
            self.ring.push(Sample::at(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_count_as_if_they_came_over_a_whole_sample() {
        let mut window = RateWindow::new(11, 1);
        assert_eq!(window.rate(5), 0.0);
        window.record(5, 100.0);
        assert_eq!(window.rate(5), 100.0);
        assert_eq!(window.rate(505), 100.0);
        assert_eq!(window.rate(2005), 50.0);
    }

    #[test]
    fn a_steady_stream_has_its_own_rate() {
        let mut window = RateWindow::new(3, 1);
        for tick in 0..200 {
            window.record(tick * 100, 10.0);
        }
        let rate = window.rate(20_000);
        assert!((95.0..=105.0).contains(&rate), "{rate}");
    }

    #[test]
    fn what_left_the_window_counts_no_more() {
        let mut window = RateWindow::new(2, 1);
        window.record(0, 1000.0);
        assert_eq!(window.rate(1999), 1000.0 * 1000.0 / 1999.0);
        assert_eq!(window.rate(2000), 0.0);
        window.record(2000, 10.0);
        assert_eq!(window.rate(2000), 10.0);
    }

    #[test]
    fn a_burst_is_paid_off_over_time_and_never_holds_more_samples_than_the_window() {
        let mut window = RateWindow::new(4, 1);
        window.record(0, 400.0);
        for second in 1..100 {
            window.record(second * 1000, 0.0);
            assert!(window.ring.len() <= 5);
        }
        assert_eq!(window.rate(99_500), 0.0);
    }

    #[test]
    fn a_clock_that_goes_back_breaks_nothing() {
        let mut window = RateWindow::new(11, 1);
        window.record(10_000, 5.0);
        window.record(9_000, 5.0);
        assert_eq!(window.rate(8_000), 10.0);
    }
}
