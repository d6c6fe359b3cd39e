//! The whole question in one call: who is it, may it pass, what does it cost.

use crate::credentials::{Cookies, ForwardedFor, IdempotencyKey, SetCookies, Token};
use crate::credits::{Charge, Owner, Spent};
use crate::error::{Error, Misconfigured, Reason, Unavailable};
use crate::guest::Allowance;
use crate::handle::{IDEMPOTENCY_KEY, Tollgate};
use crate::hold::Hold;
use crate::id::{EntryId, GuestId, HoldId, UserId};
use crate::session::{User, time};
use crate::visit::Visit;
use crate::wire::Question;
use http::HeaderName;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::time::{Duration, SystemTime};

const X_TOLLGATE_TOKEN: HeaderName = HeaderName::from_static("x-tollgate-token");

/// A question to the gate that is being put together; [`Authorize::send`] asks it. See [`Tollgate::authorize`].
///
/// ```no_run
/// use tollgate_client::{Authorized, Error, Tollgate};
///
/// async fn moderators_only(tollgate: Tollgate, headers: http::HeaderMap) -> Result<Authorized, Error> {
///     tollgate.authorize(&headers).role("moderator").send().await
/// }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is asked before `send`"]
pub struct Authorize {
    tollgate: Tollgate,
    cookies: Cookies,
    token: Option<Token>,
    address: Option<ForwardedFor>,
    key: Option<IdempotencyKey>,
    body: Map<String, Value>,
    /// The request whose answer takes the lines that set cookies.
    visit: Option<Visit>,
}

/// Who passed the gate.
///
/// ```
/// fn label(subject: &tollgate_client::Subject) -> String {
///     match subject {
///         tollgate_client::Subject::User(id) => format!("user {id}"),
///         tollgate_client::Subject::Guest(id) => format!("guest {id}"),
///         _ => "a program".to_owned(),
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// Somebody who is signed in.
    User(UserId),
    /// A visitor without an account, whose allowance was used.
    Guest(GuestId),
    /// A program with an API key, by the key's id.
    ApiKey(String),
}

/// The gate is open.
///
/// ```
/// fn left(authorized: &tollgate_client::Authorized) -> Option<i64> {
///     authorized.spent.as_ref().map(|spent| spent.available)
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Authorized {
    /// Who it is.
    pub subject: Subject,
    /// The person, where there is one.
    pub user: Option<User>,
    /// When the session ends unless it is prolonged or revoked before.
    pub session_expires_at: Option<SystemTime>,
    /// What was charged; `None` where nothing was asked for, and for a guest, whose allowance pays.
    pub spent: Option<Spent>,
    /// What was set aside; released when dropped.
    pub hold: Option<Hold>,
    /// The allowance that was used; `None` for somebody who is signed in.
    pub allowance: Option<Allowance>,
    /// To be passed on to the browser; nearly always empty.
    pub set_cookies: SetCookies,
}

impl Tollgate {
    /// Asks the gate about a visitor's cookies: session, role, charge and guest's allowance in one call. Needs a service
    /// key with the scope `gate`.
    ///
    /// ```no_run
    /// use tollgate_client::{Charge, Error, IdempotencyKey, Tollgate};
    ///
    /// async fn generate(tollgate: Tollgate, headers: http::HeaderMap, job: IdempotencyKey) -> Result<(), Error> {
    ///     let passed = tollgate.authorize(&headers).charge(Charge::feature("image.generate"), &job).send().await?;
    ///     println!("{:?} paid", passed.subject);
    ///     Ok(())
    /// }
    /// ```
    pub fn authorize(&self, cookies: impl Into<Cookies>) -> Authorize {
        Authorize {
            tollgate: self.clone(),
            cookies: cookies.into(),
            token: None,
            address: None,
            key: None,
            body: Map::new(),
            visit: None,
        }
    }
}

impl Authorize {
    /// Of a request under the layer.
    pub(crate) fn of_visit(visit: Visit, tollgate: &Tollgate, cookies: &Cookies) -> Authorize {
        Authorize { visit: Some(visit), ..tollgate.authorize(cookies) }
    }

    /// A session token or API key in place of cookies. Where there are both, the token counts.
    ///
    /// ```no_run
    /// # async fn example(tollgate: tollgate_client::Tollgate, headers: http::HeaderMap) -> Result<(), tollgate_client::Error> {
    /// let mut question = tollgate.authorize(&headers);
    /// if let Some(token) = tollgate_client::Token::from_headers(&headers) {
    ///     question = question.token(token);
    /// }
    /// question.send().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn token(mut self, token: Token) -> Authorize {
        self.token = Some(token);
        self
    }

    /// Nobody but this user passes: 403 `user_mismatch`.
    ///
    /// ```
    /// # let tollgate = tollgate_client::Tollgate::new("http://127.0.0.1:8655").unwrap();
    /// let question = tollgate.authorize(&http::HeaderMap::new()).user_id("k3pQ");
    /// ```
    pub fn user_id(self, id: impl Into<UserId>) -> Authorize {
        self.member("user_id", id.into().as_str())
    }

    /// Nobody without this role passes: 403 `forbidden`.
    ///
    /// ```
    /// # let tollgate = tollgate_client::Tollgate::new("http://127.0.0.1:8655").unwrap();
    /// let question = tollgate.authorize(&http::HeaderMap::new()).role("admin");
    /// ```
    pub fn role(self, role: impl Into<String>) -> Authorize {
        self.member("role", role.into())
    }

    /// Takes credits of whoever passes, once for the key: with the same key and charge again nothing is taken, and the
    /// answer is marked as [`Spent::replayed`]. **If the key comes from the browser, look at that mark before you work
    /// again.**
    ///
    /// ```
    /// use tollgate_client::{Charge, IdempotencyKey};
    ///
    /// # let tollgate = tollgate_client::Tollgate::new("http://127.0.0.1:8655").unwrap();
    /// let key = IdempotencyKey::new("job-4711")?;
    /// let question = tollgate.authorize(&http::HeaderMap::new()).charge(Charge::amount(5), &key);
    /// # Ok::<(), tollgate_client::InvalidIdempotencyKey>(())
    /// ```
    pub fn charge(mut self, charge: impl Into<Charge>, key: &IdempotencyKey) -> Authorize {
        let (what, note) = charge.into().into_parts();
        self.body.insert("charge".into(), Value::Object(what));
        self.body.extend(note);
        self.body.remove("hold");
        self.body.remove("hold_expires_in");
        self.key = Some(key.clone());
        self
    }

    /// Sets credits aside in place of taking them; see [`Hold`]. Settling needs the scope `credits:write` as well.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollgate_client::IdempotencyKey;
    ///
    /// # let tollgate = tollgate_client::Tollgate::new("http://127.0.0.1:8655").unwrap();
    /// let key = IdempotencyKey::new("job-4711")?;
    /// let question = tollgate.authorize(&http::HeaderMap::new()).hold(60, Duration::from_secs(300), &key);
    /// # Ok::<(), tollgate_client::InvalidIdempotencyKey>(())
    /// ```
    pub fn hold(self, charge: impl Into<Charge>, expires_in: Duration, key: &IdempotencyKey) -> Authorize {
        let charged = self.charge(charge, key);
        charged.member("hold", true).member("hold_expires_in", expires_in.as_secs())
    }

    /// Who pays, if it is not the user: an organization whose member the user is.
    ///
    /// ```
    /// use tollgate_client::OrganizationId;
    ///
    /// # let tollgate = tollgate_client::Tollgate::new("http://127.0.0.1:8655").unwrap();
    /// let question = tollgate.authorize(&http::HeaderMap::new()).payer(OrganizationId::new("acme"));
    /// ```
    pub fn payer(self, payer: impl Into<Owner>) -> Authorize {
        let payer = payer.into();
        let (name, id) = payer.member();
        self.member("payer", json!({ name: id }))
    }

    /// Lets a visitor without an account pass while the allowance of this action lasts: 429 `guest_limit_reached` after
    /// that. Somebody who is signed in passes as ever. Guests are counted by address too, so it needs
    /// [`Authorize::forwarded_for`].
    ///
    /// ```
    /// use std::net::{IpAddr, Ipv4Addr};
    /// use tollgate_client::ForwardedFor;
    ///
    /// # let tollgate = tollgate_client::Tollgate::new("http://127.0.0.1:8655").unwrap();
    /// # let headers = http::HeaderMap::new();
    /// # let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    /// let address = ForwardedFor::new(&headers, peer);
    /// let question = tollgate.authorize(&headers).guest("generate").forwarded_for(address);
    /// ```
    pub fn guest(self, action: impl Into<String>) -> Authorize {
        self.member("guest", json!({ "action": action.into() }))
    }

    /// Where the visitor calls from.
    ///
    /// ```
    /// # let tollgate = tollgate_client::Tollgate::new("http://127.0.0.1:8655").unwrap();
    /// # let headers = http::HeaderMap::new();
    /// # let peer = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    /// let question =
    ///     tollgate.authorize(&headers).forwarded_for(tollgate_client::ForwardedFor::new(&headers, peer));
    /// ```
    pub fn forwarded_for(mut self, address: ForwardedFor) -> Authorize {
        self.address = Some(address);
        self
    }

    fn member(mut self, name: &str, value: impl Into<Value>) -> Authorize {
        self.body.insert(name.into(), value.into());
        self
    }

    /// Asks.
    ///
    /// ```no_run
    /// # async fn example(tollgate: tollgate_client::Tollgate, headers: http::HeaderMap) -> Result<(), tollgate_client::Error> {
    /// let passed = tollgate.authorize(&headers).send().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// 401 nobody is signed in, 402 too few credits, 403 `user_mismatch`, `forbidden` (also for a service key without the
    /// scope) or `user_banned`, 409 the key stood for something else, 422 a question that is none, 429 a limit, 503.
    pub async fn send(self) -> Result<Authorized, Error> {
        let mut question = Question::post("/api/gate/authorize", &Value::Object(self.body.clone()));
        match &self.token {
            Some(token) => {
                question.headers.insert(X_TOLLGATE_TOKEN, token.header());
            }
            None => self.cookies.write(&mut question.headers),
        }
        match &self.address {
            Some(address) => address.write(&mut question.headers),
            // By the app's own address all guests would be one.
            None if self.body.contains_key("guest") => return Err(Misconfigured::NoClientAddress.into()),
            None => {}
        }
        if let Some(key) = &self.key {
            question.headers.insert(IDEMPOTENCY_KEY, key.header());
        }
        let answer = self.tollgate.ask_as_service(question).await?;
        let set_cookies = SetCookies::read(&answer.headers);
        if let Some(visit) = &self.visit {
            visit.pass_on(&set_cookies);
        }
        let body: Body = answer.read()?;
        self.judge(body, set_cookies)
    }

    /// An answer that lets pass without what was asked for lets nobody pass.
    fn judge(self, body: Body, set_cookies: SetCookies) -> Result<Authorized, Error> {
        let not_understood = |what| Error::from(Unavailable::new(Reason::NotUnderstood(what)));
        let subject = match body.subject.kind.as_str() {
            "user" => Subject::User(body.subject.id.into()),
            "guest" if self.body.contains_key("guest") => Subject::Guest(body.subject.id.into()),
            "api_key" => Subject::ApiKey(body.subject.id),
            _ => return Err(not_understood("the subject is of an unknown kind")),
        };
        let user_id = body.user.as_ref().map(|user| user.id.as_str());
        if let Some(Value::String(wanted)) = self.body.get("user_id")
            && user_id != Some(wanted)
        {
            return Err(not_understood("the user is another than the one asked for"));
        }
        if matches!(&subject, Subject::User(id) if user_id != Some(id.as_str())) {
            return Err(not_understood("the user is another than the subject"));
        }
        let is_guest = matches!(subject, Subject::Guest(_));
        let (mut spent, mut hold) = (None, None);
        let wants_hold = self.body.contains_key("hold");
        match body.charge {
            Some(Charged { entry_id: Some(id), amount, unit, balance, available, replayed, .. })
                if !wants_hold =>
            {
                spent = Some(Spent { entry_id: id, amount, unit, balance, available, replayed });
            }
            Some(Charged { hold_id: Some(id), amount, unit, replayed, .. }) if wants_hold => {
                hold = Some(Hold::new(self.tollgate, id, amount, unit, replayed));
            }
            Some(_) => return Err(not_understood("the charge is neither taken nor set aside")),
            None if self.key.is_some() && !is_guest => return Err(not_understood("nothing was charged")),
            None => {}
        }
        Ok(Authorized {
            subject,
            user: body.user,
            session_expires_at: body.session.map(|session| session.expires_at),
            spent,
            hold,
            allowance: body.guest,
            set_cookies,
        })
    }
}

#[derive(Deserialize)]
struct Body {
    subject: SubjectBody,
    user: Option<User>,
    session: Option<Lifetime>,
    charge: Option<Charged>,
    guest: Option<Allowance>,
}

#[derive(Deserialize)]
struct SubjectBody {
    kind: String,
    id: String,
}

#[derive(Deserialize)]
struct Lifetime {
    #[serde(deserialize_with = "time")]
    expires_at: SystemTime,
}

#[derive(Deserialize)]
struct Charged {
    entry_id: Option<EntryId>,
    hold_id: Option<HoldId>,
    amount: i64,
    unit: String,
    balance: i64,
    available: i64,
    #[serde(default)]
    replayed: bool,
}
