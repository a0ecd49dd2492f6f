//! Calls that wait for the writer, bounded in messages and bytes.
//!
//! What has been taken counts until its group is answered, so the bounds hold for everything that is not yet durable.
//!
//! **Runs on**: pushed to by the serving cores, emptied by the writer thread. The lock is held for a few pointer moves
//! only, never while anything is written, encoded or freed.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use futures_channel::oneshot;

use super::options::EmbeddedOptions;
use super::record::encoded_len;
use crate::log::{Ack, AppendError, Message};

/// One call and the place for its answer.
pub(crate) struct Append {
    pub(crate) messages: Vec<Message>,
    /// What they take in a segment.
    pub(crate) bytes: usize,
    pub(crate) ack: oneshot::Sender<Result<Vec<u64>, AppendError>>,
}

/// What the writer finds when it looks.
pub(crate) struct Work {
    /// Offsets below which the stores need nothing, if they said so since the last look.
    pub(crate) released: Option<Vec<u64>>,
    /// No more calls will come.
    pub(crate) closing: bool,
}

/// The queue.
pub(crate) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    max_message_bytes: usize,
    max_messages: usize,
    max_bytes: usize,
}

struct State {
    appends: VecDeque<Append>,
    messages: usize,
    bytes: usize,
    released: Vec<u64>,
    release_due: bool,
    closing: bool,
    /// The writer sleeps and must be woken; saves a system call per push while it is busy.
    asleep: bool,
}

impl Queue {
    /// An empty queue.
    pub(crate) fn new(options: &EmbeddedOptions) -> Queue {
        Queue {
            state: Mutex::new(State {
                appends: VecDeque::new(),
                messages: 0,
                bytes: 0,
                released: vec![0; options.partitions as usize],
                release_due: false,
                closing: false,
                asleep: false,
            }),
            filled: Condvar::new(),
            max_message_bytes: options.max_message_bytes,
            max_messages: options.queue_messages,
            max_bytes: options.queue_bytes,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts a call, or says why not.
    pub(crate) fn push(&self, messages: Vec<Message>) -> Result<Ack, AppendError> {
        let bytes = self.measure(&messages)?;
        let (ack, answer) = oneshot::channel();
        let mut state = self.lock();
        if state.closing {
            return Err(AppendError::Closed);
        }
        if state.messages >= self.max_messages || state.bytes + bytes > self.max_bytes {
            return Err(AppendError::Overloaded);
        }
        state.messages += messages.len();
        state.bytes += bytes;
        state.appends.push_back(Append { messages, bytes, ack });
        self.wake(state);
        Ok(answer)
    }

    /// The bytes of a call; refuses what could never be accepted.
    fn measure(&self, messages: &[Message]) -> Result<usize, AppendError> {
        let mut bytes = 0;
        for (index, message) in messages.iter().enumerate() {
            let size = message.key.len() + message.value.len();
            if size > self.max_message_bytes {
                return Err(AppendError::TooLarge { size, limit: self.max_message_bytes, index });
            }
            bytes += encoded_len(&message.key, &message.value);
            if bytes > self.max_bytes {
                return Err(AppendError::TooLarge { size: bytes, limit: self.max_bytes, index });
            }
        }
        Ok(bytes)
    }

    /// Notes what the stores hold durably. It never goes back: an older word changes nothing.
    pub(crate) fn release(&self, durable: &[(u32, u64)]) {
        let mut state = self.lock();
        for &(partition, offset) in durable {
            if let Some(known) = state.released.get_mut(partition as usize) {
                *known = offset.max(*known);
            }
        }
        state.release_due = true;
        self.wake(state);
    }

    /// Refuses all further calls.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        self.wake(state);
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let asleep = std::mem::take(&mut state.asleep);
        drop(state);
        if asleep {
            self.filled.notify_one();
        }
    }

    /// Moves all waiting calls behind the `backlog`. Waits until there is something to do, unless the backlog has it.
    pub(crate) fn take(&self, backlog: &mut VecDeque<Append>) -> Work {
        let mut state = self.lock();
        while backlog.is_empty() && state.appends.is_empty() && !state.closing && !state.release_due {
            state.asleep = true;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.asleep = false;
        if backlog.is_empty() {
            std::mem::swap(backlog, &mut state.appends);
        } else {
            backlog.append(&mut state.appends);
        }
        let due = std::mem::take(&mut state.release_due);
        Work { released: due.then(|| state.released.clone()), closing: state.closing }
    }

    /// Makes room after calls have been answered.
    pub(crate) fn finish(&self, messages: usize, bytes: usize) {
        let mut state = self.lock();
        assert!(state.messages >= messages && state.bytes >= bytes, "only what was accepted can be answered");
        state.messages -= messages;
        state.bytes -= bytes;
    }

    /// Messages and bytes that are not yet answered.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let state = self.lock();
        (state.messages, state.bytes)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn queue() -> Queue {
        Queue::new(&EmbeddedOptions {
            max_message_bytes: 10,
            queue_messages: 3,
            queue_bytes: 150,
            ..EmbeddedOptions::new(1)
        })
    }

    fn call(sizes: &[usize]) -> Vec<Message> {
        let message =
            |size: &usize| Message { partition: 0, key: Bytes::new(), value: vec![7; *size].into() };
        sizes.iter().map(message).collect()
    }

    #[test]
    fn what_can_never_fit_is_too_large() {
        let refused = queue().push(call(&[3, 11])).expect_err("eleven bytes are over the limit");
        assert_eq!(refused, AppendError::TooLarge { size: 11, limit: 10, index: 1 });
        let refused = queue().push(call(&[10, 10, 10, 10])).expect_err("the call is over the queue's bytes");
        assert_eq!(refused, AppendError::TooLarge { size: 184, limit: 150, index: 3 });
    }

    #[test]
    fn the_bounds_hold_until_the_answer() {
        let queue = queue();
        let _first = queue.push(call(&[10, 10])).expect("there is room");
        assert_eq!(queue.push(call(&[10, 10])).expect_err("no bytes are left"), AppendError::Overloaded);
        let _second = queue.push(call(&[1])).expect("a small one still fits");
        assert_eq!(queue.push(call(&[0])).expect_err("three messages wait"), AppendError::Overloaded);
        let mut backlog = VecDeque::new();
        let work = queue.take(&mut backlog);
        assert!(work.released.is_none() && !work.closing);
        assert_eq!(backlog.len(), 2);
        assert_eq!(queue.push(call(&[0])).expect_err("taken is not answered"), AppendError::Overloaded);
        queue.finish(2, backlog[0].bytes);
        assert_eq!(queue.depth(), (1, 37));
        let _third = queue.push(call(&[0])).expect("there is room again");
    }

    #[test]
    fn release_never_goes_back_and_close_refuses() {
        let queue = queue();
        queue.release(&[(0, 5)]);
        queue.release(&[(0, 3), (9, 1)]);
        queue.close();
        let work = queue.take(&mut VecDeque::new());
        assert_eq!(work.released, Some(vec![5]));
        assert!(work.closing);
        assert_eq!(queue.push(call(&[0])).expect_err("it is closed"), AppendError::Closed);
    }
}
