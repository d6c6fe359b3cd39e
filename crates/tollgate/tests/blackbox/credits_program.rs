//! The ledger from the operator's side: what the configuration gives to new people, what happens to it when they go, and
//! `tollgate credits`, all beside a running server.

use std::time::Duration;

use serde_json::{Value, json};

use crate::commands::{object, refused_in_words};
use crate::harness::credits::{
    Backend, books_balance, figures, fresh_key, ledger_verifies, make_user, number, refused, text,
};
use crate::harness::server::Finished;
use crate::harness::{Browser, Engine, PASSWORD, Server, in_parallel};
use crate::on_both_engines;
use crate::program::Program;

const GRANT: &str = "[credits]\nsignup_grant = 100\n[accounts]\ndelete_user = true\n";

/// What the command says of an owner, or that there is nobody.
#[track_caller]
fn balance(server: &Server, who: &str) -> i64 {
    let shown = object(&server.command(&["credits", "balance", who, "--json"]), 0);
    assert_eq!(shown["unit"], "credits", "{shown}");
    shown["balance"].as_i64().unwrap_or_else(|| panic!("no balance in {shown}"))
}

fn entries(server: &Server) -> i64 {
    server.database.integer("SELECT COUNT(*) FROM credit_entries")
}

/// A command as a certain person types it.
fn as_operator(server: &Server, name: &str, arguments: &[&str]) -> Finished {
    let file = server.config_file().display().to_string();
    let all = [arguments, &["--config", &file]].concat();
    Program::in_new_folder().with("USER", name).run(&all)
}

fn a_mailbox_gets_its_grant_once_however_it_is_spelled_and_also_after_a_deletion(engine: Engine) {
    let server = Server::with(engine, GRANT);
    let mut ada = Browser::new(&server);
    let id = ada.sign_up("ada@example.com")["user"]["id"].as_str().expect("an id").to_owned();
    assert_eq!(balance(&server, "ada@example.com"), 100);
    for (spelling, granted) in [
        ("ADA+again@example.com", 0),
        ("bob@example.com", 100),
        ("b.o.b@gmail.com", 100),
        ("bob+1@googlemail.com", 0),
    ] {
        Browser::new(&server).sign_up(spelling);
        assert_eq!(balance(&server, &spelling.to_lowercase()), granted, "{spelling}");
    }
    ada.post("/api/auth/delete-user", json!({"password": PASSWORD})).expect(200);
    // What is written stays, under the bare id, and nothing comes to it.
    assert_eq!(balance(&server, &id), 100);
    let late = ["credits", "grant", &id, "5", "--reason", "late"];
    refused_in_words(&server.command(&late), &["There is no user"]);
    let back = Browser::new(&server).sign_up("ada@example.com")["user"]["id"].clone();
    assert_ne!(back, id.as_str());
    assert_eq!(balance(&server, "ada@example.com"), 0);
    // The operator's way of deleting and making people is the same.
    object(&server.command(&["user", "delete", "bob@example.com", "--yes", "--json"]), 0);
    for (address, granted) in [("bob@example.com", 0), ("new@example.com", 100)] {
        let made = object(&server.command(&["user", "create", address, "--json"]), 0);
        let told = if granted > 0 { json!({"amount": granted, "unit": "credits"}) } else { Value::Null };
        assert_eq!(made["signup_grant"], told, "{address}");
        assert_eq!(balance(&server, address), granted, "{address}");
    }
    for (address, words) in
        [("NEW+1@example.com", "Granted nothing"), ("newer@example.com", "Granted 100 credits")]
    {
        let made = server.command(&["user", "create", address]);
        assert!(made.code == Some(0) && made.stdout.contains(words), "{made:?}");
    }
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM credit_accounts WHERE closed"), 2);
    assert_eq!(entries(&server), 5);
    object(&server.command(&["credits", "verify", "--json"]), 0);
}
on_both_engines!(a_mailbox_gets_its_grant_once_however_it_is_spelled_and_also_after_a_deletion);

fn an_address_that_must_be_verified_gets_its_grant_when_it_is(engine: Engine) {
    let server = Server::with(
        engine,
        "[credits]\nsignup_grant = { amount = 7, expires_in = \"30d\" }\n[email_password]\nrequire_verification = true\n",
    );
    let mut ada = Browser::new(&server);
    ada.sign_up("ada@example.com");
    Browser::new(&server).sign_up("nobody@example.com");
    assert_eq!(balance(&server, "ada@example.com"), 0);
    let link = server.mail.take("ada@example.com", Duration::from_secs(10)).link();
    for _ in 0..2 {
        ada.follow(&link);
        assert_eq!(balance(&server, "ada@example.com"), 7);
    }
    assert_eq!(balance(&server, "nobody@example.com"), 0);
    let shown = object(&server.command(&["credits", "balance", "ada@example.com", "--json"]), 0);
    assert_eq!(shown["grants"][0]["source"], "signup", "{shown}");
    assert!(shown["grants"][0]["expires_at"].is_string(), "{shown}");
}
on_both_engines!(an_address_that_must_be_verified_gets_its_grant_when_it_is);

fn sign_ups_of_one_mailbox_on_two_nodes_at_once_get_one_grant(engine: Engine) {
    let first = Server::with(engine, GRANT);
    let second = Server::second_node(&first);
    in_parallel(8, |number| {
        let node = if number % 2 == 0 { &first } else { &second };
        Browser::new(node).sign_up(&format!("ada+{number}@example.com"));
    });
    assert_eq!(first.database.integer("SELECT COUNT(*) FROM users"), 8);
    assert_eq!(entries(&first), 1);
    object(&first.command(&["credits", "verify", "--json"]), 0);
}
on_both_engines!(sign_ups_of_one_mailbox_on_two_nodes_at_once_get_one_grant);

/// C28.
fn an_adjustment_needs_a_reason_and_its_entry_names_it_and_the_operator(engine: Engine) {
    let server = Server::start(engine);
    Browser::new(&server).sign_up("ada@example.com");
    let without = server.command(&["credits", "adjust", "ada@example.com", "50"]);
    assert_eq!((without.code, without.stdout.as_str()), (Some(2), ""), "{without:?}");
    assert!(without.stderr.contains("--reason"), "{without:?}");
    for wrong in [
        &["credits", "adjust", "ada@example.com", "50", "--reason", " "][..],
        &["credits", "adjust", "ada@example.com", "0", "--reason", "nothing"],
        &["credits", "adjust", "ada@example.com", "1.5", "--reason", "half"],
        &["credits", "adjust", "ada@example.com", "--reason", "how much"],
        &["credits", "adjust", "nobody@example.com", "50", "--reason", "who"],
        &["credits", "adjust", "absent", "50", "--reason", "who"],
        &["credits", "adjust", "50", "--organization", "absent", "--reason", "who"],
        &["credits", "adjust", "ada@example.com", "50", "--unit", "gems", "--reason", "what"],
        &["credits", "adjust", "ada@example.com", "-1", "--reason", "more than there is"],
    ] {
        object(&server.command(&[wrong, &["--json"]].concat()), 1);
        refused_in_words(&server.command(wrong), &["tollgate: "]);
    }
    assert_eq!(entries(&server), 0);

    let give = ["credits", "adjust", "ada@example.com", "50", "--reason", "lost in a crash", "--json"];
    let given = object(&as_operator(&server, "grace", &give), 0);
    assert_eq!(given["balance"]["balance"], 50, "{given}");
    let take = ["credits", "adjust", "ada@example.com", "-20", "--reason", "counted twice", "--json"];
    let taken = object(&as_operator(&server, "grace", &take), 0);
    let expected = json!({"kind": "adjustment", "amount": -20, "balance_after": 30, "actor": "operator:grace", "reason": "counted twice"});
    for (name, value) in expected.as_object().expect("it is one") {
        assert_eq!(taken["entry"][name], *value, "{taken}");
    }
    let words =
        as_operator(&server, "grace", &["credits", "adjust", "ada@example.com", "-5", "--reason", "x"]);
    assert!(
        words.expect_done().stdout.starts_with("Took 5 credits from ada@example.com.\nThe balance now: 25")
    );
    assert_eq!(balance(&server, "ada@example.com"), 25);
}
on_both_engines!(an_adjustment_needs_a_reason_and_its_entry_names_it_and_the_operator);

fn a_grant_is_made_once_under_its_key_and_seen_everywhere(engine: Engine) {
    let server = Server::with(engine, "[credits]\nunits = [\"credits\", \"tokens\"]\n");
    Browser::new(&server).sign_up("ada@example.com");
    let grant = [
        "credits",
        "grant",
        "ada@example.com",
        "500",
        "--unit",
        "tokens",
        "--reason",
        "welcome",
        "--expires-in",
        "30d",
        "--priority",
        "10",
        "--idempotency-key",
        "welcome-ada",
    ];
    let first = object(&server.command(&[&grant[..], &["--json"]].concat()), 0);
    assert_eq!((&first["grant"]["source"], &first["grant"]["priority"]), (&json!("promo"), &json!(10)));
    let again = server.command(&grant).expect_done();
    assert!(again.stdout.contains("nothing was done"), "{again:?}");
    let mut other = grant;
    other[3] = "600";
    refused_in_words(&server.command(&other), &["`amount` differs", "--idempotency-key"]);
    assert_eq!(entries(&server), 1);

    let shown = server.command(&["credits", "balance", "ada@example.com"]).expect_done().stdout;
    assert!(shown.contains("credits: balance 0") && shown.contains("--unit tokens"), "{shown}");
    let shown =
        server.command(&["credits", "balance", "ada@example.com", "--unit", "tokens"]).expect_done().stdout;
    assert!(
        shown.contains("tokens: balance 500, held 0, available 500") && shown.contains("500 of 500"),
        "{shown}"
    );
    let past = ["credits", "balance", "ada@example.com", "--unit", "tokens", "--at", "2020-01-01", "--json"];
    assert_eq!(object(&server.command(&past), 0)["balance"], 0);
    refused_in_words(&server.command(&["credits", "balance", "absent"]), &["There is no user"]);

    // One owner's entries are as the API lists them; everybody's begin with the owner.
    let lines =
        server.command(&["credits", "export", "ada@example.com", "--format", "ndjson"]).expect_done().stdout;
    let line: Value = serde_json::from_str(lines.trim_end()).expect("one line of JSON");
    assert_eq!((&line["id"], &line["unit"]), (&first["entry"]["id"], &json!("tokens")));
    let csv = server.command(&["credits", "export"]).expect_done().stdout;
    let (header, row) = csv.split_once("\r\n").expect("a header");
    assert!(header.starts_with("owner,id,seq,kind,amount") && row.starts_with("\"user:"), "{csv}");
    let file = server.folder().join("entries.csv").display().to_string();
    let to_file = ["credits", "export", "--output", &file, "--json"];
    assert_eq!(object(&server.command(&to_file), 0)["entries"], 1);
    object(&server.command(&to_file), 1);
    let none = ["credits", "export", "ada@example.com", "--to", "2020-01-01"];
    assert_eq!(server.command(&none).expect_done().stdout.lines().count(), 1);
}
on_both_engines!(a_grant_is_made_once_under_its_key_and_seen_everywhere);

/// C24.
fn verify_names_the_first_entry_whose_amount_was_changed(engine: Engine) {
    let server = Server::with(engine, GRANT);
    for name in ["ada", "bob"] {
        let address = format!("{name}@example.com");
        Browser::new(&server).sign_up(&address);
        for amount in ["10", "-20", "30"] {
            object(&server.command(&["credits", "adjust", &address, amount, "--reason", "x", "--json"]), 0);
        }
    }
    let sound = object(&server.command(&["credits", "verify", "--json"]), 0);
    assert_eq!((&sound["ok"], &sound["entries"], &sound["problems"]), (&json!(true), &json!(8), &json!([])));
    assert_eq!(sound["accounts"], 2);
    let bob = "account_id = (SELECT a.id FROM credit_accounts a JOIN users u ON a.owner = 'user:' || u.id WHERE u.email = 'bob@example.com')";
    let changed =
        server.database.execute(&format!("UPDATE credit_entries SET amount = 1000 WHERE seq = 2 AND {bob}"));
    assert_eq!(changed, 1);
    let broken = object(&server.command(&["credits", "verify", "--json"]), 1);
    assert_eq!(broken["ok"], false);
    let owner = server.database.value("SELECT 'user:' || id FROM users WHERE email = 'bob@example.com'");
    let problem =
        broken["problems"].as_array().into_iter().flatten().find(|one| one["owner"] == json!(owner));
    assert_eq!(problem.map(|one| &one["seq"]), Some(&json!(2)), "{broken}");
    let in_words = server.command(&["credits", "verify"]);
    assert_eq!(in_words.code, Some(1), "{in_words:?}");
    assert!(
        in_words.stdout.contains("entry 2") && in_words.stderr.contains("does not add up"),
        "{in_words:?}"
    );
}
on_both_engines!(verify_names_the_first_entry_whose_amount_was_changed);

fn other_prices_are_the_next_version_of_the_book(engine: Engine) {
    let mut server = Server::start(engine);
    let versions = |server: &Server| server.database.integer("SELECT MAX(version) FROM credit_prices");
    assert_eq!(versions(&server), 1);
    for (book, version) in [("{ a = 5 }", 2), ("{ a = 5 }", 2), ("{ a = 6 }", 3)] {
        server.stop();
        server.reconfigure(&format!("[credits]\nfeatures = {book}\n"));
        server.restart();
        assert_eq!(versions(&server), version, "{book}");
    }
}
on_both_engines!(other_prices_are_the_next_version_of_the_book);

#[test]
fn a_bad_ledger_configuration_is_told_in_one_go() {
    let program = Program::in_new_folder()
        .with("TOLLGATE_CREDITS__UNITS", "credits,Tokens")
        .with("TOLLGATE_CREDITS__SIGNUP_GRANT", "{ amount = -1 }")
        .with("TOLLGATE_CREDITS__NEGATIVE_FLOOR", "5")
        .with("TOLLGATE_CREDITS__FEATURES", "{ a = 0, b = { amount = 1, unit = \"gems\" } }")
        .with("TOLLGATE_CREDITS__MODELS", "{ m = { per = 7, input = 1, output = 1 } }")
        .with("TOLLGATE_CREDITS__TIME_ZONE", "Europe/Berln")
        .with("TOLLGATE_CREDITS__LOW_BALANCE", "many")
        .with("TOLLGATE_CREDITS__BUY_URL", "javascript:alert(1)");
    let found = object(&program.run(&["serve", "--json"]), 1);
    let told: Vec<(&str, &str)> = found["error"]["problems"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| Some((one["setting"].as_str()?, one["fix"].as_str()?)))
        .filter(|(setting, _)| setting.starts_with("credits."))
        .collect();
    for (setting, count) in [
        ("credits.units", 1),
        ("credits.signup_grant", 1),
        ("credits.negative_floor", 1),
        ("credits.features", 2),
        ("credits.models", 1),
        ("credits.time_zone", 1),
        ("credits.low_balance", 1),
        ("credits.buy_url", 1),
    ] {
        assert_eq!(told.iter().filter(|(name, _)| *name == setting).count(), count, "{setting}: {told:?}");
    }
    assert!(told.iter().all(|(_, fix)| !fix.is_empty()), "{told:?}");
    assert!(told.iter().any(|(_, fix)| fix.contains("Europe/Berlin")), "{told:?}");
}

fn an_adjustment_wants_a_reason_and_says_who_made_it(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    let without = server.command(&["credits", "adjust", &user, "5"]);
    assert_eq!(without.code, Some(2), "{without:?}");
    let empty = server.command(&["credits", "adjust", &user, "5", "--reason", ""]);
    assert!(matches!(empty.code, Some(1 | 2)), "{empty:?}");
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM credit_entries"), 0);
    for (amount, reason) in [("5", "a gift"), ("-2", "a mistake")] {
        server.command(&["credits", "adjust", &user, amount, "--reason", reason, "--json"]).expect_done();
    }
    let entries = backend.entries(&user);
    let told: Vec<(i64, String)> =
        entries.iter().map(|entry| (number(&entry["amount"]), text(&entry["reason"]))).collect();
    assert_eq!(told, [(5, "a gift".to_owned()), (-2, "a mistake".to_owned())]);
    for entry in &entries {
        assert_eq!(entry["kind"], "adjustment");
        assert!(text(&entry["actor"]).starts_with("operator:"), "{entry}");
    }
    assert_eq!(figures(&backend.balance(&user)), [3, 0, 3, 0]);
    // The app's backend has no door to it.
    let body = json!({"user_id": user, "amount": 5, "reason": "a gift"});
    refused(&backend.post("adjustments", &fresh_key(), &body), 404, "not_found");
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(an_adjustment_wants_a_reason_and_says_who_made_it);
