//! What `doctor` looks at when people may sign in elsewhere: whether each provider describes itself and shows its keys.

use super::Findings;
use crate::config::Config;
use crate::deployment::{now, single_threaded};
use crate::problem::Problem;
use crate::process::providers;
use oidc::{Provider, Trouble};

pub fn check(config: &Config, findings: &mut Findings) {
    if config.providers.is_empty() {
        return;
    }
    let (Ok(providers), Ok(runtime)) = (providers(config), single_threaded()) else { return };
    let base = config.base_url.as_deref().unwrap_or_default().trim_end_matches('/');
    for provider in providers.iter() {
        let id = provider.settings.id;
        match runtime.block_on(provider.checkup(now())) {
            Ok(()) => {
                let asked = if provider.signs() { "describes itself and its keys" } else { "is configured" };
                findings.good.push(format!(
                    "the provider {id} {asked}; it sends people back to {base}/api/auth/callback/{id}"
                ));
            }
            Err(trouble) => findings.problems.push(problem(provider, &trouble)),
        }
    }
}

fn problem(provider: &Provider, trouble: &Trouble) -> Problem {
    let fix = match trouble {
        Trouble::Unavailable(_) => "See that this machine may reach it, and that issuer is right.",
        Trouble::Refused { .. } => "Correct issuer: below it lies /.well-known/openid-configuration.",
        _ => "Ask whoever runs the provider; issuer must be spelled as its description spells it.",
    };
    Problem::new(
        format!("providers.{}", provider.settings.id),
        format!("About the provider: {trouble}."),
        fix,
    )
}
