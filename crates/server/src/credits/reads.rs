//! What the credits door answers without changing anything.

pub(crate) mod ask;
mod export;

use super::BASE;
use crate::app::App;
use crate::edge::RequestContext;
use crate::openapi::{Auth, Door, Field, RouteDoc};
use crate::service::query::Query;
use crate::service::{Failure, admit, context_of, json_response};
use ask::{Span, Trouble};
use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{MethodRouter, get};
use credits::reads::{self, Filter, Group, HoldsPage, list_json};
use credits::{HoldStatus, Item, Kind, Owner};
use export::Form;
use http::request::Parts;
use identity::service_keys::Scope;
use kernel::Millis;
use serde_json::json;
use std::sync::Arc;

pub(crate) const PAGE: i64 = 50;
pub(crate) const LARGEST_PAGE: i64 = 200;

const USER: Field = Field::text("user_id").optional().note("The owner; or `organization_id` or `guest_id`");
const ORGANIZATION: Field = Field::text("organization_id").optional();
const GUEST: Field = Field::text("guest_id").optional();
const UNIT: Field = Field::text("unit").optional().note("Default: the first of the configuration");
const LIMIT: Field = Field::integer("limit").optional().note("1 to 200; default 50");
const CURSOR: Field =
    Field::text("cursor").optional().note("`next_cursor` of the page before, with the same question");
const FROM: Field = Field::text("from").optional().note("RFC 3339, inclusive");
const TO: Field = Field::text("to").optional().note("RFC 3339, exclusive");

const FOUND: &[(u16, &str)] =
    &[(200, "Done"), (404, "There is no such owner"), (422, "`invalid_request`: with `field`")];
const ONE_HOLD: &[(u16, &str)] = &[(200, "Done"), (404, "There is no such hold")];

const fn of(path: &'static str, summary: &'static str, query: &'static [Field]) -> RouteDoc {
    RouteDoc::get(path, summary).door(Door::Credits).auth(Auth::ServiceKey).query(query).answers(FOUND)
}

pub(super) const ROUTES: &[RouteDoc] = &[
    of(
        "/api/credits/balance",
        "What an owner has, and the grants it is made of",
        &[
            USER,
            ORGANIZATION,
            GUEST,
            UNIT,
            Field::text("at").optional().note("RFC 3339: as it was then; not in the future"),
        ],
    ),
    of("/api/credits/accounts", "What an owner has of each unit, and how far below zero it may go", &[USER, ORGANIZATION, GUEST]),
    of(
        "/api/credits/entries",
        "An owner's entries, newest first",
        &[
            USER,
            ORGANIZATION,
            GUEST,
            UNIT.note("Default: all"),
            Field::text("kind").optional().note("May be repeated"),
            FROM,
            TO,
            LIMIT,
            CURSOR,
        ],
    )
    .notes(
        "With `Accept: text/csv` or `application/x-ndjson` all entries that match, streamed; `limit` and `cursor` are ignored.",
    ),
    of(
        "/api/credits/usage",
        "What was spent by day, feature or key, and how long the rest will last",
        &[
            USER,
            ORGANIZATION,
            GUEST,
            UNIT,
            Field::text("group").optional().note("`day` (default), `feature` or `key`"),
            FROM.note("RFC 3339, inclusive; default 30 days before `to`"),
            TO.note("RFC 3339, exclusive; default now"),
        ],
    ),
    of("/api/credits/holds/{id}", "A hold", &[]).answers(ONE_HOLD),
    of(
        "/api/credits/holds",
        "An owner's holds, newest first",
        &[
            USER,
            ORGANIZATION,
            GUEST,
            UNIT,
            Field::text("status").optional().note("`held`, `captured`, `released` or `expired`"),
            LIMIT,
            CURSOR,
        ],
    ),
    of("/api/credits/limits", "An owner's limits on spending", &[USER, ORGANIZATION, GUEST, UNIT]),
    of(
        "/api/credits/events",
        "What happened to an owner's balance, newest first: `low_balance`",
        &[USER, ORGANIZATION, GUEST, UNIT, LIMIT, CURSOR],
    ),
    of("/api/credits/features", "The price book", &[]).answers(&[]),
];

pub(super) fn router() -> Router<Arc<App>> {
    let routes = [
        ("/balance", reading(balance)),
        ("/accounts", reading(accounts)),
        ("/entries", reading(entries)),
        ("/usage", reading(usage)),
        ("/holds/{id}", reading(hold)),
        ("/holds", reading(holds)),
        ("/limits", reading(limits)),
        ("/events", reading(events)),
        ("/features", reading(features)),
    ];
    let add = |router: Router<_>, (path, route)| router.route(&format!("{BASE}{path}"), route);
    routes.into_iter().fold(Router::new(), add)
}

/// A question whose asker was let in.
struct Asked {
    app: Arc<App>,
    parts: Parts,
    query: Query,
    context: RequestContext,
}

impl Asked {
    fn now(&self) -> Millis {
        self.context.now
    }

    fn unit(&mut self) -> Result<String, Failure> {
        let settings = self.app.ledger.settings();
        let unit = self.query.unit(settings)?;
        Ok(unit.unwrap_or_else(|| settings.default_unit().to_owned()))
    }

    fn limit(&mut self) -> Result<usize, Failure> {
        let limit = self.query.integer("limit", 1..=LARGEST_PAGE)?.unwrap_or(PAGE);
        Ok(usize::try_from(limit).unwrap_or(1))
    }

    /// From and to; nothing can end before it begins.
    fn period(&mut self) -> Result<(Option<Millis>, Option<Millis>), Failure> {
        let (from, to) = (self.query.time("from")?, self.query.time("to")?);
        match (from, to) {
            (Some(from), Some(to)) if to < from => Err(Failure::invalid("to", "it is before `from`")),
            both => Ok(both),
        }
    }

    fn finish(&mut self) -> Result<(), Failure> {
        std::mem::take(&mut self.query).finish()
    }
}

fn reading<F, A>(run: F) -> MethodRouter<Arc<App>>
where
    F: Fn(Asked) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Result<Response, Failure>> + Send,
{
    get(move |State(app): State<Arc<App>>, request: Request| async move {
        let context = context_of(&request);
        let (parts, _) = request.into_parts();
        let outcome = match admit(&app, &parts.headers, Scope::CreditsRead, &context).await {
            Ok(_) => {
                let query = Query::read(&parts.uri);
                run(Asked { app, parts, query, context: context.clone() }).await
            }
            Err(failure) => Err(failure),
        };
        outcome.unwrap_or_else(|failure| failure.response(&context.request_id))
    })
}

fn no(trouble: Trouble, owner: &Owner) -> Failure {
    match trouble {
        Trouble::Nobody => Failure::NotFound { what: "owner", field: Some(owner.field().to_owned()) },
        Trouble::Future => Failure::invalid("at", trouble.to_string()),
        Trouble::Cursor(_) => Failure::invalid("cursor", trouble.to_string()),
        Trouble::Store(error) => Failure::Store(error),
    }
}

async fn balance(mut asked: Asked) -> Result<Response, Failure> {
    let owner = asked.query.owner()?;
    let unit = asked.unit()?;
    let at = asked.query.time("at")?;
    asked.finish()?;
    let (app, now) = (&asked.app, asked.now());
    let found = match at {
        Some(at) => ask::past_balance(app, &owner, &unit, at, now).await,
        None => ask::balance(app, &owner, &unit, now).await,
    };
    Ok(json_response(200, found.map_err(|trouble| no(trouble, &owner))?.json()))
}

async fn accounts(mut asked: Asked) -> Result<Response, Failure> {
    let owner = asked.query.owner()?;
    asked.finish()?;
    ask::known(&asked.app, &owner).await.map_err(|trouble| no(trouble, &owner))?;
    let now = asked.now();
    let found = asked.app.store.scan(move |tx| reads::standings(tx, &owner, now)).await?;
    Ok(json_response(200, list_json(found.iter().map(|account| account.json()), None)))
}

async fn entries(mut asked: Asked) -> Result<Response, Failure> {
    let form = Form::asked(&asked.parts.headers);
    let owner = asked.query.owner()?;
    let unit = asked.query.unit(asked.app.ledger.settings())?;
    let mut kinds = Vec::new();
    for text in asked.query.all("kind")? {
        kinds.push(Kind::parse(&text).ok_or_else(|| Failure::invalid("kind", "there is no such kind"))?);
    }
    let (from, to) = asked.period()?;
    let filter = Filter { owner, unit, kinds, from, to };
    if form != Form::Json {
        asked.query.all("limit")?;
        asked.query.cursor()?;
        asked.finish()?;
        let answer = export::answer(&asked.app, &filter, form).await;
        return answer.map_err(|trouble| no(trouble, &filter.owner));
    }
    let limit = asked.limit()?;
    let cursor = asked.query.cursor()?;
    asked.finish()?;
    let page = ask::page(&asked.app, &filter, limit, cursor.as_deref()).await;
    let (items, next) = page.map_err(|trouble| no(trouble, &filter.owner))?;
    Ok(json_response(200, list_json(items.iter().map(|listed| listed.json()), next.as_deref())))
}

async fn usage(mut asked: Asked) -> Result<Response, Failure> {
    let owner = asked.query.owner()?;
    let unit = asked.unit()?;
    let group = match asked.query.text("group")? {
        None => Group::Day,
        Some(text) => {
            Group::parse(&text).ok_or_else(|| Failure::invalid("group", "it must be day, feature or key"))?
        }
    };
    let (from, to) = asked.period()?;
    asked.finish()?;
    let span = Span::or_last_days(from, to, asked.now());
    let report = ask::usage(&asked.app, &owner, &unit, group, span, asked.now()).await;
    Ok(json_response(200, report.map_err(|trouble| no(trouble, &owner))?.json()))
}

async fn hold(mut asked: Asked) -> Result<Response, Failure> {
    asked.finish()?;
    let unknown = || Failure::NotFound { what: "hold", field: None };
    let id = asked.parts.uri.path().rsplit('/').next().unwrap_or("");
    let (account, number) = credits::parse_item(id, Item::Hold).ok_or_else(unknown)?;
    let now = asked.now();
    let found = asked.app.store.read(move |tx| reads::hold(tx, &account, number, now)).await?;
    Ok(json_response(200, found.ok_or_else(unknown)?))
}

async fn holds(mut asked: Asked) -> Result<Response, Failure> {
    let owner = asked.query.owner()?;
    let unit = asked.unit()?;
    let status =
        match asked.query.text("status")? {
            None => None,
            Some(text) => Some(HoldStatus::parse(&text).ok_or_else(|| {
                Failure::invalid("status", "it must be held, captured, released or expired")
            })?),
        };
    let limit = asked.limit()?;
    let cursor = asked.query.cursor()?;
    asked.finish()?;
    let (app, now) = (&asked.app, asked.now());
    ask::known(app, &owner).await.map_err(|trouble| no(trouble, &owner))?;
    let page = match cursor {
        Some(cursor) => HoldsPage::resume(&app.vault, &owner, &unit, status, limit, &cursor)
            .map_err(|bad| no(bad.into(), &owner))?,
        None => app.store.read(move |tx| HoldsPage::begin(tx, &owner, &unit, status, limit)).await?,
    };
    let page = ask::in_steps(app, page, move |page: &mut HoldsPage, tx| page.step(tx, now)).await?;
    Ok(json_response(200, page.json(&app.vault)))
}

async fn limits(mut asked: Asked) -> Result<Response, Failure> {
    let owner = asked.query.owner()?;
    let unit = asked.unit()?;
    asked.finish()?;
    ask::known(&asked.app, &owner).await.map_err(|trouble| no(trouble, &owner))?;
    let (settings, now) = (asked.app.ledger.settings().clone(), asked.now());
    let found = asked.app.store.read(move |tx| reads::limits(tx, &settings, &owner, &unit, now)).await?;
    Ok(json_response(200, list_json(found.into_iter(), None)))
}

async fn events(mut asked: Asked) -> Result<Response, Failure> {
    let owner = asked.query.owner()?;
    let unit = asked.unit()?;
    let limit = asked.limit()?;
    let cursor = asked.query.cursor()?;
    asked.finish()?;
    ask::known(&asked.app, &owner).await.map_err(|trouble| no(trouble, &owner))?;
    let (vault, whose) = (asked.app.vault.clone(), owner.clone());
    let read =
        move |tx: &mut store::Tx<'_>| reads::events(tx, &vault, &whose, &unit, limit, cursor.as_deref());
    let found = asked.app.store.scan(read).await?;
    let page = found.ok_or_else(|| no(reads::BadCursor.into(), &owner))?;
    Ok(json_response(200, page))
}

async fn features(mut asked: Asked) -> Result<Response, Failure> {
    asked.finish()?;
    let settings = asked.app.ledger.settings();
    let feature = |(name, price): (&String, &credits::Price)| json!({ "feature": name, "amount": price.amount, "unit": price.unit });
    let model = |(name, prices): (&String, &credits::TokenPrices)| {
        json!({
            "model": name,
            "unit": prices.unit,
            "per": prices.per,
            "input": prices.input,
            "output": prices.output,
            "cached": prices.cached,
            "reasoning": prices.reasoning,
        })
    };
    let items: Vec<_> = settings.features.iter().map(feature).collect();
    let models: Vec<_> = settings.models.iter().map(model).collect();
    let book = json!({ "version": asked.app.ledger.price_version(), "items": items, "models": models });
    Ok(json_response(200, book.to_string()))
}
