//! Response times: collected whole, so that percentiles are exact.

use std::time::Duration;

#[derive(Debug, Default, Clone)]
pub struct Latencies {
    nanoseconds: Vec<u64>,
    sorted: bool,
}

impl Latencies {
    /// Room for that many, so that the measured loop does not allocate.
    pub fn with_room_for(count: usize) -> Latencies {
        Latencies { nanoseconds: Vec::with_capacity(count), sorted: true }
    }

    pub fn record(&mut self, latency: Duration) {
        self.nanoseconds.push(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        self.sorted = false;
    }

    pub fn append(&mut self, mut other: Latencies) {
        self.nanoseconds.append(&mut other.nanoseconds);
        self.sorted = false;
    }

    pub fn count(&self) -> usize {
        self.nanoseconds.len()
    }

    /// The smallest latency that at least `percent` of all do not exceed, in milliseconds; zero when there are none.
    pub fn percentile(&mut self, percent: f64) -> f64 {
        if !self.sorted {
            self.nanoseconds.sort_unstable();
            self.sorted = true;
        }
        let count = self.nanoseconds.len();
        let rank = (percent / 100.0 * count as f64).ceil() as usize;
        let found = self.nanoseconds.get(rank.clamp(1, count.max(1)) - 1);
        found.map_or(0.0, |&nanoseconds| nanoseconds as f64 / 1e6)
    }
}

/// The middle one, or the mean of the two in the middle.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentile(50.0), 0.0);
        for milliseconds in (1..=100).rev() {
            latencies.record(Duration::from_millis(milliseconds));
        }
        for (percent, expected) in
            [(0.0, 1.0), (1.0, 1.0), (50.0, 50.0), (99.0, 99.0), (99.1, 100.0), (100.0, 100.0)]
        {
            assert_eq!(latencies.percentile(percent), expected, "{percent}");
        }
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
