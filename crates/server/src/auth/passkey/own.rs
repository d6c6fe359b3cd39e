//! The passkeys of whoever is signed in.

use super::{Body, LONGEST_NAME};
use crate::auth::endpoint::{Access, Call, Endpoint, Outcome, Reply, Spec};
use crate::auth::error::{Code, Failure};
use crate::auth::fields::Fields;
use crate::settings::Switch;
use http::StatusCode;
use identity::passkeys::{self, Found};
use kernel::PasskeyId;
use serde::Serialize;

pub struct List;
pub struct Update;
pub struct Delete;

pub struct Renaming {
    id: String,
    name: String,
}

#[derive(Serialize)]
struct Renamed<'a> {
    passkey: Body<'a>,
}

impl Endpoint for List {
    type Input = ();
    const SPEC: Spec =
        Spec::get("/passkey/list-user-passkeys", Access::SignedIn, "One's own passkeys").of(Switch::Passkey);

    fn read(_: &mut Fields) {}

    async fn run(call: Call, (): ()) -> Outcome {
        let user = call.signed_in()?.user.id.clone();
        let found = call.app.store.read(move |tx| passkeys::list(tx, &user)).await?;
        Ok(Reply::json(&found.iter().map(Body::from).collect::<Vec<_>>()))
    }
}

impl Endpoint for Update {
    type Input = Renaming;
    const SPEC: Spec =
        Spec::post("/passkey/update-passkey", Access::SignedIn, "Gives one's own passkey another name")
            .of(Switch::Passkey);

    fn read(fields: &mut Fields) -> Renaming {
        fields.need_object();
        fields.storable(&["id", "name"]);
        let id = fields.text("id");
        let name = fields.text("name").trim().to_owned();
        if name.is_empty() {
            fields.problem("name", "Too small: expected string to have >=1 characters");
        }
        if name.chars().count() > LONGEST_NAME {
            fields.problem("name", "Too big: expected string to have <=255 characters");
        }
        Renaming { id, name }
    }

    async fn run(call: Call, renaming: Renaming) -> Outcome {
        let user = call.signed_in()?.user.id.clone();
        let Renaming { id, name } = renaming;
        let renamed = call
            .app
            .store
            .write(move |tx| passkeys::rename(tx, &user, &PasskeyId::from_text(id.as_str()), &name))
            .await?;
        match renamed {
            Found::Own(passkey) => Ok(Reply::json(&Renamed { passkey: (&passkey).into() })),
            Found::SomebodyElses => Err(Code::NotYourPasskey.into()),
            Found::Unknown => Err(Code::PasskeyAbsent.into()),
        }
    }
}

impl Endpoint for Delete {
    type Input = String;
    const SPEC: Spec =
        Spec::post("/passkey/delete-passkey", Access::SignedIn, "Removes one of one's own passkeys")
            .of(Switch::Passkey);

    fn read(fields: &mut Fields) -> String {
        fields.need_object();
        fields.storable(&["id"]);
        fields.text("id")
    }

    async fn run(call: Call, id: String) -> Outcome {
        let user = call.signed_in()?.user.id.clone();
        let removed = call
            .app
            .store
            .write(move |tx| passkeys::remove(tx, &user, &PasskeyId::from_text(id.as_str())))
            .await?;
        match removed {
            Found::Own(()) => Ok(Reply::json(&serde_json::json!({ "status": true }))),
            Found::SomebodyElses => Err(Failure::Empty(StatusCode::UNAUTHORIZED)),
            Found::Unknown => Err(Code::PasskeyAbsent.into()),
        }
    }
}
