//! `tollgate credits`: what an operator does to the ledger. The server may run meanwhile: it sees what was changed here with
//! its next command on the account.

pub mod export;

use super::user;
use crate::config::{Environment, Loaded, duration::parse_duration};
use crate::deployment::{Deployment, now, store_failure};
use crate::settings::owner_exists;
use crate::terminal::{Failure, Outcome, Progress, Terminal};
use credits::reads::{self, Balance, Past};
use credits::verify::{self, Report};
use credits::{Action, Command, Idempotency, MAX_AMOUNT, NewGrant, Owner, Refusal, Settings, Source, Target};
use kernel::Millis;
use serde_json::{Value, json};
use std::time::Duration;

const LONGEST_REASON: usize = 500;
const LONGEST_KEY: usize = 255;
const DEFAULT_PRIORITY: i64 = 50;
/// Between two pieces of a long check, so that the server's own reads come in between.
const PAUSE: Duration = Duration::from_millis(2);

#[derive(Debug, clap::Args)]
#[group(id = "owner", required = true, multiple = false)]
pub struct Whom {
    /// Address or id
    user: Option<String>,
    /// In place of a user
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct BalanceOptions {
    #[command(flatten)]
    whom: Whom,
    /// Default: the first of the configuration
    #[arg(long)]
    unit: Option<String>,
    /// What it was at a time of the past, such as 2027-01-01 or 2027-01-01T12:00:00Z
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(override_usage = "tollgate credits grant [OPTIONS] --reason <REASON> <USER> <AMOUNT>")]
pub struct GrantOptions {
    /// Address or id, left out with --organization; and how much, 1 to 9007199254740991
    #[arg(num_args = 1..=2, required = true, value_names = ["USER", "AMOUNT"])]
    to: Vec<String>,
    #[command(flatten)]
    change: ChangeOptions,
    /// Where it comes from; those that were given are spent before those that were paid for
    #[arg(long, default_value = "promo", value_parser = ["promo", "signup", "adjustment", "plan", "paid"])]
    source: String,
    /// When what is left of it ends [default: never]
    #[arg(long, value_name = "TIME", conflicts_with = "expires_in")]
    expires_at: Option<String>,
    /// The same as a length from now on, such as 30d
    #[arg(long, value_name = "LENGTH")]
    expires_in: Option<String>,
    /// 0 to 100; low ones are spent first
    #[arg(long, default_value_t = DEFAULT_PRIORITY, value_parser = clap::value_parser!(i64).range(0..=100))]
    priority: i64,
}

#[derive(Debug, clap::Args)]
#[command(override_usage = "tollgate credits adjust [OPTIONS] --reason <REASON> <USER> <AMOUNT>")]
pub struct AdjustOptions {
    /// Address or id, left out with --organization; and by how much: below zero takes away
    #[arg(num_args = 1..=2, required = true, value_names = ["USER", "AMOUNT"], allow_negative_numbers = true)]
    by: Vec<String>,
    #[command(flatten)]
    change: ChangeOptions,
}

/// What every change takes.
#[derive(Debug, clap::Args)]
pub struct ChangeOptions {
    /// In place of a user
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// Default: the first of the configuration
    #[arg(long)]
    unit: Option<String>,
    /// Why; it stands on the entry for ever
    #[arg(long)]
    reason: String,
    /// A name for this change, so that doing it again does nothing
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

/// An owner, and how a person would name them.
struct Whose {
    owner: Owner,
    name: String,
}

pub fn balance(loaded: Loaded, options: &BalanceOptions, terminal: &Terminal) -> Outcome {
    let at = options.at.as_deref().map(|text| time(text, "--at")).transpose()?;
    if at.is_some_and(|at| at > now()) {
        return Err(Failure::new("--at lies in the future.", "Give a time of the past, or leave it out."));
    }
    let deployment = Deployment::open(loaded)?;
    let unit = unit(options.unit.as_deref(), &deployment.config.credits)?;
    let whose = whose(&deployment, options.whom.user.as_deref(), options.whom.organization.as_deref())?;
    refuse_strangers(&deployment, &whose)?;
    let balance = match at {
        Some(at) => balance_at(&deployment, &whose.owner, &unit, at)?,
        None => {
            let (owner, unit) = (whose.owner.clone(), unit.clone());
            deployment.read(move |tx| reads::balance(tx, &owner, &unit, now()))?
        }
    };
    let mut text = format!("{}{}", whose.name, at.map_or(String::new(), |at| format!(", at {}", at.iso())));
    text.push_str(&in_words(&balance));
    let owner = whose.owner;
    let others = deployment.read(move |tx| reads::accounts(tx, &owner, now()))?;
    let others: Vec<String> =
        others.into_iter().map(|other| other.unit).filter(|other| *other != unit).collect();
    if !others.is_empty() {
        text.push_str(&format!("\n\nThere is more of other units: --unit {}.", others.join(" or --unit ")));
    }
    let json: Value = parsed(&balance.json())?;
    terminal.result(&text, &json);
    Ok(())
}

fn balance_at(deployment: &Deployment, owner: &Owner, unit: &str, at: Millis) -> Result<Balance, Failure> {
    let (whose, counted) = (owner.clone(), unit.to_owned());
    let Some(mut past) = deployment.read(move |tx| Past::begin(tx, &whose, &counted, at))? else {
        // There is no account: nothing now, and nothing then.
        let (owner, unit) = (owner.clone(), unit.to_owned());
        return deployment.read(move |tx| reads::balance(tx, &owner, &unit, at));
    };
    loop {
        let (next, more) = deployment.read(move |tx| {
            let mut next = past.clone();
            let more = next.step(tx)?;
            Ok((next, more))
        })?;
        past = next;
        if !more {
            return Ok(past.finish());
        }
    }
}

fn in_words(balance: &Balance) -> String {
    let mut text = format!(
        "\n{}: balance {}, held {}, available {}, owed {}",
        balance.unit,
        balance.balance,
        balance.held,
        balance.available(),
        balance.owed()
    );
    for lot in &balance.grants {
        let end = match lot.expires_at {
            credits::NEVER => "never ends".to_owned(),
            end => format!("until {}", end.iso()),
        };
        let id = balance.grant_id(lot);
        text.push_str(&format!(
            "\n  {} of {}  {}  {end}  priority {}  {id}",
            lot.remaining,
            lot.amount,
            lot.source.name(),
            lot.priority
        ));
    }
    text
}

pub fn grant(
    loaded: Loaded,
    options: &GrantOptions,
    environment: &Environment,
    terminal: &Terminal,
) -> Outcome {
    let (user, amount) = user_and_amount(&options.to, &options.change, 1)?;
    let expires_at = end_of_grant(options, now())?;
    let source = Source::parse(&options.source)
        .ok_or_else(|| Failure::new("This is not a source.", "Choose one of those in the help."))?;
    let grant = NewGrant {
        amount,
        source,
        expires_at,
        priority: options.priority,
        reason: Some(options.change.reason.clone()),
        metadata: None,
        source_ref: None,
        rollover: None,
    };
    let mut request = json!({"source": source.name()});
    if let Some(end) = &options.expires_in {
        request["expires_in"] = end.as_str().into();
    } else if let Some(end) = expires_at {
        request["expires_at"] = end.iso().into();
    }
    if options.priority != DEFAULT_PRIORITY {
        request["priority"] = options.priority.into();
    }
    let done = change(loaded, user, &options.change, Action::Grant(grant), amount, request, environment)?;
    let until = expires_at.map_or(String::new(), |end| format!(", until {}", end.iso()));
    let told = format!("Granted {amount} {} ({}) to {}{until}.", done.unit, source.name(), done.name);
    tell(&done, told, terminal);
    Ok(())
}

pub fn adjust(
    loaded: Loaded,
    options: &AdjustOptions,
    environment: &Environment,
    terminal: &Terminal,
) -> Outcome {
    let (user, amount) = user_and_amount(&options.by, &options.change, -MAX_AMOUNT)?;
    let action = Action::Adjust { amount, reason: options.change.reason.clone() };
    let done = change(loaded, user, &options.change, action, amount, json!({}), environment)?;
    let (unit, name) = (&done.unit, &done.name);
    let told = match amount < 0 {
        true => format!("Took {} {unit} from {name}.", amount.unsigned_abs()),
        false => format!("Gave {amount} {unit} to {name}."),
    };
    tell(&done, told, terminal);
    Ok(())
}

/// A change that was made, now or before under the same key.
struct Done {
    name: String,
    unit: String,
    body: Value,
    replayed: bool,
}

/// `request` is what the idempotency key stands for, besides what every change has; spelled as the server does it, so
/// that a key means the same on both ways.
fn change(
    loaded: Loaded,
    user: Option<&str>,
    options: &ChangeOptions,
    action: Action,
    amount: i64,
    mut request: Value,
    environment: &Environment,
) -> Result<Done, Failure> {
    check_change(options)?;
    let deployment = Deployment::open(loaded)?;
    let settings = deployment.config.credits.clone();
    let unit = unit(options.unit.as_deref(), &settings)?;
    let whose = whose(&deployment, user, options.organization.as_deref())?;
    request[whose.owner.field()] = whose.owner.id().into();
    request["amount"] = amount.into();
    request["reason"] = options.reason.as_str().into();
    if unit != settings.default_unit() {
        request["unit"] = unit.as_str().into();
    }
    let key = |key: &String| Idempotency { key: key.clone(), request: request.to_string(), scope: None };
    let command = Command {
        target: Target::Owner { owner: whose.owner.clone(), unit: unit.clone() },
        action,
        actor: operator(environment),
        request_id: None,
        idempotency: options.idempotency_key.as_ref().map(key),
    };
    let (vault, exists) = (deployment.vault()?, owner_exists());
    let results = deployment
        .write(move |tx| credits::apply_in(tx, &settings, &vault, &exists, vec![command.clone()], now()))?;
    match results.into_iter().next() {
        Some(Ok(answer)) => {
            let body = parsed(&answer.body)?;
            Ok(Done { name: whose.name, unit, body, replayed: answer.replayed })
        }
        Some(Err(refusal)) => Err(refused(&refusal, &whose.name)),
        None => Err(Failure::new("The ledger gave no answer.", "Check the database with `tollgate doctor`.")),
    }
}

fn tell(done: &Done, told: String, terminal: &Terminal) {
    let figure = |name: &str| done.body["balance"][name].as_i64().unwrap_or_default();
    let (balance, available) = (figure("balance"), figure("available"));
    let entry = done.body["entry"]["id"].as_str().unwrap_or_default();
    let mut text = match done.replayed {
        true => {
            format!("{told}\nThat was before, under the same key; now nothing was done.\nThe balance then: ")
        }
        false => format!("{told}\nThe balance now: "),
    };
    text.push_str(&format!("{balance}, available {available}. The entry is {entry}."));
    terminal.result(&text, &done.body);
}

fn refused(refusal: &Refusal, name: &str) -> Failure {
    match refusal {
        Refusal::UnknownOwner { field: "organization_id" } => Failure::new(
            format!("There is no organization `{name}`; nothing was done."),
            "Give the id of one that exists.",
        ),
        Refusal::UnknownOwner { .. } => user::unknown(name),
        Refusal::Insufficient { unit, available, required, .. } => Failure::new(
            format!("{name} has {available} {unit} available, so {required} cannot be taken."),
            "Take less; the rest is held, or was spent.",
        ),
        Refusal::KeyMismatch { field } => Failure::new(
            format!("This key stands for another change: `{field}` differs. Nothing was done."),
            "Use another --idempotency-key.",
        ),
        Refusal::Invalid { field, message } => {
            Failure::new(format!("Nothing was done: {field}: {message}."), "Correct it and try again.")
        }
        Refusal::Conflict { message, .. } => {
            Failure::new(format!("Nothing was done: {message}."), "Look with `tollgate credits balance`.")
        }
        Refusal::NotFound { what } => {
            Failure::new(format!("There is no such {what}."), "Look with `tollgate credits balance`.")
        }
        Refusal::LimitReached { max, used, resets_at, .. } => Failure::new(
            format!("A limit of {max} is reached: {used} are used."),
            format!("It begins anew at {}.", resets_at.iso()),
        ),
    }
}

pub fn verify(loaded: Loaded, terminal: &Terminal) -> Outcome {
    let deployment = Deployment::open(loaded)?;
    let vault = deployment.vault()?;
    let mut progress = Progress::new(terminal, "Checking", "entries");
    let walk = verify::run(&deployment.store, &vault, now(), PAUSE, |done, all| progress.show(done, all));
    let walked = deployment.block_on(walk);
    drop(progress);
    let report = walked.map_err(|error| store_failure(&error))?;
    terminal.result(&report_in_words(&report), &parsed(&report.json())?);
    match report.problems.len() {
        0 => Ok(()),
        // The report has been printed; with --json it stands alone on standard output.
        _ if terminal.json => Err(Failure::silent()),
        count => {
            let next = "Stop changes by hand, keep a copy of the database as it is, and compare with the last good backup.";
            let accounts = if count == 1 { "one place" } else { "several places" };
            Err(Failure::new(format!("The ledger does not add up in {accounts}."), next))
        }
    }
}

fn report_in_words(report: &Report) -> String {
    let mut text = format!("Checked accounts: {}, entries: {}.", report.accounts, report.entries);
    if report.ok() {
        text.push_str(" Every entry is as it was written, and every balance is what its entries add up to.");
    }
    for problem in &report.problems {
        let whose = problem.owner.as_deref().unwrap_or("the ledger");
        let unit = problem.unit.as_deref().map_or(String::new(), |unit| format!(" {unit}"));
        let seq = problem.seq.map_or(String::new(), |seq| format!(" entry {seq}"));
        text.push_str(&format!("\nproblem  {whose}{unit}{seq}: {}", problem.what));
    }
    text
}

/// The ledger keeps what belonged to people who are gone, so an id need not be a user's any more.
fn whose(deployment: &Deployment, user: Option<&str>, organization: Option<&str>) -> Result<Whose, Failure> {
    if let Some(id) = organization {
        return Ok(Whose { owner: Owner::Organization(id.to_owned()), name: id.to_owned() });
    }
    let who = user.unwrap_or_default();
    match user::look_up(deployment, who)? {
        Some(user) => Ok(Whose { owner: Owner::User(user.id.as_str().to_owned()), name: user.email }),
        None if who.contains('@') => Err(user::unknown(who)),
        None => Ok(Whose { owner: Owner::User(who.to_owned()), name: who.to_owned() }),
    }
}

/// Refuses an owner that neither the ledger nor anybody else knows.
fn refuse_strangers(deployment: &Deployment, whose: &Whose) -> Outcome {
    let (owner, exists) = (whose.owner.clone(), owner_exists());
    let known = deployment.read(move |tx| Ok(reads::has_account(tx, &owner)? || exists(tx, &owner)?))?;
    let field = whose.owner.field();
    if known { Ok(()) } else { Err(refused(&Refusal::UnknownOwner { field }, &whose.name)) }
}

fn unit(given: Option<&str>, settings: &Settings) -> Result<String, Failure> {
    let unit = given.unwrap_or(settings.default_unit());
    if settings.has_unit(unit) {
        return Ok(unit.to_owned());
    }
    let next = format!("Choose from {}, or add it to credits.units.", settings.units.join(", "));
    Err(Failure::new(format!("There is no unit `{unit}`."), next))
}

/// Of `USER AMOUNT`, or `AMOUNT` with an organization.
fn user_and_amount<'a>(
    values: &'a [String],
    options: &ChangeOptions,
    least: i64,
) -> Result<(Option<&'a str>, i64), Failure> {
    let (user, amount) = match (values, &options.organization) {
        ([user, amount], None) => (Some(user.as_str()), amount),
        ([amount], Some(_)) => (None, amount),
        ([_], None) => return Err(Failure::new("Whose, or how much?", "Give a user and an amount.")),
        _ => return Err(Failure::new("Both a user and an organization are named.", "Leave one out.")),
    };
    let number = amount.parse::<i64>().ok();
    let number = number.filter(|number| (least..=MAX_AMOUNT).contains(number) && *number != 0);
    let what = || format!("`{amount}` is not an amount.");
    let next = format!("Write a whole number from {least} to {MAX_AMOUNT}; 0 changes nothing.");
    Ok((user, number.ok_or_else(|| Failure::new(what(), next))?))
}

fn check_change(options: &ChangeOptions) -> Outcome {
    let reason = options.reason.trim();
    if reason.is_empty() || reason.chars().count() > LONGEST_REASON || reason.contains('\0') {
        let next = format!("Say why in 1 to {LONGEST_REASON} characters: --reason \"…\".");
        return Err(Failure::new("A change of the ledger needs a reason; nothing was done.", next));
    }
    let visible = |key: &String| {
        (1..=LONGEST_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if options.idempotency_key.as_ref().is_some_and(|key| !visible(key)) {
        let next = format!("Write 1 to {LONGEST_KEY} visible ASCII characters.");
        return Err(Failure::new("This is not an idempotency key; nothing was done.", next));
    }
    Ok(())
}

fn end_of_grant(options: &GrantOptions, now: Millis) -> Result<Option<Millis>, Failure> {
    let end = match (&options.expires_at, &options.expires_in) {
        (Some(text), _) => Some(time(text, "--expires-at")?),
        (None, Some(text)) => {
            let what = || Failure::new("--expires-in is not understood.", "Write a length such as 30d.");
            Some(now.plus(parse_duration(text).ok_or_else(what)?))
        }
        (None, None) => None,
    };
    match end {
        Some(end) if end <= now => Err(Failure::new("The grant would end at once.", "Give a time to come.")),
        end => Ok(end),
    }
}

/// A moment, or the beginning of a day in UTC.
pub(super) fn time(text: &str, option: &str) -> Result<Millis, Failure> {
    let found = Millis::parse_iso(text).or_else(|| Millis::parse_iso(&format!("{text}T00:00:00Z")));
    let next = "Write a time such as 2027-01-01T12:00:00Z, or a day such as 2027-01-01.";
    found.ok_or_else(|| Failure::new(format!("{option} is not understood."), next))
}

/// Who is at the keyboard, as entries name them. It is told and not proven: whoever may run this may change the
/// database itself.
fn operator(environment: &Environment) -> String {
    let name = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|variable| environment.get(variable));
    let clean = name.unwrap_or("unknown").chars().filter(|c| !c.is_control()).take(100);
    format!("operator:{}", clean.collect::<String>())
}

fn parsed(text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text)
        .map_err(|error| Failure::new(format!("The ledger's answer is no JSON: {error}."), "Report this."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_moments_or_days() {
        assert_eq!(time("1970-01-02", "--at").unwrap(), Millis(86_400_000));
        assert_eq!(time("1970-01-01T00:00:01Z", "--at").unwrap(), Millis(1_000));
        assert!(time("yesterday", "--at").is_err() && time("", "--at").is_err());
    }

    #[test]
    fn the_operator_is_who_the_shell_says() {
        assert_eq!(operator(&[("USER", "ada")].into()), "operator:ada");
        assert_eq!(operator(&[("SUDO_USER", "ada"), ("USER", "root")].into()), "operator:ada");
        assert_eq!(operator(&Environment::default()), "operator:unknown");
    }

    fn amount(values: &[&str], organization: Option<&str>, least: i64) -> Option<(Option<String>, i64)> {
        let values: Vec<String> = values.iter().map(|text| (*text).to_owned()).collect();
        let options = ChangeOptions {
            organization: organization.map(str::to_owned),
            unit: None,
            reason: "x".into(),
            idempotency_key: None,
        };
        let found = user_and_amount(&values, &options, least).ok();
        found.map(|(user, amount)| (user.map(str::to_owned), amount))
    }

    #[test]
    fn an_amount_follows_a_user_or_belongs_to_an_organization() {
        assert_eq!(amount(&["ada", "5"], None, 1), Some((Some("ada".into()), 5)));
        assert_eq!(amount(&["-5"], Some("o"), -MAX_AMOUNT), Some((None, -5)));
        for values in
            [&["5"][..], &["ada", "0"], &["ada", "1.5"], &["ada", "-1"], &["ada", "9007199254740992"]]
        {
            assert_eq!(amount(values, None, 1), None, "{values:?}");
        }
        assert_eq!(amount(&["ada", "5"], Some("o"), 1), None);
    }
}
