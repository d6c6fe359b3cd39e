//! The door for the adapter of an app with Auth.js: each of its methods, and how each says no.

use serde_json::{Value, json};

use crate::harness::adapter::{Adapter, OPEN, SECRET};
use crate::harness::credits::{counted, text};
use crate::harness::database::quoted;
use crate::harness::server::free_address;
use crate::harness::{Browser, Engine, PASSWORD, Request, Response, Server, at_full_length, in_parallel};
use crate::on_both_engines;

const NEW_SECRET: &str = "adapter-9bWcUaL5nHdGf2oRi8kq7Zr1VYp0m";

#[track_caller]
fn refused(response: &Response, status: u16, code: &str) {
    assert_eq!(
        (response.status, text(&response.json()["error_code"]).as_str()),
        (status, code),
        "{}",
        response.text()
    );
    assert!(response.json()["message"].is_string() && response.json().get("detail").is_some());
    assert_eq!(response.header("Cache-Control"), Some("no-store"));
}

#[track_caller]
fn made(adapter: &Adapter, body: Value) -> Value {
    adapter.post("/users", body).expect(201).json()
}

fn users_come_back_as_they_were_given(engine: Engine) {
    let server = Server::with(engine, OPEN);
    let adapter = Adapter::of(&server);
    let id = "7d9f7b3e-0d0f-4a4e-9a51-0d6f7b1c2a3b";
    let given = json!({
        "id": id, "name": "2026-01-01T00:00:00.000Z", "email": "Fill@Murray.com", "image": "https://example.com/f.png",
        "emailVerified": "2026-03-04T06:06:07.089+01:00", "role": "admin", "phone": null, "n": [1.5, {"a": true}],
    });
    let mut shown = given.clone();
    shown["emailVerified"] = json!("2026-03-04T05:06:07.089Z");
    assert_eq!(made(&adapter, given.clone()), shown);
    assert_eq!(adapter.get(&format!("/users/{id}")).expect(200).json(), shown);
    for spelled in ["Fill%40Murray.com", "fill@murray.com", "FILL@MURRAY.COM"] {
        assert_eq!(adapter.get(&format!("/users/by-email?email={spelled}")).expect(200).json(), shown);
    }
    // What the app calls a role is no role of ours.
    assert_eq!(server.database.value("SELECT role FROM users").as_deref(), Some("user"));

    // What is not named stays, and null clears.
    let changed = adapter.patch(&format!("/users/{id}"), json!({"name": "Bill", "image": null, "more": 1}));
    (shown["name"], shown["image"], shown["more"]) = (json!("Bill"), Value::Null, json!(1));
    assert_eq!(changed.expect(200).json(), shown);
    let moved = adapter.patch(&format!("/users/{id}"), json!({"email": "Bill@Murray.com", "id": "other"}));
    // Nobody has proven the new address.
    (shown["email"], shown["emailVerified"]) = (json!("Bill@Murray.com"), Value::Null);
    assert_eq!(moved.expect(200).json(), shown);
    let verified = |email: &str| {
        let sql = format!("SELECT COUNT(*) FROM users WHERE email = {} AND email_verified", quoted(email));
        server.database.integer(&sql)
    };
    assert_eq!(verified("bill@murray.com"), 0);
    // Unless the app says so in the same breath.
    let proven = json!({"email": "w@murray.com", "emailVerified": "2026-04-01T00:00:00.000Z"});
    adapter.patch(&format!("/users/{id}"), proven).expect(200);
    assert_eq!(verified("w@murray.com"), 1);
    let back = json!({"email": "Bill@Murray.com", "emailVerified": "2026-04-02T00:00:00.000Z"});
    shown["emailVerified"] = back["emailVerified"].clone();
    assert_eq!(adapter.patch(&format!("/users/{id}"), back).expect(200).json(), shown);
    assert_eq!(verified("bill@murray.com"), 1);
    refused(&adapter.get("/users/by-email?email=fill@murray.com"), 404, "not_found");

    // Several users without an address, of whom nothing is made up.
    for _ in 0..2 {
        let bare = made(&adapter, json!({}));
        assert_eq!(bare.as_object().unwrap().keys().collect::<Vec<_>>(), ["id"]);
        let id = text(&bare["id"]);
        let with =
            adapter.patch(&format!("/users/{id}"), json!({"email": null, "emailVerified": null})).expect(200);
        assert_eq!(with.json(), json!({"id": id, "email": null, "emailVerified": null}));
    }
    refused(&adapter.post("/users", json!({"email": "bILL@murray.com"})), 409, "email_taken");
    refused(&adapter.post("/users", json!({"id": id, "email": "new@example.com"})), 409, "user_exists");
    let other = text(&made(&adapter, json!({"email": "other@example.com"}))["id"]);
    refused(
        &adapter.patch(&format!("/users/{other}"), json!({"email": "bill@murray.com"})),
        409,
        "email_taken",
    );
    refused(&adapter.patch("/users/nobody", json!({"name": "x"})), 404, "not_found");
    refused(&adapter.get("/users/nobody"), 404, "not_found");
    refused(&adapter.get("/users/%00"), 404, "not_found");
    refused(&adapter.delete("/users/nobody"), 404, "not_found");
    assert_eq!(adapter.delete(&format!("/users/{id}")).expect(200).json(), shown);
    refused(&adapter.get(&format!("/users/{id}")), 404, "not_found");
}
on_both_engines!(users_come_back_as_they_were_given);

fn the_users_are_those_of_the_other_doors(engine: Engine) {
    let extra = "[credits]\nsignup_grant = 100\n[accounts]\ndelete_user = true\n[email_password]\nrequire_verification = false\n";
    let server = Server::with(engine, &format!("{OPEN}{extra}"));
    let adapter = Adapter::of(&server);
    let mut ada = Browser::new(&server);
    ada.sign_up("ada@example.com");
    let found = adapter.get("/users/by-email?email=ada@example.com").expect(200).json();
    let id = text(&found["id"]);
    assert_eq!((&found["email"], &found["emailVerified"]), (&json!("ada@example.com"), &Value::Null));
    // Changed on one side, seen on the other.
    adapter.patch(&format!("/users/{id}"), json!({"name": "Augusta", "x": 1})).expect(200);
    assert_eq!(ada.session()["user"]["name"], "Augusta");
    ada.post("/api/auth/update-user", json!({"name": "Ada"})).expect(200);
    let found = adapter.get(&format!("/users/{id}")).expect(200).json();
    assert_eq!((&found["name"], &found["x"]), (&json!("Ada"), &json!(1)));
    // New people are granted what new people are, once for an address.
    let mut backend = crate::harness::credits::Backend::of(&server);
    let bob = text(&made(&adapter, json!({"email": "bob@example.com"}))["id"]);
    assert_eq!(backend.balance(&bob)["balance"], 100);
    let nameless = text(&made(&adapter, json!({}))["id"]);
    assert_eq!(backend.balance(&nameless)["balance"], 0);
    adapter.patch(&format!("/users/{nameless}"), json!({"email": "carol@example.com"})).expect(200);
    assert_eq!(backend.balance(&nameless)["balance"], 100);
    // What is spent stays under the bare id, which is nobody else's afterwards.
    adapter.delete(&format!("/users/{bob}")).expect(200);
    refused(&adapter.post("/users", json!({"id": bob, "email": "new@example.com"})), 409, "user_exists");
    let again = text(&made(&adapter, json!({"email": "bob@example.com"}))["id"]);
    assert_eq!(backend.balance(&again)["balance"], 0);
    // Deleting takes the sessions of every door along.
    adapter.delete(&format!("/users/{id}")).expect(200);
    assert_eq!(ada.session(), Value::Null);
}
on_both_engines!(the_users_are_those_of_the_other_doors);

fn an_address_that_the_app_proves_leaves_nothing_of_a_stranger(engine: Engine) {
    let server = Server::with(engine, OPEN);
    let adapter = Adapter::of(&server);
    let mut stranger = Browser::new(&server);
    stranger.sign_up("victim@example.com");
    let id = text(&adapter.get("/users/by-email?email=victim@example.com").expect(200).json()["id"]);
    let account = json!({"userId": id, "type": "oidc", "provider": "google", "providerAccountId": "1"});
    adapter.post("/accounts", account).expect(201);
    let session = json!({"sessionToken": "theirs", "userId": id, "expires": "2099-01-01T00:00:00Z"});
    adapter.post("/sessions", session).expect(201);
    adapter.patch(&format!("/users/{id}"), json!({"emailVerified": "2026-01-01T00:00:00.000Z"})).expect(200);
    assert_eq!(stranger.session(), Value::Null);
    Browser::new(&server).try_sign_in("victim@example.com", PASSWORD).expect(401);
    // What the app itself keeps stays.
    adapter.get("/accounts?provider=google&providerAccountId=1").expect(200);
    adapter.post("/sessions/lookup", json!({"sessionToken": "theirs"})).expect(200);
}
on_both_engines!(an_address_that_the_app_proves_leaves_nothing_of_a_stranger);

fn accounts_come_back_whole_and_lie_sealed(engine: Engine) {
    let server = Server::with(engine, OPEN);
    let adapter = Adapter::of(&server);
    let id = text(&made(&adapter, json!({"email": "ada@example.com"}))["id"]);
    let account = json!({
        "userId": id, "type": "oauth", "provider": "azure-ad", "providerAccountId": "a/b+c%d@e",
        "access_token": "canary-access", "refresh_token": "canary-refresh", "id_token": "canary-id", "token_type": "bearer",
        "scope": "user email", "session_state": "s", "expires_at": 2_592_000_000_i64, "ext_expires_in": 3599, "not-before-policy": 0,
    });
    assert_eq!(adapter.post("/accounts", account.clone()).expect(201).json(), account);
    let query = "provider=azure-ad&providerAccountId=a%2Fb%2Bc%25d%40e";
    assert_eq!(adapter.get(&format!("/accounts?{query}")).expect(200).json(), account);
    assert_eq!(adapter.get(&format!("/users/by-account?{query}")).expect(200).json()["id"], id.as_str());
    let dump = server.database.dump();
    for canary in ["canary-access", "canary-refresh", "canary-id"] {
        assert!(!dump.contains(canary) && !server.log().contains(canary), "{canary}");
    }
    refused(&adapter.post("/accounts", account.clone()), 409, "account_exists");
    let mut of_nobody = account.clone();
    (of_nobody["userId"], of_nobody["provider"]) = (json!("nobody"), json!("github"));
    refused(&adapter.post("/accounts", of_nobody), 404, "user_not_found");
    // Passwords are no accounts of the app's.
    let mut ours = account.clone();
    (ours["provider"], ours["providerAccountId"]) = (json!("credential"), json!(id));
    refused(&adapter.post("/accounts", ours), 422, "validation_error");
    let mut eve = Browser::new(&server);
    let eve = text(&eve.sign_up("eve@example.com")["user"]["id"]);
    for path in ["/accounts", "/users/by-account"] {
        let query = format!("{path}?provider=credential&providerAccountId={eve}");
        refused(&adapter.get(&query), 404, "not_found");
        refused(&adapter.get(&format!("{path}?provider=x&providerAccountId=y")), 404, "not_found");
    }
    refused(
        &adapter.delete(&format!("/accounts?provider=credential&providerAccountId={eve}")),
        404,
        "not_found",
    );
    assert_eq!(adapter.delete(&format!("/accounts?{query}")).expect(200).json(), account);
    refused(&adapter.delete(&format!("/accounts?{query}")), 404, "not_found");
    adapter.post("/accounts", account).expect(201);
    adapter.delete(&format!("/users/{id}")).expect(200);
    refused(&adapter.get(&format!("/accounts?{query}")), 404, "not_found");
}
on_both_engines!(accounts_come_back_whole_and_lie_sealed);

fn sessions_are_kept_by_a_hash_and_open_no_other_door(engine: Engine) {
    let server = Server::with(engine, OPEN);
    let adapter = Adapter::of(&server);
    let user = made(&adapter, json!({"email": "ada@example.com", "name": "Ada"}));
    let id = text(&user["id"]);
    let session =
        json!({"sessionToken": "canary-session", "userId": id, "expires": "2026-11-20T21:00:00.123Z"});
    assert_eq!(adapter.post("/sessions", session.clone()).expect(201).json(), session);
    assert!(!server.database.dump().contains("canary-session"));
    refused(&adapter.post("/sessions", session.clone()), 409, "session_exists");
    // One that is over is shown, since Auth.js judges that.
    let token = json!({"sessionToken": "canary-session"});
    let found = adapter.post("/sessions/lookup", token.clone()).expect(200).json();
    assert_eq!(found, json!({"session": session, "user": user}));
    let later = json!({"sessionToken": "canary-session", "expires": "2099-01-01T00:00:00.999Z"});
    let updated = adapter.patch("/sessions", later).expect(200).json();
    assert_eq!((&updated["expires"], &updated["userId"]), (&json!("2099-01-01T00:00:00.999Z"), &json!(id)));
    let bearer = Request::get("/api/auth/get-session").header("Authorization", "Bearer canary-session");
    assert_eq!(bearer.send(server.address).expect("an answer").json(), Value::Null, "it is the app's");
    let mut own = Browser::new(&server);
    let own = text(&own.sign_up("bob@example.com")["token"]);
    refused(&adapter.post("/sessions/lookup", json!({"sessionToken": own})), 404, "not_found");
    refused(&adapter.post("/sessions/delete", json!({"sessionToken": own})), 404, "not_found");
    refused(&adapter.patch("/sessions", json!({"sessionToken": "none"})), 404, "not_found");
    let foreign = json!({"sessionToken": "b", "userId": "nobody", "expires": "2099-01-01T00:00:00Z"});
    refused(&adapter.post("/sessions", foreign), 404, "user_not_found");
    assert_eq!(adapter.post("/sessions/delete", token.clone()).expect(200).json(), updated);
    refused(&adapter.post("/sessions/delete", token.clone()), 404, "not_found");
    // A ban ends what there is, and nothing begins during it.
    adapter.post("/sessions", session.clone()).expect(201);
    server.command(&["user", "ban", "ada@example.com"]).expect_done();
    refused(&adapter.post("/sessions/lookup", token.clone()), 404, "not_found");
    refused(&adapter.post("/sessions", session), 403, "user_banned");
}
on_both_engines!(sessions_are_kept_by_a_hash_and_open_no_other_door);

fn verification_tokens_are_used_up_once(engine: Engine) {
    let server = Server::with(engine, OPEN);
    let adapter = Adapter::of(&server);
    let token = |identifier: &str, token: &str| json!({"identifier": identifier, "token": token, "expires": "2026-01-01T00:00:00.001Z"});
    let hash = "b1f3a6f0d2canary";
    assert_eq!(
        adapter.post("/verification-tokens", token("a@b.c", hash)).expect(201).json(),
        token("a@b.c", hash)
    );
    refused(&adapter.post("/verification-tokens", token("a@b.c", hash)), 409, "token_exists");
    assert!(!server.database.dump().contains(hash));
    // Several for one mailbox, and one short code for two people.
    adapter.post("/verification-tokens", token("a@b.c", "second")).expect(201);
    adapter.post("/verification-tokens", token("d@e.f", hash)).expect(201);
    let consume = |body: Value| adapter.post("/verification-tokens/use", body);
    for wrong in [json!({"identifier": "x@y.z", "token": hash}), json!({"identifier": "a@b.c", "token": "x"})]
    {
        refused(&consume(wrong), 404, "not_found");
    }
    // Who is meant by the code alone nobody can say.
    refused(&consume(json!({"token": hash})), 404, "not_found");
    let used = consume(json!({"identifier": "a@b.c", "token": hash})).expect(200).json();
    assert_eq!(used, token("a@b.c", hash), "also one that is over");
    refused(&consume(json!({"identifier": "a@b.c", "token": hash})), 404, "not_found");
    assert_eq!(consume(json!({"token": hash})).expect(200).json(), token("d@e.f", hash));
    assert_eq!(
        consume(json!({"token": "second", "identifier": null})).expect(200).json()["identifier"],
        "a@b.c"
    );
    for round in 0..if at_full_length() { 100 } else { 5 } {
        let name = format!("raced-{round}");
        adapter.post("/verification-tokens", token("a@b.c", &name)).expect(201);
        let answers = in_parallel(50, |number| {
            let body = json!({"identifier": "a@b.c", "token": name});
            let alone = json!({"token": name});
            consume(if number % 2 == 0 { body } else { alone }).status
        });
        let counts = counted(answers);
        assert_eq!((counts[&200], counts[&404]), (1, 49), "round {round}: {counts:?}");
    }
}
on_both_engines!(verification_tokens_are_used_up_once);

fn of_many_duplicates_at_once_one_is_made(engine: Engine) {
    let server = Server::with(engine, OPEN);
    let adapter = Adapter::of(&server);
    let id = text(&made(&adapter, json!({"email": "ada@example.com"}))["id"]);
    let bodies: [(&str, Value); 6] = [
        ("/users", json!({"email": "New@example.com"})),
        ("/users", json!({"id": "fixed"})),
        ("/accounts", json!({"userId": id, "type": "oauth", "provider": "p", "providerAccountId": "1"})),
        ("/sessions", json!({"sessionToken": "s", "userId": id, "expires": "2099-01-01T00:00:00Z"})),
        ("/verification-tokens", json!({"identifier": "a", "token": "t", "expires": "2099-01-01T00:00:00Z"})),
        ("/authenticators", authenticator(&id, "c")),
    ];
    for (path, body) in bodies {
        let counts = counted(in_parallel(20, |_| adapter.post(path, body.clone()).status));
        assert_eq!((counts.get(&201), counts.get(&409)), (Some(&1), Some(&19)), "{path}: {counts:?}");
    }
}
on_both_engines!(of_many_duplicates_at_once_one_is_made);

fn authenticator(user: &str, credential: &str) -> Value {
    json!({
        "credentialID": credential, "userId": user, "providerAccountId": credential, "credentialPublicKey": "pQEC+/==",
        "counter": 0, "credentialBackedUp": false, "credentialDeviceType": "platform", "transports": "usb,ble",
    })
}

fn authenticators_are_kept_listed_and_counted(engine: Engine) {
    let server = Server::with(engine, OPEN);
    let adapter = Adapter::of(&server);
    let id = text(&made(&adapter, json!({}))["id"]);
    let long = format!("{}+/==", "A".repeat(1_360));
    let (first, mut second) = (authenticator(&id, "a+/="), authenticator(&id, &long));
    second.as_object_mut().unwrap().remove("transports");
    assert_eq!(adapter.post("/authenticators", first.clone()).expect(201).json(), first);
    adapter.post("/authenticators", second.clone()).expect(201);
    refused(&adapter.post("/authenticators", first.clone()), 409, "authenticator_exists");
    refused(&adapter.post("/authenticators", authenticator("nobody", "x")), 404, "user_not_found");
    let by = |credential: &str| {
        let query: String = url::form_urlencoded::byte_serialize(credential.as_bytes()).collect();
        adapter.get(&format!("/authenticators/by-credential?credentialID={query}"))
    };
    assert_eq!(by("a+/=").expect(200).json(), first);
    assert_eq!(by(&long).expect(200).json(), second);
    refused(&by("none"), 404, "not_found");
    let counted = adapter
        .patch("/authenticators/counter", json!({"credentialID": "a+/=", "counter": 4_294_967_295_u32}));
    let mut first = first;
    first["counter"] = json!(4_294_967_295_u32);
    assert_eq!(counted.expect(200).json(), first);
    let none = adapter.patch("/authenticators/counter", json!({"credentialID": "none", "counter": 1}));
    refused(&none, 404, "not_found");
    assert_eq!(
        adapter.get(&format!("/authenticators?userId={id}")).expect(200).json(),
        json!([first, second])
    );
    assert_eq!(adapter.get("/authenticators?userId=nobody").expect(200).json(), json!([]));
    adapter.delete(&format!("/users/{id}")).expect(200);
    refused(&by("a+/="), 404, "not_found");
}
on_both_engines!(authenticators_are_kept_listed_and_counted);

fn what_does_not_fit_is_named_and_not_repeated(engine: Engine) {
    let server = Server::with(engine, OPEN);
    let adapter = Adapter::of(&server);
    let id = text(&made(&adapter, json!({}))["id"]);
    for (path, body, field) in [
        ("/users", json!({"email": "canary,b@example.com"}), "email"),
        ("/users", json!({"email": "canary"}), "email"),
        ("/users", json!({"email": 7}), "email"),
        ("/users", json!({"name": ["canary"]}), "name"),
        ("/users", json!({"name": "canary\u{0}"}), "name"),
        ("/users", json!({"emailVerified": 1_700_000_000}), "emailVerified"),
        ("/users", json!({"emailVerified": "canary"}), "emailVerified"),
        ("/users", json!({"id": "can/ary"}), "id"),
        ("/users", json!({"id": ""}), "id"),
        ("/accounts", json!({"userId": id, "type": "oauth", "provider": "p"}), "providerAccountId"),
        (
            "/accounts",
            json!({"userId": id, "type": "o", "provider": "p", "providerAccountId": "1", "expires_at": "canary"}),
            "expires_at",
        ),
        (
            "/accounts",
            json!({"userId": id, "type": "o", "provider": "p", "providerAccountId": "1", "access_token": {}}),
            "access_token",
        ),
        ("/sessions", json!({"sessionToken": "canary", "userId": id}), "expires"),
        ("/sessions", json!({"userId": id, "expires": "2099-01-01T00:00:00Z"}), "sessionToken"),
        ("/sessions/lookup", json!({}), "sessionToken"),
        (
            "/verification-tokens",
            json!({"identifier": "a", "token": "", "expires": "2099-01-01T00:00:00Z"}),
            "token",
        ),
        ("/authenticators", json!({"credentialID": "c", "userId": id, "counter": 1.5}), "counter"),
    ] {
        let answer = adapter.post(path, body);
        refused(&answer, 422, "validation_error");
        assert_eq!(answer.json()["field"], field, "{}", answer.text());
        assert!(!answer.text().contains("canary"), "{}", answer.text());
    }
    let json = |text: &str| {
        Request::new("POST", "/api/internal/auth/users").header("Content-Type", "application/json").body(text)
    };
    for text in ["[]", "7", "{", "\"canary\"", "{\"name\":\"a\",\"name\":\"canary\"}", "\u{feff}{}"] {
        let answer = adapter.send(json(text));
        refused(&answer, 422, "validation_error");
        assert!(!answer.text().contains("canary"), "{}", answer.text());
    }
    for path in [
        "/users/by-email",
        "/users/by-account?provider=p",
        "/accounts",
        "/authenticators",
        "/users/by-email?email=a&email=b",
    ] {
        refused(&adapter.get(path), 422, "validation_error");
    }
    let large = json!({"name": "x".repeat(70_000)});
    assert_eq!(adapter.post("/users", large).status, 413);
}
on_both_engines!(what_does_not_fit_is_named_and_not_repeated);

fn nobody_comes_in_without_a_secret_and_two_hold_during_a_rotation(engine: Engine) {
    let shut = Server::start(engine);
    refused(&Adapter::of(&shut).get("/users/by-email?email=a"), 404, "adapter_off");
    refused(&Adapter::of(&shut).get("/nothing"), 404, "adapter_off");
    let two = format!("[authjs]\nadapter_secrets = [\"{NEW_SECRET}\", \"{SECRET}\"]\n");
    let mut server = Server::with(engine, &two);
    for secret in [SECRET, NEW_SECRET] {
        refused(&Adapter::at(server.address, secret).get("/users/nobody"), 404, "not_found");
    }
    let path = "/api/internal/auth/users/nobody";
    let wrong = [
        Request::get(path),
        Request::get(path).header("X-Adapter-Secret", ""),
        Request::get(path).header("X-Adapter-Secret", &SECRET[1..]),
        Request::get(path).header("X-Adapter-Secret", &SECRET.to_uppercase()),
        Request::get(path).header("X-Adapter-Secret", SECRET).header("X-Adapter-Secret", SECRET),
        Request::get(path).header("Authorization", &format!("Bearer {SECRET}")),
        Request::get(path).header("X-Adapter-Secret", &server.service_key()),
        Request::get("/api/internal/auth/nothing"),
        // Before the body is read.
        Request::new("POST", "/api/internal/auth/users").header("Content-Type", "application/json").body("{"),
    ];
    for request in wrong {
        refused(&request.send(server.address).expect("an answer"), 401, "invalid_adapter_secret");
    }
    // What is no route is not taken for "there is none".
    let adapter = Adapter::of(&server);
    for path in ["", "/", "/nothing", "/users/a/b", "/Users/nobody"] {
        refused(&adapter.get(path), 404, "no_such_route");
    }
    refused(&adapter.send(Request::new("PUT", path)), 405, "method_not_allowed");
    server.reconfigure(&format!("[authjs]\nadapter_secrets = [\"{NEW_SECRET}\"]\n"));
    server.stop();
    server.restart();
    refused(&Adapter::of(&server).get("/users/nobody"), 401, "invalid_adapter_secret");
    assert!(!server.log().contains(NEW_SECRET));
}
on_both_engines!(nobody_comes_in_without_a_secret_and_two_hold_during_a_rotation);

fn on_a_listener_of_its_own_it_is_missing_from_the_public_one(engine: Engine) {
    let own = free_address();
    let server = Server::with(engine, &format!("{OPEN}listen = \"{own}\"\n"));
    let user = made(&Adapter::at(own, SECRET), json!({"email": "ada@example.com"}));
    let public = Adapter::of(&server).get(&format!("/users/{}", text(&user["id"])));
    assert_eq!(public.status, 404);
    assert!(!public.text().contains("ada") && !public.text().contains("not_found"), "{}", public.text());
    // Nothing else stands there.
    assert_eq!(Adapter::at(own, SECRET).send(Request::get("/api/auth/get-session")).status, 404);
}
on_both_engines!(on_a_listener_of_its_own_it_is_missing_from_the_public_one);
