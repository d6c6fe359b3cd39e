//! Secrets that passed through the server are searched for in everything it leaves behind: every row of every table,
//! every file, everything it printed; as they are, in base64 at every alignment, and in hexadecimal.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::json;

use crate::harness::{Browser, Engine, PASSWORD, Request, Server, path_of};
use crate::on_both_engines;

const WITHIN: Duration = Duration::from_secs(60);
const OTHER_PASSWORD: &str = "Tr0ubadour & three friends";
const WRONG_PASSWORD: &str = "guessed wrongly 7301";

/// The forms in which a secret may lie somewhere. Of base64 only the letters that do not depend on what stands beside it.
fn disguises(secret: &str) -> Vec<Vec<u8>> {
    let bytes = secret.as_bytes();
    let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![
        bytes.to_vec(),
        bytes.iter().rev().copied().collect(),
        hexadecimal.to_ascii_uppercase().into_bytes(),
        hexadecimal.into_bytes(),
        bytes.iter().flat_map(|byte| [*byte, 0]).collect(),
    ];
    for skipped in 0..3_usize {
        let mut padded = vec![0; skipped];
        padded.extend(bytes);
        for encoded in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            let first = (skipped * 8).div_ceil(6);
            let last = padded.len() * 8 / 6;
            forms.push(encoded.as_bytes()[first..last].to_vec());
        }
    }
    forms
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Every file below a folder, with its bytes.
fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).expect("the folder is there").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap_or_default()));
        }
    }
}

/// What the server leaves behind, each part with its name. Its own configuration holds its secret by right.
fn remains(server: &Server) -> Vec<(String, Vec<u8>)> {
    let mut parts = vec![
        ("the log".to_owned(), server.log().into_bytes()),
        ("the database".to_owned(), server.database.dump().into_bytes()),
    ];
    files(server.folder(), &mut parts);
    if server.engine == Engine::Sqlite {
        files(server.database.file().parent().expect("a folder"), &mut parts);
    }
    let config = server.config_file().display().to_string();
    parts.retain(|(name, _)| *name != config);
    parts
}

#[track_caller]
fn nowhere(parts: &[(String, Vec<u8>)], secrets: &[(&str, String)]) {
    for (what, secret) in secrets {
        assert!(secret.len() >= 8, "{what} is no secret: {secret:?}");
        for form in disguises(secret) {
            for (name, bytes) in parts {
                assert!(
                    !contains(bytes, &form),
                    "{what} lies in {name} as {}",
                    String::from_utf8_lossy(&form)
                );
            }
        }
    }
}

fn token_in(link: &str) -> String {
    let rest = link.split_once("/reset-password/").or_else(|| link.split_once("token=")).expect("a token").1;
    rest.split(['?', '&']).next().expect("a token").to_owned()
}

fn handed_over(browser: &mut Browser) -> String {
    let made = browser.get("/api/auth/one-time-token/generate").expect(200).json();
    made["token"].as_str().expect("a token").to_owned()
}

fn signature_of_a_token(browser: &mut Browser) -> String {
    let made = browser.get("/api/auth/token").expect(200).json();
    made["token"].as_str().and_then(|token| token.rsplit('.').next()).expect("three parts").to_owned()
}

/// O-36, S-8.
fn no_secret_is_left_behind(engine: Engine) {
    let server = Server::with(
        engine,
        "[telemetry]\nlog = \"trace\"\n[accounts]\nchange_email = true\ndelete_user = true\ndelete_needs_mail = true\n\
         [methods]\nmagic_link = true\none_time_token = true\njwt = true\n",
    );
    let mut secrets: Vec<(&str, String)> = vec![
        ("the password", PASSWORD.into()),
        ("the new password", OTHER_PASSWORD.into()),
        ("a wrong password", WRONG_PASSWORD.into()),
    ];
    let mut ada = Browser::new(&server);
    let session = ada.sign_up("ada@example.com")["token"].as_str().expect("a token").to_owned();
    let signature = ada.cookie("better-auth.session_token").expect("signed in").to_owned();
    secrets.push(("the cookie's signature", signature.split_once('.').expect("signed").1[..20].to_owned()));
    secrets.push(("a session token", session.clone()));
    let mut phone = Browser::new(&server);
    secrets.push((
        "a second session token",
        phone.sign_in("ada@example.com")["token"].as_str().expect("a token").into(),
    ));
    secrets.push(("a service key", server.service_key()));

    // While the mail server refuses, the mails wait with their links inside.
    server.mail.refuse(true);
    ada.post("/api/auth/request-password-reset", json!({"email": "ada@example.com"})).expect(200);
    ada.post("/api/auth/send-verification-email", json!({"email": "ada@example.com"})).expect(200);
    ada.post("/api/auth/change-email", json!({"newEmail": "new@example.com"})).expect(200);
    ada.post("/api/auth/delete-user", json!({})).expect(200);
    crate::harness::until(WITHIN, "every mail to be tried", || {
        (server.database.integer("SELECT COUNT(*) FROM mails WHERE attempts > 0 OR last_error IS NOT NULL")
            == 4)
            .then_some(())
    });
    let waiting = remains(&server);
    server.mail.refuse(false);
    server.database.execute("UPDATE mails SET due_at = 0, leased_until = 0 WHERE state = 'waiting'");
    // A new promise wakes whoever sends.
    let mut bob = Browser::new(&server);
    bob.sign_up("bob@example.com");
    bob.post("/api/auth/send-verification-email", json!({"email": "bob@example.com"})).expect(200);
    secrets.push(("a token that hands a session over", handed_over(&mut bob)));
    secrets.push(("the signature of a token", signature_of_a_token(&mut bob)));
    let mut links: Vec<String> = (0..3).map(|_| server.mail.take("ada@example.com", WITHIN).link()).collect();
    links.push(server.mail.take("new@example.com", WITHIN).link());
    secrets.extend(links.iter().map(|link| ("the token of a link", token_in(link))));
    secrets.extend(links.iter().map(|link| ("a link", path_of(link).to_owned())));
    nowhere(&waiting, &secrets);
    // Opened, used up, and opened again.
    let mut carol = Browser::new(&server);
    carol.post("/api/auth/sign-in/magic-link", json!({"email": "carol@example.com"})).expect(200);
    let link = server.mail.take("carol@example.com", WITHIN).link();
    secrets.push(("the token of a link to sign in", token_in(&link)));
    carol.follow(&link).expect(200);
    for _ in 0..2 {
        carol.get(&format!("/api/auth/magic-link/verify?token={}", token_in(&link)));
    }
    assert_eq!(carol.session()["user"]["email"], "carol@example.com");

    // Used, refused, mistyped, in wrong places: all of that is printed about somewhere, without what was in it.
    let (session_token, reset) =
        (session, token_in(links.iter().find(|l| l.contains("reset")).expect("a reset")));
    for path in [
        format!("/api/auth/reset-password/{reset}?callbackURL=%2Fx"),
        format!("/api/auth/reset-passwort/{reset}"),
        format!("/{reset}"),
        format!("//api/auth/verify-email?token={reset}"),
        format!("/api/auth/verify-email?token={reset}&token={session_token}"),
        format!("/api/auth/error?error={reset}&error_description={session_token}"),
        format!("/api/auth/get-session?password={}", "guessed%20wrongly%207301"),
    ] {
        ada.get(&path);
    }
    for body in [
        json!({"token": reset, "newPassword": WRONG_PASSWORD, "callbackURL": session_token}),
        json!({"email": WRONG_PASSWORD, "password": [WRONG_PASSWORD, session_token]}),
        json!({"email": "ada@example.com", "password": WRONG_PASSWORD}),
        json!({"currentPassword": WRONG_PASSWORD, "newPassword": OTHER_PASSWORD}),
        json!({WRONG_PASSWORD: session_token}),
    ] {
        for path in [
            "/api/auth/sign-in/email",
            "/api/auth/change-password",
            "/api/auth/revoke-session",
            "/api/auth/nothing",
        ] {
            ada.post(path, body.clone());
        }
    }
    let broken = format!("{{\"password\":\"{WRONG_PASSWORD}\",\"token\":\"{session_token}");
    ada.send(
        Request::new("POST", "/api/auth/sign-in/email")
            .header("Content-Type", "application/json")
            .body(broken),
    );
    for (name, value) in [
        ("Authorization", format!("Bearer {session_token}")),
        ("Authorization", format!("Basic {session_token}")),
        ("X-Request-Id", session_token.clone()),
        ("User-Agent", "an honest browser".to_owned()),
        ("Content-Type", format!("application/{session_token}")),
        ("Origin", format!("https://{session_token}.example")),
    ] {
        ada.send(Request::post("/api/auth/update-user", &json!({"name": "Ada"})).header(name, &value));
    }
    let verify = links.iter().find(|link| link.contains("verify-email") && !link.is_empty()).expect("a link");
    ada.follow(verify);
    let done = ada.post("/api/auth/reset-password", json!({"token": reset, "newPassword": OTHER_PASSWORD}));
    done.expect(200);
    let again = ada.try_sign_in("ada@example.com", OTHER_PASSWORD);
    let again = if again.status == 200 {
        again
    } else {
        ada.try_sign_in("new@example.com", OTHER_PASSWORD).expect(200)
    };
    secrets.push(("the last session token", again.json()["token"].as_str().expect("a token").into()));
    server.command(&["user", "list", "--json"]);
    crate::harness::until(WITHIN, "every mail to be sent", || {
        (server.database.integer("SELECT COUNT(*) FROM mails WHERE state = 'waiting'") == 0).then_some(())
    });

    let parts = remains(&server);
    let everything: usize = parts.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(
        everything > 5_000 && server.log().contains("http"),
        "there is something to search: {}",
        server.log()
    );
    assert!(contains(&parts[1].1, b"bob@example.com"), "the dump shows what is no secret");
    nowhere(&parts, &secrets);
}
on_both_engines!(no_secret_is_left_behind);

/// The configuration's own secrets are never printed, nor stored in clear.
fn the_configured_secret_is_never_repeated(engine: Engine) {
    let server = Server::with(engine, "[telemetry]\nlog = \"trace\"\n");
    Browser::new(&server).sign_up("ada@example.com");
    let secret = "blackbox-5fQ2vW8rT1yU4iO7pA0sD3gH6jK9lZ";
    let config = std::fs::read_to_string(server.config_file()).expect("it was written");
    assert!(config.contains(secret));
    nowhere(&remains(&server), &[("the secret", secret.into())]);
    for command in
        [&["doctor"][..], &["doctor", "--json"], &["user", "list"], &["key", "list"], &["secrets", "rotate"]]
    {
        let done = server.command(command);
        let printed = format!("{}{}", done.stdout, done.stderr);
        assert!(!printed.contains(secret), "{command:?}: {printed}");
    }
}
on_both_engines!(the_configured_secret_is_never_repeated);

#[test]
fn the_search_finds_what_is_hidden() {
    let secret = "canary-7Qm2xK9pLw4Z";
    for before in ["", "a", "ab", "abc"] {
        let hidden = format!("{before}{secret}tail");
        for text in [STANDARD_NO_PAD.encode(&hidden), URL_SAFE_NO_PAD.encode(&hidden), hidden] {
            assert!(disguises(secret).iter().any(|form| contains(text.as_bytes(), form)), "{text}");
        }
    }
    assert!(disguises(secret).iter().all(|form| !contains(b"nothing of the sort in here", form)));
}
