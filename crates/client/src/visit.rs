//! One request of a visitor, under the layer: asked once, remembered until it is answered.

use crate::authorize::Authorize;
use crate::credentials::{Cookies, ForwardedFor, IdempotencyKey, SetCookies, Token};
use crate::error::{Error, Misconfigured, Refusal};
use crate::guest::GuestPass;
use crate::handle::{IDEMPOTENCY_KEY, Tollgate};
use crate::session::{Session, User};
use http::{Extensions, HeaderMap, HeaderValue, Request, StatusCode};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;

/// The request that is being answered, as Tollgate sees it: the visitor's cookies as they came, and what Tollgate said
/// about them.
///
/// The first question about the session asks Tollgate; whoever asks again **while this request is answered** gets the same
/// answer, so that several extractors cost one check and cannot disagree. It is in the request's extensions and gone with
/// it: no cache, the next request asks anew.
///
/// axum handlers may take it as an argument; other tower stacks find it with [`Visit::of`].
///
/// ```no_run
/// use tollgate_client::{Error, Visit};
///
/// async fn generate(visit: Visit) -> Result<String, Error> {
///     // Members pass, visitors without an account three times a day: one call.
///     let passed = visit.authorize().guest("generate").send().await?;
///     Ok(format!("for {:?}", passed.subject))
/// }
/// ```
#[derive(Clone)]
pub struct Visit(Arc<Inner>);

struct Inner {
    tollgate: Tollgate,
    cookies: Cookies,
    api_key: Option<Token>,
    keys: Vec<HeaderValue>,
    address: Option<ForwardedFor>,
    session: OnceCell<Result<Option<Session>, Error>>,
    guest: OnceCell<Result<Option<GuestPass>, Error>>,
    set_cookies: Mutex<SetCookies>,
}

impl Visit {
    pub(crate) fn begin<B>(tollgate: Tollgate, request: &Request<B>) -> Visit {
        let headers = request.headers();
        Visit(Arc::new(Inner {
            tollgate,
            cookies: Cookies::from(headers),
            api_key: Token::api_key(headers),
            keys: headers.get_all(IDEMPOTENCY_KEY).iter().cloned().collect(),
            address: peer(request.extensions()).map(|peer| ForwardedFor::new(headers, peer)),
            session: OnceCell::new(),
            guest: OnceCell::new(),
            set_cookies: Mutex::default(),
        }))
    }

    /// Of a request that went through [`TollgateLayer`](crate::TollgateLayer).
    ///
    /// ```no_run
    /// use tollgate_client::{Error, Visit};
    ///
    /// async fn name<B>(request: http::Request<B>) -> Result<String, Error> {
    ///     Ok(Visit::of(request.extensions())?.user().await?.name)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Misconfigured::NoLayer`] if it did not.
    pub fn of(extensions: &Extensions) -> Result<Visit, Error> {
        extensions.get::<Visit>().cloned().ok_or(Misconfigured::NoLayer.into())
    }

    /// The session that the visitor's cookies open.
    ///
    /// ```no_run
    /// # async fn example(visit: tollgate_client::Visit) -> Result<(), tollgate_client::Error> {
    /// let signed_in = visit.session().await?.is_some();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`].
    pub async fn session(&self) -> Result<Option<Session>, Error> {
        let ask = async || {
            let checked = self.0.tollgate.check(&self.0.cookies).await?;
            self.pass_on(&checked.set_cookies);
            Ok(checked.session)
        };
        self.0.session.get_or_init(ask).await.clone()
    }

    /// Who is signed in.
    ///
    /// ```no_run
    /// # async fn example(visit: tollgate_client::Visit) -> Result<(), tollgate_client::Error> {
    /// let user = visit.user().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// 401 `unauthenticated` if nobody is, [`Error::Unavailable`].
    pub async fn user(&self) -> Result<User, Error> {
        let session = self.session().await?;
        session
            .map(|session| session.user)
            .ok_or_else(|| Refusal::unauthenticated("nobody is signed in").into())
    }

    /// The guest whose cookie came.
    ///
    /// ```no_run
    /// # async fn example(visit: tollgate_client::Visit) -> Result<(), tollgate_client::Error> {
    /// let is_known = visit.guest().await?.is_some();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Tollgate::guest`].
    pub async fn guest(&self) -> Result<Option<GuestPass>, Error> {
        let ask = async || {
            let (pass, set_cookies) = self.0.tollgate.look_at_guest(&self.0.cookies).await?;
            self.pass_on(&set_cookies);
            Ok(pass)
        };
        self.0.guest.get_or_init(ask).await.clone()
    }

    /// A question to the gate about this request, with its cookies and the address it came from, or with the API key that a
    /// program shows in `x-api-key`. The gate is asked each time, whatever is remembered here.
    ///
    /// ```no_run
    /// # async fn example(visit: tollgate_client::Visit) -> Result<(), tollgate_client::Error> {
    /// let passed = visit.authorize().role("admin").send().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn authorize(&self) -> Authorize {
        let question = Authorize::of_visit(self.clone(), &self.0.tollgate, &self.0.cookies);
        let question = match &self.0.api_key {
            Some(key) => question.token(key.clone()),
            None => question,
        };
        match &self.0.address {
            Some(address) => question.forwarded_for(address.clone()),
            None => question,
        }
    }

    /// The handle that the layer was made with.
    ///
    /// ```
    /// fn handle(visit: &tollgate_client::Visit) -> tollgate_client::Tollgate {
    ///     visit.tollgate().clone()
    /// }
    /// ```
    pub fn tollgate(&self) -> &Tollgate {
        &self.0.tollgate
    }

    /// The request's own `Idempotency-Key`.
    ///
    /// ```
    /// use tollgate_client::{Error, IdempotencyKey, Visit};
    ///
    /// fn key(visit: &Visit) -> Result<IdempotencyKey, Error> {
    ///     Ok(visit.idempotency_key()?.unwrap_or_else(IdempotencyKey::random))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// 422 `invalid_request` for one that is none, or that stands twice.
    pub fn idempotency_key(&self) -> Result<Option<IdempotencyKey>, Error> {
        let refused = |message: &str| {
            let refusal = Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", message);
            Error::from(refusal.with("field", "Idempotency-Key"))
        };
        match self.0.keys.as_slice() {
            [] => Ok(None),
            [key] => match IdempotencyKey::new(key.to_str().unwrap_or("")) {
                Ok(key) => Ok(Some(key)),
                Err(error) => Err(refused(&format!("Idempotency-Key: {error}"))),
            },
            _ => Err(refused("Idempotency-Key: it stands twice")),
        }
    }

    pub(crate) fn pass_on(&self, set_cookies: &SetCookies) {
        if !set_cookies.is_empty() {
            self.lines(|lines| lines.add(set_cookies));
        }
    }

    /// What Tollgate wants the browser to keep or forget, onto the answer.
    pub(crate) fn end(&self, headers: &mut HeaderMap) {
        self.lines(|lines| lines.write(headers));
    }

    fn lines<T>(&self, work: impl FnOnce(&mut SetCookies) -> T) -> T {
        // Whoever panicked left whole lines behind.
        work(&mut self.0.set_cookies.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visit").field("tollgate", &self.0.tollgate).finish_non_exhaustive()
    }
}

#[cfg(feature = "axum")]
fn peer(extensions: &Extensions) -> Option<IpAddr> {
    use axum::extract::connect_info::{ConnectInfo, MockConnectInfo};
    use std::net::SocketAddr;
    let real = extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    let mock = || extensions.get::<MockConnectInfo<SocketAddr>>().map(|info| info.0);
    real.or_else(mock).map(|address| address.ip())
}

#[cfg(not(feature = "axum"))]
fn peer(_: &Extensions) -> Option<IpAddr> {
    None
}
