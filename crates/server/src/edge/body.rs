//! Reading a request's body: never more than the door allows, never for longer than the limit, never deeper.

use super::Refusal;
use axum::body::Bytes;
use hyper::body::Body;
use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

/// The whole body of a request (or a body alone). A `Content-Length` above the limit is refused before anything is read;
/// so no `100 Continue` goes out either.
pub async fn read<B>(body: B, limit: usize, time: Duration) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes>,
{
    if body.size_hint().lower() > limit as u64 {
        return Err(Refusal::BodyTooLarge);
    }
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    // The timer is only armed when the body is not here yet.
    tokio::time::timeout(time, collect(body, limit)).await.unwrap_or(Err(Refusal::BodyTooSlow))
}

async fn collect<B>(body: B, limit: usize) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes>,
{
    let mut body = pin!(body);
    let mut first = Bytes::new();
    let mut all = Vec::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let frame = frame.map_err(|_| Refusal::BodyBroken)?;
        // Trailers carry nothing for us.
        let Ok(data) = frame.into_data() else { continue };
        if first.len().max(all.len()) + data.len() > limit {
            return Err(Refusal::BodyTooLarge);
        }
        if first.is_empty() && all.is_empty() {
            // Most bodies arrive in one piece and are never copied.
            first = data;
            continue;
        }
        if all.is_empty() {
            all.reserve(first.len() + data.len());
            all.extend_from_slice(&first);
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { Bytes::from(all) })
}

/// Whether brackets are nested deeper than allowed; looks at brackets outside strings only, before any parser does.
pub fn deeper_than(bytes: &[u8], limit: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for &byte in bytes {
        if in_string {
            (in_string, escaped) = (escaped || byte != b'"', !escaped && byte == b'\\');
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limit {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::body::{Frame, SizeHint};
    use std::collections::VecDeque;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    /// Pieces that come one by one; then the end, or silence.
    struct Pieces {
        left: VecDeque<&'static str>,
        hint: u64,
        silent: bool,
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
            match self.left.pop_front() {
                Some("broken") => Poll::Ready(Some(Err(std::io::ErrorKind::UnexpectedEof.into()))),
                Some(text) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(text.as_bytes()))))),
                None if self.silent => Poll::Pending,
                None => Poll::Ready(None),
            }
        }

        fn size_hint(&self) -> SizeHint {
            let mut hint = SizeHint::new();
            hint.set_lower(self.hint);
            hint
        }
    }

    fn pieces(left: &[&'static str]) -> Pieces {
        Pieces { left: left.iter().copied().collect(), hint: 0, silent: false }
    }

    async fn read_eight(body: Pieces) -> Result<Bytes, Refusal> {
        read(body, 8, Duration::from_millis(20)).await
    }

    #[tokio::test]
    async fn a_body_up_to_the_limit_is_read_whole() {
        assert_eq!(read_eight(pieces(&[])).await.unwrap(), "");
        assert_eq!(read_eight(pieces(&["12345678"])).await.unwrap(), "12345678");
        assert_eq!(read_eight(pieces(&["12", "", "345", "678"])).await.unwrap(), "12345678");
    }

    #[tokio::test]
    async fn one_byte_more_is_refused() {
        assert_eq!(read_eight(pieces(&["123456789"])).await, Err(Refusal::BodyTooLarge));
        assert_eq!(read_eight(pieces(&["12345", "6789"])).await, Err(Refusal::BodyTooLarge));
        assert_eq!(read_eight(pieces(&["1234", "5678", "9"])).await, Err(Refusal::BodyTooLarge));
    }

    #[tokio::test]
    async fn an_announced_length_above_the_limit_is_refused_unread() {
        let body = Pieces { left: ["broken"].into(), hint: 9, silent: false };
        assert_eq!(read_eight(body).await, Err(Refusal::BodyTooLarge));
    }

    #[tokio::test]
    async fn a_body_that_breaks_or_never_ends_is_refused() {
        assert_eq!(read_eight(pieces(&["12", "broken"])).await, Err(Refusal::BodyBroken));
        let silent = Pieces { left: ["12"].into(), hint: 0, silent: true };
        assert_eq!(read_eight(silent).await, Err(Refusal::BodyTooSlow));
    }
}
