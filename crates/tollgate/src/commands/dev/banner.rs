//! What `dev` prints when it is ready: where everything is, and what to copy into an app.

use super::seed::{PASSWORD, USERS};
use crate::terminal::Terminal;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub struct Banner {
    pub base_url: String,
    /// The data folder, when it was made just now.
    pub folder: Option<PathBuf>,
    pub seeded: bool,
    pub key: String,
    pub sells: Sells,
}

/// Where what is bought is paid.
pub enum Sells {
    Nothing,
    /// Its address.
    AtTill(String),
    /// In test mode; whether the webhook door is open.
    AtStripe {
        hears: bool,
    },
}

impl Banner {
    pub fn text(&self, terminal: &Terminal, took: Duration) -> String {
        let base = &self.base_url;
        let mut out = terminal.bold(&format!(
            "Tollgate {}: development mode (not for the internet)",
            env!("CARGO_PKG_VERSION")
        ));
        out.push_str("\n\n");
        let mut line = |label: &str, value: &str, note: &str| {
            let padding = " ".repeat(42usize.saturating_sub(value.chars().count()).max(2));
            let _ = writeln!(
                out,
                "  {} {value}{padding}{}",
                terminal.bold(&format!("{label:<9}")),
                terminal.dim(note)
            );
        };
        if let Some(folder) = &self.folder {
            line("Created", &format!("{}/", folder.display()), "database, secrets, keys (mode 0700)");
        }
        if self.seeded {
            let users = USERS.map(|(_, email)| email).join(", ");
            line("Users", &users, &format!("password {PASSWORD}"));
        }
        line("API", &format!("{base}/api/auth"), "speaks Better Auth 1.x");
        line("Mail", &format!("{base}/dev/mail"), "every mail lands here");
        line("Start", &format!("{base}/dev"), "snippets to copy");
        match &self.sells {
            Sells::Nothing => {}
            Sells::AtTill(till) => {
                line("Billing", &format!("{base}/billing"), "buy credits, see the balance");
                line("Till", till, "stands in for Stripe: pay, refund, dispute");
            }
            Sells::AtStripe { .. } => {
                line("Billing", &format!("{base}/billing"), "sold at Stripe, in test mode");
            }
        }
        line("Health", &format!("{base}/healthz"), "and /readyz");
        line("Metrics", &format!("{base}/metrics"), "for Prometheus");
        line("OpenAPI", &format!("{base}/openapi.json"), "every route of every door");
        if let Sells::AtStripe { hears: false } = self.sells {
            let _ = write!(
                out,
                "\n  So that payments are noticed at once, let Stripe's command line send events here:\n    stripe listen --forward-to {base}/api/billing/webhook\n  and write the whsec_… that it prints into stripe.webhook_secrets.\n"
            );
        }
        let _ = write!(
            out,
            "\n  For your app's .env.local:\n    NEXT_PUBLIC_AUTH_URL={base}\n    TOLLGATE_URL={base}\n    TOLLGATE_KEY={}\n",
            self.key
        );
        if self.seeded {
            let body = json!({"email": USERS[0].1, "password": PASSWORD});
            let _ = write!(
                out,
                "\n  Sign in from another terminal:\n    curl -i {base}/api/auth/sign-in/email -H 'content-type: application/json' -d '{body}'\n"
            );
        }
        let _ = write!(out, "\nReady in {:.1} s. Ctrl-C stops; data stays.", took.as_secs_f64().max(0.1));
        out
    }

    pub fn json(&self, listening: SocketAddr) -> Value {
        let users = if self.seeded { USERS.map(|(_, email)| email).to_vec() } else { Vec::new() };
        let till = match &self.sells {
            Sells::AtTill(till) => Some(till),
            _ => None,
        };
        json!({
            "listening": format!("http://{listening}"), "base_url": self.base_url, "key": self.key, "users": users,
            "password": self.seeded.then_some(PASSWORD), "till": till,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_has_the_lines_to_copy_and_no_colour_when_nobody_looks() {
        let banner = Banner {
            base_url: "http://localhost:8655".into(),
            folder: Some("tollgate-data".into()),
            seeded: true,
            key: "tg_sk_x".into(),
            sells: Sells::AtTill("http://127.0.0.1:40000".into()),
        };
        let text = banner.text(&Terminal::new(false, true), Duration::from_millis(214));
        for part in [
            "    TOLLGATE_KEY=tg_sk_x\n",
            "http://localhost:8655/dev/mail",
            "http://127.0.0.1:40000",
            "-d '{\"email\":\"ada@example.test\",\"password\":\"correct-horse-battery\"}'",
            "Ready in 0.2 s. Ctrl-C stops; data stays.",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains('\x1b'));
    }
}
