//! `/update-user`: one's own name, picture and username.

use super::endpoint::{Access, Call, Endpoint, Grant, Outcome, Reply, Spec};
use super::error::{Code, Failure};
use super::fields::{Fields, Nullable};
use super::sign_up::SERVER_FIELDS;
use super::username;
use http::StatusCode;
use identity::users;

pub struct UpdateUser;

pub struct Input {
    email_sent: bool,
    name: Option<String>,
    image: Nullable,
    names: username::Sent,
}

impl Endpoint for UpdateUser {
    type Input = Input;
    const SPEC: Spec =
        Spec::post("/update-user", Access::SignedIn, "Changes one's own name, picture and username");

    fn read(fields: &mut Fields) -> Input {
        fields.need_record();
        fields.storable(&["name", "image"]);
        let email_sent = fields.says("email");
        if !email_sent {
            fields.refuse(&SERVER_FIELDS);
        }
        Input {
            email_sent,
            name: fields.maybe_text("name"),
            image: fields.nullable_text("image"),
            names: username::Sent::read(fields),
        }
    }

    async fn run(call: Call, input: Input) -> Outcome {
        if input.email_sent {
            return Err(Code::EmailCanNotBeUpdated.into());
        }
        let names = input.names.judge(&call.app, Code::InvalidUsername)?;
        if input.name.is_none() && input.image == Nullable::Absent && names.is_empty() {
            return Err(Failure::Message(StatusCode::BAD_REQUEST, "No fields to update"));
        }
        let live = call.signed_in()?;
        let (id, now) = (live.user.id.clone(), call.now);
        let free = call
            .app
            .store
            .write(move |tx| {
                if !names.take(tx, Some(&id))? {
                    return Ok(false);
                }
                names.write(tx, &id, now)?;
                if let Some(name) = &input.name {
                    users::set_name(tx, &id, name, now)?;
                }
                match &input.image {
                    Nullable::Absent => {}
                    Nullable::Null => users::set_image(tx, &id, None, now)?,
                    Nullable::Text(image) => users::set_image(tx, &id, Some(image), now)?,
                }
                Ok::<_, store::Error>(true)
            })
            .await?;
        if !free {
            return Err(Code::UsernameTaken.into());
        }
        Ok(Reply::json(&serde_json::json!({ "status": true })).grant(Grant::renew(live)))
    }
}
