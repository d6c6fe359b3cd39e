//! Refuses the passwords that guessers try first: the most frequent ones of published breaches, and the small changes
//! that people make to them.

use std::collections::HashSet;
use std::sync::OnceLock;

/// One lower-case password a line, eight characters or more, most frequent first.
const LIST: &str = include_str!("common_passwords.txt");

/// Words too short to be a password themselves, but not with a year or `123` behind them.
const STEMS: [&str; 40] = [
    "password", "passwort", "welcome", "qwerty", "qwertz", "azerty", "admin", "letmein", "monkey", "dragon",
    "master", "shadow", "summer", "winter", "spring", "autumn", "hello", "login", "secret", "access",
    "changeme", "default", "test", "testing", "user", "root", "guest", "abc", "love", "iloveyou", "football",
    "baseball", "sunshine", "princess", "superman", "batman", "michael", "jordan", "pokemon", "computer",
];

pub fn is_common(password: &str) -> bool {
    let lower = password.to_lowercase();
    if list().contains(lower.as_str()) || is_pattern(&lower) {
        return true;
    }
    let plain = without_substitutes(&lower);
    let trimmed = trim_ending(&lower);
    let stem = trim_ending(&plain);
    list().contains(plain.as_str()) || [trimmed, stem].iter().any(|word| STEMS.contains(word))
}

fn list() -> &'static HashSet<&'static str> {
    static SET: OnceLock<HashSet<&str>> = OnceLock::new();
    SET.get_or_init(|| LIST.lines().filter(|line| !line.is_empty()).collect())
}

/// One piece repeated (`aaaaaaaa`, `abcabcabc`), or a run of neighbours (`12345678`, `hgfedcba`). Guessers try them up to
/// the length of a word; whoever types a hundred letters, or crabs, is not who they look for.
fn is_pattern(text: &str) -> bool {
    if text.len() > 20 || !text.is_ascii() {
        return false;
    }
    let letters: Vec<char> = text.chars().collect();
    let repeated = (1..=4.min(letters.len() / 2))
        .any(|period| letters.iter().enumerate().all(|(i, c)| *c == letters[i % period]));
    let step = |by: i32| letters.windows(2).all(|pair| (pair[1] as i32) - (pair[0] as i32) == by);
    repeated || step(1) || step(-1)
}

/// `p@ssw0rd` is `password`.
fn without_substitutes(text: &str) -> String {
    let plain = |c: char| match c {
        '0' => 'o',
        '1' | '!' | '|' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        other => other,
    };
    // Only inside the word: the digits at its end are an ending, not letters.
    let word = trim_ending(text).len();
    text[..word].chars().map(plain).chain(text[word..].chars()).collect()
}

/// Takes off up to five digits and marks: a year, `123`, `!`.
fn trim_ending(text: &str) -> &str {
    let ending =
        text.chars().rev().take(5).take_while(|c| c.is_ascii_digit() || c.is_ascii_punctuation()).count();
    &text[..text.len() - ending]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_guessers_try_first_is_refused() {
        for password in [
            "password",
            "Password1",
            "P@ssw0rd!",
            "12345678",
            "aaaaaaaa",
            "qwertyuiop",
            "iloveyou",
            "Welcome2026!",
            "abcabcabc",
            "87654321",
            "trustno1",
            "1q2w3e4r",
        ] {
            assert!(is_common(password), "{password}");
        }
    }

    #[test]
    fn chosen_passwords_pass() {
        for password in [
            "correct-horse-9",
            "correct horse 1",
            "xK9#mQ2$vL",
            "blaue Katzen tanzen",
            "🦀🦀🦀🦀x",
            "password of my own making",
        ] {
            assert!(!is_common(password), "{password}");
        }
    }
}
