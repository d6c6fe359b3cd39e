//! The till as a program, for tests in other languages: prints where it listens and its key as one line of JSON, and runs
//! until its standard input ends.

use kernel::Secret;
use std::io::{Read, Write};
use std::process::ExitCode;
use till::{PriceSeed, Till, TillOptions};

const USAGE: &str =
    "Usage: till [--listen ADDRESS] [--webhook URL --secret SECRET ...] [--key sk_test_...] [--seed NUMBER]
            [--price ID=AMOUNT,CURRENCY[,INTERVAL] ...] [--old-event-shapes]

Runs until its standard input ends.";

fn main() -> ExitCode {
    let options = match read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let till = match Till::start(options) {
        Ok(till) => till,
        Err(error) => {
            eprintln!("The till cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    // A caller that starts the till has to learn its key from somewhere; it opens this till and nothing else.
    let line = serde_json::json!({ "url": till.base_url(), "key": till.secret_key().expose() });
    let mut out = std::io::stdout();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        return ExitCode::FAILURE;
    }
    // Whatever is typed is of no interest; the end is.
    let ended = std::io::stdin().read_to_end(&mut Vec::new());
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn read(mut arguments: impl Iterator<Item = String>) -> Result<TillOptions, String> {
    let mut options = TillOptions::new(1);
    while let Some(name) = arguments.next() {
        if name == "--old-event-shapes" {
            options.old_event_shapes = true;
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value."))?;
        let wrong = || format!("{name} cannot be {value}.");
        match name.as_str() {
            "--listen" => options.listen = value.parse().map_err(|_| wrong())?,
            "--seed" => options.seed = value.parse().map_err(|_| wrong())?,
            "--webhook" => options.webhook_url = Some(value),
            "--secret" => options.webhook_secrets.push(Secret::new(value)),
            "--key" => options.secret_key = Some(Secret::new(value)),
            "--price" => options.prices.push(price(&value).ok_or_else(wrong)?),
            _ => return Err(format!("There is no {name}.")),
        }
    }
    Ok(options)
}

/// `price_basic=3000,usd,month`
fn price(text: &str) -> Option<PriceSeed> {
    let (id, rest) = text.split_once('=')?;
    let mut parts = rest.split(',');
    Some(PriceSeed {
        id: id.to_owned(),
        name: id.trim_start_matches("price_").to_owned(),
        amount: parts.next()?.parse().ok()?,
        currency: parts.next()?.to_owned(),
        interval: parts.next().map(str::to_owned),
        custom: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(line: &str) -> Result<TillOptions, String> {
        read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn arguments_become_options() {
        let options = given(
            "--seed 9 --price price_basic=3000,usd,month --webhook http://localhost:1/ --secret whsec_a",
        )
        .expect("options");
        assert_eq!((options.seed, options.webhook_secrets.len()), (9, 1));
        assert_eq!(options.prices[0].interval.as_deref(), Some("month"));
    }

    #[test]
    fn what_is_not_known_is_named() {
        assert_eq!(given("--sneed 9").err().as_deref(), Some("There is no --sneed."));
        assert_eq!(given("--seed x").err().as_deref(), Some("--seed cannot be x."));
        assert_eq!(given("--seed").err().as_deref(), Some("--seed needs a value."));
    }
}
