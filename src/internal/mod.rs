//! The internal port: what operators and their tools ask of a node.
//!
//! `GET /metrics` (Prometheus text), `/status` (JSON), `/partitions`, `/partitions/{p}/export` (NDJSON),
//! `/partitions/{p}/hash`, `/debug/pprof/profile?seconds=N`, `/up`. Every answer is made from reports that the
//! cores send when asked; a core that does not answer within `REPORT_WAIT` is left out and named.
//!
//! Invariants: a bounded number of connections; nothing here can hold up a serving core for longer than it takes to
//! copy its histograms.
//! Runs on: the control core (tokio). Not here: the public API, and authentication (the port is for loopback).

mod metrics;
mod profile;
mod status;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use firescroll_io::log::Log;
use firescroll_shard::PartitionId;
use futures_channel::oneshot;
use futures_lite::Stream;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::core::{Command, Report};
use crate::error::ApiError;
use crate::export::{HashReport, Rows};
use crate::progress::Progress;
use crate::route::Routes;

/// How long a core may take to report.
const REPORT_WAIT: Duration = Duration::from_secs(2);
const CONNECTIONS: usize = 64;
const HEAD_WAIT: Duration = Duration::from_secs(10);

/// What the internal port can see.
pub struct Internal {
    /// The node's configuration.
    pub config: Config,
    /// Who owns what.
    pub routes: Routes,
    /// The cores' command channels, by core.
    pub cores: Vec<flume::Sender<Command>>,
    /// The log.
    pub log: Arc<dyn Log>,
    /// What every thread may see.
    pub progress: Arc<Progress>,
    /// When the node started.
    pub started: Instant,
}

/// Serves until the runtime ends.
pub async fn serve(listener: TcpListener, internal: Arc<Internal>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("internal port: accept: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Else the end of every streamed answer waits for the client's delayed acknowledgement of its beginning: 40 ms for
        // each partition of an export.
        let _ = stream.set_nodelay(true);
        let internal = Arc::clone(&internal);
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| {
                let internal = Arc::clone(&internal);
                async move { Ok::<_, Infallible>(answer(&internal, &request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_WAIT)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!("internal port: {error}");
            }
            drop(place);
        });
    }
}

async fn answer(internal: &Internal, request: &Request<Incoming>) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return refused(&ApiError::Method("GET, HEAD"));
    }
    let result = match request.uri().path() {
        "/up" => Ok(whole("text/plain", "ok")),
        "/metrics" => Ok(whole("text/plain; version=0.0.4; charset=utf-8", internal.metrics().await)),
        "/status" => Ok(whole("application/json", internal.status().await)),
        "/partitions" => {
            let all: Vec<u32> = internal.progress.held().map(|partition| partition.0).collect();
            Ok(whole("application/json", serde_json::json!({ "partitions": all }).to_string()))
        }
        "/debug/pprof/profile" => profile::profile(request.uri().query())
            .await
            .map(|bytes| whole("application/octet-stream", bytes)),
        path => internal.partition(path).await,
    };
    result.unwrap_or_else(|error| refused(&error))
}

impl Internal {
    /// The reports of all cores, and the numbers of those that gave none in time.
    async fn reports(&self) -> (Vec<Report>, Vec<usize>) {
        let mut asked = Vec::new();
        for core in &self.cores {
            let (sender, receiver) = oneshot::channel();
            let sent = core.try_send(Command::Report(sender)).is_ok();
            asked.push((sent, receiver));
        }
        let deadline = tokio::time::Instant::now() + REPORT_WAIT;
        let (mut reports, mut silent) = (Vec::new(), Vec::new());
        for (number, (sent, receiver)) in asked.into_iter().enumerate() {
            match tokio::time::timeout_at(deadline, receiver).await {
                Ok(Ok(report)) if sent => reports.push(report),
                _ => silent.push(number),
            }
        }
        (reports, silent)
    }

    /// How far behind the log a partition is in time: how long ago the log received what was applied last, while there
    /// is more to apply; 0 when there is not, or nothing was applied since the start.
    fn lag_ms(&self, partition: PartitionId, end: u64) -> u64 {
        if end <= self.progress.applied(partition).0 {
            return 0;
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        let applied = self.progress.applied_timestamp_ms(partition).and_then(|ms| u128::try_from(ms).ok());
        applied.map_or(0, |ms| u64::try_from(now.saturating_sub(ms)).unwrap_or(u64::MAX))
    }

    /// `/partitions/{p}/export` and `/partitions/{p}/hash`.
    async fn partition(&self, path: &str) -> Result<Response<Body>, ApiError> {
        let unknown = || {
            ApiError::NotFound(format!(
                "no route {path:?}; there are /up, /metrics, /status, /partitions, /partitions/{{p}}/export, \
                 /partitions/{{p}}/hash, /debug/pprof/profile?seconds=N"
            ))
        };
        let rest = path.strip_prefix("/partitions/").ok_or_else(unknown)?;
        let (number, what) = rest.split_once('/').ok_or_else(unknown)?;
        let partition = number
            .parse()
            .ok()
            .filter(|number| *number < self.routes.partitions.get())
            .map(PartitionId)
            .ok_or_else(|| ApiError::NotFound(format!("there is no partition {number}")))?;
        let core = &self.cores[self.routes.owner(partition).0 as usize];
        let ask = |rows| {
            core.try_send(Command::Export(partition, rows))
                .map_err(|_| ApiError::Overloaded("the core takes no more commands; try again".into()))
        };
        match what {
            "export" => {
                let (sender, lines) = flume::bounded(4);
                ask(Rows::Lines(sender))?;
                let mut response = Response::new(Body::Lines(lines.into_stream()));
                let kind = HeaderValue::from_static("application/x-ndjson");
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                Ok(response)
            }
            "hash" => {
                let (sender, hash) = oneshot::channel();
                ask(Rows::Hash(sender))?;
                let report: HashReport =
                    hash.await.map_err(|_| ApiError::Internal("the core gave no answer".into()))??;
                let text =
                    serde_json::to_string(&report).map_err(|error| ApiError::Internal(error.to_string()))?;
                Ok(whole("application/json", text))
            }
            _ => Err(unknown()),
        }
    }
}

fn whole(kind: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::Whole(body.into()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn refused(error: &ApiError) -> Response<Body> {
    let mut response = whole("application/problem+json", error.problem());
    *response.status_mut() = error.status();
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

/// All at once, or lines as a core sends them.
enum Body {
    Whole(Bytes),
    Lines(flume::r#async::RecvStream<'static, Result<Bytes, ApiError>>),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = ApiError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ApiError>>> {
        match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            // An empty chunk is the sender's word that all has been sent; an end without it is a broken export.
            Self::Lines(lines) => match ready!(Pin::new(lines).poll_next(context)) {
                Some(Ok(chunk)) if chunk.is_empty() => Poll::Ready(None),
                Some(chunk) => Poll::Ready(Some(chunk.map(Frame::data))),
                None => Poll::Ready(Some(Err(ApiError::Internal("the export broke off".into())))),
            },
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Self::Whole(bytes) => http_body::SizeHint::with_exact(bytes.len() as u64),
            Self::Lines(_) => http_body::SizeHint::default(),
        }
    }
}
