//! `tollgate dev` sells without a key of Stripe's: at a till of its own, through the same doors, and only there.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::commands::refused_in_words;
use crate::harness::guide::blocks_of_guide;
use crate::harness::{Browser, Engine, Request, Server, until};
use crate::program::{Program, Running};

const PATIENCE: Duration = Duration::from_secs(20);
const DEV: [&str; 3] = ["dev", "--listen", "127.0.0.1:0"];

/// What `dev` announced: its own address, and where its till is.
fn announced(dev: &Running) -> Value {
    let text = dev.output.text();
    let line = text.lines().find_map(|line| serde_json::from_str::<Value>(line).ok());
    line.filter(|line| line["listening"].is_string()).unwrap_or_else(|| panic!("no announcement in {text}"))
}

fn till(dev: &Running) -> SocketAddr {
    let announced = announced(dev);
    let url = announced["till"].as_str().unwrap_or_else(|| panic!("no till in {announced}"));
    url.trim_start_matches("http://").parse().expect("an address and a port")
}

/// Presses a button of the till.
#[track_caller]
fn press(till: SocketAddr, name: &str, wishes: &Value) -> Value {
    let answer =
        Request::post(&format!("/_till/actions/{name}"), wishes).send(till).expect("the till answers");
    answer.expect(200).json()
}

fn signed_in(dev: &Running) -> Browser {
    let base_url = announced(dev)["base_url"].as_str().expect("an address").to_owned();
    let mut browser = Browser::open(dev.address, &base_url);
    let body = json!({"email": "ada@example.test", "password": "correct-horse-battery"});
    browser.post("/api/auth/sign-in/email", body).expect(200);
    browser
}

fn balance(browser: &Browser) -> i64 {
    let credits = browser.clone().get("/api/auth/credits/balance").expect(200).json();
    credits["balance"].as_i64().expect("a balance")
}

/// Opens a checkout and gives the session's id, which stands in the page's address.
fn checkout(browser: &mut Browser, item: &str) -> String {
    let answer = browser.post("/api/auth/billing/checkout", json!({"price": item})).expect(200).json();
    let url = answer["url"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    url.rsplit('/').next().expect("a session").to_owned()
}

#[test]
fn dev_sells_at_its_own_till_what_nobody_configured() {
    let program = Program::in_new_folder();
    let dev = program.start(&DEV).expect("dev starts");
    let mut ada = signed_in(&dev);
    let catalogue = ada.get("/api/auth/billing/catalog").expect(200).json();
    assert_eq!(catalogue["packs"].as_array().map(Vec::len), Some(2), "{catalogue}");
    let session = checkout(&mut ada, "small");
    press(till(&dev), "pay", &json!({"session": session}));
    until(PATIENCE, "the balance rises", || (balance(&ada) == 500).then_some(()));
    press(till(&dev), "refund", &json!({"payment": session}));
    until(PATIENCE, "the balance falls", || (balance(&ada) == 0).then_some(()));
    let page =
        Request::get("/dev").header("Host", "localhost").send(dev.address).expect("the page").expect(200);
    let html = page.text().replace("&#x2f;", "/");
    assert!(html.contains(&format!("href=\"http://{}\"", till(&dev))), "{html}");
}

#[test]
fn a_new_till_after_a_restart_sells_as_if_nothing_had_been() {
    let program = Program::in_new_folder();
    let first = program.start(&DEV).expect("dev starts");
    let mut ada = signed_in(&first);
    for item in ["small", "basic"] {
        let session = checkout(&mut ada, item);
        press(till(&first), "pay", &json!({"session": session}));
    }
    until(PATIENCE, "the credits come", || (balance(&ada) == 1_500).then_some(()));
    drop(first);
    let second = program.start(&DEV).expect("dev starts again");
    let mut ada = signed_in(&second);
    // What was paid stays; the subscription ended with the till that would have renewed it.
    assert_eq!(balance(&ada), 1_500);
    assert_eq!(ada.get("/api/auth/billing/subscription").expect(200).json()["status"], "canceled");
    for item in ["small", "basic"] {
        let session = checkout(&mut ada, item);
        press(till(&second), "pay", &json!({"session": session}));
    }
    until(PATIENCE, "the credits come again", || (balance(&ada) == 3_000).then_some(()));
}

#[test]
fn dev_sells_what_is_configured_and_takes_no_real_money() {
    let program = Program::in_new_folder();
    let packs = "[stripe.packs.gold]\nprice = \"price_gold\"\ncredits = 7\namount = 70\ncurrency = \"eur\"\n";
    std::fs::write(program.path().join("tollgate.toml"), packs).expect("the folder is ours");
    let dev = program.start(&DEV).expect("dev starts");
    let mut ada = signed_in(&dev);
    let session = checkout(&mut ada, "gold");
    press(till(&dev), "pay", &json!({"session": session}));
    until(PATIENCE, "the balance rises", || (balance(&ada) == 7).then_some(()));
    drop(dev);
    let live = Program::in_new_folder().with("TOLLGATE_STRIPE__SECRET_KEY", "sk_live_blackbox");
    refused_in_words(&live.run(&DEV), &["live key", "takes no real money"]);
    // With a test key Stripe itself is asked, and there is no till.
    let test = Program::in_new_folder().with("TOLLGATE_STRIPE__SECRET_KEY", "sk_test_blackbox");
    let dev = test.start(&DEV).expect("dev starts");
    assert_eq!(announced(&dev)["till"], Value::Null);
}

/// What the guides tell people to write is understood, and sold at the till as it stands there.
#[test]
fn what_the_guides_describe_is_sold() {
    let program = Program::in_new_folder();
    let blocks = ["sell-credit-packs.md", "subscriptions.md", "refunds-and-disputes.md"]
        .map(|page| blocks_of_guide(page, "toml").join("\n"));
    // `[stripe]` itself comes first in TOML.
    let [packs, plans, policy] = blocks;
    let config = format!("{policy}\n{packs}\n{plans}");
    std::fs::write(program.path().join("tollgate.toml"), config).expect("the folder is ours");
    let dev = program.start(&DEV).expect("dev starts");
    let mut ada = signed_in(&dev);
    for (wish, credits) in [
        (json!({"price": "small"}), 500),
        (json!({"price": "support", "amount": 1_000}), 900),
        (json!({"price": "basic"}), 950),
    ] {
        let answer = ada.post("/api/auth/billing/checkout", wish).expect(200).json();
        let session = answer["url"].as_str().and_then(|url| url.rsplit('/').next()).expect("a session");
        press(till(&dev), "pay", &json!({"session": session}));
        until(PATIENCE, "the credits come", || (balance(&ada) == credits).then_some(()));
    }
}

/// The way to the till is shut where production runs: without a key nothing is sold, whatever is configured.
#[test]
fn serve_opens_no_till() {
    let mut server = Server::start(Engine::Sqlite);
    let mut ada = Browser::new(&server);
    ada.sign_up("ada@example.com");
    ada.get("/api/auth/billing/catalog").expect(404);
    assert!(!server.log().contains("till"), "{}", server.log());
    server.stop();
    server.reconfigure(
        "[stripe.packs.small]\nprice = \"price_small\"\ncredits = 500\namount = 1000\ncurrency = \"usd\"\n",
    );
    refused_in_words(&server.command(&["serve"]), &["no key to sell them with", "only `dev` has a till"]);
}
