//! `/admin/ban-user`, `/admin/unban-user`.

use super::{OneUser, USER_NOT_FOUND, YOU_ARE_NOT_ALLOWED_TO_BAN_USERS, administrator, bad, record, told};
use crate::auth::endpoint::{Access, Call, Endpoint, Outcome, Reply, SignedOut, Spec};
use crate::auth::error::Failure;
use crate::auth::fields::Fields;
use crate::settings::Switch;
use gate::departure::{Revocation, tell_revoked};
use identity::admin::{self, NO_REASON, Refusal};
use identity::users;
use kernel::UserId;
use kernel::time::DAY;

pub struct BanUser;
pub struct UnbanUser;

/// A ban that ends later than that is one for ever.
const LONGEST_SECONDS: f64 = (100 * 365 * DAY / 1_000) as f64;

pub struct Ban {
    user: UserId,
    reason: Option<String>,
    seconds: Option<f64>,
}

pub(super) fn yourself() -> Failure {
    bad("YOU_CANNOT_BAN_YOURSELF", "You cannot ban yourself")
}

impl Endpoint for BanUser {
    type Input = Ban;
    const SPEC: Spec =
        Spec::post("/admin/ban-user", Access::SignedIn, "Bans a user and ends all of the user's sessions")
            .of(Switch::Admin)
            .signed_out(SignedOut::Bare);

    fn read(fields: &mut Fields) -> Ban {
        fields.need_object();
        fields.storable(&["banReason"]);
        Ban {
            user: UserId::from_text(fields.id("userId")),
            reason: fields.maybe_text("banReason").filter(|reason| !reason.is_empty()),
            seconds: fields.maybe_number("banExpiresIn", None).filter(|seconds| *seconds != 0.0),
        }
    }

    async fn run(call: Call, input: Ban) -> Outcome {
        let own = administrator(&call, YOU_ARE_NOT_ALLOWED_TO_BAN_USERS)?.user.id.clone();
        let (id, now) = (input.user.clone(), call.now);
        let until = input
            .seconds
            .filter(|seconds| *seconds < LONGEST_SECONDS)
            // Cut off where an end lies too long ago to be written.
            .map(|seconds| now.plus((seconds.max(-LONGEST_SECONDS) * 1_000.0) as i64));
        let banned = call.app.store.write(move |tx| {
            admin::in_turn(tx, &id)?;
            if id == own {
                return Ok(None);
            }
            let reason = input.reason.as_deref().unwrap_or(NO_REASON);
            let ended = users::ban(tx, &id, reason, until, now)?.ok_or(Refusal::NoUser)?;
            tell_revoked(tx, &id, &ended, Revocation::Banned, now)?;
            users::by_id(tx, &id)?.map(Some).ok_or(Refusal::NoUser)
        });
        let user = banned.await.map_err(told)?.ok_or_else(yourself)?;
        record(&call, "ban-user", Some(&user.id));
        Ok(Reply::json(&OneUser::new(&user)))
    }
}

impl Endpoint for UnbanUser {
    type Input = UserId;
    const SPEC: Spec = Spec::post("/admin/unban-user", Access::SignedIn, "Lifts a ban")
        .of(Switch::Admin)
        .signed_out(SignedOut::Bare);

    fn read(fields: &mut Fields) -> UserId {
        fields.need_object();
        UserId::from_text(fields.id("userId"))
    }

    async fn run(call: Call, id: UserId) -> Outcome {
        administrator(&call, YOU_ARE_NOT_ALLOWED_TO_BAN_USERS)?;
        let now = call.now;
        let found = call.app.store.write(move |tx| {
            users::take_turn(tx, &id)?;
            users::unban(tx, &id, now)?;
            users::by_id(tx, &id)
        });
        let user = found.await?.ok_or(USER_NOT_FOUND)?;
        record(&call, "unban-user", Some(&user.id));
        Ok(Reply::json(&OneUser::new(&user)))
    }
}
