//! Many rows or keys for the price of few statements: a statement is cheap on SQLite, a round trip is not on PostgreSQL.

use crate::error::Error;
use crate::postgres::{Link, List, Value};
use crate::tx::{On, Param, Row, Tx, bind};
use rusqlite::Connection;
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

/// A statement that changes rows of one form, found by their keys.
///
/// ```ignore
/// const REWRITE: UpdateMany =
///     UpdateMany { table: "notes", keys: &["id"], set: &["text"], also: "edits = notes.edits + 1", every: false };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UpdateMany {
    pub table: &'static str,
    /// The first values of a row.
    pub keys: &'static [&'static str],
    /// Those that follow.
    pub set: &'static [&'static str],
    /// What is set without a value: nothing, or assignments that name the table with each column they read.
    pub also: &'static str,
    /// Whether it is [`Error::Conflict`] when a row is not there; otherwise that changes nothing.
    pub every: bool,
}

impl UpdateMany {
    fn assignments(&self, value: impl Fn(usize, &str) -> String) -> String {
        let set = self.set.iter().enumerate();
        let mut set: Vec<String> =
            set.map(|(at, name)| format!("{name} = {}", value(self.keys.len() + at + 1, name))).collect();
        if !self.also.is_empty() {
            set.push(self.also.to_string());
        }
        set.join(", ")
    }
}

/// One of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Many {
    Insert(&'static InsertMany),
    Update(&'static UpdateMany),
}

impl Many {
    fn width(self) -> usize {
        match self {
            Many::Insert(insert) => insert.width,
            Many::Update(update) => update.keys.len() + update.set.len(),
        }
    }

    /// The statement for one row, made once in this process.
    fn one_row(self) -> &'static str {
        static TEXTS: LazyLock<Mutex<HashMap<Many, &str>>> = LazyLock::new(Mutex::default);
        let mut texts = TEXTS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        texts.entry(self).or_insert_with(|| self.one_row_text().leak())
    }

    fn one_row_text(self) -> String {
        match self {
            Many::Insert(InsertMany { into, width, tail }) => {
                let values: Vec<String> = (1..=*width).map(|number| format!("${number}")).collect();
                format!("{into} VALUES ({}) {tail}", values.join(", "))
            }
            Many::Update(update @ UpdateMany { table, keys, .. }) => {
                let set = update.assignments(|number, _| format!("${number}"));
                let found = keys.iter().enumerate().map(|(at, name)| format!("{name} = ${}", at + 1));
                format!("UPDATE {table} SET {set} WHERE {}", found.collect::<Vec<_>>().join(" AND "))
            }
        }
    }

    fn check(self, values: &[Param<'_>]) -> Result<(), Error> {
        let width = self.width();
        match values.len().checked_rem(width) {
            Some(0) => Ok(()),
            _ => Err(Error::Fault(format!("{} values in rows of {width}: {}", values.len(), self.one_row()))),
        }
    }

    /// The statement for any number of rows on PostgreSQL: one array for each column, of the types that the server took
    /// the columns of [`Self::one_row`] for. The first has the number `first`.
    fn many_rows(self, first: usize, one_row: &Statement) -> String {
        let types = one_row.params().iter().map(|kind| kind.name());
        let arrays: Vec<String> =
            types.enumerate().map(|(at, name)| format!("${}::{name}[]", first + at)).collect();
        let arrays = arrays.join(", ");
        match self {
            Many::Insert(InsertMany { into, tail, .. }) => {
                format!("{into} SELECT * FROM unnest({arrays}) {tail}")
            }
            Many::Update(update @ UpdateMany { table, keys, set, .. }) => {
                let changes = update.assignments(|_, name| format!("given.{name}"));
                let found: Vec<String> =
                    keys.iter().map(|name| format!("{table}.{name} = given.{name}")).collect();
                let (found, names) = (found.join(" AND "), [*keys, *set].concat().join(", "));
                format!("UPDATE {table} SET {changes} FROM unnest({arrays}) AS given ({names}) WHERE {found}")
            }
        }
    }

    fn needs_every(self) -> bool {
        matches!(self, Many::Update(UpdateMany { every: true, .. }))
    }
}

impl Tx<'_> {
    /// Inserts whole rows, whose values follow one another in `values`, in their order.
    ///
    /// Where a row meets one that is there, the statement's tail decides. That a key comes twice in one call is the
    /// caller's mistake: with `DO UPDATE` PostgreSQL refuses it. After an error some rows may have been written, so the
    /// closure has to fail with it.
    pub fn insert_many(&mut self, insert: &'static InsertMany, values: &[Param<'_>]) -> Result<(), Error> {
        self.write_all(&[(Many::Insert(insert), values)])
    }

    /// Several such statements, one after the other; on PostgreSQL in one round trip. One without values is left out.
    pub fn write_all(&mut self, writes: &[(Many, &[Param<'_>])]) -> Result<(), Error> {
        self.write_rows(writes, false)
    }

    /// The same as the last thing that a closure does: on PostgreSQL the transaction is committed in the same round trip.
    /// A closure must not fail after it, and one that runs within somebody else's transaction must not call it.
    pub fn write_all_and_end(&mut self, writes: &[(Many, &[Param<'_>])]) -> Result<(), Error> {
        self.write_rows(writes, true)
    }

    fn write_rows(&mut self, writes: &[(Many, &[Param<'_>])], last: bool) -> Result<(), Error> {
        let writes = || writes.iter().filter(|(_, values)| !values.is_empty());
        writes().try_for_each(|(many, values)| many.check(values))?;
        if writes().next().is_none() {
            return Ok(());
        }
        match &mut self.engine {
            On::Sqlite(connection) => {
                writes().try_for_each(|(many, values)| write_one_by_one(connection, *many, values))
            }
            On::Postgres(link) => {
                let mut statements = Vec::with_capacity(1);
                let pieces = |(many, values): &&(Many, &[Param<'_>])| {
                    values.len().div_ceil(ROWS_AT_ONCE * many.width())
                };
                if writes().all(|write| pieces(&write) == 1) {
                    statements.push(statement(link, &writes().copied().collect::<Vec<_>>())?);
                } else {
                    for (many, values) in writes() {
                        for rows in values.chunks(ROWS_AT_ONCE * many.width()) {
                            statements.push(statement(link, &[(*many, rows)])?);
                        }
                    }
                }
                link.run_all(&statements, last)
            }
        }
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
        let keys = once_each(keys);
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
                for row in &link.ask(&with_array(sql)?, &[keys])? {
                    found.push(read(&row.into())?);
                }
            }
        }
        Ok(found)
    }

    /// Several such questions; `read` is told the place of the one that a row answers. One without keys is left out.
    pub fn query_all_keys(
        &mut self,
        questions: &[(&'static str, &[&str])],
        mut read: impl FnMut(usize, &Row<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let On::Postgres(link) = &mut self.engine else {
            let mut questions = questions.iter().enumerate();
            return questions.try_for_each(|(at, (sql, keys))| {
                self.query_keys(sql, keys, |row| read(at, row)).map(|_| ())
            });
        };
        let (mut places, mut asked) = (Vec::new(), Vec::new());
        for (at, (sql, keys)) in questions.iter().enumerate().filter(|(_, (_, keys))| !keys.is_empty()) {
            places.push(at);
            asked.push((with_array(sql)?, once_each(keys)));
        }
        if asked.is_empty() {
            return Ok(());
        }
        for (at, rows) in places.into_iter().zip(link.ask_all(&asked)?) {
            rows.iter().try_for_each(|row| read(at, &row.into()))?;
        }
        Ok(())
    }

    /// Holds the rows that there are until the transaction ends, as if they had been changed: from here on what is read of
    /// them is what it will be changed from. In the order of their keys, so that two callers cannot wait for each other.
    pub fn lock_rows(&mut self, table: &'static str, key: &'static str, keys: &[&str]) -> Result<(), Error> {
        let On::Postgres(link) = &mut self.engine else { return Ok(()) };
        let keys: Vec<String> = once_each(keys).into_iter().map(str::to_owned).collect();
        if keys.is_empty() {
            return Ok(());
        }
        // In the order of bytes, which is that of `UpdateMany` when its rows are given in it.
        let sql = format!(
            "SELECT 1 FROM {table} WHERE {key} = ANY($1) ORDER BY {key} COLLATE \"C\" FOR NO KEY UPDATE"
        );
        link.ask_later(&sql, List::Texts(keys))
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
        link.ask_later(
            "SELECT pg_advisory_xact_lock(number) FROM unnest($1::bigint[]) AS number",
            List::Numbers(numbers),
        )
    }
}

/// A key that is given twice has its rows once on both engines.
fn once_each<'k>(keys: &[&'k str]) -> Vec<&'k str> {
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn with_array(sql: &str) -> Result<String, Error> {
    let Some((before, after)) = sql.split_once("IN ($1)") else {
        return Err(Error::Fault(format!("no `IN ($1)` in: {sql}")));
    };
    Ok(format!("{before}= ANY($1){after}"))
}

fn write_one_by_one(connection: &Connection, many: Many, values: &[Param<'_>]) -> Result<(), Error> {
    let (width, one_row) = (many.width(), many.one_row());
    let mut statement = connection.prepare_cached(one_row)?;
    if statement.parameter_count() != width {
        return Err(Error::Fault(format!("not {width} parameters: {one_row}")));
    }
    // SQLite counts parameters by their first appearance: keys stand behind what is set.
    let (first, every) = match many {
        Many::Insert(_) => (0, false),
        Many::Update(update) => (update.keys.len(), update.every),
    };
    for row in values.chunks_exact(width) {
        for (at, value) in row[first..].iter().chain(&row[..first]).enumerate() {
            statement.raw_bind_parameter(at + 1, value)?;
        }
        if statement.raw_execute()? == 0 && every {
            return Err(Error::Conflict("a row is not as it was".into()));
        }
    }
    Ok(())
}

/// One statement of PostgreSQL for all these rows, with its values: each statement costs the server and both processes'
/// wake-ups more than a row.
fn statement<'p>(
    link: &mut Link,
    writes: &[(Many, &[Param<'p>])],
) -> Result<(Statement, Vec<Value<'p>>), Error> {
    if let [(many, row)] = writes
        && row.len() == many.width()
        && !many.needs_every()
    {
        let values = row.iter().map(|value| Value::One(*value)).collect();
        return Ok((link.prepare(many.one_row())?, values));
    }
    let (mut parts, mut checks, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for (at, (many, rows)) in writes.iter().enumerate() {
        let (width, first) = (many.width(), values.len() + 1);
        let one_row = link.prepare(many.one_row())?;
        let (part, name) = (many.many_rows(first, &one_row), format!("part_{at}"));
        if many.needs_every() {
            // The commit may be on its way already, so it is the statement that has to fail.
            let whole = format!("(SELECT COUNT(*) FROM {name}) = cardinality(${first})");
            checks.push(format!("1 / CASE WHEN {whole} THEN 1 ELSE 0 END"));
            parts.push(format!("{name} AS ({part} RETURNING 1)"));
        } else {
            parts.push(format!("{name} AS ({part})"));
        }
        values.extend(
            (0..width)
                .map(|column| Value::Column(rows.iter().skip(column).step_by(width).copied().collect())),
        );
    }
    let check = if checks.is_empty() { "1".to_string() } else { checks.join(" + ") };
    let sql = format!("WITH {} SELECT {check}", parts.join(", "));
    Ok((link.prepare(&sql)?, values))
}

fn lock_number(scope: &str, key: &str) -> i64 {
    use sha2::Digest as _;
    let digest = sha2::Sha256::new().chain_update(scope).chain_update([0]).chain_update(key).finalize();
    i64::from_be_bytes(digest[..8].try_into().expect("a SHA-256 digest has 32 bytes"))
}
