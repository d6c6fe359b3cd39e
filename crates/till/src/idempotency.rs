//! `Idempotency-Key`: the first answer is kept and given again, whatever it was.

use crate::refusal::Refusal;
use kernel::Millis;
use std::collections::{HashMap, VecDeque};

const KEPT_FOR: i64 = kernel::time::DAY;
pub(crate) const LONGEST_KEY: usize = 255;

/// An answer as it left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) request_id: String,
}

enum Known {
    InProgress,
    Answered(Reply),
}

struct Entry {
    /// The path and the parameters that the key stands for.
    request: String,
    known: Known,
    since: Millis,
}

pub(crate) enum Begun {
    /// Do it, then call [`Keys::finish`] or [`Keys::forget`].
    New,
    /// It was done; this was the answer.
    Replay(Reply),
}

/// The newest keys, for a day and up to a bound.
pub(crate) struct Keys {
    entries: HashMap<String, Entry>,
    order: VecDeque<(Millis, String)>,
    most: usize,
}

impl Keys {
    pub(crate) fn new(most: usize) -> Keys {
        Keys { entries: HashMap::new(), order: VecDeque::new(), most }
    }

    pub(crate) fn begin(&mut self, key: &str, request: String, now: Millis) -> Result<Begun, Refusal> {
        self.let_go_of_old(now);
        match self.entries.get(key) {
            Some(entry) if entry.request != request => Err(Refusal::other_parameters(key)),
            Some(Entry { known: Known::InProgress, .. }) => Err(Refusal::key_in_use(key)),
            Some(Entry { known: Known::Answered(reply), .. }) => Ok(Begun::Replay(reply.clone())),
            None => {
                let entry = Entry { request, known: Known::InProgress, since: now };
                self.entries.insert(key.to_owned(), entry);
                self.order.push_back((now, key.to_owned()));
                Ok(Begun::New)
            }
        }
    }

    pub(crate) fn finish(&mut self, key: &str, reply: Reply) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.known = Known::Answered(reply);
        }
    }

    /// The request was refused before anything was done: the key is free again.
    pub(crate) fn forget(&mut self, key: &str) {
        self.entries.remove(key);
    }

    fn let_go_of_old(&mut self, now: Millis) {
        while let Some((since, key)) = self.order.front() {
            let old = since.plus(KEPT_FOR) <= now || self.entries.len() >= self.most;
            if !old {
                return;
            }
            // A key that was forgotten and used again has a younger entry, which stays.
            if self.entries.get(key).is_some_and(|entry| entry.since == *since) {
                self.entries.remove(key);
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(body: &str) -> Reply {
        Reply { status: 200, body: body.to_owned(), request_id: "req_1".to_owned() }
    }

    #[test]
    fn a_key_gives_its_first_answer_again_for_a_day() {
        let mut keys = Keys::new(10);
        let now = Millis(0);
        let begin = |keys: &mut Keys, request: &str, now| keys.begin("k", request.to_owned(), now);
        assert!(matches!(begin(&mut keys, "a", now), Ok(Begun::New)));
        assert_eq!(begin(&mut keys, "a", now).err().map(|refusal| refusal.status), Some(409));
        keys.finish("k", reply("x"));
        assert!(matches!(begin(&mut keys, "a", now), Ok(Begun::Replay(found)) if found.body == "x"));
        assert_eq!(begin(&mut keys, "b", now).err().map(|refusal| refusal.kind), Some("idempotency_error"));
        assert!(matches!(begin(&mut keys, "b", Millis(KEPT_FOR)), Ok(Begun::New)));
    }

    #[test]
    fn what_was_not_begun_frees_the_key_and_the_oldest_keys_leave_first() {
        let mut keys = Keys::new(2);
        for key in ["a", "b", "c"] {
            assert!(matches!(keys.begin(key, String::new(), Millis(0)), Ok(Begun::New)));
            keys.finish(key, reply(key));
        }
        assert!(keys.entries.len() <= 2 && !keys.entries.contains_key("a"));
        keys.forget("c");
        assert!(matches!(keys.begin("c", "other".to_owned(), Millis(0)), Ok(Begun::New)));
    }
}
