//! Usernames: signing in with one, asking whether one is free, and reading them where users are made and changed.

use super::endpoint::{Access, Call, Endpoint, Outcome, Reply, Spec};
use super::error::{Code, Failure};
use super::fields::Fields;
use super::sign_in::{self, Name};
use crate::app::App;
use crate::settings::Switch;
use http::StatusCode;
use identity::usernames::{self, Fault, Username};
use identity::{User, users};
use kernel::{Millis, Secret, UserId};
use serde_json::{Value, json};
use store::Tx;

pub struct SignInUsername;
pub struct IsUsernameAvailable;

/// What a sign-up or an update says about usernames.
#[derive(Debug, Default)]
pub struct Sent {
    name: Option<Value>,
    display: Option<Value>,
}

/// The same, looked through.
#[derive(Debug, Clone, Default)]
pub struct Names {
    pub name: Option<Username>,
    pub display: Option<String>,
}

impl Sent {
    pub fn read(fields: &mut Fields) -> Sent {
        fields.storable(&["displayUsername"]);
        Sent { name: fields.any("username"), display: fields.any("displayUsername") }
    }

    /// Nothing where there are no usernames. What is neither a text nor null is refused as `odd`.
    pub fn judge(&self, app: &App, odd: Code) -> Result<Names, Failure> {
        if !app.settings.methods.has(Switch::Username) {
            return Ok(Names::default());
        }
        let texts = [&self.name, &self.display];
        if texts.into_iter().flatten().any(|value| !value.is_string() && !value.is_null()) {
            return Err(odd.into());
        }
        let name = self.name().map(Username::parse).transpose();
        Ok(Names {
            name: name.map_err(|fault| refused(fault, StatusCode::BAD_REQUEST))?,
            display: self.display.as_ref().and_then(Value::as_str).map(str::to_owned),
        })
    }

    /// As [`Self::judge`]; for a new user each of the two stands in for the other.
    pub fn judge_new(&self, app: &App) -> Result<Names, Failure> {
        let Names { name, display } = self.judge(app, Code::FailedToCreateUser)?;
        let on = app.settings.methods.has(Switch::Username);
        let spelled = self.name().filter(|_| on).map(str::to_owned);
        Ok(Names {
            name: name.or_else(|| display.as_deref().and_then(|display| Username::parse(display).ok())),
            display: display.filter(|display| !display.is_empty()).or(spelled),
        })
    }

    fn name(&self) -> Option<&str> {
        self.name.as_ref().and_then(Value::as_str)
    }
}

impl Names {
    pub fn is_empty(&self) -> bool {
        self.name.is_none() && self.display.is_none()
    }

    /// Whether nobody has the name just now.
    pub async fn are_free(&self, app: &App) -> Result<bool, store::Error> {
        let Some(name) = self.name.clone() else { return Ok(true) };
        Ok(app.store.read(move |tx| users::by_username(tx, name.as_str())).await?.is_none())
    }

    /// Waits for the name; false when somebody else has it.
    pub fn take(&self, tx: &mut Tx<'_>, user: Option<&UserId>) -> Result<bool, store::Error> {
        self.name.as_ref().map_or(Ok(true), |name| usernames::take(tx, name, user))
    }

    /// Writes what was [taken](Self::take).
    pub fn write(&self, tx: &mut Tx<'_>, id: &UserId, now: Millis) -> Result<(), store::Error> {
        match (&self.name, &self.display) {
            (Some(name), display) => usernames::set(tx, id, name, display.as_deref(), now),
            (None, Some(display)) => usernames::set_display(tx, id, display, now),
            (None, None) => Ok(()),
        }
    }

    /// A new user as [`Self::write`] makes it.
    pub fn applied(&self, user: User) -> User {
        let username = self.name.as_ref().map(|name| name.as_str().to_owned());
        User { username, display_username: self.display.clone(), ..user }
    }
}

/// Names that were sent among the fields of somebody else. Nothing where there are no usernames.
pub fn named(app: &App, name: Option<&str>, display: Option<String>) -> Result<Names, Failure> {
    if !app.settings.methods.has(Switch::Username) {
        return Ok(Names::default());
    }
    let name = name.map(Username::parse).transpose();
    Ok(Names { name: name.map_err(|fault| refused(fault, StatusCode::BAD_REQUEST))?, display })
}

/// The original answers 422 at the routes of its plugin, and 400 where a name is one field of several.
fn refused(fault: Fault, status: StatusCode) -> Failure {
    let (code, message) = match fault {
        Fault::TooShort => ("USERNAME_TOO_SHORT", "Username is too short"),
        Fault::TooLong => ("USERNAME_TOO_LONG", "Username is too long"),
        Fault::Invalid => ("INVALID_USERNAME", "Username is invalid"),
    };
    Failure::Coded { status, code, message }
}

impl Endpoint for SignInUsername {
    type Input = sign_in::Input<String>;
    const SPEC: Spec =
        Spec::post("/sign-in/username", Access::Anyone, "Opens a session with a username and a password")
            .of(Switch::Username);

    fn read(fields: &mut Fields) -> sign_in::Input<String> {
        fields.need_object();
        sign_in::Input {
            name: fields.text("username"),
            password: Secret::new(fields.text("password")),
            callback: fields.maybe_text("callbackURL"),
            remember: fields.maybe_flag("rememberMe"),
        }
    }

    async fn run(call: Call, input: sign_in::Input<String>) -> Outcome {
        if !call.app.settings.email_password.enabled {
            return Err(Code::SignInDisabled.into());
        }
        if input.name.is_empty() || input.password.expose().is_empty() {
            return Err(Code::InvalidUsernameOrPassword.into());
        }
        let name =
            Username::parse(&input.name).map_err(|fault| refused(fault, StatusCode::UNPROCESSABLE_ENTITY))?;
        sign_in::with_password(&call, input.named(Name::Username(name))).await
    }
}

impl Endpoint for IsUsernameAvailable {
    type Input = String;
    const SPEC: Spec =
        Spec::post("/is-username-available", Access::Anyone, "Tells whether nobody has a username")
            .of(Switch::Username);

    fn read(fields: &mut Fields) -> String {
        fields.need_object();
        fields.text("username")
    }

    async fn run(call: Call, text: String) -> Outcome {
        let name = if text.is_empty() { Err(Fault::Invalid) } else { Username::parse(&text) };
        let name = name.map_err(|fault| refused(fault, StatusCode::UNPROCESSABLE_ENTITY))?;
        let names = Names { name: Some(name), display: None };
        Ok(Reply::json(&json!({ "available": names.are_free(&call.app).await? })))
    }
}
