//! How deliveries stand, for operators: what waits, what was given up, and which endpoints do not answer.

use kernel::Millis;
use store::{Error, Tx, params};

const WAITING: &str =
    "SELECT COUNT(*), COALESCE(MIN(due_at), 0) FROM hook_deliveries WHERE state = 'waiting'";
const FAILED: &str = "SELECT COUNT(*) FROM hook_deliveries WHERE state = 'failed'";
const ENDPOINTS: &str = "
    SELECT COUNT(*), COUNT(CASE WHEN disabled_at IS NULL THEN failing_since END), COUNT(disabled_at)
    FROM hook_endpoints";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Deliveries that were not made yet, those that are tried again later among them.
    pub waiting: i64,
    /// When the one that is due first is, or was.
    pub first_due: Option<Millis>,
    /// Deliveries that were given up, as long as the log has them.
    pub failed: i64,
    pub endpoints: i64,
    /// Endpoints that take nothing at the moment.
    pub failing: i64,
    /// Those that are switched off.
    pub off: i64,
}

/// Cheap: it is asked for again and again.
pub fn load(tx: &mut Tx<'_>) -> Result<Load, Error> {
    let three = |row: &store::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let (endpoints, failing, off) = tx.query_one(ENDPOINTS, params![], three)?;
    let two = |row: &store::Row<'_>| Ok((row.get(0)?, row.get::<i64>(1)?));
    let (waiting, first) = tx.query_one(WAITING, params![], two)?;
    let failed = tx.query_one(FAILED, params![], |row| row.get(0))?;
    Ok(Load { waiting, first_due: (waiting > 0).then_some(Millis(first)), failed, endpoints, failing, off })
}
