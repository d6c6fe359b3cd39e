//! `[[gate.rules]]`: what requests that a reverse proxy holds ask for.

use super::Builder;
use super::nearest::nearest;
use super::value::{Checked, Misfit, Value, misfit, shown};
use billing::catalogue::Catalogue;
use credits::Price;
use gate::allowances::Allowance;
use gate::rules::{Asks, Pattern, Rule, Rules};
use std::collections::BTreeMap;
use toml::{Table, Value as Toml};

const PATH: &str = "gate.rules";
const MEMBERS: [&str; 7] = ["path", "methods", "public", "role", "entitlement", "feature", "guest"];
const NAME_BYTES: usize = 100;

impl Builder {
    pub(super) fn gate_rules(
        &mut self,
        features: &BTreeMap<String, Price>,
        actions: &BTreeMap<String, Allowance>,
        sold: &Catalogue,
    ) -> Rules {
        let written = match self.value(PATH) {
            Some(Value::Toml(Toml::Array(written))) => written,
            _ => {
                let fix = "Write [[gate.rules]] before each rule, or rules = [{ path = \"/admin/*\", role = \"admin\" }].";
                self.report(PATH, "This is not a list of rules.", fix);
                return Rules::default();
            }
        };
        let mut rules = Vec::with_capacity(written.len());
        for (at, value) in written.iter().enumerate() {
            match rule(value, at + 1, features, actions, sold) {
                Ok(rule) => rules.push(rule),
                Err(wrong) => self.report(PATH, wrong.what, &wrong.fix),
            }
        }
        Rules(rules)
    }
}

fn rule(
    value: &Toml,
    number: usize,
    features: &BTreeMap<String, Price>,
    actions: &BTreeMap<String, Allowance>,
    sold: &Catalogue,
) -> Checked<Rule> {
    let nothing = format!("Rule {number}");
    let table = value.as_table();
    let table =
        table.ok_or_else(|| misfit(format!("{nothing} is not a table."), "Write { path = \"/a/*\" }."))?;
    let path = text(table, "path", &nothing)?.unwrap_or_default();
    let subject = format!("Rule {number} (`{}`)", shown(path));
    if let Some(stranger) = table.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
        let fix = match nearest(stranger, MEMBERS.into_iter()) {
            Some(meant) => format!("Did you mean `{meant}`?"),
            None => format!("It may have {}.", MEMBERS.join(", ")),
        };
        return Err(misfit(format!("{subject} has an unknown member `{}`.", shown(stranger)), fix));
    }
    let pattern = Pattern::parse(path).ok_or_else(|| {
        let fix = "Write it as it is decoded, such as \"/admin/*\" or \"/users/*/avatar\": a `*` is a whole segment, \
            and at the end all that follows.";
        misfit(format!("{subject} has no path that can be matched."), fix)
    })?;
    let asks = Asks {
        public: flag(table, "public", &subject)?,
        role: name(table, "role", &subject)?,
        entitlement: name(table, "entitlement", &subject)?,
        feature: name(table, "feature", &subject)?,
        guest: name(table, "guest", &subject)?,
    };
    consistent(&asks, &subject)?;
    if let Some(feature) = asks.feature.as_deref().filter(|feature| !features.contains_key(*feature)) {
        let fix = match nearest(feature, features.keys().map(String::as_str)) {
            Some(meant) => format!("Did you mean `{meant}`?"),
            None => format!("Give it a price: credits.features = {{ \"{}\" = 5 }}.", shown(feature)),
        };
        return Err(misfit(format!("{subject} charges for a feature without a price."), fix));
    }
    if let Some(wanted) = asks.entitlement.as_deref().filter(|wanted| !sold.knows_feature(wanted)) {
        let known = sold.plans.values().flat_map(|plan| &plan.features).map(String::as_str);
        let fix = match nearest(wanted, known) {
            Some(meant) => format!("Did you mean `{meant}`?"),
            None => format!("Let a plan turn it on: features = [\"{}\"] in stripe.plans.", shown(wanted)),
        };
        return Err(misfit(format!("{subject} asks for an entitlement that no plan has."), fix));
    }
    if let Some(action) = asks.guest.as_deref().filter(|action| !actions.contains_key(*action)) {
        let fix = match nearest(action, actions.keys().map(String::as_str)) {
            Some(meant) => format!("Did you mean `{meant}`?"),
            None => format!("Say how often: guest.allowances = {{ \"{}\" = 3 }}.", shown(action)),
        };
        return Err(misfit(format!("{subject} names an action of guests without an allowance."), fix));
    }
    Ok(Rule { path: pattern, methods: methods(table, &subject)?, asks })
}

/// Members that say the opposite of each other.
fn consistent(asks: &Asks, subject: &str) -> Checked<()> {
    let more =
        asks.role.is_some() || asks.entitlement.is_some() || asks.feature.is_some() || asks.guest.is_some();
    if asks.public && more {
        let what = format!("{subject} is public, and asks for more.");
        return Err(misfit(what, "Leave out public, or role, entitlement, feature and guest."));
    }
    if asks.guest.is_some() && asks.role.is_some() {
        let what = format!("{subject} lets visitors pass who have no role, and asks for one.");
        return Err(misfit(what, "Leave out guest or role."));
    }
    if asks.guest.is_some() && asks.entitlement.is_some() {
        let what = format!("{subject} lets visitors pass who have no plan, and asks for an entitlement.");
        return Err(misfit(what, "Leave out guest or entitlement."));
    }
    Ok(())
}

fn text<'a>(table: &'a Table, name: &str, subject: &str) -> Checked<Option<&'a str>> {
    match table.get(name) {
        None => Ok(None),
        Some(Toml::String(text)) => Ok(Some(text)),
        Some(_) => {
            Err(misfit(format!("{subject} has a {name} that is no text."), format!("Write {name} = \"…\".")))
        }
    }
}

fn name(table: &Table, member: &str, subject: &str) -> Checked<Option<String>> {
    let Some(text) = text(table, member, subject)? else { return Ok(None) };
    let good = (1..=NAME_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
    let wrong = || -> Misfit {
        let what = format!("{subject} has a {member} that is not a name: `{}`.", shown(text));
        misfit(what, "Write one name of visible ASCII characters without spaces and commas.")
    };
    if good { Ok(Some(text.to_owned())) } else { Err(wrong()) }
}

fn flag(table: &Table, name: &str, subject: &str) -> Checked<bool> {
    match table.get(name) {
        None => Ok(false),
        Some(Toml::Boolean(flag)) => Ok(*flag),
        Some(_) => Err(misfit(
            format!("{subject} has a {name} that is neither true nor false."),
            format!("Write {name} = true."),
        )),
    }
}

fn methods(table: &Table, subject: &str) -> Checked<Vec<String>> {
    let fix = "Write methods = [\"GET\", \"POST\"], in capitals; without it the rule is for all.";
    let wrong = || misfit(format!("{subject} has methods that are none."), fix);
    let Some(value) = table.get("methods") else { return Ok(Vec::new()) };
    let written = value.as_array().filter(|written| !written.is_empty()).ok_or_else(wrong)?;
    let one = |value: &Toml| {
        let fits = |text: &&str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
        };
        value.as_str().filter(fits).map(str::to_owned).ok_or_else(wrong)
    };
    written.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::super::source::Environment;
    use super::super::{Loaded, load};
    use super::*;

    fn loaded(text: &str, variables: &[(&str, &str)]) -> Loaded {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tollgate.toml");
        std::fs::write(
            &path,
            format!(
                "[guest.allowances]\ngenerate = 3\n[credits.features]\n\"image.generate\" = 5\n[stripe.plans.pro]\n\
                 price = \"price_1\"\ncredits = 1\namount = 1\ncurrency = \"usd\"\nfeatures = [\"export\"]\n{text}\n"
            ),
        )
        .unwrap();
        load(Some(&path), &Environment::from(variables))
    }

    #[test]
    fn rules_are_read_in_their_order() {
        let text = r#"
            [[gate.rules]]
            path = "/admin/*"
            role = "admin"
            [[gate.rules]]
            path = "/api/images/*"
            methods = ["POST", "PUT"]
            feature = "image.generate"
            guest = "generate"
            [[gate.rules]]
            path = "/assets/*"
            public = true
            [[gate.rules]]
            path = "/api/me"
            entitlement = "export""#;
        let found = loaded(text, &[]);
        assert_eq!(found.problems, []);
        let [admin, images, assets, me] = &found.config.gate.0[..] else { panic!() };
        assert_eq!(admin.asks, Asks { role: Some("admin".into()), ..Asks::default() });
        assert_eq!(images.methods, ["POST", "PUT"]);
        assert_eq!(images.asks.feature.as_deref(), Some("image.generate"));
        assert_eq!(images.asks.guest.as_deref(), Some("generate"));
        assert!(assets.asks.public && me.methods.is_empty());
        assert_eq!(me.asks, Asks { entitlement: Some("export".into()), ..Asks::default() });
        let variable = [("TOLLGATE_GATE__RULES", "[{ path = \"/\", public = true }]")];
        assert_eq!(loaded(text, &variable).config.gate.0.len(), 1);
        assert_eq!(loaded("", &[]).config.gate, Rules::default());
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_named() {
        for (text, what) in [
            ("rules = 3", "This is not a list of rules."),
            ("rules = [3]", "Rule 1 is not a table."),
            ("rules = [{ role = \"admin\" }]", "Rule 1 (``) has no path that can be matched."),
            ("rules = [{ path = 3 }]", "Rule 1 has a path that is no text."),
            (
                "rules = [{ path = \"/a\" }, { path = \"/a*\" }]",
                "Rule 2 (`/a*`) has no path that can be matched.",
            ),
            ("rules = [{ path = \"/a\", rol = \"x\" }]", "Rule 1 (`/a`) has an unknown member `rol`."),
            ("rules = [{ path = \"/a\", role = \"\" }]", "Rule 1 (`/a`) has a role that is not a name: ``."),
            (
                "rules = [{ path = \"/a\", role = \"a,b\" }]",
                "Rule 1 (`/a`) has a role that is not a name: `a,b`.",
            ),
            (
                "rules = [{ path = \"/a\", public = 1 }]",
                "Rule 1 (`/a`) has a public that is neither true nor false.",
            ),
            (
                "rules = [{ path = \"/a\", public = true, role = \"x\" }]",
                "Rule 1 (`/a`) is public, and asks for more.",
            ),
            (
                "rules = [{ path = \"/a\", guest = \"g\", role = \"x\" }]",
                "Rule 1 (`/a`) lets visitors pass who have no role, and asks for one.",
            ),
            ("rules = [{ path = \"/a\", methods = [] }]", "Rule 1 (`/a`) has methods that are none."),
            ("rules = [{ path = \"/a\", methods = [\"get\"] }]", "Rule 1 (`/a`) has methods that are none."),
            ("rules = [{ path = \"/a\", methods = \"GET\" }]", "Rule 1 (`/a`) has methods that are none."),
            (
                "rules = [{ path = \"/a\", feature = \"image.generat\" }]",
                "Rule 1 (`/a`) charges for a feature without a price.",
            ),
            (
                "rules = [{ path = \"/a\", entitlement = \"exprt\" }]",
                "Rule 1 (`/a`) asks for an entitlement that no plan has.",
            ),
            (
                "rules = [{ path = \"/a\", entitlement = \"export\", guest = \"generate\" }]",
                "Rule 1 (`/a`) lets visitors pass who have no plan, and asks for an entitlement.",
            ),
            (
                "rules = [{ path = \"/a\", entitlement = \"export\", public = true }]",
                "Rule 1 (`/a`) is public, and asks for more.",
            ),
            (
                "rules = [{ path = \"/a\", guest = \"generat\" }]",
                "Rule 1 (`/a`) names an action of guests without an allowance.",
            ),
        ] {
            let problems = loaded(&format!("[gate]\n{text}"), &[]).problems;
            let found: Vec<&str> = problems.iter().map(|problem| problem.what.as_str()).collect();
            assert_eq!(found, [what], "{text}");
            assert!(problems[0].place.is_some() && !problems[0].fix.is_empty(), "{text}");
        }
        let near = loaded("[gate]\nrules = [{ path = \"/a\", feature = \"image.generat\" }]", &[]);
        assert_eq!(near.problems[0].fix, "Did you mean `image.generate`?");
    }
}
