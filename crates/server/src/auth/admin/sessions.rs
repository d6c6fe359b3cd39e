//! A user's sessions, for administrators: list them, end them.

use super::{
    YOU_ARE_NOT_ALLOWED_TO_LIST_USERS_SESSIONS, YOU_ARE_NOT_ALLOWED_TO_REVOKE_USERS_SESSIONS, administrator,
    record,
};
use crate::auth::endpoint::{Access, Call, Endpoint, Outcome, Reply, SignedOut, Spec};
use crate::auth::fields::Fields;
use crate::auth::json::SessionBody;
use crate::settings::Switch;
use gate::departure::{Revocation, tell_revoked};
use identity::sessions;
use kernel::UserId;
use serde::Serialize;
use serde_json::json;

pub struct ListUserSessions;
pub struct RevokeUserSession;
pub struct RevokeUserSessions;

#[derive(Serialize)]
struct Found<'a> {
    sessions: Vec<SessionBody<'a>>,
}

impl Endpoint for ListUserSessions {
    type Input = UserId;
    const SPEC: Spec = Spec::post("/admin/list-user-sessions", Access::SignedIn, "A user's live sessions")
        .of(Switch::Admin)
        .signed_out(SignedOut::Bare);

    fn read(fields: &mut Fields) -> UserId {
        fields.need_object();
        UserId::from_text(fields.id("userId"))
    }

    async fn run(call: Call, user: UserId) -> Outcome {
        administrator(&call, YOU_ARE_NOT_ALLOWED_TO_LIST_USERS_SESSIONS)?;
        let (vault, now, id) = (call.app.vault.clone(), call.now, user.clone());
        let found = call.app.store.scan(move |tx| sessions::list_all_live(tx, &vault, &id, now)).await?;
        record(&call, "list-user-sessions", Some(&user));
        let sessions = found.iter().map(|(token, session)| SessionBody::new(session.view(), token)).collect();
        Ok(Reply::json(&Found { sessions }))
    }
}

impl Endpoint for RevokeUserSession {
    type Input = String;
    const SPEC: Spec =
        Spec::post("/admin/revoke-user-session", Access::SignedIn, "Ends a session by its token")
            .of(Switch::Admin)
            .signed_out(SignedOut::Bare);

    fn read(fields: &mut Fields) -> String {
        fields.need_object();
        fields.text("sessionToken")
    }

    async fn run(call: Call, token: String) -> Outcome {
        administrator(&call, YOU_ARE_NOT_ALLOWED_TO_REVOKE_USERS_SESSIONS)?;
        let (vault, now) = (call.app.vault.clone(), call.now);
        let revoked = call.app.store.write(move |tx| {
            let Some(live) = sessions::find(tx, &vault, &token)? else { return Ok(None) };
            let ended = sessions::revoke(tx, &vault, &live.user.id, &token)?;
            tell_revoked(tx, &live.user.id, ended.as_slice(), Revocation::Revoked, now)?;
            Ok::<_, store::Error>(Some(live.user.id))
        });
        let user = revoked.await?;
        record(&call, "revoke-user-session", user.as_ref());
        Ok(Reply::json(&json!({ "success": true })))
    }
}

impl Endpoint for RevokeUserSessions {
    type Input = UserId;
    const SPEC: Spec =
        Spec::post("/admin/revoke-user-sessions", Access::SignedIn, "Ends all sessions of a user")
            .of(Switch::Admin)
            .signed_out(SignedOut::Bare);

    fn read(fields: &mut Fields) -> UserId {
        fields.need_object();
        UserId::from_text(fields.id("userId"))
    }

    async fn run(call: Call, user: UserId) -> Outcome {
        administrator(&call, YOU_ARE_NOT_ALLOWED_TO_REVOKE_USERS_SESSIONS)?;
        let (now, id) = (call.now, user.clone());
        let revoked = call.app.store.write(move |tx| {
            identity::users::take_turn(tx, &id)?;
            let ended = sessions::revoke_all(tx, &id)?;
            tell_revoked(tx, &id, &ended, Revocation::Revoked, now)
        });
        revoked.await?;
        record(&call, "revoke-user-sessions", Some(&user));
        Ok(Reply::json(&json!({ "success": true })))
    }
}
