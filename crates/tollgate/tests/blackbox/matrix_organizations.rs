//! The rows of the authorization matrix on organizations and administration.
//!
//! Each person has an organization with a colleague in it, and an invitation to another one. Their ids are made of the
//! person's, so that a row can name them.

use serde_json::{Value, json};

use crate::harness::database::quoted;
use crate::harness::{Request, Server};
use crate::matrix::{Row, Things, members, row};

/// Those whose own thing is named get `own`; whoever names somebody else's gets `foreign`.
const fn owners(own: u16, foreign: u16) -> [u16; 11] {
    [401, own, own, 401, 401, 401, foreign, 401, 401, own, 401]
}

fn post(path: &str, body: Value) -> Request {
    Request::post(&format!("/api/auth/organization/{path}"), &body)
}

fn get(path: &str) -> Request {
    Request::get(&format!("/api/auth/organization/{path}"))
}

fn admin(path: &str, body: Value) -> Request {
    Request::post(&format!("/api/auth/admin/{path}"), &body)
}

fn id(kind: &str, things: &Things) -> String {
    format!("{kind}-{}", things.user_id)
}

/// Makes what the rows name, once.
pub fn furnish(server: &Server, user: &str, email: &str, colleague: &str) {
    let insert = |table: &str, columns: &str, values: &str| {
        let values = values.replace('#', user);
        server
            .database
            .execute(&format!("INSERT INTO {table} ({columns}) VALUES ({values}) ON CONFLICT DO NOTHING"));
    };
    let colleague = quoted(colleague);
    for kind in ["org", "else"] {
        insert(
            "organizations",
            "id, name, slug, created_at",
            &format!("'{kind}-#', 'An organization', '{kind}-#', 1"),
        );
    }
    let columns = "id, organization_id, user_id, role, created_at";
    insert("members", columns, "'owner-#', 'org-#', '#', 'owner', 1");
    insert("members", columns, &format!("'colleague-#', 'org-#', {colleague}, 'member', 2"));
    insert("members", columns, &format!("'host-#', 'else-#', {colleague}, 'owner', 1"));
    let columns = "id, organization_id, name, created_at";
    for kind in ["team", "spare"] {
        insert("teams", columns, &format!("'{kind}-#', 'org-#', 'A team', 1"));
    }
    let columns = "id, team_id, user_id, created_at";
    insert("team_members", columns, "'in-team-#', 'team-#', '#', 1");
    insert("team_members", columns, &format!("'colleague-in-team-#', 'team-#', {colleague}, 1"));
    let columns = "id, organization_id, email, role, status, inviter_id, expires_at, created_at";
    let email = quoted(email);
    let end = 4_000_000_000_000_i64;
    insert(
        "invitations",
        columns,
        &format!("'to-#', 'else-#', {email}, 'member', 'pending', {colleague}, {end}, 1"),
    );
    insert(
        "invitations",
        columns,
        &format!("'from-#', 'org-#', 'nobody@example.com', 'member', 'pending', '#', {end}, 1"),
    );
    server.database.execute(&format!(
        "UPDATE sessions SET active_organization_id = 'org-{user}' WHERE user_id = {} \
         AND active_organization_id IS NULL",
        quoted(user)
    ));
}

/// The rows that belong to a person's organization.
pub fn belongings(server: &Server, user: &str) -> String {
    let rows = |sql: &str| format!("{:?}\n", server.database.rows(&sql.replace('#', user)));
    [
        "SELECT * FROM organizations WHERE id IN ('org-#', 'else-#') ORDER BY id",
        "SELECT * FROM members WHERE organization_id IN ('org-#', 'else-#') ORDER BY id",
        "SELECT * FROM invitations WHERE organization_id IN ('org-#', 'else-#') ORDER BY id",
        "SELECT * FROM teams WHERE organization_id = 'org-#' ORDER BY id",
        "SELECT * FROM team_members WHERE team_id IN ('team-#', 'spare-#') ORDER BY id",
    ]
    .map(rows)
    .concat()
}

pub const ROWS: &[Row] = &[
    row("POST", "/api/auth/organization/create", members(200), |things| {
        post("create", json!({"name": "New", "slug": format!("new-{}", things.number)}))
    }),
    row("POST", "/api/auth/organization/check-slug", members(200), |_| {
        post("check-slug", json!({"slug": "nobody-has-it"}))
    }),
    row("POST", "/api/auth/organization/update", owners(200, 400), |things| {
        post("update", json!({"organizationId": id("org", things), "data": {"name": "Renamed"}}))
    }),
    row("POST", "/api/auth/organization/delete", owners(200, 400), |things| {
        post("delete", json!({"organizationId": id("org", things)}))
    }),
    row("GET", "/api/auth/organization/list", members(200), |_| get("list")),
    row("POST", "/api/auth/organization/has-permission", owners(200, 401), |things| {
        post(
            "has-permission",
            json!({"organizationId": id("org", things), "permissions": {"team": ["create"]}}),
        )
    }),
    row("POST", "/api/auth/organization/set-active", owners(200, 403), |things| {
        post("set-active", json!({"organizationId": id("org", things)}))
    }),
    row("POST", "/api/auth/organization/set-active-team", owners(200, 400), |things| {
        post("set-active-team", json!({"teamId": id("team", things)}))
    }),
    row("GET", "/api/auth/organization/get-organization", owners(200, 403), |things| {
        get(&format!("get-organization?organizationId={}", id("org", things)))
    }),
    row("GET", "/api/auth/organization/get-full-organization", owners(200, 403), |things| {
        get(&format!("get-full-organization?organizationId={}", id("org", things)))
    }),
    row("POST", "/api/auth/organization/invite-member", owners(200, 400), |things| {
        let email = format!("invited-{}@example.com", things.number);
        post("invite-member", json!({"organizationId": id("org", things), "email": email, "role": "member"}))
    }),
    row("POST", "/api/auth/organization/accept-invitation", owners(200, 403), |things| {
        post("accept-invitation", json!({"invitationId": id("to", things)}))
    }),
    row("POST", "/api/auth/organization/reject-invitation", owners(200, 403), |things| {
        post("reject-invitation", json!({"invitationId": id("to", things)}))
    }),
    row("POST", "/api/auth/organization/cancel-invitation", owners(200, 400), |things| {
        post("cancel-invitation", json!({"invitationId": id("from", things)}))
    }),
    row("GET", "/api/auth/organization/get-invitation", owners(200, 403), |things| {
        get(&format!("get-invitation?id={}", id("to", things)))
    }),
    row("GET", "/api/auth/organization/list-invitations", owners(200, 403), |things| {
        get(&format!("list-invitations?organizationId={}", id("org", things)))
    }),
    // Nobody here has proven an address.
    row(
        "GET",
        "/api/auth/organization/list-user-invitations",
        [400, 403, 403, 400, 400, 400, 403, 400, 400, 403, 400],
        |_| get("list-user-invitations"),
    ),
    row("GET", "/api/auth/organization/list-members", owners(200, 403), |things| {
        get(&format!("list-members?organizationId={}", id("org", things)))
    }),
    row("GET", "/api/auth/organization/get-active-member", owners(200, 400), |_| get("get-active-member")),
    row("GET", "/api/auth/organization/get-active-member-role", owners(200, 403), |things| {
        get(&format!("get-active-member-role?organizationId={}&userId={}", id("org", things), things.user_id))
    }),
    row("POST", "/api/auth/organization/update-member-role", owners(200, 400), |things| {
        post(
            "update-member-role",
            json!({"organizationId": id("org", things), "memberId": id("colleague", things), "role": "admin"}),
        )
    }),
    row("POST", "/api/auth/organization/remove-member", owners(200, 400), |things| {
        post(
            "remove-member",
            json!({"organizationId": id("org", things), "memberIdOrEmail": id("colleague", things)}),
        )
    }),
    // The only owner stays, and whoever does not belong cannot leave.
    row("POST", "/api/auth/organization/leave", owners(400, 400), |things| {
        post("leave", json!({"organizationId": id("org", things)}))
    }),
    row("POST", "/api/auth/organization/create-team", owners(200, 403), |things| {
        post("create-team", json!({"organizationId": id("org", things), "name": "Blue"}))
    }),
    row("POST", "/api/auth/organization/update-team", owners(200, 403), |things| {
        let data = json!({"name": "Green", "organizationId": id("org", things)});
        post("update-team", json!({"teamId": id("team", things), "data": data}))
    }),
    row("POST", "/api/auth/organization/remove-team", owners(200, 403), |things| {
        post("remove-team", json!({"teamId": id("spare", things), "organizationId": id("org", things)}))
    }),
    row("GET", "/api/auth/organization/list-teams", owners(200, 403), |things| {
        get(&format!("list-teams?organizationId={}", id("org", things)))
    }),
    row("GET", "/api/auth/organization/list-user-teams", owners(200, 403), |things| {
        get(&format!("list-user-teams?organizationId={}&userId={}", id("org", things), things.user_id))
    }),
    row("GET", "/api/auth/organization/list-team-members", owners(200, 400), |things| {
        get(&format!("list-team-members?teamId={}", id("team", things)))
    }),
    row("POST", "/api/auth/organization/add-team-member", owners(200, 400), |things| {
        let body = json!({
            "teamId": id("spare", things), "userId": things.user_id, "organizationId": id("org", things),
        });
        post("add-team-member", body)
    }),
    row("POST", "/api/auth/organization/remove-team-member", owners(200, 400), |things| {
        let body = json!({
            "teamId": id("team", things), "userId": things.user_id, "organizationId": id("org", things),
        });
        post("remove-team-member", body)
    }),
    // Nobody in the table is an administrator; those have a test of their own.
    row("GET", "/api/auth/admin/list-users", members(403), |_| Request::get("/api/auth/admin/list-users")),
    row("GET", "/api/auth/admin/get-user", members(403), |things| {
        Request::get(&format!("/api/auth/admin/get-user?id={}", things.user_id))
    }),
    row("POST", "/api/auth/admin/create-user", members(403), |things| {
        let email = format!("made-{}@example.com", things.number);
        admin("create-user", json!({"email": email, "name": "Made", "role": "admin"}))
    }),
    row("POST", "/api/auth/admin/update-user", members(403), |things| {
        admin("update-user", json!({"userId": things.user_id, "data": {"role": "admin"}}))
    }),
    row("POST", "/api/auth/admin/set-role", members(403), |things| {
        admin("set-role", json!({"userId": things.user_id, "role": "admin"}))
    }),
    row("POST", "/api/auth/admin/set-user-password", members(403), |things| {
        admin("set-user-password", json!({"userId": things.user_id, "newPassword": "another horse battery"}))
    }),
    row("POST", "/api/auth/admin/remove-user", members(403), |things| {
        admin("remove-user", json!({"userId": things.user_id}))
    }),
    row("POST", "/api/auth/admin/has-permission", members(200), |_| {
        admin("has-permission", json!({"permissions": {"user": ["ban"]}}))
    }),
    row("POST", "/api/auth/admin/list-user-sessions", members(403), |things| {
        admin("list-user-sessions", json!({"userId": things.user_id}))
    }),
    row("POST", "/api/auth/admin/revoke-user-session", members(403), |things| {
        admin("revoke-user-session", json!({"sessionToken": things.session_token}))
    }),
    row("POST", "/api/auth/admin/revoke-user-sessions", members(403), |things| {
        admin("revoke-user-sessions", json!({"userId": things.user_id}))
    }),
    row("POST", "/api/auth/admin/ban-user", members(403), |things| {
        admin("ban-user", json!({"userId": things.user_id}))
    }),
    row("POST", "/api/auth/admin/unban-user", members(403), |things| {
        admin("unban-user", json!({"userId": things.user_id}))
    }),
    row("POST", "/api/auth/admin/impersonate-user", members(403), |things| {
        admin("impersonate-user", json!({"userId": things.user_id}))
    }),
    // Nobody here is in anybody's place.
    row("POST", "/api/auth/admin/stop-impersonating", members(400), |_| {
        admin("stop-impersonating", json!({}))
    }),
];

/// Routes that take an id of the kinds above; tests of organizations, of what they buy
/// and of administration show whose they reach.
pub const NAMES_A_THING: &[&str] = &[
    "/api/auth/admin/ban-user",
    "/api/auth/admin/get-user",
    "/api/auth/admin/impersonate-user",
    "/api/auth/admin/list-user-sessions",
    "/api/auth/admin/remove-user",
    "/api/auth/admin/revoke-user-session",
    "/api/auth/admin/revoke-user-sessions",
    "/api/auth/admin/set-role",
    "/api/auth/admin/set-user-password",
    "/api/auth/admin/unban-user",
    "/api/auth/admin/update-user",
    "/api/auth/api-key/list",
    "/api/auth/billing/auto-topup",
    "/api/auth/billing/checkout",
    "/api/auth/billing/checkout-status",
    "/api/auth/billing/invoices",
    "/api/auth/billing/portal",
    "/api/auth/billing/subscription",
    "/api/auth/billing/subscription/cancel",
    "/api/auth/billing/subscription/change",
    "/api/auth/billing/subscription/resume",
    "/api/auth/organization/accept-invitation",
    "/api/auth/organization/add-team-member",
    "/api/auth/organization/cancel-invitation",
    "/api/auth/organization/create-team",
    "/api/auth/organization/delete",
    "/api/auth/organization/get-active-member-role",
    "/api/auth/organization/get-full-organization",
    "/api/auth/organization/get-invitation",
    "/api/auth/organization/get-organization",
    "/api/auth/organization/has-permission",
    "/api/auth/organization/invite-member",
    "/api/auth/organization/leave",
    "/api/auth/organization/list-invitations",
    "/api/auth/organization/list-members",
    "/api/auth/organization/list-team-members",
    "/api/auth/organization/list-teams",
    "/api/auth/organization/list-user-teams",
    "/api/auth/organization/reject-invitation",
    "/api/auth/organization/remove-member",
    "/api/auth/organization/remove-team",
    "/api/auth/organization/remove-team-member",
    "/api/auth/organization/set-active",
    "/api/auth/organization/set-active-team",
    "/api/auth/organization/update",
    "/api/auth/organization/update-member-role",
    "/api/auth/organization/update-team",
];

/// Names of ids that these routes take.
pub fn is_id(name: &str) -> bool {
    name.starts_with("memberid") || ["organizationid", "teamid", "invitationid"].contains(&name)
}
