//! The rules once more, as slowly and plainly as they can be said: credits are taken one by one, and every sum is made
//! anew from the entries and holds.

use crate::command::{Above, Action, Period, Shortfall};
use crate::entry::{Kind, Source};
use crate::settings::Settings;
use kernel::Millis;

#[derive(Debug, Clone)]
pub struct Lot {
    pub no: i64,
    pub source: Source,
    pub left: i64,
    pub priority: i64,
    pub end: Option<Millis>,
    pub since: Millis,
    pub ended: bool,
    /// How much may be carried over when something of this lot is.
    pub rollover: Option<i64>,
    pub carried: bool,
}

#[derive(Debug, Clone)]
pub struct Hold {
    pub no: i64,
    /// The lot of each credit, in the order in which they were taken.
    pub credits: Vec<i64>,
    pub open: bool,
    /// A freeze has none.
    pub end: Option<Millis>,
    pub since: Millis,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub kind: Kind,
    pub amount: i64,
    pub balance_after: i64,
    /// Lot and signed amount; neighbours of one lot are one.
    pub parts: Vec<(Option<i64>, i64)>,
    pub at: Millis,
    pub gives_back: Option<usize>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum No {
    NotFound,
    Insufficient { balance: i64, available: i64, required: i64 },
    Conflict { refundable: Option<i64> },
    Limit { period: Period, max: i64, used: i64 },
    Invalid { field: &'static str },
}

#[derive(Debug, Clone, Default)]
pub struct Model {
    pub lots: Vec<Lot>,
    pub holds: Vec<Hold>,
    pub entries: Vec<Entry>,
    pub debt: i64,
    pub floor: i64,
    pub limits: Vec<(Period, i64)>,
    /// The latest moment of which something is known.
    last: Millis,
}

impl Lot {
    /// One without anything special, of which nothing is left.
    fn adjusted(since: Millis) -> Lot {
        Lot {
            no: 0,
            source: Source::Adjustment,
            left: 0,
            priority: 50,
            end: None,
            since,
            ended: false,
            rollover: None,
            carried: false,
        }
    }
}

fn runs(credits: &[Option<i64>], sign: i64) -> Vec<(Option<i64>, i64)> {
    let mut parts: Vec<(Option<i64>, i64)> = Vec::new();
    for lot in credits {
        match parts.last_mut() {
            Some((last, amount)) if last == lot => *amount += sign,
            _ => parts.push((*lot, sign)),
        }
    }
    parts
}

impl Model {
    pub fn balance(&self) -> i64 {
        self.lots.iter().map(|lot| lot.left).sum::<i64>() - self.debt
    }

    pub fn held(&self) -> i64 {
        self.holds.iter().filter(|hold| hold.open).map(|hold| hold.credits.len() as i64).sum()
    }

    pub fn available(&self) -> i64 {
        self.balance() - self.held()
    }

    pub fn held_of(&self, lot: i64) -> i64 {
        let open = self.holds.iter().filter(|hold| hold.open);
        open.flat_map(|hold| &hold.credits).filter(|of| **of == lot).count() as i64
    }

    fn free_of(&self, lot: &Lot) -> i64 {
        if lot.ended { 0 } else { lot.left - self.held_of(lot.no) }
    }

    fn lot(&mut self, no: i64) -> &mut Lot {
        self.lots.iter_mut().find(|lot| lot.no == no).unwrap()
    }

    /// Lowest priority, soonest end (never last), given before plan before paid, oldest, number.
    fn next_to_burn(&self) -> Option<i64> {
        let rank = |source| match source {
            Source::Promo | Source::Signup | Source::Adjustment => 0,
            Source::Plan => 1,
            Source::Paid => 2,
        };
        let free = self.lots.iter().filter(|lot| self.free_of(lot) > 0);
        free.min_by_key(|lot| (lot.priority, lot.end.is_none(), lot.end, rank(lot.source), lot.since, lot.no))
            .map(|lot| lot.no)
    }

    fn write(&mut self, kind: Kind, parts: Vec<(Option<i64>, i64)>, at: Millis) {
        self.last = self.last.max(at);
        let amount = parts.iter().map(|(_, amount)| amount).sum();
        let balance_after = self.entries.last().map_or(0, |entry| entry.balance_after) + amount;
        let at = self.entries.last().map_or(at, |entry| entry.at.max(at));
        self.entries.push(Entry { kind, amount, balance_after, parts, at, gives_back: None });
    }

    /// Spends credit by credit; what no lot has is debt.
    fn spend(&mut self, amount: i64) -> Vec<Option<i64>> {
        let mut credits = Vec::new();
        for _ in 0..amount {
            let lot = self.next_to_burn();
            match lot {
                Some(no) => self.lot(no).left -= 1,
                None => self.debt += 1,
            }
            credits.push(lot);
        }
        credits
    }

    pub fn pass_time(&mut self, now: Millis) {
        loop {
            let holds = self.holds.iter().filter(|hold| hold.open);
            let holds = holds.filter_map(|hold| hold.end.map(|end| (end, 0, hold.no)));
            let lots = self.lots.iter().filter(|lot| !lot.ended);
            let lots = lots.filter_map(|lot| lot.end.map(|end| (end, 1, lot.no)));
            let Some((end, what, no)) = holds.chain(lots).filter(|(end, ..)| *end <= now).min() else {
                return;
            };
            if what == 0 {
                self.end_hold(no, 0, end);
                continue;
            }
            let lot = self.lots.iter().find(|lot| lot.no == no).unwrap();
            let free = self.free_of(lot);
            self.lot(no).ended = true;
            self.leave(no, free, end);
        }
    }

    pub fn carried(&self) -> i64 {
        self.lots.iter().filter(|lot| lot.carried).map(|lot| lot.left).sum()
    }

    /// Credits of an ended lot that nobody keeps any more: one by one, as long as there is room, they go on without an end.
    fn leave(&mut self, no: i64, amount: i64, at: Millis) {
        let old = self.lot(no).clone();
        let mut kept = 0;
        while kept < amount && old.rollover.is_some_and(|most| self.carried() + kept < most) {
            kept += 1;
        }
        self.lot(no).left -= amount;
        if kept > 0 {
            self.write(Kind::Rollover, vec![(Some(no), -kept)], at);
            let since = self.entries.last().unwrap().at;
            let heir = Lot { end: None, since, ended: false, rollover: None, carried: true, ..old };
            let parts = self.receive(heir, kept);
            self.write(Kind::Rollover, parts, at);
        }
        if amount > kept {
            self.write(Kind::Expiry, vec![(Some(no), kept - amount)], at);
        }
    }

    /// Closes a hold of which the first credits were spent; the others come free, or are gone with their lot.
    fn end_hold(&mut self, no: i64, spent: usize, at: Millis) {
        let hold = self.holds.iter_mut().find(|hold| hold.no == no).unwrap();
        hold.open = false;
        let back: Vec<Option<i64>> = hold.credits[spent..].iter().map(|lot| Some(*lot)).collect();
        for (lot, amount) in runs(&back, 1) {
            let no = lot.unwrap();
            if self.lot(no).ended {
                self.leave(no, amount, at);
            }
        }
    }

    pub fn used(&self, settings: &Settings, period: Period, now: Millis) -> i64 {
        let start = settings.window(period, now).0;
        let spent = |entry: &&Entry| matches!(entry.kind, Kind::Debit | Kind::Capture) && entry.at >= start;
        let spent: i64 = self.entries.iter().filter(spent).map(|entry| -entry.amount).sum();
        let back = |entry: &&Entry| {
            entry.kind == Kind::Refund && entry.gives_back.is_some_and(|of| self.entries[of].at >= start)
        };
        let back: i64 = self.entries.iter().filter(back).map(|entry| entry.amount).sum();
        let held = self.holds.iter().filter(|hold| hold.open && hold.since >= start && hold.end.is_some());
        spent - back + held.map(|hold| hold.credits.len() as i64).sum::<i64>()
    }

    fn may_spend(&self, settings: &Settings, amount: i64, now: Millis) -> Result<(), No> {
        self.may_spend_by(settings, now, |_| amount)
    }

    /// How much depends on when the window began.
    fn may_spend_by(
        &self,
        settings: &Settings,
        now: Millis,
        amount: impl Fn(Millis) -> i64,
    ) -> Result<(), No> {
        let over = self.limits.iter().map(|(period, max)| (*period, *max, self.used(settings, *period, now)));
        let over = over.filter(|(period, max, used)| used + amount(settings.window(*period, now).0) > *max);
        match over.min_by_key(|(period, max, used)| (max - used, *period == Period::Day)) {
            Some((period, max, used)) => Err(No::Limit { period, max, used }),
            None => Ok(()),
        }
    }

    fn may_go_to(&self, floor: i64, amount: i64) -> Result<(), No> {
        if self.available() - amount >= floor {
            return Ok(());
        }
        Err(No::Insufficient { balance: self.balance(), available: self.available(), required: amount })
    }

    /// A new lot, which pays debt first; gives the parts of the entry.
    fn receive(&mut self, lot: Lot, amount: i64) -> Vec<(Option<i64>, i64)> {
        let no = self.lots.len() as i64 + 1;
        let paid = self.debt.min(amount);
        self.debt -= paid;
        self.lots.push(Lot { no, left: amount - paid, ..lot });
        [(None, paid), (Some(no), amount - paid)].into_iter().filter(|(_, amount)| *amount > 0).collect()
    }

    /// A new hold of these credits and so many more.
    fn keep(&mut self, credits: Vec<i64>, more: i64, end: Option<Millis>, now: Millis) {
        let no = self.holds.len() as i64 + 1;
        self.holds.push(Hold { no, credits, open: true, end, since: now });
        for _ in 0..more {
            let lot = self.next_to_burn().unwrap();
            self.hold(no).credits.push(lot);
        }
    }

    fn hold(&mut self, no: i64) -> &mut Hold {
        self.holds.iter_mut().find(|hold| hold.no == no).unwrap()
    }

    fn lasting_freeze(&self, no: Option<i64>) -> Result<Option<i64>, No> {
        match no.map(|no| self.open_hold(no)) {
            Some(Ok(hold)) if hold.end.is_none() => Ok(Some(hold.no)),
            Some(Err(No::NotFound)) => Err(No::NotFound),
            _ => Ok(None),
        }
    }

    fn open_hold(&self, no: i64) -> Result<Hold, No> {
        let hold = self.holds.iter().find(|hold| hold.no == no).ok_or(No::NotFound)?;
        if hold.open { Ok(hold.clone()) } else { Err(No::Conflict { refundable: None }) }
    }

    fn give_back(
        &mut self,
        seq: i64,
        amount: Option<i64>,
        kinds: &[Kind],
        kind: Kind,
        now: Millis,
    ) -> Result<(), No> {
        let at = usize::try_from(seq - 1).map_err(|_| No::NotFound)?;
        let original = self.entries.get(at).ok_or(No::NotFound)?.clone();
        if !kinds.contains(&original.kind) {
            return Err(No::Invalid { field: "entry_id" });
        }
        let before = self.entries.iter().filter(|entry| entry.gives_back == Some(at));
        let before: i64 = before.map(|entry| entry.amount).sum();
        let left = -original.amount - before;
        let amount = amount.unwrap_or(left);
        if left == 0 || amount > left {
            return Err(No::Conflict { refundable: Some(left) });
        }
        let taken: Vec<Option<i64>> =
            original.parts.iter().flat_map(|(lot, amount)| vec![*lot; -amount as usize]).collect();
        let back = taken.into_iter().rev().skip(before as usize).take(amount as usize);
        let (mut credits, mut gone, mut fresh) = (Vec::new(), Vec::new(), None);
        for lot in back {
            let to = match lot {
                Some(no) => no,
                None if self.debt > 0 => {
                    self.debt -= 1;
                    credits.push(None);
                    continue;
                }
                None => *fresh.get_or_insert_with(|| {
                    let no = self.lots.len() as i64 + 1;
                    self.lots.push(Lot { no, ..Lot::adjusted(now) });
                    no
                }),
            };
            credits.push(Some(to));
            let lot = self.lot(to);
            lot.left += 1;
            if lot.ended {
                gone.push(Some(to));
            }
        }
        self.write(kind, runs(&credits, 1), now);
        self.entries.last_mut().unwrap().gives_back = Some(at);
        for (lot, amount) in runs(&gone, 1) {
            self.leave(lot.unwrap(), amount, now);
        }
        Ok(())
    }

    pub fn apply(
        &mut self,
        other: &mut Model,
        settings: &Settings,
        action: &Action,
        now: Millis,
    ) -> Result<(), No> {
        other.pass_time(now);
        self.pass_time(now);
        let now = now.max(self.last);
        match action {
            Action::Settle => {}
            Action::Grant(new) => {
                let is_over = new.expires_at.is_some_and(|end| end <= now);
                if is_over && new.rollover.is_none() {
                    return Err(No::Invalid { field: "expires_at" });
                }
                let (source, priority, end) = (new.source, new.priority, new.expires_at);
                let lot = Lot { source, priority, end, rollover: new.rollover, ..Lot::adjusted(now) };
                let parts = self.receive(lot, new.amount);
                self.write(Kind::Grant, parts, now);
                if is_over {
                    let no = self.lots.len() as i64;
                    let left = self.lot(no).left;
                    self.lot(no).ended = true;
                    self.leave(no, left, now);
                }
            }
            Action::Debit { charge, allow_negative, .. } => {
                self.may_spend(settings, charge.amount, now)?;
                self.may_go_to(if *allow_negative { self.floor } else { 0 }, charge.amount)?;
                let credits = self.spend(charge.amount);
                self.write(Kind::Debit, runs(&credits, -1), now);
            }
            Action::Hold { charge, expires_in, .. } => {
                self.may_spend(settings, charge.amount, now)?;
                self.may_go_to(0, charge.amount)?;
                self.keep(Vec::new(), charge.amount, Some(now.plus(*expires_in)), now);
            }
            Action::Freeze { amount, instead_of, .. } => {
                let old = self.lasting_freeze(*instead_of)?;
                let credits = old.map_or(Vec::new(), |no| self.hold(no).credits.clone());
                let kept = credits.len().min(*amount as usize);
                let more = (amount - kept as i64).min(self.available()).max(0);
                if kept < credits.len() || more > 0 {
                    // Those that stay frozen are never free in between.
                    if let Some(no) = old {
                        self.hold(no).credits.drain(..kept);
                    }
                    if kept as i64 + more > 0 {
                        self.keep(credits[..kept].to_vec(), more, None, now);
                    }
                    if let Some(no) = old {
                        self.end_hold(no, 0, now);
                    }
                }
            }
            Action::Capture { hold, amount, above } => self.capture(settings, *hold, *amount, *above, now)?,
            Action::Release { hold } => {
                self.open_hold(*hold)?;
                self.end_hold(*hold, 0, now);
            }
            Action::Extend { hold, expires_in } => {
                if self.open_hold(*hold)?.end.is_none() {
                    return Err(No::Conflict { refundable: None });
                }
                self.hold(*hold).end = Some(now.plus(*expires_in));
            }
            Action::Refund { entry, amount, .. } => {
                self.give_back(*entry, *amount, &[Kind::Debit, Kind::Capture], Kind::Refund, now)?;
            }
            Action::Reinstate { entry, amount, .. } => {
                self.give_back(*entry, *amount, &[Kind::Clawback], Kind::Reinstate, now)?;
            }
            Action::ClawBack { amount, frozen, grant, shortfall, .. } => {
                let mut credits = Vec::new();
                if let Some(no) = self.lasting_freeze(*frozen)? {
                    let hold = self.hold(no);
                    hold.open = false;
                    let mut taken = std::mem::take(&mut hold.credits);
                    let rest = taken.split_off(taken.len().min(*amount as usize));
                    for lot in taken {
                        self.lot(lot).left -= 1;
                        credits.push(Some(lot));
                    }
                    if !rest.is_empty() {
                        self.keep(rest, 0, None, now);
                    }
                }
                for _ in credits.len()..*amount as usize {
                    let named = self.lots.iter().find(|lot| Some(lot.no) == *grant && self.free_of(lot) > 0);
                    let lot = named.map(|lot| lot.no).or_else(|| self.next_to_burn());
                    match lot {
                        Some(no) => self.lot(no).left -= 1,
                        None if *shortfall == Shortfall::Clamp => break,
                        None => self.debt += 1,
                    }
                    credits.push(lot);
                }
                self.write(Kind::Clawback, runs(&credits, -1), now);
            }
            Action::Adjust { amount, .. } if *amount >= 0 => {
                let parts = self.receive(Lot::adjusted(now), *amount);
                self.write(Kind::Adjustment, parts, now);
            }
            Action::Adjust { amount, .. } => {
                self.may_go_to(self.floor, -amount)?;
                let credits = self.spend(-amount);
                self.write(Kind::Adjustment, runs(&credits, -1), now);
            }
            Action::Transfer { amount, .. } => {
                self.may_go_to(0, *amount)?;
                let credits = self.spend(*amount);
                let mut received: Vec<(Option<i64>, i64)> = Vec::new();
                for (lot, amount) in runs(&credits, 1) {
                    let lot = self.lot(lot.unwrap()).clone();
                    for part in other.receive(lot, amount) {
                        match received.last_mut() {
                            Some(last) if last.0 == part.0 => last.1 += part.1,
                            _ => received.push(part),
                        }
                    }
                }
                other.write(Kind::Transfer, received, now);
                self.write(Kind::Transfer, runs(&credits, -1), now);
            }
            Action::SetFloor { floor } => self.floor = *floor,
            Action::SetLimit { period, max, .. } => {
                self.limits.retain(|(known, _)| known != period);
                self.limits.extend(max.map(|max| (*period, max)));
            }
        }
        Ok(())
    }

    fn capture(
        &mut self,
        settings: &Settings,
        no: i64,
        amount: Option<i64>,
        above: Above,
        now: Millis,
    ) -> Result<(), No> {
        let hold = self.open_hold(no)?;
        let held = hold.credits.len() as i64;
        let wanted = amount.unwrap_or(held);
        let more = match above {
            Above::Refuse if wanted > held => return Err(No::Conflict { refundable: None }),
            Above::Refuse | Above::Cap => 0,
            Above::Balance | Above::Floor => (wanted - held).max(0),
        };
        if more > 0 {
            let counts_anew = |start| hold.end.is_none() || hold.since < start;
            self.may_spend_by(settings, now, |start| more + if counts_anew(start) { held } else { 0 })?;
            self.may_go_to(if above == Above::Floor { self.floor } else { 0 }, more)?;
        }
        let more = self.spend(more);
        let spent = wanted.min(held) as usize;
        let mut credits: Vec<Option<i64>> = hold.credits[..spent].iter().map(|lot| Some(*lot)).collect();
        for lot in &hold.credits[..spent] {
            self.lot(*lot).left -= 1;
        }
        credits.extend(more);
        self.holds.iter_mut().find(|known| known.no == no).unwrap().open = false;
        self.write(Kind::Capture, runs(&credits, -1), now);
        self.end_hold(no, spent, now);
        Ok(())
    }
}
