//! Guests' allowances in a Redis of the test's own: shared by nodes, refused or counted by each node while it is gone, and
//! good again by itself.

use std::time::Duration;

use serde_json::json;

use crate::harness::credits::{Backend, refused};
use crate::harness::guest::guest;
use crate::harness::{Browser, Engine, Request, Response, Server, in_parallel, until};
use crate::instances::Instance;

const PATIENCE: Duration = Duration::from_secs(15);

struct Nodes {
    redis: Instance,
    nodes: [Server; 2],
    backend: Backend,
}

fn two_nodes(on_loss: &str) -> Nodes {
    let redis = Instance::redis();
    let settings = format!(
        "redis_url = \"{}\"\ntrusted_proxies = [\"127.0.0.1\"]\n\
         [guest]\nallowances = {{ generate = 3 }}\naddress_allowances = {{ generate = 1000 }}\n\
         on_counter_loss = \"{on_loss}\"\n",
        redis.url()
    );
    let first = Server::with(Engine::Postgres, &settings);
    let second = Server::second_node(&first);
    let backend = Backend::of(&first);
    Nodes { redis, nodes: [first, second], backend }
}

impl Nodes {
    fn ask(&self, browser: &Browser, node: usize) -> Response {
        let request = Request::post("/api/gate/authorize", &json!({"guest": {"action": "generate"}}))
            .header("X-Forwarded-For", "192.0.2.1")
            .header("Cookie", &browser.cookie_header("/"));
        self.backend.at(&self.nodes[node]).send(request)
    }

    fn guest(&self) -> Browser {
        guest(&self.nodes[0]).0
    }

    /// How many of twelve actions, by turns at both nodes, each let through. The others are refused for the count.
    fn passed(&self, browser: &Browser) -> [usize; 2] {
        let mut passed = [0; 2];
        for number in 0..12 {
            let answer = self.ask(browser, number % 2);
            match answer.status {
                200 => passed[number % 2] += 1,
                _ => drop(refused(&answer, 429, "guest_limit_reached")),
            }
        }
        passed
    }

    /// Everything else goes on as if nothing were.
    fn others_do_not_notice(&self, email: &str) {
        for node in &self.nodes {
            let mut browser = Browser::new(node);
            browser.sign_up(&format!("{}-{email}", node.address.port()));
            assert!(browser.session().is_object());
            // A new guest has used nothing, wherever the counts are.
            browser = Browser::new(node);
            browser.post("/api/guest", json!({})).expect(201);
        }
    }
}

#[test]
fn nodes_share_a_guests_allowance_and_refuse_while_redis_is_gone() {
    let mut all = two_nodes("refuse");
    let browser = all.guest();
    let statuses = in_parallel(200, |number| all.ask(&browser, number % 2).status);
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 3, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");

    let half = all.guest();
    all.ask(&half, 0).expect(200);
    all.redis.crash();
    for round in 0..6 {
        for browser in [&browser, &half] {
            let answer = all.ask(browser, round % 2);
            refused(&answer, 503, "unavailable");
            assert!(answer.header("Retry-After").is_some());
        }
    }
    refused(&half.clone().get("/api/guest"), 503, "unavailable");
    all.others_do_not_notice("gone@example.com");

    // It comes back empty: what was counted is lost, and no more than that.
    all.redis.start_again();
    until(PATIENCE, "guests to be counted again", || {
        let fresh = all.guest();
        (0..2).all(|node| all.ask(&fresh, node).status == 200).then_some(())
    });
    let passed = all.passed(&half);
    assert_eq!(passed[0] + passed[1], 3);
}

#[test]
fn a_silent_redis_holds_nobody_up_and_lets_nobody_through() {
    let mut all = two_nodes("refuse");
    let browser = all.guest();
    all.ask(&browser, 0).expect(200);
    all.redis.freeze();
    for round in 0..6 {
        let began = std::time::Instant::now();
        refused(&all.ask(&browser, round % 2), 503, "unavailable");
        assert!(began.elapsed() < Duration::from_secs(2));
    }
    all.others_do_not_notice("silent@example.com");
    all.redis.thaw();
    until(PATIENCE, "guests to be counted again", || {
        let fresh = all.guest();
        (0..2).all(|node| all.ask(&fresh, node).status == 200).then_some(())
    });
    // What waited in its connection may have been counted, what was refused was not let through.
    let passed = all.passed(&browser);
    assert!(passed[0] + passed[1] <= 2, "{passed:?}");
}

#[test]
fn a_flushed_redis_forgets_counts_and_scripts_and_errs_never() {
    let all = two_nodes("refuse");
    let browser = all.guest();
    for _ in 0..3 {
        let passed = all.passed(&browser);
        assert_eq!(passed[0] + passed[1], 3);
        all.redis.tell("FLUSHALL");
        all.redis.tell("SCRIPT FLUSH");
    }
}

#[test]
fn where_each_node_counts_for_itself_nobody_is_let_through_for_ever() {
    let mut all = two_nodes("per_node");
    let browser = all.guest();
    all.ask(&browser, 0).expect(200);
    all.redis.crash();
    let fresh = all.guest();
    assert_eq!(all.passed(&fresh), [3, 3]);
    assert_eq!(all.passed(&fresh), [0, 0]);
    let told = fresh.clone().get("/api/guest").expect(200).json();
    assert_eq!(told["allowances"][0]["remaining"], 0);
    all.others_do_not_notice("per-node@example.com");
    all.redis.start_again();
    until(PATIENCE, "the nodes to share their counts again", || {
        let passed = all.passed(&all.guest());
        // A node that finds Redis again meanwhile has counted some of them by itself.
        assert!(passed.iter().all(|passed| *passed <= 6), "{passed:?}");
        (passed[0] + passed[1] == 3).then_some(())
    });
}
