//! Payments that became credits, and what must go back. Both follow from what Stripe says now: the difference to what was done
//! already is done, so that nothing depends on which events came, how often and in which order.

use crate::books::{Books, Problem, owner};
use crate::catalogue::Rollover;
use crate::stripe::objects::Dispute;
use crate::told;
use crate::topups;
use crate::worth::Payment;
use credits::{Action, NewGrant, Owner, Refusal, Shortfall, Source};
use kernel::Millis;
use store::{Error, Row, Tx, params};

macro_rules! columns {
    () => {
        "id, owner, unit, item, payment_intent, credits, grant_no, captured, refunded, disputed, taken_back, frozen, hold_no, \
         currency"
    };
}

const ADD: &str = "
    INSERT INTO billing_payments (id, owner, unit, item, payment_intent, currency, credits, grant_no, captured, refunded,
      disputed, taken_back, frozen, hold_no, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, 0, 0, 0, 0, NULL, $9, $9)
    ON CONFLICT (id) DO NOTHING";
const SET_GRANT: &str = "UPDATE billing_payments SET grant_no = $2 WHERE id = $1";
const OF_INTENT: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM billing_payments WHERE payment_intent = $1 ORDER BY created_at, id"
);
const CHANGE: &str = "
    UPDATE billing_payments SET captured = $2, refunded = $3, disputed = $4, taken_back = $5, frozen = $6, hold_no = $7,
      updated_at = $8
    WHERE id = $1";
const ADD_TAKEBACK: &str =
    "INSERT INTO billing_takebacks (payment_id, seq, amount, taken) VALUES ($1, $2, $3, $4)";
const TAKEBACKS: &str = "
    SELECT seq, amount, taken FROM billing_takebacks WHERE payment_id = $1 AND amount > 0 ORDER BY seq DESC";
const CHANGE_TAKEBACK: &str =
    "UPDATE billing_takebacks SET amount = $3, taken = $4 WHERE payment_id = $1 AND seq = $2";
const STANDING: &str = "SELECT standing FROM billing_disputes WHERE id = $1";
const PUT_DISPUTE: &str = "
    INSERT INTO billing_disputes (id, payment_intent, amount, status, standing, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $6)
    ON CONFLICT (id) DO UPDATE SET amount = excluded.amount, status = excluded.status, standing = excluded.standing,
      updated_at = excluded.updated_at";

/// Money that arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Paid<'a> {
    /// The business key: `cs:…`, `in:…` or `pi:…`.
    pub key: &'a str,
    pub owner: &'a Owner,
    pub unit: &'a str,
    /// The pack's or plan's name.
    pub item: &'a str,
    pub payment_intent: Option<&'a str>,
    pub currency: &'a str,
    pub captured: i64,
    pub credits: i64,
    pub source: Source,
    pub expires_at: Option<Millis>,
    pub rollover: Rollover,
    pub reason: &'a str,
}

/// What a dispute means for credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// An inquiry, or it ended well: the money is ours.
    Ours,
    /// Open: the money was withdrawn until it is decided.
    Open,
    Lost,
}

impl Standing {
    pub fn name(self) -> &'static str {
        match self {
            Standing::Ours => "ours",
            Standing::Open => "open",
            Standing::Lost => "lost",
        }
    }

    fn parse(text: &str) -> Option<Standing> {
        [Standing::Ours, Standing::Open, Standing::Lost].into_iter().find(|standing| standing.name() == text)
    }

    /// `None` for a status that nobody knew when this was written: it changes nothing.
    fn of(status: &str) -> Option<Standing> {
        match status {
            "warning_needs_response" | "warning_under_review" | "warning_closed" | "won" | "prevented" => {
                Some(Standing::Ours)
            }
            "needs_response" | "under_review" => Some(Standing::Open),
            // An appeal does not bring the money back; winning it does.
            "lost" | "appeal_needs_response" | "appeal_under_review" => Some(Standing::Lost),
            _ => None,
        }
    }
}

/// What an open dispute does to credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDispute {
    /// They are taken back at once, and given back if it is won.
    ClawBack,
    /// They are kept from being spent until it is decided.
    Freeze,
}

/// What Stripe says about a payment now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Money<'a> {
    pub payment_intent: &'a str,
    pub captured: i64,
    /// All refunds that did not fail.
    pub refunded: i64,
    pub disputes: &'a [Dispute],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    pub on_dispute: OnDispute,
    pub shortfall: Shortfall,
}

/// What was done, for the inbox and for those who are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Granted {
        owner: Owner,
        unit: String,
        credits: i64,
        item: String,
    },
    /// The owner is gone: the payment is noted and gives nothing.
    GrantedToNobody {
        owner: Owner,
        item: String,
    },
    TakenBack {
        owner: Owner,
        unit: String,
        credits: i64,
        item: String,
    },
    GivenBack {
        owner: Owner,
        unit: String,
        credits: i64,
        item: String,
    },
    Frozen {
        owner: Owner,
        unit: String,
        credits: i64,
    },
    Thawed {
        owner: Owner,
        unit: String,
        credits: i64,
    },
    /// Nothing moved in the ledger.
    Noted(String),
}

impl std::fmt::Display for Effect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Effect::Granted { owner, unit, credits, item } => {
                write!(f, "granted {credits} {unit} to {owner} for {item}")
            }
            Effect::GrantedToNobody { owner, item } => {
                write!(f, "{owner} is gone: nothing was granted for {item}; consider a refund")
            }
            Effect::TakenBack { owner, unit, credits, item } => {
                write!(f, "took {credits} {unit} back from {owner} for {item}")
            }
            Effect::GivenBack { owner, unit, credits, item } => {
                write!(f, "gave {credits} {unit} back to {owner} for {item}")
            }
            Effect::Frozen { owner, unit, credits } => write!(f, "froze {credits} {unit} of {owner}"),
            Effect::Thawed { owner, unit, credits } => write!(f, "thawed {credits} {unit} of {owner}"),
            Effect::Noted(text) => f.write_str(text),
        }
    }
}

/// Turns money into credits, once for a key.
pub fn grant(tx: &mut Tx<'_>, books: Books<'_>, paid: &Paid<'_>) -> Result<Option<Effect>, Problem> {
    let owner = paid.owner.to_string();
    let values = params![
        paid.key,
        &owner,
        paid.unit,
        paid.item,
        paid.payment_intent,
        paid.currency,
        paid.credits,
        paid.captured,
        books.now
    ];
    if tx.execute(ADD, values)? == 0 {
        return Ok(None);
    }
    told::completed(tx, paid, books.now)?;
    let action = Action::Grant(NewGrant {
        amount: paid.credits,
        source: paid.source,
        expires_at: paid.expires_at,
        priority: 50,
        reason: Some(paid.reason.to_owned()),
        metadata: None,
        source_ref: Some(paid.key.to_owned()),
        rollover: paid.rollover.most(),
    });
    let item = paid.item.to_owned();
    match books.apply(tx, paid.owner, paid.unit, action) {
        Ok(answer) => {
            let grant =
                answer.figures.grant.ok_or_else(|| Problem::Odd("a grant without a number".into()))?;
            tx.execute(SET_GRANT, params![paid.key, grant])?;
            let (owner, unit) = (paid.owner.clone(), paid.unit.to_owned());
            Ok(Some(Effect::Granted { owner, unit, credits: paid.credits, item }))
        }
        Err(Problem::Refused(Refusal::UnknownOwner { .. } | Refusal::NotFound { .. })) => {
            Ok(Some(Effect::GrantedToNobody { owner: paid.owner.clone(), item }))
        }
        Err(problem) => Err(problem),
    }
}

/// Brings what was taken back and frozen to what Stripe says. `None` when no payment of ours has this intent.
pub fn settle(
    tx: &mut Tx<'_>,
    books: Books<'_>,
    policy: Policy,
    money: &Money<'_>,
) -> Result<Option<Vec<Effect>>, Problem> {
    let rows = tx.query(OF_INTENT, params![money.payment_intent], read)?;
    if rows.is_empty() {
        return Ok(None);
    }
    let (mut open, mut lost) = (0_i64, 0_i64);
    for dispute in money.disputes {
        let known = tx.query_opt(STANDING, params![&dispute.id], |row| row.get::<String>(0))?;
        let known = known.as_deref().and_then(Standing::parse);
        let standing = Standing::of(&dispute.status).or(known).unwrap_or(Standing::Ours);
        match standing {
            Standing::Ours => {}
            Standing::Open => open = open.saturating_add(dispute.amount.max(0)),
            Standing::Lost => lost = lost.saturating_add(dispute.amount.max(0)),
        }
        let values = params![
            &dispute.id,
            money.payment_intent,
            dispute.amount,
            &dispute.status,
            standing.name(),
            books.now
        ];
        tx.execute(PUT_DISPUTE, values)?;
        told::dispute(tx, &rows[0], dispute, (known, standing), books.now)?;
        if known != Some(standing) && standing != Standing::Ours {
            topups::switch_off(tx, &rows[0].owner, topups::DISPUTED, books.now)?;
        }
    }
    let mut effects = Vec::new();
    for row in rows {
        settle_one(tx, books, policy, money, (open, lost), row, &mut effects)?;
    }
    Ok(Some(effects))
}

fn settle_one(
    tx: &mut Tx<'_>,
    books: Books<'_>,
    policy: Policy,
    money: &Money<'_>,
    (open, lost): (i64, i64),
    mut row: Granted,
    effects: &mut Vec<Effect>,
) -> Result<(), Problem> {
    // Nothing was given, so nothing goes back.
    let credits = if row.grant_no > 0 { row.credits } else { 0 };
    let gone = |disputed| {
        Payment { credits, captured: money.captured, refunded: money.refunded, disputed }.taken_back()
    };
    let with_open = gone(open.saturating_add(lost));
    let (target, frozen) = match policy.on_dispute {
        OnDispute::ClawBack => (with_open, 0),
        OnDispute::Freeze => (gone(lost), with_open - gone(lost)),
    };
    let hold_before = row.hold_no;
    if target > row.taken_back {
        row.take_back(tx, books, policy.shortfall, target - row.taken_back, effects)?;
        topups::calm(tx, &row.owner, &row.unit)?;
    } else if target < row.taken_back {
        row.give_back(tx, books, row.taken_back - target, effects)?;
    }
    // What was taken back came out of the freeze as far as it could, perhaps more of it than was decided.
    if row.frozen != frozen || row.hold_no != hold_before {
        row.freeze(tx, books, frozen, effects)?;
    }
    let values = params![
        &row.id,
        money.captured,
        money.refunded,
        open.saturating_add(lost),
        target,
        row.frozen,
        row.hold_no,
        books.now
    ];
    tx.execute(CHANGE, values)?;
    if money.refunded != row.refunded {
        told::refunded(tx, &row, money, target, books.now)?;
    }
    Ok(())
}

/// A row of `billing_payments`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    pub id: String,
    pub owner: Owner,
    pub unit: String,
    pub item: String,
    pub payment_intent: Option<String>,
    pub credits: i64,
    grant_no: i64,
    pub captured: i64,
    pub refunded: i64,
    pub disputed: i64,
    pub taken_back: i64,
    pub frozen: i64,
    hold_no: Option<i64>,
    pub currency: String,
}

impl Granted {
    /// What is frozen for this payment goes first.
    fn take_back(
        &mut self,
        tx: &mut Tx<'_>,
        books: Books<'_>,
        shortfall: Shortfall,
        amount: i64,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Problem> {
        let action = Action::ClawBack {
            amount,
            frozen: self.hold_no,
            grant: Some(self.grant_no),
            shortfall,
            reason: format!("money for {} went back", self.item),
            source_ref: Some(self.id.clone()),
        };
        let answer = books.apply(tx, &self.owner, &self.unit, action)?;
        let seq = answer.figures.entry.ok_or_else(|| Problem::Odd("a claw-back without an entry".into()))?;
        tx.execute(ADD_TAKEBACK, params![&self.id, seq, amount, answer.figures.amount])?;
        self.hold_no = answer.figures.hold;
        let (owner, unit, item) = (self.owner.clone(), self.unit.clone(), self.item.clone());
        effects.push(Effect::TakenBack { owner, unit, credits: answer.figures.amount, item });
        Ok(())
    }

    /// Newest first. Of a claw-back that found less than it should have taken, only what it took comes back.
    fn give_back(
        &self,
        tx: &mut Tx<'_>,
        books: Books<'_>,
        amount: i64,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Problem> {
        let read = |row: &Row<'_>| Ok((row.get::<i64>(0)?, row.get::<i64>(1)?, row.get::<i64>(2)?));
        let (mut left, mut given) = (amount, 0);
        for (seq, owed, taken) in tx.query(TAKEBACKS, params![&self.id], read)? {
            if left == 0 {
                break;
            }
            let part = left.min(owed);
            left -= part;
            let still_taken = taken.min(owed - part);
            let back = taken - still_taken;
            tx.execute(CHANGE_TAKEBACK, params![&self.id, seq, owed - part, still_taken])?;
            if back > 0 {
                let action = Action::Reinstate {
                    entry: seq,
                    amount: Some(back),
                    reason: format!("money for {} came back", self.item),
                    source_ref: Some(self.id.clone()),
                };
                books.apply(tx, &self.owner, &self.unit, action)?;
                given += back;
            }
        }
        let (owner, unit, item) = (self.owner.clone(), self.unit.clone(), self.item.clone());
        effects.push(Effect::GivenBack { owner, unit, credits: given, item });
        Ok(())
    }

    /// So much of what is there; what was spent already cannot be kept from being spent.
    fn freeze(
        &mut self,
        tx: &mut Tx<'_>,
        books: Books<'_>,
        amount: i64,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Problem> {
        let before = std::mem::replace(&mut self.frozen, amount);
        if amount == 0 && self.hold_no.is_none() {
            return Ok(());
        }
        let reason = format!("the payment for {} is disputed", self.item);
        let action = Action::Freeze { amount, instead_of: self.hold_no, reason };
        let figures = books.apply(tx, &self.owner, &self.unit, action)?.figures;
        let (owner, unit) = (self.owner.clone(), self.unit.clone());
        if amount == 0 {
            self.hold_no = None;
            effects.push(Effect::Thawed { owner, unit, credits: figures.amount });
        } else if figures.hold != self.hold_no {
            self.hold_no = figures.hold;
            effects.push(match amount < before {
                true => Effect::Thawed { owner, unit, credits: before - amount },
                false => Effect::Frozen { owner, unit, credits: figures.amount },
            });
        }
        Ok(())
    }
}

/// Payments of ours with this intent.
pub fn of_intent(tx: &mut Tx<'_>, payment_intent: &str) -> Result<Vec<Granted>, Error> {
    tx.query(OF_INTENT, params![payment_intent], read)
}

fn read(row: &Row<'_>) -> Result<Granted, Error> {
    Ok(Granted {
        id: row.get(0)?,
        owner: owner(row.text(1)?)?,
        unit: row.get(2)?,
        item: row.get(3)?,
        payment_intent: row.get(4)?,
        credits: row.get(5)?,
        grant_no: row.get(6)?,
        captured: row.get(7)?,
        refunded: row.get(8)?,
        disputed: row.get(9)?,
        taken_back: row.get(10)?,
        frozen: row.get(11)?,
        hold_no: row.get(12)?,
        currency: row.get(13)?,
    })
}
