//! `/ok` and `/error`.

use super::endpoint::{Access, Call, Endpoint, Outcome, Reply, Spec};
use super::fields::Fields;
use http::StatusCode;
use kernel::signed::encode_uri_component;

pub struct Alive;
pub struct ErrorPage;

impl Endpoint for Alive {
    type Input = ();
    const SPEC: Spec = Spec::get("/ok", Access::Anyone, "Tells that the door is open");

    fn read(_: &mut Fields) {}

    async fn run(_: Call, (): ()) -> Outcome {
        Ok(Reply::bytes(br#"{"ok":true}"#.to_vec()))
    }
}

pub struct Error {
    code: Option<String>,
    description: Option<String>,
}

impl Endpoint for ErrorPage {
    type Input = Error;
    const SPEC: Spec =
        Spec::get("/error", Access::Anyone, "Leads people to the app's own page with an error's code");

    fn read(fields: &mut Fields) -> Error {
        Error { code: fields.first_query("error"), description: fields.first_query("error_description") }
    }

    /// Nothing that was sent is put into a page; the code is a plain word or `UNKNOWN`.
    async fn run(_: Call, input: Error) -> Outcome {
        let plain = |code: &String| {
            !code.is_empty() && code.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        };
        let code = input.code.filter(plain).unwrap_or_else(|| "UNKNOWN".into());
        let description = input.description.filter(|text| !text.is_empty());
        let description = description
            .map(|text| format!("&error_description={}", encode_uri_component(&text)))
            .unwrap_or_default();
        let reply = Reply::empty(StatusCode::FOUND);
        Ok(reply.header_text("location", &format!("/?error={code}{description}")))
    }
}
