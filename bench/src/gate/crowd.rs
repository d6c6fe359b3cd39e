//! The people who come to the gate. Everybody has a session; some, evenly among the others, have credits.

use crate::credits::load::OWNERS;
use crate::people::{self, Cookies};
use std::sync::Arc;

pub struct Crowd {
    cookies: Cookies,
    /// 32 characters each.
    user_ids: String,
    /// Those with credits, in order.
    owners: Arc<[String]>,
    /// Between two of them.
    distance: usize,
}

impl Crowd {
    pub fn new(rows: u32) -> Crowd {
        let count = OWNERS.min(rows);
        let distance = (rows / count) as usize;
        Crowd {
            cookies: Cookies::of(rows),
            user_ids: (0..rows).map(people::user_id).collect(),
            owners: (0..count).map(|owner| people::user_id(owner * distance as u32)).collect(),
            distance,
        }
    }

    pub fn cookies(&self) -> &Cookies {
        &self.cookies
    }

    pub fn owners(&self) -> &Arc<[String]> {
        &self.owners
    }

    pub fn payers(&self) -> usize {
        self.owners.len()
    }

    /// Which person the owner of that place is.
    pub fn person_of(&self, owner: usize) -> usize {
        owner * self.distance
    }

    pub fn user_id(&self, person: usize) -> &str {
        &self.user_ids[person * 32..(person + 1) * 32]
    }

    pub fn cookie(&self, person: usize) -> &[u8] {
        self.cookies.of_person(person)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_with_credits_are_spread_over_all() {
        let crowd = Crowd::new(35_000);
        assert_eq!((crowd.payers(), crowd.person_of(9_999)), (10_000, 29_997));
        for owner in [0, 1, 9_999] {
            let person = crowd.person_of(owner);
            assert_eq!(crowd.owners()[owner], crowd.user_id(person));
            assert_eq!(crowd.user_id(person), people::user_id(person as u32));
        }
        assert_eq!(Crowd::new(100).payers(), 100);
    }
}
