//! One key, one effect, one answer: within a batch, across batches, restarts and nodes.

use crate::world::{World, account, body, command, debit, grant, hold, keyed, must, on_every_store, user};
use credits::{
    Above, Action, Answer, Charge, Command, Error, Ledger, NewGrant, Refusal, Shortfall, Source, Target,
};
use kernel::Clock as _;

async fn balance(ledger: &Ledger) -> i64 {
    body(&must(ledger, command("ada", Action::Settle)).await)["balance"]["balance"].as_i64().unwrap()
}

fn spend(key: &str) -> Command {
    keyed(command("ada", debit(5)), key, r#"{"amount":5}"#)
}

async fn with_a_hundred(world: &World) -> Ledger {
    let ledger = world.ledger();
    must(&ledger, command("ada", grant(100))).await;
    ledger
}

fn assert_one_effect(answers: &[Answer]) {
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|answer| answer.body == answers[0].body && answer.status == 201));
}

#[test]
fn a_key_that_comes_twice_in_one_batch_acts_once() {
    on_every_store(|world| async move {
        let ledger = with_a_hundred(&world).await;
        for atomic in [false, true] {
            let key = format!("k{atomic}");
            let results = ledger.submit_all(vec![spend(&key), spend(&key)], atomic).await.unwrap();
            let answers: Vec<Answer> = results.into_iter().map(Result::unwrap).collect();
            assert_one_effect(&answers);
        }
        assert_eq!(balance(&ledger).await, 90);
        world.assert_whole().await;
    });
}

#[test]
fn a_key_that_comes_at_once_to_two_nodes_acts_once() {
    on_every_store(|world| async move {
        let nodes = [with_a_hundred(&world).await, world.other_node()];
        for round in 0..10 {
            let tasks: Vec<_> = (0..20)
                .map(|number| {
                    let ledger = nodes[number % 2].clone();
                    tokio::spawn(async move { ledger.submit(spend(&format!("k{round}"))).await.unwrap() })
                })
                .collect();
            let mut answers = Vec::new();
            for task in tasks {
                answers.push(task.await.unwrap());
            }
            assert_one_effect(&answers);
        }
        assert_eq!(balance(&nodes[1]).await, 50);
        world.assert_whole().await;
    });
}

#[test]
fn a_key_is_known_after_a_restart_and_a_refusal_is_not_kept() {
    on_every_store(|world| async move {
        let ledger = with_a_hundred(&world).await;
        let all = |amount| keyed(command("ada", debit(amount)), "all", "{}");
        let refused = ledger.submit(all(101)).await;
        assert!(matches!(refused, Err(Error::Refused(Refusal::Insufficient { .. }))), "{refused:?}");
        let first = must(&ledger, all(100)).await;
        drop(ledger);
        let again = must(&world.other_node(), all(100)).await;
        assert_eq!((again.replayed, &again.body), (true, &first.body));
        world.assert_whole().await;
    });
}

#[test]
fn a_key_with_another_request_names_the_member_that_differs() {
    on_every_store(|world| async move {
        let ledger = with_a_hundred(&world).await;
        must(&ledger, spend("k")).await;
        let other = keyed(command("ada", debit(6)), "k", r#"{"amount":6}"#);
        let refused = ledger.submit(other).await;
        let Err(Error::Refused(Refusal::KeyMismatch { field })) = refused else { panic!("{refused:?}") };
        assert_eq!(field, "amount");
        // Another owner's key and another operation's key are other keys.
        must(&ledger, keyed(command("bob", grant(1)), "k", "{}")).await;
        must(&ledger, keyed(command("ada", grant(1)), "k", "{}")).await;
        world.assert_whole().await;
    });
}

/// The scope of a key is owner and operation, not the unit: two accounts of one owner race for it, and those who
/// happen to share a transaction with the loser must not suffer.
#[test]
fn a_key_that_races_across_two_units_harms_nobody_else() {
    on_every_store(|world| async move {
        let nodes = [world.ledger(), world.other_node()];
        for round in 0..20 {
            let tasks: Vec<_> = ["credits", "tokens"]
                .into_iter()
                .enumerate()
                .flat_map(|(number, unit)| {
                    let target = Target::Owner { owner: user("ada"), unit: unit.into() };
                    let request = format!(r#"{{"unit":"{unit}"}}"#);
                    let contested = keyed(command("ada", grant(1)), &format!("k{round}"), &request);
                    let innocent = command(&format!("{unit}-{round}"), grant(1));
                    [Command { target, ..contested }, innocent].map(|command| {
                        let ledger = nodes[number].clone();
                        tokio::spawn(async move { ledger.submit(command).await })
                    })
                })
                .collect();
            let (mut done, mut mismatched) = (0, 0);
            for task in tasks {
                match task.await.unwrap() {
                    Ok(_) => done += 1,
                    Err(Error::Refused(Refusal::KeyMismatch { field })) if field == "unit" => mismatched += 1,
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!((done, mismatched), (3, 1));
        }
        world.assert_whole().await;
    });
}

/// At the gate a key is the subject's: the same request again is answered from the first payer's account.
#[test]
fn a_key_of_another_scope_replays_the_first_payers_answer() {
    on_every_store(|world| async move {
        let ledger = with_a_hundred(&world).await;
        must(&ledger, command("bob", grant(100))).await;
        let scoped = |payer: &str, scope: &str| {
            let mut command = keyed(command(payer, debit(5)), "k", r#"{"amount":5}"#);
            command.idempotency.as_mut().unwrap().scope = Some(credits::KeyScope::Owner(user(scope)));
            command
        };
        let first = must(&ledger, scoped("ada", "cyd")).await;
        let again = must(&ledger, scoped("bob", "cyd")).await;
        assert_eq!((again.replayed, &again.body), (true, &first.body));
        assert_eq!(again.figures, first.figures);
        assert_eq!(first.figures.account, account("ada"));
        // Of another subject, and of the payer itself, it is another key.
        assert!(!must(&ledger, scoped("bob", "dan")).await.replayed);
        assert!(!must(&ledger, spend("k")).await.replayed);
        assert_eq!(balance(&ledger).await, 90);
        world.assert_whole().await;
    });
}

#[test]
fn an_answer_says_in_figures_what_its_body_says() {
    on_every_store(|world| async move {
        let ledger = with_a_hundred(&world).await;
        let held = must(&ledger, keyed(command("ada", hold(20)), "h", "{}")).await;
        let no = held.figures.hold.unwrap();
        let debit_first = must(&ledger, keyed(command("ada", debit(7)), "d", "{}")).await;
        let entry = debit_first.figures.entry.unwrap();
        let capture = Action::Capture { hold: no, amount: Some(15), above: Above::Refuse };
        let refund = Action::Refund { entry, amount: Some(3), reason: "back".into() };
        let given = must(&ledger, keyed(command("ada", grant(4)), "g", "{}")).await;
        let captured = must(&ledger, keyed(command("ada", capture.clone()), "c", "{}")).await;
        let refunded = must(&ledger, keyed(command("ada", refund.clone()), "r", "{}")).await;
        for (answer, action, key, amount) in [
            (held, hold(20), "h", 20),
            (debit_first, debit(7), "d", 7),
            (given, grant(4), "g", 4),
            (captured, capture, "c", 15),
            (refunded, refund, "r", 3),
        ] {
            let (body, figures) = (body(&answer), &answer.figures);
            assert_eq!(figures.amount, amount, "{key}");
            assert_eq!(body["entry"]["id"].as_str(), figures.entry_id().as_deref(), "{key}");
            assert_eq!(body["hold"]["id"].as_str(), figures.hold_id().as_deref(), "{key}");
            assert_eq!(body["grant"]["id"].as_str(), figures.grant_id().as_deref(), "{key}");
            let told = serde_json::json!({
                "unit": figures.unit, "balance": figures.balance, "held": figures.held,
                "available": figures.available(), "owed": figures.owed,
            });
            assert_eq!(body["balance"], told, "{key}");
            let again = must(&ledger, keyed(command("ada", action), key, "{}")).await;
            assert_eq!((again.replayed, &again.figures, &again.body), (true, figures, &answer.body), "{key}");
        }
    });
}

/// A replay is made from rows; whatever happened to the account since, it is the first answer to the byte.
#[test]
fn every_answer_comes_again_to_the_byte_whatever_happened_in_between() {
    on_every_store(|world| async move {
        let mut told = Told { world: &world, ledger: world.ledger(), answers: Vec::new() };
        for name in ["ada", "bob", "cyd"] {
            told.live_through(name).await;
        }
        told.turmoil().await;
        world.clock.forward(200_000);
        told.ledger.settle_due().await.unwrap();
        told.turmoil().await;
        for ledger in [told.ledger.clone(), world.ledger(), world.other_node()] {
            for (command, first) in &told.answers {
                let again = must(&ledger, command.clone()).await;
                assert_eq!((again.replayed, &again.body), (true, &first.body), "{command:?}");
                assert_eq!((again.status, &again.figures), (first.status, &first.figures), "{command:?}");
            }
        }
        world.assert_whole().await;
    });
}

struct Told<'w> {
    world: &'w World,
    ledger: Ledger,
    answers: Vec<(Command, Answer)>,
}

impl Told<'_> {
    async fn tell(&mut self, name: &str, action: Action) -> Answer {
        let request = format!(r#"{{"action":{:?}}}"#, format!("{action:?}"));
        let command = keyed(command(name, action), &format!("key-{}", self.answers.len()), &request);
        let answer = must(&self.ledger, command.clone()).await;
        assert!(!answer.replayed, "{command:?}");
        let again = must(&self.ledger, command.clone()).await;
        assert_eq!((again.replayed, &again.body, &again.figures), (true, &answer.body, &answer.figures));
        self.answers.push((command, answer.clone()));
        answer
    }

    /// Each operation, with and without debt, holds and grants that end.
    async fn live_through(&mut self, name: &str) {
        let full = NewGrant {
            amount: 100,
            source: Source::Promo,
            expires_at: Some(self.world.clock.now().plus(100_000)),
            priority: 7,
            reason: Some("welcome, \"you\"".into()),
            metadata: Some(r#"{"a":[1,2]}"#.into()),
            source_ref: Some("order 7".into()),
            rollover: None,
        };
        self.tell(name, Action::Grant(full)).await;
        self.tell(name, grant(50)).await;
        let spent = self.tell(name, debit(30)).await.figures.entry.unwrap();
        let plenty = Charge {
            amount: 12,
            feature: Some("image".into()),
            quantity: Some(3),
            price_version: Some(2),
            spender: None,
        };
        let charged = Action::Debit {
            charge: plenty.clone(),
            reason: Some("twelve".into()),
            metadata: Some("{}".into()),
            allow_negative: true,
        };
        self.tell(name, charged).await;
        let reserve = Action::Hold {
            charge: plenty,
            expires_in: 150_000,
            reason: Some("for later".into()),
            metadata: Some(r#"{"b":1}"#.into()),
        };
        let holds: Vec<i64> = [
            self.tell(name, reserve.clone()).await,
            self.tell(name, reserve.clone()).await,
            self.tell(name, reserve.clone()).await,
            self.tell(name, reserve).await,
        ]
        .map(|answer| answer.figures.hold.unwrap())
        .into();
        self.tell(name, Action::Extend { hold: holds[0], expires_in: 300_000 }).await;
        self.tell(name, Action::Capture { hold: holds[0], amount: Some(5), above: Above::Refuse }).await;
        let more = Action::Capture { hold: holds[1], amount: Some(20), above: Above::Balance };
        let captured = self.tell(name, more).await.figures.entry.unwrap();
        self.tell(name, Action::Release { hold: holds[2] }).await;
        self.tell(name, Action::Extend { hold: holds[3], expires_in: 160_000 }).await;
        let refund = |entry, amount| Action::Refund { entry, amount, reason: "broken".into() };
        self.tell(name, refund(spent, Some(10))).await;
        self.tell(name, refund(captured, None)).await;
        self.tell(name, Action::Transfer { to: user("dan"), amount: 9, reason: "a gift".into() }).await;
        // All of it and more: later grants pay the debt first, the first of them wholly.
        let claw = |amount, shortfall| Action::ClawBack {
            amount,
            frozen: None,
            grant: Some(1),
            shortfall,
            reason: "charged back".into(),
            source_ref: Some("dispute".into()),
        };
        let clawed = self.tell(name, claw(400, Shortfall::Owe)).await.figures.entry.unwrap();
        self.tell(name, claw(50, Shortfall::Clamp)).await;
        self.tell(name, grant(20)).await;
        self.tell(name, Action::Adjust { amount: 15, reason: "sorry".into() }).await;
        let back = Action::Reinstate {
            entry: clawed,
            amount: Some(380),
            reason: "it was won".into(),
            source_ref: None,
        };
        self.tell(name, back).await;
        self.tell(name, Action::Adjust { amount: 70, reason: "sorry again".into() }).await;
        self.tell(name, Action::Adjust { amount: -3, reason: "too much".into() }).await;
        // The lot that this comes from ends before it comes back.
        let last = self.tell(name, debit(40)).await.figures.entry.unwrap();
        self.world.clock.forward(110_000);
        self.tell(name, refund(last, None)).await;
        self.tell(name, Action::Release { hold: holds[3] }).await;
    }

    /// Debits, grants and holds that use up and change all that answers told of.
    async fn turmoil(&self) {
        for name in ["ada", "bob", "cyd"] {
            must(&self.ledger, command(name, grant(1_000))).await;
            let all = body(&must(&self.ledger, command(name, Action::Settle)).await);
            let all = all["balance"]["available"].as_i64().unwrap();
            must(&self.ledger, command(name, hold(5))).await;
            must(&self.ledger, command(name, debit(all - 5))).await;
        }
    }
}
