//! The handle: where Tollgate is, the app's service key, and the pool of connections.

use crate::credentials::{IdempotencyKey, sensitive};
use crate::error::{Error, Misconfigured, Reason, Unavailable};
use crate::wire::{self, Answer, Connector, Question, Wire};
use http::header::AUTHORIZATION;
use http::uri::Scheme;
use http::{HeaderName, HeaderValue, StatusCode, Uri};
use serde::Deserialize;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(2);
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Tollgate, as an app sees it. Make one and clone it: clones share their connections.
///
/// `Debug` shows the address and nothing of the service key.
///
/// ```
/// use tollgate_client::Tollgate;
///
/// let tollgate = Tollgate::builder("http://127.0.0.1:8655").service_key("tg_sk_secret").build()?;
/// assert_eq!(format!("{tollgate:?}"), "Tollgate { address: \"http://127.0.0.1:8655\", .. }");
/// # Ok::<(), tollgate_client::BuildError>(())
/// ```
#[derive(Clone)]
pub struct Tollgate(Arc<Shared>);

struct Shared {
    wire: Wire,
    address: String,
    /// `Bearer tg_sk_…`.
    authority: Option<HeaderValue>,
}

impl Tollgate {
    /// Without a service key: enough for [`Tollgate::session`] and the extractors `User` and `MaybeUser`.
    ///
    /// ```
    /// let tollgate = tollgate_client::Tollgate::new("http://127.0.0.1:8655")?;
    /// # Ok::<(), tollgate_client::BuildError>(())
    /// ```
    pub fn new(address: impl Into<String>) -> Result<Tollgate, BuildError> {
        Tollgate::builder(address).build()
    }

    /// From `TOLLGATE_URL` and, if it is set, `TOLLGATE_KEY`; `TOLLGATE_SERVICE_KEY` is read where there is no
    /// `TOLLGATE_KEY`. What is empty is not set.
    ///
    /// ```no_run
    /// let tollgate = tollgate_client::Tollgate::from_env()?;
    /// # Ok::<(), tollgate_client::BuildError>(())
    /// ```
    pub fn from_env() -> Result<Tollgate, BuildError> {
        Tollgate::from_variables(variable)
    }

    fn from_variables(
        variable: impl Fn(&str) -> Result<Option<String>, NotText>,
    ) -> Result<Tollgate, BuildError> {
        let address = variable("TOLLGATE_URL").map_err(|NotText| BuildError::Address)?;
        let mut builder = Tollgate::builder(address.ok_or(BuildError::NoAddress)?);
        for name in ["TOLLGATE_KEY", "TOLLGATE_SERVICE_KEY"] {
            if let Some(key) = variable(name).map_err(|NotText| BuildError::ServiceKey)? {
                builder = builder.service_key(key);
                break;
            }
        }
        builder.build()
    }

    /// With everything that can be set. The address is `http://host:port`, best the one inside your network.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollgate_client::Tollgate;
    ///
    /// let tollgate = Tollgate::builder("http://tollgate.internal:8655")
    ///     .service_key("tg_sk_secret")
    ///     .timeout(Duration::from_millis(500))
    ///     .build()?;
    /// # Ok::<(), tollgate_client::BuildError>(())
    /// ```
    pub fn builder(address: impl Into<String>) -> Builder {
        Builder {
            address: address.into(),
            service_key: None,
            timeout: TIMEOUT,
            #[cfg(feature = "rustls")]
            roots: None,
        }
    }

    /// Whether Tollgate can answer questions, by its own account (`/readyz`): for the health check of an app that can do
    /// nothing without it.
    ///
    /// ```no_run
    /// # async fn example(tollgate: tollgate_client::Tollgate) {
    /// if let Err(error) = tollgate.healthy().await {
    ///     println!("not ready: {error}");
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when it cannot.
    pub async fn healthy(&self) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Readiness {
            status: String,
        }
        let answer = self.ask(Question::get("/readyz")).await?;
        if answer.status != StatusCode::OK {
            return Err(answer.unavailable().into());
        }
        match answer.json::<Readiness>()?.status.as_str() {
            "ready" => Ok(()),
            _ => Err(Unavailable::new(Reason::NotUnderstood("it is ready and says that it is not")).into()),
        }
    }

    pub(crate) async fn ask(&self, question: Question) -> Result<Answer, Unavailable> {
        self.0.wire.ask(question).await
    }

    /// Under the service key.
    pub(crate) async fn ask_as_service(&self, mut question: Question) -> Result<Answer, Error> {
        let authority = self.0.authority.clone().ok_or(Misconfigured::NoServiceKey)?;
        question.headers.insert(AUTHORIZATION, authority);
        Ok(self.ask(question).await?)
    }

    /// An effect under the service key and, where it shall happen once, under its own.
    pub(crate) async fn change(
        &self,
        target: &str,
        key: Option<&IdempotencyKey>,
        body: &Value,
    ) -> Result<Answer, Error> {
        let mut question = Question::post(target, body);
        if let Some(key) = key {
            question.headers.insert(IDEMPOTENCY_KEY, key.header());
        }
        self.ask_as_service(question).await
    }
}

impl fmt::Debug for Tollgate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tollgate").field("address", &self.0.address).finish_non_exhaustive()
    }
}

/// What a [`Tollgate`] is made of; see [`Tollgate::builder`].
///
/// ```
/// let builder = tollgate_client::Tollgate::builder("http://127.0.0.1:8655");
/// assert!(builder.build().is_ok());
/// ```
#[derive(Clone)]
pub struct Builder {
    address: String,
    service_key: Option<String>,
    timeout: Duration,
    #[cfg(feature = "rustls")]
    roots: Option<Vec<u8>>,
}

/// Why a handle cannot be made. `Debug` says the same as `Display`, since it is what a `main` prints that returns it.
///
/// ```
/// use tollgate_client::{BuildError, Tollgate};
///
/// assert_eq!(Tollgate::new("tollgate").unwrap_err(), BuildError::Address);
/// ```
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// `TOLLGATE_URL` is not set.
    #[error("TOLLGATE_URL is not set: give it Tollgate's address, such as http://127.0.0.1:8655")]
    NoAddress,
    /// The address is not one. It is not quoted, since some hold passwords.
    #[error("Tollgate's address must be `http://host:port` and nothing more, such as http://127.0.0.1:8655")]
    Address,
    /// The address needs TLS.
    #[error("an address with https needs the feature `rustls` of tollgate-client")]
    NeedsTls,
    /// The service key is not one.
    #[error("the service key must be what `tollgate key create` printed: `tg_sk_` and more, without spaces")]
    ServiceKey,
    /// Nothing is answered in no time.
    #[error("the timeout must be longer than nothing")]
    Timeout,
    /// The certificates cannot be read.
    #[error("the root certificates must be PEM, with at least one certificate")]
    RootCertificates,
}

impl fmt::Debug for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Builder {
    /// What `tollgate key create` printed. Credits need the scope `credits:write`, the gate needs `gate`.
    ///
    /// ```
    /// let builder = tollgate_client::Tollgate::builder("http://127.0.0.1:8655").service_key("tg_sk_secret");
    /// assert!(!format!("{builder:?}").contains("secret"));
    /// ```
    pub fn service_key(mut self, key: impl Into<String>) -> Builder {
        self.service_key = Some(key.into());
        self
    }

    /// The time for a whole call, from the connection to the last byte; 2 s by default.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let builder = tollgate_client::Tollgate::builder("http://127.0.0.1:8655").timeout(Duration::from_millis(500));
    /// assert!(builder.build().is_ok());
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Builder {
        self.timeout = timeout;
        self
    }

    /// Certificates (PEM) to trust in place of the public ones: for a Tollgate whose certificate an authority of your own
    /// has signed. Needs the feature `rustls`.
    ///
    /// ```no_run
    /// let pem = std::fs::read("ca.pem").unwrap();
    /// let tollgate =
    ///     tollgate_client::Tollgate::builder("https://tollgate.internal").root_certificates(pem).build()?;
    /// # Ok::<(), tollgate_client::BuildError>(())
    /// ```
    #[cfg(feature = "rustls")]
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Builder {
        self.roots = Some(pem.into());
        self
    }

    /// The handle. Nothing is asked yet, so Tollgate may start later.
    ///
    /// ```
    /// # use tollgate_client::{BuildError, Tollgate};
    /// let wrong = Tollgate::builder("http://127.0.0.1:8655").service_key("not one").build();
    /// assert_eq!(wrong.unwrap_err(), BuildError::ServiceKey);
    /// ```
    pub fn build(self) -> Result<Tollgate, BuildError> {
        let (scheme, authority) = place(&self.address)?;
        if self.timeout.is_zero() {
            return Err(BuildError::Timeout);
        }
        let connector = self.connector(&scheme)?;
        let address = format!("{scheme}://{authority}");
        let wire = Wire::new(connector, scheme, authority, self.timeout);
        let authority = self.service_key.as_deref().map(bearer).transpose()?;
        Ok(Tollgate(Arc::new(Shared { wire, address, authority })))
    }

    #[cfg(not(feature = "rustls"))]
    fn connector(&self, scheme: &Scheme) -> Result<Connector, BuildError> {
        if *scheme == Scheme::HTTPS {
            return Err(BuildError::NeedsTls);
        }
        Ok(wire::http_connector(false))
    }

    #[cfg(feature = "rustls")]
    fn connector(&self, _: &Scheme) -> Result<Connector, BuildError> {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject as _;

        let mut roots = rustls::RootCertStore::empty();
        match &self.roots {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let certificate = certificate.map_err(|_| BuildError::RootCertificates)?;
                    roots.add(certificate).map_err(|_| BuildError::RootCertificates)?;
                }
            }
        }
        if roots.is_empty() {
            return Err(BuildError::RootCertificates);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows the suites of TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(wire::http_connector(true)))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not even the address: it has not been looked at, and some write a password into it.
        f.debug_struct("Builder").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// A variable of the environment holds something else; it is not shown.
struct NotText;

/// What is empty is not set.
#[expect(clippy::disallowed_methods, reason = "`from_env` is there to read the environment")]
fn variable(name: &str) -> Result<Option<String>, NotText> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(NotText),
    }
}

fn place(address: &str) -> Result<(Scheme, http::uri::Authority), BuildError> {
    let uri: Uri = address.parse().map_err(|_| BuildError::Address)?;
    let parts = uri.into_parts();
    let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
        return Err(BuildError::Address);
    };
    let is_web = scheme == Scheme::HTTP || scheme == Scheme::HTTPS;
    let has_path = parts.path_and_query.is_some_and(|path| path.as_str() != "/");
    // `http://user:password@host` would send nothing of it, and print it.
    if !is_web || has_path || authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(BuildError::Address);
    }
    Ok((scheme, authority))
}

fn bearer(key: &str) -> Result<HeaderValue, BuildError> {
    let key = key.trim();
    let looks_like_one = key.starts_with("tg_sk_") && key.bytes().all(|byte| byte.is_ascii_graphic());
    if !looks_like_one {
        return Err(BuildError::ServiceKey);
    }
    HeaderValue::try_from(format!("Bearer {key}")).map(sensitive).map_err(|_| BuildError::ServiceKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_scheme_host_and_port() {
        for good in ["http://127.0.0.1:8655", "http://tollgate.internal/", "http://[::1]:80"] {
            assert!(Tollgate::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/",
            "127.0.0.1:8655",
            "ftp://host",
            "http://user:marker@host",
            "http://host/marker",
            "http://host?marker",
            "http://",
        ] {
            let error = Tollgate::new(bad).unwrap_err();
            assert_eq!(error, BuildError::Address, "{bad}");
            assert!(!format!("{error} {error:?}").contains("marker"));
        }
    }

    #[test]
    fn the_environment_names_address_and_key() {
        let of = |set: &[(&str, &str)]| {
            let set: Vec<(String, String)> =
                set.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            Tollgate::from_variables(move |wanted| {
                Ok(set.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone()))
            })
        };
        let authority = |made: Result<Tollgate, BuildError>| {
            made.unwrap().0.authority.as_ref().map(|value| value.to_str().unwrap().to_owned())
        };
        let url = ("TOLLGATE_URL", "http://h");
        assert_eq!(of(&[]).unwrap_err(), BuildError::NoAddress);
        assert_eq!(authority(of(&[url])), None);
        assert_eq!(authority(of(&[url, ("TOLLGATE_KEY", "tg_sk_a")])).as_deref(), Some("Bearer tg_sk_a"));
        let other = ("TOLLGATE_SERVICE_KEY", "tg_sk_b");
        assert_eq!(authority(of(&[url, other])).as_deref(), Some("Bearer tg_sk_b"));
        let both = [url, ("TOLLGATE_KEY", "tg_sk_a"), other];
        assert_eq!(authority(of(&both)).as_deref(), Some("Bearer tg_sk_a"));
        assert_eq!(of(&[url, ("TOLLGATE_KEY", "b")]).unwrap_err(), BuildError::ServiceKey);
        let unreadable = Tollgate::from_variables(|_| Err(NotText));
        assert_eq!(unreadable.unwrap_err(), BuildError::Address);
    }

    #[test]
    fn https_is_there_with_its_feature_alone() {
        let made = Tollgate::new("https://tollgate.example").map(|_| ());
        let expected = if cfg!(feature = "rustls") { Ok(()) } else { Err(BuildError::NeedsTls) };
        assert_eq!(made, expected);
    }

    #[test]
    fn what_is_no_service_key_is_refused_at_once() {
        for bad in ["", "marker", "tg_sk_a b", "tg_sk_a\nb", "Bearer tg_sk_a"] {
            let made = Tollgate::builder("http://h").service_key(bad).build();
            assert_eq!(made.unwrap_err(), BuildError::ServiceKey, "{bad:?}");
        }
        assert!(Tollgate::builder("http://h").service_key("tg_sk_a\n").build().is_ok());
        let timeless = Tollgate::builder("http://h").timeout(Duration::ZERO).build();
        assert_eq!(timeless.unwrap_err(), BuildError::Timeout);
    }
}
