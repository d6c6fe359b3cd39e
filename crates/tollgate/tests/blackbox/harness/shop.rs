//! A server that sells: the till in Stripe's place, buyers with cookies, and what must be true of money and credits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kernel::{Clock as _, Secret, SystemClock};
use serde_json::{Value, json};
use till::{PriceSeed, Till, TillOptions};

use super::browser::Browser;
use super::credits::Backend;
use super::database::quoted;
use super::http::{Request, Response};
use super::server::{Engine, Server};
use super::wait::until;

pub const SECRET: &str = "whsec_blackbox";
/// Thousands of events take their time on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// Two packs, one whose amount the buyer names, and three plans.
const SELLS: &str = r#"
[stripe.packs.small]
price = "price_small"
credits = 500
amount = 1000
currency = "usd"

[stripe.packs.any]
custom = { min = 500, max = 50000, credits_per_100 = 30 }
currency = "usd"

[stripe.plans.basic]
price = "price_basic"
credits = 1000
amount = 1000
currency = "usd"
features = ["export"]

[stripe.plans.large]
price = "price_large"
credits = 5000
amount = 5000
currency = "usd"

[stripe.plans.tried]
price = "price_tried"
credits = 1000
amount = 2000
currency = "usd"
trial_days = 14
trial_credits = 50
"#;

pub struct Shop {
    pub till: Till,
    pub server: Server,
}

impl Shop {
    pub fn open(engine: Engine) -> Shop {
        Shop::with(engine, "")
    }

    /// With more members of `[stripe]`.
    pub fn with(engine: Engine, members: &str) -> Shop {
        Shop::under(engine, members, |options| options)
    }

    pub fn under(engine: Engine, members: &str, options: impl FnOnce(TillOptions) -> TillOptions) -> Shop {
        Shop::over(engine, "", members, options)
    }

    fn over(
        engine: Engine,
        before: &str,
        members: &str,
        options: impl FnOnce(TillOptions) -> TillOptions,
    ) -> Shop {
        let mut prices = vec![seed("price_small", 1_000, None)];
        for (price, amount) in [("price_basic", 1_000), ("price_large", 5_000), ("price_tried", 2_000)] {
            prices.push(seed(price, amount, Some("month")));
        }
        let till = Till::start(options(TillOptions { prices, deliveries_at_once: 4, ..TillOptions::new(7) }));
        let till = till.expect("the till opens");
        let settings = format!(
            "{before}[stripe]\nsecret_key = \"{}\"\nwebhook_secrets = [\"{SECRET}\"]\napi_base = \"{}\"\n{members}\n{SELLS}",
            till.secret_key().expose(),
            till.base_url()
        );
        let server = Server::with(engine, &settings);
        let shop = Shop { till, server };
        shop.point_webhooks_at(&shop.server);
        shop
    }

    /// On a database that the test names.
    pub fn on(database_url: &str) -> Shop {
        Shop::over(Engine::Sqlite, &format!("database_url = \"{database_url}\"\n"), "", |options| options)
    }

    pub fn point_webhooks_at(&self, server: &Server) {
        let url = format!("http://{}/api/billing/webhook", server.address);
        self.till.point_webhooks_at(&url, &[SECRET]).expect("the endpoint is on this machine");
    }

    /// Somebody new who is signed in.
    pub fn buyer(&self) -> Buyer<'_> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let mut browser = Browser::new(&self.server);
        let email = format!("buyer-{}@example.com", COUNT.fetch_add(1, Ordering::Relaxed));
        let made = browser.sign_up(&email);
        let id = made["user"]["id"].as_str().expect("an id").to_owned();
        Buyer { shop: self, browser, id }
    }

    /// Until every event that arrived is worked off.
    pub fn settled(&self) {
        assert!(self.till.wait_for_deliveries(PATIENCE), "the till still delivers");
        until(PATIENCE, "the inbox is worked off", || {
            let open =
                self.server.database.value("SELECT COUNT(*) FROM billing_inbox WHERE state = 'pending'");
            (open.as_deref() == Some("0")).then_some(())
        });
    }

    /// The same with a server that was down for a while: what failed is delivered again, and the leases of its last moment end.
    pub fn settled_after_a_crash(&self) {
        self.delivered_after_a_crash();
        self.time_passes(60_000);
        self.settled();
    }

    /// Until the server has answered every event; those that failed come again after a while.
    pub fn delivered_after_a_crash(&self) {
        until(PATIENCE, "everything is delivered", || {
            assert!(self.till.wait_for_deliveries(PATIENCE), "the till still delivers");
            let failed =
                self.till.call("GET", "/v1/events", &[("delivery_success", "false"), ("limit", "1")]);
            if failed.expect("a list")["data"] == json!([]) {
                return Some(());
            }
            // Stripe's pauses grow to hours.
            self.till.advance(Duration::from_secs(3_600));
            None
        });
    }

    /// The periods of these lots are over since yesterday, and nobody has looked.
    pub fn periods_end(&self, lots: &str) {
        const MONTHS: i64 = 100 * kernel::time::DAY;
        let database = &self.server.database;
        let ending = "NOT ended AND expires_at < 9223372036854775807";
        let moved = database.shift("credit_lots", "expires_at", -MONTHS, &format!("{ending} AND {lots}"));
        assert!(moved > 0, "no period runs");
        // What a server has in memory of these accounts is old with that.
        database.execute(&format!(
            "UPDATE credit_accounts SET version = version + 1, next_due = next_due - {MONTHS}
             WHERE next_due < 9223372036854775807 AND id IN (SELECT account_id FROM credit_lots WHERE {ending})"
        ));
    }

    /// For what waits in the inbox.
    pub fn time_passes(&self, milliseconds: i64) {
        for column in ["due_at", "leased_until"] {
            self.server.database.shift("billing_inbox", column, -milliseconds, "state = 'pending'");
        }
    }

    /// Delivers a body as Stripe would, with this header.
    pub fn deliver(&self, signature: Option<&str>, body: &[u8]) -> Response {
        let request = Request::new("POST", "/api/billing/webhook")
            .header("Content-Type", "application/json; charset=utf-8")
            .body(body);
        let request = match signature {
            Some(signature) => request.header("Stripe-Signature", signature),
            None => request,
        };
        request.send(self.server.address).expect("an answer")
    }

    /// What the inbox says about an event: state and remark.
    pub fn noted(&self, event: &str) -> (String, String) {
        let sql = format!(
            "SELECT state, COALESCE(error, effect, '') FROM billing_inbox WHERE id = {}",
            quoted(&format!("test:{event}"))
        );
        let row = self.server.database.rows(&sql).into_iter().next().unwrap_or_default();
        let mut cells = row.into_iter().flatten();
        (cells.next().unwrap_or_default(), cells.next().unwrap_or_default())
    }

    /// Nothing was given up, and the ledger is what its entries add up to.
    pub fn expect_sound(&self) {
        let failed =
            self.server.database.rows("SELECT id, kind, error FROM billing_inbox WHERE state = 'failed'");
        assert!(failed.is_empty(), "{failed:?}");
        self.server.command(&["credits", "verify", "--json"]).expect_done();
    }

    /// What became of an event.
    pub fn effect(&self, event: &str) -> Value {
        let answer = self.backend_get("events?limit=200");
        let items = answer["items"].as_array().expect("a list");
        items.iter().find(|item| item["id"] == event).cloned().unwrap_or(Value::Null)
    }

    pub fn backend_get(&self, path: &str) -> Value {
        let key = self.server.service_key();
        let request =
            Request::get(&format!("/api/billing/{path}")).header("Authorization", &format!("Bearer {key}"));
        let answer = request.send(self.server.address).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }
}

/// The header for a body that is signed now, with each of the secrets.
pub fn signed(secrets: &[&str], body: &[u8]) -> String {
    signed_at(secrets, now_in_seconds(), body)
}

pub fn signed_at(secrets: &[&str], seconds: i64, body: &[u8]) -> String {
    let secrets: Vec<_> = secrets.iter().map(|secret| Secret::new((*secret).to_owned())).collect();
    till::signature::sign(&secrets, seconds, body)
}

pub fn now_in_seconds() -> i64 {
    SystemClock.now().0 / 1_000
}

/// An app's backend that sells to owners who never signed in.
pub struct Counter(Backend);

impl Counter {
    pub fn of(shop: &Shop) -> Counter {
        Counter(Backend::of(&shop.server))
    }

    /// The same on a connection of its own.
    pub fn another(&self) -> Counter {
        Counter(self.0.another())
    }

    pub fn try_checkout(&mut self, user: &str, item: &str) -> Response {
        self.0.send(Request::post("/api/billing/checkout", &json!({"user_id": user, "price": item})))
    }

    /// Opens a checkout and gives the session's id.
    pub fn checkout(&mut self, user: &str, item: &str) -> String {
        let answer = self.try_checkout(user, item).expect(200).json();
        answer["session_id"].as_str().expect("a session").to_owned()
    }

    pub fn balance(&mut self, user: &str) -> i64 {
        self.0.balance(user)["balance"].as_i64().expect("a balance")
    }
}

fn seed(id: &str, amount: i64, interval: Option<&str>) -> PriceSeed {
    PriceSeed {
        id: id.into(),
        name: id.into(),
        amount,
        currency: "usd".into(),
        interval: interval.map(str::to_owned),
        custom: None,
    }
}

pub struct Buyer<'a> {
    shop: &'a Shop,
    pub browser: Browser,
    pub id: String,
}

impl Buyer<'_> {
    /// Opens a checkout and gives the session's id.
    pub fn checkout(&mut self, wish: &Value) -> String {
        let answer = self.browser.post("/api/auth/billing/checkout", wish.clone()).expect(200).json();
        assert_eq!(answer["redirect"], true, "{answer}");
        let url = answer["url"].as_str().expect("an address");
        url.rsplit('/').next().expect("the session's page").to_owned()
    }

    /// Buys and pays a pack; gives the session's id.
    pub fn buy(&mut self, item: &str) -> String {
        let session = self.checkout(&json!({ "price": item }));
        self.shop.till.pay(&session).expect("it is paid");
        session
    }

    /// Subscribes and pays; gives Stripe's id of the subscription.
    pub fn subscribe(&mut self, plan: &str) -> String {
        let session = self.buy(plan);
        let session = self.shop.till.object(&session).expect("the session");
        session["subscription"].as_str().expect("a subscription").to_owned()
    }

    pub fn balance(&self) -> i64 {
        self.credits()["balance"].as_i64().expect("a balance")
    }

    pub fn credits(&self) -> Value {
        let answer = self.browser.clone().get("/api/auth/credits/balance");
        answer.expect(200).json()
    }

    pub fn status(&self, session: &str) -> Value {
        let path = format!("/api/auth/billing/checkout-status?session={session}");
        self.browser.clone().get(&path).expect(200).json()
    }

    pub fn subscription(&self) -> Value {
        self.browser.clone().get("/api/auth/billing/subscription").expect(200).json()
    }

    pub fn spend(&self, amount: i64) {
        let mut backend = Backend::of(&self.shop.server);
        let body = json!({ "user_id": self.id, "amount": amount });
        let key = format!("spend-{amount}-{}", self.id);
        let answer = backend.try_post("debits", Some(&key), &body).expect("an answer");
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
}
