//! Reads against a ledger on SQLite with a clock of the test's own; the black-box tests ask both engines.

use super::*;
use crate::command::{Action, Charge, Command, NewGrant, Target};
use crate::entry::{Entry, Kind, Source};
use crate::lane::{OwnerExists, apply_in};
use crate::settings::Settings;
use crate::{Above, HoldStatus};
use kernel::vault::DataKey;
use kernel::{Vault, random};
use rand::RngExt as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use store::{Options, Store};

struct Books {
    store: Store,
    vault: Vault,
    settings: Arc<Settings>,
    _folder: tempfile::TempDir,
}

const UNIT: &str = "credits";
const DAY: i64 = kernel::time::DAY;

fn ada() -> Owner {
    Owner::User("ada".into())
}

impl Books {
    fn open() -> Books {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("books.db").display());
        let store = Store::open(&Options { url, pool_size: 1 }).unwrap();
        store.migrate().unwrap();
        let vault = Vault::new(&DataKey::generate(&mut random::secure()));
        let settings = Settings { units: vec![UNIT.into(), "tokens".into()], ..Settings::default() };
        Books { store, vault, settings: Arc::new(settings), _folder: folder }
    }

    /// The answer as JSON; `None` when the ledger refused.
    async fn act(&self, target: Target, action: Action, at: i64) -> Option<serde_json::Value> {
        let command = Command { target, action, actor: "key:a".into(), request_id: None, idempotency: None };
        let (vault, settings) = (self.vault.clone(), self.settings.clone());
        let exists: OwnerExists = Arc::new(|_, _| Ok(true));
        let results = self
            .store
            .write(move |tx| apply_in(tx, &settings, &vault, &exists, vec![command.clone()], Millis(at)))
            .await;
        let answer = results.unwrap().remove(0).ok()?;
        Some(serde_json::from_str(&answer.body).unwrap())
    }

    async fn on(&self, unit: &str, action: Action, at: i64) -> Option<serde_json::Value> {
        self.act(Target::Owner { owner: ada(), unit: unit.into() }, action, at).await
    }

    async fn read<T: Send + 'static>(
        &self,
        run: impl Fn(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    ) -> T {
        self.store.scan(run).await.unwrap()
    }

    async fn balance(&self, at: i64) -> Balance {
        let slow = self.read(move |tx| balance(tx, &ada(), UNIT, Millis(at))).await;
        let quick = self.read(move |tx| quick_balance(tx, &ada(), UNIT, Millis(at))).await;
        assert!(quick.is_none_or(|quick| quick == slow), "both ways of reading give the same");
        slow
    }

    async fn past(&self, at: i64) -> Balance {
        let read = move |tx: &mut Tx<'_>| {
            let mut past = Past::begin(tx, &ada(), UNIT, Millis(at))?.expect("an account");
            while past.step(tx)? {}
            Ok(past.finish())
        };
        self.read(read).await
    }

    async fn all(&self, filter: Filter, step: usize) -> Vec<Listed> {
        let read = move |tx: &mut Tx<'_>| {
            let mut walk = Walk::begin(tx, &filter)?.expect("an account");
            let mut found = Vec::new();
            while !walk.is_over() {
                let more = walk.step(tx, step)?;
                assert!(more.len() <= step);
                found.extend(more);
            }
            Ok(found)
        };
        self.read(read).await
    }
}

fn everything() -> Filter {
    Filter { owner: ada(), unit: None, kinds: Vec::new(), from: None, to: None }
}

fn grant(amount: i64, expires_at: Option<i64>) -> Action {
    Action::Grant(NewGrant {
        amount,
        source: Source::Paid,
        expires_at: expires_at.map(Millis),
        priority: 50,
        reason: None,
        metadata: None,
        source_ref: None,
        rollover: None,
    })
}

fn charge(amount: i64) -> Charge {
    Charge { amount, ..Charge::default() }
}

fn debit(amount: i64) -> Action {
    Action::Debit { charge: charge(amount), reason: None, metadata: None, allow_negative: false }
}

fn hold_for(amount: i64, time: i64) -> Action {
    Action::Hold { charge: charge(amount), expires_in: time, reason: None, metadata: None }
}

fn figures(balance: &Balance) -> [i64; 4] {
    [balance.balance, balance.held, balance.available(), balance.debt]
}

#[tokio::test]
async fn what_has_ended_does_not_count_although_nobody_settled_it() {
    let books = Books::open();
    books.on(UNIT, grant(100, Some(1_000)), 10).await.unwrap();
    books.on(UNIT, grant(50, None), 20).await.unwrap();
    assert_eq!(figures(&books.balance(999).await), [150, 0, 150, 0]);
    assert_eq!(figures(&books.balance(1_000).await), [50, 0, 50, 0]);
    // A hold of 110 takes all of the first lot and 10 of the second; it outlives the lot.
    books.on(UNIT, hold_for(110, 2_000), 30).await.unwrap();
    let held = books.balance(999).await;
    assert_eq!((figures(&held), held.grants.len()), ([150, 110, 40, 0], 2));
    let outlived = books.balance(1_500).await;
    assert_eq!(figures(&outlived), [150, 110, 40, 0], "a held part counts until the hold ends");
    assert_eq!(outlived.grants.len(), 1, "but its grant is gone");
    assert_eq!(figures(&books.balance(2_030).await), [50, 0, 50, 0]);
    for at in [10, 999, 1_000, 1_500, 2_029, 2_030, 5_000] {
        // Nobody has settled anything: what comes later than the hold is the same, seen from then.
        if at >= 30 {
            assert_eq!(books.past(at).await, books.balance(at).await, "at {at}");
        }
    }
    assert_eq!(figures(&books.past(10).await), [100, 0, 100, 0]);
    assert_eq!(figures(&books.past(9).await), [0, 0, 0, 0]);
}

#[tokio::test]
async fn an_owner_without_an_account_has_nothing() {
    let books = Books::open();
    let none = books.balance(5).await;
    assert_eq!((none.exists, figures(&none)), (false, [0, 0, 0, 0]));
    assert!(!books.read(|tx| has_account(tx, &ada())).await);
    assert!(books.read(|tx| Walk::begin(tx, &everything())).await.is_none());
    assert!(books.read(|tx| Past::begin(tx, &ada(), UNIT, Millis(5))).await.is_none());
}

/// A life of random commands; gives the moments at which something happened.
async fn live(books: &Books, steps: i64) -> i64 {
    let mut rng = random::secure();
    let mut now = 1_000;
    let mut holds = Vec::new();
    let mut debits = Vec::new();
    for _ in 0..steps {
        now += rng.random_range(0..40);
        match rng.random_range(0..10) {
            0..=2 => {
                let end = rng.random_bool(0.7).then(|| now + rng.random_range(1..400));
                books.on(UNIT, grant(rng.random_range(1..60), end), now).await;
            }
            3..=5 => {
                let made = books.on(UNIT, debit(rng.random_range(1..40)), now).await;
                debits.extend(made.map(|made| made["entry"]["seq"].as_i64().unwrap()));
            }
            6 | 7 => {
                let made =
                    books.on(UNIT, hold_for(rng.random_range(1..30), rng.random_range(1..300)), now).await;
                let id = made.map(|made| made["hold"]["id"].as_str().unwrap().to_string());
                holds.extend(id);
            }
            8 if !holds.is_empty() => {
                let id = holds.swap_remove(rng.random_range(0..holds.len()));
                let (account, hold) = crate::parse_item(&id, crate::Item::Hold).unwrap();
                let action = match rng.random_bool(0.5) {
                    true => Action::Capture { hold, amount: None, above: Above::Refuse },
                    false => Action::Release { hold },
                };
                books.act(Target::Account(account), action, now).await;
            }
            _ if !debits.is_empty() => {
                let entry = debits.swap_remove(rng.random_range(0..debits.len()));
                let action = Action::Refund { entry, amount: None, reason: "r".into() };
                books.on(UNIT, action, now).await;
            }
            _ => {}
        }
    }
    now
}

#[tokio::test]
async fn a_moment_of_the_past_is_what_its_entries_add_up_to() {
    let books = Books::open();
    books.on(UNIT, grant(1, None), 1_000).await.unwrap();
    let end = live(&books, 400).await;
    let entries: Vec<Entry> =
        books.all(everything(), 100).await.into_iter().map(|listed| listed.entry).collect();
    let ends: BTreeMap<i64, i64> = books
        .read(|tx| {
            tx.query("SELECT no, expires_at FROM credit_lots", &[], |row| Ok((row.get(0)?, row.get(1)?)))
        })
        .await
        .into_iter()
        .collect();
    let mut rng = random::secure();
    for _ in 0..200 {
        let at = rng.random_range(1_000..=end);
        let mut lots: BTreeMap<Option<i64>, i64> = BTreeMap::new();
        for part in entries.iter().filter(|entry| entry.created_at <= Millis(at)).flat_map(|e| &e.parts) {
            *lots.entry(part.lot).or_default() += part.amount;
        }
        let found = books.past(at).await;
        let alive = |lot: &i64| ends[lot] > at;
        let expected: BTreeMap<i64, i64> = lots
            .iter()
            .filter_map(|(lot, left)| Some(((*lot)?, *left)))
            .filter(|(lot, left)| alive(lot) && *left > 0)
            .collect();
        let grants: BTreeMap<i64, i64> = found.grants.iter().map(|lot| (lot.no, lot.remaining)).collect();
        assert_eq!(grants, expected, "at {at}");
        assert_eq!(found.debt, -lots.get(&None).copied().unwrap_or(0), "at {at}");
        let held_by_the_dead = found.balance + found.debt - expected.values().sum::<i64>();
        assert!((0..=found.held).contains(&held_by_the_dead), "at {at}: {found:?}");
    }
    // Now, both ways of asking are one.
    assert_eq!(books.past(end).await, books.balance(end).await);
}

#[tokio::test]
async fn pages_neither_repeat_nor_skip_while_entries_are_written() {
    let books = Books::open();
    for at in 0..40 {
        let unit = if at % 3 == 0 { "tokens" } else { UNIT };
        books.on(unit, grant(10, None), 100 + at / 4).await.unwrap();
    }
    let whole = books.all(everything(), 7).await;
    let times: Vec<Millis> = whole.iter().map(|listed| listed.entry.created_at).collect();
    assert_eq!(whole.len(), 40);
    assert!(times.is_sorted_by(|one, next| one >= next), "newest first");
    let filter = everything();
    let mut walk = books.read(|tx| Walk::begin(tx, &everything())).await.unwrap();
    let mut paged = Vec::new();
    loop {
        let (vault, mut page) = (books.vault.clone(), walk.clone());
        let (listed, next) = books
            .read(move |tx| {
                let mut walk = page.clone();
                let mut listed = Vec::new();
                while listed.len() < 3 && !walk.is_over() || !walk.is_over() && !walk.has_next() {
                    listed.extend(walk.step(tx, 3 - listed.len())?);
                }
                Ok((listed, walk.cursor(&vault, &everything())))
            })
            .await;
        page = walk.clone();
        let _ = page;
        paged.extend(listed);
        // Even of a unit that the owner did not have before, and at a moment of before.
        books.on(if paged.len() % 2 == 0 { UNIT } else { "tokens" }, grant(1, None), 100).await.unwrap();
        let Some(next) = next else { break };
        for changed in [
            Filter { unit: Some(UNIT.into()), ..everything() },
            Filter { to: Some(Millis(9)), ..everything() },
        ] {
            assert!(Walk::resume(&books.vault, &changed, &next).is_err(), "it belongs to its question");
        }
        let mut broken = next.clone();
        broken.replace_range(0..1, if next.starts_with('W') { "X" } else { "W" });
        assert!(Walk::resume(&books.vault, &filter, &broken).is_err());
        walk = Walk::resume(&books.vault, &filter, &next).unwrap();
    }
    assert_eq!(paged, whole);
}

/// An entry has a part for each lot that it touched, so few entries may be much to read.
#[tokio::test]
async fn entries_of_many_parts_come_in_small_pieces() {
    let books = Books::open();
    let lots = 1_500;
    let many = vec![grant(1, None); lots];
    let command = |action| Command {
        target: Target::Owner { owner: ada(), unit: UNIT.into() },
        action,
        actor: "key:a".into(),
        request_id: None,
        idempotency: None,
    };
    let commands: Vec<Command> = many.into_iter().map(command).collect();
    let (vault, settings) = (books.vault.clone(), books.settings.clone());
    let exists: OwnerExists = Arc::new(|_, _| Ok(true));
    let run = move |tx: &mut Tx<'_>| {
        apply_in(tx, &settings, &vault, &exists, commands.clone(), Millis(10)).map(|results| results.len())
    };
    assert_eq!(books.store.write(run).await.unwrap(), lots);
    for round in 0..10 {
        books.on(UNIT, debit(lots as i64), 20 + round).await.unwrap();
        let entry = lots as i64 + 1 + 2 * round;
        let back = Action::Refund { entry, amount: None, reason: "back".into() };
        books.on(UNIT, back, 20 + round).await.unwrap();
    }
    let pieces = |walk: &Walk, tx: &mut Tx<'_>| {
        let (mut walk, mut pieces) = (walk.clone(), Vec::new());
        while !walk.is_over() {
            pieces.push(walk.step(tx, 200)?);
        }
        Ok::<_, Error>(pieces)
    };
    let walk = books.read(|tx| Walk::begin(tx, &everything())).await.unwrap();
    let pieces = books.read(move |tx| pieces(&walk, tx)).await;
    for piece in &pieces {
        let parts: usize = piece.iter().map(|listed| listed.entry.parts.len()).sum();
        assert!(parts < MANY_PARTS + lots, "{parts} parts in one piece");
    }
    let seqs: Vec<i64> = pieces.iter().flatten().map(|listed| listed.entry.seq).collect();
    assert_eq!(seqs, (1..=lots as i64 + 20).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn filters_bound_kind_time_and_unit() {
    let books = Books::open();
    for at in 0..30 {
        books.on(UNIT, grant(10, None), 100 + at).await.unwrap();
        books.on(UNIT, debit(1), 100 + at).await.unwrap();
    }
    books.on("tokens", grant(10, None), 110).await.unwrap();
    let debits = Filter {
        kinds: vec![Kind::Debit, Kind::Debit],
        from: Some(Millis(105)),
        to: Some(Millis(120)),
        unit: Some(UNIT.into()),
        ..everything()
    };
    let found = books.all(debits, 4).await;
    let times: Vec<i64> = found.iter().map(|listed| listed.entry.created_at.0).collect();
    assert_eq!(times, (105..120).rev().collect::<Vec<i64>>());
    assert!(found.iter().all(|listed| listed.entry.kind == Kind::Debit));
    assert_eq!(books.all(everything(), 100).await.len(), 61);
    let later = Filter { from: Some(Millis(130)), ..everything() };
    assert_eq!(books.all(later, 100).await.len(), 0);
}

#[tokio::test]
async fn usage_counts_refunds_against_their_own_time() {
    let books = Books::open();
    books.on(UNIT, grant(1_000, None), 10).await.unwrap();
    books.on(UNIT, debit(30), 10).await.unwrap();
    let made = books.on(UNIT, debit(50), DAY).await.unwrap();
    let entry = made["entry"]["seq"].as_i64().unwrap();
    let hold = books.on(UNIT, hold_for(20, 1_000), DAY + 1).await.unwrap();
    let (account, hold) = crate::parse_item(hold["hold"]["id"].as_str().unwrap(), crate::Item::Hold).unwrap();
    let capture = Action::Capture { hold, amount: None, above: Above::Refuse };
    books.act(Target::Account(account), capture, DAY + 2).await.unwrap();
    books.on(UNIT, Action::Refund { entry, amount: Some(10), reason: "r".into() }, 2 * DAY).await.unwrap();
    let settings = books.settings.clone();
    let usage = move |tx: &mut Tx<'_>, group, from: i64, to: i64| {
        let mut usage = Usage::begin(tx, &ada(), UNIT, group, Millis(from), Millis(to))?;
        while usage.step(tx, &settings)? {}
        Ok::<Report, Error>(usage.finish(910, Millis(4 * DAY)))
    };
    let ask = usage.clone();
    let days = books.read(move |tx| ask(tx, Group::Day, 0, 4 * DAY)).await;
    let items: Vec<(&str, i64, i64)> =
        days.items.iter().map(|item| (item.name.as_deref().unwrap_or("-"), item.spent, item.count)).collect();
    assert_eq!(items, [("1970-01-01", 30, 1), ("1970-01-02", 70, 2), ("1970-01-03", -10, 0)]);
    assert_eq!((days.total, days.burn_per_day, days.days_left), (90, 22.5, Some(40.44)));
    let ask = usage.clone();
    let keys = books.read(move |tx| ask(tx, Group::Key, DAY, 2 * DAY)).await;
    assert_eq!(
        keys.json(),
        r#"{"items":[{"key":"key:a","spent":70,"count":2}],"total":70,"burn_per_day":70,"days_left":13}"#
    );
    let none = books.read(move |tx| usage(tx, Group::Feature, 3 * DAY, 4 * DAY)).await;
    assert_eq!((none.items.len(), none.days_left), (0, None));
}

#[tokio::test]
async fn holds_are_listed_as_they_are_now() {
    let books = Books::open();
    books.on(UNIT, grant(100, None), 10).await.unwrap();
    let mut ids = Vec::new();
    for number in 0..5 {
        let made = books.on(UNIT, hold_for(1, 100 * (number + 1)), 20).await.unwrap();
        ids.push(made["hold"]["id"].as_str().unwrap().to_string());
    }
    let list = |status: Option<HoldStatus>, now: i64| {
        let (vault, books) = (books.vault.clone(), &books);
        async move {
            let mut found = Vec::new();
            let mut cursor: Option<String> = None;
            loop {
                let (vault, from) = (vault.clone(), cursor.clone());
                let page = books
                    .read(move |tx| {
                        let mut page = match &from {
                            None => HoldsPage::begin(tx, &ada(), UNIT, status, 2)?,
                            Some(from) => HoldsPage::resume(&vault, &ada(), UNIT, status, 2, from).unwrap(),
                        };
                        while page.step(tx, Millis(now))? {}
                        Ok(page.json(&vault))
                    })
                    .await;
                let page: serde_json::Value = serde_json::from_str(&page).unwrap();
                let ids = page["items"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|hold| hold["id"].as_str().unwrap().to_string());
                found.extend(ids);
                match page["next_cursor"].as_str() {
                    Some(next) => cursor = Some(next.to_string()),
                    None => return found,
                }
            }
        }
    };
    let newest_first: Vec<String> = ids.iter().rev().cloned().collect();
    assert_eq!(list(None, 30).await, newest_first);
    assert_eq!(list(Some(HoldStatus::Held), 220).await, newest_first[..3]);
    assert_eq!(list(Some(HoldStatus::Expired), 220).await, newest_first[3..]);
    assert_eq!(list(Some(HoldStatus::Captured), 220).await, Vec::<String>::new());
}

#[test]
fn what_is_owed_is_the_same_in_figures_and_json() {
    let nothing = Balance::nothing(AccountId::of(&Owner::User("ada".into()), "credits"), "credits");
    for (balance, debt, owed) in [(5, 5, 0), (0, 0, 0), (-3, 3, 3), (-3, 5, 3)] {
        let found = Balance { balance, debt, ..nothing.clone() };
        assert_eq!(found.owed(), owed, "{balance} with a debt of {debt}");
        assert!(found.json().contains(&format!("\"owed\":{owed},")), "{}", found.json());
    }
}
