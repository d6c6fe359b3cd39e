//! On whose behalf credits are spent, where that is somebody else than the owner: a key, a member of the organization, or
//! both. Limits can be set for each.

use std::fmt;

/// Stands as text on the entry or hold, so that what comes back counts for whoever spent it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Spender {
    /// An API key.
    pub key: Option<String>,
    /// A user who spends what belongs to an organization.
    pub member: Option<String>,
}

/// One part of a [`Spender`], to set a limit for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpentBy {
    Key(String),
    Member(String),
}

impl SpentBy {
    /// What a limit for it is called.
    pub fn scope(&self) -> &'static str {
        match self {
            SpentBy::Key(_) => "key",
            SpentBy::Member(_) => "member",
        }
    }

    pub fn id(&self) -> &str {
        match self {
            SpentBy::Key(id) | SpentBy::Member(id) => id,
        }
    }

    pub(crate) fn parse(text: &str) -> Option<SpentBy> {
        match text.split_once(':')? {
            ("key", id) => Some(SpentBy::Key(id.to_owned())),
            ("user", id) => Some(SpentBy::Member(id.to_owned())),
            _ => None,
        }
    }
}

impl fmt::Display for SpentBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpentBy::Key(id) => write!(f, "key:{id}"),
            SpentBy::Member(id) => write!(f, "user:{id}"),
        }
    }
}

impl Spender {
    /// Nobody but the owner is no spender.
    pub fn of(key: Option<String>, member: Option<String>) -> Option<Spender> {
        (key.is_some() || member.is_some()).then_some(Spender { key, member })
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = SpentBy> {
        let key = self.key.clone().map(SpentBy::Key);
        key.into_iter().chain(self.member.clone().map(SpentBy::Member))
    }

    /// From an entry of what was spent, or from a hold.
    pub(crate) fn parse(text: &str) -> Option<Spender> {
        let mut spender = Spender::default();
        for part in text.split(' ') {
            match SpentBy::parse(part)? {
                SpentBy::Key(id) => spender.key = Some(id),
                SpentBy::Member(id) => spender.member = Some(id),
            }
        }
        Some(spender)
    }
}

impl fmt::Display for Spender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.parts().enumerate() {
            write!(f, "{}{part}", if at == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spenders_come_back_from_their_text() {
        let (key, member) = (Some("k".to_owned()), Some("u".to_owned()));
        for spender in [
            Spender { key: key.clone(), member: None },
            Spender { key: None, member: member.clone() },
            Spender { key, member },
        ] {
            assert_eq!(Spender::parse(&spender.to_string()), Some(spender));
        }
        assert_eq!(Spender::parse(""), None);
        assert_eq!(Spender::parse("pi_123"), None);
        assert_eq!(Spender::of(None, None), None);
    }
}
