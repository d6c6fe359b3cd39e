//! The transaction that rules work on: one SQL text, parameters and rows for both engines.

use crate::error::Error;
use crate::postgres::Link;
use kernel::Millis;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use tokio_postgres::types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked};

/// A transaction, or a read of the newest committed state.
///
/// Statements are `'static` text in the portable subset (see ARCHITECTURE.md, "The store"): values can only come in as
/// parameters, and each text is prepared once per connection.
pub struct Tx<'a> {
    pub(crate) engine: On<'a>,
}

pub(crate) enum On<'a> {
    Sqlite(&'a rusqlite::Connection),
    Postgres(&'a mut Link),
}

/// A value for `$n`.
#[derive(Debug, Clone, Copy)]
pub enum Param<'a> {
    Null,
    Text(&'a str),
    Integer(i64),
    Boolean(bool),
}

impl<'a> From<&'a str> for Param<'a> {
    fn from(value: &'a str) -> Self {
        Param::Text(value)
    }
}

impl<'a> From<&'a String> for Param<'a> {
    fn from(value: &'a String) -> Self {
        Param::Text(value)
    }
}

impl From<i64> for Param<'_> {
    fn from(value: i64) -> Self {
        Param::Integer(value)
    }
}

impl From<Millis> for Param<'_> {
    fn from(value: Millis) -> Self {
        Param::Integer(value.0)
    }
}

impl From<bool> for Param<'_> {
    fn from(value: bool) -> Self {
        Param::Boolean(value)
    }
}

impl<'a, T: Into<Param<'a>>> From<Option<T>> for Param<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Param::Null, Into::into)
    }
}

impl<'a> From<&'a Option<String>> for Param<'a> {
    fn from(value: &'a Option<String>) -> Self {
        value.as_deref().into()
    }
}

/// `params![user.as_str(), now]`: the values for `$1`, `$2`, …
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::Param::from($value)),*] };
}

impl Tx<'_> {
    /// Runs a statement that returns no rows; gives how many rows it changed.
    pub fn execute(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<u64, Error> {
        match &mut self.engine {
            On::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql)?;
                bind(&mut statement, params)?;
                Ok(statement.raw_execute()? as u64)
            }
            On::Postgres(link) => link.execute(sql, params),
        }
    }

    /// The rows of a statement, each read by `read`.
    pub fn query<T>(
        &mut self,
        sql: &'static str,
        params: &[Param<'_>],
        mut read: impl FnMut(&Row<'_>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        match &mut self.engine {
            On::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql)?;
                bind(&mut statement, params)?;
                let mut rows = statement.raw_query();
                let mut found = Vec::new();
                while let Some(row) = rows.next()? {
                    found.push(read(&row.into())?);
                }
                Ok(found)
            }
            On::Postgres(link) => link.query(sql, params)?.iter().map(|row| read(&row.into())).collect(),
        }
    }

    /// The first row, if there is one.
    pub fn query_opt<T>(
        &mut self,
        sql: &'static str,
        params: &[Param<'_>],
        read: impl FnOnce(&Row<'_>) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        match &mut self.engine {
            On::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql)?;
                bind(&mut statement, params)?;
                let mut rows = statement.raw_query();
                let found = match rows.next()? {
                    Some(row) => Some(read(&row.into())?),
                    None => return Ok(None),
                };
                // A statement that changes rows does its whole work only when it is run to its end.
                while rows.next()?.is_some() {}
                Ok(found)
            }
            On::Postgres(link) => link.query(sql, params)?.first().map(|row| read(&row.into())).transpose(),
        }
    }

    /// The only row; its absence is a fault.
    pub fn query_one<T>(
        &mut self,
        sql: &'static str,
        params: &[Param<'_>],
        read: impl FnOnce(&Row<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.query_opt(sql, params, read)?.ok_or_else(|| Error::Fault(format!("no row from: {sql}")))
    }
}

/// Binds by the number in the name: SQLite counts `$n` by first appearance, not by n.
pub(crate) fn bind(statement: &mut rusqlite::Statement<'_>, params: &[Param<'_>]) -> Result<(), Error> {
    for index in 1..=statement.parameter_count() {
        let number = statement.parameter_name(index).and_then(|name| name[1..].parse::<usize>().ok());
        let param = number.and_then(|number| params.get(number - 1));
        let param = param.ok_or_else(|| Error::Fault(format!("no value for parameter {index}")))?;
        statement.raw_bind_parameter(index, param)?;
    }
    Ok(())
}

impl rusqlite::ToSql for Param<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match *self {
            Param::Null => ToSqlOutput::Owned(Value::Null),
            Param::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Param::Integer(number) => ToSqlOutput::Owned(Value::Integer(number)),
            Param::Boolean(flag) => ToSqlOutput::Owned(Value::Integer(i64::from(flag))),
        })
    }
}

impl ToSql for Param<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match *self {
            Param::Null => Ok(IsNull::Yes),
            Param::Text(text) => <&str as ToSql>::to_sql(&text, ty, out),
            Param::Integer(number) if *ty == Type::INT4 => {
                <i32 as ToSql>::to_sql(&number.try_into()?, ty, out)
            }
            Param::Integer(number) => <i64 as ToSql>::to_sql(&number, ty, out),
            Param::Boolean(flag) => <bool as ToSql>::to_sql(&flag, ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// One row of an answer.
pub struct Row<'r>(Inner<'r>);

enum Inner<'r> {
    Sqlite(&'r rusqlite::Row<'r>),
    Postgres(&'r tokio_postgres::Row),
}

/// A column's value as both engines can give it.
#[derive(Debug, Clone, Copy)]
pub enum Column<'r> {
    Null,
    Text(&'r str),
    Integer(i64),
    Boolean(bool),
}

impl<'r> From<&'r rusqlite::Row<'r>> for Row<'r> {
    fn from(row: &'r rusqlite::Row<'r>) -> Self {
        Row(Inner::Sqlite(row))
    }
}

impl<'r> From<&'r tokio_postgres::Row> for Row<'r> {
    fn from(row: &'r tokio_postgres::Row) -> Self {
        Row(Inner::Postgres(row))
    }
}

impl Row<'_> {
    /// The value of a column, counted from 0.
    pub fn get<T: FromColumn>(&self, index: usize) -> Result<T, Error> {
        T::from_column(self.column(index)?)
            .ok_or_else(|| Error::Fault(format!("column {index} is of another type")))
    }

    /// A text column without a copy.
    pub fn text(&self, index: usize) -> Result<&str, Error> {
        match self.column(index)? {
            Column::Text(text) => Ok(text),
            _ => Err(Error::Fault(format!("column {index} is no text"))),
        }
    }

    /// [`Self::text`] for a column that may be empty.
    pub fn text_or_null(&self, index: usize) -> Result<Option<&str>, Error> {
        match self.column(index)? {
            Column::Null => Ok(None),
            Column::Text(text) => Ok(Some(text)),
            _ => Err(Error::Fault(format!("column {index} is no text"))),
        }
    }

    fn column(&self, index: usize) -> Result<Column<'_>, Error> {
        match self.0 {
            Inner::Sqlite(row) => Ok(match row.get_ref(index)? {
                ValueRef::Null => Column::Null,
                ValueRef::Integer(number) => Column::Integer(number),
                ValueRef::Text(bytes) => {
                    Column::Text(std::str::from_utf8(bytes).map_err(|e| Error::Fault(e.to_string()))?)
                }
                ValueRef::Real(_) | ValueRef::Blob(_) => {
                    return Err(Error::Fault(format!("column {index} is no portable type")));
                }
            }),
            Inner::Postgres(row) => {
                let kind = row.columns().get(index).map(|column| column.type_().clone());
                let fault = |e: tokio_postgres::Error| Error::Fault(e.to_string());
                Ok(match kind {
                    Some(Type::TEXT | Type::VARCHAR | Type::NAME) => row
                        .try_get::<_, Option<&str>>(index)
                        .map_err(fault)?
                        .map_or(Column::Null, Column::Text),
                    Some(Type::INT8) => row
                        .try_get::<_, Option<i64>>(index)
                        .map_err(fault)?
                        .map_or(Column::Null, Column::Integer),
                    Some(Type::INT4) => row
                        .try_get::<_, Option<i32>>(index)
                        .map_err(fault)?
                        .map_or(Column::Null, |n| Column::Integer(n.into())),
                    Some(Type::BOOL) => row
                        .try_get::<_, Option<bool>>(index)
                        .map_err(fault)?
                        .map_or(Column::Null, Column::Boolean),
                    other => {
                        return Err(Error::Fault(format!(
                            "column {index} is of type {other:?}, which is not portable"
                        )));
                    }
                })
            }
        }
    }
}

/// Types that a column can be read as.
pub trait FromColumn: Sized {
    fn from_column(column: Column<'_>) -> Option<Self>;
}

impl FromColumn for String {
    fn from_column(column: Column<'_>) -> Option<Self> {
        let Column::Text(text) = column else { return None };
        Some(text.to_string())
    }
}

impl FromColumn for i64 {
    fn from_column(column: Column<'_>) -> Option<Self> {
        let Column::Integer(number) = column else { return None };
        Some(number)
    }
}

impl FromColumn for Millis {
    fn from_column(column: Column<'_>) -> Option<Self> {
        i64::from_column(column).map(Millis)
    }
}

impl FromColumn for bool {
    fn from_column(column: Column<'_>) -> Option<Self> {
        match column {
            Column::Boolean(flag) => Some(flag),
            // SQLite keeps TRUE and FALSE as 1 and 0.
            Column::Integer(number @ 0..=1) => Some(number == 1),
            _ => None,
        }
    }
}

impl<T: FromColumn> FromColumn for Option<T> {
    fn from_column(column: Column<'_>) -> Option<Self> {
        match column {
            Column::Null => Some(None),
            other => T::from_column(other).map(Some),
        }
    }
}
