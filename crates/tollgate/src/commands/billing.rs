//! `tollgate billing`: what an operator sees of money and may do about it. The server may run meanwhile: whoever looks at
//! something at Stripe first does what is left to do, and the other one finds it done.

mod status;

pub use status::status;

use crate::config::Loaded;
use crate::deployment::Deployment;
use crate::process::selling;
use crate::terminal::{Failure, Outcome, Progress, Terminal};
use billing::desk::{Desk, Error};
use billing::inbox::{self, Seen, State};
use billing::reconcile::{Mode, Report};
use billing::stripe::Trouble;
use kernel::Millis;
use serde_json::{Value, json};

/// Rows that are read at once.
const PAGE: i64 = 200;

#[derive(Debug, clap::Args)]
pub struct EventsOptions {
    /// Only those in this state
    #[arg(long, value_parser = ["pending", "done", "ignored", "failed"])]
    status: Option<String>,
    /// How many, newest first
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

#[derive(Debug, clap::Args)]
#[group(id = "which", required = true, multiple = false)]
pub struct ReplayOptions {
    /// Stripe's id, such as evt_1…
    event: Option<String>,
    /// All that were given up
    #[arg(long)]
    failed: bool,
}

#[derive(Debug, clap::Args)]
pub struct SyncOptions {
    /// Say what would be looked at, and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub fn events(loaded: Loaded, options: &EventsOptions, terminal: &Terminal) -> Outcome {
    let deployment = Deployment::open(loaded)?;
    let state = options.status.as_deref().and_then(State::parse);
    let mut seen: Vec<Seen> = Vec::new();
    loop {
        let left = i64::from(options.limit) - seen.len() as i64;
        let before = seen.last().map(|last| (last.received_at, last.id.clone()));
        let page = deployment.read(move |tx| {
            inbox::list(tx, state, before.as_ref().map(|(at, id)| (*at, id.as_str())), left.min(PAGE))
        })?;
        let is_last = page.is_empty();
        seen.extend(page);
        if is_last || seen.len() as i64 >= i64::from(options.limit) {
            break;
        }
    }
    let text: Vec<String> = seen.iter().map(in_words).collect();
    let text = match text.is_empty() {
        true => {
            "There are no such events. Whether Stripe has some: tollgate billing sync --dry-run".to_owned()
        }
        false => text.join("\n"),
    };
    terminal.result(&text, &json!({ "items": seen.iter().map(in_json).collect::<Vec<_>>() }));
    Ok(())
}

fn in_words(seen: &Seen) -> String {
    let mut text =
        format!("{}  {:<7}  {}  {}", seen.received_at.iso(), seen.state.name(), seen.event_id(), seen.kind);
    if let Some(effect) = &seen.effect {
        text.push_str(&format!("\n    {effect}"));
    }
    if let Some(error) = &seen.error {
        text.push_str(&format!("\n    after {} attempts: {error}", seen.attempts));
    }
    text
}

/// As `GET /api/billing/events` shows it.
fn in_json(seen: &Seen) -> Value {
    json!({
        "id": seen.event_id(),
        "livemode": seen.livemode(),
        "type": seen.kind,
        "subject": seen.subject,
        "status": seen.state.name(),
        "attempts": seen.attempts,
        "error": seen.error,
        "effect": seen.effect,
        "created_at": seen.created_at.iso(),
        "received_at": seen.received_at.iso(),
        "done_at": seen.done_at.map(Millis::iso),
    })
}

pub fn replay(loaded: Loaded, options: &ReplayOptions, terminal: &Terminal) -> Outcome {
    let (deployment, desk) = open(loaded)?;
    let rows = match &options.event {
        Some(event) => vec![replayable(&deployment, event)?],
        None => failed_ones(&deployment)?,
    };
    if rows.is_empty() {
        terminal.result("No event was given up: there is nothing to replay.", &json!({ "items": [] }));
        return Ok(());
    }
    let mut progress = Progress::new(terminal, "Replaying", "events");
    let (mut done, mut stopped) = (Vec::new(), None);
    let all = rows.len() as u64;
    for (number, id) in rows.iter().enumerate() {
        progress.show(number as u64, all);
        let outcome = deployment.block_on(desk.replay(id));
        let looked = id.clone();
        done.extend(deployment.read(move |tx| inbox::find(tx, &looked))?);
        match outcome {
            // Somebody took it just now; its row tells what came of it.
            Ok(_) => {}
            Err(error) if error.may_pass() => {
                stopped = Some(error);
                break;
            }
            // Its row holds the error.
            Err(_) => {}
        }
    }
    drop(progress);
    let lines: Vec<String> = done.iter().map(in_words).collect();
    terminal.result(&lines.join("\n"), &json!({ "items": done.iter().map(in_json).collect::<Vec<_>>() }));
    let failed = done.iter().filter(|seen| matches!(seen.state, State::Failed | State::Pending)).count();
    match (stopped, failed) {
        (None, 0) => Ok(()),
        // The rows have been printed; with --json they stand alone on standard output.
        _ if terminal.json => Err(Failure::silent()),
        (Some(error), _) => Err(Failure::new(
            format!("{} of {all} events were replayed, then: {error}.", done.len().saturating_sub(1)),
            "The last one is pending again, and the server goes on trying. Replay the others when Stripe answers.",
        )),
        (None, failed) => Err(Failure::new(
            format!("{failed} of {all} events are still not done."),
            "Their lines say why; docs/guide/paid-and-got-nothing.md says what to do about it.",
        )),
    }
}

/// The row of an event, if replaying it can mean anything.
fn replayable(deployment: &Deployment, event: &str) -> Result<String, Failure> {
    let ids = [event.to_owned(), inbox::row_id(event, true), inbox::row_id(event, false)];
    let found = deployment.read(move |tx| {
        for id in &ids {
            if let Some(seen) = inbox::find(tx, id)? {
                return Ok(Some(seen));
            }
        }
        Ok(None)
    })?;
    let Some(seen) = found else {
        return Err(Failure::new(
            format!("There is no event {event} here."),
            "See what there is with `tollgate billing events`. If it never came, fetch it with `tollgate billing sync`.",
        ));
    };
    if seen.subject.is_none() {
        let why = seen.effect.as_deref().unwrap_or("it means nothing here");
        return Err(Failure::new(
            format!("{event} ({}) was kept and ignored: {why}.", seen.kind),
            "There is nothing to replay.",
        ));
    }
    Ok(seen.id)
}

fn failed_ones(deployment: &Deployment) -> Result<Vec<String>, Failure> {
    let mut rows: Vec<Seen> = Vec::new();
    loop {
        let before = rows.last().map(|last| (last.received_at, last.id.clone()));
        let page = deployment.read(move |tx| {
            inbox::list(tx, Some(State::Failed), before.as_ref().map(|(at, id)| (*at, id.as_str())), PAGE)
        })?;
        if page.is_empty() {
            // Oldest first, as they came.
            return Ok(rows.into_iter().rev().map(|seen| seen.id).collect());
        }
        rows.extend(page);
    }
}

pub fn sync(loaded: Loaded, options: &SyncOptions, terminal: &Terminal) -> Outcome {
    let (deployment, desk) = open(loaded)?;
    let mode = if options.dry_run { Mode::DryRun } else { Mode::PutRight };
    let mut progress = Progress::new(terminal, "Looked at", "");
    let reconciled = deployment.block_on(desk.reconcile(mode, &mut |what, done| progress.count(done, what)));
    drop(progress);
    let report = reconciled.map_err(|error| not_reconciled(&error))?;
    terminal.result(&report_in_words(&report, mode), &report_in_json(&report, mode));
    match report.problems.len() {
        0 => Ok(()),
        _ if terminal.json => Err(Failure::silent()),
        _ => Err(Failure::new(
            "Something at Stripe does not fit what was sold here; everything else is up to date.",
            "Look at it in Stripe's dashboard. `tollgate credits grant` or `adjust` puts a balance right by hand.",
        )),
    }
}

fn not_reconciled(error: &Error) -> Failure {
    let next = match error {
        Error::Stripe(Trouble::Unavailable(_)) => "Nothing is lost: run it again when Stripe answers.",
        Error::Stripe(_) => "Check stripe.secret_key and its rights with `tollgate doctor`.",
        Error::Problem(_) => "Check the database with `tollgate doctor`, and run it again.",
    };
    Failure::new(format!("Not reconciled: {error}."), next)
}

fn report_in_words(report: &Report, mode: Mode) -> String {
    let mut text = format!(
        "Looked at {} events of the last 30 days, {} open checkouts and {} subscriptions.",
        report.events, report.checkouts, report.subscriptions
    );
    let never_came = match report.missed {
        0 => "\nEvery event had come.".to_owned(),
        missed => format!("\nEvents that never came: {missed}."),
    };
    text.push_str(&never_came);
    for effect in &report.effects {
        text.push_str(&format!("\n  {effect}"));
    }
    for problem in &report.problems {
        text.push_str(&format!("\nproblem  {problem}"));
    }
    text.push_str(&match mode {
        Mode::DryRun => "\nThis was a dry run: nothing was changed.".to_owned(),
        Mode::PutRight => format!("\nGranted {} credits.", report.granted),
    });
    text
}

fn report_in_json(report: &Report, mode: Mode) -> Value {
    json!({
        "dry_run": mode == Mode::DryRun,
        "events": report.events,
        "missed": report.missed,
        "checkouts": report.checkouts,
        "subscriptions": report.subscriptions,
        "granted": report.granted,
        "effects": report.effects,
        "problems": report.problems,
    })
}

/// The deployment with its way to Stripe.
fn open(loaded: Loaded) -> Result<(Deployment, Desk), Failure> {
    let deployment = Deployment::open(loaded)?;
    let vault = deployment.vault()?;
    let desk = selling::desk(&deployment.config, &deployment.store, &vault)?;
    let desk = desk.ok_or_else(|| {
        Failure::new(
            "stripe.secret_key is not set, so Stripe cannot be asked.",
            "Set it in the configuration or as TOLLGATE_STRIPE__SECRET_KEY, as for the server. The till of a running `dev` \
             has a page of its own, which delivers a lost event.",
        )
    })?;
    Ok((deployment, desk))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_was_done_and_a_dry_run_that_nothing_was() {
        let report = Report {
            events: 12,
            missed: 1,
            checkouts: 2,
            subscriptions: 3,
            granted: 500,
            effects: vec!["500 credits for small".into()],
            problems: vec!["session:cs_1: odd".into()],
        };
        let text = report_in_words(&report, Mode::PutRight);
        for part in [
            "12 events",
            "never came: 1",
            "  500 credits for small",
            "problem  session:cs_1: odd",
            "Granted 500",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(report_in_words(&report, Mode::DryRun).ends_with("nothing was changed."));
        assert_eq!(report_in_json(&report, Mode::DryRun)["dry_run"], true);
    }
}
