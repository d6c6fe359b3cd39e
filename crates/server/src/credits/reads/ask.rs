//! What both doors ask of the ledger: small things inline, large ones in steps, so that no thread of the database is taken
//! for long.

use crate::app::App;
use credits::reads::{self, Balance, Filter, Group, Listed, Past, Report, Usage, Walk};
use credits::{Owner, Settings};
use kernel::{GuestId, Millis, UserId};
use std::sync::Arc;
use store::Tx;

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("there is no such owner")]
    Nobody,
    #[error("it lies in the future")]
    Future,
    #[error("{0}")]
    Cursor(#[from] reads::BadCursor),
    #[error("{0}")]
    Store(#[from] store::Error),
}

/// Whether there is or was such an owner: what the ledger knows stays readable when its owner is gone.
fn is_known(tx: &mut Tx<'_>, owner: &Owner) -> Result<(), Trouble> {
    let lives = match owner {
        Owner::User(id) => identity::users::exists(tx, &UserId::from_text(id.as_str()))?,
        Owner::Guest(id) => gate::guests::exists(tx, &GuestId::from_text(id.as_str()))?,
        Owner::Organization(_) => false,
    };
    if lives || reads::has_account(tx, owner)? { Ok(()) } else { Err(Trouble::Nobody) }
}

pub(crate) async fn known(app: &App, owner: &Owner) -> Result<(), Trouble> {
    let owner = owner.clone();
    app.store.read(move |tx| is_known(tx, &owner)).await
}

pub(crate) async fn balance(app: &App, owner: &Owner, unit: &str, now: Millis) -> Result<Balance, Trouble> {
    let (asked, name) = (owner.clone(), unit.to_owned());
    let quick = app.store.read(move |tx| {
        let found = reads::quick_balance(tx, &asked, &name, now)?;
        if found.as_ref().is_some_and(|balance| !balance.exists) {
            is_known(tx, &asked)?;
        }
        Ok::<_, Trouble>(found)
    });
    if let Some(balance) = quick.await? {
        return Ok(balance);
    }
    let (owner, unit) = (owner.clone(), unit.to_owned());
    app.store.scan(move |tx| Ok(reads::balance(tx, &owner, &unit, now)?)).await
}

/// As it was at a moment that is over.
pub(crate) async fn past_balance(
    app: &App,
    owner: &Owner,
    unit: &str,
    at: Millis,
    now: Millis,
) -> Result<Balance, Trouble> {
    if at > now {
        return Err(Trouble::Future);
    }
    let (asked, name) = (owner.clone(), unit.to_owned());
    let past = app.store.scan(move |tx| Ok::<_, Trouble>(Past::begin(tx, &asked, &name, at)?)).await?;
    match past {
        Some(past) => Ok(in_steps(app, past, Past::step).await?.finish()),
        // An account that does not exist is nothing at every moment.
        None => balance(app, owner, unit, now).await,
    }
}

/// Entries of a page, and the cursor of the next.
pub(crate) async fn page(
    app: &App,
    filter: &Filter,
    limit: usize,
    cursor: Option<&str>,
) -> Result<(Vec<Listed>, Option<String>), Trouble> {
    let mut walk = match cursor {
        Some(cursor) => Walk::resume(&app.vault, filter, cursor)?,
        None => begin_walk(app, filter).await?,
    };
    let (mut items, mut parts) = (Vec::new(), 0);
    loop {
        // Entries with thousands of parts make a page long before there are many of them.
        let room = if parts < reads::MANY_PARTS { limit - items.len() } else { 0 };
        // That the next entry is at hand tells that there is a next page.
        if walk.is_over() || (room == 0 && walk.has_next()) {
            break;
        }
        let more;
        (walk, more) = walk_on(app, walk, room).await?;
        parts += more.iter().map(|listed| listed.entry.parts.len()).sum::<usize>();
        items.extend(more);
    }
    let next = walk.cursor(&app.vault, filter);
    Ok((items, next))
}

pub(super) async fn begin_walk(app: &App, filter: &Filter) -> Result<Walk, Trouble> {
    let filter = filter.clone();
    let begin = move |tx: &mut Tx<'_>| match Walk::begin(tx, &filter)? {
        Some(walk) => Ok(walk),
        None => is_known(tx, &filter.owner).map(|()| Walk::nowhere()),
    };
    app.store.scan(begin).await
}

/// At most so many entries further.
pub(super) async fn walk_on(app: &App, walk: Walk, most: usize) -> Result<(Walk, Vec<Listed>), store::Error> {
    let step = move |tx: &mut Tx<'_>| {
        let mut walk = walk.clone();
        let items = walk.step(tx, most)?;
        Ok((walk, items))
    };
    app.store.scan(step).await
}

/// From `from` up to but not including `to`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub from: Millis,
    pub to: Millis,
}

/// Where the query names no period.
const USAGE_DAYS: i64 = 30;

impl Span {
    /// What was spent this very millisecond counts as well.
    pub(crate) fn or_last_days(from: Option<Millis>, to: Option<Millis>, now: Millis) -> Span {
        let to = to.unwrap_or(now.plus(1));
        Span { from: from.unwrap_or(to.min(now).minus(USAGE_DAYS * kernel::time::DAY)), to }
    }
}

pub(crate) async fn usage(
    app: &App,
    owner: &Owner,
    unit: &str,
    group: Group,
    span: Span,
    now: Millis,
) -> Result<Report, Trouble> {
    let available = balance(app, owner, unit, now).await?.available();
    let (asked, name) = (owner.clone(), unit.to_owned());
    let begin = move |tx: &mut Tx<'_>| Usage::begin(tx, &asked, &name, group, span.from, span.to);
    let usage: Usage = app.store.scan(begin).await?;
    let settings: Arc<Settings> = app.ledger.settings().clone();
    let usage = in_steps(app, usage, move |usage: &mut Usage, tx: &mut Tx<'_>| usage.step(tx, &settings));
    Ok(usage.await?.finish(available, now))
}

/// Lets a piece of work go on, a read for each step, until it is done.
pub(super) async fn in_steps<W, F>(app: &App, mut work: W, step: F) -> Result<W, store::Error>
where
    W: Clone + Send + 'static,
    F: Fn(&mut W, &mut Tx<'_>) -> Result<bool, store::Error> + Clone + Send + 'static,
{
    loop {
        let step = step.clone();
        // A read may run again, so each run begins with what the step before left.
        let run = move |tx: &mut Tx<'_>| {
            let mut work = work.clone();
            let more = step(&mut work, tx)?;
            Ok::<_, store::Error>((work, more))
        };
        let more;
        (work, more) = app.store.scan(run).await?;
        if !more {
            return Ok(work);
        }
    }
}
