//! The yardstick: the node's own HTTP listener, answering every request with the same JSON body.
//!
//! The same runtime, tick, limits and server as a serving core, and nothing behind them: what a node's rate
//! falls short of this one's is what parsing, routing, lookup and copying cost. With `--read-body` the request's body
//! is read first, as every call of the API does.
//!
//! **Runs on**: one pinned core, the main thread only waits. **Not here**: routes, errors, metrics.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use firescroll_io::http::{
    BodyBudget, ConnectionCounters, Heartbeat, HttpLimits, HttpListener, RequestBody, Stop, read_body, serve,
    start_tick,
};
use firescroll_io::runtime::{Placement, Runtime, sleep, spawn};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;

use crate::error::{Result, Tried};

const BODY_LIMIT: usize = 8 << 20;
const BODY_DEADLINE: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(5);

/// What `constant` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConstantOptions {
    /// Port on the loopback address.
    #[arg(long, default_value_t = 8199)]
    port: u16,
    /// CPU of the serving thread.
    #[arg(long, default_value_t = 0)]
    cpu: usize,
    /// Length of every answer's body.
    #[arg(long, default_value_t = 420)]
    bytes: usize,
    /// Read the request's body before answering.
    #[arg(long)]
    read_body: bool,
    /// Stop after so many seconds.
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
}

/// `firescroll-bench constant`.
pub(crate) fn command(options: &ConstantOptions) -> Result<()> {
    let address = SocketAddr::from(([127, 0, 0, 1], options.port));
    let listener =
        HttpListener::bind(address, HttpLimits::BACKLOG).tried(|| format!("listen on {address}"))?;
    let address = listener.local_addr().tried(|| "read the bound address".into())?;
    println!("answering {} bytes on http://{address} for {} s", options.bytes, options.seconds);
    let options = options.clone();
    let core = Runtime::new()
        .and_then(|core| {
            core.start(Placement::Fixed(options.cpu), "constant", move || answer(listener, options))
        })
        .tried(|| "start a core".into())?;
    core.join().tried(|| "the serving thread ended".into())
}

async fn answer(listener: HttpListener, options: ConstantOptions) {
    let _clock = start_tick(Heartbeat::new());
    let stop = Stop::new();
    let timer = stop.clone();
    spawn(async move {
        sleep(Duration::from_secs(options.seconds)).await;
        timer.trigger(GRACE);
    })
    .detach();
    let body = constant_body(options.bytes);
    let budget = BodyBudget::new(256 << 20);
    let counters = Rc::new(ConnectionCounters::default());
    if options.read_body {
        let service = service_fn(move |request: Request<RequestBody>| {
            let (body, budget) = (body.clone(), budget.clone());
            async move {
                let mut incoming = request.into_body();
                let read = read_body(&mut incoming, BODY_LIMIT, BODY_DEADLINE, &budget).await;
                let status = if read.is_ok() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
                Ok::<_, Infallible>(response(status, body))
            }
        });
        serve(listener, HttpLimits::default(), service, stop, counters).await;
    } else {
        let service = service_fn(move |_: Request<RequestBody>| {
            std::future::ready(Ok::<_, Infallible>(response(StatusCode::OK, body.clone())))
        });
        serve(listener, HttpLimits::default(), service, stop, counters).await;
    }
}

fn response(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A JSON string of `bytes` bytes.
fn constant_body(bytes: usize) -> Bytes {
    let mut body = vec![b'x'; bytes.max(2)];
    let last = body.len() - 1;
    body[0] = b'"';
    body[last] = b'"';
    Bytes::from(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_json_of_the_asked_length() {
        let body = constant_body(420);
        assert_eq!(body.len(), 420);
        assert!(serde_json::from_slice::<String>(&body).is_ok());
    }
}
