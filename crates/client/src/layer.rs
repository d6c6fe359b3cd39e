//! The tower layer: gives each request its [`Visit`], and each answer the cookies that Tollgate prolongs.

use crate::handle::Tollgate;
use crate::visit::Visit;
use http::{Request, Response};
use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tower_layer::Layer;
use tower_service::Service;

/// Put over the routes whose handlers want to know who is calling. It refuses nobody and asks nothing by itself.
///
/// ```no_run
/// use axum::{Router, routing::get};
/// use tollgate_client::{Tollgate, TollgateLayer, User};
///
/// # fn main() -> Result<(), tollgate_client::BuildError> {
/// let app: Router = Router::new()
///     .route("/me", get(async |user: User| user.name))
///     .layer(TollgateLayer::new(Tollgate::from_env()?));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct TollgateLayer {
    tollgate: Tollgate,
}

/// What [`TollgateLayer`] makes of a service.
///
/// ```
/// use tollgate_client::{Tollgate, TollgateLayer, TollgateService};
/// use tower_layer::Layer as _;
///
/// fn guarded<S>(service: S, tollgate: Tollgate) -> TollgateService<S> {
///     TollgateLayer::new(tollgate).layer(service)
/// }
/// ```
#[derive(Debug, Clone)]
pub struct TollgateService<S> {
    tollgate: Tollgate,
    inner: S,
}

impl TollgateLayer {
    /// For this Tollgate.
    ///
    /// ```
    /// # let tollgate = tollgate_client::Tollgate::new("http://127.0.0.1:8655").unwrap();
    /// let layer = tollgate_client::TollgateLayer::new(tollgate);
    /// ```
    pub fn new(tollgate: Tollgate) -> TollgateLayer {
        TollgateLayer { tollgate }
    }
}

impl<S> Layer<S> for TollgateLayer {
    type Service = TollgateService<S>;

    fn layer(&self, inner: S) -> TollgateService<S> {
        TollgateService { tollgate: self.tollgate.clone(), inner }
    }
}

impl<S, B, R> Service<Request<B>> for TollgateService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let visit = Visit::begin(self.tollgate.clone(), &request);
        request.extensions_mut().insert(visit.clone());
        Answering { inner: self.inner.call(request), visit }
    }
}

pin_project! {
    /// The answer on its way out.
    pub struct Answering<F> {
        #[pin]
        inner: F,
        visit: Visit,
    }
}

impl<F, R, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let mut answer = ready!(this.inner.poll(cx));
        if let Ok(response) = &mut answer {
            this.visit.end(response.headers_mut());
        }
        Poll::Ready(answer)
    }
}
