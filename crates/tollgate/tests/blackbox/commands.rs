//! The command line: what operators type, what they read, and what scripts read with `--json`.

use serde_json::{Value, json};

use crate::harness::server::Finished;
use crate::harness::{Browser, Engine, Server};
use crate::on_both_engines;
use crate::program::{Program, Running};

/// The one JSON object that a command prints with `--json`, whatever its outcome.
#[track_caller]
pub fn object(finished: &Finished, code: i32) -> Value {
    assert_eq!(finished.code, Some(code), "{finished:?}");
    assert_eq!(finished.stdout.lines().count(), 1, "{finished:?}");
    let value = finished.json();
    assert!(value.is_object(), "{finished:?}");
    if code != 0 && value.get("error").is_some() {
        for part in ["message", "next"] {
            assert!(value["error"][part].as_str().is_some_and(|text| !text.is_empty()), "{value}");
        }
    }
    value
}

/// Without `--json`: results on standard output, or a reason and what to do next on standard error.
#[track_caller]
pub fn refused_in_words(finished: &Finished, words: &[&str]) {
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), ""), "{finished:?}");
    for word in words {
        assert!(finished.stderr.contains(word), "{word}: {finished:?}");
    }
}

fn service_keys_are_made_listed_and_revoked(engine: Engine) {
    let server = Server::start(engine);
    let made = object(&server.command(&["key", "create", "backend", "--json"]), 0);
    let (id, key) = (made["id"].as_str().expect("an id"), made["key"].as_str().expect("a key"));
    let listed = server.command(&["key", "list", "--json"]);
    assert!(!listed.stdout.contains(key), "a key is shown once: {listed:?}");
    let listed = object(&listed, 0);
    assert_eq!(listed["items"][0]["id"], id);
    assert_eq!(listed["items"][0]["revoked_at"], Value::Null);
    assert_eq!(object(&server.command(&["key", "revoke", id, "--json"]), 0)["revoked"], true);
    let listed = object(&server.command(&["key", "list", "--json"]), 0);
    assert!(listed["items"][0]["revoked_at"].is_string(), "{listed}");
    // Twice, unknown, without a name, with a scope that there is not.
    for wrong in [
        &["key", "revoke", id][..],
        &["key", "revoke", "absent"],
        &["key", "create", ""],
        &["key", "create", "backend", "--scopes", "everything"],
    ] {
        object(&server.command(&[wrong, &["--json"]].concat()), 1);
        refused_in_words(&server.command(wrong), &["tollgate: "]);
    }
    assert!(!server.database.dump().contains(key), "a key stands in the database");
}
on_both_engines!(service_keys_are_made_listed_and_revoked);

fn operators_act_on_users_while_the_server_runs(engine: Engine) {
    let server = Server::start(engine);
    let made = object(&server.command(&["user", "create", "ada@example.com", "--name", "Ada", "--json"]), 0);
    let password = made["password"].as_str().expect("a generated password").to_owned();
    let mut ada = Browser::new(&server);
    let sign_in = |browser: &mut Browser| {
        browser.post("/api/auth/sign-in/email", json!({"email": "ada@example.com", "password": password}))
    };
    assert_eq!(sign_in(&mut ada).expect(200).json()["user"]["emailVerified"], true);
    let shown = object(&server.command(&["user", "show", "ada@example.com", "--json"]), 0);
    assert_eq!((&shown["email"], &shown["sessions"]), (&made["email"], &json!(1)));
    assert!(shown.get("password").is_none(), "{shown}");

    object(&server.command(&["user", "promote", "ada@example.com", "--role", "support", "--json"]), 0);
    assert_eq!(server.database.value("SELECT role FROM users").as_deref(), Some("support"));

    let ban = ["user", "ban", "ada@example.com", "--reason", "spam", "--until", "1d", "--json"];
    assert!(object(&server.command(&ban), 0)["until"].is_string());
    assert_eq!(ada.session(), Value::Null);
    sign_in(&mut ada).refused(403, "BANNED_USER");
    let lifted = object(&server.command(&["user", "unban", "ada@example.com", "--json"]), 0);
    assert_eq!(lifted["banned"], false);
    sign_in(&mut ada).expect(200);

    // Nobody can be asked here, so only --yes is a yes.
    refused_in_words(
        &server.command(&["user", "delete", "ada@example.com"]),
        &["Nothing was deleted", "--yes"],
    );
    assert_eq!(
        object(&server.command(&["user", "delete", "ada@example.com", "--yes", "--json"]), 0)["deleted"],
        true
    );
    sign_in(&mut ada).refused(401, "INVALID_EMAIL_OR_PASSWORD");
    for wrong in [
        &["user", "show", "ada@example.com"][..],
        &["user", "create", "not an address"],
        &["user", "promote", "ada@example.com"],
        &["user", "ban", "ada@example.com", "--until", "yesterday"],
        &["user", "unban", "ada@example.com"],
        &["user", "delete", "ada@example.com", "--yes"],
    ] {
        object(&server.command(&[wrong, &["--json"]].concat()), 1);
        refused_in_words(&server.command(wrong), &["tollgate: "]);
    }
}
on_both_engines!(operators_act_on_users_while_the_server_runs);

fn doctor_finds_nothing_wrong_with_a_sound_server_and_everything_with_a_lost_database(engine: Engine) {
    let mut server = Server::start(engine);
    let sound = object(&server.command(&["doctor", "--json"]), 0);
    assert_eq!((&sound["ok"], &sound["problems"]), (&json!(true), &json!([])), "{sound}");
    server.stop();
    server.reconfigure(
        "database_url = \"postgres://nobody:hunter2@127.0.0.1:1/none\"\nsecrets = [\"too short\"]\n",
    );
    let finished = server.command(&["doctor", "--json"]);
    let found = object(&finished, 1);
    let settings: Vec<&str> = found["problems"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one["setting"].as_str())
        .collect();
    assert_eq!(found["ok"], false);
    assert!(settings.contains(&"database_url") && settings.contains(&"secrets"), "{found}");
    let in_words = server.command(&["doctor"]);
    assert_eq!(in_words.code, Some(1), "{in_words:?}");
    for secret in ["hunter2", "too short"] {
        let told = format!("{finished:?}{in_words:?}");
        assert!(!told.contains(secret), "a secret is repeated: {told}");
    }
}
on_both_engines!(doctor_finds_nothing_wrong_with_a_sound_server_and_everything_with_a_lost_database);

#[test]
fn commands_that_need_no_configuration_run_without_one() {
    let program = Program::in_new_folder();
    let document = object(&program.run(&["openapi", "--json"]), 0);
    assert_eq!(program.run(&["openapi"]).expect_done().json(), document);
    assert!(document["paths"]["/healthz"]["get"].is_object());
    for shell in ["bash", "zsh", "fish"] {
        let script = program.run(&["completions", shell]).expect_done();
        assert!(script.stdout.contains("tollgate") && script.stderr.is_empty(), "{script:?}");
    }
    for (arguments, code) in [
        (&["--version"][..], 0),
        (&["--help"], 0),
        (&["backup", "--help"], 0),
        (&["nonsense"], 2),
        (&["key"], 2),
        (&["key", "create"], 2),
        (&["completions", "nonsense"], 2),
        (&["serve", "--nonsense"], 2),
    ] {
        let finished = program.run(arguments);
        assert_eq!(finished.code, Some(code), "{arguments:?} {finished:?}");
    }
    let left: Vec<_> = std::fs::read_dir(program.path()).expect("the folder is there").collect();
    assert!(left.is_empty(), "{left:?}");
}

fn sound_settings(program: Program) -> Program {
    program
        .with("TOLLGATE_SECRET", "blackbox-5fQ2vW8rT1yU4iO7pA0sD3gH6jK9lZ")
        .with("TOLLGATE_BASE_URL", "https://auth.example.com")
        .with("TOLLGATE_MAIL__SMTP_URL", "none")
        .with("TOLLGATE_LISTEN", "127.0.0.1:0")
}

#[test]
fn serve_lists_every_unsafe_and_wrong_setting_at_once_and_ends() {
    let unsafe_ones = [
        ("TOLLGATE_SECRET", "hunter2", "secrets"),
        ("TOLLGATE_BASE_URL", "http://auth.example.com", "base_url"),
        ("TOLLGATE_TRUSTED_ORIGINS", "https://*", "trusted_origins"),
        ("TOLLGATE_COOKIES__SAME_SITE", "none", "cookies.same_site"),
        ("TOLLGATE_COOKIES__DOMAIN", "vercel.app", "cookies.domain"),
        ("TOLLGATE_EMAIL_PASSWORD__REQUIRE_VERIFICATION", "true", "mail.smtp_url"),
        ("TOLLGATE_EMAIL_PASSWORD__MIN_LENGTH", "3", "email_password.min_length"),
        ("TOLLGATE_SESSION__EXPIRES_IN", "soon", "session.expires_in"),
        ("TOLLGATE_TRUSTED_PROXIES", "everybody", "trusted_proxies"),
        ("TOLLGATE_NONSENSE", "1", "TOLLGATE_NONSENSE"),
    ];
    let all = unsafe_ones
        .iter()
        .fold(Program::in_new_folder(), |program, (name, value, _)| program.with(name, *value));
    let finished = all.run(&["serve", "--json"]);
    let problems = object(&finished, 1)["error"]["problems"].clone();
    let named: Vec<&str> =
        problems.as_array().into_iter().flatten().filter_map(|problem| problem["setting"].as_str()).collect();
    let in_words = all.run(&["serve"]);
    for (_, _, setting) in unsafe_ones {
        assert!(named.contains(&setting), "{setting} is not in {named:?}");
        refused_in_words(&in_words, &[setting]);
    }
    assert!(!format!("{finished:?}{in_words:?}").contains("hunter2"), "a secret is repeated");
    // Each alone is enough.
    for (name, value, setting) in unsafe_ones {
        let mut alone = sound_settings(Program::in_new_folder());
        if setting == "mail.smtp_url" {
            alone = alone.with("TOLLGATE_MAIL__SMTP_URL", "");
        }
        if setting == "cookies.same_site" {
            alone = alone.with("TOLLGATE_BASE_URL", "http://localhost:8655");
        }
        refused_in_words(&alone.with(name, value).run(&["serve"]), &[setting, "refuses to start"]);
    }
}

#[test]
fn dev_keeps_its_data_and_serve_refuses_it() {
    let program = Program::in_new_folder();
    let arguments = ["dev", "--data", "data", "--listen", "127.0.0.1:0"];
    let announced = |running: &Running| {
        let text = running.output.text();
        text.lines().find_map(|line| serde_json::from_str::<Value>(line).ok()).expect("an announcement")
    };
    let first = program.start(&arguments).expect("dev starts");
    let before = announced(&first);
    let sample = json!({"email": before["users"][0], "password": before["password"]});
    let mut ada = Browser::open(first.address, &format!("http://localhost:{}", first.address.port()));
    ada.post("/api/auth/sign-in/email", sample.clone()).expect(200);

    // A second one on the same port says so and touches nothing.
    let port = first.address.port().to_string();
    let second = ["dev", "--data", "other", "--listen", &format!("127.0.0.1:{port}")];
    refused_in_words(&program.run(&second), &[&port, "taken", "--listen"]);
    assert!(!program.path().join("other").exists());
    assert_ne!(ada.session(), Value::Null);
    drop(first);

    // Killed and started again: the same key, the same people, the same sessions.
    let again = program.start(&arguments).expect("dev starts again");
    assert_eq!(announced(&again)["key"], before["key"]);
    ada.address = again.address;
    assert_eq!(ada.session()["user"]["email"], before["users"][0]);
    drop(again);

    let serve = sound_settings(program).with("TOLLGATE_DATABASE_URL", "sqlite://data/tollgate.db");
    refused_in_words(&serve.run(&["serve"]), &["database_url", "tollgate dev"]);
}

#[test]
fn serve_says_when_its_port_is_taken() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound");
    let program = sound_settings(Program::in_new_folder())
        .with("TOLLGATE_LISTEN", address.to_string())
        .with("TOLLGATE_DATABASE_URL", "sqlite://new.db");
    refused_in_words(&program.run(&["serve"]), &[&address.port().to_string(), "taken", "TOLLGATE_LISTEN"]);
    assert!(!program.path().join("new.db").exists(), "the port comes first");
}

/// What `init` writes starts, and its secret can be replaced without signing anybody out.
#[test]
fn a_rotated_secret_signs_nobody_out_and_a_removed_one_does() {
    let program = Program::in_new_folder().with("TOLLGATE_LISTEN", "127.0.0.1:0");
    object(&program.run(&["init", "--yes", "--json"]), 0);
    refused_in_words(&program.run(&["init", "--yes"]), &["exists already"]);
    let running = program.start(&["serve"]).expect("serve starts");
    let mut ada = Browser::open(running.address, "http://localhost:8655");
    ada.sign_up("ada@example.com");
    let rotated = object(&program.run(&["secrets", "rotate", "--json"]), 0);
    assert_eq!((&rotated["changed"], &rotated["secrets"]), (&json!(true), &json!(2)), "{rotated}");
    // The running server knows only the old one, and its sessions hold.
    assert_ne!(ada.session(), Value::Null);
    drop(running);

    let running = program.start(&["serve"]).expect("serve starts with both");
    ada.address = running.address;
    assert_eq!(ada.session()["user"]["email"], "ada@example.com");
    let mut bob = Browser::open(running.address, "http://localhost:8655");
    bob.sign_up("bob@example.com");
    drop(running);

    let file = program.path().join(rotated["file"].as_str().expect("the file is named"));
    let text = std::fs::read_to_string(&file).expect("the secrets are there");
    let first = text.lines().find(|line| !line.is_empty() && !line.starts_with('#')).expect("a secret");
    std::fs::write(&file, format!("{first}\n")).expect("the file is ours");
    let running = program.start(&["serve"]).expect("serve starts with the new one alone");
    (ada.address, bob.address) = (running.address, running.address);
    assert_eq!(ada.session(), Value::Null);
    assert_eq!(bob.session()["user"]["email"], "bob@example.com");
    ada.sign_in("ada@example.com");
    assert_eq!(ada.session()["user"]["email"], "ada@example.com");
}
