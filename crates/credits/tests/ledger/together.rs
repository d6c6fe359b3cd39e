//! Many at once: what was acknowledged is in the ledger once, what was refused never.

use crate::world::{World, body, charge, command, debit, grant, hold, keyed, must, on_every_store, user};
use credits::{Above, Action, Error, Ledger, NewGrant, Refusal, parse_item};
use kernel::Clock as _;
use std::collections::HashSet;

/// Runs all at once; gives how many succeeded and how many had too little.
async fn all_at_once(ledger: &Ledger, commands: Vec<credits::Command>) -> (usize, usize) {
    let tasks: Vec<_> = commands
        .into_iter()
        .map(|command| {
            let ledger = ledger.clone();
            tokio::spawn(async move { ledger.submit(command).await })
        })
        .collect();
    let (mut done, mut refused) = (0, 0);
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => done += 1,
            Err(Error::Refused(Refusal::Insufficient { .. })) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    (done, refused)
}

async fn balance(ledger: &Ledger, name: &str) -> i64 {
    let answer = must(ledger, command(name, Action::Settle)).await;
    body(&answer)["balance"]["balance"].as_i64().unwrap()
}

#[test]
fn two_hundred_parallel_debits_of_one_credit_succeed_once() {
    on_every_store(|world| async move {
        let ledger = world.ledger();
        for round in 0..5 {
            let name = format!("ada-{round}");
            must(&ledger, command(&name, grant(1))).await;
            let commands = (0..200).map(|_| command(&name, debit(1))).collect();
            assert_eq!(all_at_once(&ledger, commands).await, (1, 199));
            assert_eq!(balance(&ledger, &name).await, 0);
        }
        world.assert_whole().await;
    });
}

#[test]
fn two_nodes_spend_one_account_to_the_last_credit_and_no_further() {
    on_every_store(|world| async move {
        let (one, other) = (world.ledger(), world.other_node());
        must(&one, command("ada", grant(100))).await;
        let debits = || (0..120).map(|_| command("ada", debit(1))).collect();
        let (first, second) = tokio::join!(all_at_once(&one, debits()), all_at_once(&other, debits()));
        assert_eq!(first.0 + second.0, 100);
        assert_eq!(balance(&one, "ada").await, 0);
        assert_eq!(world.assert_whole().await.entries, 101);
    });
}

#[test]
fn an_atomic_batch_happens_as_a_whole_or_not_at_all() {
    on_every_store(|world| async move {
        let ledger = world.ledger();
        must(&ledger, command("ada", grant(10))).await;
        must(&ledger, command("bob", grant(10))).await;
        let batch = |last| {
            vec![
                keyed(command("ada", debit(4)), "a", "{}"),
                keyed(command("bob", debit(4)), "b", "{}"),
                keyed(command("ada", debit(last)), "c", "{}"),
            ]
        };
        let results = ledger.submit_all(batch(7), true).await.unwrap();
        assert!(matches!(results[0], Err(Refusal::Conflict { .. })), "{results:?}");
        assert!(matches!(results[1], Err(Refusal::Conflict { .. })), "{results:?}");
        assert!(matches!(results[2], Err(Refusal::Insufficient { .. })), "{results:?}");
        assert_eq!((balance(&ledger, "ada").await, balance(&ledger, "bob").await), (10, 10));
        // Nothing was kept under the keys either.
        let results = ledger.submit_all(batch(6), true).await.unwrap();
        assert!(
            results.iter().all(|result| result.as_ref().is_ok_and(|answer| !answer.replayed)),
            "{results:?}"
        );
        assert_eq!((balance(&ledger, "ada").await, balance(&ledger, "bob").await), (0, 6));
        world.assert_whole().await;
    });
}

#[test]
fn atomic_batches_of_many_tasks_meet_in_one_transaction_without_mixing() {
    on_every_store(|world| async move {
        let ledger = world.ledger();
        must(&ledger, command("ada", grant(30))).await;
        must(&ledger, command("bob", grant(300))).await;
        let tasks: Vec<_> = (0..60)
            .map(|_| {
                let ledger = ledger.clone();
                let batch =
                    vec![command("bob", debit(1)), command("ada", debit(1)), command("bob", debit(1))];
                tokio::spawn(async move {
                    ledger.submit_all(batch, true).await.unwrap().iter().all(Result::is_ok)
                })
            })
            .collect();
        let mut whole = 0;
        for task in tasks {
            whole += usize::from(task.await.unwrap());
        }
        assert_eq!(whole, 30);
        assert_eq!((balance(&ledger, "ada").await, balance(&ledger, "bob").await), (0, 240));
        world.assert_whole().await;
    });
}

/// Tasks that grant, spend, hold, capture, release and refund on few accounts, on two nodes.
async fn turmoil(world: &World) -> (usize, HashSet<String>) {
    let nodes = [world.ledger(), world.other_node()];
    let tasks: Vec<_> = (0..8usize)
        .map(|task| {
            let ledger = nodes[task % 2].clone();
            tokio::spawn(async move {
                let (mut done, mut entries) = (0, HashSet::new());
                let mut random = task as u64 + 1;
                let mut draw = move |below: u64| {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    (random >> 33) % below
                };
                for _ in 0..60 {
                    let name = ["ada", "bob", "cyd"][draw(3) as usize];
                    let amount = draw(9) as i64 + 1;
                    let action = match draw(6) {
                        0 | 1 => grant(amount * 2),
                        2 | 3 => debit(amount),
                        4 => hold(amount),
                        _ => Action::Transfer { to: user("dan"), amount, reason: "moved".into() },
                    };
                    let Ok(answer) = ledger.submit(command(name, action)).await else { continue };
                    done += 1;
                    let body = body(&answer);
                    if let Some(id) = body["entry"]["id"].as_str() {
                        assert!(entries.insert(id.to_string()), "{id} was acknowledged twice");
                        if body["entry"]["kind"] == "debit" && draw(3) == 0 {
                            let (_, entry) = parse_item(id, credits::Item::Entry).unwrap();
                            let refund = Action::Refund { entry, amount: None, reason: "back".into() };
                            must(&ledger, command(name, refund)).await;
                        }
                    }
                    if let Some(id) = body["hold"]["id"].as_str() {
                        let (_, hold) = parse_item(id, credits::Item::Hold).unwrap();
                        let action = if draw(2) == 0 {
                            Action::Release { hold }
                        } else {
                            Action::Capture { hold, amount: Some(1), above: Above::Refuse }
                        };
                        must(&ledger, command(name, action)).await;
                    }
                }
                (done, entries)
            })
        })
        .collect();
    let (mut done, mut entries) = (0, HashSet::new());
    for task in tasks {
        let (count, ids) = task.await.unwrap();
        done += count;
        for id in ids {
            assert!(entries.insert(id.clone()), "{id} was acknowledged twice");
        }
    }
    (done, entries)
}

#[test]
fn whatever_many_tasks_do_on_two_nodes_the_ledger_stays_whole() {
    on_every_store(|world| async move {
        let (done, acknowledged) = turmoil(&world).await;
        assert!(done > 100 && acknowledged.len() > 100);
        world.assert_whole().await;
        for id in acknowledged {
            let (account, seq) = parse_item(&id, credits::Item::Entry).unwrap();
            let there = "UPDATE credit_entries SET seq = seq WHERE account_id = $1 AND seq = $2";
            assert_eq!(world.tamper(there, &account, seq).await, 1, "{id} is not there");
        }
        assert!(balance(&world.ledger(), "ada").await >= 0);
    });
}

#[test]
fn what_has_ended_is_settled_although_nobody_asks() {
    on_every_store(|world| async move {
        let ledger = world.ledger();
        let ends = world.clock.now().plus(600_000);
        for number in 0..620 {
            let Action::Grant(new) = grant(5) else { panic!() };
            let ended = Action::Grant(NewGrant { expires_at: Some(ends), ..new });
            let name = format!("u{number}");
            let commands = vec![command(&name, ended), command(&name, grant(5)), command(&name, hold(2))];
            assert!(ledger.submit_all(commands, false).await.unwrap().iter().all(Result::is_ok));
        }
        world.clock.forward(700_000);
        assert_eq!(ledger.settle_due().await.unwrap(), 620);
        assert_eq!(world.other_node().settle_due().await.unwrap(), 0);
        let report = world.assert_whole().await;
        assert_eq!(report.books.iter().find(|book| book.counter == "expired").unwrap().sum, 620 * 5);
        assert_eq!(balance(&ledger, "u7").await, 5);
    });
}

/// Sender and receiver number their grants alike; what the receiver's hold took of is looked for at the receiver.
#[test]
fn a_transfer_to_an_account_whose_hold_ends_finds_the_receivers_grants() {
    on_every_store(|world| async move {
        let ledger = world.ledger();
        for name in ["ada", "bob"] {
            let grants = (0..120).map(|_| command(name, grant(1))).collect();
            assert!(ledger.submit_all(grants, false).await.unwrap().iter().all(Result::is_ok));
        }
        let all = Action::Hold { charge: charge(120), expires_in: 60_000, reason: None, metadata: None };
        must(&ledger, command("bob", all)).await;
        world.clock.forward(70_000);
        let transfer = Action::Transfer { to: user("bob"), amount: 100, reason: "moved".into() };
        must(&world.other_node(), command("ada", transfer)).await;
        assert_eq!(balance(&ledger, "bob").await, 220);
        world.assert_whole().await;
    });
}

/// Each node keeps accounts in memory; none of them is believed once another has changed it.
#[test]
fn what_one_node_did_the_other_knows_at_once() {
    on_every_store(|world| async move {
        let nodes = [world.ledger(), world.other_node()];
        must(&nodes[0], command("ada", grant(1))).await;
        for round in 0..40 {
            let (here, there) = (&nodes[round % 2], &nodes[(round + 1) % 2]);
            // So many that each node has forgotten its caution again.
            for _ in 0..35 {
                must(here, command("bob", grant(1))).await;
                must(there, command("cyd", grant(1))).await;
            }
            let spend = || keyed(command("ada", debit(1)), &format!("k{round}"), "{}");
            let first = must(here, spend()).await;
            let again = must(there, spend()).await;
            assert_eq!((first.replayed, again.replayed, &again.body), (false, true, &first.body));
            let refused = there.submit(command("ada", debit(1))).await;
            assert!(matches!(refused, Err(Error::Refused(Refusal::Insufficient { .. }))), "{refused:?}");
            must(there, command("ada", grant(1))).await;
            assert_eq!(balance(here, "ada").await, 1);
        }
        world.assert_whole().await;
    });
}
