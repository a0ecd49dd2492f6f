//! Request bodies: whole, bounded, in time.
//!
//! The usual body is already there when the service runs: then it is one poll, without timer and without copy.
//! Bodies over [`FREE`] bytes draw on the core's [`BodyBudget`], so that many large uploads at once are shed instead
//! of filling the memory. **Runs on**: one serving core. **Not here**: what the body says.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;

use crate::runtime::Timer;

/// Bodies up to this size are not counted against the budget: the connection limit bounds them.
const FREE: usize = 64 << 10;

/// Why a request body is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The body is larger than allowed; answered 413. The client must split its request, or the operator raise the
    /// limit on every node.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The body did not arrive in time; answered 408. Nothing to do unless it happens to many clients: then look at
    /// the network.
    #[error("the body did not arrive within {} ms", .deadline.as_millis())]
    Deadline {
        /// The time that the whole body had.
        deadline: Duration,
    },
    /// The client went away or broke the framing; nobody will read an answer. Nothing to do.
    #[error("the client went away before its body was complete")]
    Gone,
    /// This core buffers as many large bodies as it may; answered 503. The client tries again; if it lasts, give the
    /// node more memory for bodies or send fewer large writes at once.
    #[error("this core buffers as many large bodies as it may")]
    Overloaded,
}

/// Memory that the buffered bodies of one core may take together. Clones share it.
#[derive(Debug, Clone)]
pub struct BodyBudget {
    left: Rc<Cell<usize>>,
}

impl BodyBudget {
    /// A budget of `bytes`. It must be no less than the largest body allowed, or that body is never let in.
    pub fn new(bytes: usize) -> BodyBudget {
        BodyBudget { left: Rc::new(Cell::new(bytes)) }
    }

    /// Bytes that are free.
    pub fn left(&self) -> usize {
        self.left.get()
    }
}

/// A share of a [`BodyBudget`], given back when dropped.
#[derive(Debug)]
pub struct BodyPermit {
    left: Rc<Cell<usize>>,
    held: usize,
}

impl BodyPermit {
    fn none(budget: &BodyBudget) -> BodyPermit {
        BodyPermit { left: Rc::clone(&budget.left), held: 0 }
    }

    /// Covers a body of `bytes` in all, if the budget allows.
    fn cover(&mut self, bytes: usize) -> Result<(), BodyError> {
        if bytes <= FREE || bytes <= self.held {
            return Ok(());
        }
        let left = self.left.get().checked_sub(bytes - self.held).ok_or(BodyError::Overloaded)?;
        self.left.set(left);
        self.held = bytes;
        Ok(())
    }
}

impl Drop for BodyPermit {
    fn drop(&mut self) {
        self.left.set(self.left.get() + self.held);
    }
}

/// A whole request body. Its share of the budget is held until it is dropped.
#[derive(Debug)]
pub struct ReceivedBody {
    bytes: Bytes,
    permit: BodyPermit,
}

impl ReceivedBody {
    /// The bytes, and the share of the budget to keep for as long as they live.
    pub fn into_parts(self) -> (Bytes, BodyPermit) {
        (self.bytes, self.permit)
    }
}

impl Deref for ReceivedBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads the whole of `body`: at most `limit` bytes, within `deadline` from now.
///
/// # Errors
/// [`BodyError`]; a declared length over `limit` is refused before anything is read.
pub async fn read_body<B>(
    body: &mut B,
    limit: usize,
    deadline: Duration,
    budget: &BodyBudget,
) -> Result<ReceivedBody, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let declared = body.size_hint().lower();
    if declared > limit as u64 {
        return Err(BodyError::TooLarge { limit });
    }
    let declared = usize::try_from(declared).expect("no more than limit, which is a usize");
    let mut permit = BodyPermit::none(budget);
    permit.cover(declared)?;
    let mut gathering = Gathering { limit, declared, first: Bytes::new(), rest: BytesMut::new(), permit };
    let mut timer: Option<Timer> = None;
    poll_fn(|cx| match gathering.poll(body, cx) {
        Poll::Ready(done) => Poll::Ready(done),
        Poll::Pending => {
            ready!(Pin::new(timer.get_or_insert_with(|| Timer::new(deadline))).poll(cx));
            Poll::Ready(Err(BodyError::Deadline { deadline }))
        }
    })
    .await?;
    Ok(gathering.finish())
}

struct Gathering {
    limit: usize,
    declared: usize,
    /// The first frame as it came; the whole body, if no other follows.
    first: Bytes,
    /// First and further frames, once there is a second.
    rest: BytesMut,
    permit: BodyPermit,
}

impl Gathering {
    fn poll<B>(&mut self, body: &mut B, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        while !body.is_end_stream() {
            match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                None => break,
                Some(Err(_)) => return Poll::Ready(Err(BodyError::Gone)),
                Some(Ok(frame)) => {
                    // Trailers are read and mean nothing here.
                    if let Ok(data) = frame.into_data() {
                        self.take(data)?;
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, data: Bytes) -> Result<(), BodyError> {
        let so_far = self.first.len().max(self.rest.len());
        let total = so_far + data.len();
        if total > self.limit {
            return Err(BodyError::TooLarge { limit: self.limit });
        }
        self.permit.cover(total)?;
        if so_far == 0 {
            self.first = data;
            return Ok(());
        }
        if self.rest.is_empty() {
            self.rest.reserve(self.declared.max(total));
            self.rest.extend_from_slice(&self.first);
            self.first = Bytes::new();
        }
        self.rest.extend_from_slice(&data);
        Ok(())
    }

    fn finish(self) -> ReceivedBody {
        let bytes = if self.rest.is_empty() { self.first } else { self.rest.freeze() };
        ReceivedBody { bytes, permit: self.permit }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use http_body::{Frame, SizeHint};
    use proptest::prelude::*;

    struct Frames {
        frames: VecDeque<Bytes>,
        hint: SizeHint,
        /// What comes after the frames: the end, or nothing for ever.
        ends: bool,
    }

    fn frames(frames: Vec<Vec<u8>>, declared: bool) -> Frames {
        let total = frames.iter().map(|frame| frame.len() as u64).sum();
        Frames {
            frames: frames.into_iter().map(Bytes::from).collect(),
            hint: if declared { SizeHint::with_exact(total) } else { SizeHint::default() },
            ends: true,
        }
    }

    impl Body for Frames {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            match self.frames.pop_front() {
                Some(frame) => Poll::Ready(Some(Ok(Frame::data(frame)))),
                None if self.ends => Poll::Ready(None),
                None => Poll::Pending,
            }
        }

        fn size_hint(&self) -> SizeHint {
            self.hint
        }
    }

    const LONG: Duration = Duration::from_secs(600);

    fn read(mut body: Frames, limit: usize, budget: &BodyBudget) -> Result<ReceivedBody, BodyError> {
        futures_lite::future::block_on(read_body(&mut body, limit, LONG, budget))
    }

    proptest! {
        #[test]
        fn frames_join_in_order_or_are_too_large(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..8),
            limit in 0usize..400, declared: bool,
        ) {
            let whole = parts.concat();
            let budget = BodyBudget::new(1 << 20);
            match read(frames(parts, declared), limit, &budget) {
                Ok(body) => prop_assert_eq!(&body[..], &whole[..]),
                Err(error) => {
                    prop_assert_eq!(error, BodyError::TooLarge { limit });
                    prop_assert!(whole.len() > limit);
                }
            }
        }
    }

    #[test]
    fn one_frame_is_not_copied() {
        let body = frames(vec![vec![7; 100]], true);
        let at = body.frames[0].as_ptr();
        let (bytes, _permit) = read(body, 1000, &BodyBudget::new(0)).expect("small").into_parts();
        assert_eq!(bytes.as_ptr(), at);
    }

    #[test]
    fn large_bodies_draw_on_the_budget_until_dropped() {
        for declared in [true, false] {
            let budget = BodyBudget::new(150_000);
            let parts = || vec![vec![1; 50_000], vec![2; 50_000]];
            let held = read(frames(parts(), declared), 1 << 20, &budget).expect("fits");
            assert_eq!(budget.left(), 50_000);
            let refused = read(frames(parts(), declared), 1 << 20, &budget).expect_err("does not fit");
            assert_eq!(refused, BodyError::Overloaded);
            assert_eq!(budget.left(), 50_000, "a refused body gives back what it took");
            drop(held);
            assert_eq!(budget.left(), 150_000);
        }
    }

    #[test]
    fn a_body_that_never_ends_meets_its_deadline() {
        let outcome = crate::runtime::Runtime::new()
            .expect("descriptors")
            .start(crate::runtime::Placement::Unbound, "body", || async {
                let mut body = frames(vec![vec![1; 10]], false);
                body.ends = false;
                let deadline = Duration::from_millis(5);
                read_body(&mut body, 100, deadline, &BodyBudget::new(0)).await.err()
            })
            .expect("a core")
            .join()
            .expect("a clean end");
        assert_eq!(outcome, Some(BodyError::Deadline { deadline: Duration::from_millis(5) }));
    }
}
