//! What can be asked for on the command line, and its bounds.

use clap::{Parser, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Deliveries of Stripe's at a steady rate, and session checks while checkouts hang at Stripe.
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo xtask bench billing")]
pub struct Options {
    /// A few seconds of each, to see that everything works; its figures mean little
    #[arg(long)]
    pub quick: bool,
    /// Deliveries in a second
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub per_second: u32,
    /// Seconds of deliveries [default: 60]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: Option<u32>,
    /// Only these sides
    #[arg(long, value_delimiter = ',', value_name = "SIDE")]
    only: Vec<SideName>,
    /// Only these measures
    #[arg(long, value_delimiter = ',', value_name = "MEASURE")]
    measure: Vec<Measure>,
    /// One JSON object instead of tables
    #[arg(long)]
    pub json: bool,
    /// Folder of the filled databases
    #[arg(long, default_value = "target/bench")]
    pub folder: PathBuf,
    /// The program under test
    #[arg(long, default_value = "target/release/tollgate")]
    tollgate: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SideName {
    TollgateSqlite,
    TollgatePostgres,
}

impl SideName {
    pub fn key(self) -> &'static str {
        match self {
            SideName::TollgateSqlite => "tollgate-sqlite",
            SideName::TollgatePostgres => "tollgate-postgres",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            SideName::TollgateSqlite => "Tollgate on SQLite",
            SideName::TollgatePostgres => "Tollgate on PostgreSQL",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// Events of paid packs, a tenth of them twice: how fast they are answered and worked off, and whether any is lost
    Deliveries,
    /// Session checks, 500 a second, while 100 checkouts hang at Stripe
    Hanging,
}

impl Options {
    /// Users. Each delivery that is no copy is for somebody else.
    pub fn rows(&self) -> u32 {
        self.deliveries().max(10_000)
    }

    pub fn seconds(&self) -> u32 {
        self.seconds.unwrap_or(if self.quick { 3 } else { 60 })
    }

    pub fn deliveries(&self) -> u32 {
        self.per_second * self.seconds()
    }

    /// Long enough for a 99th percentile of 500 a second, and shorter than a person's patience.
    pub fn checked(&self) -> Duration {
        Duration::from_secs(if self.quick { 2 } else { 6 })
    }

    pub fn wants_side(&self, side: SideName) -> bool {
        self.only.is_empty() || self.only.contains(&side)
    }

    pub fn wants(&self, measure: Measure) -> bool {
        self.measure.is_empty() || self.measure.contains(&measure)
    }

    pub fn program(&self) -> Result<PathBuf, String> {
        let file = &self.tollgate;
        file.canonicalize().map_err(|error| format!("{}: {error}; build it first", file.display()))
    }

    pub fn time_limit(&self) -> Duration {
        Duration::from_secs(1_200) + Duration::from_secs(self.seconds().into()) * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed_and_bounded() {
        Options::command().debug_assert();
        let options = Options::parse_from(["bench", "--quick", "--measure", "hanging"]);
        assert_eq!((options.seconds(), options.deliveries(), options.rows()), (3, 300, 10_000));
        assert!(options.wants(Measure::Hanging) && !options.wants(Measure::Deliveries));
        assert!(Options::try_parse_from(["bench", "--only", "better-auth"]).is_err());
        assert!(Options::try_parse_from(["bench", "--per-second", "0"]).is_err());
    }
}
