//! `tollgate user`: what an operator does to users.

use crate::config::{Loaded, duration::parse_duration};
use crate::deployment::{Deployment, now};
use crate::terminal::{Failure, Outcome, Terminal};
use gate::arrival::{tell_created, welcome};
use gate::departure::{Revocation, delete_user, tell_revoked};
use identity::passwords::{self, Policy, Weakness, Workspace};
use identity::users::{self, NewUser};
use identity::{EmailAddress, User, accounts, admin, passkeys, second_factor, sessions};
use kernel::{Millis, Secret, UserId, Vault, random};
use serde_json::{Value, json};
use std::io::{IsTerminal as _, Read as _, Write as _};
use store::Tx;

#[derive(Debug, clap::Args)]
pub struct CreateOptions {
    email: String,
    /// Name to show [default: the address up to the @]
    #[arg(long)]
    name: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    #[arg(long, default_value = "user")]
    role: String,
}

pub fn create(loaded: Loaded, options: &CreateOptions, terminal: &Terminal) -> Outcome {
    let bad_address = || Failure::new("This is not an e-mail address.", "Write it as name@example.com.");
    let email = EmailAddress::parse(&options.email).ok_or_else(bad_address)?;
    check_role(&options.role)?;
    let deployment = Deployment::open(loaded)?;
    let (password, generated) = choose_password(options, &deployment)?;
    let hash = passwords::hash(password.expose(), &mut Workspace::new(), &mut random::secure());
    let name = options
        .name
        .clone()
        .unwrap_or_else(|| options.email.split('@').next().unwrap_or_default().to_owned());
    let new = NewUser { name, email, email_verified: true, image: None, role: options.role.clone() };
    let (vault, terms) = (deployment.vault()?, deployment.config.credits.clone());
    let gift = terms.signup_grant.clone();
    let created = deployment.write(move |tx| create_with_password(tx, &vault, &terms, &new, &hash, now()))?;
    let Some((user, welcomed)) = created else {
        let what = format!("{} has an account already.", options.email);
        return Err(Failure::new(what, format!("See it with `tollgate user show {}`.", options.email)));
    };
    let mut text = format!("Created {} ({}), role {}, address verified.", user.email, user.id, options.role);
    let mut json = to_json(&user);
    json["signup_grant"] = Value::Null;
    match gift {
        Some(gift) if welcomed => {
            text.push_str(&format!("\nGranted {} {}, as to everybody who signs up.", gift.amount, gift.unit));
            json["signup_grant"] = json!({"amount": gift.amount, "unit": gift.unit});
        }
        Some(_) => text.push_str("\nGranted nothing: this mailbox has had its sign-up grant before."),
        None => {}
    }
    if generated {
        text.push_str(&format!("\n\n{}\n\nThis is the password. It is shown only now.", password.expose()));
        json["password"] = password.expose().as_str().into();
    }
    terminal.result(&text, &json);
    Ok(())
}

/// A user who can sign in with a password and has what new users get, in one transaction; the flag tells whether
/// credits were granted.
pub fn create_with_password(
    tx: &mut Tx<'_>,
    vault: &Vault,
    terms: &credits::Settings,
    new: &NewUser,
    hash: &str,
    now: Millis,
) -> Result<Option<(User, bool)>, store::Error> {
    let rng = &mut random::secure();
    let Some(user) = users::create(tx, new, now, rng)? else { return Ok(None) };
    accounts::set_password(tx, &user.id, hash, now, rng)?;
    tell_created(tx, &user, now)?;
    let welcomed = welcome(tx, terms, vault, &user.id, &user.email, now)?;
    Ok(Some((user, welcomed)))
}

/// From standard input, else one that is made up; the flag tells which.
fn choose_password(
    options: &CreateOptions,
    deployment: &Deployment,
) -> Result<(Secret<String>, bool), Failure> {
    if !options.password_stdin {
        return Ok((Secret::new(random::alphanumeric(&mut random::secure(), 20)), true));
    }
    let rules = &deployment.config.email_password;
    let mut text = String::new();
    let read = std::io::stdin().take(64 * 1024).read_to_string(&mut text);
    read.map_err(|_| {
        Failure::new("The password cannot be read from standard input.", "Send it as UTF-8 text.")
    })?;
    let password = Secret::new(text.trim_end_matches(['\n', '\r']).to_owned());
    let policy = Policy {
        min_length: rules.min_length,
        max_length: rules.max_length,
        refuse_common: rules.refuse_common,
    };
    match policy.judge(password.expose()) {
        Ok(()) => Ok((password, false)),
        Err(weakness) => {
            let next = format!(
                "Send {} to {} characters that are not a common password.",
                rules.min_length, rules.max_length
            );
            let what = match weakness {
                Weakness::TooShort => "The password is too short.",
                Weakness::TooLong => "The password is too long.",
                Weakness::Common => "The password is one of those that attackers try first.",
            };
            Err(Failure::new(what, next))
        }
    }
}

pub fn show(loaded: Loaded, who: &str, terminal: &Terminal) -> Outcome {
    let deployment = Deployment::open(loaded)?;
    let vault = deployment.vault()?;
    let user = find(&deployment, who)?;
    let id = user.id.clone();
    let (live, linked, keys) = deployment.read(move |tx| {
        let live = sessions::list_live(tx, &vault, &id, now())?;
        Ok((live, accounts::list(tx, &id)?, passkeys::list(tx, &id)?))
    })?;
    let mut methods: Vec<String> = linked.into_iter().map(|account| account.provider_id).collect();
    if !keys.is_empty() {
        methods.push(format!("passkey ({})", keys.len()));
    }
    let verified = if user.email_verified { "verified" } else { "not verified" };
    let mut text = format!(
        "{}  {} ({verified})\nname      {}\nrole      {}\nmethods   {}\nsessions  {}\ncreated   {}",
        user.id,
        user.email,
        user.name,
        user.role.as_deref().unwrap_or("user"),
        if methods.is_empty() { "none".to_owned() } else { methods.join(", ") },
        live.len(),
        user.created_at.iso()
    );
    if user.two_factor_enabled {
        text.push_str("\nsecond    on: asked for after the password");
    }
    if user.banned {
        let until = user.ban_expires.map_or("for ever".to_owned(), |end| format!("until {}", end.iso()));
        text.push_str(&format!("\nbanned    {until}: {}", user.ban_reason.as_deref().unwrap_or_default()));
    }
    let mut json = to_json(&user);
    json["methods"] = methods.into();
    json["second_factor"] = user.two_factor_enabled.into();
    json["passkeys"] = keys.len().into();
    json["sessions"] = live.len().into();
    terminal.result(&text, &json);
    Ok(())
}

pub fn promote(loaded: Loaded, who: &str, role: &str, terminal: &Terminal) -> Outcome {
    check_role(role)?;
    let deployment = Deployment::open(loaded)?;
    let user = find(&deployment, who)?;
    let (id, new_role) = (user.id.clone(), role.to_owned());
    let changed = deployment.write(move |tx| {
        users::take_turn(tx, &id)?;
        if !admin::is_admin(Some(&new_role)) {
            sessions::end_impersonations(tx, &id)?;
        }
        users::set_role(tx, &id, &new_role, now())
    });
    still_there(changed?, who)?;
    let text = format!("{} has the role {role} now. It counts from the next request on.", user.email);
    terminal.result(&text, &json!({"id": user.id.as_str(), "email": user.email, "role": role}));
    Ok(())
}

pub fn ban(loaded: Loaded, who: &str, reason: &str, until: Option<&str>, terminal: &Terminal) -> Outcome {
    let until = until.map(|text| end_of_ban(text, now())).transpose()?;
    let deployment = Deployment::open(loaded)?;
    let user = find(&deployment, who)?;
    let (id, why) = (user.id.clone(), reason.to_owned());
    let banned = deployment.write(move |tx| {
        let Some(ended) = users::ban(tx, &id, &why, until, now())? else { return Ok(false) };
        tell_revoked(tx, &id, &ended, Revocation::Banned, now())?;
        Ok(true)
    });
    still_there(banned?, who)?;
    let end = until.map_or("for ever".to_owned(), |end| format!("until {}", end.iso()));
    let text = format!("Banned {} {end} and ended all sessions.", user.email);
    let json = json!({"id": user.id.as_str(), "email": user.email, "banned": true, "reason": reason, "until": until.map(Millis::iso)});
    terminal.result(&text, &json);
    Ok(())
}

pub fn unban(loaded: Loaded, who: &str, terminal: &Terminal) -> Outcome {
    let deployment = Deployment::open(loaded)?;
    let user = find(&deployment, who)?;
    let id = user.id.clone();
    still_there(deployment.write(move |tx| users::unban(tx, &id, now()))?, who)?;
    let text = match user.banned {
        true => format!("{} may sign in again. The ended sessions stay ended.", user.email),
        false => format!("{} was not banned; nothing has changed.", user.email),
    };
    terminal.result(&text, &json!({"id": user.id.as_str(), "email": user.email, "banned": false}));
    Ok(())
}

/// For somebody whose telephone is gone, and the paper with the codes, too.
pub fn reset_second_factor(loaded: Loaded, who: &str, terminal: &Terminal) -> Outcome {
    let deployment = Deployment::open(loaded)?;
    let vault = deployment.vault()?;
    let user = find(&deployment, who)?;
    let id = user.id.clone();
    let there = deployment.write(move |tx| {
        users::take_turn(tx, &id)?;
        second_factor::reset(tx, &vault, &id, now())?;
        users::exists(tx, &id)
    });
    still_there(there?, who)?;
    let text = match user.two_factor_enabled {
        true => format!(
            "{} signs in with the password alone now; authenticator app, backup codes and trusted devices are worth nothing any more. \
             Sessions and passkeys stay.",
            user.email
        ),
        false => format!("{} had no second factor; nothing has changed for sign-ins.", user.email),
    };
    terminal.result(
        &text,
        &json!({"id": user.id.as_str(), "email": user.email, "second_factor": false, "had_one": user.two_factor_enabled}),
    );
    Ok(())
}

/// A length from now on, or a time.
fn end_of_ban(text: &str, now: Millis) -> Result<Millis, Failure> {
    let end = parse_duration(text).map(|length| now.plus(length)).or_else(|| Millis::parse_iso(text));
    let fix = "Write a length such as 7d, or a time to come such as 2027-01-01T00:00:00Z.";
    end.filter(|end| *end > now).ok_or_else(|| Failure::new("The end of the ban is not understood.", fix))
}

pub fn delete(loaded: Loaded, who: &str, sure: bool, terminal: &Terminal) -> Outcome {
    let deployment = Deployment::open(loaded)?;
    let user = find(&deployment, who)?;
    // Without a person to ask, only --yes is a yes.
    let sure = sure || (std::io::stdin().is_terminal() && confirmed(&user)?);
    if !sure {
        return Err(Failure::new("Nothing was deleted.", "Type the address to confirm, or use --yes."));
    }
    let (id, terms) = (user.id.clone(), deployment.config.credits.clone());
    let deleted = deployment.write(move |tx| delete_user(tx, &terms, &id, now()));
    still_there(deleted?, who)?;
    let text = format!(
        "Deleted {} ({}) with sessions, accounts and pending links. What the ledger says stays under the id.",
        user.email, user.id
    );
    terminal.result(&text, &json!({"id": user.id.as_str(), "email": user.email, "deleted": true}));
    Ok(())
}

fn confirmed(user: &User) -> Result<bool, Failure> {
    let mut err = std::io::stderr().lock();
    let _ = write!(err, "This cannot be undone. Type {} to delete: ", user.email);
    let _ = err.flush();
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    read.map_err(|error| Failure::new(format!("The answer cannot be read: {error}."), "Use --yes."))?;
    Ok(line.trim() == user.email)
}

fn find(deployment: &Deployment, who: &str) -> Result<User, Failure> {
    look_up(deployment, who)?.ok_or_else(|| unknown(who))
}

/// By address or by id.
pub(super) fn look_up(deployment: &Deployment, who: &str) -> Result<Option<User>, Failure> {
    let text = who.to_owned();
    deployment.read(move |tx| match text.contains('@') {
        true => {
            let address =
                EmailAddress::parse(&text).unwrap_or_else(|| EmailAddress::from_stored(text.clone()));
            users::by_email(tx, address.as_str())
        }
        false => users::by_id(tx, &UserId::from_text(text.clone())),
    })
}

pub(super) fn unknown(who: &str) -> Failure {
    Failure::new(format!("There is no user `{who}`."), "Give the e-mail address or the id.")
}

fn still_there(changed: bool, who: &str) -> Outcome {
    if changed { Ok(()) } else { Err(unknown(who)) }
}

/// Several roles are separated by commas, as Better Auth's admin plugin writes them.
fn check_role(role: &str) -> Outcome {
    let good = !role.is_empty()
        && role.len() <= 100
        && role.chars().all(|c| c.is_ascii_alphanumeric() || "-_,".contains(c));
    let next = "Write letters, digits, - and _; several roles separated by commas.";
    if good { Ok(()) } else { Err(Failure::new("This is not a role.", next)) }
}

fn to_json(user: &User) -> Value {
    json!({
        "id": user.id.as_str(), "email": user.email, "name": user.name, "email_verified": user.email_verified,
        "role": user.role, "banned": user.banned, "ban_reason": user.ban_reason,
        "ban_expires": user.ban_expires.map(Millis::iso), "created_at": user.created_at.iso(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_ends_after_a_length_or_at_a_time_to_come() {
        let now = Millis(1_000);
        assert_eq!(end_of_ban("1s", now).unwrap(), Millis(2_000));
        assert_eq!(end_of_ban("1970-01-01T00:00:02Z", now).unwrap(), Millis(2_000));
        for text in ["1970-01-01T00:00:01Z", "0s", "tomorrow", ""] {
            assert!(end_of_ban(text, now).is_err(), "{text}");
        }
    }

    #[test]
    fn roles_are_words() {
        assert!(check_role("admin,support").is_ok());
        assert!(check_role("").is_err() && check_role("a b").is_err());
    }
}
