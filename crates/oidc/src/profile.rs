//! Who a provider says somebody is, read from the forms that providers give it.

use crate::id_token::Claims;
use crate::settings::Kind;
use serde_json::{Map, Value, json};

const LONGEST_NAME: usize = 255;
const LONGEST_IMAGE: usize = 2_048;
const LONGEST_SUBJECT: usize = 255;

#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Who it is at the provider, for good: addresses and names change hands.
    pub subject: String,
    pub email: Option<String>,
    /// Only where the provider says so itself.
    pub email_verified: bool,
    pub name: Option<String>,
    pub image: Option<String>,
    /// As the provider told it, for apps that ask.
    pub told: Map<String, Value>,
}

impl Profile {
    fn new(subject: Option<String>, told: Map<String, Value>) -> Option<Profile> {
        let subject = subject.filter(|subject| {
            (1..=LONGEST_SUBJECT).contains(&subject.len())
                && !subject.trim().is_empty()
                && !subject.chars().any(char::is_control)
        })?;
        let text = |name: &str| told.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        Some(Profile {
            subject,
            email: text("email").map(str::to_owned),
            email_verified: is_true(told.get("email_verified")),
            name: text("name").map(str::to_owned),
            image: text("picture").map(str::to_owned),
            told,
        })
    }

    /// What is kept must fit a row and a page.
    fn tidy(mut self) -> Profile {
        let plain = |text: String| -> String {
            text.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect::<String>().trim().to_owned()
        };
        self.name = self.name.map(plain).filter(|name| !name.is_empty());
        let web = |image: &String| {
            let scheme = image.starts_with("https://") || image.starts_with("http://");
            let plain = !image.chars().any(char::is_control);
            scheme && plain && image.len() <= LONGEST_IMAGE && url::Url::parse(image).is_ok()
        };
        self.image = self.image.filter(web);
        self
    }
}

/// Some providers send truths as texts; anything else is none.
fn is_true(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Bool(flag)) => *flag,
        Some(Value::String(text)) => text == "true",
        _ => false,
    }
}

/// An id that is a text or a whole number.
fn id(told: &Map<String, Value>, name: &str) -> Option<String> {
    match told.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        _ => None,
    }
}

/// From the claims of an id token that holds.
pub fn of_claims(kind: Kind, claims: Claims) -> Option<Profile> {
    let subject = match kind {
        // Its `sub` is another one for each app of the same person.
        Kind::Microsoft => id(&claims, "oid"),
        _ => id(&claims, "sub"),
    };
    let mut profile = Profile::new(subject, claims)?;
    match kind {
        Kind::Microsoft if !profile.told.contains_key("email_verified") => {
            // An administrator of any tenant may write any address into `email`; these lists hold what was proven.
            let proven = |name: &str, email: &str| {
                let list = profile.told.get(name).and_then(Value::as_array);
                list.is_some_and(|list| list.iter().any(|known| known == email))
            };
            profile.email_verified = profile.email.as_deref().is_some_and(|email| {
                proven("verified_primary_email", email) || proven("verified_secondary_email", email)
            });
        }
        Kind::Oidc => {
            let mut told = Map::new();
            told.insert("id".into(), json!(profile.subject));
            told.insert("emailVerified".into(), json!(profile.email_verified));
            if let Some(image) = profile.told.get("picture") {
                told.insert("image".into(), image.clone());
            }
            told.append(&mut profile.told);
            profile.told = told;
        }
        _ => {}
    }
    Some(profile.tidy())
}

/// Apple tells the name once, beside the code, and never in the token.
pub fn name_from_apple(user: &str) -> Option<String> {
    let user: Value = serde_json::from_str(user).ok()?;
    let part = |name: &str| user["name"][name].as_str().unwrap_or_default();
    let name = format!("{} {}", part("firstName"), part("lastName"));
    let name: String = name.trim().chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect();
    (!name.is_empty()).then_some(name)
}

/// From what the provider's address for it tells; `emails` is GitHub's list of addresses.
pub fn of_answer(kind: Kind, told: Map<String, Value>, emails: Option<&Value>) -> Option<Profile> {
    let subject = match kind {
        Kind::Oidc => id(&told, "sub"),
        _ => id(&told, "id").or_else(|| id(&told, "sub")),
    };
    let mut profile = Profile::new(subject, told)?;
    match kind {
        Kind::Github => github(&mut profile, emails),
        Kind::Gitlab => {
            let told = |name: &str| profile.told.get(name).and_then(Value::as_str);
            if told("state") != Some("active") || is_true(profile.told.get("locked")) {
                return None;
            }
            profile.image = told("avatar_url").map(str::to_owned);
            profile.name = profile.name.or_else(|| text(&profile.told, "username"));
        }
        Kind::Discord => {
            profile.email_verified = is_true(profile.told.get("verified"));
            profile.name = text(&profile.told, "global_name").or_else(|| text(&profile.told, "username"));
            profile.image = Some(discord_image(&profile));
            profile.told.insert("image_url".into(), json!(profile.image));
        }
        Kind::Oidc | Kind::Oauth2 => {
            profile.told.insert("emailVerified".into(), json!(profile.email_verified));
            if let Some(image) = profile.told.get("picture").cloned() {
                profile.told.insert("image".into(), image);
            }
        }
        Kind::Google | Kind::Apple | Kind::Microsoft => {}
    }
    Some(profile.tidy())
}

fn text(told: &Map<String, Value>, name: &str) -> Option<String> {
    told.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The address on the profile is for show; the list says which one is theirs.
fn github(profile: &mut Profile, emails: Option<&Value>) {
    let list = emails.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if profile.email.is_none() {
        let chosen = list.iter().find(|entry| is_true(entry.get("primary"))).or(list.first());
        profile.email = chosen.and_then(|entry| entry["email"].as_str()).map(str::to_owned);
        profile.told.insert("email".into(), json!(profile.email));
    }
    let own = |entry: &&Value| entry["email"].as_str() == profile.email.as_deref() && profile.email.is_some();
    profile.email_verified = list.iter().find(own).is_some_and(|entry| is_true(entry.get("verified")));
    profile.name = profile.name.take().or_else(|| text(&profile.told, "login"));
    profile.image = text(&profile.told, "avatar_url");
}

fn discord_image(profile: &Profile) -> String {
    let told = |name: &str| profile.told.get(name).and_then(Value::as_str);
    match told("avatar") {
        Some(avatar) => {
            let format = if avatar.starts_with("a_") { "gif" } else { "png" };
            format!("https://cdn.discordapp.com/avatars/{}/{avatar}.{format}", profile.subject)
        }
        None => {
            let old = told("discriminator").and_then(|number| number.parse::<u64>().ok()).filter(|n| *n != 0);
            let new = profile.subject.parse::<u64>().unwrap_or_default();
            let number = old.map_or((new >> 22) % 6, |old| old % 5);
            format!("https://cdn.discordapp.com/embed/avatars/{number}.png")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn an_address_is_verified_only_where_the_provider_says_so() {
        let verified = |value: Value| {
            let claims = map(json!({"sub": "1", "email": "a@example.com", "email_verified": value}));
            of_claims(Kind::Google, claims).unwrap().email_verified
        };
        assert!(verified(json!(true)) && verified(json!("true")));
        for value in [json!(false), json!("false"), json!(null), json!(1), json!("yes"), json!([true])] {
            assert!(!verified(value.clone()), "{value}");
        }
        assert!(
            !of_claims(Kind::Google, map(json!({"sub": "1", "email": "a@example.com"})))
                .unwrap()
                .email_verified
        );
    }

    #[test]
    fn an_address_at_microsoft_counts_when_it_was_proven() {
        let person = |extra: Value| {
            let mut claims = map(json!({"oid": "o", "sub": "s", "email": "a@example.com"}));
            claims.extend(map(extra));
            of_claims(Kind::Microsoft, claims).unwrap()
        };
        assert_eq!((person(json!({})).subject.as_str(), person(json!({})).email_verified), ("o", false));
        assert!(person(json!({"verified_primary_email": ["a@example.com"]})).email_verified);
        assert!(!person(json!({"verified_primary_email": ["aa@example.com"]})).email_verified);
        assert!(of_claims(Kind::Microsoft, map(json!({"sub": "s"}))).is_none());
    }

    #[test]
    fn github_says_in_its_list_which_address_is_proven() {
        let emails = json!([
            {"email": "old@example.com", "primary": false, "verified": true},
            {"email": "a@example.com", "primary": true, "verified": false},
        ]);
        let private =
            of_answer(Kind::Github, map(json!({"id": 7, "login": "ada", "email": null})), Some(&emails));
        let private = private.unwrap();
        assert_eq!((private.subject.as_str(), private.email.as_deref()), ("7", Some("a@example.com")));
        assert!(!private.email_verified && private.name.as_deref() == Some("ada"));
        let shown = map(json!({"id": 7, "login": "ada", "email": "old@example.com"}));
        assert!(of_answer(Kind::Github, shown.clone(), Some(&emails)).unwrap().email_verified);
        assert!(!of_answer(Kind::Github, shown, None).unwrap().email_verified);
    }

    #[test]
    fn who_is_locked_out_at_gitlab_is_locked_out_here() {
        let person = |state: &str, locked: bool| {
            let told = json!({"id": 1, "username": "ada", "state": state, "locked": locked, "email": "a@example.com"});
            of_answer(Kind::Gitlab, map(told), None)
        };
        assert!(person("active", false).is_some());
        assert!(person("blocked", false).is_none() && person("active", true).is_none());
    }

    #[test]
    fn a_picture_at_discord_follows_from_the_account() {
        let person = |avatar: Value, discriminator: &str| {
            let told = json!({"id": "80351110224678912", "username": "ada", "avatar": avatar,
                "discriminator": discriminator, "verified": true, "email": "a@example.com"});
            of_answer(Kind::Discord, map(told), None).unwrap()
        };
        assert!(person(json!("a_1"), "0").image.unwrap().ends_with("/avatars/80351110224678912/a_1.gif"));
        assert!(person(json!(null), "7").image.unwrap().ends_with("/embed/avatars/2.png"));
        assert!(person(json!(null), "0").email_verified);
    }

    #[test]
    fn what_cannot_be_kept_is_left_out() {
        let claims = map(json!({"sub": "1", "name": " A\u{0}d\na ", "picture": "javascript:alert(1)"}));
        let person = of_claims(Kind::Oidc, claims).unwrap();
        assert_eq!((person.name.as_deref(), person.image), (Some("Ada"), None));
        let claims = map(json!({"sub": "1", "picture": "https://a.example/\u{0}"}));
        assert_eq!(of_claims(Kind::Oidc, claims).unwrap().image, None, "no row holds a null character");
        for subject in [json!(""), json!(" "), json!(null), json!({}), json!(1.5), json!("a\u{0}")] {
            assert!(of_answer(Kind::Oauth2, map(json!({"id": subject})), None).is_none(), "{subject}");
        }
        assert_eq!(
            name_from_apple(r#"{"name":{"firstName":"Ada","lastName":"Lovelace"}}"#).as_deref(),
            Some("Ada Lovelace")
        );
        for odd in ["", "[]", "{\"name\":1}", "{\"name\":{}}"] {
            assert_eq!(name_from_apple(odd), None);
        }
    }
}
