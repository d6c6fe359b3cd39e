//! The setting somebody probably meant.

use super::keys::KEYS;

/// The known path that is most like `path`: the same last name in another section, or few letters away.
pub fn nearest_path(path: &str) -> Option<&'static str> {
    let leaf = |path: &str| path.rsplit('.').next().map(str::to_owned);
    let same_leaf = KEYS.iter().find(|key| leaf(key.path) == leaf(path));
    let begun = || KEYS.iter().find(|key| path.len() > 3 && key.path.starts_with(path));
    let by_distance = || {
        let all = KEYS
            .iter()
            .flat_map(|key| [Some(key.path), key.path.split_once('.').map(|(section, _)| section)]);
        nearest(path, all.flatten())
    };
    let by_leaf = || {
        let leaf = leaf(path)?;
        let names = KEYS.iter().filter_map(|key| key.path.rsplit('.').next());
        let name = nearest(&leaf, names)?;
        KEYS.iter().map(|key| key.path).find(|path| path.rsplit('.').next() == Some(name))
    };
    same_leaf.or_else(begun).map(|key| key.path).or_else(by_distance).or_else(by_leaf)
}

/// The candidate with the fewest changed letters, if they are few for its length.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let scored = candidates.map(|candidate| (distance(&word, candidate), candidate));
    let (best, candidate) = scored.min_by_key(|(distance, _)| *distance)?;
    (best <= 1 + candidate.len() / 5).then_some(candidate)
}

/// Letters to insert, remove or replace (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_setting() {
        assert_eq!(nearest_path("base_ulr"), Some("base_url"));
        assert_eq!(nearest_path("sesion"), Some("session"));
        assert_eq!(nearest_path("session.expire_in"), Some("session.expires_in"));
        assert_eq!(nearest_path("require_verification"), Some("email_password.require_verification"));
        assert_eq!(nearest_path("mail.smtp"), Some("mail.smtp_url"));
        assert_eq!(nearest_path("zebra"), None);
    }
}
