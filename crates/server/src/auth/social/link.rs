//! `/link-social`: a further way to sign in for whoever is signed in.

use super::super::endpoint::{Access, Call, Endpoint, Outcome, Spec};
use super::super::error::Code;
use super::super::fields::Fields;
use super::id_token;
use super::start::{self, Wish};
use identity::providers::Link;

pub struct LinkSocial;

impl Endpoint for LinkSocial {
    type Input = Wish;
    const SPEC: Spec = Spec::post(
        "/link-social",
        Access::SignedIn,
        "Adds an account at a provider to the one that is signed in",
    );

    fn read(fields: &mut Fields) -> Wish {
        Wish::read(fields)
    }

    async fn run(call: Call, wish: Wish) -> Outcome {
        // A key is no browser that could go to the provider and come back.
        let live = call.in_person().ok_or(Code::Unauthorized)?.clone();
        if let Some(brought) = &wish.id_token {
            return id_token::link(&call, &wish, brought, &live).await;
        }
        let link = Link { user: live.user.id.as_str().to_owned(), session: live.token };
        start::begin(&call, &wish, Some(link)).await
    }
}
