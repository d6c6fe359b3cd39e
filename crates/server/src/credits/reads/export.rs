//! Entries as a file: read in chunks while the caller takes them, never the whole in memory.

use super::ask::{self, Trouble};
use crate::app::App;
use axum::body::{Body, Bytes};
use axum::response::Response;
use credits::reads::{CSV_HEADER, Filter, Listed, Walk, csv_line};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use hyper::body::Frame;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// Entries that are written at a time, fewer when they are long.
const CHUNK: usize = 500;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Csv,
    JsonLines,
}

impl Form {
    /// The one that the caller likes best; JSON for everybody who names neither of the files.
    pub(super) fn asked(headers: &HeaderMap) -> Form {
        let listed = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut best = (0, Form::Json);
        for range in listed.flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let form = match parts.next().unwrap_or("").to_ascii_lowercase().as_str() {
                "text/csv" => Form::Csv,
                "application/x-ndjson" => Form::JsonLines,
                "application/json" | "application/*" | "*/*" => Form::Json,
                _ => continue,
            };
            let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(1_000, thousandths);
            if weight > best.0 {
                best = (weight, form);
            }
        }
        best.1
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Form::Json => "application/json",
            Form::Csv => "text/csv; charset=utf-8",
            Form::JsonLines => "application/x-ndjson",
        })
    }

    fn write(self, out: &mut String, listed: &Listed) {
        match self {
            Form::Csv => csv_line(out, listed),
            Form::Json | Form::JsonLines => {
                out.push_str(&listed.json());
                out.push('\n');
            }
        }
    }
}

fn thousandths(weight: &str) -> u32 {
    weight.parse::<f32>().map_or(0, |weight| (weight.clamp(0.0, 1.0) * 1_000.0) as u32)
}

/// The first chunk is read before anything is answered, so that what goes wrong at once is an error and no broken file.
pub(super) async fn answer(app: &Arc<App>, filter: &Filter, form: Form) -> Result<Response, Trouble> {
    let walk = ask::begin_walk(app, filter).await?;
    let mut first = String::from(if form == Form::Csv { CSV_HEADER } else { "" });
    let walk = chunk(app, walk, form, &mut first).await?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(write(app.clone(), walk, form, first, sender));
    let mut response = Response::new(Body::new(Chunks(receiver)));
    response.headers_mut().insert(CONTENT_TYPE, form.content_type());
    Ok(response)
}

async fn chunk(app: &App, walk: Walk, form: Form, out: &mut String) -> Result<Walk, store::Error> {
    let (walk, items) = ask::walk_on(app, walk, CHUNK).await?;
    items.iter().for_each(|listed| form.write(out, listed));
    Ok(walk)
}

type Sent = Result<Bytes, store::Error>;

/// Ends when all is sent or nobody takes it any more.
async fn write(app: Arc<App>, mut walk: Walk, form: Form, first: String, sender: mpsc::Sender<Sent>) {
    let mut out = first;
    loop {
        if !out.is_empty() && sender.send(Ok(Bytes::from(std::mem::take(&mut out)))).await.is_err() {
            return;
        }
        if walk.is_over() {
            return;
        }
        match chunk(&app, walk, form, &mut out).await {
            Ok(further) => walk = further,
            Err(error) => {
                tracing::warn!(%error, "an export broke off");
                // The connection is cut without its last chunk, which tells the caller that the file is not whole.
                let _ = sender.send(Err(error)).await;
                return;
            }
        }
    }
}

struct Chunks(mpsc::Receiver<Sent>);

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = store::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, store::Error>>> {
        self.0.poll_recv(context).map(|sent| sent.map(|sent| sent.map(Frame::data)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_follows_what_the_caller_accepts() {
        for (accept, form) in [
            ("", Form::Json),
            ("*/*", Form::Json),
            ("text/csv", Form::Csv),
            ("Text/CSV; charset=utf-8", Form::Csv),
            ("application/x-ndjson", Form::JsonLines),
            ("text/csv, */*", Form::Csv),
            ("application/json, text/csv;q=0.9", Form::Json),
            ("application/json;q=0.5, text/csv;q=0.9", Form::Csv),
            ("text/csv;q=0", Form::Json),
            ("text/html", Form::Json),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap());
            assert_eq!(Form::asked(&headers), form, "{accept}");
        }
    }
}
