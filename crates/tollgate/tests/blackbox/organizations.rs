//! Organizations: what belongs to them, who sees what, and what is left when they go.

use serde_json::{Value, json};

use crate::harness::database::quoted;
use crate::harness::{Browser, Engine, Response, Server};
use crate::on_both_engines;

pub struct Person {
    pub browser: Browser,
    pub id: String,
    pub email: String,
}

impl Person {
    pub fn new(server: &Server, name: &str) -> Person {
        let mut browser = Browser::new(server);
        let email = format!("{name}@example.com");
        let made = browser.sign_up(&email);
        Person { browser, id: text(&made["user"]["id"]), email }
    }

    #[track_caller]
    pub fn post(&mut self, path: &str, body: Value) -> Response {
        self.browser.post(&format!("/api/auth/organization/{path}"), body)
    }

    #[track_caller]
    pub fn get(&mut self, path: &str) -> Response {
        self.browser.get(&format!("/api/auth/organization/{path}"))
    }

    /// Makes an organization; gives its id.
    #[track_caller]
    pub fn founds(&mut self, slug: &str) -> String {
        text(&self.post("create", json!({"name": "An organization", "slug": slug})).expect(200).json()["id"])
    }

    /// Invites somebody into an organization; gives the invitation's id.
    #[track_caller]
    pub fn invites(&mut self, organization: &str, whom: &Person, role: &str) -> String {
        let body = json!({"organizationId": organization, "email": whom.email, "role": role});
        text(&self.post("invite-member", body).expect(200).json()["id"])
    }

    #[track_caller]
    pub fn accepts(&mut self, invitation: &str) -> Value {
        self.post("accept-invitation", json!({"invitationId": invitation})).expect(200).json()
    }

    #[track_caller]
    pub fn active(&mut self) -> (Value, Value) {
        let session = self.browser.session();
        (session["session"]["activeOrganizationId"].clone(), session["session"]["activeTeamId"].clone())
    }
}

#[track_caller]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// Brings somebody into an organization; gives the member's id.
#[track_caller]
pub fn bring(owner: &mut Person, organization: &str, whom: &mut Person, role: &str) -> String {
    let invitation = owner.invites(organization, whom, role);
    text(&whom.accepts(&invitation)["member"]["id"])
}

fn an_organization_is_its_members_own(engine: Engine) {
    let server = Server::start(engine);
    let (mut ada, mut eve) = (Person::new(&server, "ada"), Person::new(&server, "eve"));
    let acme = ada.founds("acme");
    let own = eve.founds("evil");
    let full = ada.get("get-full-organization").expect(200).json();
    let team = text(&full["teams"][0]["id"]);
    let member = text(&full["members"][0]["id"]);
    let strange = |path: &str, body: Value| (path.to_owned(), body);
    let mine = |mut body: Value| {
        body["organizationId"] = json!(acme);
        body
    };
    for (path, body) in [
        strange("update", mine(json!({"data": {"name": "Mine"}}))),
        strange("delete", mine(json!({}))),
        strange("invite-member", mine(json!({"email": "eve2@example.com", "role": "owner"}))),
        strange("update-member-role", mine(json!({"memberId": member, "role": "member"}))),
        strange("remove-member", mine(json!({"memberIdOrEmail": member}))),
        strange("remove-member", mine(json!({"memberIdOrEmail": "ada@example.com"}))),
        strange("leave", mine(json!({}))),
        strange("create-team", mine(json!({"name": "Mine"}))),
        strange("remove-team", mine(json!({"teamId": team}))),
        strange("add-team-member", mine(json!({"teamId": team, "userId": eve.id}))),
        strange("remove-team-member", mine(json!({"teamId": team, "userId": ada.id}))),
        // By way of one's own organization, where one may do all.
        strange("update-member-role", json!({"organizationId": own, "memberId": member, "role": "member"})),
        strange("remove-member", json!({"organizationId": own, "memberIdOrEmail": member})),
        strange("remove-team", json!({"organizationId": own, "teamId": team})),
        strange("update-team", json!({"teamId": team, "data": {"name": "Mine", "organizationId": own}})),
        strange("add-team-member", json!({"organizationId": own, "teamId": team, "userId": eve.id})),
        strange("set-active-team", json!({"teamId": team})),
        strange(
            "invite-member",
            json!({"organizationId": own, "email": "x@example.com", "role": "member", "teamId": team}),
        ),
    ] {
        let answer = eve.post(&path, body.clone());
        assert!(matches!(answer.status, 400 | 401 | 403), "{path} {body}: {answer:?}");
        assert!(!answer.text().contains("ada@example.com"), "{path}: {}", answer.text());
    }
    for path in [
        format!("get-organization?organizationId={acme}"),
        "get-full-organization?organizationSlug=acme".to_owned(),
        format!("list-members?organizationId={acme}"),
        "list-members?organizationSlug=acme".to_owned(),
        format!("list-invitations?organizationId={acme}"),
        format!("list-teams?organizationId={acme}"),
        format!("list-team-members?teamId={team}"),
        format!("list-user-teams?organizationId={acme}&userId={}", ada.id),
        format!("get-active-member-role?organizationId={acme}&userId={}", ada.id),
    ] {
        let answer = eve.get(&path);
        assert!(matches!(answer.status, 400 | 403), "{path}: {answer:?}");
        assert!(!answer.text().contains("ada"), "{path}: {}", answer.text());
    }
    assert_eq!(ada.get("get-full-organization").expect(200).json(), full);
    assert_eq!(eve.get("list").expect(200).json().as_array().map(Vec::len), Some(1));
}
on_both_engines!(an_organization_is_its_members_own);

fn asking_for_a_strangers_organization_leaves_none_active(engine: Engine) {
    let server = Server::start(engine);
    let (mut ada, mut eve) = (Person::new(&server, "ada"), Person::new(&server, "eve"));
    let acme = ada.founds("acme");
    let own = eve.founds("own");
    assert_eq!(eve.active().0, own.as_str());
    let code = "USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION";
    eve.post("set-active", json!({"organizationId": acme})).refused(403, code);
    assert_eq!(eve.active().0, Value::Null);
    eve.post("set-active", json!({"organizationSlug": "own"})).expect(200);
    eve.get(&format!("get-full-organization?organizationId={acme}")).refused(403, code);
    assert_eq!(eve.active().0, Value::Null);
    assert_eq!(eve.get("get-full-organization").expect(200).json(), Value::Null);
    // Nobody else's session is touched.
    assert_eq!(ada.active().0, acme.as_str());
}
on_both_engines!(asking_for_a_strangers_organization_leaves_none_active);

fn metadata_is_an_object_where_it_was_sent_and_a_text_where_it_is_listed(engine: Engine) {
    let server = Server::start(engine);
    let mut ada = Person::new(&server, "ada");
    let bare = ada.post("create", json!({"name": "Bare", "slug": "bare"})).expect(200).json();
    assert!(bare.get("metadata").is_none() && bare["logo"].is_null(), "{bare}");
    let body = json!({"name": "Full", "slug": "full", "logo": "/l.png", "metadata": {"plan": "x"}});
    let full = ada.post("create", body).expect(200).json();
    assert_eq!(full["metadata"], json!({"plan": "x"}));
    assert_eq!(full["members"][0]["role"], "owner");
    let update = json!({"data": {"metadata": {"plan": "y"}, "logo": null}});
    let changed = ada.post("update", update).expect(200).json();
    assert_eq!((&changed["metadata"], &changed["logo"]), (&json!({"plan": "y"}), &Value::Null));
    let list = ada.get("list").expect(200).json();
    assert_eq!((&list[0]["metadata"], &list[1]["metadata"]), (&Value::Null, &json!("{\"plan\":\"y\"}")));
    let deleted = ada.post("delete", json!({"organizationId": full["id"]})).expect(200).json();
    assert_eq!(deleted["metadata"], "{\"plan\":\"y\"}");
}
on_both_engines!(metadata_is_an_object_where_it_was_sent_and_a_text_where_it_is_listed);

fn a_slug_is_one_organizations_and_as_long_as_an_index_takes(engine: Engine) {
    let server = Server::start(engine);
    let (mut ada, mut bob) = (Person::new(&server, "ada"), Person::new(&server, "bob"));
    ada.founds("acme");
    let other = bob.founds("other");
    bob.post("create", json!({"name": "B", "slug": "acme"})).refused(400, "ORGANIZATION_ALREADY_EXISTS");
    let update = json!({"organizationId": other, "data": {"slug": "acme"}});
    bob.post("update", update).refused(400, "ORGANIZATION_SLUG_ALREADY_TAKEN");
    bob.post("check-slug", json!({"slug": "acme"})).refused(400, "ORGANIZATION_SLUG_ALREADY_TAKEN");
    bob.post("check-slug", json!({"slug": "Acme"})).expect(200);
    let long = "é".repeat(256);
    bob.post("create", json!({"name": "B", "slug": long})).refused(400, "VALIDATION_ERROR");
    bob.post("create", json!({"name": "B", "slug": "é".repeat(255)})).expect(200);
    bob.post("create", json!({"name": "a\u{0}", "slug": "nul"})).refused(400, "VALIDATION_ERROR");
}
on_both_engines!(a_slug_is_one_organizations_and_as_long_as_an_index_takes);

fn deleting_an_organization_ends_it_in_every_session_and_closes_its_accounts(engine: Engine) {
    let server = Server::start(engine);
    let (mut ada, mut bob) = (Person::new(&server, "ada"), Person::new(&server, "bob"));
    let acme = ada.founds("acme");
    bring(&mut ada, &acme, &mut bob, "admin");
    bob.post("delete", json!({"organizationId": acme}))
        .refused(403, "YOU_ARE_NOT_ALLOWED_TO_DELETE_THIS_ORGANIZATION");
    ada.post("delete", json!({"organizationId": acme})).expect(200);
    assert_eq!((ada.active(), bob.active().0), ((Value::Null, Value::Null), Value::Null));
    for table in ["organizations", "members", "invitations", "teams", "team_members"] {
        assert_eq!(server.database.integer(&format!("SELECT COUNT(*) FROM {table}")), 0, "{table}");
    }
    ada.post("delete", json!({"organizationId": acme}))
        .refused(400, "USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION");
}
on_both_engines!(deleting_an_organization_ends_it_in_every_session_and_closes_its_accounts);

fn a_deleted_user_takes_along_what_was_theirs_alone(engine: Engine) {
    let server = Server::with(engine, "[accounts]\ndelete_user = true\n");
    let (mut ada, mut bob) = (Person::new(&server, "ada"), Person::new(&server, "bob"));
    let alone = ada.founds("alone");
    let shared = ada.founds("shared");
    bring(&mut ada, &shared, &mut bob, "admin");
    ada.browser.post("/api/auth/delete-user", json!({})).expect(200);
    let left = server.database.rows("SELECT id FROM organizations");
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(
        server.database.value(&format!("SELECT id FROM organizations WHERE id <> {}", quoted(&alone))),
        Some(shared)
    );
    let members = bob.get("list-members").expect(200).json();
    assert_eq!((&members["total"], &members["members"][0]["role"]), (&json!(1), &json!("admin")));
    // The operator gives it an owner again.
    let appointed = server.command(&["organization", "appoint", "shared", &bob.email, "--json"]);
    assert_eq!(appointed.expect_done().json()["role"], "owner");
    assert_eq!(bob.get("get-active-member-role").expect(200).json()["role"], "owner");
    let again = ["organization", "appoint", "shared", &bob.email, "--role", "member"];
    assert_eq!(server.command(&again).code, Some(1), "the only owner stays");
    assert_eq!(server.command(&["organization", "appoint", "absent", &bob.email]).code, Some(1));
}
on_both_engines!(a_deleted_user_takes_along_what_was_theirs_alone);

fn switched_off_there_are_no_organizations_and_no_administration(engine: Engine) {
    let server = Server::with(engine, "[methods]\norganizations = false\nadmin = false\n");
    let mut ada = Person::new(&server, "ada");
    for (method, path) in [("POST", "organization/create"), ("GET", "organization/list")] {
        let request = crate::harness::Request::new(method, &format!("/api/auth/{path}"));
        let answer = ada.browser.send(request.json(&json!({"name": "A", "slug": "a"})));
        assert_eq!((answer.status, answer.text().as_str()), (404, ""), "{path}");
    }
    let answer = ada.browser.get("/api/auth/admin/list-users");
    assert_eq!((answer.status, answer.text().as_str()), (404, ""));
}
on_both_engines!(switched_off_there_are_no_organizations_and_no_administration);
