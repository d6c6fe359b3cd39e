//! Ids in Stripe's form, from a generator that its seed decides: the same calls give the same ids.

use kernel::random;
use rand::SeedableRng;
use rand::rngs::StdRng;

pub(crate) struct Ids(StdRng);

impl Ids {
    pub(crate) fn new(seed: u64) -> Ids {
        Ids(StdRng::seed_from_u64(seed))
    }

    /// `pi_` and 24 letters and digits. The readers of ids may rely on the prefix and on nothing else.
    pub(crate) fn next(&mut self, prefix: &str) -> String {
        format!("{prefix}_{}", random::alphanumeric(&mut self.0, 24))
    }

    /// Checkout's ids are longer than the others'.
    pub(crate) fn long(&mut self, prefix: &str) -> String {
        format!("{prefix}_{}", random::alphanumeric(&mut self.0, 58))
    }

    /// A number below `bound`, for orders that should differ from run to run of a test's seeds.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        use rand::RngExt;
        self.0.random_range(0..bound.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_every_id() {
        let made = |seed| {
            let mut ids = Ids::new(seed);
            (ids.next("pi"), ids.next("pi"), ids.long("cs_test"))
        };
        assert_eq!(made(7), made(7));
        assert_ne!(made(7), made(8));
        let (first, second, session) = made(7);
        assert_ne!(first, second);
        assert!(first.starts_with("pi_") && first.len() == 27, "{first}");
        assert!(session.starts_with("cs_test_") && session.len() == 66, "{session}");
    }
}
