//! `tollgate hooks`: endpoints of outgoing events and the log of deliveries.

use super::credits::time;
use crate::config::Loaded;
use crate::deployment::{Deployment, now};
use crate::terminal::{Failure, Outcome, Terminal};
use hooks::{Endpoint, Filter, Kind, Logged, Place, Reach, Resend, State, Wanted};
use kernel::{Millis, random};
use serde_json::{Value, json};

#[derive(Debug, clap::Args)]
pub struct AddOptions {
    /// Where events go: https, or http on this machine
    url: String,
    /// Which ones, separated by commas [default: all, those of later versions as well]
    #[arg(long, value_delimiter = ',', value_name = "EVENT")]
    events: Option<Vec<String>>,
}

#[derive(Debug, clap::Args)]
#[command(override_usage = "tollgate hooks resend [OPTIONS] <EVENT|--since <TIME>>")]
pub struct ResendOptions {
    /// One event, as `hooks log` shows it
    #[arg(required_unless_present = "since", conflicts_with = "since")]
    event: Option<String>,
    /// All events from this time on, such as 2027-01-01 or 2027-01-01T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// To this endpoint only [default: all that want them]
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
    /// Only what was given up
    #[arg(long)]
    failed: bool,
}

#[derive(Debug, clap::Args)]
pub struct LogOptions {
    /// Only this event, with what is sent
    event: Option<String>,
    /// Only this endpoint
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
    #[arg(long, value_parser = ["waiting", "delivered", "failed"])]
    state: Option<String>,
    /// How many lines
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=1000))]
    limit: i64,
}

pub fn add(loaded: Loaded, options: &AddOptions, terminal: &Terminal) -> Outcome {
    let url = hooks::target(&options.url).map_err(|error| {
        Failure::new(
            format!("Nothing was added: {error}."),
            "Give an address such as https://app.example.com/hooks.",
        )
    })?;
    let wanted = wanted(options.events.as_deref())?;
    let deployment = Deployment::open(loaded)?;
    // What `dev` may reach; whether this is for `serve` is not known here.
    let reach = Reach { loopback: true, private: deployment.config.hooks.allow_private };
    if url.host().is_some_and(|host| !reach.allows_host(&host)) {
        return Err(Failure::new(
            "Nothing was added: this is a private address, which events do not go to.",
            "Give a public one, or set allow_private = true in [hooks].",
        ));
    }
    let inside =
        url.host().is_some_and(|host| !Reach::default().allows_host(&host)) || url.scheme() == "http";
    let vault = deployment.vault()?;
    let add =
        move |tx: &mut store::Tx<'_>| hooks::add(tx, &vault, &url, &wanted, now(), &mut random::secure());
    let (endpoint, secret) = deployment.write(add)?;
    let mut text = format!(
        "{}\n\nThis secret signs what is sent to {}. It is shown only now; give it to whoever checks the signatures there.\n\
         The endpoint is {} and gets {} from now on.",
        secret.expose(),
        endpoint.url,
        endpoint.id,
        told(&endpoint.wanted)
    );
    if inside && !deployment.config.hooks.allow_private {
        text.push_str("\n`tollgate serve` reaches this machine only with allow_private = true in [hooks]; `tollgate dev` does anyway.");
    }
    let mut json = to_json(&endpoint);
    json["secret"] = secret.expose().as_str().into();
    terminal.result(&text, &json);
    Ok(())
}

fn wanted(names: Option<&[String]>) -> Result<Wanted, Failure> {
    let names = names.unwrap_or_default().iter().map(|name| name.trim());
    Wanted::parse(names).map_err(|stranger| {
        let all: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        Failure::new(format!("There is no event `{stranger}`."), format!("Choose from {}.", all.join(", ")))
    })
}

fn told(wanted: &Wanted) -> String {
    match wanted {
        Wanted::All => "all events".into(),
        these => these.text().replace(',', ", "),
    }
}

pub fn list(loaded: Loaded, terminal: &Terminal) -> Outcome {
    let endpoints = Deployment::open(loaded)?.read(hooks::list)?;
    let line = |endpoint: &Endpoint| {
        let state = match (endpoint.disabled_at, endpoint.failing_since) {
            (Some(at), _) => format!("switched off {}", at.iso()),
            (None, Some(since)) => format!("takes nothing since {}", since.iso()),
            (None, None) => "on".to_owned(),
        };
        format!("{}  {}  {}  {state}", endpoint.id, endpoint.url, told(&endpoint.wanted))
    };
    let text = match endpoints.as_slice() {
        [] => "There are no endpoints. Make one with `tollgate hooks add URL`.".to_owned(),
        endpoints => endpoints.iter().map(line).collect::<Vec<_>>().join("\n"),
    };
    terminal.result(&text, &json!({"items": endpoints.iter().map(to_json).collect::<Vec<_>>()}));
    Ok(())
}

fn to_json(endpoint: &Endpoint) -> Value {
    let events = match &endpoint.wanted {
        Wanted::All => Value::Null,
        Wanted::These(kinds) => kinds.iter().map(|kind| kind.name()).collect(),
    };
    let time = |time: Option<Millis>| time.map(Millis::iso);
    json!({
        "id": endpoint.id, "url": endpoint.url, "events": events, "created_at": endpoint.created_at.iso(),
        "failing_since": time(endpoint.failing_since), "disabled_at": time(endpoint.disabled_at),
    })
}

pub fn remove(loaded: Loaded, id: &str, terminal: &Terminal) -> Outcome {
    let owned = id.to_owned();
    if !Deployment::open(loaded)?.write(move |tx| hooks::remove(tx, &owned))? {
        return Err(unknown(id));
    }
    let text = format!("Removed {id} with its deliveries. Nothing is sent there any more.");
    terminal.result(&text, &json!({"id": id, "removed": true}));
    Ok(())
}

pub fn enable(loaded: Loaded, id: &str, terminal: &Terminal) -> Outcome {
    let owned = id.to_owned();
    if !Deployment::open(loaded)?.write(move |tx| hooks::enable(tx, &owned))? {
        return Err(unknown(id));
    }
    let text = format!(
        "{id} is on and gets new events. What it missed comes with `tollgate hooks resend --since TIME --endpoint {id}`."
    );
    terminal.result(&text, &json!({"id": id, "enabled": true}));
    Ok(())
}

fn unknown(id: &str) -> Failure {
    Failure::new(format!("There is no endpoint `{id}`."), "`tollgate hooks list` shows all endpoints.")
}

pub fn resend(loaded: Loaded, options: &ResendOptions, terminal: &Terminal) -> Outcome {
    let what = match (&options.event, &options.since) {
        (Some(event), _) => Resend::Event(event.clone()),
        (None, Some(since)) => Resend::Since(time(since, "--since")?),
        (None, None) => return Err(Failure::new("Nothing was sent.", "Give an event, or --since TIME.")),
    };
    let deployment = Deployment::open(loaded)?;
    if let Some(id) = options.endpoint.clone() {
        let found = deployment.read({
            let id = id.clone();
            move |tx| hooks::find(tx, &id)
        })?;
        let endpoint = found.ok_or_else(|| unknown(&id))?;
        if endpoint.disabled_at.is_some() {
            let what = format!("{id} is switched off, so nothing was sent.");
            return Err(Failure::new(what, format!("Switch it on first: `tollgate hooks enable {id}`.")));
        }
    }
    if let Some(event) = options.event.clone() {
        let known = deployment.read({
            let event = event.clone();
            move |tx| hooks::find_event(tx, &event)
        })?;
        if known.is_none() {
            let what = format!("There is no event `{event}`, or it is older than retention.hook_events.");
            return Err(Failure::new(what, "`tollgate hooks log` shows what there is."));
        }
    }
    let (mut deliveries, mut place): (u64, Option<Place>) = (0, None);
    loop {
        let (what, endpoint, failed, from) =
            (what.clone(), options.endpoint.clone(), options.failed, place.clone());
        let (more, next) = deployment
            .write(move |tx| hooks::resend(tx, &what, endpoint.as_deref(), failed, from.as_ref(), now()))?;
        deliveries += more;
        place = next;
        if place.is_none() {
            break;
        }
    }
    let text = match deliveries {
        0 if options.failed => {
            "Nothing fits: no such delivery to an endpoint that is on was given up.".to_owned()
        }
        0 => "Nothing fits: no endpoint that is on wants such an event.".to_owned(),
        1 => "1 delivery waits now; a running server sends it at once.".to_owned(),
        many => format!("{many} deliveries wait now; a running server sends them at once."),
    };
    terminal.result(&text, &json!({"deliveries": deliveries}));
    Ok(())
}

pub fn log(loaded: Loaded, options: &LogOptions, terminal: &Terminal) -> Outcome {
    let filter = Filter {
        event: options.event.clone(),
        endpoint: options.endpoint.clone(),
        state: options.state.as_deref().and_then(State::parse),
    };
    let (event, limit) = (options.event.clone(), options.limit);
    let (lines, payload) = Deployment::open(loaded)?.read(move |tx| {
        let payload = match &event {
            Some(event) => hooks::find_event(tx, event)?,
            None => None,
        };
        Ok((hooks::log(tx, &filter, limit)?, payload))
    })?;
    let mut text = match lines.as_slice() {
        [] => "There are no such deliveries.".to_owned(),
        lines => lines.iter().map(line).collect::<Vec<_>>().join("\n"),
    };
    let mut json = json!({"items": lines.iter().map(line_json).collect::<Vec<_>>()});
    if let Some(payload) = payload {
        text.push_str(&format!("\n{payload}"));
        json["payload"] = serde_json::from_str(&payload).unwrap_or(Value::String(payload));
    }
    terminal.result(&text, &json);
    Ok(())
}

fn line(logged: &Logged) -> String {
    let mut text = format!(
        "{}  {}  {}  {}  {}  tried {}",
        logged.created_at.iso(),
        logged.event,
        logged.kind,
        logged.endpoint,
        logged.state.name(),
        logged.attempts
    );
    if let Some(status) = logged.status {
        text.push_str(&format!("  {status}"));
    }
    for part in [&logged.error, &logged.answer].into_iter().flatten().filter(|part| !part.is_empty()) {
        text.push_str(&format!("  {part}"));
    }
    if logged.state == State::Waiting && logged.attempts > 0 {
        text.push_str(&format!("  again {}", logged.due_at.iso()));
    }
    text
}

fn line_json(logged: &Logged) -> Value {
    let due_at = (logged.state == State::Waiting).then(|| logged.due_at.iso());
    json!({
        "event": logged.event, "type": logged.kind, "endpoint": logged.endpoint, "state": logged.state.name(),
        "attempts": logged.attempts, "status": logged.status, "answer": logged.answer, "error": logged.error,
        "created_at": logged.created_at.iso(), "tried_at": logged.tried_at.map(Millis::iso), "due_at": due_at,
    })
}
