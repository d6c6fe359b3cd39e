//! Organizations that buy: through owners and administrators, as owners of their own credits.

use serde_json::{Value, json};

use crate::harness::credits::Backend;
use crate::harness::shop::{Buyer, Shop};
use crate::harness::{Engine, Response};
use crate::on_both_engines;
use crate::organizations::text;

#[track_caller]
fn organization(buyer: &mut Buyer<'_>, path: &str, body: Value) -> Response {
    buyer.browser.post(&format!("/api/auth/organization/{path}"), body)
}

/// Makes the second buyer a member of the first one's organization; gives the member's id.
fn joins(owner: &mut Buyer<'_>, acme: &str, guest: &mut Buyer<'_>, role: &str) -> String {
    let email = guest.browser.session()["user"]["email"].clone();
    let body = json!({"organizationId": acme, "email": email, "role": role});
    let invitation = organization(owner, "invite-member", body).expect(200).json()["id"].clone();
    let body = json!({"invitationId": invitation});
    text(&organization(guest, "accept-invitation", body).expect(200).json()["member"]["id"])
}

fn balance(backend: &mut Backend, acme: &str) -> Value {
    backend.get(&format!("balance?organization_id={acme}")).expect(200).json()["balance"].clone()
}

fn an_organization_buys_through_those_who_may(engine: Engine) {
    let shop = Shop::open(engine);
    let mut backend = Backend::of(&shop.server);
    let (mut ada, mut bob, mut eve) = (shop.buyer(), shop.buyer(), shop.buyer());
    let acme = organization(&mut ada, "create", json!({"name": "Acme", "slug": "acme"})).expect(200).json();
    let acme = text(&acme["id"]);
    let bobs = joins(&mut ada, &acme, &mut bob, "member");

    let posts = [
        ("checkout", json!({"price": "small", "organizationId": acme})),
        ("portal", json!({"organizationId": acme})),
        ("subscription/change", json!({"plan": "basic", "organizationId": acme})),
        ("subscription/cancel", json!({"organizationId": acme})),
        ("subscription/resume", json!({"organizationId": acme})),
        ("auto-topup", json!({"enabled": false, "organizationId": acme})),
    ];
    let gets = ["subscription?", "invoices?", "auto-topup?", "checkout-status?session=absent&"];
    for (buyer, code) in [
        (&mut eve, "USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION"),
        (&mut bob, "YOU_ARE_NOT_ALLOWED_TO_BUY_FOR_THIS_ORGANIZATION"),
    ] {
        for (path, body) in &posts {
            buyer.browser.post(&format!("/api/auth/billing/{path}"), body.clone()).refused(403, code);
        }
        for path in gets {
            let path = format!("/api/auth/billing/{path}organizationId={acme}");
            buyer.browser.get(&path).refused(403, code);
        }
    }

    // The credits are the organization's, and what was bought is shown to those who buy for it.
    let wish = json!({"price": "small", "organizationId": acme});
    let session = ada.checkout(&wish);
    shop.till.pay(&session).expect("it is paid");
    shop.settled();
    assert_eq!((balance(&mut backend, &acme), ada.balance()), (json!(500), 0));
    let status = format!("/api/auth/billing/checkout-status?session={session}");
    assert_eq!(ada.browser.get(&status).status, 404, "it is not one's own");
    let status = ada.browser.get(&format!("{status}&organizationId={acme}")).expect(200).json();
    assert_eq!(status["status"], "paid");

    // Whoever buys for it, it is one customer at Stripe.
    let role = json!({"organizationId": acme, "memberId": bobs, "role": "admin"});
    organization(&mut ada, "update-member-role", role).expect(200);
    let session = bob.checkout(&wish);
    shop.till.pay(&session).expect("it is paid");
    shop.settled();
    assert_eq!(balance(&mut backend, &acme), 1_000);
    let customers = format!("SELECT COUNT(*) FROM billing_customers WHERE owner = 'organization:{acme}'");
    assert_eq!(shop.server.database.integer(&customers), 1);

    // A member's credits can be given to it.
    backend.grant(&ada.id, 50);
    let gift = json!({
        "from": {"user_id": ada.id}, "to": {"organization_id": acme}, "amount": 20, "reason": "for the team",
    });
    assert_eq!(backend.post("transfers", "gift", &gift).status, 201);
    assert_eq!((balance(&mut backend, &acme), ada.balance()), (json!(1_020), 30));

    let plan = ada.checkout(&json!({"price": "basic", "organizationId": acme}));
    shop.till.pay(&plan).expect("it is paid");
    shop.settled();
    let subscription = format!("/api/auth/billing/subscription?organizationId={acme}");
    assert_eq!(bob.browser.get(&subscription).expect(200).json()["plan"], "basic");
    assert_eq!((ada.subscription(), bob.subscription()), (Value::Null, Value::Null));

    // With the organization its accounts close; what they say stays.
    organization(&mut ada, "delete", json!({"organizationId": acme})).expect(200);
    ada.browser
        .post("/api/auth/billing/checkout", wish)
        .refused(403, "USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION");
    let closed =
        format!("SELECT COUNT(*) FROM credit_accounts WHERE closed AND owner = 'organization:{acme}'");
    assert_eq!(shop.server.database.integer(&closed), 1);
    shop.expect_sound();
}
on_both_engines!(an_organization_buys_through_those_who_may);
