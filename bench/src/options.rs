//! What can be asked for on the command line, and its bounds.

use clap::{Parser, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Tollgate beside its peers: session checks and sign-ins, all sides in one run, as ratios.
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo xtask bench sessions")]
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
    /// Processes of Better Auth (node:cluster)
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub peer_workers: u32,
    /// One JSON object instead of tables
    #[arg(long)]
    pub json: bool,
    /// Folder of the filled databases, some 8 GB at full size
    #[arg(long, default_value = "target/bench")]
    pub folder: PathBuf,
    /// The program under test
    #[arg(long, default_value = "target/release/tollgate")]
    pub tollgate: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SideName {
    TollgateSqlite,
    /// On SQLite with every way to sign in switched on
    TollgateEveryMethod,
    TollgatePostgres,
    BetterAuth,
    BareHandler,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// From the start of the process to its first answer
    Start,
    /// Session checks at full speed
    GetSession,
    /// Sign-ins at full speed
    SignIn,
    /// 500 session checks a second, alone and during 200 parallel sign-ins
    Storm,
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

    /// Long enough for a 99th percentile of 500 a second.
    pub fn storm(&self) -> Duration {
        Duration::from_secs(if self.quick { 3 } else { 6 }).max(self.round())
    }

    pub fn wants_side(&self, side: SideName) -> bool {
        self.only.is_empty() || self.only.contains(&side)
    }

    pub fn wants(&self, measure: Measure) -> bool {
        self.measure.is_empty() || self.measure.contains(&measure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed_and_bounded() {
        Options::command().debug_assert();
        let options = Options::parse_from(["bench", "--quick", "--only", "better-auth,bare-handler"]);
        assert_eq!((options.rows(), options.rounds()), (20_000, 3));
        assert!(options.wants_side(SideName::BareHandler) && !options.wants_side(SideName::TollgateSqlite));
        assert!(options.wants(Measure::Storm));
        assert!(Options::try_parse_from(["bench", "--rounds", "51"]).is_err());
        assert!(Options::try_parse_from(["bench", "--seconds", "0"]).is_err());
    }
}
