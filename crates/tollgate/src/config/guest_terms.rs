//! `[guest]`: visitors without an account. Allowances are judged together: an address's name actions of a guest's.

use super::Builder;
use super::credit_terms::amount;
use super::value::{Checked, Value, shown};
use gate::allowances::{Allowance, Allowances, GUESTS_AN_ADDRESS};
use kernel::Secret;
use std::collections::BTreeMap;
use store::WithoutRedis;
use toml::Value as Toml;

#[derive(Debug, Clone)]
pub struct Guest {
    pub enabled: bool,
    /// Empty: derived from the deployment's.
    pub secrets: Vec<Secret<String>>,
    /// Milliseconds.
    pub ttl: i64,
    pub allowances: Allowances,
}

impl Builder {
    pub(super) fn guest_terms(&mut self) -> Guest {
        Guest {
            enabled: self.flag("guest.enabled"),
            secrets: match self.value("guest.secrets") {
                Some(Value::SecretList(secrets)) => secrets,
                _ => Vec::new(),
            },
            ttl: self.duration("guest.ttl"),
            allowances: Allowances {
                actions: self.guest_actions(),
                without_redis: match self.text("guest.on_counter_loss").as_str() {
                    "per_node" => WithoutRedis::CountHere,
                    _ => WithoutRedis::Refuse,
                },
            },
        }
    }

    fn guest_actions(&mut self) -> BTreeMap<String, Allowance> {
        let own = self.priced("guest.allowances", times);
        let path = "guest.address_allowances";
        let together = self.priced(path, times);
        for action in together.keys().filter(|action| !own.contains_key(*action)) {
            let fix = "Name it in guest.allowances as well, or take it away here.";
            self.report(path, format!("A guest has no allowance for `{}`.", shown(action)), fix);
        }
        let allowance = |(action, guest): (String, i64)| {
            let usual = guest.saturating_mul(GUESTS_AN_ADDRESS);
            let address = together.get(&action).copied().unwrap_or(usual);
            (action, Allowance { guest, address })
        };
        own.into_iter().map(allowance).collect()
    }
}

/// Nothing at all is said by leaving the action out.
fn times(action: &str, value: &Toml) -> Checked<i64> {
    amount(value, 1, &format!("The allowance of `{}`", shown(action)))
}

#[cfg(test)]
mod tests {
    use super::super::source::Environment;
    use super::super::{Loaded, load};
    use super::*;
    use kernel::time::{DAY, HOUR};

    fn with_terms(text: &str, variables: &[(&str, &str)]) -> Loaded {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tollgate.toml");
        std::fs::write(&path, format!("[guest]\n{text}\n")).unwrap();
        load(Some(&path), &Environment::from(variables))
    }

    #[track_caller]
    fn terms(text: &str, variables: &[(&str, &str)]) -> Guest {
        let loaded = with_terms(text, variables);
        assert_eq!(loaded.problems, []);
        loaded.config.guest
    }

    #[test]
    fn an_address_has_five_times_a_guests_allowance_unless_it_is_said() {
        let found = terms("", &[]);
        assert!(found.enabled && found.secrets.is_empty() && found.allowances.actions.is_empty());
        assert_eq!((found.ttl, found.allowances.without_redis), (DAY, WithoutRedis::Refuse));
        let text = r#"enabled = false
            secrets = ["one", "two"]
            ttl = "1h"
            on_counter_loss = "per_node"
            allowances = { generate = 3, "image.preview" = 10 }
            address_allowances = { generate = 4 }"#;
        let found = terms(text, &[("TOLLGATE_GUEST__TTL", "2h")]);
        assert_eq!((found.enabled, found.secrets.len(), found.ttl), (false, 2, 2 * HOUR));
        assert_eq!(found.allowances.without_redis, WithoutRedis::CountHere);
        let actions = [
            ("generate".to_owned(), Allowance { guest: 3, address: 4 }),
            ("image.preview".to_owned(), Allowance { guest: 10, address: 50 }),
        ];
        assert_eq!(found.allowances.actions, BTreeMap::from(actions));
        let variables =
            [("TOLLGATE_GUEST__ALLOWANCES", "{ generate = 2 }"), ("TOLLGATE_GUEST__SECRETS", "a,b,c")];
        let found = terms("", &variables);
        assert_eq!(found.allowances.actions["generate"], Allowance { guest: 2, address: 10 });
        assert_eq!(found.secrets.len(), 3);
    }

    #[test]
    fn what_is_no_allowance_is_told_with_what_to_write() {
        for (text, what) in [
            ("allowances = { generate = 0 }", "The allowance of `generate` is not such an amount."),
            ("allowances = { generate = -1 }", "The allowance of `generate` is not such an amount."),
            ("allowances = { generate = 1.5 }", "The allowance of `generate` is not such an amount."),
            ("allowances = { generate = \"3\" }", "The allowance of `generate` is not such an amount."),
            ("allowances = { \"a b\" = 3 }", "`a b` is not a name."),
            ("allowances = 3", "This is not a table."),
            ("address_allowances = { generate = 3 }", "A guest has no allowance for `generate`."),
            ("ttl = \"31d\"", "`31d` is out of bounds."),
            ("on_counter_loss = \"allow\"", "`allow` is not known here."),
            ("allowance = 3", "There is no such setting."),
        ] {
            let problems = with_terms(text, &[]).problems;
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
            assert_eq!(problems[0].what, what, "{text}");
            assert!(!problems[0].fix.is_empty() && problems[0].place.is_some(), "{problems:?}");
        }
    }
}
