//! Members, invitations and teams: who may do what to whom.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::database::quoted;
use crate::harness::{Browser, Engine, Server};
use crate::on_both_engines;
use crate::organizations::{Person, bring, text};

fn a_mailed_invitation_is_answered_by_its_address_alone(engine: Engine) {
    let server = Server::start(engine);
    let (mut ada, mut bob, mut eve) =
        (Person::new(&server, "ada"), Person::new(&server, "bob"), Person::new(&server, "eve"));
    let acme = ada.founds("acme");
    let invitation = ada.invites(&acme, &bob, "member");
    let mail = server.mail.take(&bob.email, Duration::from_secs(10));
    assert_eq!(mail.link(), format!("{}/accept/{invitation}", server.base_url));
    assert!(mail.text().contains("An organization"), "{}", mail.text());

    let code = "YOU_ARE_NOT_THE_RECIPIENT_OF_THE_INVITATION";
    eve.get(&format!("get-invitation?id={invitation}")).refused(403, code);
    for path in ["accept-invitation", "reject-invitation"] {
        eve.post(path, json!({"invitationId": invitation})).refused(403, code);
    }
    eve.post("cancel-invitation", json!({"invitationId": invitation})).refused(400, "MEMBER_NOT_FOUND");

    let shown = bob.get(&format!("get-invitation?id={invitation}")).expect(200).json();
    assert_eq!(
        (&shown["organizationSlug"], &shown["inviterEmail"], &shown["status"]),
        (&json!("acme"), &json!("ada@example.com"), &json!("pending"))
    );
    let accepted = bob.accepts(&invitation);
    assert_eq!(
        (&accepted["invitation"]["status"], &accepted["member"]["role"]),
        (&json!("accepted"), &json!("member"))
    );
    assert_eq!(bob.active().0, acme.as_str());
    for path in ["accept-invitation", "reject-invitation"] {
        bob.post(path, json!({"invitationId": invitation})).refused(400, "INVITATION_NOT_FOUND");
    }
}
on_both_engines!(a_mailed_invitation_is_answered_by_its_address_alone);

fn an_invitation_ends_by_time_by_being_rejected_and_by_being_taken_back(engine: Engine) {
    let server = Server::start(engine);
    let (mut ada, mut bob) = (Person::new(&server, "ada"), Person::new(&server, "bob"));
    let acme = ada.founds("acme");
    let late = ada.invites(&acme, &bob, "member");
    let hours = 48 * 3600 * 1000;
    let condition = format!("id = {}", quoted(&late));
    assert_eq!(server.database.shift("invitations", "expires_at", -hours, &condition), 1);
    bob.post("accept-invitation", json!({"invitationId": late})).refused(400, "INVITATION_NOT_FOUND");
    bob.get(&format!("get-invitation?id={late}")).refused(400, "INVITATION_NOT_FOUND");
    // A late one stands in nobody's way, and can still be rejected.
    let rejected = ada.invites(&acme, &bob, "member");
    bob.post("reject-invitation", json!({"invitationId": late})).expect(200);
    bob.post("reject-invitation", json!({"invitationId": rejected})).expect(200);
    bob.post("accept-invitation", json!({"invitationId": rejected})).refused(400, "INVITATION_NOT_FOUND");
    let canceled = ada.invites(&acme, &bob, "member");
    ada.post("cancel-invitation", json!({"invitationId": canceled})).expect(200);
    bob.post("accept-invitation", json!({"invitationId": canceled})).refused(400, "INVITATION_NOT_FOUND");
    let list = ada.get("list-invitations").expect(200).json();
    let states: Vec<&str> =
        list.as_array().expect("a list").iter().filter_map(|one| one["status"].as_str()).collect();
    assert_eq!(states, ["rejected", "rejected", "canceled"]);
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM members"), 1);
}
on_both_engines!(an_invitation_ends_by_time_by_being_rejected_and_by_being_taken_back);

fn inviting_again_is_refused_or_mails_the_same_invitation(engine: Engine) {
    let server = Server::start(engine);
    let (mut ada, mut bob) = (Person::new(&server, "ada"), Person::new(&server, "bob"));
    let acme = ada.founds("acme");
    let invitation = ada.invites(&acme, &bob, "member");
    let again = |resend: bool| json!({"email": "BOB@example.com", "role": "admin", "resend": resend});
    ada.post("invite-member", again(false)).refused(400, "USER_IS_ALREADY_INVITED_TO_THIS_ORGANIZATION");
    let resent = ada.post("invite-member", again(true)).expect(200).json();
    // What was promised stays promised: the role is that of the first time.
    assert_eq!((&resent["id"], &resent["role"]), (&json!(invitation), &json!("member")));
    let links: Vec<String> =
        (0..2).map(|_| server.mail.take(&bob.email, Duration::from_secs(10)).link()).collect();
    assert_eq!(links[0], links[1]);
    bob.accepts(&invitation);
    ada.post("invite-member", again(true)).refused(400, "USER_IS_ALREADY_A_MEMBER_OF_THIS_ORGANIZATION");
}
on_both_engines!(inviting_again_is_refused_or_mails_the_same_invitation);

fn where_addresses_must_be_verified_an_invitation_waits_for_that(engine: Engine) {
    let server = Server::with(
        engine,
        "[organizations]\nrequire_verified_email = true\n\
         invitation_url = \"https://app.example/invitations/{id}?from=mail\"\n",
    );
    let (mut ada, mut bob) = (Person::new(&server, "ada"), Person::new(&server, "bob"));
    let acme = ada.founds("acme");
    let invitation = ada.invites(&acme, &bob, "member");
    let mail = server.mail.take(&bob.email, Duration::from_secs(10));
    assert_eq!(mail.link(), format!("https://app.example/invitations/{invitation}?from=mail"));
    let answer = "EMAIL_VERIFICATION_REQUIRED_BEFORE_ACCEPTING_OR_REJECTING_INVITATION";
    let look = "EMAIL_VERIFICATION_REQUIRED_FOR_INVITATION";
    for path in ["accept-invitation", "reject-invitation"] {
        bob.post(path, json!({"invitationId": invitation})).refused(403, answer);
    }
    bob.get(&format!("get-invitation?id={invitation}")).refused(403, look);
    bob.get("list-user-invitations").refused(403, look);
    server
        .database
        .execute(&format!("UPDATE users SET email_verified = TRUE WHERE id = {}", quoted(&bob.id)));
    let waiting = bob.get("list-user-invitations").expect(200).json();
    assert_eq!(
        (&waiting[0]["id"], &waiting[0]["organizationName"]),
        (&json!(invitation), &json!("An organization"))
    );
    bob.accepts(&invitation);
}
on_both_engines!(where_addresses_must_be_verified_an_invitation_waits_for_that);

fn roles_reach_as_far_as_they_say(engine: Engine) {
    let server = Server::start(engine);
    let (mut ada, mut bob, mut cleo) =
        (Person::new(&server, "ada"), Person::new(&server, "bob"), Person::new(&server, "cleo"));
    let acme = ada.founds("acme");
    let owner = text(&ada.get("get-active-member").expect(200).json()["id"]);
    let admin = bring(&mut ada, &acme, &mut bob, "admin");
    let member = bring(&mut ada, &acme, &mut cleo, "member");

    // An administrator does not make owners, and does nothing to them.
    let role = |member: &str, role: &str| json!({"memberId": member, "role": role});
    let update = "YOU_ARE_NOT_ALLOWED_TO_UPDATE_THIS_MEMBER";
    bob.post("update-member-role", role(&admin, "owner")).refused(403, update);
    bob.post("update-member-role", role(&member, "member,owner")).refused(403, update);
    bob.post("update-member-role", role(&owner, "member")).refused(403, update);
    let invite = |role: &str| json!({"email": "new@example.com", "role": role});
    bob.post("invite-member", invite("owner"))
        .refused(403, "YOU_ARE_NOT_ALLOWED_TO_INVITE_USER_WITH_THIS_ROLE");
    bob.post("remove-member", json!({"memberIdOrEmail": owner}))
        .refused(400, "YOU_CANNOT_LEAVE_THE_ORGANIZATION_AS_THE_ONLY_OWNER");
    bob.post("update-member-role", role(&member, "emperor")).refused(400, "ROLE_NOT_FOUND");
    // Owners' invitations are for owners' eyes.
    ada.post("invite-member", json!({"email": "second@example.com", "role": "owner"})).expect(200);
    bob.post("invite-member", invite("member")).expect(200);
    let seen =
        |person: &mut Person| person.get("list-invitations").expect(200).json().as_array().map(Vec::len);
    assert_eq!((seen(&mut ada), seen(&mut bob)), (Some(4), Some(3)));

    // A member changes nothing.
    let not_allowed = [
        ("update", json!({"data": {"name": "Mine"}})),
        ("invite-member", invite("member")),
        ("update-member-role", role(&member, "admin")),
        ("remove-member", json!({"memberIdOrEmail": member})),
        ("create-team", json!({"name": "Mine"})),
    ];
    for (path, body) in not_allowed {
        let answer = cleo.post(path, body);
        assert!(matches!(answer.status, 401 | 403), "{path}: {answer:?}");
    }
    cleo.get("list-invitations").refused(403, "YOU_ARE_NOT_ALLOWED_TO_LIST_INVITATIONS");
    let full = cleo.get("get-full-organization").expect(200).json();
    assert_eq!(
        (full["invitations"].as_array().map(Vec::len), full["members"].as_array().map(Vec::len)),
        (Some(0), Some(3))
    );

    // The last owner stays; with a second one the first may go.
    ada.post("update-member-role", role(&owner, "admin"))
        .refused(400, "YOU_CANNOT_LEAVE_THE_ORGANIZATION_WITHOUT_AN_OWNER");
    ada.post("leave", json!({"organizationId": acme}))
        .refused(400, "YOU_CANNOT_LEAVE_THE_ORGANIZATION_AS_THE_ONLY_OWNER");
    ada.post("update-member-role", role(&admin, "owner")).expect(200);
    ada.post("leave", json!({"organizationId": acme})).expect(200);
    assert_eq!(ada.active(), (Value::Null, Value::Null));
}
on_both_engines!(roles_reach_as_far_as_they_say);

fn whoever_is_removed_is_active_nowhere_and_in_no_team(engine: Engine) {
    let server = Server::start(engine);
    let (mut ada, mut bob) = (Person::new(&server, "ada"), Person::new(&server, "bob"));
    let acme = ada.founds("acme");
    let team = text(&ada.post("create-team", json!({"name": "Blue"})).expect(200).json()["id"]);
    let body = json!({"email": bob.email, "role": "member", "teamId": team});
    let invitation = text(&ada.post("invite-member", body).expect(200).json()["id"]);
    bob.accepts(&invitation);
    assert_eq!(bob.active(), (json!(acme), json!(team)));
    // A second browser of the same person.
    let mut elsewhere =
        Person { browser: Browser::new(&server), id: bob.id.clone(), email: bob.email.clone() };
    elsewhere.browser.sign_in(&bob.email);
    elsewhere.post("set-active", json!({"organizationId": acme})).expect(200);
    elsewhere.post("set-active-team", json!({"teamId": team})).expect(200);
    let removed = ada.post("remove-member", json!({"memberIdOrEmail": "Bob@Example.com"})).expect(200).json();
    assert_eq!(removed["member"]["user"]["email"], "bob@example.com");
    for person in [&mut bob, &mut elsewhere] {
        assert_eq!(person.active(), (Value::Null, Value::Null));
    }
    assert_eq!(bob.get("list-user-teams").expect(200).json(), json!([]));
    bob.get(&format!("list-team-members?teamId={team}")).refused(400, "USER_IS_NOT_A_MEMBER_OF_THE_TEAM");
    bob.post("set-active", json!({"organizationId": acme}))
        .refused(403, "USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION");
}
on_both_engines!(whoever_is_removed_is_active_nowhere_and_in_no_team);

fn members_are_listed_in_pages_and_by_known_fields_only(engine: Engine) {
    let server = Server::start(engine);
    let (mut ada, mut bob, mut cleo) =
        (Person::new(&server, "ada"), Person::new(&server, "bob"), Person::new(&server, "cleo"));
    let acme = ada.founds("acme");
    bring(&mut ada, &acme, &mut bob, "admin");
    bring(&mut ada, &acme, &mut cleo, "member");
    let mut listed = |query: &str| {
        let found = ada.get(&format!("list-members?{query}")).expect(200).json();
        let roles = found["members"].as_array().expect("a list").iter().map(|one| text(&one["role"]));
        (roles.collect::<Vec<_>>().join(" "), found["total"].as_u64())
    };
    assert_eq!(listed(""), ("owner admin member".into(), Some(3)));
    assert_eq!(listed("limit=1&offset=1"), ("admin".into(), Some(3)));
    assert_eq!(listed("sortBy=role&sortDirection=desc"), ("owner member admin".into(), Some(3)));
    assert_eq!(listed("filterField=role&filterValue=admin"), ("admin".into(), Some(1)));
    assert_eq!(
        listed("filterField=role&filterValue=admin&filterValue=owner&filterOperator=in"),
        ("owner admin".into(), Some(2))
    );
    assert_eq!(
        listed("filterField=role&filterValue=m&filterOperator=contains"),
        ("admin member".into(), Some(2))
    );
    for query in [
        "sortBy=email",
        "sortBy=role;DROP TABLE members",
        "filterField=password&filterValue=x",
        "filterOperator=like",
    ] {
        ada.get(&format!("list-members?{}", query.replace(' ', "%20"))).refused(400, "VALIDATION_ERROR");
    }
}
on_both_engines!(members_are_listed_in_pages_and_by_known_fields_only);

fn teams_are_entered_by_their_members_and_left_with_them(engine: Engine) {
    let server = Server::start(engine);
    let (mut ada, mut bob) = (Person::new(&server, "ada"), Person::new(&server, "bob"));
    let acme = ada.founds("acme");
    let first = ada.active().1;
    bring(&mut ada, &acme, &mut bob, "member");
    ada.post("remove-team", json!({"teamId": first})).refused(403, "YOU_ARE_NOT_ALLOWED_TO_DELETE_THIS_TEAM");
    let blue = text(&ada.post("create-team", json!({"name": "Blue"})).expect(200).json()["id"]);
    bob.post("set-active-team", json!({"teamId": blue})).refused(403, "USER_IS_NOT_A_MEMBER_OF_THE_TEAM");
    ada.post("add-team-member", json!({"teamId": blue, "userId": bob.id})).expect(200);
    let again = ada.post("add-team-member", json!({"teamId": blue, "userId": bob.id})).expect(200).json();
    assert_eq!(again["userId"], bob.id.as_str());
    bob.post("set-active-team", json!({"teamId": blue})).expect(200);
    assert_eq!(bob.active().1, blue.as_str());
    // Who is taken out of a team is active in it no longer, and neither is anybody once it is gone.
    ada.post("remove-team-member", json!({"teamId": blue, "userId": bob.id})).expect(200);
    assert_eq!(bob.active().1, Value::Null);
    ada.post("add-team-member", json!({"teamId": blue, "userId": bob.id})).expect(200);
    bob.post("set-active-team", json!({"teamId": blue})).expect(200);
    let body = json!({"email": "cleo@example.com", "role": "member", "teamId": [blue, first]});
    let invitation = ada.post("invite-member", body).expect(200).json();
    assert_eq!(invitation["teamId"], format!("{blue},{}", text(&first)));
    ada.post("remove-team", json!({"teamId": blue})).expect(200);
    assert_eq!(bob.active().1, Value::Null);
    let mut cleo = Person::new(&server, "cleo");
    let accepted = cleo.accepts(&text(&invitation["id"]));
    assert_eq!(accepted["invitation"]["teamId"], first);
    ada.post("set-active-team", json!({"teamId": null})).expect(200);
    ada.post("remove-team", json!({"teamId": first})).refused(400, "UNABLE_TO_REMOVE_LAST_TEAM");
}
on_both_engines!(teams_are_entered_by_their_members_and_left_with_them);

fn a_name_is_no_way_to_mail_a_link(engine: Engine) {
    let server = Server::start(engine);
    let (mut ada, bob) = (Person::new(&server, "ada"), Person::new(&server, "bob"));
    let name = "Win at https://evil.example or evil.example\r\nBcc: x@evil.example";
    let made = ada.post("create", json!({"name": name, "slug": "evil"})).expect(200).json();
    ada.invites(&text(&made["id"]), &bob, "member");
    let mail = server.mail.take(&bob.email, Duration::from_secs(10));
    assert_eq!(mail.links().len(), 1, "{}", mail.text());
    for part in [mail.subject(), mail.text().to_owned(), mail.html().to_owned()] {
        assert!(!part.contains("evil.example"), "{part}");
    }
}
on_both_engines!(a_name_is_no_way_to_mail_a_link);
