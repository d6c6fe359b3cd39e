//! The list of users: searched, filtered, sorted, in pages. Names of columns never reach a statement: each sorting is a text
//! of its own, and what is compared is chosen within it.

use crate::listing::{Filter, Operator};
use crate::users::{self, User, UserView};
use kernel::{Millis, UserId};
use store::{Error, Param, Tx, params};

/// A column of users that lists know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    Id,
    Name,
    Email,
    EmailVerified,
    Image,
    CreatedAt,
    UpdatedAt,
    Username,
    DisplayUsername,
    TwoFactorEnabled,
    IsAnonymous,
    Role,
    Banned,
    BanReason,
    BanExpires,
}

impl Column {
    const ALL: [(Column, &'static str); 15] = [
        (Column::Id, "id"),
        (Column::Name, "name"),
        (Column::Email, "email"),
        (Column::EmailVerified, "emailVerified"),
        (Column::Image, "image"),
        (Column::CreatedAt, "createdAt"),
        (Column::UpdatedAt, "updatedAt"),
        (Column::Username, "username"),
        (Column::DisplayUsername, "displayUsername"),
        (Column::TwoFactorEnabled, "twoFactorEnabled"),
        (Column::IsAnonymous, "isAnonymous"),
        (Column::Role, "role"),
        (Column::Banned, "banned"),
        (Column::BanReason, "banReason"),
        (Column::BanExpires, "banExpires"),
    ];

    pub fn parse(name: &str) -> Option<Column> {
        Column::ALL.into_iter().find(|(_, known)| *known == name).map(|(column, _)| column)
    }

    fn name(self) -> &'static str {
        Column::ALL.into_iter().find(|(column, _)| *column == self).map_or("", |(_, name)| name)
    }

    fn is_time(self) -> bool {
        matches!(self, Column::CreatedAt | Column::UpdatedAt | Column::BanExpires)
    }
}

/// Which users to show.
#[derive(Debug, Clone)]
pub struct Search {
    /// In the name instead of the address; where the text stands; the text.
    pub text: Option<(bool, Operator, String)>,
    pub filter: Option<(Column, Filter)>,
    /// The flag: from the last to the first.
    pub sort: Option<(Column, bool)>,
    pub limit: i64,
    pub offset: i64,
}

/// How many values a filter may name.
pub const MOST_VALUES: usize = 10;

// $1 where to search (empty: nowhere), $2 the pattern; $3 the comparison (empty: none), $4 the column, $5 and $7 to $15
// texts, $6 a time.
macro_rules! text {
    () => {
        "CASE $4 WHEN 'id' THEN u.id WHEN 'name' THEN u.name WHEN 'email' THEN u.email WHEN 'image' THEN u.image
         WHEN 'username' THEN u.username WHEN 'displayUsername' THEN u.display_username WHEN 'role' THEN u.role
         WHEN 'banReason' THEN u.ban_reason
         WHEN 'emailVerified' THEN CASE WHEN u.email_verified THEN 'true' ELSE 'false' END
         WHEN 'twoFactorEnabled' THEN CASE WHEN u.two_factor_enabled THEN 'true' ELSE 'false' END
         WHEN 'isAnonymous' THEN CASE WHEN u.is_anonymous THEN 'true' ELSE 'false' END
         WHEN 'banned' THEN CASE WHEN u.banned THEN 'true' ELSE 'false' END END"
    };
}
macro_rules! time {
    () => {
        "CASE $4 WHEN 'createdAt' THEN u.created_at WHEN 'updatedAt' THEN u.updated_at ELSE u.ban_expires END"
    };
}
macro_rules! matching {
    () => {
        concat!(
            "($1 = '' OR LOWER(CASE $1 WHEN 'name' THEN u.name ELSE u.email END) LIKE LOWER($2) ESCAPE '\\')
             AND CASE $3 WHEN '' THEN TRUE
             WHEN 'eq' THEN ",
            text!(),
            " = $5
             WHEN 'ne' THEN ",
            text!(),
            " <> $5
             WHEN 'lt' THEN ",
            text!(),
            " < $5
             WHEN 'lte' THEN ",
            text!(),
            " <= $5
             WHEN 'gt' THEN ",
            text!(),
            " > $5
             WHEN 'gte' THEN ",
            text!(),
            " >= $5
             WHEN 'like' THEN LOWER(",
            text!(),
            ") LIKE LOWER($5) ESCAPE '\\'
             WHEN 'in' THEN ",
            text!(),
            " IN ($5, $7, $8, $9, $10, $11, $12, $13, $14, $15)
             WHEN 'not_in' THEN ",
            text!(),
            " NOT IN ($5, $7, $8, $9, $10, $11, $12, $13, $14, $15)
             WHEN 'time eq' THEN ",
            time!(),
            " = $6
             WHEN 'time ne' THEN ",
            time!(),
            " <> $6
             WHEN 'time lt' THEN ",
            time!(),
            " < $6
             WHEN 'time lte' THEN ",
            time!(),
            " <= $6
             WHEN 'time gt' THEN ",
            time!(),
            " > $6
             WHEN 'time gte' THEN ",
            time!(),
            " >= $6
             ELSE FALSE END"
        )
    };
}
macro_rules! sorted {
    ($($order:literal)*) => {
        [$(concat!(
            "SELECT ", users::columns!(), " FROM users u WHERE ", matching!(),
            " ORDER BY ", $order, " LIMIT $16 OFFSET $17"
        )),*]
    };
}

const COUNT: &str = concat!("SELECT COUNT(*) FROM users u WHERE ", matching!());

/// Upwards and downwards. What is empty comes first upwards, on both engines.
fn statement(column: Column, downwards: bool) -> &'static str {
    let both = match column {
        Column::Id => sorted!("u.id" "u.id DESC"),
        Column::Name => sorted!("u.name, u.id" "u.name DESC, u.id DESC"),
        Column::Email => sorted!("u.email" "u.email DESC"),
        Column::CreatedAt => sorted!("u.created_at, u.id" "u.created_at DESC, u.id DESC"),
        Column::UpdatedAt => sorted!("u.updated_at, u.id" "u.updated_at DESC, u.id DESC"),
        Column::EmailVerified => sorted!("u.email_verified, u.id" "u.email_verified DESC, u.id DESC"),
        Column::TwoFactorEnabled => {
            sorted!("u.two_factor_enabled, u.id" "u.two_factor_enabled DESC, u.id DESC")
        }
        Column::IsAnonymous => sorted!("u.is_anonymous, u.id" "u.is_anonymous DESC, u.id DESC"),
        Column::Banned => sorted!("u.banned, u.id" "u.banned DESC, u.id DESC"),
        Column::Image => {
            sorted!("u.image IS NOT NULL, u.image, u.id" "u.image IS NOT NULL DESC, u.image DESC, u.id DESC")
        }
        Column::Username => {
            sorted!("u.username IS NOT NULL, u.username" "u.username IS NOT NULL DESC, u.username DESC")
        }
        Column::DisplayUsername => sorted!(
            "u.display_username IS NOT NULL, u.display_username, u.id"
            "u.display_username IS NOT NULL DESC, u.display_username DESC, u.id DESC"
        ),
        Column::Role => {
            sorted!("u.role IS NOT NULL, u.role, u.id" "u.role IS NOT NULL DESC, u.role DESC, u.id DESC")
        }
        Column::BanReason => sorted!(
            "u.ban_reason IS NOT NULL, u.ban_reason, u.id"
            "u.ban_reason IS NOT NULL DESC, u.ban_reason DESC, u.id DESC"
        ),
        Column::BanExpires => sorted!(
            "u.ban_expires IS NOT NULL, u.ban_expires, u.id"
            "u.ban_expires IS NOT NULL DESC, u.ban_expires DESC, u.id DESC"
        ),
    };
    both[usize::from(downwards)]
}

/// A text with the signs of a pattern taken for themselves.
fn pattern(operator: Operator, text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    match operator {
        Operator::StartsWith => format!("{text}%"),
        Operator::EndsWith => format!("%{text}"),
        _ => format!("%{text}%"),
    }
}

/// A filter as the statements take it: comparison, column, texts, time. `None` where no user can be meant.
struct Comparison {
    how: &'static str,
    column: &'static str,
    texts: Vec<String>,
    at: i64,
}

impl Comparison {
    fn of(filter: Option<&(Column, Filter)>) -> Option<Comparison> {
        let empty = Comparison { how: "", column: "", texts: vec![String::new(); MOST_VALUES], at: 0 };
        let Some((column, filter)) = filter else { return Some(empty) };
        let (time, column_name) = (column.is_time(), column.name());
        let first = filter.first().to_string();
        if time {
            let at = Millis::parse_iso(&first)?.0;
            let how = match filter.operator {
                Operator::Equal | Operator::OneOf => "time eq",
                Operator::Different | Operator::NoneOf => "time ne",
                Operator::Less => "time lt",
                Operator::AtMost => "time lte",
                Operator::More => "time gt",
                Operator::AtLeast => "time gte",
                Operator::Contains | Operator::StartsWith | Operator::EndsWith => return None,
            };
            return Some(Comparison { how, column: column_name, at, ..empty });
        }
        let (how, first) = match filter.operator {
            Operator::Equal => ("eq", first),
            Operator::Different => ("ne", first),
            Operator::Less => ("lt", first),
            Operator::AtMost => ("lte", first),
            Operator::More => ("gt", first),
            Operator::AtLeast => ("gte", first),
            Operator::OneOf => ("in", first),
            Operator::NoneOf => ("not_in", first),
            operator => ("like", pattern(operator, &first)),
        };
        if filter.values.len() > MOST_VALUES {
            return None;
        }
        // Places that are left over repeat the first value.
        let mut texts = vec![first; MOST_VALUES];
        for (place, value) in texts.iter_mut().zip(&filter.values).skip(1) {
            place.clone_from(value);
        }
        Some(Comparison { how, column: column_name, texts, at: 0 })
    }
}

/// A page of users, and how many there are in all.
pub fn users(tx: &mut Tx<'_>, search: &Search) -> Result<(Vec<User>, i64), Error> {
    if let Some(found) = exactly_one(tx, search)? {
        return Ok(found);
    }
    let Some(comparison) = Comparison::of(search.filter.as_ref()) else { return Ok((Vec::new(), 0)) };
    let (place, text) = match &search.text {
        None => ("", String::new()),
        Some((in_name, operator, text)) => {
            (if *in_name { "name" } else { "email" }, pattern(*operator, text))
        }
    };
    let Comparison { how, column, texts, at } = &comparison;
    let mut values: Vec<Param<'_>> = params![place, &text, *how, *column, &texts[0], *at].to_vec();
    values.extend(texts[1..].iter().map(Param::from));
    let total = tx.query_one(COUNT, &values, |row| row.get(0))?;
    values.extend([Param::from(search.limit), Param::from(search.offset)]);
    let (column, downwards) = search.sort.unwrap_or((Column::CreatedAt, false));
    let found =
        tx.query(statement(column, downwards), &values, |row| Ok(UserView::read(row, 0)?.to_user()))?;
    Ok((found, total))
}

/// The commonest question, one user by id or address, asks the index.
fn exactly_one(tx: &mut Tx<'_>, search: &Search) -> Result<Option<(Vec<User>, i64)>, Error> {
    let (None, Some((column, filter))) = (&search.text, &search.filter) else { return Ok(None) };
    let found = match (column, filter.operator) {
        (Column::Id, Operator::Equal) => users::by_id(tx, &UserId::from_text(filter.first()))?,
        (Column::Email, Operator::Equal) => users::by_email(tx, filter.first())?,
        _ => return Ok(None),
    };
    let total = i64::from(found.is_some());
    Ok(Some((found.into_iter().filter(|_| search.offset == 0).collect(), total)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_a_pattern_stand_for_themselves() {
        assert_eq!(pattern(Operator::Contains, "50%_a\\"), "%50\\%\\_a\\\\%");
        assert_eq!(pattern(Operator::StartsWith, "a"), "a%");
        assert_eq!(pattern(Operator::EndsWith, "a"), "%a");
    }

    #[test]
    fn what_a_client_sends_chooses_a_statement_and_is_never_part_of_one() {
        for name in ["name; DROP TABLE users", "u.name", "NAME", "", "password"] {
            assert_eq!(Column::parse(name), None, "{name}");
        }
        for (column, name) in Column::ALL {
            assert_eq!(Column::parse(name), Some(column));
            assert_ne!(statement(column, false), statement(column, true));
        }
    }
}
