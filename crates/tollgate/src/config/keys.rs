//! Every setting there is, as data: its path, what it may be, its default and one sentence. The reading of files and
//! variables, their errors, the reference page and the file that `init` writes all come from this table.

use Default_::{Is, Unset};
use Kind::*;
use kernel::time::{DAY, HOUR, MINUTE, SECOND};

pub struct Key {
    /// Dotted: `mail.smtp_url` stands in section `[mail]`.
    pub path: &'static str,
    pub kind: Kind,
    pub default: Default_,
    pub doc: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Flag,
    Text,
    /// A text that no message ever repeats. May also be read from a file: `KEY_file`, `TOLLGATE_KEY_FILE`.
    SecretText,
    /// Several of them; in a file one a line, in a variable separated by commas.
    SecretList,
    List,
    Choice(&'static [&'static str]),
    /// Scheme, host and port; no path.
    BaseUrl,
    /// An address and port to listen on.
    Address,
    Count {
        min: i64,
        max: i64,
    },
    /// Bounds in milliseconds.
    Duration {
        min: i64,
        max: i64,
    },
    /// `{ "/path" = { window = "10s", max = 3 } }`
    Rules,
    /// Any TOML value; the room that uses it judges it. `form` names it in the reference, `example` is what to write.
    Toml {
        form: &'static str,
        example: &'static str,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Default_ {
    /// As it would stand in a variable.
    Is(&'static str),
    /// What happens without it.
    Unset(&'static str),
}

const fn key(path: &'static str, kind: Kind, default: Default_, doc: &'static str) -> Key {
    Key { path, kind, default, doc }
}

const GRANT: &str =
    "Write signup_grant = 100 or signup_grant = { amount = 100, unit = \"credits\", expires_in = \"30d\" }.";
const FEATURES: &str =
    "Write features = { \"image.generate\" = 5, \"search\" = { amount = 1, unit = \"tokens\" } }.";
const MODELS: &str = "Write models = { \"gpt-x\" = { per = 1000000, input = 250, output = 1000 } }.";
const RULES: &str = "Write [[gate.rules]] and below it path = \"/admin/*\" and role = \"admin\".";
const LOW_BALANCE: &str = "Write low_balance = 100 or low_balance = { credits = 100, tokens = 5000 }.";
const PROVIDERS: &str = "Write [providers.google] and below it client_id and client_secret.";
const PACKS: &str = "Write [stripe.packs.small] and below it price, credits, amount and currency.";
const PLANS: &str = "Write [stripe.plans.pro] and below it price, credits, amount, currency and interval.";
const ALLOWANCES: &str = "Write allowances = { generate = 3, \"image.preview\" = 10 }.";
const ADDRESS_ALLOWANCES: &str = "Write address_allowances = { generate = 15 }.";
const YEAR: i64 = 365 * DAY;

pub const SECTIONS: [(&str, &str); 22] = [
    ("cookies", "The session cookies."),
    ("session", "How long sessions live."),
    (
        "authjs",
        "An app with Auth.js: its adapter, and its sessions where `session.strategy` says that they count.",
    ),
    ("email_password", "Accounts with an e-mail address and a password."),
    ("accounts", "What users may do to their own accounts."),
    ("methods", "Ways to carry a session and markers beside it that can be switched off."),
    ("api_keys", "Keys that users and organizations make for programs (`methods.api_keys`)."),
    ("device", "Sign-in of devices without a keyboard (`methods.device_authorization`)."),
    ("jwt", "Tokens that services check by themselves (`methods.jwt`)."),
    ("passkey", "The site that passkeys are made for (`methods.passkey`)."),
    ("organizations", "What users share (`methods.organizations`)."),
    ("credits", "The ledger: its units, what things cost, and what new users get."),
    ("guest", "Visitors without an account: a signed cookie, and what they may try before they sign up."),
    ("gate", "What `/api/gate/forward` tells reverse proxies."),
    ("stripe", "Selling credits: the account at Stripe, packs and plans."),
    ("mail", "Outgoing mail. `dev` needs none: every mail lands in its inbox page."),
    ("hooks", "Outgoing events; `tollgate hooks add` makes an endpoint."),
    ("rate_limit", "Requests per client address on the sign-in and sign-up paths."),
    ("retention", "How long finished things are kept before the sweeper removes them."),
    ("database", "Connections to the database."),
    ("operations", "Health checks and metrics."),
    ("telemetry", "Logs."),
];

pub const KEYS: &[Key] = &[
    key(
        "base_url",
        BaseUrl,
        Unset("`dev` uses http://localhost and its port; `serve` refuses to start"),
        "The public address, without a path: cookies and mailed links belong to it.",
    ),
    key("listen", Address, Is("127.0.0.1:8655"), "The address and port the server listens on."),
    key("app_name", Text, Is("Tollgate"), "Your app's name, as mails and pages show it."),
    key(
        "secrets",
        SecretList,
        Unset(
            "the file `secrets` beside the SQLite database, which `dev` and `init` make; without it `serve` refuses to start",
        ),
        "At least 32 characters each; the first signs, all verify, so that one can be replaced without signing anybody out.",
    ),
    key(
        "database_url",
        SecretText,
        Is("sqlite://tollgate-data/tollgate.db"),
        "`sqlite://FILE`, seen from this file's folder, or `postgres://USER:PASSWORD@HOST/NAME`.",
    ),
    key(
        "redis_url",
        SecretText,
        Unset("counters live in the database"),
        "`redis://HOST:6379`: where rate limits and guests' allowances are counted when several nodes share them.",
    ),
    key(
        "trusted_origins",
        List,
        Is(""),
        "Origins of your apps, such as https://app.example.com or https://*.example.com; they may also call with credentials (CORS).",
    ),
    key(
        "trusted_proxies",
        List,
        Is(""),
        "Networks whose `X-Forwarded-For` counts, such as 10.0.0.0/8: your proxies and your backend.",
    ),
    key(
        "providers",
        Toml { form: "tables", example: PROVIDERS },
        Is("{}"),
        "Where else people may sign in, each under its name: `[providers.google]` with `client_id` and `client_secret`. See docs/reference/providers.md. Single members can come from variables such as `TOLLGATE_PROVIDERS__GOOGLE__CLIENT_SECRET`.",
    ),
    key(
        "cookies.domain",
        Text,
        Unset("cookies belong to the host of base_url alone"),
        "Parent domain for sessions shared by several subdomains, such as example.com.",
    ),
    key(
        "cookies.secure",
        Choice(&["auto", "true", "false"]),
        Is("auto"),
        "Sets `Secure` and the `__Secure-` prefix; auto follows the scheme of base_url.",
    ),
    key(
        "cookies.same_site",
        Choice(&["lax", "strict", "none"]),
        Is("lax"),
        "`none` is for apps on another site than base_url and needs https.",
    ),
    key("cookies.prefix", Text, Is("better-auth"), "Beginning of every cookie's name."),
    key(
        "session.expires_in",
        Duration { min: SECOND, max: YEAR * 10 },
        Is("7d"),
        "Life of a session without use.",
    ),
    key(
        "session.update_age",
        Duration { min: 0, max: YEAR },
        Is("1d"),
        "A session in use is extended when its last extension is this old.",
    ),
    key(
        "session.fresh_age",
        Duration { min: 0, max: YEAR },
        Is("1d"),
        "How long after signing in a session may do delicate things without the password; 0s: always.",
    ),
    key(
        "session.defer_refresh",
        Flag,
        Is("false"),
        "Reading a session never writes; the client extends it by a POST.",
    ),
    key(
        "session.strategy",
        Choice(&["session", "authjs-jwt", "authjs-database"]),
        Is("session"),
        "Who opens sessions: this program, or an app with Auth.js by its tokens (`authjs-jwt`) or by the sessions that its adapter keeps here (`authjs-database`). Each refuses what the others take.",
    ),
    key(
        "authjs.sign_in_url",
        Text,
        Unset("needed where sessions are the app's"),
        "The app's page for signing in, such as https://app.example.com/login: where everything sends people, with the parameter `callbackUrl`.",
    ),
    key(
        "authjs.adapter_secrets",
        SecretList,
        Unset("`/api/internal/auth` is shut"),
        "Open the door for the app's adapter, at least 32 characters each; two while one is being replaced.",
    ),
    key(
        "authjs.listen",
        Address,
        Unset("the adapter's door stands on the main listener"),
        "A listener of its own for `/api/internal/auth`, so that the public one does not have it.",
    ),
    key(
        "authjs.jwt_secrets",
        SecretList,
        Unset("needed by `authjs-jwt`"),
        "The app's secret (AUTH_SECRET, NEXTAUTH_SECRET), the newest first.",
    ),
    key(
        "authjs.format",
        Choice(&["jwe", "hs256"]),
        Is("jwe"),
        "How the app's tokens are written: `jwe` is what Auth.js does by itself, `hs256` needs functions in the app.",
    ),
    key(
        "authjs.cookie_name",
        Text,
        Unset("`authjs.session-token`, with `__Secure-` before it where sign_in_url is https"),
        "The app's session cookie; NextAuth 4 calls it `next-auth.session-token`.",
    ),
    key("email_password.enabled", Flag, Is("true"), "Signing in with e-mail and password."),
    key("email_password.sign_up", Flag, Is("true"), "New users may register themselves."),
    key(
        "email_password.require_verification",
        Flag,
        Is("false"),
        "No session before the address is verified by a mailed link.",
    ),
    key("email_password.auto_sign_in", Flag, Is("true"), "Signing up also signs in."),
    key(
        "email_password.auto_sign_in_after_verification",
        Flag,
        Is("false"),
        "Following the verification link also signs in.",
    ),
    key(
        "email_password.min_length",
        Count { min: 6, max: 128 },
        Is("8"),
        "Shortest password, in characters.",
    ),
    key(
        "email_password.max_length",
        Count { min: 16, max: 4096 },
        Is("128"),
        "Longest password, in characters.",
    ),
    key(
        "email_password.revoke_sessions_on_reset",
        Flag,
        Is("true"),
        "Resetting the password ends all sessions.",
    ),
    key("email_password.refuse_common", Flag, Is("true"), "Refuses the passwords that attackers try first."),
    key(
        "email_password.notify_taken",
        Flag,
        Is("true"),
        "A sign-up with a taken address that is answered like any other tells the owner by mail.",
    ),
    key("accounts.change_email", Flag, Is("false"), "Users may change their address."),
    key("accounts.delete_user", Flag, Is("false"), "Users may delete their account."),
    key("accounts.delete_needs_mail", Flag, Is("false"), "A deletion has to be confirmed by a mailed link."),
    key(
        "methods.bearer",
        Flag,
        Is("true"),
        "Sessions may also be sent as `Authorization: Bearer`, for apps without cookies.",
    ),
    key("methods.multi_session", Flag, Is("true"), "Several accounts signed in at once in one browser."),
    key(
        "methods.last_login_method",
        Flag,
        Is("true"),
        "A cookie that remembers how the user signed in last.",
    ),
    key(
        "methods.username",
        Flag,
        Is("false"),
        "Users may choose a name and sign in with it and their password.",
    ),
    key(
        "methods.magic_link",
        Flag,
        Is("false"),
        "Sign-in by a mailed link, which makes an account where there is none (not with `email_password.sign_up = false`).",
    ),
    key(
        "methods.magic_link_confirm",
        Flag,
        Is("true"),
        "The mailed link opens a page with a button, so that programs that look into mails do not use it up. With `false` it signs in at once.",
    ),
    key(
        "methods.email_code",
        Flag,
        Is("false"),
        "Sign-in, verification and password reset by a mailed code of six digits. Sign-in makes an account where there is none, as a link does.",
    ),
    key(
        "methods.change_email_by_code",
        Flag,
        Is("false"),
        "With `methods.email_code`, an account also moves to another address by mailed codes: one from the old address, if that was proven, and one from the new.",
    ),
    key(
        "methods.anonymous",
        Flag,
        Is("false"),
        "Accounts without an address, which a later sign-in takes over.",
    ),
    key(
        "methods.one_time_token",
        Flag,
        Is("false"),
        "A session may be handed to another of your apps by a token that works once.",
    ),
    key(
        "methods.jwt",
        Flag,
        Is("false"),
        "Signed tokens for services that cannot ask Tollgate. They stay good for 15 minutes after a revoke.",
    ),
    key(
        "methods.two_factor",
        Flag,
        Is("true"),
        "Users may ask for a second factor: an authenticator app, mailed codes, backup codes. Switched off, nobody is asked for one.",
    ),
    key("methods.passkey", Flag, Is("true"), "Sign-in with passkeys."),
    key(
        "methods.device_authorization",
        Flag,
        Is("false"),
        "Devices without a keyboard sign in by a code that the user approves elsewhere (RFC 8628).",
    ),
    key("methods.admin", Flag, Is("true"), "Users with the role `admin` manage users over HTTP."),
    key("methods.organizations", Flag, Is("true"), "Organizations with members, teams and invitations."),
    key("methods.api_keys", Flag, Is("true"), "Users and organizations make keys for programs."),
    key(
        "methods.api_key_sessions",
        Flag,
        Is("false"),
        "A user's key in `x-api-key` counts as a session at every route of the Better Auth door.",
    ),
    key(
        "jwt.expires_in",
        Duration { min: SECOND, max: 24 * HOUR },
        Is("15m"),
        "How long a token is good, whatever happens to the session.",
    ),
    key(
        "jwt.rotate_every",
        Duration { min: 0, max: 10 * YEAR },
        Is("90d"),
        "How long a key signs, at least 2h; 0s: for good. The next one is published an hour before it signs, and the last one for a day after.",
    ),
    key(
        "api_keys.rate_limit_max",
        Count { min: 0, max: 1_000_000_000 },
        Is("10"),
        "How often a new key may be used within its window; 0: any number of times. A key that exists keeps its own.",
    ),
    key(
        "api_keys.rate_limit_window",
        Duration { min: SECOND, max: YEAR },
        Is("24h"),
        "The window of a new key: the count begins anew when the last use is older than that.",
    ),
    key(
        "device.interval",
        Duration { min: SECOND, max: 60 * SECOND },
        Is("5s"),
        "How long a device waits before it asks again; one that does not wait is told to slow down.",
    ),
    key(
        "passkey.rp_id",
        Text,
        Unset("the host of base_url"),
        "The host that passkeys belong to: that of base_url, or a domain above it where apps on several subdomains use them. Changed, it makes every passkey worthless.",
    ),
    key("passkey.rp_name", Text, Unset("app_name"), "Your service's name, as authenticators show it."),
    key(
        "organizations.members",
        Count { min: 1, max: 10_000 },
        Is("100"),
        "Most members of one organization.",
    ),
    key(
        "organizations.invitations",
        Count { min: 1, max: 1_000 },
        Is("100"),
        "Most invitations of one organization that wait for an answer.",
    ),
    key("organizations.teams", Count { min: 1, max: 1_000 }, Is("100"), "Most teams of one organization."),
    key(
        "organizations.organizations",
        Count { min: 0, max: 1_000 },
        Is("100"),
        "Whoever belongs to so many makes no further one; 0: nobody makes any.",
    ),
    key(
        "organizations.invitation_expires_in",
        Duration { min: SECOND, max: YEAR },
        Is("48h"),
        "How long an invitation waits for its answer.",
    ),
    key(
        "organizations.invitation_url",
        Text,
        Unset("`/accept/` and the id, below base_url"),
        "Your app's page for invitations, with `{id}` in the place of the id: https://app.example.com/invitations/{id}.",
    ),
    key(
        "organizations.require_verified_email",
        Flag,
        Is("false"),
        "Invitations are shown to and answered by verified addresses only. Without it, knowing the mailed id is the proof.",
    ),
    key(
        "credits.units",
        List,
        Is("credits"),
        "What is counted; the first is meant where none is named. Names of a to z, 0 to 9, `_` and `-`; taking one away does not end its accounts.",
    ),
    key(
        "credits.signup_grant",
        Toml { form: "number or table", example: GRANT },
        Is("0"),
        "What a new user gets, once for a mailbox however it is spelled, also after a deletion; with email_password.require_verification when the address is verified: `100` or `{ amount = 100, unit = \"credits\", expires_in = \"30d\" }`.",
    ),
    key(
        "credits.negative_floor",
        Count { min: -credits::MAX_AMOUNT, max: 0 },
        Is("0"),
        "How far below zero an account may go when a debit allows it; accounts can have their own.",
    ),
    key(
        "credits.features",
        Toml { form: "table", example: FEATURES },
        Is("{}"),
        "What a use of a feature costs: `{ \"image.generate\" = 5, \"search\" = { amount = 1, unit = \"tokens\" } }`. A start with other prices makes the next version of the price book.",
    ),
    key(
        "credits.models",
        Toml { form: "table", example: MODELS },
        Is("{}"),
        "What a model's tokens cost for `per` (1000 or 1000000) of them: `{ \"gpt-x\" = { per = 1000000, input = 250, output = 1000, cached = 25, reasoning = 1000, unit = \"credits\" } }`. Left out, `cached` costs what `input` does, and `reasoning` what `output` does.",
    ),
    key(
        "credits.time_zone",
        Text,
        Is("UTC"),
        "Where the days and months of spending limits begin: an IANA name such as Europe/Berlin.",
    ),
    key(
        "credits.low_balance",
        Toml { form: "number or table", example: LOW_BALANCE },
        Is("0"),
        "An event tells when less than this is available, 0: never; for the first unit, or for each one: `{ credits = 100, tokens = 5000 }`.",
    ),
    key(
        "credits.buy_url",
        Text,
        Unset("a 402 names none"),
        "Where people buy more, as a 402 names it: a URL, or a path in your app.",
    ),
    key("guest.enabled", Flag, Is("true"), "The door `/api/guest`; without it every path there is 404."),
    key(
        "guest.secrets",
        SecretList,
        Unset("one derived from each of `secrets`; `tollgate secrets show guest` prints them"),
        "Sign the guest cookie, at least 32 characters each, none of them one of `secrets`: the first signs, all verify. A backend in Python that reads the cookie has them, too.",
    ),
    key(
        "guest.ttl",
        Duration { min: SECOND, max: 30 * DAY },
        Is("24h"),
        "Life of the guest cookie. Allowances begin anew 24 hours after the first use, whatever stands here.",
    ),
    key(
        "guest.allowances",
        Toml { form: "table", example: ALLOWANCES },
        Is("{}"),
        "What a guest may do how often in 24 hours, by the names that your backend gives its actions: `{ generate = 3 }`.",
    ),
    key(
        "guest.address_allowances",
        Toml { form: "table", example: ADDRESS_ALLOWANCES },
        Is("{}"),
        "The same for all guests of one client address (IPv6: of one /64) together: whoever deletes the cookie is a new guest at the same address. Where an action is not named, five times what `allowances` says.",
    ),
    key(
        "guest.on_counter_loss",
        Choice(&["refuse", "per_node"]),
        Is("refuse"),
        "With redis_url and while Redis does not answer: `refuse` answers guests' actions with 503, `per_node` lets each node count in its memory.",
    ),
    key(
        "gate.rules",
        Toml { form: "list of tables", example: RULES },
        Is("[]"),
        "What requests ask for, by path and methods; the first rule that matches decides, and what none speaks of needs a session: `[{ path = \"/admin/*\", role = \"admin\" }, { path = \"/api/images/*\", methods = [\"POST\"], feature = \"image.generate\" }, { path = \"/assets/*\", public = true }]`. A rule may have `entitlement` and `guest`, too. See docs/reference/gate.md.",
    ),
    key(
        "stripe.secret_key",
        SecretText,
        Unset("nothing can be bought; in `dev` the till stands in for Stripe"),
        "The account's secret key, or a restricted one: `sk_test_…` for trying, `sk_live_…` for money.",
    ),
    key(
        "stripe.webhook_secrets",
        SecretList,
        Unset("`/api/billing/webhook` is shut"),
        "The endpoint's signing secret, `whsec_…`; two while one is being replaced.",
    ),
    key(
        "stripe.api_base",
        Text,
        Is("https://api.stripe.com"),
        "Where Stripe's API is: another address only for a stand-in on this machine.",
    ),
    key(
        "stripe.api_version",
        Text,
        Is(billing::stripe::VERSION),
        "The version that calls ask for. Another one than the default is your own risk; give the endpoint the same.",
    ),
    key(
        "stripe.tolerance",
        Duration { min: SECOND, max: 60 * MINUTE },
        Is("300s"),
        "How far the time of a webhook's signature may be off, into the past and into the future.",
    ),
    key(
        "stripe.packs",
        Toml { form: "table", example: PACKS },
        Is("{}"),
        "Credits for a single payment, by name: `{ small = { price = \"price_…\", credits = 500, amount = 1000, currency = \"usd\" } }`. `amount` is only shown, in the smallest unit of the currency; what is charged stands at Stripe. With `custom = { min = 500, max = 50000, credits_per_100 = 10 }` instead of price, credits and amount the buyer names the amount.",
    ),
    key(
        "stripe.plans",
        Toml { form: "table", example: PLANS },
        Is("{}"),
        "Credits for every period that is paid, by name: as a pack, with `interval` (day, week, month, year), `trial_days`, `trial_credits`, `features` that it turns on, and `rollover` for what is left of a period's credits: `none` (it ends), `full`, or `capped` with a `rollover_cap`.",
    ),
    key(
        "stripe.on_dispute",
        Choice(&["clawback", "freeze"]),
        Is("clawback"),
        "What an open dispute does to its payment's credits: takes them back until it is won, or keeps them from being spent until it is decided.",
    ),
    key(
        "stripe.shortfall",
        Choice(&["owe", "clamp"]),
        Is("owe"),
        "When money goes back and its credits are spent: the rest is owed and paid by later grants, or it is noted and forgotten.",
    ),
    key(
        "stripe.automatic_tax",
        Flag,
        Is("false"),
        "Lets Stripe work out taxes at checkout; needs Stripe Tax.",
    ),
    key("stripe.promotion_codes", Flag, Is("false"), "Checkout asks for promotion codes."),
    key(
        "mail.smtp_url",
        SecretText,
        Unset("`dev` shows mails in its inbox; `serve` refuses to start when something needs mail"),
        "`smtps://USER:PASSWORD@HOST:465`, `smtp://HOST:587` (STARTTLS when offered), or `none` to send nothing.",
    ),
    key("mail.from", Text, Unset("needed with smtp_url"), "Sender, such as `My app <no-reply@example.com>`."),
    key(
        "mail.templates",
        Text,
        Unset("the built-in ones"),
        "Folder whose files replace the built-in mail templates of the same name.",
    ),
    key(
        "mail.credit_notices",
        Flag,
        Is("true"),
        "Mails users when their balance falls below `credits.low_balance`, and three days before credits end (a plan's excepted).",
    ),
    key(
        "hooks.allow_private",
        Flag,
        Is("false"),
        "Lets events go to private addresses and, in `serve`, to this machine. Off, whoever may add an endpoint reaches nothing inside your network.",
    ),
    key(
        "rate_limit.enabled",
        Flag,
        Unset("on in `serve`, off in `dev`"),
        "Limits requests per client address; refusals are 429 with `X-Retry-After`.",
    ),
    key(
        "rate_limit.rules",
        Rules,
        Is("{}"),
        "Replaces the built-in rule of a path; max 0 switches it off: `{ \"/sign-in/email\" = { window = \"10s\", max = 3 } }`.",
    ),
    key(
        "retention.ended_sessions",
        Duration { min: 0, max: YEAR * 100 },
        Is("7d"),
        "Sessions that ended or expired.",
    ),
    key(
        "retention.one_time_values",
        Duration { min: 0, max: YEAR * 100 },
        Is("1d"),
        "Links and codes that expired unused.",
    ),
    key(
        "retention.sent_mails",
        Duration { min: 0, max: YEAR * 100 },
        Is("7d"),
        "Mails that were delivered or given up.",
    ),
    key(
        "retention.billing_events",
        Duration { min: 90 * DAY, max: YEAR * 100 },
        Is("90d"),
        "Stripe's events that were done or ignored. What was paid and granted is kept for ever.",
    ),
    key(
        "retention.hook_events",
        Duration { min: 7 * DAY, max: YEAR * 100 },
        Is("30d"),
        "Outgoing events with the log of their deliveries. So far back `tollgate hooks resend` reaches.",
    ),
    key(
        "database.pool_size",
        Count { min: 1, max: 1000 },
        Unset("chosen by the number of cores"),
        "Connections to PostgreSQL, or reader connections for lists and searches on SQLite.",
    ),
    key(
        "operations.listen",
        Address,
        Unset("they answer on the main listener"),
        "A listener of their own for /healthz, /readyz and /metrics, so that the public one does not show them.",
    ),
    key(
        "telemetry.log",
        Text,
        Is("info"),
        "What is logged: error, warn, info, debug, trace, or per room such as `info,store=debug`.",
    ),
    key(
        "telemetry.format",
        Choice(&["text", "json"]),
        Is("text"),
        "One line of text or one JSON object for each event, on standard error.",
    ),
];

impl Key {
    pub fn find(path: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.path == path)
    }

    pub fn is_secret(&self) -> bool {
        matches!(self.kind, SecretText | SecretList)
    }

    /// `mail.smtp_url` is `TOLLGATE_MAIL__SMTP_URL`.
    pub fn variable(&self) -> String {
        format!("TOLLGATE_{}", self.path.replace('.', "__").to_ascii_uppercase())
    }

    pub fn section(&self) -> Option<&'static str> {
        self.path.split_once('.').map(|(section, _)| section)
    }

    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }
}

pub fn is_section(name: &str) -> bool {
    SECTIONS.iter().any(|(section, _)| *section == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_unique_and_stands_in_a_described_section() {
        for (index, key) in KEYS.iter().enumerate() {
            assert!(KEYS[..index].iter().all(|earlier| earlier.path != key.path), "{}", key.path);
            assert!(key.section().is_none_or(is_section), "{}", key.path);
            assert!(key.doc.ends_with('.'), "{}", key.path);
        }
        for (section, _) in SECTIONS {
            assert!(KEYS.iter().any(|key| key.section() == Some(section)), "{section}");
        }
    }
}
