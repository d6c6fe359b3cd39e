//! Figures of all sides side by side, with their ratios: tables for people, JSON for machines.

use crate::latency::median;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Everything that a run has found.
pub struct Outcome {
    pub conditions: Value,
    pub groups: Vec<Group>,
    pub bars: Vec<Bar>,
}

impl Outcome {
    pub fn to_json(&self) -> Value {
        let groups: Vec<Value> = self.groups.iter().map(Group::to_json).collect();
        let mut all = json!({"conditions": self.conditions, "measures": groups});
        if !self.bars.is_empty() {
            all["bars"] = self.bars.iter().map(Bar::to_json).collect();
        }
        all
    }

    pub fn to_tables(&self) -> String {
        let mut text = String::new();
        // Writing to a text cannot fail.
        for group in &self.groups {
            let _ = writeln!(text, "\n{}", group.to_table());
        }
        if !self.bars.is_empty() {
            let _ = writeln!(text, "Bars");
            for bar in &self.bars {
                let _ = writeln!(text, "  {}", bar.to_line());
            }
            text.push('\n');
        }
        let _ = writeln!(text, "Conditions");
        for (name, value) in self.conditions.as_object().into_iter().flatten() {
            match value {
                Value::Object(values) => {
                    let _ = writeln!(text, "  {name}:");
                    for (name, value) in values {
                        let _ = writeln!(text, "    {name}: {}", plain(value));
                    }
                }
                value => {
                    let _ = writeln!(text, "  {name}: {}", plain(value));
                }
            }
        }
        text
    }

    /// Figures go to standard output, whatever else is said to standard error.
    pub fn print(&self, as_json: bool, quick: bool) {
        if as_json {
            println!("{:#}", self.to_json());
            return;
        }
        print!("{}", self.to_tables());
        if quick {
            println!("\nA quick run shows that everything works; take no figure from it.");
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A ratio beside what it has to be.
#[derive(Debug)]
pub struct Bar {
    pub what: String,
    pub found: f64,
    pub wanted: f64,
    pub better: Better,
}

impl Bar {
    pub fn is_met(&self) -> bool {
        match self.better {
            Better::More => self.found >= self.wanted,
            Better::Less => self.found <= self.wanted,
        }
    }

    fn to_json(&self) -> Value {
        json!({"what": self.what, "found": self.found, "wanted": self.wanted, "met": self.is_met()})
    }

    fn to_line(&self) -> String {
        let met = if self.is_met() { "met   " } else { "MISSED" };
        let sign = if self.better == Better::More { "≥" } else { "≤" };
        format!("{met}  {} {sign} {}: {}", self.what, self.wanted, significant(self.found))
    }
}

/// One measure of every side.
#[derive(Debug)]
pub struct Group {
    pub key: String,
    pub title: String,
    /// The first one is the headline, whose ratios the table shows.
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub key: &'static str,
    pub title: &'static str,
    pub decimals: usize,
    pub better: Better,
}

impl Column {
    pub fn more(key: &'static str, title: &'static str, decimals: usize) -> Column {
        Column { key, title, decimals, better: Better::More }
    }

    pub fn less(key: &'static str, title: &'static str, decimals: usize) -> Column {
        Column { key, title, decimals, better: Better::Less }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    More,
    Less,
}

/// One side's figures: for each column the values of all rounds.
#[derive(Debug, Clone)]
pub struct Row {
    pub side: &'static str,
    pub title: &'static str,
    pub rounds: Vec<Vec<f64>>,
}

impl Row {
    pub fn new(side: &'static str, title: &'static str, columns: usize) -> Row {
        Row { side, title, rounds: vec![Vec::new(); columns] }
    }

    pub fn add(&mut self, values: &[f64]) {
        for (column, value) in self.rounds.iter_mut().zip(values) {
            column.push(*value);
        }
    }
}

/// How `row` compares to `other`: the median of the ratios within a round, since both sides of a round met the same
/// neighbours and the same weather.
fn ratio(row: &Row, other: &Row, column: usize) -> f64 {
    let (ours, theirs) = (&row.rounds[column], &other.rounds[column]);
    if ours.len() != theirs.len() {
        return median(ours) / median(theirs);
    }
    median(&ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect::<Vec<f64>>())
}

impl Group {
    /// The ratio of two sides in the first column; `None` unless both took part.
    pub fn ratio(&self, side: &str, other: &str) -> Option<f64> {
        let row = |key: &str| self.rows.iter().find(|row| row.side == key);
        Some(ratio(row(side)?, row(other)?, 0))
    }

    pub fn to_json(&self) -> Value {
        let figures = |row: &Row| {
            let of = |(column, rounds): (&Column, &Vec<f64>)| {
                let against: serde_json::Map<String, Value> = self
                    .rows
                    .iter()
                    .filter(|other| other.side != row.side)
                    .map(|other| (other.side.to_owned(), json!(ratio(row, other, self.index(column)))))
                    .collect();
                let value = json!({"median": median(rounds), "rounds": rounds, "ratio_to": against});
                (column.key.to_owned(), value)
            };
            let columns: serde_json::Map<String, Value> =
                self.columns.iter().zip(&row.rounds).map(of).collect();
            (row.side.to_owned(), Value::Object(columns))
        };
        let sides: serde_json::Map<String, Value> = self.rows.iter().map(figures).collect();
        let better: serde_json::Map<String, Value> = self
            .columns
            .iter()
            .map(|column| {
                (column.key.to_owned(), json!(if column.better == Better::More { "more" } else { "less" }))
            })
            .collect();
        json!({"measure": self.key, "title": self.title, "better": better, "sides": sides})
    }

    fn index(&self, column: &Column) -> usize {
        self.columns.iter().position(|known| known.key == column.key).unwrap_or(0)
    }

    pub fn to_table(&self) -> String {
        let mut lines: Vec<Vec<String>> = Vec::new();
        let mut head = vec![String::new()];
        head.extend(self.columns.iter().map(|column| column.title.to_owned()));
        head.extend((0..self.rows.len()).map(|at| format!("÷ {}", letter(at))));
        lines.push(head);
        for (at, row) in self.rows.iter().enumerate() {
            let mut line = vec![format!("{} {}", letter(at), row.title)];
            line.extend(self.columns.iter().zip(&row.rounds).map(|(column, rounds)| {
                let value = median(rounds);
                if value.is_finite() { grouped(value, column.decimals) } else { "–".to_owned() }
            }));
            line.extend(self.rows.iter().map(|other| {
                let value = ratio(row, other, 0);
                if other.side == row.side || !value.is_finite() {
                    "–".to_owned()
                } else {
                    significant(value)
                }
            }));
            lines.push(line);
        }
        let mut text = format!("{}\n", self.title);
        for line in &lines {
            for (at, cell) in line.iter().enumerate() {
                let width =
                    lines.iter().filter_map(|line| line.get(at)).map(|cell| cell.chars().count()).max();
                let gap = " ".repeat(width.unwrap_or(0) - cell.chars().count());
                let _ = if at == 0 { write!(text, "  {cell}{gap}") } else { write!(text, "  {gap}{cell}") };
            }
            text.push('\n');
        }
        let headline = &self.columns[0];
        let better = if headline.better == Better::More { "more" } else { "less" };
        let _ =
            writeln!(text, "  (÷: ratio of {}, median of the rounds; {better} is better)", headline.title);
        text
    }
}

fn letter(at: usize) -> char {
    char::from(b'a' + at as u8)
}

/// Three digits that count.
fn significant(value: f64) -> String {
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    grouped(value, decimals)
}

/// `12 345.6`
fn grouped(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut out = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) && !out.ends_with('-') {
            out.push(' ');
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> Group {
        let column = |key, title, better| Column { key, title, decimals: 0, better };
        let mut rows = vec![Row::new("x", "ours", 2), Row::new("y", "theirs", 2)];
        for round in 1..=3 {
            // The second round is twice as fast for everybody, so that ratios within a round agree.
            let speed = if round == 2 { 2_000.0 } else { 1_000.0 };
            rows[0].add(&[speed * 3.0, 1.0]);
            rows[1].add(&[speed, 4.0]);
        }
        let columns = vec![column("rate", "requests/s", Better::More), column("p95", "p95 ms", Better::Less)];
        Group { key: "k".into(), title: "A measure".into(), columns, rows }
    }

    #[test]
    fn ratios_are_taken_within_rounds() {
        let json = group().to_json();
        assert_eq!(json["sides"]["x"]["rate"]["ratio_to"]["y"], 3.0);
        assert_eq!(json["sides"]["x"]["p95"]["ratio_to"]["y"], 0.25);
        assert_eq!(json["sides"]["y"]["rate"]["median"], 1_000.0);
    }

    #[test]
    fn a_table_shows_medians_and_ratios() {
        let table = group().to_table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "A measure");
        assert_eq!(lines[1], "            requests/s  p95 ms   ÷ a   ÷ b");
        assert_eq!(lines[2], "  a ours         3 000       1     –  3.00");
        assert_eq!(lines[3], "  b theirs       1 000       4  0.33     –");
    }

    #[test]
    fn a_bar_is_met_from_its_own_side() {
        let bar = |found, better| Bar { what: "x".into(), found, wanted: 2.0, better };
        assert!(bar(2.0, Better::More).is_met() && !bar(1.9, Better::More).is_met());
        assert!(bar(2.0, Better::Less).is_met() && !bar(2.1, Better::Less).is_met());
        assert!(!bar(f64::NAN, Better::Less).is_met(), "what was not measured is not met");
        assert_eq!(group().ratio("x", "y"), Some(3.0));
        assert_eq!(group().ratio("x", "z"), None);
    }

    #[test]
    fn numbers_are_grouped_by_three() {
        assert_eq!(grouped(1234567.89, 1), "1 234 567.9");
        assert_eq!(grouped(999.0, 0), "999");
        assert_eq!(grouped(-1000.0, 0), "-1 000");
    }
}
