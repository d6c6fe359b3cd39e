//! How mails leave: SMTP with a few kept connections and a time limit on every step, or not at all.
//!
//! The steps are driven one by one rather than through the library's `send`, because what a failure means depends on
//! where it happened: before the content was handed over a mail can be tried again freely, after it another try may be
//! a second copy.

use crate::address::{Address, Sender};
use crate::schedule::{Delivery, Reason};
use kernel::{Secret, Stopwatch};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// From the connection to the server's leave to send the content.
const PREPARE_TIME: Duration = Duration::from_secs(10);
/// For the answer to the content. RFC 5321 asks for patience here, because giving up means a second copy; together with
/// the preparation it stays within [`crate::outbox::LEASE`].
const CONFIRM_TIME: Duration = Duration::from_secs(30);
const CHECK_TIME: Duration = Duration::from_secs(5);
const FAREWELL_TIME: Duration = Duration::from_secs(1);
const KEPT_CONNECTIONS: usize = 4;
const KEPT_TIME: Duration = Duration::from_secs(20);
const MAILS_PER_CONNECTION: u32 = 100;

/// Where mails go.
#[derive(Clone, Debug)]
pub enum Transport {
    Smtp(Smtp),
    /// `dev`: they stay in the store, for the inbox page.
    Capture,
    /// `smtp_url = "none"`: they are dropped.
    Nothing,
}

/// Never repeats the URL, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SmtpUrlError {
    #[error(
        "smtp_url must look like smtps://user:password@mail.example.com:465 or smtp://mail.example.com:587"
    )]
    Form,
    #[error("smtp_url needs both a user and a password, or neither")]
    Login,
    #[error("smtp_url: tls must be required, opportunistic or none")]
    Tls,
    #[error("smtp_url: the only setting after ? is tls, and smtps takes none")]
    Setting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tls {
    /// `smtps`: from the first byte.
    Implicit,
    Required,
    /// STARTTLS when the server offers it; the default.
    Opportunistic,
    /// Asked for by `tls=none`: the operator accepts clear text, credentials included.
    Off,
}

struct Settings {
    host: String,
    port: u16,
    tls: Tls,
    parameters: Option<TlsParameters>,
    login: Option<Login>,
    is_loopback: bool,
    from: Sender,
    hello: ClientId,
}

struct Login {
    user: Secret<String>,
    password: Secret<String>,
}

/// A mail server and the sender's address; cheap to clone.
#[derive(Clone)]
pub struct Smtp {
    settings: Arc<Settings>,
    kept: Arc<Mutex<Vec<Connection>>>,
}

struct Connection {
    link: AsyncSmtpConnection,
    mails: u32,
    idle: Stopwatch,
}

/// What [`Smtp::check`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    pub encrypted: bool,
    pub authenticated: bool,
}

impl fmt::Debug for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { host, port, tls, .. } = &*self.settings;
        f.debug_struct("Smtp")
            .field("host", host)
            .field("port", port)
            .field("tls", tls)
            .finish_non_exhaustive()
    }
}

impl Smtp {
    /// Reads `smtps://…` or `smtp://…[?tls=required|opportunistic|none]`. The port defaults to 465 for `smtps`, and for
    /// `smtp` to 587 with credentials and 25 without. Credentials are not sent in clear, except to this machine or
    /// with `tls=none`. User and password are percent-encoded where needed.
    pub fn new(url: &Secret<String>, from: Sender) -> Result<Smtp, SmtpUrlError> {
        let url = url::Url::parse(url.expose()).map_err(|_| SmtpUrlError::Form)?;
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(SmtpUrlError::Form);
        }
        let (host, is_loopback) = match url.host().ok_or(SmtpUrlError::Form)? {
            // The parser leaves hosts of unknown schemes as they are: an IPv4 address is a name to it.
            url::Host::Domain(name) => match name.parse::<IpAddr>() {
                Ok(address) => (name.to_string(), address.is_loopback()),
                Err(_) => (name.to_string(), name.eq_ignore_ascii_case("localhost")),
            },
            url::Host::Ipv4(address) => (address.to_string(), address.is_loopback()),
            url::Host::Ipv6(address) => (address.to_string(), address.is_loopback()),
        };
        if host.is_empty() {
            return Err(SmtpUrlError::Form);
        }
        let tls = tls_of(&url)?;
        let login = login_of(&url)?;
        let default_port = match (tls, &login) {
            (Tls::Implicit, _) => 465,
            (_, Some(_)) => 587,
            (_, None) => 25,
        };
        let parameters = match tls {
            Tls::Off => None,
            _ => Some(TlsParameters::new(host.clone()).map_err(|_| SmtpUrlError::Form)?),
        };
        let hello = ClientId::Domain(from.address.domain().to_string());
        let port = url.port().unwrap_or(default_port);
        let settings = Settings { host, port, tls, parameters, login, is_loopback, from, hello };
        Ok(Smtp { settings: Arc::new(settings), kept: Arc::default() })
    }

    pub(crate) fn from(&self) -> &Sender {
        &self.settings.from
    }

    /// Connects, greets and signs in, without sending anything: for `doctor`. The error is a sentence without secrets.
    pub async fn check(&self) -> Result<Checked, String> {
        let mut connection = match tokio::time::timeout(CHECK_TIME, self.connect()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(reason)) => return Err(reason.full()),
            Err(_) => return Err(format!("no answer within {} seconds", CHECK_TIME.as_secs())),
        };
        let encrypted = connection.link.is_encrypted();
        let _ = tokio::time::timeout(FAREWELL_TIME, connection.link.quit()).await;
        Ok(Checked { encrypted, authenticated: self.settings.login.is_some() })
    }

    /// Hands one composed mail to the server.
    pub(crate) async fn deliver(&self, to: &Address, mail: &[u8]) -> Delivery {
        let mut connection = match tokio::time::timeout(PREPARE_TIME, self.prepare(to)).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(delivery)) => return delivery,
            Err(_) => return Delivery::ServerTrouble(Reason::new("no answer in time", None, "")),
        };
        match tokio::time::timeout(CONFIRM_TIME, connection.link.message(mail)).await {
            Ok(Ok(_)) => {
                self.keep(connection);
                Delivery::Sent
            }
            Ok(Err(error)) => {
                let code = error.status().map(u16::from);
                // The server's words may repeat the content here: only the code is kept.
                let reason = Reason::new("content", code, "");
                part(connection);
                match code {
                    Some(421) => Delivery::ServerTrouble(reason),
                    Some(500..) => Delivery::Refused(reason),
                    Some(_) => Delivery::Later(reason),
                    None => Delivery::Unconfirmed(Reason::new("connection lost after the content", None, "")),
                }
            }
            Err(_) => Delivery::Unconfirmed(Reason::new("no answer to the content in time", None, "")),
        }
    }

    /// A connection on which the server awaits the content.
    async fn prepare(&self, to: &Address) -> Result<Connection, Delivery> {
        if let Some(mut connection) = self.take_kept() {
            // Servers close idle connections when they like: a failure here only means that a new one is needed.
            if self.open_mail(&mut connection).await.is_ok() {
                return self.address_mail(connection, to).await;
            }
            part(connection);
        }
        let mut connection = self.connect().await.map_err(Delivery::ServerTrouble)?;
        if let Err(reason) = self.open_mail(&mut connection).await {
            part(connection);
            return Err(Delivery::ServerTrouble(reason));
        }
        self.address_mail(connection, to).await
    }

    async fn open_mail(&self, connection: &mut Connection) -> Result<(), Reason> {
        let from = Mail::new(Some(self.settings.from.address.to_lettre()), Vec::new());
        let answer = connection.link.command(from).await;
        answer.map(|_| ()).map_err(|error| explain("sender", &error))
    }

    /// Exactly one recipient.
    async fn address_mail(&self, mut connection: Connection, to: &Address) -> Result<Connection, Delivery> {
        if let Err(error) = connection.link.command(Rcpt::new(to.to_lettre(), Vec::new())).await {
            let reason = explain("recipient", &error);
            part(connection);
            return Err(match reason.code {
                None | Some(421) => Delivery::ServerTrouble(reason),
                Some(500..) => Delivery::Refused(reason),
                Some(_) => Delivery::Later(reason),
            });
        }
        if let Err(error) = connection.link.command(Data).await {
            let reason = explain("data", &error);
            part(connection);
            return Err(Delivery::ServerTrouble(reason));
        }
        Ok(connection)
    }

    async fn connect(&self) -> Result<Connection, Reason> {
        let settings = &*self.settings;
        let address = (settings.host.as_str(), settings.port);
        let at_once = settings.parameters.clone().filter(|_| settings.tls == Tls::Implicit);
        let connected =
            AsyncSmtpConnection::connect_tokio1(address, Some(PREPARE_TIME), &settings.hello, at_once, None);
        let mut link = connected.await.map_err(|error| explain("connection", &error))?;
        if settings.tls == Tls::Required || (settings.tls == Tls::Opportunistic && link.can_starttls()) {
            let parameters = settings.parameters.clone();
            let parameters = parameters.ok_or_else(|| Reason::new("TLS", None, "not set up"))?;
            link.starttls(parameters, &settings.hello).await.map_err(|error| explain("TLS", &error))?;
        }
        if let Some(login) = &settings.login {
            // An attacker on the way can hide the offer of TLS; that must not get him the password.
            if !link.is_encrypted() && settings.tls != Tls::Off && !settings.is_loopback {
                let what = "the server offers no TLS, and credentials are not sent in clear";
                return Err(Reason::new("TLS", None, what));
            }
            let credentials = Credentials::new(login.user.expose().clone(), login.password.expose().clone());
            let answer = link.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await;
            // Only the code: an answer to credentials might repeat them.
            answer.map_err(|error| Reason::new("sign-in", error.status().map(u16::from), ""))?;
        }
        Ok(Connection { link, mails: 0, idle: Stopwatch::start() })
    }

    fn take_kept(&self) -> Option<Connection> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|connection| connection.idle.elapsed() < KEPT_TIME);
        kept.pop()
    }

    fn keep(&self, mut connection: Connection) {
        connection.mails += 1;
        connection.idle = Stopwatch::start();
        if connection.link.has_broken() || connection.mails >= MAILS_PER_CONNECTION {
            return part(connection);
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_CONNECTIONS {
            kept.push(connection);
        } else {
            drop(kept);
            part(connection);
        }
    }

    /// Says good-bye on kept connections.
    pub(crate) async fn close(&self) {
        let kept = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        for mut connection in kept {
            let _ = tokio::time::timeout(FAREWELL_TIME, connection.link.quit()).await;
        }
    }
}

/// Ends a connection without making anybody wait for it.
fn part(mut connection: Connection) {
    tokio::spawn(async move {
        let _ = tokio::time::timeout(FAREWELL_TIME, connection.link.abort()).await;
    });
}

fn explain(step: &'static str, error: &lettre::transport::smtp::Error) -> Reason {
    let mut detail = String::new();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        detail = inner.to_string();
        source = inner.source();
    }
    Reason::new(step, error.status().map(u16::from), &detail)
}

fn tls_of(url: &url::Url) -> Result<Tls, SmtpUrlError> {
    let is_implicit = match url.scheme() {
        "smtps" => true,
        "smtp" => false,
        _ => return Err(SmtpUrlError::Form),
    };
    let mut tls = if is_implicit { Tls::Implicit } else { Tls::Opportunistic };
    for (name, value) in url.query_pairs() {
        if name != "tls" || is_implicit {
            return Err(SmtpUrlError::Setting);
        }
        tls = match &*value {
            "required" => Tls::Required,
            "opportunistic" => Tls::Opportunistic,
            "none" => Tls::Off,
            _ => return Err(SmtpUrlError::Tls),
        };
    }
    Ok(tls)
}

fn login_of(url: &url::Url) -> Result<Option<Login>, SmtpUrlError> {
    match (url.username(), url.password().unwrap_or("")) {
        ("", "") => Ok(None),
        ("", _) | (_, "") => Err(SmtpUrlError::Login),
        (user, password) => {
            let decoded = |text| percent_decoded(text).map(Secret::new).ok_or(SmtpUrlError::Form);
            Ok(Some(Login { user: decoded(user)?, password: decoded(password)? }))
        }
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = std::str::from_utf8(after.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smtp(url: &str) -> Result<Smtp, SmtpUrlError> {
        Smtp::new(&Secret::new(url.to_string()), Sender::parse("a@example.com").unwrap())
    }

    #[test]
    fn urls_say_where_and_how() {
        let read = |url: &str| {
            let smtp = smtp(url).unwrap();
            (smtp.settings.host.clone(), smtp.settings.port, smtp.settings.tls)
        };
        assert_eq!(read("smtp://mail.example.com"), ("mail.example.com".into(), 25, Tls::Opportunistic));
        assert_eq!(read("smtp://u:p@mail.example.com").1, 587);
        assert_eq!(read("smtps://u:p@mail.example.com"), ("mail.example.com".into(), 465, Tls::Implicit));
        assert_eq!(read("smtp://127.0.0.1:2525/?tls=none"), ("127.0.0.1".into(), 2525, Tls::Off));
        assert_eq!(read("smtp://[::1]:2525?tls=required"), ("::1".into(), 2525, Tls::Required));
        assert!(smtp("smtp://127.0.0.1").unwrap().settings.is_loopback);
        assert!(!smtp("smtp://mail.example.com").unwrap().settings.is_loopback);
    }

    #[test]
    fn credentials_are_decoded_and_never_shown() {
        let smtp = smtp("smtp://us%40er:p%25w+%2f@mail.example.com").unwrap();
        let login = smtp.settings.login.as_ref().unwrap();
        assert_eq!((login.user.expose().as_str(), login.password.expose().as_str()), ("us@er", "p%w+/"));
        let shown = format!("{:?}", Transport::Smtp(smtp));
        assert!(!shown.contains("us@er") && !shown.contains("p%w") && !shown.contains("%25"), "{shown}");
    }

    #[test]
    fn urls_that_are_no_mail_server_are_refused_without_repeating_them() {
        for (url, error) in [
            ("http://mail.example.com", SmtpUrlError::Form),
            ("smtp://", SmtpUrlError::Form),
            ("mail.example.com:587", SmtpUrlError::Form),
            ("smtp://mail.example.com/path", SmtpUrlError::Form),
            ("smtp://user@mail.example.com", SmtpUrlError::Login),
            ("smtp://:sesame@mail.example.com", SmtpUrlError::Login),
            ("smtp://mail.example.com?tls=maybe", SmtpUrlError::Tls),
            ("smtp://mail.example.com?ssl=1", SmtpUrlError::Setting),
            ("smtps://mail.example.com?tls=none", SmtpUrlError::Setting),
        ] {
            assert_eq!(smtp(url).err(), Some(error), "{url}");
        }
        assert!(!format!("{:?}", smtp("smtp://:sesame@mail.example.com").err()).contains("sesame"));
    }
}
