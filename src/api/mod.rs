//! The HTTP API of `API_PORT`: request → read or write → answer.
//!
//! [`handle`] admits or sheds, finds the route, reads the body within its limits, and turns the handler's result or
//! refusal into an answer. What a route means is in `read` and `write`; what a body means is in `request`.
//!
//! Invariants: every request gets an answer; a refusal is a problem document; a request is counted once.
//! Runs on: the serving core that accepted the connection. Not here: the internal port (`control`).

pub mod body;
pub mod offload;
pub mod read;
pub mod request;
pub mod session;
mod usual;
pub mod write;

use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use firescroll_io::http::{BodyError, BodyPermit, RequestBody, read_body};
use firescroll_shard::check_key;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use quanta::Instant;

use self::body::Body;
use self::session::Session;
use self::write::Write;
use crate::core::{Core, Settings};
use crate::error::ApiError;
use crate::metrics::Operation;

type Answer = Result<Response<Body>, ApiError>;

const SESSION_HEADER: HeaderName = HeaderName::from_static(session::SESSION);
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const METHODS: HeaderValue = HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE");
const EXPOSED: HeaderValue = HeaderValue::from_static("FireScroll-Session, ETag, Last-Modified, Retry-After");

/// Answers one request; never fails.
///
/// # Errors
/// None: the type is what hyper wants.
pub async fn handle(core: Rc<Core>, request: Request<RequestBody>) -> Result<Response<Body>, Infallible> {
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let route = Route::of(&head);
    let result = match core.admit() {
        Ok(_admitted) => answer(&core, &route, &head, body).await,
        Err(shed) => Err(shed),
    };
    let mut response = result.unwrap_or_else(|refusal| refused(&refusal));
    if core.settings.cors && head.headers.contains_key(header::ORIGIN) {
        allow_origin(&head.headers, response.headers_mut());
    }
    core.record(route.operation(), response.status(), started.elapsed());
    Ok(response)
}

/// Where a request goes.
enum Route {
    Get,
    List,
    Write(Write),
    ReadOne(String, String),
    Up,
    Ready,
    Preflight,
    Refused(ApiError),
}

impl Route {
    fn of(head: &Parts) -> Self {
        if head.method == Method::OPTIONS {
            return Self::Preflight;
        }
        let post = head.method == Method::POST;
        let path = head.uri.path();
        match path {
            "/records/get" if post => Self::Get,
            "/records/put" if post => Self::Write(Write::Put),
            "/records/delete" if post => Self::Write(Write::Delete),
            "/records/list" if post => Self::List,
            "/records/batch" if post => Self::Write(Write::Batch),
            "/records/get" | "/records/put" | "/records/delete" | "/records/list" | "/records/batch" => {
                Self::Refused(ApiError::Method("POST, OPTIONS"))
            }
            "/up" | "/ready" => match head.method {
                Method::GET | Method::HEAD if path == "/up" => Self::Up,
                Method::GET | Method::HEAD => Self::Ready,
                _ => Self::Refused(ApiError::Method("GET, HEAD, OPTIONS")),
            },
            _ => Self::one(&head.method, path),
        }
    }

    /// `/records/{pk}/{sk}`.
    fn one(method: &Method, path: &str) -> Self {
        let segments = path.strip_prefix("/records/").and_then(|rest| rest.split_once('/'));
        let Some((pk, sk)) = segments.filter(|(_, sk)| !sk.contains('/')) else {
            return Self::Refused(ApiError::NotFound(format!(
                "no route {path:?}; there are POST /records/put, delete, get, list, batch, \
                 GET, HEAD, PUT, DELETE /records/{{pk}}/{{sk}}, GET /up and GET /ready"
            )));
        };
        let (pk, sk) = match (segment("pk", pk), segment("sk", sk)) {
            (Ok(pk), Ok(sk)) => (pk, sk),
            (Err(error), _) | (_, Err(error)) => return Self::Refused(error),
        };
        if let Err(error) = check_key(&pk, &sk) {
            return Self::Refused(ApiError::Invalid(error.to_string()));
        }
        match *method {
            Method::GET | Method::HEAD => Self::ReadOne(pk, sk),
            Method::PUT => Self::Write(Write::PutOne(pk, sk)),
            Method::DELETE => Self::Write(Write::DeleteOne(pk, sk)),
            _ => Self::Refused(ApiError::Method("GET, HEAD, PUT, DELETE, OPTIONS")),
        }
    }

    fn operation(&self) -> Option<Operation> {
        match self {
            Self::Get | Self::ReadOne(..) => Some(Operation::Get),
            Self::List => Some(Operation::List),
            Self::Write(Write::Put | Write::PutOne(..)) => Some(Operation::Put),
            Self::Write(Write::Delete | Write::DeleteOne(..)) => Some(Operation::Delete),
            Self::Write(Write::Batch) => Some(Operation::Batch),
            Self::Up | Self::Ready | Self::Preflight | Self::Refused(_) => None,
        }
    }
}

fn segment(name: &str, text: &str) -> Result<String, ApiError> {
    match percent_encoding::percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(ApiError::Invalid(format!("the path's {name} is not percent-encoded UTF-8"))),
    }
}

/// The route's answer. Every way but the usual one is boxed: its state would otherwise be carried, and moved, with each
/// request of every connection.
async fn answer(core: &Rc<Core>, route: &Route, head: &Parts, body: RequestBody) -> Answer {
    match route {
        Route::Get => {
            let (body, _held) = json_body(core, head, body).await?;
            let session = Session::of(&head.headers, core.routes.partitions)?;
            let bytes = read::get(core, session, body).await?;
            Ok(maybe_gzipped(core, head, json(Body::Full(bytes.into()))))
        }
        Route::List => Box::pin(list(core, head, body)).await,
        Route::Write(kind) => Box::pin(written(core, head, kind, body)).await,
        Route::ReadOne(pk, sk) => Box::pin(read_one(core, head, pk, sk)).await,
        Route::Up => Ok(text("ok")),
        Route::Ready => ready(core),
        Route::Preflight => Ok(preflight(core, &head.headers)),
        Route::Refused(error) => Err(error.clone()),
    }
}

async fn written(core: &Core, head: &Parts, kind: &Write, body: RequestBody) -> Answer {
    let (body, _held) = match kind {
        Write::DeleteOne(..) => (Bytes::new(), None),
        _ => json_body(core, head, body).await.map(|(body, permit)| (body, Some(permit)))?,
    };
    let positions = write::write(core, kind.clone(), body).await?;
    let mut response = text("ok");
    if let Ok(token) = HeaderValue::try_from(session::token(positions)) {
        response.headers_mut().insert(SESSION_HEADER, token);
    }
    Ok(response)
}

/// The body, with its share of the core's memory for bodies, to be held for as long as the body is needed.
async fn json_body(
    core: &Core,
    head: &Parts,
    mut body: RequestBody,
) -> Result<(Bytes, BodyPermit), ApiError> {
    if let Some(declared) = head.headers.get(header::CONTENT_TYPE)
        && !is_json(declared)
    {
        return Err(ApiError::MediaType(String::from_utf8_lossy(declared.as_bytes()).into_owned()));
    }
    let Settings { max_body_bytes, body_deadline, .. } = core.settings;
    match read_body(&mut body, max_body_bytes, body_deadline, &core.body_budget).await {
        Ok(received) => Ok(received.into_parts()),
        Err(error @ BodyError::TooLarge { .. }) => {
            Err(ApiError::TooLarge(format!("{error} (MAX_BODY_BYTES)")))
        }
        Err(error @ BodyError::Deadline { .. }) => Err(ApiError::Slow(format!("{error} (BODY_TIMEOUT_MS)"))),
        Err(error @ BodyError::Overloaded) => Err(ApiError::Overloaded(format!("{error}; try again"))),
        Err(error @ BodyError::Gone) => Err(ApiError::Invalid(error.to_string())),
    }
}

fn is_json(declared: &HeaderValue) -> bool {
    // As nearly every client says it.
    if declared == JSON {
        return true;
    }
    let Ok(text) = declared.to_str() else { return false };
    let essence = text.split(';').next().unwrap_or("").trim();
    essence.eq_ignore_ascii_case("application/json")
        || (essence.len() > 5 && essence.as_bytes()[essence.len() - 5..].eq_ignore_ascii_case(b"+json"))
}

async fn list(core: &Rc<Core>, head: &Parts, body: RequestBody) -> Answer {
    let (body, _held) = json_body(core, head, body).await?;
    let session = Session::of(&head.headers, core.routes.partitions)?;
    let request = if body.len() <= offload::INLINE_BYTES {
        core.parser.borrow_mut().list(&body)?
    } else {
        core.offload.run(move |parser| parser.list(&body)).await?
    };
    let page = read::list(core, session, request).await?;
    let mut bytes = Vec::with_capacity(page.bytes.len() + 16);
    bytes.extend_from_slice(b"{\"Records\":[");
    bytes.extend_from_slice(&page.bytes);
    let body = match page.rest {
        Some(rest) => Body::listing(bytes.into(), rest),
        None => {
            bytes.extend_from_slice(b"]}");
            Body::Full(bytes.into())
        }
    };
    Ok(maybe_gzipped(core, head, json(body)))
}

async fn read_one(core: &Rc<Core>, head: &Parts, pk: &str, sk: &str) -> Answer {
    let session = Session::of(&head.headers, core.routes.partitions)?;
    let Some(record) = read::get_one(core, session, pk, sk).await? else {
        return Err(ApiError::NotFound(format!("no record with pk {pk:?}, sk {sk:?}")));
    };
    let meta = record.meta();
    let partition = firescroll_shard::partition_of(pk.as_bytes(), core.routes.partitions);
    // The offset of the mutation that made the record: equal on every replica, and never used twice.
    let tag = format!("\"{partition}-{}\"", meta.offset);
    let modified_secs = u64::try_from(meta.updated_ms.div_euclid(1000)).unwrap_or(0);
    let modified = std::time::UNIX_EPOCH + std::time::Duration::from_secs(modified_secs);
    let mut response = if is_current(&head.headers, &tag, modified) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        maybe_gzipped(core, head, json(Body::Full(record.data_bytes())))
    };
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(header::ETAG, tag);
    }
    if let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(modified)) {
        headers.insert(header::LAST_MODIFIED, date);
    }
    Ok(response)
}

/// Whether the client's copy is the record: `If-None-Match`, or `If-Modified-Since` where that is absent.
fn is_current(headers: &HeaderMap, tag: &str, modified: std::time::SystemTime) -> bool {
    let mut tags = headers.get_all(header::IF_NONE_MATCH).iter().peekable();
    if tags.peek().is_some() {
        return tags.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(
            |candidate| {
                let candidate = candidate.trim();
                candidate == "*" || candidate.strip_prefix("W/").unwrap_or(candidate) == tag
            },
        );
    }
    headers
        .get(header::IF_MODIFIED_SINCE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| httpdate::parse_http_date(value).ok())
        .is_some_and(|since| modified <= since)
}

/// `/ready`: every assigned partition has reached where the log's end was when it was assigned.
fn ready(core: &Core) -> Answer {
    if core.progress.stopping() {
        return Err(ApiError::unavailable("the node is stopping"));
    }
    if let Some(reason) = core.progress.failed() {
        return Err(ApiError::unavailable(format!("the node cannot read its log any further: {reason}")));
    }
    let behind = core.progress.behind();
    if behind.is_empty() && core.progress.held().next().is_none() {
        return Err(ApiError::Internal("no partitions".into()));
    }
    if behind.is_empty() {
        return Ok(text("ok"));
    }
    let missing: u64 = behind.iter().map(|(_, missing)| missing).sum();
    Err(ApiError::Unavailable {
        detail: format!("{missing} mutations are still to be applied"),
        partitions: behind.into_iter().map(|(partition, _)| partition).collect(),
    })
}

fn text(text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::Full(Bytes::from_static(text.as_bytes())));
    response.headers_mut().insert(header::CONTENT_TYPE, TEXT);
    response
}

fn json(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

fn refused(error: &ApiError) -> Response<Body> {
    let mut response = Response::new(Body::Full(error.problem().into()));
    *response.status_mut() = error.status();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, PROBLEM);
    if let Some(seconds) = error.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
    }
    match error {
        ApiError::Method(allow) => {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        // What is left of the body would be read as the next request.
        ApiError::Slow(_) => {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    response
}

fn allow_origin(request: &HeaderMap, response: &mut HeaderMap) {
    response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    if !request.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
        response.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

fn preflight(core: &Core, request: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static("OPTIONS, GET, HEAD, PUT, POST, DELETE"));
    if !core.settings.cors {
        return response;
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(
        header::VARY,
        HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
    );
    if let Some(wanted) = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    response
}

fn maybe_gzipped(core: &Core, head: &Parts, response: Response<Body>) -> Response<Body> {
    if !core.settings.gzip {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    parts.headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if !accepts_gzip(&head.headers) || head.method == Method::HEAD {
        return Response::from_parts(parts, body);
    }
    match body.gzipped() {
        Ok(body) => {
            parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            Response::from_parts(parts, body)
        }
        Err(body) => Response::from_parts(parts, body),
    }
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or("");
        let refused = parts.any(|part| {
            part.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()).is_some_and(|q| q <= 0.0)
        });
        (name.eq_ignore_ascii_case("gzip") || name == "*") && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, path: &str) -> Parts {
        let request = Request::builder().method(method).uri(path).body(()).expect("request");
        request.into_parts().0
    }

    #[test]
    fn paths_find_their_routes() {
        assert!(matches!(Route::of(&head("POST", "/records/get?x=1")), Route::Get));
        assert!(matches!(
            Route::of(&head("GET", "/records/get")),
            Route::Refused(ApiError::Method("POST, OPTIONS"))
        ));
        assert!(matches!(Route::of(&head("GET", "/records/a%2Fb/c%20d")),
            Route::ReadOne(pk, sk) if pk == "a/b" && sk == "c d"));
        for path in ["/", "/records", "/records/a", "/records/a/b/c", "/nothing"] {
            assert!(matches!(Route::of(&head("GET", path)), Route::Refused(ApiError::NotFound(_))), "{path}");
        }
        for path in ["/records//b", "/records/a/", "/records/a%00/b", "/records/%ff/b"] {
            assert!(matches!(Route::of(&head("GET", path)), Route::Refused(ApiError::Invalid(_))), "{path}");
        }
        assert!(matches!(Route::of(&head("POST", "/records/a/b")), Route::Refused(ApiError::Method(_))));
    }

    #[test]
    fn json_is_recognised_as_declared() {
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json"] {
            assert!(is_json(&HeaderValue::from_static(good)), "{good}");
        }
        for bad in ["text/plain", "application/x-www-form-urlencoded", "json", "+json"] {
            assert!(!is_json(&HeaderValue::from_static(bad)), "{bad}");
        }
    }

    #[test]
    fn gzip_is_used_only_where_accepted() {
        let mut headers = HeaderMap::new();
        assert!(!accepts_gzip(&headers));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("br, gzip;q=0"));
        assert!(!accepts_gzip(&headers));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("br, GZIP;q=0.5"));
        assert!(accepts_gzip(&headers));
    }
}
