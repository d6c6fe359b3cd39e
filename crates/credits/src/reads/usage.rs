//! What was spent in a period, by day, feature or caller, and how long the rest will last.

use super::{first_since, newest};
use crate::command::Period;
use crate::json::Object;
use crate::owner::{AccountId, Owner};
use crate::settings::Settings;
use jiff::Timestamp;
use kernel::Millis;
use kernel::time::DAY;
use std::collections::BTreeMap;
use store::{Error, Tx, params};

/// So many entries are looked at in a step.
const STEP: i64 = 5_000;

const SPENT: &str = "
    SELECT kind, amount, feature, actor, created_at FROM credit_entries
    WHERE account_id = $1 AND seq >= $2 AND seq < $3 AND kind IN ('debit', 'capture', 'refund') ORDER BY seq";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Day,
    Feature,
    /// Whoever asked for it: `key:…`, `user:…`.
    Key,
}

impl Group {
    pub fn name(self) -> &'static str {
        match self {
            Group::Day => "day",
            Group::Feature => "feature",
            Group::Key => "key",
        }
    }

    pub fn parse(text: &str) -> Option<Group> {
        [Group::Day, Group::Feature, Group::Key].into_iter().find(|group| group.name() == text)
    }
}

/// The work of adding up, in steps.
#[derive(Debug, Clone)]
pub struct Usage {
    account: AccountId,
    group: Group,
    from: Millis,
    to: Millis,
    next: i64,
    end: i64,
    sums: BTreeMap<Option<String>, Sum>,
    /// The day that the last entry fell on: from its start to the next one's.
    day: Option<(Millis, Millis, String)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    spent: i64,
    count: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct UsageItem {
    /// The day, feature or actor; `None`: an amount without a feature.
    pub name: Option<String>,
    /// Debits and captures less refunds, each at its own time.
    pub spent: i64,
    /// Of debits and captures.
    pub count: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub group: Group,
    pub items: Vec<UsageItem>,
    pub total: i64,
    pub burn_per_day: f64,
    /// At that rate; `None` when nothing is being spent.
    pub days_left: Option<f64>,
}

impl Usage {
    /// From `from` up to but not including `to`.
    pub fn begin(
        tx: &mut Tx<'_>,
        owner: &Owner,
        unit: &str,
        group: Group,
        from: Millis,
        to: Millis,
    ) -> Result<Usage, Error> {
        let account = AccountId::of(owner, unit);
        let (mut next, mut end) = (1, 1);
        if let Some(newest) = newest(tx, &account)? {
            next = first_since(tx, &account, newest, from)?;
            end = first_since(tx, &account, newest, to)?;
        }
        Ok(Usage { account, group, from, to, next, end, sums: BTreeMap::new(), day: None })
    }

    /// Does a piece of the work; false when all is done.
    pub fn step(&mut self, tx: &mut Tx<'_>, settings: &Settings) -> Result<bool, Error> {
        if self.next >= self.end {
            return Ok(false);
        }
        let (first, behind) = (self.next, self.end.min(self.next + STEP));
        self.next = behind;
        let account = self.account.as_str().to_string();
        tx.query(SPENT, params![&account, first, behind], |row| {
            let is_charge = row.text(0)? != "refund";
            let amount: i64 = row.get(1)?;
            let sum = match self.group {
                Group::Day => self.sum_of_day(settings, row.get(4)?),
                Group::Feature => self.sum(row.text_or_null(2)?),
                Group::Key => self.sum(Some(row.text(3)?)),
            };
            sum.spent -= amount;
            sum.count += i64::from(is_charge);
            Ok(())
        })?;
        Ok(true)
    }

    fn sum(&mut self, name: Option<&str>) -> &mut Sum {
        self.sums.entry(name.map(str::to_string)).or_default()
    }

    fn sum_of_day(&mut self, settings: &Settings, at: Millis) -> &mut Sum {
        let same = self.day.take().filter(|(start, end, _)| (*start..*end).contains(&at));
        let (start, end, name) = same.unwrap_or_else(|| {
            let (start, end) = settings.window(Period::Day, at);
            (start, end, day_name(settings, at))
        });
        self.day = Some((start, end, name.clone()));
        self.sums.entry(Some(name)).or_default()
    }

    /// Days in their order, everything else by what was spent. `available` is what is left now.
    pub fn finish(self, available: i64, now: Millis) -> Report {
        let item =
            |(name, sum): (Option<String>, Sum)| UsageItem { name, spent: sum.spent, count: sum.count };
        let mut items: Vec<UsageItem> = self.sums.into_iter().map(item).collect();
        if self.group != Group::Day {
            items.sort_by_key(|item| std::cmp::Reverse(item.spent));
        }
        let total: i64 = items.iter().map(|item| item.spent).sum();
        // What lies in the future cannot have been spent in.
        let days = (self.to.min(now).0 - self.from.0).max(1) as f64 / DAY as f64;
        let burn = total as f64 / days;
        Report {
            group: self.group,
            items,
            total,
            burn_per_day: rounded(burn),
            days_left: (burn > 0.0).then(|| rounded(available.max(0) as f64 / burn)),
        }
    }
}

impl Report {
    pub fn json(&self) -> String {
        let item = |item: &UsageItem| {
            let mut object = Object::new();
            object.text_or_null(self.group.name(), item.name.as_deref());
            object.number("spent", item.spent);
            object.number("count", item.count);
            object.end()
        };
        let items: Vec<String> = self.items.iter().map(item).collect();
        let mut object = Object::new();
        object.raw("items", &format!("[{}]", items.join(",")));
        object.number("total", self.total);
        object.raw("burn_per_day", &self.burn_per_day.to_string());
        object.raw("days_left", &self.days_left.map_or("null".into(), |days| days.to_string()));
        object.end()
    }
}

fn day_name(settings: &Settings, at: Millis) -> String {
    let at = Timestamp::from_millisecond(at.0).unwrap_or(Timestamp::UNIX_EPOCH);
    at.to_zoned(settings.time_zone.clone()).date().to_string()
}

/// To hundredths: these are estimates.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
