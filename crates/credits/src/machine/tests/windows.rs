//! Accounts with thousands of lots are read in part from the store; what comes out is what the machine does with
//! everything in memory, to the last hash.

use super::random::{Step, Subject, What, action, apply_in_memory, steps};
use crate::command::{Action, Command, Target};
use crate::settings::Settings;
use crate::{Ledger, NewGrant, OwnerExists, Source, machine, reads, verify};
use kernel::time::SECOND;
use kernel::vault::DataKey;
use kernel::{Clock, Millis, Vault, random};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use store::{Options, Store, params};

const LOTS: i64 = 5_000;

#[derive(Clone)]
struct SetClock(Arc<AtomicI64>);

impl Clock for SetClock {
    fn now(&self) -> Millis {
        Millis(self.0.load(Ordering::SeqCst))
    }
}

struct World {
    _folder: tempfile::TempDir,
    store: Store,
    vault: Vault,
    ledger: Ledger,
    clock: SetClock,
    settings: Settings,
    subjects: [Subject; 2],
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/t.db", folder.path().display());
        let store = Store::open(&Options { url, pool_size: 1 }).unwrap();
        store.migrate().unwrap();
        let vault = Vault::new(&DataKey::generate(&mut random::secure()));
        let clock = SetClock(Arc::new(AtomicI64::new(1_700_000_000_000)));
        let exists: OwnerExists = Arc::new(|_, _| Ok(true));
        let settings = Arc::new(Settings::default());
        let (handle, key, told) = (store.clone(), vault.clone(), Arc::new(clock.clone()));
        let ledger = Ledger::start(handle, key, settings, 1, exists, told);
        let subjects = [Subject::new("one"), Subject::new("other")];
        World { _folder: folder, store, vault, ledger, clock, settings: Settings::default(), subjects }
    }

    /// The same actions on the store, in one batch, and in memory.
    async fn both(&mut self, second: bool, actions: Vec<Action>) {
        let now = self.clock.now();
        let [one, other] = &mut self.subjects;
        let (subject, other) = if second { (other, one) } else { (one, other) };
        let target = Target::Owner { owner: subject.account.owner.clone(), unit: "credits".into() };
        let command = |action: &Action| Command {
            target: target.clone(),
            action: action.clone(),
            actor: "test".into(),
            request_id: None,
            idempotency: None,
        };
        let stored = self.ledger.submit_all(actions.iter().map(command).collect(), false).await.unwrap();
        for (action, stored) in actions.iter().zip(stored) {
            // Only a transfer touches the other account, and so lets time pass there.
            let mut nobody = Subject::new("nobody");
            let receiver = if matches!(action, Action::Transfer { .. }) { &mut *other } else { &mut nobody };
            let expected = apply_in_memory(&self.settings, subject, receiver, action, now);
            assert_eq!(stored.as_ref().err(), expected.as_ref().err(), "{action:?}");
            for subject in [&mut *subject, &mut *other] {
                subject.entries.append(&mut subject.account.changed.entries);
                subject.account.originals.clear();
            }
        }
    }

    async fn compare(&self) {
        for subject in &self.subjects {
            let account = &subject.account;
            let id = account.id.as_str().to_string();
            let read = "SELECT hash, balance, held, owed FROM credit_accounts WHERE id = $1";
            let row = self.store.read::<_, store::Error, _>(move |tx| {
                tx.query_opt(read, params![&id], |row| {
                    Ok((row.get::<String>(0)?, row.get::<i64>(1)?, row.get::<i64>(2)?, row.get::<i64>(3)?))
                })
            });
            let expected = (account.hash.clone(), account.balance, account.held, account.owed);
            assert_eq!(row.await.unwrap().unwrap_or_default(), expected);
            self.compare_balances(subject).await;
        }
        let report = verify::run(&self.store, &self.vault, self.clock.now(), Duration::ZERO, |_, _| {});
        let report = report.await.unwrap();
        assert!(report.ok(), "{:?}", report.problems);
    }

    /// What is read of the balance is what the machine has in memory, now and at a time when nobody had settled anything.
    async fn compare_balances(&self, subject: &Subject) {
        let owner = subject.account.owner.clone();
        let soon = self.clock.now().plus(40 * SECOND);
        let mut settled = subject.account.clone();
        machine::settle(&mut settled, soon).unwrap();
        let read = self.store.scan::<_, store::Error, _>(move |tx| {
            let now = reads::balance(tx, &owner, "credits", soon)?;
            let Some(mut past) = reads::Past::begin(tx, &owner, "credits", soon)? else { return Ok(None) };
            while past.step(tx)? {}
            Ok(Some((now, past.finish())))
        });
        let Some((now, past)) = read.await.unwrap() else { return };
        assert_eq!(now.json(), past.json());
        assert_eq!((now.balance, now.held, now.debt), (settled.balance, settled.held, settled.owed));
    }
}

/// Small lots that differ in all that the order looks at.
fn many_lots(number: i64, now: Millis) -> Action {
    Action::Grant(NewGrant {
        amount: number % 3 + 1,
        source: Source::ALL[(number % 5) as usize],
        expires_at: (number % 4 > 0).then(|| now.plus((number * 7_919 % 3_000 + 1) * SECOND)),
        priority: [50, 50, 20, 80][(number * 31 % 4) as usize],
        reason: None,
        metadata: None,
        source_ref: None,
        rollover: (number % 6 == 0).then_some(number % 40),
    })
}

/// Some need more lots than are read at first, some more than are read at once.
fn enlarge(step: &mut Step, at: usize) {
    if let What::Plain(Action::Debit { charge, .. } | Action::Hold { charge, .. }) = &mut step.what {
        charge.amount *= [1, 1, 10, 60][at % 4];
    }
}

#[test]
fn five_thousand_lots_read_in_part_give_what_they_give_in_memory() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = Config { failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    for _ in 0..2 {
        let mut steps: Vec<Step> = Vec::new();
        while steps.len() < 400 {
            steps.extend(steps_without_limits(&mut runner));
        }
        runtime.block_on(async {
            let mut world = World::new();
            let numbers: Vec<i64> = (0..LOTS).collect();
            for numbers in numbers.chunks(500) {
                let now = world.clock.now();
                let grants = numbers.iter().map(|number| many_lots(*number, now)).collect();
                world.both(false, grants).await;
            }
            for (at, mut step) in steps.into_iter().enumerate() {
                enlarge(&mut step, at);
                let now = world.clock.now().plus(step.later.min(60 * SECOND));
                world.clock.0.store(now.0, Ordering::SeqCst);
                let subject = usize::from(step.second);
                let mut asked = action(&step.what, &world.subjects[subject], now);
                if let Action::Transfer { to, .. } = &mut asked {
                    to.clone_from(&world.subjects[1 - subject].account.owner);
                }
                // Every third comes twice, within one batch.
                let actions = if at % 3 == 0 { vec![asked.clone(), asked] } else { vec![asked] };
                world.both(step.second, actions).await;
                if at % 100 == 0 {
                    world.compare().await;
                }
            }
            world.compare().await;
        });
    }
}

fn steps_without_limits(runner: &mut TestRunner) -> Vec<Step> {
    let mut drawn = steps().new_tree(runner).unwrap().current();
    drawn.retain(|step| !matches!(step.what, What::Plain(Action::SetLimit { .. })));
    drawn
}
