//! The service, its request and its response bodies, with a note kept of when each begins and ends.

use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::{HttpService, Service, service_fn};

use super::state::{ConnectionState, InFlight};

/// A request body as the service gets it; usually read with [`super::read_body`]. While it lives, its connection
/// counts as busy.
#[derive(Debug)]
pub struct RequestBody {
    inner: Incoming,
    /// None for a request without a body.
    _in_flight: Option<InFlight>,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A response body that tells its connection when it is done. Passes everything else through.
#[derive(Debug)]
pub struct TrackedBody<B> {
    inner: B,
    in_flight: InFlight,
}

impl<B: Body + Unpin> Body for TrackedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        self.in_flight.polled(frame.is_ready());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Wraps `service` for the connection that `state` describes.
pub(crate) fn tracked<S, B>(
    service: S,
    state: Rc<ConnectionState>,
) -> impl HttpService<Incoming, ResBody = TrackedBody<B>, Error = Infallible, Future: 'static>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + 'static,
    S::Future: 'static,
    B: Body + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    service_fn(move |request: Request<Incoming>| {
        let mut in_flight = state.begin();
        let request = request.map(|inner| {
            let _in_flight = (!inner.is_end_stream()).then(|| state.begin());
            RequestBody { inner, _in_flight }
        });
        let answer = service.call(request);
        async move {
            let Ok(mut response) = answer.await;
            in_flight.respond(&mut response);
            Ok(response.map(|inner| TrackedBody { inner, in_flight }))
        }
    })
}
