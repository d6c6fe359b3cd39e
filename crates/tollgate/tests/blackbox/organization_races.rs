//! Organizations under many requests at once: one member by one invitation, limits that hold, an owner that stays.

use serde_json::json;

use crate::harness::database::quoted;
use crate::harness::parallel::{at_full_length, in_parallel};
use crate::harness::{Engine, Server};
use crate::on_both_engines;
use crate::organizations::{Person, bring};

const CALLERS: usize = 50;

fn rounds() -> usize {
    if at_full_length() { 20 } else { 2 }
}

fn fifty_acceptances_of_one_invitation_make_one_member(engine: Engine) {
    let server = Server::start(engine);
    let mut ada = Person::new(&server, "ada");
    for round in 0..rounds() {
        let acme = ada.founds(&format!("acme-{round}"));
        let bob = Person::new(&server, &format!("bob-{round}"));
        let invitation = ada.invites(&acme, &bob, "member");
        let answers = in_parallel(CALLERS, |number| {
            // Some say no at the same moment.
            let path = if number % 10 == 9 { "reject-invitation" } else { "accept-invitation" };
            let path = format!("/api/auth/organization/{path}");
            let answer = bob.browser.clone().post(&path, json!({"invitationId": invitation}));
            (number % 10 == 9, answer.status)
        });
        let done: Vec<bool> =
            answers.iter().filter(|(_, status)| *status == 200).map(|(no, _)| *no).collect();
        assert_eq!(done.len(), 1, "{answers:?}");
        assert!(answers.iter().all(|(_, status)| [200, 400].contains(status)), "{answers:?}");
        let count = format!(
            "SELECT COUNT(*) FROM members WHERE organization_id = {} AND user_id = {}",
            quoted(&acme),
            quoted(&bob.id)
        );
        assert_eq!(server.database.integer(&count), i64::from(!done[0]));
    }
}
on_both_engines!(fifty_acceptances_of_one_invitation_make_one_member);

fn of_two_owners_who_leave_at_once_one_stays(engine: Engine) {
    let server = Server::start(engine);
    for round in 0..rounds() * 5 {
        let mut ada = Person::new(&server, &format!("ada-{round}"));
        let mut bob = Person::new(&server, &format!("bob-{round}"));
        let acme = ada.founds(&format!("acme-{round}"));
        let bobs = bring(&mut ada, &acme, &mut bob, "owner");
        let adas = ada.get("get-active-member").expect(200).json()["id"].clone();
        let answers = in_parallel(8, |number| {
            let own = if number % 2 == 0 { (&ada, &adas) } else { (&bob, &json!(bobs)) };
            let mut browser = own.0.browser.clone();
            let (path, body) = match number / 2 {
                0 => ("leave", json!({"organizationId": acme})),
                1 => ("remove-member", json!({"organizationId": acme, "memberIdOrEmail": own.1})),
                2 => (
                    "update-member-role",
                    json!({"organizationId": acme, "memberId": own.1, "role": "member"}),
                ),
                _ => ("leave", json!({"organizationId": acme})),
            };
            browser.post(&format!("/api/auth/organization/{path}"), body).status
        });
        assert!(answers.iter().all(|status| [200, 400, 401, 403].contains(status)), "{answers:?}");
        let owners = format!(
            "SELECT COUNT(*) FROM members WHERE organization_id = {} AND role = 'owner'",
            quoted(&acme)
        );
        assert_eq!(server.database.integer(&owners), 1, "{answers:?}");
    }
}
on_both_engines!(of_two_owners_who_leave_at_once_one_stays);

fn limits_of_members_invitations_and_teams_hold_when_many_come_at_once(engine: Engine) {
    let settings = "[organizations]\nmembers = 3\ninvitations = 5\nteams = 4\norganizations = 2\n";
    let server = Server::with(engine, settings);
    let mut ada = Person::new(&server, "ada");
    let acme = ada.founds("acme");
    let invited = in_parallel(20, |number| {
        let body =
            json!({"organizationId": acme, "email": format!("p{number}@example.com"), "role": "member"});
        let answer = ada.browser.clone().post("/api/auth/organization/invite-member", body);
        (answer.status, answer.json()["id"].as_str().map(str::to_owned), number)
    });
    assert_eq!(invited.iter().filter(|(status, ..)| *status == 200).count(), 5, "{invited:?}");
    assert_eq!(invited.iter().filter(|(status, ..)| *status == 403).count(), 15, "{invited:?}");
    let guests: Vec<(Person, String)> = invited
        .into_iter()
        .filter_map(|(_, id, number)| Some((Person::new(&server, &format!("p{number}")), id?)))
        .collect();
    let accepted = in_parallel(guests.len(), |number| {
        let (guest, invitation) = &guests[number];
        let body = json!({"invitationId": invitation});
        guest.browser.clone().post("/api/auth/organization/accept-invitation", body).status
    });
    assert_eq!(accepted.iter().filter(|status| **status == 200).count(), 2, "{accepted:?}");
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM members"), 3);
    let teams = in_parallel(10, |number| {
        let body = json!({"organizationId": acme, "name": format!("Team {number}")});
        ada.browser.clone().post("/api/auth/organization/create-team", body).status
    });
    assert_eq!(teams.iter().filter(|status| **status == 200).count(), 3, "{teams:?}");
    let made = in_parallel(10, |number| {
        let body = json!({"name": "More", "slug": format!("more-{number}")});
        ada.browser.clone().post("/api/auth/organization/create", body).status
    });
    assert_eq!(made.iter().filter(|status| **status == 200).count(), 1, "{made:?}");
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM organizations"), 2);
}
on_both_engines!(limits_of_members_invitations_and_teams_hold_when_many_come_at_once);

fn fifty_who_want_one_slug_make_one_organization(engine: Engine) {
    let server = Server::start(engine);
    let people: Vec<Person> = (0..5).map(|number| Person::new(&server, &format!("p{number}"))).collect();
    let made = in_parallel(CALLERS, |number| {
        let body = json!({"name": "Acme", "slug": "acme"});
        people[number % 5].browser.clone().post("/api/auth/organization/create", body).status
    });
    assert_eq!(made.iter().filter(|status| **status == 200).count(), 1, "{made:?}");
    assert!(made.iter().all(|status| [200, 400].contains(status)), "{made:?}");
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM organizations"), 1);
}
on_both_engines!(fifty_who_want_one_slug_make_one_organization);

fn whoever_is_deleted_while_joining_leaves_nothing_behind(engine: Engine) {
    let server = Server::with(engine, "[accounts]\ndelete_user = true\n");
    let mut ada = Person::new(&server, "ada");
    let acme = ada.founds("acme");
    for round in 0..rounds() * 5 {
        let bob = Person::new(&server, &format!("bob-{round}"));
        let invitation = ada.invites(&acme, &bob, "member");
        let answers = in_parallel(10, |number| {
            let mut browser = bob.browser.clone();
            match number % 3 {
                0 => browser.post("/api/auth/delete-user", json!({})).status,
                1 => {
                    let body = json!({"name": "Own", "slug": format!("own-{round}-{number}")});
                    browser.post("/api/auth/organization/create", body).status
                }
                _ => {
                    let body = json!({"invitationId": invitation});
                    browser.post("/api/auth/organization/accept-invitation", body).status
                }
            }
        });
        assert!(answers.iter().all(|status| [200, 400, 401].contains(status)), "{answers:?}");
        let gone = format!("SELECT COUNT(*) FROM users WHERE id = {}", quoted(&bob.id));
        assert_eq!(server.database.integer(&gone), 0);
    }
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM organizations"), 1);
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM members"), 1);
}
on_both_engines!(whoever_is_deleted_while_joining_leaves_nothing_behind);
