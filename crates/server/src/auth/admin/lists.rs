//! `/admin/list-users`, `/admin/get-user`.

use super::{
    USER_NOT_FOUND, YOU_ARE_NOT_ALLOWED_TO_GET_USER, YOU_ARE_NOT_ALLOWED_TO_LIST_USERS, administrator,
};
use crate::auth::endpoint::{Access, Call, Endpoint, Outcome, Reply, SignedOut, Spec};
use crate::auth::fields::Fields;
use crate::auth::json::UserBody;
use crate::settings::Switch;
use identity::admin::search::{self, Column, MOST_VALUES, Search};
use identity::listing::{Filter, Operator};
use identity::users;
use kernel::UserId;
use serde::Serialize;

pub struct ListUsers;
pub struct GetUser;

const PAGE: i64 = 100;
const LONGEST_PAGE: i64 = 1_000;

pub struct Asked {
    /// `None` where a field is named that users do not have.
    search: Option<Search>,
    limit: Option<i64>,
    offset: Option<i64>,
}

#[derive(Serialize)]
struct Found<'a> {
    users: Vec<UserBody<'a>>,
    total: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<i64>,
}

/// What is no number, zero or below counts as not sent.
fn count(fields: &mut Fields, name: &'static str, most: i64) -> Option<i64> {
    let number = fields.maybe_query(name)?.trim().parse::<f64>().ok()?;
    (number >= 1.0).then(|| (number as i64).min(most))
}

fn operator(fields: &mut Fields, name: &'static str, default: Operator, all: bool) -> Operator {
    let Some(text) = fields.maybe_query(name) else { return default };
    let known = Operator::parse(&text).filter(|known| {
        all || matches!(known, Operator::Contains | Operator::StartsWith | Operator::EndsWith)
    });
    known.unwrap_or_else(|| {
        fields.query_problem(name, "Invalid option: expected a comparison such as \"contains\"");
        default
    })
}

impl Endpoint for ListUsers {
    type Input = Asked;
    const SPEC: Spec =
        Spec::get("/admin/list-users", Access::SignedIn, "Users in pages: searched, filtered and sorted")
            .of(Switch::Admin)
            .signed_out(SignedOut::Bare);

    fn read(fields: &mut Fields) -> Asked {
        let text = fields.maybe_query("searchValue").filter(|text| !text.is_empty());
        let in_name = fields.maybe_query_of("searchField", &["email", "name"]).as_deref() == Some("name");
        let how = operator(fields, "searchOperator", Operator::Contains, false);
        let (limit, offset) = (count(fields, "limit", LONGEST_PAGE), count(fields, "offset", i64::MAX));
        let sort_by = fields.maybe_query("sortBy").filter(|name| !name.is_empty());
        let downwards = fields.maybe_query_of("sortDirection", &["asc", "desc"]).as_deref() == Some("desc");
        let field = fields.maybe_query("filterField").filter(|name| !name.is_empty());
        let values = fields.query_list("filterValue");
        let comparison = operator(fields, "filterOperator", Operator::Equal, true);
        if values.len() > MOST_VALUES {
            fields.query_problem("filterValue", "Too big: expected array to have <=10 items");
        }
        let sort = sort_by.as_deref().map(Column::parse);
        let filter = (!values.is_empty()).then(|| {
            let column = Column::parse(field.as_deref().unwrap_or("email"))?;
            Some((column, Filter { operator: comparison, values }))
        });
        let search = match (sort, filter) {
            (Some(None), _) | (_, Some(None)) => None,
            (sort, filter) => Some(Search {
                text: text.map(|text| (in_name, how, text)),
                filter: filter.flatten(),
                sort: sort.flatten().map(|column| (column, downwards)),
                limit: limit.unwrap_or(PAGE),
                offset: offset.unwrap_or(0),
            }),
        };
        Asked { search, limit, offset }
    }

    async fn run(call: Call, asked: Asked) -> Outcome {
        administrator(&call, YOU_ARE_NOT_ALLOWED_TO_LIST_USERS)?;
        // The original finds nobody by a field that users do not have.
        let Some(search) = asked.search else {
            return Ok(Reply::json(&Found { users: Vec::new(), total: 0, limit: None, offset: None }));
        };
        let (users, total) = call.app.store.scan(move |tx| search::users(tx, &search)).await?;
        Ok(Reply::json(&Found {
            users: users.iter().map(UserBody::from).collect(),
            total,
            limit: asked.limit,
            offset: asked.offset,
        }))
    }
}

impl Endpoint for GetUser {
    type Input = UserId;
    const SPEC: Spec = Spec::get("/admin/get-user", Access::SignedIn, "A user by id")
        .of(Switch::Admin)
        .signed_out(SignedOut::Bare);

    fn read(fields: &mut Fields) -> UserId {
        UserId::from_text(fields.query("id"))
    }

    async fn run(call: Call, id: UserId) -> Outcome {
        administrator(&call, YOU_ARE_NOT_ALLOWED_TO_GET_USER)?;
        let user = call.app.store.read(move |tx| users::by_id(tx, &id)).await?.ok_or(USER_NOT_FOUND)?;
        Ok(Reply::json(&UserBody::from(&user)))
    }
}
