//! The accept loop of one core.
//!
//! **Runs on**: one serving core, whose tick must run ([`super::start_tick`]). **Not here**: deciding who stops it.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_lite::future::poll_once;
use http::{Request, Response};
use http_body::Body;
use hyper::service::Service;

use super::connection::{Protocols, refuse_connection, serve_connection};
use super::counters::{ConnectionCounters, count};
use super::limits::HttpLimits;
use super::listener::HttpListener;
use super::roster::{Purpose, Roster};
use super::state::ConnectionState;
use super::stop::Stop;
use super::stream::{Buffers, Wire};
use super::tick::{Clock, clock};
use super::tracked::RequestBody;
use crate::runtime::{TcpListener, TcpStream, look, sleep, spawn};

/// Pause after a failed accept. Out of descriptors, `accept` fails at once and for ever; trying again without a
/// pause would only burn the core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Connections taken in one go, before those already open get their turn.
const ACCEPT_BURST: u32 = 16;
/// Refusals under way at once; a connection beyond them is closed without a word.
const MAX_REFUSING: usize = 64;

/// Serves connections from `listener` with `service` until `stop` is triggered, then lets open requests finish and
/// returns when no connection is left. What is open when the grace of the stop ends is cut.
///
/// Each connection gets a clone of `service`, and each request one `call`. A service that reads a request body does
/// so with [`super::read_body`], which has a limit and a deadline.
///
/// # Panics
/// If the core has no tick ([`super::start_tick`]), or the listener cannot be waited for: the process is out of memory.
pub async fn serve<S, B>(
    listener: HttpListener,
    limits: HttpLimits,
    service: S,
    stop: Stop,
    counters: Rc<ConnectionCounters>,
) where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone + 'static,
    S::Future: 'static,
    B: Body + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let clock = clock();
    let roster = Roster::new(clock.clone(), &limits, stop.clone(), Rc::clone(&counters));
    let swept = Rc::clone(&roster);
    let sweep: Rc<dyn Fn()> = Rc::new(move || swept.sweep());
    clock.each_tick(&sweep);
    let core = Core {
        clock,
        roster,
        protocols: Protocols::new(&limits, Rc::clone(&counters)),
        buffers: Buffers::new(),
        max_connections: limits.max_connections,
    };
    let listener = listener.into_core().expect("a listener can be waited for");
    let mut burst = 0;
    while let Some(accepted) = accept(&listener, &stop).await {
        match accepted {
            Ok(stream) => core.welcome(stream, &service),
            Err(error) => {
                count(&counters.accept_errors);
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
        burst += 1;
        if burst == ACCEPT_BURST {
            burst = 0;
            look().await;
        }
    }
    // Those that the kernel has accepted already have their last call; what still comes is reset with the listener.
    for _ in 0..HttpLimits::BACKLOG {
        let Some(Ok(stream)) = poll_once(poll_fn(|cx| listener.poll_accept(cx))).await else { break };
        core.welcome(stream, &service);
    }
    drop(listener);
    core.roster.stop_all();
    core.roster.empty().await;
}

/// The next connection, or `None` once the stop is triggered.
async fn accept(listener: &TcpListener, stop: &Stop) -> Option<io::Result<TcpStream>> {
    poll_fn(|cx| {
        if stop.is_triggered() {
            return Poll::Ready(None);
        }
        stop.watch(cx.waker());
        listener.poll_accept(cx).map(Some)
    })
    .await
}

struct Core {
    clock: Clock,
    roster: Rc<Roster>,
    protocols: Rc<Protocols>,
    buffers: Rc<Buffers>,
    max_connections: usize,
}

impl Core {
    fn welcome<S, B>(&self, stream: TcpStream, service: &S)
    where
        S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone + 'static,
        S::Future: 'static,
        B: Body + Unpin + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let full = self.roster.serving() >= self.max_connections;
        let purpose = if full { Purpose::Refuse } else { Purpose::Serve };
        let state = ConnectionState::new(self.clock.clone());
        let place = self.roster.enter(Rc::clone(&state), purpose);
        if full && self.roster.refusing() > MAX_REFUSING {
            return;
        }
        let wire = Wire::new(stream, Rc::clone(&state), Rc::clone(&self.buffers));
        if full {
            spawn(async move {
                refuse_connection(wire, state).await;
                drop(place);
            })
            .detach();
            return;
        }
        let (protocols, service) = (Rc::clone(&self.protocols), service.clone());
        spawn(async move {
            serve_connection(wire, state, protocols, service).await;
            drop(place);
        })
        .detach();
    }
}
