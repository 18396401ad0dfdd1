//! The Admin API's port.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Full};
use hyper::Response;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::fault::Kind;
use super::{Demand, Fault, Shared};
use crate::kong_model::{Answer, Request};

/// Answers the requests of one connection.
pub(super) async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(|request| respond(request, Arc::clone(&shared)));
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let Err(error) = (&mut connection).await else {
        return;
    };
    if let Some(severed) = error.source().and_then(|source| source.downcast_ref()) {
        sever(connection.into_parts().io.into_inner(), severed).await;
    }
}

/// The end of a connection that is no answer.
#[derive(Debug)]
enum Severed {
    Reset,
    /// These bytes, and no more.
    Within(Vec<u8>),
}

impl fmt::Display for Severed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is severed")
    }
}

impl Error for Severed {}

async fn sever(mut stream: TcpStream, severed: &Severed) {
    match severed {
        Severed::Reset => stream.set_zero_linger().unwrap(),
        Severed::Within(bytes) => {
            // The client may be gone already.
            let _ = stream.write_all(bytes).await;
            let _ = stream.shutdown().await;
        }
    }
}

async fn respond(
    request: hyper::Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, Severed> {
    let request = read(request).await.ok_or(Severed::Reset)?;
    let demand = shared.demand().clone();
    if let Some(refusal) = demand.and_then(|demand| demand.refuse(&request)) {
        return Ok(response(refusal));
    }
    let fault = Fault::take(&mut shared.faults(), &request);
    let apply = |request: &Request| shared.model().answer(request);
    Ok(response(match fault {
        None => apply(&request),
        Some(Kind::Instead(answer)) => answer,
        Some(Kind::ResetBefore) => return Err(Severed::Reset),
        Some(Kind::ResetAfter) => {
            apply(&request);
            return Err(Severed::Reset);
        }
        Some(Kind::CutShort) => return Err(Severed::Within(half_announced(&apply(&request)))),
        Some(Kind::CutJson) => {
            let mut answer = apply(&request);
            answer.body.truncate(answer.body.len() / 2);
            answer
        }
        Some(Kind::Slow { before, after }) => {
            // On a task of its own: it lands although the client goes away.
            let shared = Arc::clone(&shared);
            let landing = tokio::spawn(async move {
                tokio::time::sleep(before).await;
                let answer = shared.model().answer(&request);
                tokio::time::sleep(after).await;
                answer
            });
            landing.await.map_err(|_| Severed::Reset)?
        }
    }))
}

impl Demand {
    /// What Kong Enterprise says to a token that is missing, wrong, or not enough.
    fn refuse(&self, request: &Request) -> Option<Answer> {
        if request.header(&self.name) == Some(&self.value) {
            return None;
        }
        Some(match self.status {
            403 => Answer::message(403, "You do not have permissions to access this endpoint"),
            status => Answer::message(status, "Invalid credentials"),
        })
    }
}

/// `None` where the client breaks off.
async fn read(request: hyper::Request<Incoming>) -> Option<Request> {
    let (head, body) = request.into_parts();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let header = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
        (name.to_string(), text(value.as_bytes()))
    };
    Some(Request {
        method: head.method.to_string(),
        path: head.uri.path_and_query()?.to_string(),
        headers: head.headers.iter().map(header).collect(),
        body: body.collect().await.ok()?.to_bytes().into(),
    })
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    response.body(Full::from(answer.body)).unwrap()
}

/// The whole length in the head, half of it in the body.
fn half_announced(answer: &Answer) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} OK\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("content-length: {}\r\n\r\n", answer.body.len().max(2));
    let half = &answer.body[..answer.body.len() / 2];
    [head.as_bytes(), half].concat()
}
