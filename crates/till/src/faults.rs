//! Faults on purpose: what a caller of Stripe must survive, for a number of requests to come.

use std::collections::VecDeque;
use std::time::Duration;

/// What happens to a request. Those called `…AfterWork` do what was asked, so that trying again under the same
/// idempotency key must find it done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Never answered, nothing done.
    Silent,
    /// Done, but never answered.
    SilentAfterWork,
    /// Done and answered after a while.
    Slow(Duration),
    /// Answered with this status, nothing done, no key kept.
    Status(u16),
    /// The work is lost, and its 500 is kept under the idempotency key.
    KeptFailure,
    /// 429, nothing done.
    TooMany,
    /// The connection breaks, nothing done.
    Broken,
    /// Done, but the connection breaks.
    BrokenAfterWork,
    /// Done, but the body is not JSON.
    WrongJson,
}

impl Fault {
    /// `silent`, `silent_after_work`, `slow:250`, `status:503`, `kept_failure`, `too_many`, `broken`,
    /// `broken_after_work`, `wrong_json`.
    pub(crate) fn parse(text: &str) -> Option<Fault> {
        let (name, number) = match text.split_once(':') {
            Some((name, digits)) => (name, Some(digits.parse::<u32>().ok()?)),
            None => (text, None),
        };
        Some(match (name, number) {
            ("silent", None) => Fault::Silent,
            ("silent_after_work", None) => Fault::SilentAfterWork,
            ("slow", Some(millis)) => Fault::Slow(Duration::from_millis(millis.into())),
            ("status", Some(status @ 400..=599)) => Fault::Status(u16::try_from(status).ok()?),
            ("kept_failure", None) => Fault::KeptFailure,
            ("too_many", None) => Fault::TooMany,
            ("broken", None) => Fault::Broken,
            ("broken_after_work", None) => Fault::BrokenAfterWork,
            ("wrong_json", None) => Fault::WrongJson,
            _ => return None,
        })
    }
}

/// The faults that are ordered, in the order they were.
#[derive(Default)]
pub(crate) struct Faults(VecDeque<Order>);

struct Order {
    fault: Fault,
    left: u32,
    /// Only paths that begin so.
    path: String,
}

const MOST_ORDERS: usize = 100;

impl Faults {
    pub(crate) fn order(&mut self, fault: Fault, count: u32, path: &str) {
        if count > 0 && self.0.len() < MOST_ORDERS {
            self.0.push_back(Order { fault, left: count, path: path.to_owned() });
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn left(&self) -> u32 {
        self.0.iter().map(|order| order.left).fold(0, u32::saturating_add)
    }

    /// The fault for this request, if one is ordered.
    pub(crate) fn take(&mut self, path: &str) -> Option<Fault> {
        let place = self.0.iter().position(|order| path.starts_with(&order.path))?;
        let order = &mut self.0[place];
        order.left -= 1;
        let fault = order.fault;
        if order.left == 0 {
            self.0.remove(place);
        }
        Some(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_come_in_order_and_for_their_paths_only() {
        let mut faults = Faults::default();
        faults.order(Fault::TooMany, 2, "/v1/refunds");
        faults.order(Fault::Broken, 1, "");
        assert_eq!(faults.take("/v1/charges"), Some(Fault::Broken));
        assert_eq!(faults.take("/v1/charges"), None);
        assert_eq!(faults.take("/v1/refunds/x"), Some(Fault::TooMany));
        assert_eq!(faults.take("/v1/refunds"), Some(Fault::TooMany));
        assert_eq!(faults.take("/v1/refunds"), None);
    }

    #[test]
    fn faults_have_names() {
        assert_eq!(Fault::parse("slow:250"), Some(Fault::Slow(Duration::from_millis(250))));
        assert_eq!(Fault::parse("status:503"), Some(Fault::Status(503)));
        assert_eq!(Fault::parse("status:200"), None);
        assert_eq!(Fault::parse("slow"), None);
    }
}
