//! Administration: what administrators may do, what nobody else may, and what they may not do either.

use serde_json::{Value, json};

use crate::harness::database::quoted;
use crate::harness::{Browser, Engine, PASSWORD, Response, Server};
use crate::on_both_engines;
use crate::organizations::{Person, text};

/// Somebody with the operator's leave.
fn administrator(server: &Server, name: &str) -> Person {
    let person = Person::new(server, name);
    server.command(&["user", "promote", &person.email, "--role", "admin"]).expect_done();
    person
}

#[track_caller]
fn post(person: &mut Person, path: &str, body: Value) -> Response {
    person.browser.post(&format!("/api/auth/admin/{path}"), body)
}

#[track_caller]
fn get(person: &mut Person, path: &str) -> Response {
    person.browser.get(&format!("/api/auth/admin/{path}"))
}

#[track_caller]
fn emails(person: &mut Person, query: &str) -> (Vec<String>, i64) {
    let found = get(person, &format!("list-users?{query}")).expect(200).json();
    let users = found["users"].as_array().expect("a list").iter().map(|user| text(&user["email"]));
    (
        users.map(|email| email.replace("@example.com", "")).collect(),
        found["total"].as_i64().expect("a number"),
    )
}

fn users_are_searched_filtered_sorted_and_paged(engine: Engine) {
    let server = Server::start(engine);
    let mut root = administrator(&server, "root");
    for (email, name, role) in [
        ("cleo", "Cleo 50%", json!("user")),
        ("ada", "Ada", json!(["user", "editor"])),
        ("bob", "bob_b", json!("user")),
    ] {
        let body = json!({"email": format!("{email}@example.com"), "name": name, "role": role});
        post(&mut root, "create-user", body).expect(200);
    }
    let mut list = |query: &str| {
        let (emails, total) = emails(&mut root, query);
        (emails.join(" "), total)
    };
    assert_eq!(list(""), ("root cleo ada bob".into(), 4));
    assert_eq!(list("sortBy=email"), ("ada bob cleo root".into(), 4));
    assert_eq!(list("sortBy=createdAt&sortDirection=desc&limit=2&offset=1"), ("ada cleo".into(), 4));
    assert_eq!(list("searchValue=O&sortBy=email"), ("ada bob cleo root".into(), 4));
    assert_eq!(list("searchValue=b&searchOperator=starts_with"), ("bob".into(), 1));
    assert_eq!(list("searchValue=ADA&searchField=name"), ("ada".into(), 1));
    // Signs of patterns stand for themselves.
    assert_eq!(list("searchValue=%25&searchField=name"), ("cleo".into(), 1));
    assert_eq!(list("searchValue=_&searchField=name"), ("bob".into(), 1));
    assert_eq!(list("filterField=role&filterValue=user,editor"), ("ada".into(), 1));
    assert_eq!(
        list("filterField=role&filterOperator=ne&filterValue=user&sortBy=email"),
        ("ada root".into(), 2)
    );
    assert_eq!(list("filterField=email&filterValue=bob@example.com"), ("bob".into(), 1));
    assert_eq!(
        list(
            "filterField=email&filterOperator=in&filterValue=bob@example.com&filterValue=ada@example.com&sortBy=email"
        ),
        ("ada bob".into(), 2)
    );
    assert_eq!(list("filterField=emailVerified&filterValue=true").1, 0);
    assert_eq!(list("filterField=banned&filterValue=false").1, 4);
    assert_eq!(list("filterField=createdAt&filterOperator=gt&filterValue=2020-01-01T00:00:00.000Z").1, 4);
    assert_eq!(list("filterField=createdAt&filterOperator=lt&filterValue=2020-01-01T00:00:00.000Z").1, 0);
    for field in [
        "id",
        "name",
        "image",
        "updatedAt",
        "username",
        "displayUsername",
        "twoFactorEnabled",
        "isAnonymous",
        "role",
        "banned",
        "banReason",
        "banExpires",
        "emailVerified",
    ] {
        for direction in ["asc", "desc"] {
            assert_eq!(list(&format!("sortBy={field}&sortDirection={direction}")).1, 4, "{field}");
        }
    }
    // Fields that users do not have find nobody, and reach no statement.
    for query in
        ["sortBy=password_hash", "sortBy=name;DROP%20TABLE%20users", "filterField=token_hash&filterValue=x"]
    {
        assert_eq!(list(query), (String::new(), 0), "{query}");
    }
    assert_eq!(list("limit=0&offset=-1").1, 4);
    let paged = get(&mut root, "list-users?limit=100000&offset=1").expect(200).json();
    assert_eq!((&paged["limit"], &paged["offset"]), (&json!(1000), &json!(1)));
}
on_both_engines!(users_are_searched_filtered_sorted_and_paged);

fn nobody_but_an_administrator_administers(engine: Engine) {
    let server = Server::start(engine);
    let (mut root, mut eve) = (administrator(&server, "root"), Person::new(&server, "eve"));
    let requests = [
        ("create-user", json!({"email": "new@example.com", "name": "New", "role": "admin"})),
        ("update-user", json!({"userId": eve.id, "data": {"role": "admin"}})),
        ("set-role", json!({"userId": eve.id, "role": "admin"})),
        ("set-user-password", json!({"userId": root.id, "newPassword": "another horse battery"})),
        ("list-user-sessions", json!({"userId": root.id})),
        ("revoke-user-sessions", json!({"userId": root.id})),
        ("ban-user", json!({"userId": root.id})),
        ("unban-user", json!({"userId": root.id})),
        ("impersonate-user", json!({"userId": root.id})),
        ("remove-user", json!({"userId": root.id})),
    ];
    for (path, body) in &requests {
        let answer = post(&mut eve, path, body.clone());
        assert_eq!(answer.status, 403, "{path}: {answer:?}");
        assert!(answer.code().starts_with("YOU_ARE_NOT_ALLOWED_TO_"), "{path}: {answer:?}");
        let answer = Browser::new(&server).post(&format!("/api/auth/admin/{path}"), body.clone());
        assert_eq!((answer.status, answer.text().as_str()), (401, ""), "{path}");
    }
    // Sign-up and one's own update name no role either.
    let asks = json!({"name": "E", "email": "e@example.com", "password": PASSWORD, "role": "admin"});
    Browser::new(&server).post("/api/auth/sign-up/email", asks).refused(400, "FIELD_NOT_ALLOWED");
    eve.browser.post("/api/auth/update-user", json!({"role": "admin"})).refused(400, "FIELD_NOT_ALLOWED");
    // A role that only looks like it.
    server.command(&["user", "promote", &eve.email, "--role", "administrator"]).expect_done();
    get(&mut eve, "list-users").refused(403, "YOU_ARE_NOT_ALLOWED_TO_LIST_USERS");
    assert_eq!(root.browser.session()["user"]["role"], "admin");
    // Whoever is demoted is one no longer, at once.
    let mut second = administrator(&server, "second");
    post(&mut root, "set-role", json!({"userId": second.id, "role": "user"})).expect(200);
    get(&mut second, "list-users").refused(403, "YOU_ARE_NOT_ALLOWED_TO_LIST_USERS");
}
on_both_engines!(nobody_but_an_administrator_administers);

fn a_user_is_made_changed_and_removed(engine: Engine) {
    let server = Server::with(engine, "[credits]\nsignup_grant = 25\n");
    let mut root = administrator(&server, "root");
    let body = json!({
        "email": "Made@Example.com", "name": "Made", "password": "a good long password",
        "data": {"image": "/i.png", "nonsense": true},
    });
    let made = post(&mut root, "create-user", body.clone()).expect(200).json()["user"].clone();
    assert_eq!(
        (&made["email"], &made["role"], &made["image"]),
        (&json!("made@example.com"), &json!("user"), &json!("/i.png"))
    );
    post(&mut root, "create-user", body).refused(400, "USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL");
    let short = json!({"email": "short@example.com", "name": "S", "password": "short"});
    post(&mut root, "create-user", short).refused(400, "PASSWORD_TOO_SHORT");
    // What new users get, this one got.
    let mut user = Browser::new(&server);
    user.try_sign_in("made@example.com", "a good long password").expect(200);
    assert_eq!(user.get("/api/auth/credits/balance").expect(200).json()["balance"], 25);

    let id = text(&made["id"]);
    let mut update = |data: Value| post(&mut root, "update-user", json!({"userId": id, "data": data}));
    update(json!({})).refused(400, "NO_DATA_TO_UPDATE");
    update(json!({"id": "x"})).refused(400, "USER_ID_CANNOT_BE_UPDATED");
    update(json!({"password": "x"})).refused(400, "PASSWORD_CANNOT_BE_UPDATED_VIA_UPDATE_USER");
    update(json!({"email": "root@example.com"})).refused(400, "USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL");
    update(json!({"twoFactorEnabled": false})).refused(400, "FIELD_NOT_ALLOWED");
    update(json!({"name": 7})).refused(400, "VALIDATION_ERROR");
    update(json!({"role": ["user", 7]})).refused(400, "INVALID_ROLE_TYPE");
    let changed = update(json!({"name": "Renamed", "emailVerified": true, "role": ["user", "editor"]}))
        .expect(200)
        .json();
    assert_eq!(
        (&changed["name"], &changed["role"], &changed["emailVerified"]),
        (&json!("Renamed"), &json!("user,editor"), &json!(true))
    );
    // Another address is nobody's proof.
    let moved = update(json!({"email": "Moved@Example.com"})).expect(200).json();
    assert_eq!((&moved["email"], &moved["emailVerified"]), (&json!("moved@example.com"), &json!(false)));

    post(&mut root, "set-user-password", json!({"userId": id, "newPassword": "another good password"}))
        .expect(200);
    assert_eq!(user.session()["user"]["email"], "moved@example.com", "sessions live on");
    user.try_sign_in("moved@example.com", "a good long password").refused(401, "INVALID_EMAIL_OR_PASSWORD");
    user.try_sign_in("moved@example.com", "another good password").expect(200);

    let own = root.id.clone();
    post(&mut root, "remove-user", json!({"userId": own})).refused(400, "YOU_CANNOT_REMOVE_YOURSELF");
    post(&mut root, "remove-user", json!({"userId": id})).expect(200);
    post(&mut root, "remove-user", json!({"userId": id})).refused(404, "USER_NOT_FOUND");
    assert_eq!(user.session(), Value::Null);
    let closed = "SELECT COUNT(*) FROM credit_accounts WHERE closed";
    assert_eq!(server.database.integer(closed), 1);
}
on_both_engines!(a_user_is_made_changed_and_removed);

fn a_ban_ends_every_session_and_ends_by_itself(engine: Engine) {
    let server = Server::start(engine);
    let (mut root, mut eve) = (administrator(&server, "root"), Person::new(&server, "eve"));
    let own = root.id.clone();
    post(&mut root, "ban-user", json!({"userId": own})).refused(400, "YOU_CANNOT_BAN_YOURSELF");
    post(&mut root, "update-user", json!({"userId": own, "data": {"banned": true}}))
        .refused(400, "YOU_CANNOT_BAN_YOURSELF");
    let body = json!({"userId": eve.id, "banReason": "spam", "banExpiresIn": 3600});
    let banned = post(&mut root, "ban-user", body).expect(200).json();
    assert_eq!((&banned["user"]["banned"], &banned["user"]["banReason"]), (&json!(true), &json!("spam")));
    assert_eq!(eve.browser.session(), Value::Null);
    eve.browser.try_sign_in(&eve.email, PASSWORD).refused(403, "BANNED_USER");
    server.database.shift("users", "ban_expires", -3_600_000, &format!("id = {}", quoted(&eve.id)));
    eve.browser.try_sign_in(&eve.email, PASSWORD).expect(200);
    // By the other route, and lifted by hand.
    post(&mut root, "update-user", json!({"userId": eve.id, "data": {"banned": true}})).expect(200);
    assert_eq!(eve.browser.session(), Value::Null);
    let lifted = post(&mut root, "unban-user", json!({"userId": eve.id})).expect(200).json();
    assert_eq!((&lifted["user"]["banned"], &lifted["user"]["banReason"]), (&json!(false), &Value::Null));
    eve.browser.try_sign_in(&eve.email, PASSWORD).expect(200);
    // A ban of ages is one for ever.
    for seconds in [json!(1e300), json!(9e15)] {
        let banned = post(&mut root, "ban-user", json!({"userId": eve.id, "banExpiresIn": seconds}))
            .expect(200)
            .json();
        assert_eq!(banned["user"]["banExpires"], Value::Null);
    }
}
on_both_engines!(a_ban_ends_every_session_and_ends_by_itself);

fn sessions_are_listed_and_ended_by_administrators(engine: Engine) {
    let server = Server::start(engine);
    let (mut root, mut eve) = (administrator(&server, "root"), Person::new(&server, "eve"));
    let mut second = Browser::new(&server);
    second.sign_in(&eve.email);
    let list = post(&mut root, "list-user-sessions", json!({"userId": eve.id})).expect(200).json();
    assert_eq!(list["sessions"].as_array().map(Vec::len), Some(2));
    let token = text(&eve.browser.session()["session"]["token"]);
    post(&mut root, "revoke-user-session", json!({"sessionToken": token})).expect(200);
    post(&mut root, "revoke-user-session", json!({"sessionToken": "absent"})).expect(200);
    assert_eq!(
        (eve.browser.session(), second.session()["user"]["email"].as_str()),
        (Value::Null, Some(eve.email.as_str()))
    );
    post(&mut root, "revoke-user-sessions", json!({"userId": eve.id})).expect(200);
    assert_eq!(second.session(), Value::Null);
    assert_ne!(root.browser.session(), Value::Null);
}
on_both_engines!(sessions_are_listed_and_ended_by_administrators);

fn an_administrator_in_a_users_place_stays_one_and_comes_back(engine: Engine) {
    let on = "[methods]\ndevice_authorization = true\n[accounts]\nchange_email = true\n";
    let server = Server::with(engine, on);
    let (mut root, eve) = (administrator(&server, "root"), Person::new(&server, "eve"));
    let other = administrator(&server, "other");
    let own = root.browser.session()["session"]["token"].clone();
    post(&mut root, "impersonate-user", json!({"userId": other.id}))
        .refused(403, "YOU_CANNOT_IMPERSONATE_ADMINS");
    post(&mut root, "impersonate-user", json!({"userId": "absent"})).refused(404, "USER_NOT_FOUND");
    let begun = post(&mut root, "impersonate-user", json!({"userId": eve.id})).expect(200).json();
    assert_eq!(
        (&begun["session"]["impersonatedBy"], &begun["user"]["id"]),
        (&json!(root.id), &json!(eve.id))
    );
    assert_eq!(root.browser.session()["user"]["email"], "eve@example.com");
    // In a user's place nobody administers, be the user made an administrator meanwhile.
    get(&mut root, "list-users").refused(403, "YOU_ARE_NOT_ALLOWED_TO_LIST_USERS");
    server.command(&["user", "promote", &eve.email, "--role", "admin"]).expect_done();
    get(&mut root, "list-users").refused(403, "YOU_ARE_NOT_ALLOWED_TO_LIST_USERS");
    let asked = json!({"permissions": {"user": ["ban"]}});
    assert_eq!(post(&mut root, "has-permission", asked).expect(200).json()["success"], false);
    // Nothing is left behind that would open the account later.
    root.browser
        .post("/api/auth/api-key/create", json!({"name": "left"}))
        .refused(401, "UNAUTHORIZED_SESSION");
    let device = json!({"client_id": "left"});
    let code =
        Browser::new(&server).post("/api/auth/device/code", device).expect(200).json()["user_code"].clone();
    let approved = root.browser.post("/api/auth/device/approve", json!({"userCode": code}));
    assert_eq!(approved.status, 401, "{approved:?}");
    root.browser.get("/api/auth/passkey/generate-register-options").expect(401);
    let moved = json!({"newEmail": "left@example.com"});
    root.browser.post("/api/auth/change-email", moved).refused(401, "UNAUTHORIZED");
    // The user does not see it in the list of devices; it lives an hour, and use does not prolong it.
    let mut browser = eve.browser.clone();
    assert_eq!(browser.get("/api/auth/list-sessions").expect(200).json().as_array().map(Vec::len), Some(1));
    let bearer = format!("Bearer {}", text(&begun["session"]["token"]));
    let shown = crate::harness::Request::get("/api/auth/get-session").header("Authorization", &bearer);
    let shown = shown.send(server.address).expect("an answer").expect(200).json();
    assert_eq!(shown["session"]["expiresAt"], begun["session"]["expiresAt"]);
    let back = post(&mut root, "stop-impersonating", json!({})).expect(200).json();
    assert_eq!((&back["session"]["token"], &back["user"]["id"]), (&own, &json!(root.id)));
    assert_eq!(root.browser.session()["session"]["token"], own);
    post(&mut root, "stop-impersonating", json!({})).expect(400);
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM sessions WHERE impersonated_by IS NOT NULL"), 0);
    let log = server.log();
    for action in ["impersonate-user", "stop-impersonating"] {
        assert!(log.lines().any(|line| line.contains("audit") && line.contains(action)), "{log}");
    }
    assert!(!log.contains(&text(&begun["session"]["token"])), "a token is in the log");
}
on_both_engines!(an_administrator_in_a_users_place_stays_one_and_comes_back);

fn impersonations_end_with_the_administrators_power(engine: Engine) {
    let server = Server::start(engine);
    let mut root = administrator(&server, "root");
    let eve = Person::new(&server, "eve");
    let ways = [
        ("banned", "ban-user", json!({})),
        ("demoted", "set-role", json!({"role": "user"})),
        ("removed", "remove-user", json!({})),
    ];
    for (name, path, mut body) in ways {
        let mut second = administrator(&server, name);
        post(&mut second, "impersonate-user", json!({"userId": eve.id})).expect(200);
        assert_eq!(second.browser.session()["user"]["email"], "eve@example.com");
        body["userId"] = json!(second.id);
        post(&mut root, path, body).expect(200);
        assert_eq!(second.browser.session(), Value::Null, "{name}");
    }
    // Another administrator's signed cookie is no way into that session.
    let mut third = administrator(&server, "third");
    post(&mut root, "impersonate-user", json!({"userId": eve.id})).expect(200);
    post(&mut third, "impersonate-user", json!({"userId": eve.id})).expect(200);
    let stolen = root.browser.cookie("better-auth.admin_session").expect("it is set").to_owned();
    third.browser.set_cookie("better-auth.admin_session", &stolen);
    let answer = post(&mut third, "stop-impersonating", json!({}));
    assert_eq!(answer.status, 400, "{answer:?}");
    third.browser.set_cookie("better-auth.admin_session", &format!("{}x", &stolen[..stolen.len() - 1]));
    assert_eq!(post(&mut third, "stop-impersonating", json!({})).status, 400);
}
on_both_engines!(impersonations_end_with_the_administrators_power);
