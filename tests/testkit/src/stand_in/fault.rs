//! What can go wrong between a client and Kong's Admin API.

use std::time::Duration;

use serde_json::Value;

use crate::kong_model::{Answer, Request};

/// A fault for one request, until it has happened as often as asked; once, if not told otherwise.
#[derive(Clone, Debug)]
pub struct Fault {
    pub(super) kind: Kind,
    method: Option<String>,
    writes: bool,
    left: Option<u32>,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Slow { before: Duration, after: Duration },
    ResetBefore,
    ResetAfter,
    Instead(Answer),
    CutShort,
    CutJson,
}

impl Fault {
    /// Kong takes its time `before` it applies the request, and `after`, before it answers. It
    /// applies the request even where the client has gone away meanwhile.
    #[must_use]
    pub fn slow(before: Duration, after: Duration) -> Self {
        Self::new(Kind::Slow { before, after })
    }

    /// The connection is reset; Kong has done nothing.
    #[must_use]
    pub fn reset_before() -> Self {
        Self::new(Kind::ResetBefore)
    }

    /// The connection is reset in place of the answer; Kong has applied the request.
    #[must_use]
    pub fn reset_after() -> Self {
        Self::new(Kind::ResetAfter)
    }

    /// This answer, and Kong has done nothing.
    #[must_use]
    pub fn instead(answer: Answer) -> Self {
        Self::new(Kind::Instead(answer))
    }

    /// This status, and Kong has done nothing.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::instead(Answer::message(status, "An unexpected error occurred"))
    }

    /// The same with a `Retry-After` in seconds, or any other text in its place.
    #[must_use]
    pub fn status_retry_after(status: u16, retry_after: &str) -> Self {
        let answer = Answer::message(status, "Currently loading previous configuration");
        Self::instead(answer.with_header("retry-after", retry_after))
    }

    /// Some page, 200: this is not Kong.
    #[must_use]
    pub fn html() -> Self {
        Self::instead(Answer::page("200 Welcome"))
    }

    /// 200 with some other JSON: this is not Kong either.
    #[must_use]
    pub fn other_json(body: &Value) -> Self {
        Self::instead(Answer::json(200, body))
    }

    /// 200 with nothing in it.
    #[must_use]
    pub fn nothing() -> Self {
        let mut answer = Answer::json(200, &Value::Null);
        answer.body.clear();
        Self::instead(answer)
    }

    /// 200 with 10 MB of JSON.
    #[must_use]
    pub fn huge() -> Self {
        Self::instead(Answer::json(200, &Value::String("x".repeat(10_000_000))))
    }

    /// 301 to `url`.
    #[must_use]
    pub fn redirect(url: &str) -> Self {
        Self::instead(Answer::page("301 Moved Permanently").with_header("location", url))
    }

    /// Kong applies the request, and its answer ends in the middle of what it announced.
    #[must_use]
    pub fn cut_short() -> Self {
        Self::new(Kind::CutShort)
    }

    /// Kong applies the request, and half of its answer comes, as if it were all of it.
    #[must_use]
    pub fn cut_json() -> Self {
        Self::new(Kind::CutJson)
    }

    /// For so many requests.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { left: Some(times), ..self }
    }

    /// Until the faults are cleared.
    #[must_use]
    pub fn always(self) -> Self {
        Self { left: None, ..self }
    }

    /// For requests of this method alone.
    #[must_use]
    pub fn only(self, method: &str) -> Self {
        Self { method: Some(method.to_owned()), ..self }
    }

    /// For requests alone that write.
    #[must_use]
    pub fn only_writes(self) -> Self {
        Self { writes: true, ..self }
    }

    /// How often it is still to happen, if not for ever.
    pub(super) const fn left(&self) -> Option<u32> {
        self.left
    }

    /// Takes the first of `faults` that fits, once.
    pub(super) fn take(faults: &mut Vec<Self>, request: &Request) -> Option<Kind> {
        faults.retain(|fault| fault.left != Some(0));
        let fits = |fault: &&mut Self| fault.fits(request);
        let fault = faults.iter_mut().find(fits)?;
        fault.left = fault.left.map(|left| left - 1);
        Some(fault.kind.clone())
    }

    fn fits(&self, request: &Request) -> bool {
        self.method.as_ref().is_none_or(|method| *method == request.method)
            && !(self.writes && request.method == "GET")
    }

    const fn new(kind: Kind) -> Self {
        Self { kind, method: None, writes: false, left: Some(1) }
    }
}
