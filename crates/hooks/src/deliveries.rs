//! Deliveries: a row for each event and endpoint, leased by whoever delivers it, and kept as the log.

use crate::endpoints::{self, Wanted};
use crate::event::Kind;
use crate::schedule::{HOPELESS_AFTER, Tried, Verdict, explain};
use kernel::Millis;
use kernel::time::SECOND;
use store::{Error, Row, Tx, params};

/// Longer than any try can last, so that a row is only taken from a node that is gone.
const LEASE: i64 = 15 * SECOND;
/// Rows that one statement changes: a few milliseconds.
const CHUNK: i64 = 500;

const IS_ANY_READY: &str = "
    SELECT 1 FROM hook_endpoints e WHERE e.disabled_at IS NULL AND EXISTS (
      SELECT 1 FROM hook_deliveries d
      WHERE d.endpoint_id = e.id AND d.state = 'waiting' AND d.due_at <= $1 AND d.leased_until <= $1)
    LIMIT 1";
const ENABLED: &str = "SELECT id FROM hook_endpoints WHERE disabled_at IS NULL ORDER BY id";
const READY: &str = "
    SELECT event_id FROM hook_deliveries
    WHERE endpoint_id = $1 AND state = 'waiting' AND due_at <= $2 AND leased_until <= $2 ORDER BY due_at LIMIT $3";
// The conditions are not a repetition: a node that waited for another's row looks anew, and goes without.
const LEASE_ONE: &str = "
    UPDATE hook_deliveries SET leased_until = $4, attempts = attempts + 1, tried_at = $3
    WHERE endpoint_id = $1 AND event_id = $2 AND state = 'waiting' AND leased_until <= $3
    RETURNING attempts, begun_at";
const EVENT: &str = "SELECT kind, payload FROM hook_events WHERE id = $1";
const DROP_ONE: &str = "DELETE FROM hook_deliveries WHERE endpoint_id = $1 AND event_id = $2";
/// Not guarded by the lease: what was taken was taken, whoever holds the row by now.
const DELIVERED: &str = "
    UPDATE hook_deliveries SET state = 'delivered', leased_until = 0, status = $3, answer = $4, error = NULL
    WHERE endpoint_id = $1 AND event_id = $2";
const SETTLE: &str = "
    UPDATE hook_deliveries SET state = $3, due_at = $4, leased_until = 0, status = $5, answer = $6, error = $7
    WHERE endpoint_id = $1 AND event_id = $2 AND leased_until = $8 AND state = 'waiting'";
const FAIL_ALL: &str = "
    UPDATE hook_deliveries SET state = 'failed', leased_until = 0, error = $2
    WHERE endpoint_id = $1 AND state = 'waiting'";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Waiting,
    Delivered,
    /// Given up; `resend` opens it again.
    Failed,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Delivered => "delivered",
            State::Failed => "failed",
        }
    }

    pub fn parse(text: &str) -> Option<State> {
        [State::Waiting, State::Delivered, State::Failed].into_iter().find(|state| state.name() == text)
    }
}

/// A row that this node may deliver until its lease ends.
#[derive(Debug, Clone)]
pub(crate) struct Leased {
    pub event: String,
    pub endpoint: String,
    pub kind: String,
    pub payload: String,
    pub attempts: i64,
    pub begun_at: Millis,
    leased_until: Millis,
}

/// A cheap look before [`lease`], which writes.
pub(crate) fn is_any_ready(tx: &mut Tx<'_>, now: Millis) -> Result<bool, Error> {
    Ok(tx.query_opt(IS_ANY_READY, params![now], |_| Ok(()))?.is_some())
}

/// Takes what is due: of each endpoint as many as `room` gives it, so that a slow one holds up no other, and `most` in all.
pub(crate) fn lease(
    tx: &mut Tx<'_>,
    room: impl Fn(&str) -> usize,
    most: usize,
    now: Millis,
) -> Result<Vec<Leased>, Error> {
    let leased_until = now.plus(LEASE);
    let mut leased = Vec::new();
    for endpoint in tx.query(ENABLED, params![], |row| row.get::<String>(0))? {
        let most = room(&endpoint).min(most.saturating_sub(leased.len())) as i64;
        let due = tx.query(READY, params![&endpoint, now, most], |row| row.get::<String>(0))?;
        for event in due {
            let read = |row: &Row<'_>| Ok((row.get::<i64>(0)?, row.get::<Millis>(1)?));
            let taken = tx.query_opt(LEASE_ONE, params![&endpoint, &event, now, leased_until], read)?;
            let Some((attempts, begun_at)) = taken else { continue };
            let read = |row: &Row<'_>| Ok((row.get::<String>(0)?, row.get::<String>(1)?));
            match tx.query_opt(EVENT, params![&event], read)? {
                Some((kind, payload)) => {
                    let endpoint = endpoint.clone();
                    leased.push(Leased { event, endpoint, kind, payload, attempts, begun_at, leased_until });
                }
                // The event was removed with whom it named.
                None => _ = tx.execute(DROP_ONE, params![&endpoint, &event])?,
            }
        }
    }
    Ok(leased)
}

/// Writes down what came of a try. True when the endpoint was switched off with it.
pub(crate) fn settle(
    tx: &mut Tx<'_>,
    leased: &Leased,
    tried: &Tried,
    verdict: &Verdict,
    now: Millis,
) -> Result<bool, Error> {
    let (status, answer) = match tried {
        Tried::Taken(answer) | Tried::Refused(answer) => {
            (Some(i64::from(answer.status)), Some(answer.text.as_str()))
        }
        Tried::Unanswered(_) => (None, None),
    };
    let (endpoint, event) = (&leased.endpoint, &leased.event);
    let (state, due_at) = match verdict {
        Verdict::Delivered => {
            tx.execute(DELIVERED, params![endpoint, event, status, answer])?;
            endpoints::note_success(tx, endpoint)?;
            return Ok(false);
        }
        Verdict::Again(after) => (State::Waiting, now.plus(*after)),
        Verdict::GivenUp | Verdict::Unwanted => (State::Failed, now),
    };
    let error = explain(tried);
    let values = params![endpoint, event, state.name(), due_at, status, answer, &error, leased.leased_until];
    tx.execute(SETTLE, values)?;
    let failing_since = endpoints::note_failure(tx, endpoint, now)?;
    let is_over = match verdict {
        Verdict::Unwanted => true,
        Verdict::GivenUp => now.0.saturating_sub(failing_since.0) >= HOPELESS_AFTER,
        Verdict::Delivered | Verdict::Again(_) => false,
    };
    if !is_over || !endpoints::disable(tx, endpoint, now)? {
        return Ok(false);
    }
    tx.execute(FAIL_ALL, params![endpoint, "the endpoint was switched off"])?;
    Ok(true)
}

// ---- for operators ----

macro_rules! log_columns {
    () => {
        "d.event_id, e.kind, d.endpoint_id, d.state, d.attempts, d.status, d.answer, d.error, e.created_at, d.tried_at, d.due_at"
    };
}
// An empty text means all. Each has an index of its own.
const LOG: &str = concat!(
    "SELECT ",
    log_columns!(),
    " FROM hook_deliveries d JOIN hook_events e ON e.id = d.event_id
    WHERE $1 = '' AND $2 = '' AND ($3 = '' OR d.state = $3)
    ORDER BY d.begun_at DESC, d.event_id DESC LIMIT $4"
);
const LOG_OF_EVENT: &str = concat!(
    "SELECT ",
    log_columns!(),
    " FROM hook_deliveries d JOIN hook_events e ON e.id = d.event_id
    WHERE d.event_id = $1 AND ($2 = '' OR d.endpoint_id = $2) AND ($3 = '' OR d.state = $3)
    ORDER BY d.endpoint_id LIMIT $4"
);
const LOG_OF_ENDPOINT: &str = concat!(
    "SELECT ",
    log_columns!(),
    " FROM hook_deliveries d JOIN hook_events e ON e.id = d.event_id
    WHERE $1 = '' AND d.endpoint_id = $2 AND ($3 = '' OR d.state = $3)
    ORDER BY d.begun_at DESC, d.event_id DESC LIMIT $4"
);

/// What of the log is shown.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub event: Option<String>,
    pub endpoint: Option<String>,
    pub state: Option<State>,
}

/// A line of the log: an event and how its delivery to an endpoint stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    pub event: String,
    pub kind: String,
    pub endpoint: String,
    pub state: State,
    pub attempts: i64,
    pub status: Option<i64>,
    pub answer: Option<String>,
    pub error: Option<String>,
    pub created_at: Millis,
    pub tried_at: Option<Millis>,
    /// Of what waits.
    pub due_at: Millis,
}

/// Newest first: what was sent again counts from then.
pub fn log(tx: &mut Tx<'_>, filter: &Filter, most: i64) -> Result<Vec<Logged>, Error> {
    let event = filter.event.as_deref().unwrap_or_default();
    let endpoint = filter.endpoint.as_deref().unwrap_or_default();
    let state = filter.state.map_or("", State::name);
    let sql = match filter {
        Filter { event: Some(_), .. } => LOG_OF_EVENT,
        Filter { endpoint: Some(_), .. } => LOG_OF_ENDPOINT,
        Filter { .. } => LOG,
    };
    tx.query(sql, params![event, endpoint, state, most], |row| {
        let state = row.text(3)?;
        Ok(Logged {
            event: row.get(0)?,
            kind: row.get(1)?,
            endpoint: row.get(2)?,
            state: State::parse(state).ok_or_else(|| Error::Fault(format!("a delivery that is {state}")))?,
            attempts: row.get(4)?,
            status: row.get(5)?,
            answer: row.get(6)?,
            error: row.get(7)?,
            created_at: row.get(8)?,
            tried_at: row.get(9)?,
            due_at: row.get(10)?,
        })
    })
}

const FIND_EVENT: &str = "SELECT payload FROM hook_events WHERE id = $1";

/// An event as it is sent.
pub fn find_event(tx: &mut Tx<'_>, id: &str) -> Result<Option<String>, Error> {
    tx.query_opt(FIND_EVENT, params![id], |row| row.get(0))
}

/// What is sent again.
#[derive(Debug, Clone)]
pub enum Resend {
    Event(String),
    /// From this time on.
    Since(Millis),
}

/// Where the next chunk of a long [`resend`] begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(Millis, String);

const ONE_EVENT: &str = "SELECT id, kind, created_at FROM hook_events WHERE id = $1";
const EVENTS_AFTER: &str = "
    SELECT id, kind, created_at FROM hook_events
    WHERE created_at >= $1 AND (created_at, id) > ($1, $2) ORDER BY created_at, id LIMIT $3";
const SEND_AGAIN: &str = "
    INSERT INTO hook_deliveries (event_id, endpoint_id, state, attempts, begun_at, due_at, leased_until)
    VALUES ($1, $2, 'waiting', 0, $3, $3, 0)
    ON CONFLICT (event_id, endpoint_id) DO UPDATE SET state = 'waiting', attempts = 0, begun_at = excluded.begun_at,
      due_at = excluded.due_at, leased_until = 0, error = NULL
    WHERE hook_deliveries.leased_until <= $3";
const OPEN_AGAIN: &str = "
    UPDATE hook_deliveries SET state = 'waiting', attempts = 0, begun_at = $3, due_at = $3, leased_until = 0, error = NULL
    WHERE event_id = $1 AND endpoint_id = $2 AND leased_until <= $3 AND state = 'failed'";

/// Sends events again to an endpoint, or to all that want them: those that it took already and those that were never meant
/// for it as well, unless `only_failed`. What is under way at this moment is left alone. Does a chunk, from where the last
/// one ended; gives how many deliveries wait now, and where the next chunk begins.
pub fn resend(
    tx: &mut Tx<'_>,
    what: &Resend,
    endpoint: Option<&str>,
    only_failed: bool,
    from: Option<&Place>,
    now: Millis,
) -> Result<(u64, Option<Place>), Error> {
    let read = |row: &Row<'_>| Ok((row.get::<String>(0)?, row.get::<String>(1)?, row.get::<Millis>(2)?));
    let events = match (what, from) {
        (Resend::Event(id), _) => tx.query(ONE_EVENT, params![id], read)?,
        (Resend::Since(since), None) => tx.query(EVENTS_AFTER, params![*since, "", CHUNK], read)?,
        (Resend::Since(_), Some(Place(at, id))) => tx.query(EVENTS_AFTER, params![*at, id, CHUNK], read)?,
    };
    let listeners = endpoints::listeners(tx)?;
    let chosen = |listener: &&endpoints::Listener| {
        listener.enabled && endpoint.is_none_or(|endpoint| endpoint == listener.endpoint)
    };
    let mut waiting = 0;
    for (event, kind, _) in &events {
        // Kinds of a newer program go to whom wants all.
        let kind = Kind::parse(kind);
        let wants = |wanted: &Wanted| kind.map_or(*wanted == Wanted::All, |kind| wanted.has(kind));
        for listener in listeners.iter().filter(chosen).filter(|listener| wants(&listener.wanted)) {
            let sql = if only_failed { OPEN_AGAIN } else { SEND_AGAIN };
            waiting += tx.execute(sql, params![event, &listener.endpoint, now])?;
        }
    }
    let is_full = events.len() as i64 == CHUNK;
    let next = events.into_iter().next_back().filter(|_| is_full).map(|(event, _, at)| Place(at, event));
    Ok((waiting, next))
}

const OLD_EVENTS: &str = "
    SELECT id FROM hook_events e WHERE e.created_at < $1 AND NOT EXISTS (
      SELECT 1 FROM hook_deliveries d WHERE d.event_id = e.id AND d.state = 'waiting')
    ORDER BY e.created_at LIMIT $2";
const FORGET_DELIVERIES: &str = "DELETE FROM hook_deliveries WHERE event_id = $1";
const FORGET_EVENT: &str = "DELETE FROM hook_events WHERE id = $1";
const ORPHANS: &str = "
    DELETE FROM hook_deliveries WHERE endpoint_id IN (
      SELECT d.endpoint_id FROM hook_deliveries d
      WHERE NOT EXISTS (SELECT 1 FROM hook_endpoints p WHERE p.id = d.endpoint_id) LIMIT 1)";

/// Removes events of before that do not wait, with their deliveries, and what an endpoint left behind that went while it
/// was written. A chunk; gives how many events went.
pub fn sweep(tx: &mut Tx<'_>, before: Millis) -> Result<u64, Error> {
    let old = tx.query(OLD_EVENTS, params![before, CHUNK], |row| row.get::<String>(0))?;
    for id in &old {
        tx.execute(FORGET_DELIVERIES, params![id])?;
        tx.execute(FORGET_EVENT, params![id])?;
    }
    tx.execute(ORPHANS, params![])?;
    Ok(old.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Answer;
    use crate::{Origin, tell, tell_once};
    use kernel::time::{DAY, MINUTE};
    use kernel::vault::DataKey;
    use kernel::{Vault, random};
    use serde_json::json;
    use store::{Options, Store};
    use url::Url;

    const NOW: Millis = Millis(1_800_000_000_000);

    /// Runs the work in one transaction on a new database with endpoints for all, for deleted users and for disputes.
    async fn with_endpoints<F>(run: F)
    where
        F: Fn(&mut Tx<'_>, [&str; 3]) -> Result<(), Error> + Send + 'static,
    {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        let store = Store::open(&Options { url, pool_size: 1 }).unwrap();
        store.migrate().unwrap();
        let vault = Vault::new(&DataKey::generate(&mut random::secure()));
        let work = move |tx: &mut Tx<'_>| {
            tell(tx, Kind::UserDeleted, "user:nobody", NOW, || panic!("nobody listens yet"))?;
            let url = Url::parse("https://app.example.com/hooks").unwrap();
            let mut ids = Vec::new();
            for wanted in [vec![], vec!["user.deleted"], vec!["dispute.opened"]] {
                let wanted = Wanted::parse(wanted).unwrap();
                let made = endpoints::add(tx, &vault, &url, &wanted, NOW, &mut random::secure())?;
                assert_eq!(endpoints::open(tx, &vault, &made.0.id)?.unwrap().1, made.1);
                ids.push(made.0.id);
            }
            run(tx, [&ids[0], &ids[1], &ids[2]])
        };
        store.write(work).await.unwrap();
    }

    fn happen(tx: &mut Tx<'_>, count: i64) -> Result<(), Error> {
        (0..count).try_for_each(|at| {
            tell(tx, Kind::UserDeleted, "user:ada", NOW.plus(at), || json!({"user_id": "ada", "at": at}))
        })
    }

    fn everywhere(tx: &mut Tx<'_>, most: usize, now: Millis) -> Vec<Leased> {
        lease(tx, |_| most, usize::MAX, now).unwrap()
    }

    fn waiting(tx: &mut Tx<'_>) -> usize {
        log(tx, &Filter { state: Some(State::Waiting), ..Filter::default() }, 10_000).unwrap().len()
    }

    #[tokio::test]
    async fn what_is_leased_is_nobody_elses_until_the_lease_ends() {
        with_endpoints(|tx, [all, deleted, disputes]| {
            happen(tx, 3)?;
            assert_eq!(waiting(tx), 6);
            let now = NOW.plus(10);
            let room = |endpoint: &str| if endpoint == all { 2 } else { 1 };
            let first = lease(tx, room, 2, now)?;
            assert_eq!(first.len(), 2);
            let rest = everywhere(tx, 10, now);
            assert_eq!(rest.len(), 4);
            assert!(rest.iter().chain(&first).all(|it| it.endpoint != disputes && it.attempts == 1));
            assert!(rest.iter().any(|it| it.endpoint == deleted));
            assert!(!is_any_ready(tx, now)? && is_any_ready(tx, now.plus(LEASE))?);
            assert_eq!(everywhere(tx, 10, now.plus(LEASE)).iter().filter(|it| it.attempts == 2).count(), 6);
            Ok(())
        })
        .await;
    }

    #[tokio::test]
    async fn a_late_note_of_a_failure_does_not_undo_a_delivery() {
        with_endpoints(|tx, _| {
            happen(tx, 1)?;
            let [one, other] = everywhere(tx, 1, NOW).try_into().unwrap();
            let taken = Tried::Taken(Answer { status: 204, text: "thanks".into(), wait: None });
            let failed = Tried::Unanswered("no answer".into());
            settle(tx, &one, &taken, &Verdict::Delivered, NOW)?;
            settle(tx, &one, &failed, &Verdict::Again(MINUTE), NOW)?;
            settle(tx, &other, &failed, &Verdict::Again(MINUTE), NOW)?;
            // Somebody else holds it by now.
            let again = everywhere(tx, 1, NOW.plus(MINUTE));
            assert_eq!((again.len(), again[0].attempts), (1, 2));
            settle(tx, &other, &failed, &Verdict::GivenUp, NOW.plus(MINUTE))?;
            let found = log(tx, &Filter { endpoint: Some(one.endpoint), ..Filter::default() }, 9)?;
            assert_eq!(
                (found[0].state, found[0].status, found[0].answer.as_deref()),
                (State::Delivered, Some(204), Some("thanks"))
            );
            assert_eq!(waiting(tx), 1);
            Ok(())
        })
        .await;
    }

    #[tokio::test]
    async fn a_row_is_told_of_once() {
        with_endpoints(|tx, _| {
            let origin = Origin { row: "entry:a:1", at: NOW };
            let kind = Kind::CreditsGranted;
            assert!(tell_once(tx, kind, "user:ada", origin, NOW, || json!({}))?);
            assert!(!tell_once(tx, kind, "user:ada", origin, NOW, || json!({}))?);
            assert_eq!(waiting(tx), 1);
            Ok(())
        })
        .await;
    }

    #[tokio::test]
    async fn many_are_sent_again_in_chunks_each_once() {
        with_endpoints(|tx, [all, deleted, _]| {
            let count = CHUNK + 7;
            happen(tx, count)?;
            for leased in everywhere(tx, 10_000, NOW.plus(DAY)) {
                let taken = Tried::Taken(Answer { status: 200, text: String::new(), wait: None });
                settle(tx, &leased, &taken, &Verdict::Delivered, NOW)?;
            }
            let mut again = |what: Resend, endpoint, only_failed| -> Result<u64, Error> {
                let (mut sum, mut place) = (0, None);
                loop {
                    let (more, next) =
                        resend(tx, &what, endpoint, only_failed, place.as_ref(), NOW.plus(DAY))?;
                    sum += more;
                    place = next;
                    if place.is_none() {
                        return Ok(sum);
                    }
                }
            };
            let count = count as u64;
            assert_eq!(again(Resend::Since(NOW), None, true)?, 0);
            assert_eq!(again(Resend::Since(NOW), Some(all), false)?, count);
            assert_eq!(again(Resend::Since(NOW.plus(5)), Some(deleted), false)?, count - 5);
            assert_eq!(again(Resend::Since(NOW.plus(1_000_000)), None, false)?, 0);
            assert_eq!(waiting(tx) as u64, 2 * count - 5);
            Ok(())
        })
        .await;
    }

    #[tokio::test]
    async fn sweeping_leaves_what_waits_and_drops_what_an_endpoint_left() {
        with_endpoints(|tx, [all, deleted, _]| {
            happen(tx, 2)?;
            let later = NOW.plus(40 * DAY);
            assert_eq!(sweep(tx, later)?, 0);
            let taken = Tried::Taken(Answer { status: 200, text: String::new(), wait: None });
            for leased in everywhere(tx, 1, NOW.plus(1)) {
                settle(tx, &leased, &taken, &Verdict::Delivered, NOW)?;
            }
            assert_eq!((sweep(tx, NOW)?, sweep(tx, later)?, sweep(tx, later)?), (0, 1, 0));
            tx.execute("DELETE FROM hook_endpoints WHERE id = $1", params![deleted])?;
            sweep(tx, NOW)?;
            let left = log(tx, &Filter::default(), 10)?;
            assert_eq!(left.iter().map(|line| line.endpoint.as_str()).collect::<Vec<_>>(), [all]);
            Ok(())
        })
        .await;
    }
}
