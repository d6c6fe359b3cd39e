//! `/sign-out`: ends the session, and all others that this browser holds.

use super::cookies::{Names, Writer};
use super::endpoint::{Access, Call, Endpoint, Outcome, Reply, Spec};
use super::fields::Fields;
use crate::settings::Switch;
use identity::sessions;
use kernel::cookie;

pub struct SignOut;

impl Endpoint for SignOut {
    type Input = ();
    const SPEC: Spec =
        Spec::post("/sign-out", Access::Anyone, "Ends the session and the device's other sessions");

    fn read(fields: &mut Fields) {
        fields.maybe_object();
        fields.maybe_text("callbackURL");
        fields.maybe_flag("disableRedirect");
        fields.maybe_text("state");
    }

    async fn run(call: Call, (): ()) -> Outcome {
        let app = &call.app;
        let mut writer = Writer::new(app, &call.names);
        let mut tokens: Vec<String> = call.presented.token.iter().cloned().collect();
        if app.settings.methods.has(Switch::MultiSession) {
            for (name, value) in cookie::all(call.cookie_lines()).filter(|(name, _)| Names::is_multi(name)) {
                // Only what we signed: a planted cookie must not end somebody's session.
                if let Some(token) = app.signer.open(value) {
                    writer.clear(name);
                    tokens.push(token.into_owned());
                }
            }
        }
        if !tokens.is_empty() {
            let vault = app.vault.clone();
            app.store
                .write(move |tx| tokens.iter().try_for_each(|token| sessions::end(tx, &vault, token)))
                .await?;
        }
        let lines = writer.lines;
        Ok(Reply::json(&serde_json::json!({ "success": true })).end_session(&call).cookies(lines))
    }
}
