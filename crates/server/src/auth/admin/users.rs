//! Users, for administrators: make, change, remove them; their roles and passwords.

use super::bans::yourself as cannot_ban_yourself;
use super::{
    OneUser, YOU_ARE_NOT_ALLOWED_TO_CHANGE_USERS_ROLE, YOU_ARE_NOT_ALLOWED_TO_CREATE_USERS,
    YOU_ARE_NOT_ALLOWED_TO_DELETE_USERS, YOU_ARE_NOT_ALLOWED_TO_SET_USERS_PASSWORD,
    YOU_ARE_NOT_ALLOWED_TO_UPDATE_USERS, administrator, bad, record, told,
};
use crate::app::App;
use crate::auth::endpoint::{Access, Call, Endpoint, Outcome, Reply, SignedOut, Spec};
use crate::auth::error::{Code, Failure};
use crate::auth::fields::Fields;
use crate::auth::json::UserBody;
use crate::auth::password;
use crate::auth::username::{self, Names};
use crate::settings::Switch;
use gate::arrival::{tell_created, welcome};
use gate::departure::{Revocation, delete_user, tell_revoked};
use http::StatusCode;
use identity::admin::{self, Changed, Changes, Refusal};
use identity::users::{self, NewUser};
use identity::{EmailAddress, User, accounts};
use kernel::{Millis, Secret, UserId, random};
use serde_json::{Map, Value, json};
use store::Tx;

pub struct CreateUser;
pub struct UpdateUser;
pub struct SetRole;
pub struct SetUserPassword;
pub struct RemoveUser;
pub struct HasPermission;

/// Fields of users that nobody sets, be it an administrator.
const NOBODY_SETS: [&str; 4] = ["createdAt", "updatedAt", "twoFactorEnabled", "isAnonymous"];

/// A role as it is stored: names separated by commas.
fn role_of(value: &Value) -> Result<String, Failure> {
    let invalid = || bad("INVALID_ROLE_TYPE", "Invalid role type");
    let names = match value {
        Value::String(name) => vec![name.as_str()],
        Value::Array(names) => {
            names.iter().map(Value::as_str).collect::<Option<Vec<_>>>().ok_or_else(invalid)?
        }
        _ => return Err(invalid()),
    };
    storable("role", &names.join(","))
}

fn storable(name: &str, text: &str) -> Result<String, Failure> {
    if text.contains('\0') {
        let what = format!("[body.{name}] Invalid input: a null character cannot be stored");
        return Err(Failure::Validation(what));
    }
    Ok(text.to_owned())
}

/// What was sent about a user, by the names of its fields. Those that users do not have are ignored.
struct Sent<'a>(&'a Map<String, Value>);

impl Sent<'_> {
    fn wrong(name: &str, wanted: &str) -> Failure {
        Failure::Validation(format!("[body.data.{name}] Invalid input: expected {wanted}"))
    }

    fn text(&self, name: &str) -> Result<Option<String>, Failure> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => storable(&format!("data.{name}"), text).map(Some),
            Some(_) => Err(Sent::wrong(name, "string")),
        }
    }

    /// Where null is another thing to say.
    fn nullable(&self, name: &str) -> Result<Option<Option<String>>, Failure> {
        match self.0.get(name) {
            Some(Value::Null) => Ok(Some(None)),
            _ => Ok(self.text(name)?.map(Some)),
        }
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, Failure> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(Sent::wrong(name, "boolean")),
        }
    }

    fn time(&self, name: &str) -> Result<Option<Option<Millis>>, Failure> {
        match self.nullable(name)? {
            None => Ok(None),
            Some(None) => Ok(Some(None)),
            Some(Some(text)) => match Millis::parse_iso(&text) {
                Some(at) => Ok(Some(Some(at))),
                None => Err(Sent::wrong(name, "a time such as 2026-11-21T08:00:00.000Z")),
            },
        }
    }

    fn changes(&self) -> Result<Changes, Failure> {
        if let Some(name) = NOBODY_SETS.iter().find(|name| self.0.contains_key(**name)) {
            return Err(Failure::FieldNotAllowed(name));
        }
        let email = match self.0.get("email") {
            None => None,
            Some(value) => {
                let text = value.as_str().unwrap_or_default();
                Some(EmailAddress::parse(text).ok_or(Code::InvalidEmail)?)
            }
        };
        Ok(Changes {
            name: self.text("name")?,
            image: self.nullable("image")?,
            email,
            email_verified: self.flag("emailVerified")?,
            role: self.0.get("role").map(role_of).transpose()?,
            banned: self.flag("banned")?,
            ban_reason: self.nullable("banReason")?,
            ban_expires: self.time("banExpires")?,
        })
    }

    fn names(&self, app: &App) -> Result<Names, Failure> {
        username::named(app, self.text("username")?.as_deref(), self.text("displayUsername")?)
    }
}

pub struct NewInput {
    email: String,
    password: Option<Secret<String>>,
    name: String,
    role: Option<Vec<String>>,
    data: Value,
}

impl Endpoint for CreateUser {
    type Input = NewInput;
    const SPEC: Spec = Spec::post("/admin/create-user", Access::SignedIn, "Makes a user")
        .of(Switch::Admin)
        .signed_out(SignedOut::Bare);

    fn read(fields: &mut Fields) -> NewInput {
        fields.need_object();
        fields.storable(&["name"]);
        NewInput {
            email: fields.text("email"),
            password: fields.maybe_text("password").filter(|text| !text.is_empty()).map(Secret::new),
            name: fields.text("name"),
            role: fields.maybe_texts("role"),
            data: fields.maybe_record("data").unwrap_or_else(|| json!({})),
        }
    }

    async fn run(call: Call, input: NewInput) -> Outcome {
        administrator(&call, YOU_ARE_NOT_ALLOWED_TO_CREATE_USERS)?;
        let empty = Map::new();
        let sent = Sent(input.data.as_object().unwrap_or(&empty));
        // The address and the name stand beside the other fields, and so does the role where it is named.
        let changes = Changes { email: None, name: None, ..sent.changes()? };
        let role = match &input.role {
            Some(names) => Some(storable("role", &names.join(","))?),
            None => changes.role.clone(),
        };
        let email = EmailAddress::parse(&input.email).ok_or(Code::InvalidEmail)?;
        let names = sent.names(&call.app)?;
        let hash = match input.password {
            None => None,
            Some(password) => {
                password::judge(&call.app.settings.email_password, password.expose())?;
                Some(call.app.hasher.hash(password).await?)
            }
        };
        let new = NewUser {
            name: input.name,
            email,
            email_verified: changes.email_verified.unwrap_or(false),
            image: changes.image.clone().flatten(),
            role: role.unwrap_or_else(|| "user".into()),
        };
        let (app, now) = (call.app.clone(), call.now);
        let made = call.app.store.write(move |tx| {
            let settled = Changes { role: None, image: None, email_verified: None, ..changes.clone() };
            make(tx, &app, &new, hash.as_deref(), &names, &settled, now)
        });
        let user = made.await.map_err(told)?;
        record(&call, "create-user", Some(&user.id));
        Ok(Reply::json(&OneUser::new(&user)))
    }
}

fn make(
    tx: &mut Tx<'_>,
    app: &App,
    new: &NewUser,
    hash: Option<&str>,
    names: &Names,
    changes: &Changes,
    now: Millis,
) -> Result<User, Refusal> {
    let rng = &mut random::secure();
    if !names.take(tx, None)? {
        return Err(Refusal::UsernameTaken);
    }
    let user = users::create(tx, new, now, rng)?.ok_or(Refusal::AddressTaken)?;
    if let Some(hash) = hash {
        accounts::set_password(tx, &user.id, hash, now, rng)?;
    }
    names.write(tx, &user.id, now)?;
    let user = admin::change(tx, &user.id, changes, now)?.user;
    tell_created(tx, &user, now)?;
    // As at the sign-up: where addresses have to be proven, the grant waits for the proof.
    if user.email_verified || !app.settings.email_password.require_verification {
        welcome(tx, app.ledger.settings(), &app.vault, &user.id, &user.email, now)?;
    }
    Ok(user)
}

impl Endpoint for UpdateUser {
    type Input = (UserId, Value);
    const SPEC: Spec = Spec::post("/admin/update-user", Access::SignedIn, "Changes a user's fields")
        .of(Switch::Admin)
        .signed_out(SignedOut::Bare);

    fn read(fields: &mut Fields) -> (UserId, Value) {
        fields.need_object();
        (UserId::from_text(fields.id("userId")), fields.record("data"))
    }

    async fn run(call: Call, (id, data): (UserId, Value)) -> Outcome {
        let own = &administrator(&call, YOU_ARE_NOT_ALLOWED_TO_UPDATE_USERS)?.user.id;
        let empty = Map::new();
        let data = data.as_object().unwrap_or(&empty);
        if data.is_empty() {
            return Err(bad("NO_DATA_TO_UPDATE", "No data to update"));
        }
        if data.contains_key("password") {
            return Err(bad(
                "PASSWORD_CANNOT_BE_UPDATED_VIA_UPDATE_USER",
                "Password cannot be updated through update-user. Use the set-user-password endpoint instead",
            ));
        }
        if data.contains_key("id") {
            return Err(bad("USER_ID_CANNOT_BE_UPDATED", "User id cannot be updated"));
        }
        let sent = Sent(data);
        let (changes, names) = (sent.changes()?, sent.names(&call.app)?);
        if changes.banned == Some(true) && id == *own {
            return Err(cannot_ban_yourself());
        }
        let now = call.now;
        let changed = call.app.store.write(move |tx| {
            users::take_turn(tx, &id)?;
            if !names.take(tx, Some(&id))? {
                return Err(Refusal::UsernameTaken);
            }
            names.write(tx, &id, now)?;
            let changed = admin::change(tx, &id, &changes, now)?;
            tell_revoked(tx, &id, &changed.ended, Revocation::Banned, now)?;
            Ok::<Changed, Refusal>(changed)
        });
        let user = changed.await.map_err(told)?.user;
        record(&call, "update-user", Some(&user.id));
        Ok(Reply::json(&UserBody::from(&user)))
    }
}

impl Endpoint for SetRole {
    type Input = (UserId, Vec<String>);
    const SPEC: Spec = Spec::post("/admin/set-role", Access::SignedIn, "Gives a user another role")
        .of(Switch::Admin)
        .signed_out(SignedOut::Bare);

    fn read(fields: &mut Fields) -> (UserId, Vec<String>) {
        fields.need_object();
        (UserId::from_text(fields.id("userId")), fields.texts("role"))
    }

    async fn run(call: Call, (id, names): (UserId, Vec<String>)) -> Outcome {
        administrator(&call, YOU_ARE_NOT_ALLOWED_TO_CHANGE_USERS_ROLE)?;
        let (role, now) = (storable("role", &names.join(","))?, call.now);
        let changed = call.app.store.write(move |tx| {
            admin::in_turn(tx, &id)?;
            admin::set_role(tx, &id, &role, now)?;
            users::by_id(tx, &id)?.ok_or(Refusal::NoUser)
        });
        let user = changed.await.map_err(told)?;
        record(&call, "set-role", Some(&user.id));
        Ok(Reply::json(&OneUser::new(&user)))
    }
}

impl Endpoint for SetUserPassword {
    type Input = (UserId, Secret<String>);
    const SPEC: Spec = Spec::post("/admin/set-user-password", Access::SignedIn, "Sets a user's password")
        .of(Switch::Admin)
        .signed_out(SignedOut::Bare);

    fn read(fields: &mut Fields) -> (UserId, Secret<String>) {
        fields.need_object();
        let password = Secret::new(fields.some_text("newPassword"));
        (UserId::from_text(fields.id("userId")), password)
    }

    async fn run(call: Call, (id, password): (UserId, Secret<String>)) -> Outcome {
        administrator(&call, YOU_ARE_NOT_ALLOWED_TO_SET_USERS_PASSWORD)?;
        password::judge(&call.app.settings.email_password, password.expose())?;
        let hash = call.app.hasher.hash(password).await?;
        let (app, now, user) = (call.app.clone(), call.now, id.clone());
        let set = call
            .app
            .store
            .write(move |tx| admin::set_password(tx, &app.vault, &id, &hash, now, &mut random::secure()));
        set.await.map_err(told)?;
        record(&call, "set-user-password", Some(&user));
        Ok(Reply::json(&json!({ "status": true })))
    }
}

impl Endpoint for RemoveUser {
    type Input = UserId;
    const SPEC: Spec =
        Spec::post("/admin/remove-user", Access::SignedIn, "Deletes a user with sessions and accounts")
            .of(Switch::Admin)
            .signed_out(SignedOut::Bare);

    fn read(fields: &mut Fields) -> UserId {
        fields.need_object();
        UserId::from_text(fields.id("userId"))
    }

    async fn run(call: Call, id: UserId) -> Outcome {
        if administrator(&call, YOU_ARE_NOT_ALLOWED_TO_DELETE_USERS)?.user.id == id {
            return Err(told(Refusal::Yourself));
        }
        let (app, now, user) = (call.app.clone(), call.now, id.clone());
        let removed = call.app.store.write(move |tx| {
            if !delete_user(tx, app.ledger.settings(), &id, now)? {
                return Err(Refusal::NoUser);
            }
            Ok(())
        });
        removed.await.map_err(told)?;
        record(&call, "remove-user", Some(&user));
        Ok(Reply::json(&json!({ "success": true })))
    }
}

impl Endpoint for HasPermission {
    type Input = Option<Vec<(String, Vec<String>)>>;
    const SPEC: Spec =
        Spec::post("/admin/has-permission", Access::SignedIn, "Tells whether one's role allows something")
            .of(Switch::Admin)
            .signed_out(SignedOut::Bare);

    fn read(fields: &mut Fields) -> Self::Input {
        fields.need_object();
        fields.permissions()
    }

    /// About the caller, whomever else the body names.
    async fn run(call: Call, asked: Self::Input) -> Outcome {
        let passed = "invalid permission check. no permission(s) were passed.";
        let asked = asked.ok_or(Failure::Message(StatusCode::BAD_REQUEST, passed))?;
        let live = call.signed_in()?;
        let asked: Vec<(&str, Vec<&str>)> = asked
            .iter()
            .map(|(name, actions)| (name.as_str(), actions.iter().map(String::as_str).collect()))
            .collect();
        let role = live.user.role.as_deref().filter(|_| live.session.impersonated_by.is_none());
        let success = admin::allows_all(role, &asked);
        Ok(Reply::json(&json!({ "error": null, "success": success })))
    }
}
