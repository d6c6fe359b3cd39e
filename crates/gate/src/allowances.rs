//! What guests may do without an account, and how often: so many times a guest and so many times a client address, counted
//! in both places or in neither.

use kernel::{ClientAddress, GuestId, Millis, time};
use std::collections::BTreeMap;
use store::{Budget, Counters, Error, Spent, Taken, WithoutRedis};

/// From the first use of an action until it may be used anew.
pub const WINDOW: i64 = time::DAY;
/// What one address may do for each guest's allowance, unless configured: a household, and a cleared cookie now and then.
pub const GUESTS_AN_ADDRESS: i64 = 5;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowance {
    /// Times a guest.
    pub guest: i64,
    /// Times a client address, whoever comes from there.
    pub address: i64,
}

#[derive(Debug, Clone, Default)]
pub struct Allowances {
    pub actions: BTreeMap<String, Allowance>,
    pub without_redis: WithoutRedis,
}

/// How a guest stands with an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub action: String,
    pub limit: i64,
    pub used: i64,
    /// `None` before the first use.
    pub resets_at: Option<Millis>,
}

impl Standing {
    pub fn remaining(&self) -> i64 {
        (self.limit - self.used).max(0)
    }
}

/// What became of an action that a guest asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    Allowed(Standing),
    /// Nothing was counted. The figures are those of the count that is used up.
    UsedUp {
        whose: Whose,
        standing: Standing,
    },
    /// The configuration names no such action.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    Guest,
    Address,
}

impl Allowances {
    pub fn knows(&self, action: &str) -> bool {
        self.actions.contains_key(action)
    }

    /// Counts an action once for the guest and once for the address that it comes from.
    pub async fn take(
        &self,
        counters: &Counters,
        action: &str,
        guest: &GuestId,
        client: ClientAddress,
        now: Millis,
    ) -> Result<Asked, Error> {
        let Some(allowance) = self.actions.get(action) else { return Ok(Asked::Unknown) };
        let budgets = vec![
            Budget { key: of_guest(action, guest), max: allowance.guest },
            Budget { key: format!("guest-address:{action}:{}", client.bucket()), max: allowance.address },
        ];
        let standing = |limit: i64, spent: Spent| Standing {
            action: action.to_owned(),
            limit,
            used: spent.count,
            resets_at: spent.ends_at,
        };
        Ok(match counters.take(budgets, WINDOW, now, self.without_redis).await? {
            Taken::Counted(spent) => {
                Asked::Allowed(standing(allowance.guest, spent.first().copied().unwrap_or_default()))
            }
            Taken::Refused { at: 0, spent } => {
                Asked::UsedUp { whose: Whose::Guest, standing: standing(allowance.guest, spent) }
            }
            Taken::Refused { spent, .. } => {
                Asked::UsedUp { whose: Whose::Address, standing: standing(allowance.address, spent) }
            }
        })
    }

    /// All actions of somebody who has done nothing yet, in the order of their names.
    pub fn untouched(&self) -> Vec<Standing> {
        let standing = |(action, allowance): (&String, &Allowance)| Standing {
            action: action.clone(),
            limit: allowance.guest,
            used: 0,
            resets_at: None,
        };
        self.actions.iter().map(standing).collect()
    }

    /// All actions as the guest stands with them.
    pub async fn look(
        &self,
        counters: &Counters,
        guest: &GuestId,
        now: Millis,
    ) -> Result<Vec<Standing>, Error> {
        let mut standings = self.untouched();
        let keys = standings.iter().map(|standing| of_guest(&standing.action, guest)).collect();
        let spent = counters.spent(keys, now, self.without_redis).await?;
        for (standing, spent) in standings.iter_mut().zip(spent) {
            (standing.used, standing.resets_at) = (spent.count, spent.ends_at);
        }
        Ok(standings)
    }
}

fn of_guest(action: &str, guest: &GuestId) -> String {
    format!("guest:{action}:{guest}")
}
