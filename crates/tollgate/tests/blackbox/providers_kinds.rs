//! The well-known providers, each as it speaks: what it is asked for, how it answers, and when its word about an address
//! counts.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use serde_json::{Value, json};

use crate::harness::issuer::{CLIENT_ID, CLIENT_SECRET, Issuer};
use crate::harness::{Browser, Engine, Request, Server, path_of};
use crate::on_both_engines;
use crate::providers_sign_in::{ada, begin, led_to, sign_in, sorry};

fn with_kind(engine: Engine, issuer: &Issuer, kind: &str, more: &str) -> Server {
    let (url, secret) = (issuer.url(), format!("client_secret = \"{CLIENT_SECRET}\"\n"));
    let secret = if kind == "apple" { "" } else { &secret };
    let text = format!("[providers.{kind}]\nissuer = \"{url}\"\nclient_id = \"{CLIENT_ID}\"\n{secret}{more}");
    Server::with(engine, &text)
}

fn parameter(url: &str, name: &str) -> Option<String> {
    let url = url::Url::parse(url).expect("an address");
    url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
}

#[track_caller]
fn user_of(browser: &mut Browser) -> Value {
    let user = browser.session()["user"].clone();
    json!({"email": user["email"], "verified": user["emailVerified"], "name": user["name"], "image": user["image"]})
}

fn google_lets_in_the_people_of_one_domain(engine: Engine) {
    let issuer = Issuer::start();
    let more = "hosted_domain = \"example.com\"\nprompt = \"select_account\"\nparameters = { access_type = \"offline\" }\n";
    let server = with_kind(engine, &issuer, "google", more);
    let mut browser = Browser::new(&server);
    let url = begin(&mut browser, "google");
    for (name, value) in [
        ("scope", "email profile openid"),
        ("hd", "example.com"),
        ("prompt", "select_account"),
        ("access_type", "offline"),
        ("include_granted_scopes", "true"),
    ] {
        assert_eq!(parameter(&url, name).as_deref(), Some(value), "{name}");
    }
    assert!(parameter(&url, "nonce").is_some_and(|nonce| nonce.len() == 32));
    for domain in [json!("other.example"), json!(""), json!(null), json!("EXAMPLE.com.evil.example")] {
        issuer.claim(json!({"hd": domain}));
        assert_eq!(
            sign_in(&mut browser, &issuer, "google", ada()),
            sorry("unable_to_get_user_info"),
            "{domain}"
        );
    }
    issuer.claim(json!({"hd": "example.com"}));
    assert_eq!(sign_in(&mut browser, &issuer, "google", ada()), "/welcome");
    // An old token is not taken, though it has not ended.
    issuer.claim(json!({"hd": "example.com", "iat": 1_700_000_000}));
    assert_eq!(sign_in(&mut browser, &issuer, "google", ada()), sorry("unable_to_get_user_info"));
}
on_both_engines!(google_lets_in_the_people_of_one_domain);

fn microsoft_signs_for_many_tenants_and_one_may_be_chosen(engine: Engine) {
    let issuer = Issuer::start();
    let server = with_kind(engine, &issuer, "microsoft", "tenant = \"common\"\n");
    let mut browser = Browser::new(&server);
    let come = |browser: &mut Browser, named: &str, by: &str| {
        let who = json!({"sub": "pairwise", "oid": "ada-everywhere", "tid": named, "email": "ada@example.com", "name": "Ada"});
        issuer.claim(json!({"iss": format!("{}/{by}/v2.0", issuer.url())}));
        sign_in(browser, &issuer, "microsoft", who)
    };
    let refused = sorry("unable_to_get_user_info");
    assert_eq!(come(&mut browser, "tenant-1", "tenant-2"), refused, "one tenant speaks for another");
    assert_eq!(come(&mut browser, "", ""), refused);
    assert_eq!(come(&mut browser, "tenant-1", "tenant-1"), "/welcome");
    assert_eq!(user_of(&mut browser)["verified"], false, "any tenant may write any address");
    assert_eq!(come(&mut browser, "tenant-1", "tenant-1"), "/dash");
    let accounts = browser.get("/api/auth/list-accounts").expect(200).json();
    assert_eq!(accounts[0]["accountId"], "ada-everywhere");
    let server = with_kind(engine, &issuer, "microsoft", "tenant = \"organizations\"\n");
    let mut browser = Browser::new(&server);
    let private = "9188040d-6c67-4c5b-b112-36a304b66dad";
    assert_eq!(come(&mut browser, private, private), refused, "a private account is no organization's");
    assert_eq!(come(&mut browser, "tenant-1", "tenant-1"), "/welcome");
}
on_both_engines!(microsoft_signs_for_many_tenants_and_one_may_be_chosen);

fn github_tells_in_a_list_which_address_is_proven(engine: Engine) {
    let issuer = Issuer::start();
    let server = with_kind(engine, &issuer, "github", "");
    let person = |verified: bool| {
        json!({"id": 4_242, "login": "ada", "name": null, "email": null, "avatar_url": "https://images.example/a.png",
            "emails": [{"email": "old@example.com", "primary": false, "verified": true},
                {"email": "ada@example.com", "primary": true, "verified": verified}]})
    };
    let mut browser = Browser::new(&server);
    let url = begin(&mut browser, "github");
    assert_eq!(parameter(&url, "scope").as_deref(), Some("read:user user:email"));
    assert_eq!(parameter(&url, "nonce"), None);
    assert_eq!(sign_in(&mut browser, &issuer, "github", person(false)), "/welcome");
    let expected = |verified: bool| json!({"email": "ada@example.com", "verified": verified, "name": "ada", "image": "https://images.example/a.png"});
    assert_eq!(user_of(&mut browser), expected(false));
    assert_eq!(sign_in(&mut browser, &issuer, "github", person(true)), "/dash");
    assert_eq!(user_of(&mut browser), expected(true), "proven there since");
}
on_both_engines!(github_tells_in_a_list_which_address_is_proven);

fn discord_gitlab_and_plain_providers_tell_who_somebody_is(engine: Engine) {
    let issuer = Issuer::start();
    let (url, secret) = (issuer.url(), CLIENT_SECRET);
    let client = format!("client_id = \"{CLIENT_ID}\"\nclient_secret = \"{secret}\"\n");
    let text = format!(
        "[providers.discord]\nissuer = \"{url}\"\n{client}[providers.gitlab]\nissuer = \"{url}\"\n{client}\
         [providers.plain]\nkind = \"oauth2\"\nscopes = [\"who\"]\nauthorization_url = \"{url}/authorize\"\n\
         token_url = \"{url}/token\"\nuser_info_url = \"{url}/me\"\n{client}"
    );
    let server = Server::with(engine, &text);
    let discord = json!({"id": "80351110224678912", "username": "ada", "global_name": "Ada", "avatar": null,
        "discriminator": "0", "verified": true, "email": "discord@example.com"});
    let gitlab = json!({"id": 7, "username": "ada", "name": "Ada", "state": "active", "email": "gitlab@example.com",
        "email_verified": true, "avatar_url": null});
    let plain = json!({"id": "x-1", "name": "Ada", "email": "plain@example.com"});
    let mut blocked = gitlab.clone();
    blocked["state"] = json!("blocked");
    let mut browser = Browser::new(&server);
    assert_eq!(sign_in(&mut browser, &issuer, "gitlab", blocked), sorry("unable_to_get_user_info"));
    for (name, who, verified) in
        [("discord", discord, true), ("gitlab", gitlab, true), ("plain", plain, false)]
    {
        let mut browser = Browser::new(&server);
        assert_eq!(sign_in(&mut browser, &issuer, name, who), "/welcome");
        let user = user_of(&mut browser);
        assert_eq!(
            (user["email"].clone(), user["verified"].clone(), user["name"].clone()),
            (json!(format!("{name}@example.com")), json!(verified), json!("Ada"))
        );
    }
}
on_both_engines!(discord_gitlab_and_plain_providers_tell_who_somebody_is);

fn apple_gets_a_signed_statement_and_answers_with_a_form(engine: Engine) {
    let issuer = Issuer::start();
    let chance = SystemRandom::new();
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &chance).expect("a key");
    let text = STANDARD.encode(key.as_ref());
    let pem = format!("-----BEGIN PRIVATE KEY-----\\n{text}\\n-----END PRIVATE KEY-----\\n");
    let more = format!("team_id = \"TEAM\"\nkey_id = \"KEY\"\nprivate_key = \"{pem}\"\n");
    let server = with_kind(engine, &issuer, "apple", &more);
    let mut browser = Browser::new(&server);
    let url = begin(&mut browser, "apple");
    assert_eq!(parameter(&url, "response_mode").as_deref(), Some("form_post"));
    assert_eq!(parameter(&url, "scope").as_deref(), Some("email name"));
    // The name comes beside the code, once; the token says truths by texts.
    let who = json!({"sub": "000.ada", "email": "ada@example.com", "email_verified": "true"});
    let back = issuer.person_goes(&url, who.clone());
    let (path, query) = back.split_once('?').expect("a query");
    let user = r#"{"name":{"firstName":"Ada","lastName":"Lovelace"},"email":"evil@example.com"}"#;
    let form = url::form_urlencoded::Serializer::new(query.to_owned()).append_pair("user", user).finish();
    let post = Request::new("POST", path)
        .header("Content-Type", "application/x-www-form-urlencoded")
        .header("Origin", "https://appleid.apple.com")
        .body(form);
    let led = led_to(post.send(server.address).expect("an answer"));
    assert_eq!(led_to(browser.get(path_of(&led))), "/welcome");
    assert_eq!(
        user_of(&mut browser),
        json!({"email": "ada@example.com", "verified": true, "name": "Ada Lovelace", "image": null})
    );
    assert_eq!(sign_in(&mut browser, &issuer, "apple", who), "/dash");
    assert_eq!(user_of(&mut browser)["name"], "Ada Lovelace");
    let statements = issuer.statements();
    assert_eq!(statements.len(), 2);
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &chance).expect("a key");
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref());
    for statement in statements {
        let (signed, signature) = statement.rsplit_once('.').expect("a signature");
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        public.verify(signed.as_bytes(), &signature).expect("Apple takes it");
        let claims = URL_SAFE_NO_PAD.decode(signed.split('.').nth(1).expect("claims")).expect("base64url");
        let claims: Value = serde_json::from_slice(&claims).expect("JSON");
        assert_eq!((claims["iss"].clone(), claims["sub"].clone()), (json!("TEAM"), json!(CLIENT_ID)));
        assert!(!server.log().contains(&statement) && !server.database.dump().contains(&statement));
    }
}
on_both_engines!(apple_gets_a_signed_statement_and_answers_with_a_form);
