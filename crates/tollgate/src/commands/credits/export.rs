//! `tollgate credits export`: entries as a file, newest first, of one owner or of all.

use super::{refuse_strangers, time, unit, whose};
use crate::config::Loaded;
use crate::deployment::Deployment;
use crate::terminal::{Failure, Outcome, Terminal};
use credits::reads::{CSV_HEADER, Filter, Listed, Walk, csv_line};
use credits::{Owner, owners_after};
use kernel::Millis;
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Entries that are read at once.
const STEP: usize = 1_000;
/// Owners that are read at once.
const OWNERS: i64 = 500;

#[derive(Debug, clap::Args)]
pub struct ExportOptions {
    /// Address or id [default: everybody, and each line begins with the owner]
    #[arg(conflicts_with = "organization")]
    user: Option<String>,
    /// In place of a user
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// Only entries of this unit [default: of all]
    #[arg(long)]
    unit: Option<String>,
    #[arg(long, default_value = "csv", value_parser = ["csv", "ndjson"])]
    format: String,
    /// Where it goes; an existing file is not replaced [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// From this time on, such as 2027-01-01 or 2027-01-01T12:00:00Z
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Up to and without this time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
}

/// What of an owner's entries is wanted.
struct Wanted {
    unit: Option<String>,
    from: Option<Millis>,
    to: Option<Millis>,
}

pub fn export(loaded: Loaded, options: &ExportOptions, terminal: &Terminal) -> Outcome {
    if terminal.json && options.output.is_none() {
        let next = "Write the entries as JSON with --format ndjson, or into a file with --output.";
        return Err(Failure::new("The entries take standard output, so --json has no place there.", next));
    }
    let from = options.from.as_deref().map(|text| time(text, "--from")).transpose()?;
    let to = options.to.as_deref().map(|text| time(text, "--to")).transpose()?;
    let deployment = Deployment::open(loaded)?;
    let unit =
        options.unit.as_deref().map(|given| unit(Some(given), &deployment.config.credits)).transpose()?;
    let wanted = Wanted { unit, from, to };
    let owner = match (&options.user, &options.organization) {
        (None, None) => None,
        (user, organization) => {
            let whose = whose(&deployment, user.as_deref(), organization.as_deref())?;
            refuse_strangers(&deployment, &whose)?;
            Some(whose.owner)
        }
    };
    let ndjson = options.format == "ndjson";
    let Some(path) = &options.output else {
        let mut lines = Lines::new(std::io::stdout().lock(), ndjson, owner.is_none());
        return match everything(&deployment, owner, &wanted, &mut lines) {
            Err(Stopped::Writing(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            Err(stopped) => Err(stopped.into_failure("Standard output")),
            Ok(()) => Ok(()),
        };
    };
    let mut lines = Lines::new(create(path)?, ndjson, owner.is_none());
    if let Err(stopped) = everything(&deployment, owner, &wanted, &mut lines) {
        // Half a file looks like a whole one.
        let _ = std::fs::remove_file(path);
        return Err(stopped.into_failure(&path.display().to_string()));
    }
    let count = lines.count;
    let text = format!("Wrote {}: {count} entries, newest first for each owner.", path.display());
    terminal.result(&text, &json!({"file": path, "format": options.format, "entries": count}));
    Ok(())
}

/// For the operator's eyes only: it tells what people bought and did.
fn create(path: &Path) -> Result<File, Failure> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
        match error.kind() {
            ErrorKind::AlreadyExists => Failure::new(
                format!("{} exists already.", path.display()),
                "Choose another name, or remove it.",
            ),
            _ => Failure::new(
                format!("{} cannot be written: {error}.", path.display()),
                "Choose another place.",
            ),
        }
    })
}

enum Stopped {
    Reading(Failure),
    Writing(std::io::Error),
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Stopped {
        Stopped::Reading(failure)
    }
}

impl From<std::io::Error> for Stopped {
    fn from(error: std::io::Error) -> Stopped {
        Stopped::Writing(error)
    }
}

impl Stopped {
    fn into_failure(self, place: &str) -> Failure {
        match self {
            Stopped::Reading(failure) => failure,
            Stopped::Writing(error) => {
                Failure::new(format!("{place} cannot be written: {error}."), "Free some space and try again.")
            }
        }
    }
}

fn everything<W: Write>(
    deployment: &Deployment,
    owner: Option<Owner>,
    wanted: &Wanted,
    lines: &mut Lines<W>,
) -> Result<(), Stopped> {
    lines.begin()?;
    if let Some(owner) = owner {
        of_owner(deployment, owner, wanted, lines)?;
        return Ok(lines.out.flush()?);
    }
    let mut last = None;
    loop {
        let before = last.clone();
        let owners = deployment.read(move |tx| owners_after(tx, before.as_ref(), OWNERS))?;
        let Some(newest) = owners.last() else { break };
        last = Some(newest.clone());
        for owner in owners {
            of_owner(deployment, owner, wanted, lines)?;
        }
    }
    Ok(lines.out.flush()?)
}

/// In short reads, so that neither memory nor the database is held for long.
fn of_owner<W: Write>(
    deployment: &Deployment,
    owner: Owner,
    wanted: &Wanted,
    lines: &mut Lines<W>,
) -> Result<(), Stopped> {
    let name = owner.to_string();
    let Wanted { unit, from, to } = wanted;
    let filter = Filter { owner, unit: unit.clone(), kinds: Vec::new(), from: *from, to: *to };
    let Some(mut walk) = deployment.read(move |tx| Walk::begin(tx, &filter))? else { return Ok(()) };
    while !walk.is_over() {
        let (next, entries) = deployment.read(move |tx| {
            let mut next = walk.clone();
            let entries = next.step(tx, STEP)?;
            Ok((next, entries))
        })?;
        walk = next;
        for entry in &entries {
            lines.add(&name, entry)?;
        }
    }
    Ok(())
}

struct Lines<W: Write> {
    out: BufWriter<W>,
    ndjson: bool,
    /// Each line begins with the owner, which a list of one owner's entries does not name.
    with_owner: bool,
    line: String,
    count: u64,
}

impl<W: Write> Lines<W> {
    fn new(out: W, ndjson: bool, with_owner: bool) -> Lines<W> {
        Lines { out: BufWriter::new(out), ndjson, with_owner, line: String::new(), count: 0 }
    }

    fn begin(&mut self) -> std::io::Result<()> {
        if self.ndjson {
            return Ok(());
        }
        let owner = if self.with_owner { "owner," } else { "" };
        write!(self.out, "{owner}{CSV_HEADER}")
    }

    fn add(&mut self, owner: &str, entry: &Listed) -> std::io::Result<()> {
        self.count += 1;
        self.line.clear();
        match (self.ndjson, self.with_owner) {
            (true, false) => self.line.push_str(&entry.json()),
            // The entry is an object with members of its own: they follow.
            (true, true) => {
                self.line.push_str(&format!("{{\"owner\":{},{}", json!(owner), &entry.json()[1..]))
            }
            (false, false) => csv_line(&mut self.line, entry),
            (false, true) => {
                self.line.push_str(&format!("\"{}\",", owner.replace('"', "\"\"")));
                csv_line(&mut self.line, entry);
            }
        }
        if self.ndjson {
            self.line.push('\n');
        }
        self.out.write_all(self.line.as_bytes())
    }
}
