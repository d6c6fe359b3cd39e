//! Who may apply what was read at Stripe. Two nodes may read one subject at different moments; what was read earlier must not be
//! applied later. Each notes the turn before it reads, and applies only if nobody took that turn meanwhile.

use crate::subject::Subject;
use store::{Error, Tx, params};

const NOW: &str = "SELECT turn FROM billing_turns WHERE subject = $1";
const BEGIN: &str =
    "INSERT INTO billing_turns (subject, turn) VALUES ($1, 1) ON CONFLICT (subject) DO NOTHING";
const NEXT: &str = "UPDATE billing_turns SET turn = turn + 1 WHERE subject = $1 AND turn = $2";

/// Before the reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn(i64);

pub fn current(tx: &mut Tx<'_>, subject: &Subject) -> Result<Turn, Error> {
    let turn = tx.query_opt(NOW, params![&subject.object()], |row| row.get(0))?;
    Ok(Turn(turn.unwrap_or(0)))
}

/// With the applying. False when somebody was faster: read again.
pub fn take(tx: &mut Tx<'_>, subject: &Subject, turn: Turn) -> Result<bool, Error> {
    let subject = subject.object();
    let taken = match turn.0 {
        0 => tx.execute(BEGIN, params![&subject])?,
        turn => tx.execute(NEXT, params![&subject, turn])?,
    };
    Ok(taken == 1)
}
