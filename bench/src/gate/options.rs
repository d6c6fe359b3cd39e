//! What can be asked for on the command line, and its bounds.

use clap::{Parser, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// The gate's one call beside /healthz, beside two calls and beside a Node backend with its own debits, as ratios.
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo xtask bench gate")]
pub struct Options {
    /// 20,000 users and short rounds, to see that everything works; its figures mean little
    #[arg(long)]
    pub quick: bool,
    /// Users, each with one session [default: 1000000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    rows: Option<u32>,
    /// Rounds of each measure; the sides take turns within a round [default: 5]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: Option<u32>,
    /// Measured seconds of one side in one round [default: 3]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: Option<u64>,
    /// Only these sides
    #[arg(long, value_delimiter = ',', value_name = "SIDE")]
    only: Vec<SideName>,
    /// Only these measures
    #[arg(long, value_delimiter = ',', value_name = "MEASURE")]
    measure: Vec<Measure>,
    /// One JSON object instead of tables
    #[arg(long)]
    pub json: bool,
    /// Folder of the filled databases, some 8 GB at full size
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
    /// Better Auth and the Node backend (authorize)
    BetterAuth,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// Without and with a charge, beside /healthz and beside a Node backend that asks Better Auth and debits by itself
    Authorize,
    /// One call with a charge beside a session check and then a debit
    OneCall,
    /// Session checks through tollgate-client, 500 a second, alone and during 200 parallel sign-ins
    Client,
}

impl Options {
    pub fn rows(&self) -> u32 {
        self.rows.unwrap_or(if self.quick { 20_000 } else { 1_000_000 })
    }

    pub fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 3 } else { 5 })
    }

    pub fn round(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(if self.quick { 1 } else { 3 }))
    }

    pub fn wants_side(&self, side: SideName) -> bool {
        self.only.is_empty() || self.only.contains(&side)
    }

    pub fn wants(&self, measure: Measure) -> bool {
        self.measure.is_empty() || self.measure.contains(&measure)
    }

    /// Long enough for a 99th percentile of 500 a second.
    pub fn storm(&self) -> Duration {
        Duration::from_secs(if self.quick { 3 } else { 6 }).max(self.round())
    }

    pub fn program(&self) -> Result<PathBuf, String> {
        let file = &self.tollgate;
        file.canonicalize().map_err(|error| format!("{}: {error}; build it first", file.display()))
    }

    /// What the measures should take, three times over, and an hour for filling.
    pub fn time_limit(&self) -> Duration {
        let rounds = (self.round() + Duration::from_secs(2)) * self.rounds();
        Duration::from_secs(3_600) + rounds * 40 * 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed_and_bounded() {
        Options::command().debug_assert();
        let options = Options::parse_from(["bench", "--quick", "--measure", "one-call,client"]);
        assert_eq!((options.rows(), options.rounds()), (20_000, 3));
        assert!(options.wants(Measure::Client) && !options.wants(Measure::Authorize));
        assert!(options.wants_side(SideName::BetterAuth));
        assert!(Options::try_parse_from(["bench", "--only", "bare-handler"]).is_err());
        assert!(Options::try_parse_from(["bench", "--rows", "99"]).is_err());
    }
}
