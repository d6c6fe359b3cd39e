//! How sides take turns, and how a run tells where it is and comes to its end.

use std::time::{Duration, Instant};

/// The order of a round: each begins with the next one.
pub fn turns(round: u32, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |turn| (turn + round as usize) % count)
}

pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// Progress goes to standard error; standard output is for the figures.
pub fn say(what: &str) {
    eprintln!("{what}");
}

/// Nothing runs for ever: when the time is over this program ends, and its processes are stopped with it.
pub fn end_after(limit: Duration) {
    let began = Instant::now();
    std::thread::spawn(move || {
        while began.elapsed() < limit {
            std::thread::sleep(Duration::from_secs(1));
        }
        eprintln!("not finished after {} s: giving up", limit.as_secs());
        std::process::exit(1);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_begins_with_another_side() {
        assert_eq!(turns(0, 3).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(turns(1, 3).collect::<Vec<_>>(), [1, 2, 0]);
        assert_eq!(turns(5, 3).collect::<Vec<_>>(), [2, 0, 1]);
        assert_eq!(turns(0, 0).count(), 0);
    }
}
