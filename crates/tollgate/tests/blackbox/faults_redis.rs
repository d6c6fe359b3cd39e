//! Redis behind the limits of several nodes: shared while it is there, each node's own while it is not, and sessions do
//! not notice.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Browser, Connection, Engine, PASSWORD, Request, Server, until};
use crate::instances::Instance;

/// What the built-in rule of the sign-in paths allows in ten seconds.
const ALLOWED: usize = 3;
const PATIENCE: Duration = Duration::from_secs(15);

struct Nodes {
    redis: Instance,
    nodes: [Server; 2],
    browser: Browser,
}

fn two_nodes() -> Nodes {
    let redis = Instance::redis();
    let first = Server::with(
        Engine::Postgres,
        &format!(
            "redis_url = \"{}\"\ntrusted_proxies = [\"127.0.0.1\"]\n[rate_limit]\nenabled = true\n",
            redis.url()
        ),
    );
    let second = Server::second_node(&first);
    let mut browser = Browser::new(&first);
    browser.sign_up("ada@example.com");
    Nodes { redis, nodes: [first, second], browser }
}

impl Nodes {
    /// Sign-ins by one client, by turns at both nodes: how many each of them did not refuse.
    fn sign_ins(&self, client: &str, count: usize) -> [usize; 2] {
        let mut passed = [0; 2];
        for number in 0..count {
            let node = number % 2;
            let body = json!({"email": "ada@example.com", "password": PASSWORD});
            let request = Request::post("/api/auth/sign-in/email", &body).header("X-Forwarded-For", client);
            let answer = Connection::open(self.nodes[node].address).and_then(|mut connection| {
                connection.set_timeout(PATIENCE);
                connection.exchange(&request)
            });
            let answer = answer.expect("an answer");
            match answer.status {
                200 => passed[node] += 1,
                429 => assert!(answer.header("X-Retry-After").is_some(), "{answer:?}"),
                other => panic!("{other} {}", answer.text()),
            }
        }
        passed
    }

    fn shares_one_limit(&self, client: &str) -> bool {
        let passed = self.sign_ins(client, 4 * ALLOWED);
        // A node that finds Redis again meanwhile has counted some of them by itself.
        assert!(passed.into_iter().all(|passed| passed <= 2 * ALLOWED), "{passed:?}");
        passed[0] + passed[1] == ALLOWED
    }

    /// Reads and changes with a session, on both nodes: none fails, and 19 of 20 are as fast as ever.
    fn sessions_do_not_notice(&self, client: &str) {
        let mut times = Vec::new();
        for node in &self.nodes {
            let mut connection = Connection::open(node.address).expect("the server accepts");
            connection.set_timeout(PATIENCE);
            for number in 0..40 {
                let cookie = self.browser.cookie_header("/api/auth");
                let request = match number % 2 {
                    0 => Request::get("/api/auth/get-session"),
                    // Counted by the general rule.
                    _ => Request::post("/api/auth/update-user", &json!({"name": "Renamed"})),
                };
                let request = request
                    .header("Cookie", &cookie)
                    .header("Origin", "https://app.example")
                    .header("X-Forwarded-For", client);
                let began = Instant::now();
                let response = connection.exchange(&request).expect("an answer").expect(200);
                assert!(
                    response.text().contains("ada@example.com") || number % 2 == 1,
                    "{}",
                    response.text()
                );
                times.push(began.elapsed());
            }
        }
        times.sort();
        // Far below the time that is given to Redis; the promise of 5 ms is measured by the benchmark.
        let slow = times[times.len() * 19 / 20];
        assert!(slow <= Duration::from_millis(100), "{slow:?}");
    }

    fn redis_is(&self, state: &str) {
        for node in &self.nodes {
            until(Duration::from_secs(3), "readiness to show the state of Redis", || {
                let ready = Request::get("/readyz").send(node.address).expect("an answer").expect(200);
                (ready.json()["checks"]["redis"] == state).then_some(())
            });
        }
    }
}

#[test]
fn nodes_share_their_limits_through_redis_and_keep_their_own_while_it_is_gone() {
    let mut all = two_nodes();
    all.redis_is("ok");
    assert!(all.shares_one_limit("192.0.2.1"));
    all.sessions_do_not_notice("192.0.2.2");

    all.redis.crash();
    assert_eq!(all.sign_ins("192.0.2.3", 4 * ALLOWED), [ALLOWED, ALLOWED]);
    all.sessions_do_not_notice("192.0.2.4");
    all.redis_is("unavailable");

    all.redis.start_again();
    let mut client = 100;
    until(Duration::from_secs(10), "the nodes to share their limits again", || {
        client += 1;
        all.shares_one_limit(&format!("192.0.2.{client}")).then_some(())
    });
    all.redis_is("ok");
}

#[test]
fn a_silent_redis_holds_nobody_up_and_lifts_no_limit() {
    let mut all = two_nodes();
    assert!(all.shares_one_limit("192.0.2.1"));
    all.redis.freeze();
    assert_eq!(all.sign_ins("192.0.2.3", 4 * ALLOWED), [ALLOWED, ALLOWED]);
    all.sessions_do_not_notice("192.0.2.4");
    all.redis_is("unavailable");
    all.redis.thaw();
    let mut client = 100;
    until(Duration::from_secs(10), "the nodes to share their limits again", || {
        client += 1;
        all.shares_one_limit(&format!("192.0.2.{client}")).then_some(())
    });
    all.redis_is("ok");
}
