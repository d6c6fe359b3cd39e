//! `/dev/mail`: the mails that were captured, for people and for tests.
//!
//! Subjects, names, addresses and bodies are whatever somebody typed into a sign-up form or a template: hostile text.
//! On the page everything is escaped; an HTML part is only ever shown by [`html_part`], in a sandbox without scripts,
//! without this origin and without the network.

use super::Pages;
use super::problem::{Problem, wants_json};
use crate::edge::RequestContext;
use axum::body::Body;
use axum::extract::{Path, State};
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, VARY, X_FRAME_OPTIONS};
use http::{HeaderMap, HeaderValue, Response, Uri};
use mail::CapturedMail;
use serde::Serialize;
use std::sync::Arc;

const DEFAULT_LIMIT: usize = 50;
const LARGEST_LIMIT: usize = 200;
const MAILS_ON_PAGE: usize = 20;
/// What the outbox gives at once.
const MAILS_AT_ONCE: usize = 100;
const LONGEST_ID: usize = 64;

/// Styles stand inside mails, so they are let in; whatever could run, call or send is not. Links open beside the inbox,
/// as ordinary pages.
const MAIL_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'self'; sandbox allow-popups allow-popups-to-escape-sandbox";

/// A stretch of the list.
#[derive(Serialize)]
pub(super) struct Listing {
    pub(super) items: Vec<CapturedMail>,
    pub(super) next_cursor: Option<String>,
}

#[derive(Serialize)]
struct View<'a> {
    app_name: &'a str,
    mails: Vec<MailView<'a>>,
    next_cursor: Option<&'a str>,
    /// The first page, which new mails come to.
    first: bool,
    refreshing: bool,
    mails_leave: bool,
}

#[derive(Serialize)]
struct MailView<'a> {
    id: &'a str,
    to: &'a str,
    subject: &'a str,
    text: &'a str,
    links: Vec<&'a str>,
    code: Option<&'a str>,
    created_at: &'a str,
    shown_time: String,
}

pub async fn page(
    State(pages): State<Arc<Pages>>,
    context: RequestContext,
    headers: HeaderMap,
    uri: Uri,
) -> Response<Body> {
    let as_json = wants_json(&headers);
    let found = match Asked::read(&uri, if as_json { DEFAULT_LIMIT } else { MAILS_ON_PAGE }) {
        Ok(asked) => list(&pages, &context, &asked).await.map(|listing| (asked, listing)),
        Err(problem) => Err(problem),
    };
    match found {
        Ok((_, listing)) if as_json => listing.json(),
        Ok((asked, listing)) => pages
            .views
            .page("inbox.html", &view(&pages.dev.app_name, pages.dev.known.mails_leave, &listing, &asked)),
        Err(problem) => problem.answer(&pages.views, &headers),
    }
}

pub async fn json(State(pages): State<Arc<Pages>>, context: RequestContext, uri: Uri) -> Response<Body> {
    let asked = match Asked::read(&uri, DEFAULT_LIMIT) {
        Ok(asked) => asked,
        Err(problem) => return problem.json(),
    };
    list(&pages, &context, &asked).await.map_or_else(|problem| problem.json(), |listing| listing.json())
}

pub async fn html_part(
    State(pages): State<Arc<Pages>>,
    Path(id): Path<String>,
    context: RequestContext,
    headers: HeaderMap,
) -> Response<Body> {
    let html = match find(&pages, &context, id).await {
        Ok(Some(mail)) => mail.html,
        Ok(None) => return Problem::not_found("There is no such mail").answer(&pages.views, &headers),
        Err(problem) => return problem.answer(&pages.views, &headers),
    };
    let mut response = Response::new(Body::from(with_links_opening_beside(&html)));
    let mut set =
        |name, value: &'static str| response.headers_mut().insert(name, HeaderValue::from_static(value));
    set(CONTENT_TYPE, "text/html; charset=utf-8");
    set(CONTENT_SECURITY_POLICY, MAIL_POLICY);
    set(X_FRAME_OPTIONS, "SAMEORIGIN");
    set(REFERRER_POLICY, "no-referrer");
    response
}

/// A stretch as it was asked for.
struct Asked {
    limit: usize,
    cursor: Option<String>,
    refreshing: bool,
}

impl Asked {
    fn read(uri: &Uri, default_limit: usize) -> Result<Asked, Problem> {
        let mut asked = Asked { limit: default_limit, cursor: None, refreshing: true };
        for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or("").as_bytes()) {
            match name.as_ref() {
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=LARGEST_LIMIT).contains(limit));
                    asked.limit = limit.ok_or(Problem::invalid("limit must be a number from 1 to 200"))?;
                }
                "cursor" if is_id(&value) => asked.cursor = Some(value.into_owned()),
                "cursor" => return Err(Problem::invalid("cursor must be the next_cursor of another page")),
                "refresh" => asked.refreshing = value != "off",
                _ => {}
            }
        }
        Ok(asked)
    }
}

fn is_id(text: &str) -> bool {
    (1..=LONGEST_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

async fn list(pages: &Arc<Pages>, context: &RequestContext, asked: &Asked) -> Result<Listing, Problem> {
    let (shared, cursor, limit) = (pages.clone(), asked.cursor.clone(), asked.limit.min(MAILS_AT_ONCE));
    let found = pages.dev.store.scan(move |tx| {
        let (vault, templates) = (&shared.dev.vault, &shared.dev.templates);
        let items = mail::captured(tx, vault, templates, limit, cursor.as_deref())?;
        // A mail that cannot be opened is left out, so a short page need not be the last one.
        let last = items.last().map(|mail| mail.id.clone());
        let has_more = match &last {
            Some(last) => !mail::captured(tx, vault, templates, MAILS_AT_ONCE, Some(last))?.is_empty(),
            None => false,
        };
        Ok::<_, store::Error>(Listing { items, next_cursor: last.filter(|_| has_more) })
    });
    found.await.map_err(|error| Problem::of_store(&error, context))
}

async fn find(
    pages: &Arc<Pages>,
    context: &RequestContext,
    id: String,
) -> Result<Option<CapturedMail>, Problem> {
    if !is_id(&id) {
        return Ok(None);
    }
    let shared = pages.clone();
    let found = pages.dev.store.scan(move |tx| {
        // The list goes down from a bound; the smallest text above the id makes the mail itself the first.
        let above = format!("{id}0");
        let mails = mail::captured(tx, &shared.dev.vault, &shared.dev.templates, 1, Some(&above))?;
        Ok::<_, store::Error>(mails.into_iter().find(|mail| mail.id == id))
    });
    found.await.map_err(|error| Problem::of_store(&error, context))
}

impl Listing {
    fn json(&self) -> Response<Body> {
        let text = serde_json::to_string(self).expect("texts and lists of texts can be written");
        let mut response = Response::new(Body::from(text));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
        response
    }
}

fn view<'a>(app_name: &'a str, mails_leave: bool, listing: &'a Listing, asked: &Asked) -> View<'a> {
    View {
        app_name,
        mails: listing.items.iter().map(MailView::of).collect(),
        next_cursor: listing.next_cursor.as_deref(),
        first: asked.cursor.is_none(),
        refreshing: asked.cursor.is_none() && asked.refreshing,
        mails_leave,
    }
}

impl<'a> MailView<'a> {
    fn of(mail: &'a CapturedMail) -> MailView<'a> {
        MailView {
            id: &mail.id,
            to: &mail.to,
            subject: &mail.subject,
            text: &mail.text,
            links: mail.links.iter().map(String::as_str).filter(|link| is_web(link)).collect(),
            code: mail.code.as_deref(),
            created_at: &mail.created_at,
            shown_time: mail.created_at.get(..19).unwrap_or(&mail.created_at).replace('T', " "),
        }
    }
}

/// Escaping does not make `javascript:` harmless.
fn is_web(link: &str) -> bool {
    url::Url::parse(link).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
}

/// A link that opened inside the frame would use up its token where nobody sees the answer.
fn with_links_opening_beside(html: &str) -> String {
    const BESIDE: &str = "<base target=\"_blank\">";
    let lower = html.to_ascii_lowercase();
    let at = lower.find("<head>").map_or(0, |at| at + "<head>".len());
    format!("{}{BESIDE}{}", &html[..at], &html[at..])
}

/// The page of a list that no store has to hold.
#[cfg(test)]
pub(super) fn render(views: &super::views::Views, listing: &Listing, query: &str) -> Response<Body> {
    let uri: Uri = format!("/dev/mail?{query}").parse().unwrap();
    let asked = Asked::read(&uri, MAILS_ON_PAGE).unwrap();
    views.page("inbox.html", &view("My app", false, listing, &asked))
}
