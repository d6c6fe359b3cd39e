//! Tokens: one that hands a session over once, and signed ones that services check by themselves.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::{Value, json};

use crate::harness::credits::text;
use crate::harness::{Browser, Engine, Response, Server, in_parallel};
use crate::on_both_engines;

const ON: &str = "[methods]\none_time_token = true\njwt = true\n";
const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

fn signed_up(server: &Server, email: &str) -> Browser {
    let mut browser = Browser::new(server);
    browser.sign_up(email);
    browser
}

fn handover(browser: &mut Browser) -> String {
    text(&browser.get("/api/auth/one-time-token/generate").expect(200).json()["token"])
}

fn take_over(browser: &mut Browser, token: &str) -> Response {
    browser.post("/api/auth/one-time-token/verify", json!({ "token": token }))
}

fn says(answer: &Response, message: &str) {
    assert_eq!((answer.status, &answer.json()), (400, &json!({ "message": message })));
}

fn of_fifty_who_take_a_session_over_one_has_it(engine: Engine) {
    let server = Server::with(engine, ON);
    let mut browser = signed_up(&server, "ada@example.com");
    for _ in 0..3 {
        let token = handover(&mut browser);
        assert!(!server.database.dump().contains(&token));
        let answers = in_parallel(50, |_| {
            let mut other = Browser::new(&server);
            (take_over(&mut other, &token), other.session())
        });
        let winners: Vec<_> = answers.iter().filter(|(answer, _)| answer.status == 200).collect();
        assert_eq!(winners.len(), 1);
        assert_eq!(winners[0].1["session"], browser.session()["session"], "the same session");
        for (answer, session) in answers.iter().filter(|(answer, _)| answer.status != 200) {
            says(answer, "Invalid token");
            assert_eq!(*session, Value::Null);
        }
    }
}
on_both_engines!(of_fifty_who_take_a_session_over_one_has_it);

fn a_handed_over_session_is_none_once_it_has_ended(engine: Engine) {
    let server = Server::with(engine, ON);
    let mut browser = signed_up(&server, "ada@example.com");
    let (late, expired, gone) = (handover(&mut browser), handover(&mut browser), handover(&mut browser));
    server.database.shift("one_time_values", "expires_at", -180_000, "purpose = 'handover'");
    says(&take_over(&mut Browser::new(&server), &late), "Invalid token");
    server.database.shift("one_time_values", "expires_at", 180_000, "purpose = 'handover'");
    server.database.shift("sessions", "expires_at", -8 * DAY, "1 = 1");
    let mut other = Browser::new(&server);
    says(&take_over(&mut other, &expired), "Session expired");
    assert_eq!(other.session(), Value::Null);
    server.database.execute("DELETE FROM sessions");
    says(&take_over(&mut Browser::new(&server), &gone), "Session not found");
}
on_both_engines!(a_handed_over_session_is_none_once_it_has_ended);

fn banned_users_hand_nothing_over(engine: Engine) {
    let server = Server::with(engine, ON);
    let mut browser = signed_up(&server, "ada@example.com");
    let token = handover(&mut browser);
    server.command(&["user", "ban", "ada@example.com"]).expect_done();
    says(&take_over(&mut Browser::new(&server), &token), "Session not found");
    browser.get("/api/auth/token").refused(401, "UNAUTHORIZED");
}
on_both_engines!(banned_users_hand_nothing_over);

fn keys(server: &Server) -> Vec<Value> {
    let set = Browser::new(server).get("/api/auth/jwks").expect(200).json();
    set["keys"].as_array().expect("a list").clone()
}

fn part(token: &str, index: usize) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(token.split('.').nth(index).expect("three parts")).expect("base64url")
}

/// The claims of a token that a published key verifies, and the key's id.
#[track_caller]
fn verified(token: &str, keys: &[Value]) -> (Value, String) {
    let header: Value = serde_json::from_slice(&part(token, 0)).expect("a header");
    assert_eq!(header["alg"], "EdDSA");
    let key = keys.iter().find(|key| key["kid"] == header["kid"]).expect("the key is published");
    assert_eq!((&key["kty"], &key["crv"]), (&json!("OKP"), &json!("Ed25519")));
    let public = URL_SAFE_NO_PAD.decode(text(&key["x"])).expect("base64url");
    let (signed, _) = token.rsplit_once('.').expect("three parts");
    let good = UnparsedPublicKey::new(&ED25519, &public).verify(signed.as_bytes(), &part(token, 2));
    good.expect("a good signature");
    (serde_json::from_slice(&part(token, 1)).expect("claims"), text(&header["kid"]))
}

fn token(browser: &mut Browser) -> String {
    text(&browser.get("/api/auth/token").expect(200).json()["token"])
}

fn a_token_says_who_is_signed_in_and_a_published_key_proves_it(engine: Engine) {
    let server = Server::with(engine, ON);
    let mut browser = signed_up(&server, "ada@example.com");
    browser.post("/api/auth/update-user", json!({"name": "A \"quoted\" ü\n"})).expect(200);
    let checked = browser.get("/api/auth/get-session").expect(200);
    let user = checked.json()["user"].clone();
    let stated = checked.header("set-auth-jwt").expect("a statement").to_owned();
    assert_eq!(checked.header("Access-Control-Expose-Headers"), Some("set-auth-jwt"));
    for token in [stated, token(&mut browser)] {
        let (claims, _) = verified(&token, &keys(&server));
        for (name, value) in user.as_object().expect("a user") {
            assert_eq!(&claims[name], value, "{name}");
        }
        assert_eq!(claims["sub"], user["id"]);
        assert_eq!((&claims["iss"], &claims["aud"]), (&json!(server.base_url), &json!(server.base_url)));
        let life = claims["exp"].as_i64().expect("an end") - claims["iat"].as_i64().expect("a beginning");
        assert_eq!(life, 900);
    }
    // Where nobody is signed in nothing is stated.
    let nobody = Browser::new(&server).get("/api/auth/get-session").expect(200);
    assert_eq!((nobody.text().as_str(), nobody.header("set-auth-jwt")), ("null", None));
    browser.sign_out();
    browser.get("/api/auth/token").refused(401, "UNAUTHORIZED");
}
on_both_engines!(a_token_says_who_is_signed_in_and_a_published_key_proves_it);

/// O-21, O-22: a token is for services, and opens nothing here.
fn a_token_is_no_session(engine: Engine) {
    let server = Server::with(engine, ON);
    let mut browser = signed_up(&server, "ada@example.com");
    let good = token(&mut browser);
    let claims = good.split('.').nth(1).expect("three parts");
    let none = URL_SAFE_NO_PAD.encode("{\"alg\":\"none\"}");
    for text in [good.clone(), format!("{none}.{claims}."), format!("{none}.{claims}.x")] {
        let mut program = Browser::new(&server);
        program.headers.push(("Authorization".into(), format!("Bearer {text}")));
        assert_eq!(program.session(), Value::Null);
        program.get("/api/auth/token").refused(401, "UNAUTHORIZED");
    }
}
on_both_engines!(a_token_is_no_session);

/// A picture in the user's row makes a token that no header holds.
fn a_statement_that_is_too_long_for_a_header_is_left_out(engine: Engine) {
    let server = Server::with(engine, ON);
    let mut browser = signed_up(&server, "ada@example.com");
    let image = format!("data:image/png;base64,{}", "A".repeat(20_000));
    browser.post("/api/auth/update-user", json!({ "image": image })).expect(200);
    let checked = browser.get("/api/auth/get-session").expect(200);
    assert_eq!(
        (checked.json()["user"]["image"].clone(), checked.header("set-auth-jwt")),
        (json!(image), None)
    );
    verified(&token(&mut browser), &keys(&server));
}
on_both_engines!(a_statement_that_is_too_long_for_a_header_is_left_out);

fn the_first_key_is_made_once_and_kept_sealed(engine: Engine) {
    let server = Server::with(engine, ON);
    let sets = in_parallel(20, |_| keys(&server));
    assert!(sets.iter().all(|set| set.len() == 1 && *set == sets[0]), "{sets:?}");
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM signing_keys"), 1);
    let stored = server.database.value("SELECT private_sealed FROM signing_keys").expect("a row");
    // A nonce, the seed as text and a tag; the seed itself stands nowhere.
    assert_eq!(URL_SAFE_NO_PAD.decode(stored).expect("base64url").len(), 24 + 43 + 16);
}
on_both_engines!(the_first_key_is_made_once_and_kept_sealed);

/// C-4.
fn a_key_is_replaced_in_time_and_no_token_is_refused_for_it(engine: Engine) {
    let mut server = Server::with(engine, ON);
    let mut browser = signed_up(&server, "ada@example.com");
    let (_, first) = verified(&token(&mut browser), &keys(&server));
    // Half an hour before its end.
    server.database.shift("signing_keys", "signs_from", -(90 * DAY - HOUR / 2), "1 = 1");
    server.stop();
    server.restart();
    let mut browser = browser.at(&server);
    let published = keys(&server);
    assert_eq!(published.len(), 2, "the next one is published before it signs");
    let before = token(&mut browser);
    assert_eq!(verified(&before, &published).1, first);
    server.database.shift("signing_keys", "signs_from", -2 * HOUR, "1 = 1");
    server.stop();
    server.restart();
    let mut browser = browser.at(&server);
    let after = token(&mut browser);
    let (_, second) = verified(&after, &published);
    assert_ne!(second, first, "services had the key before it signed");
    verified(&before, &keys(&server));
    server.database.shift("signing_keys", "signs_from", -2 * DAY, "1 = 1");
    server.stop();
    server.restart();
    let left = keys(&server);
    assert_eq!(left.len(), 1);
    verified(&after, &left);
}
on_both_engines!(a_key_is_replaced_in_time_and_no_token_is_refused_for_it);

#[test]
fn two_nodes_sign_with_one_key() {
    let first = Server::with(Engine::Postgres, ON);
    let second = Server::second_node(&first);
    let sets = in_parallel(10, |number| keys(if number % 2 == 0 { &first } else { &second }));
    assert!(sets.iter().all(|set| *set == sets[0]), "{sets:?}");
    let mut browser = signed_up(&first, "ada@example.com");
    let here = verified(&token(&mut browser), &sets[0]).1;
    assert_eq!(verified(&token(&mut browser.at(&second)), &sets[0]).1, here);
}
