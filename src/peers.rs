//! Questions and answers between the serving cores of this node.
//!
//! A core that needs keys of another sends it one question and waits for the answer with its number; the other looks up
//! and sends the answer back. Both travel as owned messages through a ring without locks, one for each pair of cores and
//! direction; a ring of the receiver's doorbell ends its sleep, and many messages share one.
//!
//! Invariants: one answer to each question; a number is used again only after its answer has come, so that a client
//! that has gone cannot make an answer reach the wrong request. A full ring to a core sheds the request.
//! Runs on: every serving core. Not here: what a question means (`core`), and other nodes.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use firescroll_io::runtime::{Doorbell, look};
use futures_channel::oneshot;
use rtrb::{Consumer, Producer, PushError, RingBuffer};

use crate::api::read::{Found, One, Page};
use crate::api::request::ListRequest;
use crate::api::session::Position;
use crate::error::ApiError;
use crate::keys::KeyList;
use crate::route::ShardId;

/// Messages that may be under way from one core to another.
const RING: usize = 1024;

/// What a reader wants to have been applied first, on the core that is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Awaited {
    /// Positions in partitions of that core.
    pub positions: Vec<Position>,
    /// How long to wait for them.
    pub wait: Duration,
}

/// What one core asks another.
#[derive(Debug)]
pub enum Question {
    /// The records of these keys.
    Get(KeyList, Awaited),
    /// The record of this one key, with its metadata.
    One(KeyList, Awaited),
    /// The first page of a listing, and the rest as a stream.
    List(ListRequest, Awaited),
}

/// What it is told.
#[derive(Debug)]
pub enum Answer {
    /// To [`Question::Get`].
    Get(Result<Found, ApiError>),
    /// To [`Question::One`].
    One(Result<One, ApiError>),
    /// To [`Question::List`].
    List(Result<Page, ApiError>),
}

/// What travels from core to core.
#[derive(Debug)]
pub enum Envelope {
    /// A question, with the number for its answer.
    Question(usize, Question),
    /// An answer, with its question's number.
    Answer(usize, Answer),
}

/// One core's ends of the rings between the cores of a node.
#[derive(Debug, Default)]
pub struct Links {
    to: Vec<Option<Outbox>>,
    from: Vec<Inbox>,
}

/// A ring to another core.
#[derive(Debug)]
struct Outbox {
    ring: Producer<Envelope>,
    bell: Arc<Doorbell>,
}

/// A ring from another core.
#[derive(Debug)]
pub struct Inbox {
    /// The core that sends.
    pub from: ShardId,
    /// What it has sent, in order.
    pub ring: Consumer<Envelope>,
}

/// Rings between all cores that have these doorbells, in the order of their numbers.
#[must_use]
pub fn link(bells: &[Arc<Doorbell>]) -> Vec<Links> {
    let mut all: Vec<Links> = bells.iter().map(|_| Links::default()).collect();
    for from in 0..bells.len() {
        for (to, bell) in bells.iter().enumerate() {
            if from == to {
                all[from].to.push(None);
                continue;
            }
            let (producer, consumer) = RingBuffer::new(RING);
            all[from].to.push(Some(Outbox { ring: producer, bell: Arc::clone(bell) }));
            let from = ShardId(u32::try_from(from).expect("SHARDS is a u32"));
            all[to].from.push(Inbox { from, ring: consumer });
        }
    }
    all
}

/// One core's side of all questions and answers.
pub struct Peers {
    to: RefCell<Vec<Option<Outbox>>>,
    waiting: RefCell<Waiting>,
}

#[derive(Default)]
struct Waiting {
    slots: Vec<Option<oneshot::Sender<Answer>>>,
    free: Vec<usize>,
}

impl Peers {
    /// The core with these ends of the rings, and what the others send it.
    #[must_use]
    pub fn new(links: Links) -> (Self, Vec<Inbox>) {
        let peers = Self { to: RefCell::new(links.to), waiting: RefCell::default() };
        (peers, links.from)
    }

    /// Sends a question; the answer comes through the receiver.
    ///
    /// # Errors
    /// The ring to that core is full: overload.
    pub fn ask(&self, shard: ShardId, question: Question) -> Result<oneshot::Receiver<Answer>, ApiError> {
        let (sender, receiver) = oneshot::channel();
        let number = self.waiting.borrow_mut().put(sender);
        if self.send(shard, Envelope::Question(number, question)).is_some() {
            self.waiting.borrow_mut().take(number);
            return Err(ApiError::Overloaded(format!("core {shard} is overloaded; try again")));
        }
        Ok(receiver)
    }

    /// Sends an answer back, waiting for room in the ring.
    pub async fn answer(&self, shard: ShardId, number: usize, mut answer: Answer) {
        while let Err(back) = self.try_answer(shard, number, answer) {
            answer = back;
            look().await;
        }
    }

    /// Sends an answer back at once.
    ///
    /// # Errors
    /// The answer, when the ring is full.
    pub fn try_answer(&self, shard: ShardId, number: usize, answer: Answer) -> Result<(), Answer> {
        match self.send(shard, Envelope::Answer(number, answer)) {
            Some(Envelope::Answer(_, back)) => Err(back),
            _ => Ok(()),
        }
    }

    /// Puts a message into the ring; gives it back if the ring is full.
    fn send(&self, shard: ShardId, envelope: Envelope) -> Option<Envelope> {
        let mut to = self.to.borrow_mut();
        let outbox = to[shard.0 as usize].as_mut().expect("no core asks itself");
        if let Err(PushError::Full(back)) = outbox.ring.push(envelope) {
            return Some(back);
        }
        outbox.bell.ring();
        None
    }

    /// Hands an answer to whoever waits for it, if anybody still does.
    pub fn deliver(&self, number: usize, answer: Answer) {
        if let Some(sender) = self.waiting.borrow_mut().take(number) {
            let _ = sender.send(answer);
        }
    }
}

impl Waiting {
    fn put(&mut self, sender: oneshot::Sender<Answer>) -> usize {
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[number] = Some(sender);
        number
    }

    fn take(&mut self, number: usize) -> Option<oneshot::Sender<Answer>> {
        let sender = self.slots.get_mut(number)?.take();
        if sender.is_some() {
            self.free.push(number);
        }
        sender
    }
}

#[cfg(test)]
mod tests {
    use firescroll_io::runtime::Runtime;

    use super::*;

    fn cores(count: usize) -> Vec<(Peers, Vec<Inbox>)> {
        let runtimes: Vec<Runtime> = (0..count).map(|_| Runtime::new().expect("descriptors")).collect();
        let bells: Vec<_> = runtimes.iter().map(Runtime::doorbell).collect();
        link(&bells).into_iter().map(Peers::new).collect()
    }

    fn question() -> Question {
        Question::Get(KeyList::default(), Awaited::default())
    }

    #[test]
    fn a_question_reaches_the_core_asked_and_its_answer_the_asker() {
        let mut cores = cores(3);
        let mut answer = cores[2].0.ask(ShardId(0), question()).expect("room");
        assert!(cores[1].1.iter_mut().all(|inbox| inbox.ring.pop().is_err()));
        let (answerer, inboxes) = &mut cores[0];
        let inbox = inboxes.iter_mut().find(|inbox| inbox.from == ShardId(2)).expect("a ring for each");
        let Ok(Envelope::Question(number, Question::Get(..))) = inbox.ring.pop() else {
            panic!("no question")
        };
        answerer.try_answer(ShardId(2), number, Answer::One(Ok(None))).expect("room");
        let (asker, inboxes) = &mut cores[2];
        let inbox = inboxes.iter_mut().find(|inbox| inbox.from == ShardId(0)).expect("a ring for each");
        let Ok(Envelope::Answer(number, given)) = inbox.ring.pop() else { panic!("no answer") };
        asker.deliver(number, given);
        assert!(matches!(answer.try_recv(), Ok(Some(Answer::One(Ok(None))))));
    }

    #[test]
    fn a_full_ring_sheds_questions_keeps_answers_and_uses_numbers_again() {
        let mut cores = cores(2);
        let asked: Vec<_> =
            (0..RING).map(|_| cores[0].0.ask(ShardId(1), question()).expect("room")).collect();
        for _ in 0..3 {
            let refused = cores[0].0.ask(ShardId(1), question()).expect_err("no room");
            assert!(matches!(refused, ApiError::Overloaded(_)), "{refused}");
        }
        assert_eq!(cores[0].0.waiting.borrow().slots.len(), RING + 1);
        for number in 0..RING {
            cores[1].0.try_answer(ShardId(0), number, Answer::One(Ok(None))).expect("room");
        }
        cores[1].0.try_answer(ShardId(0), 0, Answer::One(Ok(None))).expect_err("no room, and given back");
        let (asker, inboxes) = &mut cores[0];
        while let Ok(Envelope::Answer(number, answer)) = inboxes[0].ring.pop() {
            asker.deliver(number, answer);
        }
        assert_eq!(asker.waiting.borrow().free.len(), RING + 1);
        drop(asked);
    }
}
