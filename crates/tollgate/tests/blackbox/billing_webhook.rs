//! The door that Stripe delivers to: who is believed, what is written down, and what each kind of event means.

use serde_json::{Value, json};

use crate::harness::shop::{SECRET, Shop, now_in_seconds, signed, signed_at};
use crate::harness::{Engine, Request, Server, in_parallel};
use crate::on_both_engines;

fn event(id: &str, kind: &str, object: Value) -> Value {
    json!({"id": id, "object": "event", "type": kind, "livemode": false, "created": now_in_seconds(),
        "api_version": "2026-10-28.endive", "data": {"object": object}})
}

fn harmless(id: &str) -> Vec<u8> {
    event(id, "price.updated", json!({"id": "price_1"})).to_string().into_bytes()
}

/// B01: both secrets while one replaces the other, in any order; nothing but `v1`.
fn every_secret_of_the_configuration_is_believed_and_no_other(engine: Engine) {
    let mut shop = Shop::open(engine);
    shop.server.stop();
    shop.server.reconfigure("[stripe]\nwebhook_secrets = [\"whsec_new\\n\", \"whsec_old\"]\n");
    shop.server.restart();
    let body = harmless("evt_1");
    let status = |header: &str| shop.deliver(Some(header), &body).status;
    for secrets in
        [&["whsec_old"][..], &["whsec_new"], &["whsec_new", "whsec_old"], &["whsec_x", "whsec_old"]]
    {
        assert_eq!(status(&signed(secrets, &body)), 200, "{secrets:?}");
    }
    for secrets in [&["whsec_x"][..], &["whsec_x", "whsec_y"], &["whsec_new\n"], &[""], &[SECRET]] {
        assert_eq!(status(&signed(secrets, &body)), 400, "{secrets:?}");
    }
    let good = signed(&["whsec_old"], &body);
    let (time, hex) = good.split_once(",v1=").expect("a signature");
    let zeros = "0".repeat(64);
    for header in [
        format!("v1={hex},{time}"),
        format!("v0={zeros},{time},v1={hex}"),
        format!("{time},v1={zeros},v1={hex}"),
        format!("t=1,{time},v1={hex}"),
        format!("{time},v2=x,scheme,v1={hex},"),
    ] {
        assert_eq!(status(&header), 200, "{header}");
    }
    for header in [
        format!("{time},v0={hex}"),
        format!("{time},v1={}", hex.to_uppercase()),
        format!("{time}, v1={hex}"),
        format!("{time},v1={}", &hex[1..]),
        format!("{time},v1={hex}0"),
        format!("{time},t=1,v1={hex}"),
        format!("t=,v1={hex}"),
        format!("t=+{},v1={hex}", &time[2..]),
        format!("v1={hex}"),
        time.to_owned(),
        String::new(),
        ",".repeat(5_000),
    ] {
        assert_eq!(status(&header), 400, "{header}");
    }
    // Of two headers each reader would believe another.
    let twice = Request::new("POST", "/api/billing/webhook")
        .header("Stripe-Signature", &good)
        .header("Stripe-Signature", &good)
        .body(body.clone());
    assert_eq!(twice.send(shop.server.address).expect("an answer").status, 400);
    let refused = shop.deliver(Some("t=1,v1=00"), &body);
    assert!(!refused.text().contains("whsec") && !refused.text().contains(hex), "{}", refused.text());
    assert!(!shop.server.log().contains("whsec"), "a secret is in the log");
    assert_eq!(shop.server.database.integer("SELECT COUNT(*) FROM billing_inbox"), 1);
}
on_both_engines!(every_secret_of_the_configuration_is_believed_and_no_other);

/// B02: the signature is over the bytes, whatever they are.
fn a_body_is_judged_byte_by_byte(engine: Engine) {
    let shop = Shop::open(engine);
    let text = |id: &str, inside: &str| {
        format!(
            "{{\"id\":\"{id}\",\"object\":\"event\",\"type\":\"price.updated\",{inside}\"livemode\":false}}"
        )
    };
    let bodies = [
        text("evt_crlf", "\r\n  \"data\": {\"object\": {\"name\": \"a\\r\\nb\"}},\r\n"),
        text("evt_unicode", "\"data\":{\"object\":{\"name\":\"żółć 😀 \u{2028}\"}},"),
        text("evt_escaped", "\"data\":{\"object\":{\"name\":\"\\u017c\\ud83d\\ude00 \\u00e9\"}},"),
        format!("{}\n", text("evt_newline", "")),
        format!("  \t{}\r\n\r\n", text("evt_space", "")),
    ];
    for body in &bodies {
        let body = body.as_bytes();
        let header = signed(&[SECRET], body);
        assert_eq!(shop.deliver(Some(&header), body).status, 200, "{}", String::from_utf8_lossy(body));
        for changed in [[body, b"\n"].concat(), body.to_ascii_uppercase(), body[..body.len() - 1].to_vec()] {
            assert_eq!(shop.deliver(Some(&header), &changed).status, 400);
        }
        let unix: Vec<u8> = body.iter().copied().filter(|byte| *byte != b'\r').collect();
        assert_eq!(shop.deliver(Some(&header), &unix).status == 200, unix == body);
    }
    assert_eq!(shop.server.database.integer("SELECT COUNT(*) FROM billing_inbox"), bodies.len() as i64);
    // Signed, and no event all the same.
    for odd in [
        &b""[..],
        b"{}",
        b"[]",
        b"null",
        b"{\"id\":\"evt_1\"}",
        b"{\"id\":\"evt_1\",\"type\":7}",
        b"{\"id\":\"\",\"type\":\"a\"}",
        b"{\"id\":\"evt_\\u0000\",\"type\":\"a\"}",
        b"\xff\xfe{}",
        b"{\"id\":\"evt_1\",\"type\":\"a\"} {}",
    ] {
        let answer = shop.deliver(Some(&signed(&[SECRET], odd)), odd);
        assert_eq!(answer.status, 400, "{} {}", String::from_utf8_lossy(odd), answer.text());
    }
    let long = [text("evt_long", "").into_bytes(), vec![b' '; 513 << 10]].concat();
    assert_eq!(shop.deliver(Some(&signed(&[SECRET], &long)), &long).status, 413);
    let fits = [text("evt_fits", "").into_bytes(), vec![b' '; 500 << 10]].concat();
    assert_eq!(shop.deliver(Some(&signed(&[SECRET], &fits)), &fits).status, 200);
}
on_both_engines!(a_body_is_judged_byte_by_byte);

/// The tolerance holds into the past and into the future; each attempt of Stripe's is signed afresh.
fn what_was_signed_too_long_ago_is_refused(engine: Engine) {
    let shop = Shop::open(engine);
    let body = harmless("evt_1");
    let at =
        |off: i64| shop.deliver(Some(&signed_at(&[SECRET], now_in_seconds() + off, &body)), &body).status;
    assert_eq!([at(-290), at(0), at(290)], [200; 3]);
    assert_eq!([at(-310), at(310), at(-86_400 * 365)], [400; 3]);
    let far = signed_at(&[SECRET], 999_999_999_999_999, &body);
    assert_eq!(shop.deliver(Some(&far), &body).status, 400);
}
on_both_engines!(what_was_signed_too_long_ago_is_refused);

/// Without billing there is no door, not even for what an empty secret signs.
fn without_a_secret_the_door_is_shut(engine: Engine) {
    let server = Server::start(engine);
    let body = harmless("evt_1");
    for secrets in [&[""][..], &[SECRET]] {
        let request = Request::new("POST", "/api/billing/webhook")
            .header("Stripe-Signature", &signed(secrets, &body))
            .body(body.clone());
        assert_eq!(request.send(server.address).expect("an answer").status, 404);
    }
}
on_both_engines!(without_a_secret_the_door_is_shut);

/// B14: unknown kinds, thin events, the other mode and other apps' sessions are taken, noted, and give nothing.
fn what_is_not_ours_is_taken_and_gives_nothing(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let session = ada.checkout(&json!({"price": "small"}));
    shop.till.hold_deliveries();
    shop.till.pay(&session).expect("it is paid");
    let foreign = shop
        .till
        .call(
            "POST",
            "/v1/checkout/sessions",
            &[
                ("mode", "payment"),
                ("line_items[0][price]", "price_small"),
                ("line_items[0][quantity]", "1"),
                ("success_url", "http://localhost/"),
                ("client_reference_id", &ada.id),
                ("metadata[tollgate_checkout]", "somebody"),
                ("metadata[user_id]", &ada.id),
            ],
        )
        .expect("another app sells here too");
    let foreign = foreign["id"].as_str().expect("an id").to_owned();
    shop.till.pay(&foreign).expect("it is paid");
    let thin = json!({"id": "evt_thin", "object": "v2.core.event", "type": "v1.billing.meter.error_report_triggered",
        "created": "2026-11-01T00:00:00.000Z", "livemode": false, "context": null, "reason": null, "data": null,
        "related_object": {"id": "mtr_1", "type": "billing.meter", "url": "/v1/billing/meters/mtr_1"}});
    let mut without_data = thin.clone();
    without_data["id"] = json!("evt_thinner");
    without_data.as_object_mut().expect("an object").remove("data");
    let mut live =
        event("evt_live", "checkout.session.completed", json!({"id": session, "object": "checkout.session"}));
    live["livemode"] = json!(true);
    let bodies = [
        event("evt_unknown", "galaxy.collapsed", json!({"id": "gal_1"})),
        event("evt_odd", "checkout.session.completed", json!(["no object"])),
        event("evt_missing", "checkout.session.completed", json!({"id": "cs_test_nowhere"})),
        event("evt_path", "checkout.session.completed", json!({"id": "../refunds"})),
        event("evt_foreign", "checkout.session.completed", json!({"id": foreign})),
        thin,
        without_data,
        live,
    ];
    for body in &bodies {
        let (id, body) = (body["id"].as_str().expect("an id"), body.to_string().into_bytes());
        for _ in 0..2 {
            let answer = shop.deliver(Some(&signed(&[SECRET], &body)), &body);
            assert_eq!((answer.status, answer.text().as_str()), (200, "{\"received\":true}"), "{id}");
        }
    }
    shop.settled();
    let states = shop.server.database.rows("SELECT DISTINCT state FROM billing_inbox");
    assert_eq!(
        states,
        [[Some("ignored".to_owned())]],
        "{:?}",
        shop.server.database.rows("SELECT id, state, error FROM billing_inbox")
    );
    let delivered = "SELECT COUNT(*) FROM billing_inbox WHERE kind <> 'customer.created'";
    assert_eq!(shop.server.database.integer(delivered), bodies.len() as i64);
    assert_eq!(
        shop.server.database.integer("SELECT COUNT(*) FROM billing_inbox WHERE id = 'live:evt_live'"),
        1
    );
    assert_eq!(ada.balance(), 0);
    // The same id in our own mode is another event.
    let mut ours = event("evt_live", "checkout.session.completed", json!({"id": session}));
    ours["created"] = json!(1);
    let ours = ours.to_string().into_bytes();
    assert_eq!(shop.deliver(Some(&signed(&[SECRET], &ours)), &ours).status, 200);
    shop.settled();
    assert_eq!(ada.balance(), 500);
    assert_eq!(shop.server.database.integer("SELECT COUNT(*) FROM credit_entries"), 1);
    shop.expect_sound();
}
on_both_engines!(what_is_not_ours_is_taken_and_gives_nothing);

/// B14: the shapes before 2025-03-31 lead to the same.
fn events_in_the_old_shapes_lead_to_the_same(engine: Engine) {
    let mut results = Vec::new();
    for old in [false, true] {
        let shop = Shop::under(engine, "", |mut options| {
            options.old_event_shapes = old;
            options
        });
        let mut ada = shop.buyer();
        ada.buy("small");
        let subscription = ada.subscribe("basic");
        shop.till.renew(&subscription).expect("a month later");
        let invoice =
            shop.till.object(&subscription).expect("it")["latest_invoice"].as_str().expect("one").to_owned();
        shop.till.refund(&invoice, Some(500)).expect("half of it goes back");
        shop.settled();
        let mut subscription = ada.subscription();
        subscription["currentPeriodEnd"] = Value::Null;
        let invoice = shop.till.events_of("invoice.paid").remove(0);
        let body = shop.till.events().into_iter().find(|event| event["id"] == invoice.as_str()).expect("it");
        assert_eq!(body["data"]["object"]["subscription"].is_string(), old, "{body:#}");
        results.push((ada.balance(), subscription));
        shop.expect_sound();
    }
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0].0, 500 + 1_000 + 500);
}
on_both_engines!(events_in_the_old_shapes_lead_to_the_same);

/// Copies that arrive together are one row.
fn fifty_copies_at_once_are_one_row(engine: Engine) {
    let shop = Shop::open(engine);
    let body = harmless("evt_1");
    let header = signed(&[SECRET], &body);
    let statuses = in_parallel(50, |_| shop.deliver(Some(&header), &body).status);
    assert_eq!(statuses, [200; 50]);
    assert_eq!(shop.server.database.integer("SELECT COUNT(*) FROM billing_inbox"), 1);
}
on_both_engines!(fifty_copies_at_once_are_one_row);

/// Signed, and about nothing that could be looked at: taken, so that it is not sent for days, and ignored.
fn an_event_about_an_impossible_object_is_taken_and_ignored(engine: Engine) {
    let shop = Shop::open(engine);
    let long = "x".repeat(300);
    for (number, id) in ["in_\0", long.as_str(), "\u{fffd}\0"].into_iter().enumerate() {
        let name = format!("evt_impossible_{number}");
        let body = event(&name, "invoice.paid", json!({"id": id, "payment_intent": id})).to_string();
        assert_eq!(shop.deliver(Some(&signed(&[SECRET], body.as_bytes())), body.as_bytes()).status, 200);
        assert_eq!(shop.noted(&name).0, "ignored", "{id:?}");
    }
    // What does not look like an id at Stripe leads nowhere there.
    let body = event("evt_path", "invoice.paid", json!({"id": "../customers?x=1#"})).to_string();
    assert_eq!(shop.deliver(Some(&signed(&[SECRET], body.as_bytes())), body.as_bytes()).status, 200);
    shop.settled();
    assert_eq!(shop.noted("evt_path").0, "ignored");
}
on_both_engines!(an_event_about_an_impossible_object_is_taken_and_ignored);
