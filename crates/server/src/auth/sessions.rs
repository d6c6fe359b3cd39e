//! A user's sessions on all devices: list, revoke.

use super::endpoint::{Access, Call, Endpoint, Outcome, Reply, Spec};
use super::error::Failure;
use super::fields::Fields;
use super::json::SessionBody;
use gate::departure::{Revocation, tell_revoked};
use http::StatusCode;
use identity::sessions;
use serde_json::json;
use store::Tx;

pub struct ListSessions;
pub struct RevokeSession;
pub struct RevokeSessions;
pub struct RevokeOtherSessions;
pub struct UpdateSession;

fn done() -> Reply {
    Reply::json(&json!({ "status": true }))
}

impl Endpoint for ListSessions {
    type Input = ();
    const SPEC: Spec = Spec::get("/list-sessions", Access::Fresh, "The user's live sessions");

    fn read(_: &mut Fields) {}

    async fn run(call: Call, (): ()) -> Outcome {
        let live = call.signed_in()?;
        let (vault, user, now) = (call.app.vault.clone(), live.user.id.clone(), call.now);
        let found = call.app.store.scan(move |tx| sessions::list_live(tx, &vault, &user, now)).await?;
        let list: Vec<SessionBody<'_>> =
            found.iter().map(|(token, session)| SessionBody::new(session.view(), token)).collect();
        Ok(Reply::json(&list))
    }
}

impl Endpoint for RevokeSession {
    type Input = String;
    const SPEC: Spec =
        Spec::post("/revoke-session", Access::SignedIn, "Ends one of the user's sessions by its token");

    fn read(fields: &mut Fields) -> String {
        fields.need_object();
        fields.text("token")
    }

    /// The answer is the same for an unknown token and for somebody else's: nothing is told, and nothing happens.
    async fn run(call: Call, token: String) -> Outcome {
        let live = call.signed_in()?;
        let own = kernel::secret::same_secret(token.as_bytes(), live.token.as_bytes());
        let (vault, user, now) = (call.app.vault.clone(), live.user.id.clone(), call.now);
        let revoke = move |tx: &mut Tx<'_>| {
            let ended = sessions::revoke(tx, &vault, &user, &token)?;
            tell_revoked(tx, &user, ended.as_slice(), Revocation::Revoked, now)
        };
        call.app.store.write::<_, store::Error, _>(revoke).await?;
        Ok(if own { done().end_session(&call) } else { done() })
    }
}

impl Endpoint for RevokeSessions {
    type Input = ();
    const SPEC: Spec = Spec::post("/revoke-sessions", Access::SignedIn, "Ends all of the user's sessions");

    fn read(_: &mut Fields) {}

    async fn run(call: Call, (): ()) -> Outcome {
        let (user, now) = (call.signed_in()?.user.id.clone(), call.now);
        let revoke = move |tx: &mut Tx<'_>| {
            let ended = sessions::revoke_all(tx, &user)?;
            tell_revoked(tx, &user, &ended, Revocation::Revoked, now)
        };
        call.app.store.write::<_, store::Error, _>(revoke).await?;
        Ok(done().end_session(&call))
    }
}

impl Endpoint for RevokeOtherSessions {
    type Input = ();
    const SPEC: Spec =
        Spec::post("/revoke-other-sessions", Access::SignedIn, "Ends the user's sessions but this one");

    fn read(_: &mut Fields) {}

    async fn run(call: Call, (): ()) -> Outcome {
        let live = call.signed_in()?;
        let (user, keep, now) = (live.user.id.clone(), live.session.id.clone(), call.now);
        let revoke = move |tx: &mut Tx<'_>| {
            let ended = sessions::revoke_others(tx, &user, &keep)?;
            tell_revoked(tx, &user, &ended, Revocation::Revoked, now)
        };
        call.app.store.write::<_, store::Error, _>(revoke).await?;
        Ok(done())
    }
}

impl Endpoint for UpdateSession {
    type Input = ();
    const SPEC: Spec = Spec::post(
        "/update-session",
        Access::SignedIn,
        "Changes the session's own fields; none can be configured yet",
    );

    fn read(fields: &mut Fields) {
        fields.need_record();
        fields.refuse(&["impersonatedBy", "activeOrganizationId", "activeTeamId"]);
    }

    /// No deployment has fields of its own in a session, so whatever is sent leaves nothing to update.
    async fn run(_: Call, (): ()) -> Outcome {
        Err(Failure::Message(StatusCode::BAD_REQUEST, "No fields to update"))
    }
}
