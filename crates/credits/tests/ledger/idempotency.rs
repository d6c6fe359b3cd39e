//! One key, one effect, one answer: within a batch, across batches, restarts and nodes.

use crate::world::{World, body, command, debit, grant, keyed, must, on_every_store, user};
use credits::{Action, Answer, Command, Error, Ledger, Refusal, Target};

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
