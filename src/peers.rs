//! Questions and answers between the serving cores of this node.
//!
//! A core that needs keys of another sends it one question over the mesh and waits for the answer with its number; the
//! other looks up and sends the answer back. Both travel as owned messages, nothing is shared.
//!
//! Invariants: one answer to each question; a number is used again only after its answer has come, so that a client
//! that has gone cannot make an answer reach the wrong request. A full ring to a core sheds the request.
//! Runs on: every serving core. Not here: what a question means (`core`), and other nodes.

use std::cell::RefCell;
use std::time::Duration;

use futures_channel::oneshot;
use glommio::channels::channel_mesh::{FullMesh, MeshBuilder, Receivers, Senders};
use glommio::channels::shared_channel::ConnectedReceiver;

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

/// What travels on the mesh.
#[derive(Debug)]
pub enum Envelope {
    /// The sender's number: peers are numbered by the mesh in the order of joining.
    Hello(ShardId),
    /// A question, with the number for its answer.
    Question(usize, Question),
    /// An answer, with its question's number.
    Answer(usize, Answer),
}

/// The node's mesh, to be given to each core.
pub type Mesh = FullMesh<Envelope>;

/// A mesh for `shards` cores.
#[must_use]
pub fn mesh(shards: u32) -> Mesh {
    MeshBuilder::full(shards as usize, RING)
}

/// One core's side of the mesh.
pub struct Peers {
    senders: Option<Senders<Envelope>>,
    /// The mesh's number of each core.
    places: RefCell<Vec<Option<usize>>>,
    waiting: RefCell<Waiting>,
}

#[derive(Default)]
struct Waiting {
    slots: Vec<Option<oneshot::Sender<Answer>>>,
    free: Vec<usize>,
}

/// A stream of what one other core sends.
pub type Inbox = (usize, ConnectedReceiver<Envelope>);

impl Peers {
    /// Joins the mesh; returns when all cores have. A single core has no mesh.
    ///
    /// # Errors
    /// The runtime's, as text; the node cannot start.
    pub async fn join(mesh: Option<Mesh>, me: ShardId, shards: u32) -> Result<(Self, Vec<Inbox>), String> {
        let mut peers = Self {
            senders: None,
            places: RefCell::new(vec![None; shards as usize]),
            waiting: RefCell::default(),
        };
        let Some(mesh) = mesh else { return Ok((peers, Vec::new())) };
        let (senders, mut receivers): (Senders<Envelope>, Receivers<Envelope>) =
            mesh.join().await.map_err(|error| error.to_string())?;
        for place in (0..senders.nr_consumers()).filter(|place| *place != senders.peer_id()) {
            senders.send_to(place, Envelope::Hello(me)).await.map_err(|error| error.to_string())?;
        }
        peers.senders = Some(senders);
        Ok((peers, receivers.streams()))
    }

    /// The core behind a stream has told its number.
    pub fn introduce(&self, shard: ShardId, place: usize) {
        self.places.borrow_mut()[shard.0 as usize] = Some(place);
    }

    /// Whether all other cores have told their numbers.
    pub fn complete(&self) -> bool {
        let known = self.places.borrow().iter().flatten().count();
        known + 1 >= self.places.borrow().len()
    }

    /// Sends a question; the answer comes through the receiver.
    ///
    /// # Errors
    /// The ring to that core is full: overload.
    pub fn ask(&self, shard: ShardId, question: Question) -> Result<oneshot::Receiver<Answer>, ApiError> {
        let place = self.places.borrow()[shard.0 as usize];
        let (Some(senders), Some(place)) = (&self.senders, place) else {
            return Err(ApiError::Internal(format!("core {shard} has not joined")));
        };
        let (sender, receiver) = oneshot::channel();
        let number = self.waiting.borrow_mut().put(sender);
        if senders.try_send_to(place, Envelope::Question(number, question)).is_err() {
            self.waiting.borrow_mut().take(number);
            return Err(ApiError::Overloaded(format!("core {shard} is overloaded; try again")));
        }
        Ok(receiver)
    }

    /// Sends an answer back, waiting for room in the ring.
    pub async fn answer(&self, place: usize, number: usize, answer: Answer) {
        if let Some(senders) = &self.senders {
            // An error means that the other core has gone, and the process with it.
            let _ = senders.send_to(place, Envelope::Answer(number, answer)).await;
        }
    }

    /// Sends an answer back at once if the ring has room; else gives it back.
    ///
    /// # Errors
    /// The answer, when the ring is full.
    pub fn try_answer(&self, place: usize, number: usize, answer: Answer) -> Result<(), Answer> {
        let Some(senders) = &self.senders else { return Ok(()) };
        match senders.try_send_to(place, Envelope::Answer(number, answer)) {
            Err(glommio::GlommioError::WouldBlock(glommio::ResourceType::Channel(Envelope::Answer(
                _,
                back,
            )))) => Err(back),
            _ => Ok(()),
        }
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
