//! Many rows or keys for the price of few statements: a statement is cheap on SQLite, a round trip is not on PostgreSQL.

use crate::error::Error;
use crate::postgres::{Link, Value};
use crate::tx::{On, Param, Row, Tx, bind};
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};
use tokio_postgres::Statement;

/// So many rows go into one statement on PostgreSQL, lest it meet its time limit.
const ROWS_AT_ONCE: usize = 4_096;

/// A statement that inserts rows of one form.
///
/// ```ignore
/// const NOTE: InsertMany =
///     InsertMany { into: "INSERT INTO notes (id, text)", width: 2, tail: "ON CONFLICT (id) DO NOTHING" };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InsertMany {
    /// Up to the list of columns.
    pub into: &'static str,
    /// How many columns that list has.
    pub width: usize,
    /// What follows the values, without parameters and without `RETURNING`: nothing, or `ON CONFLICT …`.
    pub tail: &'static str,
}

impl InsertMany {
    /// The statement for one row, made once in this process.
    fn one_row(&self) -> &'static str {
        static TEXTS: LazyLock<Mutex<HashMap<InsertMany, &str>>> = LazyLock::new(Mutex::default);
        let mut texts = TEXTS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        texts.entry(*self).or_insert_with(|| {
            let values: Vec<String> = (1..=self.width).map(|number| format!("${number}")).collect();
            format!("{} VALUES ({}) {}", self.into, values.join(", "), self.tail).leak()
        })
    }

    fn check(&self, values: &[Param<'_>]) -> Result<(), Error> {
        let width = self.width;
        match values.len().checked_rem(width) {
            Some(0) => Ok(()),
            _ => Err(Error::Fault(format!("{} values in rows of {width}: {}", values.len(), self.into))),
        }
    }

    /// The statement for any number of rows on PostgreSQL: one array for each column, of the types that the server took
    /// the columns of [`Self::one_row`] for.
    fn many_rows<'t>(&self, types: impl Iterator<Item = &'t str>) -> String {
        let arrays: Vec<String> =
            types.enumerate().map(|(at, name)| format!("${}::{name}[]", at + 1)).collect();
        format!("{} SELECT * FROM unnest({}) {}", self.into, arrays.join(", "), self.tail)
    }
}

impl Tx<'_> {
    /// Inserts whole rows, whose values follow one another in `values`, in their order.
    ///
    /// Where a row meets one that is there, the statement's tail decides. That a key comes twice in one call is the
    /// caller's mistake: with `DO UPDATE` PostgreSQL refuses it. After an error some rows may have been written, so the
    /// closure has to fail with it.
    pub fn insert_many(&mut self, insert: &'static InsertMany, values: &[Param<'_>]) -> Result<(), Error> {
        if values.is_empty() {
            return Ok(());
        }
        insert.check(values)?;
        let (width, one_row) = (insert.width, insert.one_row());
        match &mut self.engine {
            On::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(one_row)?;
                if statement.parameter_count() != width {
                    return Err(Error::Fault(format!("not {width} parameters: {one_row}")));
                }
                for row in values.chunks_exact(width) {
                    // The text names its parameters in order, so their places are their numbers.
                    for (at, value) in row.iter().enumerate() {
                        statement.raw_bind_parameter(at + 1, value)?;
                    }
                    statement.raw_execute()?;
                }
                Ok(())
            }
            On::Postgres(link) => {
                let rows = values.chunks(ROWS_AT_ONCE * width);
                let statements =
                    rows.map(|rows| statement(link, insert, rows)).collect::<Result<Vec<_>, _>>()?;
                link.run_all(&statements)
            }
        }
    }

    /// Several insertions, one after the other; on PostgreSQL in one round trip.
    pub fn insert_all(&mut self, inserts: &[(&'static InsertMany, &[Param<'_>])]) -> Result<(), Error> {
        let On::Postgres(link) = &mut self.engine else {
            return inserts.iter().try_for_each(|(insert, values)| self.insert_many(insert, values));
        };
        let mut statements = Vec::with_capacity(inserts.len());
        for (insert, values) in inserts {
            insert.check(values)?;
            for rows in values.chunks(ROWS_AT_ONCE * insert.width) {
                statements.push(statement(link, insert, rows)?);
            }
        }
        link.run_all(&statements)
    }

    /// The rows of all keys, in no particular order.
    ///
    /// `sql` has one parameter, as `IN ($1)`. It runs once for each key on SQLite and once in all on PostgreSQL, so it may
    /// neither count, sort nor limit beyond the rows of one key; in a `read` the keys are not of one moment.
    pub fn query_keys<T>(
        &mut self,
        sql: &'static str,
        keys: &[&str],
        mut read: impl FnMut(&Row<'_>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        // A key that is given twice has its rows once on both engines.
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        keys.dedup();
        let mut found = Vec::new();
        match &mut self.engine {
            _ if keys.is_empty() => {}
            On::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql)?;
                for key in keys {
                    bind(&mut statement, &[Param::Text(key)])?;
                    let mut rows = statement.raw_query();
                    while let Some(row) = rows.next()? {
                        found.push(read(&row.into())?);
                    }
                }
            }
            On::Postgres(link) => {
                let Some((before, after)) = sql.split_once("IN ($1)") else {
                    return Err(Error::Fault(format!("no `IN ($1)` in: {sql}")));
                };
                for row in &link.ask(&format!("{before}= ANY($1){after}"), &[keys])? {
                    found.push(read(&row.into())?);
                }
            }
        }
        Ok(found)
    }

    /// Holds the named things until the transaction ends, so that transactions on other nodes that name one of them
    /// wait. Always in the same order, so that two callers cannot wait for each other. SQLite has one writer anyway.
    pub fn lock(&mut self, scope: &str, keys: &[&str]) -> Result<(), Error> {
        let On::Postgres(link) = &mut self.engine else { return Ok(()) };
        let mut numbers: Vec<i64> = keys.iter().map(|key| lock_number(scope, key)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        if numbers.is_empty() {
            return Ok(());
        }
        // A scan of `unnest` gives the numbers in the array's order, and the lock is taken as each is given.
        link.ask("SELECT pg_advisory_xact_lock(number) FROM unnest($1::bigint[]) AS number", &[numbers])
            .map(|_| ())
    }
}

/// A statement of PostgreSQL with its values.
fn statement<'p>(
    link: &mut Link,
    insert: &'static InsertMany,
    rows: &[Param<'p>],
) -> Result<(Statement, Vec<Value<'p>>), Error> {
    let width = insert.width;
    let one_row = link.prepare(insert.one_row())?;
    if rows.len() == width {
        return Ok((one_row, rows.iter().map(|value| Value::One(*value)).collect()));
    }
    let sql = insert.many_rows(one_row.params().iter().map(|kind| kind.name()));
    let column = |at| Value::Column(rows.iter().skip(at).step_by(width).copied().collect());
    Ok((link.prepare(&sql)?, (0..width).map(column).collect()))
}

fn lock_number(scope: &str, key: &str) -> i64 {
    use sha2::Digest as _;
    let digest = sha2::Sha256::new().chain_update(scope).chain_update([0]).chain_update(key).finalize();
    i64::from_be_bytes(digest[..8].try_into().expect("a SHA-256 digest has 32 bytes"))
}
