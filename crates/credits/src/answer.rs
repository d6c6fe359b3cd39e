//! What is answered. Within the transaction an answer is a [`Receipt`]: the rows that it tells of, as they were then. Its
//! text is made from them where nobody waits for the writer, at first and on a replay by the same lines.

use crate::account::{Account, Hold, Limit, Lot, grant_members, hold_members, owed};
use crate::command::{Action, Answer, Figures};
use crate::entry::Entry;
use crate::json::Object;
use crate::machine::{Outcome, whose};
use crate::owner::Owner;
use crate::settings::Settings;
use crate::spender::SpentBy;
use kernel::Millis;

#[derive(Debug, Clone)]
pub(crate) struct Receipt {
    pub status: u16,
    pub replayed: bool,
    pub figures: Figures,
    pub content: Content,
}

#[derive(Debug, Clone)]
pub(crate) enum Content {
    Rows(Box<Rows>),
    /// JSON that has been made already.
    Text(String),
}

/// The rows that an answer tells of.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    pub owner: Owner,
    pub grant: Option<Lot>,
    pub hold: Option<Hold>,
    pub entry: Option<Entry>,
    pub negative_floor: Option<i64>,
}

impl Receipt {
    /// Of what was just done.
    pub fn new(
        settings: &Settings,
        account: &Account,
        action: &Action,
        outcome: Outcome,
        now: Millis,
    ) -> Receipt {
        let figures = figures(account, &outcome);
        if let Action::SetLimit { of, period, .. } = action {
            let mut limits = match of {
                None => account.limits.iter(),
                Some(part) => account.spenders.get(part).map_or([].iter(), |limits| limits.iter()),
            };
            let limit = limits.find(|limit| limit.period == *period);
            let limit = limit.map(|limit| limit_json(settings, account, of.as_ref(), limit, now));
            let mut object = Object::new();
            object.raw("limit", limit.as_deref().unwrap_or("null"));
            return Receipt { status: 200, replayed: false, figures, content: Content::Text(object.end()) };
        }
        let status = match action {
            Action::Capture { .. } | Action::Release { .. } | Action::Extend { .. } => 200,
            Action::Settle | Action::SetFloor { .. } | Action::SetLimit { .. } => 200,
            _ => 201,
        };
        let rows = Rows {
            owner: account.owner.clone(),
            grant: outcome.grant.and_then(|no| account.lots.get(&no)).cloned(),
            hold: outcome.hold.and_then(|no| account.holds.get(&no)).cloned(),
            entry: outcome.entry,
            negative_floor: matches!(action, Action::SetFloor { .. }).then_some(account.negative_floor),
        };
        Receipt { status, replayed: false, figures, content: Content::Rows(Box::new(rows)) }
    }

    pub fn again(self) -> Receipt {
        Receipt { replayed: true, ..self }
    }

    pub fn entry(&self) -> Option<&Entry> {
        match &self.content {
            Content::Rows(rows) => rows.entry.as_ref(),
            Content::Text(_) => None,
        }
    }

    /// Makes the text here and now, and gives it.
    pub fn render(&mut self) -> &str {
        let content = std::mem::replace(&mut self.content, Content::Text(String::new()));
        self.content = Content::Text(content.text(&self.figures));
        match &self.content {
            Content::Text(text) => text,
            Content::Rows(_) => "",
        }
    }

    pub fn answer(self) -> Answer {
        let Receipt { status, replayed, figures, content } = self;
        let body = content.text(&figures);
        Answer { status, body, replayed, figures }
    }
}

impl Content {
    fn text(self, figures: &Figures) -> String {
        let rows = match self {
            Content::Text(text) => return text,
            Content::Rows(rows) => rows,
        };
        let (account, unit) = (&figures.account, figures.unit.as_str());
        let mut object = Object::new();
        if let Some(lot) = &rows.grant {
            object.object("grant", |object| grant_members(object, account, &rows.owner, unit, lot));
        }
        if let Some(hold) = &rows.hold {
            object.object("hold", |object| hold_members(object, account, &rows.owner, unit, hold));
        }
        if let Some(entry) = &rows.entry {
            object.object("entry", |object| entry.answer_members(object, &rows.owner, unit));
        }
        if let Some(floor) = rows.negative_floor {
            object.number("negative_floor", floor);
        }
        object.object("balance", |object| figures.members(object));
        object.end()
    }
}

impl Figures {
    /// `unit, balance, held, available, owed`
    fn members(&self, object: &mut Object) {
        object.text("unit", &self.unit);
        object.number("balance", self.balance);
        object.number("held", self.held);
        object.number("available", self.available());
        object.number("owed", self.owed);
    }
}

fn figures(account: &Account, outcome: &Outcome) -> Figures {
    let held = || outcome.hold.and_then(|no| account.holds.get(&no)).map_or(0, |hold| hold.amount);
    Figures {
        account: account.id.clone(),
        entry: outcome.entry.as_ref().map(|entry| entry.seq),
        hold: outcome.hold,
        grant: outcome.grant,
        amount: outcome.entry.as_ref().map_or_else(held, |entry| entry.amount.abs()),
        unit: account.unit.clone(),
        balance: account.balance,
        held: account.held,
        owed: owed(account.balance, account.owed),
    }
}

/// A limit as it stands in answers.
pub(crate) fn limit_json(
    settings: &Settings,
    account: &Account,
    of: Option<&SpentBy>,
    limit: &Limit,
    now: Millis,
) -> String {
    let (starts_at, resets_at) = settings.window(limit.period, now);
    let mut object = Object::new();
    let (scope, id) = whose(account, of);
    object.text("scope", scope);
    object.text("id", id);
    object.text("unit", &account.unit);
    object.text("window", limit.period.name());
    object.number("max", limit.max);
    object.number("used", if starts_at > limit.starts_at { 0 } else { limit.used });
    object.time("resets_at", resets_at);
    object.end()
}
