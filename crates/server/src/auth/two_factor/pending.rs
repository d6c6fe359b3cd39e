//! What happens after the right password of a user who has a second factor.

use crate::app::App;
use crate::auth::cookies::{Keep, Writer};
use crate::auth::endpoint::{Call, Outcome, Reply};
use crate::settings::Switch;
use identity::User;
use identity::second_factor::{authenticators, challenges, devices};
use kernel::{Millis, cookie, random};
use serde::Serialize;
use store::Tx;

/// What the browser keeps from an earlier sign-in that passed.
#[derive(Clone, Default)]
pub struct Device {
    /// Our signature was on it.
    kept: Option<String>,
    /// There is a cookie of that name, whatever it holds.
    is_there: bool,
}

/// What is to be done before the session begins.
pub enum Step {
    /// Nothing; a trusted device keeps something new from now on.
    Pass { renewed: Option<String> },
    /// To ask: no session begins.
    Ask(Asked),
}

pub struct Asked {
    challenge: String,
    methods: Vec<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    two_factor_redirect: bool,
    two_factor_methods: &'a [&'static str],
}

impl Device {
    pub fn of(call: &Call) -> Device {
        let found = cookie::first(call.cookie_lines(), &call.names.trust_device);
        Device {
            kept: found.and_then(|value| call.app.signer.open(value)).map(|value| value.into_owned()),
            is_there: found.is_some(),
        }
    }
}

/// The password was right, and the user may come in.
pub fn judge(
    tx: &mut Tx<'_>,
    app: &App,
    user: &User,
    device: &Device,
    now: Millis,
) -> Result<Step, store::Error> {
    if !user.two_factor_enabled || !app.settings.methods.has(Switch::TwoFactor) {
        return Ok(Step::Pass { renewed: None });
    }
    let rng = &mut random::secure();
    if let Some(kept) = &device.kept
        && let Some(renewed) = devices::renew(tx, &app.vault, &user.id, kept, now, rng)?
    {
        return Ok(Step::Pass { renewed: Some(renewed) });
    }
    let mut methods = Vec::new();
    if authenticators::find(tx, &app.vault, &user.id)?.is_some_and(|app| app.verified) {
        methods.push("totp");
    }
    if app.settings.sends_mail {
        methods.push("otp");
    }
    Ok(Step::Ask(Asked { challenge: challenges::open(tx, &app.vault, &user.id, now, rng)?, methods }))
}

/// The answer to a sign-in that stops here. Whoever was signed in here before is not the one who has just proven a
/// password: cookies are cleared, and a client that keeps a token instead is given one that has never opened anything, in
/// the place where the original sends that of a session which it has just deleted.
pub fn ask(call: &Call, asked: &Asked, keep: Keep, method: Option<&str>, device: &Device) -> Outcome {
    let mut writer = Writer::new(&call.app, &call.names);
    if keep == Keep::Forget {
        writer.dont_remember();
    } else if call.presented.has_dont_remember {
        writer.clear(&call.names.dont_remember);
    }
    if let (Some(method), true) = (method, call.app.settings.methods.has(Switch::LastLoginMethod)) {
        writer.last_method(method);
    }
    if device.is_there {
        writer.clear(&call.names.trust_device);
    }
    writer.clear(&call.names.session_token);
    writer.clear(&call.names.session_data);
    writer.two_factor(&asked.challenge);
    let body = Body { two_factor_redirect: true, two_factor_methods: &asked.methods };
    let reply = Reply::json(&body).cookies(writer.lines);
    if !call.app.settings.methods.has(Switch::Bearer) {
        return Ok(reply);
    }
    let nobodys = random::alphanumeric(&mut random::secure(), 32);
    Ok(reply.exposed("set-auth-token", &call.app.signer.sign(&nobodys)))
}

/// What a trusted device keeps from now on.
pub fn trusted(call: &Call, kept: Option<&str>) -> Vec<String> {
    let mut writer = Writer::new(&call.app, &call.names);
    if let Some(kept) = kept {
        writer.trust_device(kept);
    }
    writer.lines
}
