//! A low balance is told of once for each crossing, however it came about.

use crate::world::{World, command, debit, grant, hold, must, on_every_store, user};
use credits::{Action, NewGrant, Settings, reads};
use kernel::Clock as _;
use std::sync::Arc;

fn below_ten(world: World) -> World {
    let low_balance = [("credits".to_string(), 10)].into();
    World { settings: Arc::new(Settings { low_balance, ..(*world.settings).clone() }), ..world }
}

/// What was available at each crossing, newest first, read one by one.
async fn crossings(world: &World, name: &str) -> Vec<i64> {
    let (mut found, mut cursor): (Vec<i64>, Option<String>) = (Vec::new(), None);
    loop {
        let (vault, owner) = (world.vault.clone(), user(name));
        let page =
            world.store.read(move |tx| reads::events(tx, &vault, &owner, "credits", 1, cursor.as_deref()));
        let page: serde_json::Value = serde_json::from_str(&page.await.unwrap().unwrap()).unwrap();
        found
            .extend(page["items"].as_array().unwrap().iter().map(|item| item["available"].as_i64().unwrap()));
        cursor = page["next_cursor"].as_str().map(str::to_string);
        if cursor.is_none() {
            return found;
        }
    }
}

#[test]
fn each_crossing_is_told_although_holds_make_no_entry() {
    on_every_store(|world| async move {
        let world = below_ten(world);
        let ledger = world.ledger();
        must(&ledger, command("ada", grant(12))).await;
        for amount in [3, 4, 5] {
            let held = must(&ledger, command("ada", hold(amount))).await.figures.hold.unwrap();
            must(&ledger, command("ada", Action::Release { hold: held })).await;
        }
        must(&ledger, command("ada", debit(6))).await;
        assert_eq!(crossings(&world, "ada").await, [6, 7, 8, 9]);
    });
}

#[test]
fn a_crossing_is_told_that_time_makes_before_a_transfer_arrives() {
    on_every_store(|world| async move {
        let world = below_ten(world);
        let ledger = world.ledger();
        let Action::Grant(new) = grant(20) else { panic!() };
        let ends = NewGrant { expires_at: Some(world.clock.now().plus(60_000)), ..new };
        must(&ledger, command("bob", Action::Grant(ends))).await;
        must(&ledger, command("ada", grant(50))).await;
        world.clock.forward(70_000);
        let gift = Action::Transfer { to: user("bob"), amount: 30, reason: "a gift".into() };
        must(&ledger, command("ada", gift)).await;
        assert_eq!(crossings(&world, "bob").await, [0]);
        assert!(crossings(&world, "ada").await.is_empty());
    });
}
