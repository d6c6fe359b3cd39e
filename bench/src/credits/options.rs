//! What can be asked for on the command line, and its bounds.

use clap::{Parser, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Debits on SQLite and PostgreSQL beside bare statements, over HTTP, and in a ledger that grows, as ratios.
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo xtask bench credits")]
pub struct Options {
    /// Short rounds and at most a million entries, to see that everything works; its figures mean little
    #[arg(long)]
    pub quick: bool,
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
    /// Only so many callers (in process)
    #[arg(long, value_delimiter = ',', value_name = "COUNT", default_values_t = [1, 8, 32, 128],
        value_parser = clap::value_parser!(u32).range(1..=256))]
    pub callers: Vec<u32>,
    /// Only these accounts (in process)
    #[arg(long, value_delimiter = ',', value_name = "WHICH", default_values = ["hot", "random"])]
    pub accounts: Vec<Accounts>,
    /// One JSON object instead of tables
    #[arg(long)]
    pub json: bool,
    /// Folder of the filled databases, some 15 GB at full size
    #[arg(long, default_value = "target/bench")]
    pub folder: PathBuf,
    /// The program under test
    #[arg(long, default_value = "target/release/tollgate")]
    pub tollgate: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SideName {
    TollgateSqlite,
    TollgatePostgres,
    /// One thread that updates and inserts, 32 debits a commit
    RawSqlite,
    /// One statement for each debit, as many connections as callers
    NaivePostgres,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// Debits in this process beside bare statements
    InProcess,
    /// Debits of the release binary beside its /healthz
    OverHttp,
    /// Debits in a ledger of many entries, and of an owner of many grants
    Growth,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Accounts {
    /// All debits on one
    Hot,
    /// Each debit on one of 10,000
    Random,
}

impl Options {
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

    /// What the measures should take, three times over, and an hour for filling.
    pub fn time_limit(&self) -> Duration {
        let rounds = (self.round() + Duration::from_secs(2)) * self.rounds();
        Duration::from_secs(3_600) + rounds * (self.callers.len() as u32 * 8 + 30) * 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed_and_bounded() {
        Options::command().debug_assert();
        let options = Options::parse_from(["bench", "--quick", "--only", "raw-sqlite", "--callers", "32"]);
        assert_eq!((options.rounds(), options.callers.as_slice()), (3, &[32][..]));
        assert!(options.wants_side(SideName::RawSqlite) && !options.wants_side(SideName::TollgateSqlite));
        assert_eq!(options.accounts, [Accounts::Hot, Accounts::Random]);
        assert!(Options::try_parse_from(["bench", "--callers", "0"]).is_err());
        assert!(Options::try_parse_from(["bench", "--rounds", "51"]).is_err());
    }
}
