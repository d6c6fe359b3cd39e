//! What the person who is signed in has and had. No parameter names an owner: it is always the session's user, and nothing
//! here changes anything.

use super::endpoint::{Access, Call, Endpoint, Outcome, Reply, Spec};
use super::error::{Code, Failure};
use super::fields::Fields;
use super::json::Instant;
use super::pipeline::query_pairs;
use crate::credits::reads::ask::{self, Span, Trouble};
use crate::credits::reads::{LARGEST_PAGE, PAGE};
use crate::service::moment;
use credits::reads::{Balance, Filter, Group, Listed, Report};
use credits::{Kind, Lot, NEVER, Owner};
use kernel::Millis;
use serde::Serialize;
use serde_json::{Map, Value, json};

pub struct CreditsBalance;
pub struct CreditsEntries;
pub struct CreditsUsage;

impl Endpoint for CreditsBalance {
    type Input = BalanceInput;
    const SPEC: Spec = Spec::get("/credits/balance", Access::SignedIn, "What the user has");

    fn read(fields: &mut Fields) -> BalanceInput {
        BalanceInput { unit: fields.maybe_query("unit"), at: fields.maybe_query("at") }
    }

    async fn run(call: Call, input: BalanceInput) -> Outcome {
        let owner = own(&call)?;
        let unit = unit_or_default(&call, input.unit)?;
        let found = match time("at", input.at)? {
            Some(at) => ask::past_balance(&call.app, &owner, &unit, at, call.now).await,
            None => ask::balance(&call.app, &owner, &unit, call.now).await,
        };
        Ok(Reply::json(&BalanceBody::of(&found.map_err(no)?)))
    }
}

pub struct BalanceInput {
    unit: Option<String>,
    at: Option<String>,
}

impl Endpoint for CreditsEntries {
    type Input = EntriesInput;
    const SPEC: Spec = Spec::get("/credits/entries", Access::SignedIn, "The user's entries, newest first");

    fn read(fields: &mut Fields) -> EntriesInput {
        // It may be repeated, so all of it is read later.
        fields.first_query("kind");
        EntriesInput {
            unit: fields.maybe_query("unit"),
            from: fields.maybe_query("from"),
            to: fields.maybe_query("to"),
            limit: fields.maybe_query("limit"),
            cursor: fields.maybe_query("cursor"),
        }
    }

    async fn run(call: Call, input: EntriesInput) -> Outcome {
        let unit = input.unit.map(|unit| known_unit(&call, unit)).transpose()?;
        let pairs = query_pairs(&call.request);
        let kinds = pairs
            .iter()
            .filter(|(name, _)| name == "kind")
            .map(|(_, text)| Kind::parse(text).ok_or_else(|| wrong("kind", "expected the kind of an entry")));
        let filter = Filter {
            owner: own(&call)?,
            unit,
            kinds: kinds.collect::<Result<_, _>>()?,
            from: time("from", input.from)?,
            to: time("to", input.to)?,
        };
        in_order(filter.from, filter.to)?;
        let limit = limit(input.limit)?;
        let (items, next) =
            ask::page(&call.app, &filter, limit, input.cursor.as_deref()).await.map_err(no)?;
        let items: Vec<EntryBody<'_>> = items.iter().map(EntryBody::of).collect();
        Ok(Reply::json(&json!({ "items": items, "nextCursor": next })))
    }
}

pub struct EntriesInput {
    unit: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

impl Endpoint for CreditsUsage {
    type Input = UsageInput;
    const SPEC: Spec =
        Spec::get("/credits/usage", Access::SignedIn, "What the user spent, by day, feature or key");

    fn read(fields: &mut Fields) -> UsageInput {
        UsageInput {
            unit: fields.maybe_query("unit"),
            group: fields.maybe_query("group"),
            from: fields.maybe_query("from"),
            to: fields.maybe_query("to"),
        }
    }

    async fn run(call: Call, input: UsageInput) -> Outcome {
        let owner = own(&call)?;
        let unit = unit_or_default(&call, input.unit)?;
        let group = match input.group {
            None => Group::Day,
            Some(text) => {
                Group::parse(&text).ok_or_else(|| wrong("group", "expected day, feature or key"))?
            }
        };
        let (from, to) = (time("from", input.from)?, time("to", input.to)?);
        in_order(from, to)?;
        let span = Span::or_last_days(from, to, call.now);
        let report = ask::usage(&call.app, &owner, &unit, group, span, call.now).await.map_err(no)?;
        Ok(Reply::json(&usage_body(&report)))
    }
}

pub struct UsageInput {
    unit: Option<String>,
    group: Option<String>,
    from: Option<String>,
    to: Option<String>,
}

fn own(call: &Call) -> Result<Owner, Failure> {
    Ok(Owner::User(call.signed_in()?.user.id.as_str().to_owned()))
}

fn no(trouble: Trouble) -> Failure {
    match trouble {
        Trouble::Nobody => Code::NotFound.into(),
        Trouble::Future => wrong("at", &trouble.to_string()),
        Trouble::Cursor(_) => wrong("cursor", &trouble.to_string()),
        Trouble::Store(error) => Failure::Store(error),
    }
}

// ---- reading the query

fn wrong(name: &str, message: &str) -> Failure {
    Failure::Validation(format!("[query.{name}] Invalid input: {message}"))
}

fn known_unit(call: &Call, unit: String) -> Result<String, Failure> {
    if call.app.ledger.settings().has_unit(&unit) {
        Ok(unit)
    } else {
        Err(wrong("unit", "there is no such unit"))
    }
}

fn unit_or_default(call: &Call, unit: Option<String>) -> Result<String, Failure> {
    match unit {
        Some(unit) => known_unit(call, unit),
        None => Ok(call.app.ledger.settings().default_unit().to_owned()),
    }
}

fn time(name: &str, text: Option<String>) -> Result<Option<Millis>, Failure> {
    // A plus sign in a query is a space, and few remember to escape it.
    let read = |text: String| {
        moment::parse(&text.replace(' ', "+")).ok_or_else(|| wrong(name, "expected a time in RFC 3339"))
    };
    text.map(read).transpose()
}

fn in_order(from: Option<Millis>, to: Option<Millis>) -> Result<(), Failure> {
    match (from, to) {
        (Some(from), Some(to)) if to < from => Err(wrong("to", "it is before from")),
        _ => Ok(()),
    }
}

fn limit(text: Option<String>) -> Result<usize, Failure> {
    let read = |text: String| {
        let limit = text.parse().ok().filter(|limit| (1..=LARGEST_PAGE).contains(limit));
        limit.ok_or_else(|| wrong("limit", "expected an integer from 1 to 200"))
    };
    let limit = text.map(read).transpose()?.unwrap_or(PAGE);
    Ok(usize::try_from(limit).unwrap_or(1))
}

// ---- as browsers see it

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BalanceBody<'a> {
    unit: &'a str,
    balance: i64,
    held: i64,
    available: i64,
    owed: i64,
    grants: Vec<GrantBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GrantBody<'a> {
    id: String,
    source: &'a str,
    amount: i64,
    remaining: i64,
    expires_at: Option<Instant>,
    priority: i64,
}

impl<'a> BalanceBody<'a> {
    fn of(balance: &'a Balance) -> BalanceBody<'a> {
        let grant = |lot: &'a Lot| GrantBody {
            id: balance.grant_id(lot),
            source: lot.source.name(),
            amount: lot.amount,
            remaining: lot.remaining,
            expires_at: (lot.expires_at != NEVER).then_some(Instant(lot.expires_at)),
            priority: lot.priority,
        };
        BalanceBody {
            unit: &balance.unit,
            balance: balance.balance,
            held: balance.held,
            available: balance.available(),
            owed: balance.owed(),
            grants: balance.grants.iter().map(grant).collect(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EntryBody<'a> {
    id: String,
    seq: i64,
    kind: &'a str,
    amount: i64,
    balance_after: i64,
    unit: &'a str,
    feature: Option<&'a str>,
    reason: Option<&'a str>,
    actor: &'a str,
    idempotency_key: Option<&'a str>,
    source_ref: Option<&'a str>,
    parts: Vec<PartBody>,
    metadata: Value,
    created_at: Instant,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PartBody {
    grant_id: Option<String>,
    amount: i64,
}

impl<'a> EntryBody<'a> {
    fn of(listed: &'a Listed) -> EntryBody<'a> {
        let entry = &listed.entry;
        let part = |part: &credits::Part| PartBody {
            grant_id: part.lot.map(|no| credits::item_id(&entry.account, credits::Item::Grant, no)),
            amount: part.amount,
        };
        EntryBody {
            id: entry.id(),
            seq: entry.seq,
            kind: entry.kind.name(),
            amount: entry.amount,
            balance_after: entry.balance_after,
            unit: &listed.unit,
            feature: entry.feature.as_deref(),
            reason: entry.reason.as_deref(),
            actor: &entry.actor,
            idempotency_key: entry.idempotency_key.as_deref(),
            source_ref: entry.source_ref.as_deref(),
            parts: entry.parts.iter().map(part).collect(),
            metadata: entry.metadata.as_deref().map_or(Value::Null, metadata),
            created_at: Instant(entry.created_at),
        }
    }
}

/// It was checked when it was stored.
fn metadata(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

fn usage_body(report: &Report) -> Value {
    let items: Vec<Value> = report
        .items
        .iter()
        .map(|item| {
            let mut body = Map::new();
            body.insert(report.group.name().into(), item.name.as_deref().into());
            body.insert("spent".into(), item.spent.into());
            body.insert("count".into(), item.count.into());
            Value::Object(body)
        })
        .collect();
    json!({
        "items": items,
        "total": report.total,
        "burnPerDay": report.burn_per_day,
        "daysLeft": report.days_left,
    })
}
