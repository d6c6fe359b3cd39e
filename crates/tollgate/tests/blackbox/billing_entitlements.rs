//! What a plan turns on in the app: told by the gate and to backends while the subscription is live, and demanded where a rule
//! or a question says so.

use serde_json::{Value, json};
use till::Decline;

use crate::harness::credits::{field, refused};
use crate::harness::gate::Guard;
use crate::harness::shop::{Buyer, Shop};
use crate::harness::{Browser, Engine, Request, Response, Server};
use crate::on_both_engines;

/// `basic` turns on `export`, `tried` turns on both, `large` nothing.
const MORE: &str = "
    [credits]
    buy_url = \"https://app.example.com/buy\"
    [guest.allowances]
    generate = 3
    [[gate.rules]]
    path = \"/exports/*\"
    entitlement = \"export\"
    [[gate.rules]]
    path = \"/priority/*\"
    role = \"admin\"
    entitlement = \"export\"
";

struct Door<'a> {
    shop: &'a Shop,
    guard: Guard,
    key: String,
}

impl Door<'_> {
    fn of(shop: &Shop) -> Door<'_> {
        Door { shop, guard: Guard::of(&shop.server), key: shop.server.service_key() }
    }

    fn ask(&mut self, buyer: &Buyer<'_>, body: &Value) -> Response {
        self.guard.ask(&buyer.browser, body)
    }

    /// As a proxy asks about a request of this browser.
    fn forward(&self, browser: &Browser, uri: &str) -> Response {
        let request = Request::get("/api/gate/forward")
            .header("Authorization", &format!("Bearer {}", self.key))
            .header("X-Forwarded-Method", "GET")
            .header("X-Forwarded-Uri", uri);
        let request = match browser.cookie_header("/") {
            cookies if cookies.is_empty() => request,
            cookies => request.header("Cookie", &cookies),
        };
        request.send(self.shop.server.address).expect("an answer")
    }

    #[track_caller]
    fn expect(&mut self, buyer: &Buyer<'_>, features: &Value) {
        let told = self.ask(buyer, &json!({})).expect(200).json();
        assert_eq!(&told["features"], features, "{told}");
        let subscription = self.shop.backend_get(&format!("subscription?user_id={}", buyer.id));
        assert_eq!(&subscription["features"], features, "{subscription}");
        let demanded = self.ask(buyer, &json!({"entitlement": "export"}));
        let forwarded = self.forward(&buyer.browser, "/exports/7");
        if features.as_array().expect("a list").contains(&json!("export")) {
            assert_eq!(&demanded.expect(200).json()["features"], features);
            assert_eq!(forwarded.header("X-Tollgate-User"), Some(buyer.id.as_str()), "{}", forwarded.text());
        } else {
            for answer in [demanded, forwarded] {
                let refusal = refused(&answer, 403, "forbidden");
                assert_eq!(
                    (&refusal["detail"], &refusal["buy_url"]),
                    (&json!("export"), &json!("https://app.example.com/buy"))
                );
            }
        }
    }
}

fn a_feature_is_there_as_long_as_the_plan_is(engine: Engine) {
    let shop = Shop::with(engine, MORE);
    let mut door = Door::of(&shop);
    let mut ada = shop.buyer();
    door.expect(&ada, &json!([]));
    // Packs turn nothing on.
    ada.buy("small");
    shop.settled();
    door.expect(&ada, &json!([]));
    let subscription = ada.subscribe("basic");
    shop.settled();
    door.expect(&ada, &json!(["export"]));
    // A failed renewal leaves some days to pay; so does a cancellation until the period ends.
    let invoice = shop.till.fail_renewal(&subscription, Decline::Generic).expect("the card says no");
    shop.settled();
    door.expect(&ada, &json!(["export"]));
    shop.till.mend_card(&subscription).expect("another card");
    shop.till.pay_invoice(invoice["id"].as_str().expect("an id")).expect("it is paid");
    ada.browser.post("/api/auth/billing/subscription/cancel", json!({})).expect(200);
    shop.settled();
    door.expect(&ada, &json!(["export"]));
    ada.browser.post("/api/auth/billing/subscription/resume", json!({})).expect(200);
    // A plan without it, and back.
    ada.browser.post("/api/auth/billing/subscription/change", json!({"plan": "large"})).expect(200);
    shop.settled();
    door.expect(&ada, &json!([]));
    ada.browser.post("/api/auth/billing/subscription/change", json!({"plan": "basic"})).expect(200);
    shop.settled();
    door.expect(&ada, &json!(["export"]));
    shop.till.call("DELETE", &format!("/v1/subscriptions/{subscription}"), &[]).expect("it ends now");
    shop.settled();
    door.expect(&ada, &json!([]));
    // Nobody else has it.
    let mut bob = shop.buyer();
    door.expect(&bob, &json!([]));
    bob.subscribe("basic");
    shop.settled();
    door.expect(&bob, &json!(["export"]));
    door.expect(&ada, &json!([]));
    shop.expect_sound();
}
on_both_engines!(a_feature_is_there_as_long_as_the_plan_is);

fn who_lacks_a_feature_pays_nothing_and_is_refused_in_order(engine: Engine) {
    let shop = Shop::with(engine, MORE);
    let mut door = Door::of(&shop);
    let mut ada = shop.buyer();
    ada.buy("small");
    shop.settled();
    let charged = json!({"entitlement": "export", "charge": {"amount": 5}});
    let refusal = refused(&door.guard.ask_under(&ada.browser, "one", &charged), 403, "forbidden");
    assert_eq!(refusal["detail"], "export");
    assert_eq!(ada.balance(), 500);
    // The role is asked for first, and the payer.
    let both = json!({"entitlement": "export", "role": "admin"});
    assert_eq!(refused(&door.ask(&ada, &both), 403, "forbidden")["detail"], Value::Null);
    let payer = json!({"entitlement": "export", "payer": {"organization_id": "acme"}});
    assert_eq!(refused(&door.ask(&ada, &payer), 403, "forbidden")["detail"], Value::Null);
    assert_eq!(refused(&door.forward(&ada.browser, "/priority/1"), 403, "forbidden")["detail"], Value::Null);
    // The refused key is free, and a replay is judged afresh.
    let subscription = ada.subscribe("basic");
    shop.settled();
    for replayed in [false, true] {
        let answer = door.guard.ask_under(&ada.browser, "one", &charged).expect(200).json();
        assert_eq!(answer["charge"]["replayed"], replayed, "{answer}");
        assert_eq!(ada.balance(), 1_495);
    }
    shop.till.call("DELETE", &format!("/v1/subscriptions/{subscription}"), &[]).expect("it ends now");
    shop.settled();
    refused(&door.guard.ask_under(&ada.browser, "one", &charged), 403, "forbidden");
    // Visitors have no plan, and an allowance is none.
    let nobody = Browser::new(&shop.server);
    refused(&door.guard.ask(&nobody, &json!({"entitlement": "export"})), 401, "unauthenticated");
    let guest = json!({"entitlement": "export", "guest": {"action": "generate"}});
    let mut visitor = Browser::new(&shop.server);
    visitor.post("/api/guest", json!({})).expect(201);
    refused(&door.guard.ask(&visitor, &guest), 401, "unauthenticated");
    refused(&door.forward(&nobody, "/exports/7"), 401, "unauthenticated");
    // What no plan has is a mistake of the app's.
    for unknown in [json!("exports"), json!(""), json!(7), json!(["export"])] {
        let asked = json!({ "entitlement": unknown });
        assert_eq!(field(&door.ask(&ada, &asked), 422, "invalid_request"), "entitlement");
    }
}
on_both_engines!(who_lacks_a_feature_pays_nothing_and_is_refused_in_order);

/// A session that has to be extended within the same call.
fn a_feature_is_told_with_a_session_that_is_extended(engine: Engine) {
    let shop = Shop::with(engine, MORE);
    let mut door = Door::of(&shop);
    let mut ada = shop.buyer();
    ada.subscribe("basic");
    shop.settled();
    for demanded in [json!({}), json!({"entitlement": "export"})] {
        // Two days into its week it is due.
        shop.server.database.shift("sessions", "expires_at", -2 * kernel::time::DAY, "TRUE");
        let answer = door.ask(&ada, &demanded);
        assert!(answer.header("Set-Cookie").is_some(), "it was not due: {}", answer.text());
        assert_eq!(answer.expect(200).json()["features"], json!(["export"]));
    }
    shop.server.database.shift("sessions", "expires_at", -2 * kernel::time::DAY, "TRUE");
    assert_eq!(door.forward(&ada.browser, "/exports/7").status, 200);
}
on_both_engines!(a_feature_is_told_with_a_session_that_is_extended);

fn where_nothing_is_sold_nobody_has_a_feature(engine: Engine) {
    let server = Server::start(engine);
    let mut guard = Guard::of(&server);
    let mut ada = Browser::new(&server);
    ada.sign_up("ada@example.com");
    assert!(guard.ask(&ada, &json!({})).expect(200).json().get("features").is_none());
    let asked = guard.ask(&ada, &json!({"entitlement": "export"}));
    assert_eq!(field(&asked, 422, "invalid_request"), "entitlement");
}
on_both_engines!(where_nothing_is_sold_nobody_has_a_feature);
