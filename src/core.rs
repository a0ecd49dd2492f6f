//! All that lives on one serving core: listener, partitions, peers, and the tasks between them.
//!
//! Tasks of a core: the HTTP server (one task a connection or HTTP/2 stream); `take_steps`, which feeds deliveries of the log to the owner
//! and takes and gives up partitions; `take_completions`, which tells the owner what its writer thread has
//! committed; `answer_peers`, which answers the other cores' questions; `take_commands` of the control core; the tick.
//!
//! Invariants: everything here belongs to this core, so that a lookup or an apply is one uninterrupted step and
//! readers never see half a batch; nobody keeps a borrow across an await; whatever takes longer than a slice pauses.
//! Runs on: its own pinned thread, as tasks of its runtime. Not here: what requests mean (`api`), who starts it (`node`).

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use firescroll_io::http::{
    BodyBudget, Clock, ConnectionCounters, Heartbeat, HttpLimits, HttpListener, Stop, serve, start_tick,
};
use firescroll_io::log::Log;
use firescroll_io::runtime::{News, Placement, Running, Runtime, Timer, look, spawn};
use firescroll_shard::{
    Closing, Completion, LogEntry, Offset, OpenedPartition, Owner, PartitionId, PartitionStatus,
    PreparedOwner, StoreError, Unavailable,
};
use futures_channel::oneshot;
use futures_lite::future::or;
use http::StatusCode;
use hyper::service::service_fn;
use quanta::Instant;

use crate::api;
use crate::api::offload::Offload;
use crate::api::read;
use crate::api::request::Parser;
use crate::bell::Bell;
use crate::error::ApiError;
use crate::export::{self, Rows};
use crate::ingest::{Delivery, Step};
use crate::keys::KeyList;
use crate::metrics::{Metrics, Operation, PartitionOperation};
use crate::peers::{Answer, Awaited, Envelope, Inbox, Links, Peers, Question};
use crate::progress::{Holding, Progress};
use crate::route::{Routes, ShardId};
use crate::turns::Turns;

/// Mutations applied before others on the core get a turn: some 100 µs while nobody asks anything, a quarter of it while
/// requests come, which would wait behind them.
const APPLY_SLICE: usize = 32;
const APPLY_SLICE_BESIDE_REQUESTS: usize = 8;
/// Slices without a request after which the core counts as one that nobody asks.
const QUIET_SLICES: u32 = 64;
/// Time that news of the writer may take before others get a turn.
const NEWS_SLICE: Duration = Duration::from_micros(50);
/// Time that messages of another core may take before others get a turn.
const INBOX_SLICE: Duration = Duration::from_micros(100);
/// Listings that may be open on a core: each holds a snapshot of its store.
const MAX_STREAMS: usize = 256;
/// Bytes of large request bodies that a core holds at a time.
const BODY_BUDGET: usize = 256 << 20;

/// What the API needs to know of the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `MAX_BODY_BYTES`.
    pub max_body_bytes: usize,
    /// `BODY_TIMEOUT_MS`.
    pub body_deadline: Duration,
    /// `MAX_RESPONSE_BYTES`.
    pub max_response_bytes: usize,
    /// `MAX_REQUESTS`.
    pub max_requests: usize,
    /// `LOG_ACK_TIMEOUT_MS`.
    pub log_ack_timeout: Duration,
    /// `HTTP_GZIP`.
    pub gzip: bool,
    /// `HTTP_CORS`.
    pub cors: bool,
}

/// One serving core's state; the tasks of the core share it.
pub struct Core {
    /// Its number.
    pub id: ShardId,
    /// Who owns what.
    pub routes: Routes,
    /// Its partitions.
    pub owner: RefCell<Owner>,
    /// The other cores.
    pub peers: Peers,
    /// Where writes go.
    pub log: Arc<dyn Log>,
    /// What every thread may see of the partitions.
    pub progress: Arc<Progress>,
    /// Parses small bodies.
    pub parser: RefCell<Parser>,
    /// Parses large ones.
    pub offload: Offload,
    /// What it has measured.
    pub metrics: RefCell<Metrics>,
    /// The configuration.
    pub settings: Settings,
    /// The bytes of large bodies under way.
    pub body_budget: BodyBudget,
    /// A list of keys to use again.
    pub spare_keys: Cell<KeyList>,
    /// The size that the next answer of a get will probably have.
    pub answer_hint: Cell<usize>,
    /// Turns of long reads: one slice each, then others.
    pub turns: Turns,
    requests: Cell<usize>,
    /// Requests answered since the start.
    answered: Cell<u64>,
    streams: Cell<usize>,
    waiters: Cell<usize>,
    /// Rings when mutations have been applied and somebody waits for that.
    applied: Bell,
    /// Rings when the writer has committed something.
    committed: Bell,
}

/// What the control core asks of a core.
pub enum Command {
    /// Its measurements and the state of its partitions.
    Report(oneshot::Sender<Report>),
    /// All records of a partition, as lines of JSON or as a hash.
    Export(PartitionId, Rows),
    /// Stop accepting; finish what is in flight within the time; then end.
    Stop(Duration),
}

/// A core's answer to [`Command::Report`].
pub struct Report {
    /// The core.
    pub shard: ShardId,
    /// Histograms and counters.
    pub metrics: Metrics,
    /// Its partitions.
    pub partitions: Vec<PartitionStatus>,
    /// Connections: open, accepted, shed, cut (head, idle, write), parked, accept errors.
    pub connections: [(&'static str, u64); 8],
    /// The longest time between two ticks since the last report.
    pub longest_stall: Duration,
    /// Requests in flight.
    pub requests: usize,
    /// Listings open.
    pub streams: usize,
}

/// What a core is started with.
pub struct CoreSetup {
    /// Its number.
    pub id: ShardId,
    /// Its CPU.
    pub cpu: usize,
    /// Who owns what.
    pub routes: Routes,
    /// Its store, opened by a background thread (whose CPUs the store's workers and the writer inherit).
    pub prepared: PreparedOwner,
    /// The partitions it owns.
    pub owned: Vec<PartitionId>,
    /// Where writes go.
    pub log: Arc<dyn Log>,
    /// What every thread may see.
    pub progress: Arc<Progress>,
    /// Parses large bodies.
    pub offload: Offload,
    /// The configuration.
    pub settings: Settings,
    /// Limits of its listener.
    pub limits: HttpLimits,
    /// Where it listens, with all others.
    pub address: SocketAddr,
    /// Its ends of the rings between the cores.
    pub links: Links,
    /// Mutations to apply, partitions to take and to give up.
    pub steps: flume::Receiver<Step>,
    /// What the control core asks.
    pub commands: flume::Receiver<Command>,
    /// Sign of life for the watchdog.
    pub heartbeat: Arc<Heartbeat>,
    /// Told the owned partitions' next offsets once the core could serve, or why it cannot.
    pub started: flume::Sender<Result<Vec<(PartitionId, Offset)>, String>>,
    /// The core accepts connections from here on: all cores are there, and it is known where their partitions stand.
    pub serve: oneshot::Receiver<()>,
    /// Told when the listener has closed and no request is in flight.
    pub drained: flume::Sender<ShardId>,
}

/// Starts a core on the runtime's thread; the thread ends after [`Command::Stop`] and the end of the deliveries.
///
/// # Errors
/// The runtime cannot be made: no io_uring, too little locked memory, a CPU that is not there.
pub fn start(runtime: Runtime, setup: CoreSetup) -> Result<Running<()>, String> {
    runtime.start(Placement::Fixed(setup.cpu), &format!("shard-{}", setup.id), move || run(setup)).map_err(
        |error| {
            format!(
                "cannot start the runtime of a core: {error}. It needs a kernel with io_uring that this process may use \
                 (container profiles often forbid it) and 512 KiB of locked memory a core (ulimit -l, LimitMEMLOCK)"
            )
        })
}

async fn run(setup: CoreSetup) {
    let started = setup.started.clone();
    if let Err(error) = serve_until_stopped(setup).await {
        // The node's main thread waits for this and ends the process.
        let _ = started.send(Err(error));
    }
}

async fn serve_until_stopped(setup: CoreSetup) -> Result<(), String> {
    let CoreSetup { id, routes, prepared, owned, log, progress, offload, settings, .. } = setup;
    let clock = start_tick(setup.heartbeat);
    let (owner, completions) = prepared.start();
    let (peers, inboxes) = Peers::new(setup.links);
    let listener = HttpListener::bind(setup.address, HttpLimits::BACKLOG)
        .map_err(|error| format!("cannot listen on {}: {error} (API_ADDR, API_PORT)", setup.address))?;
    let mut nexts = Vec::with_capacity(owned.len());
    for partition in &owned {
        let next = owner.next(*partition).map_err(|error| error.to_string())?;
        progress.set_applied(*partition, next);
        progress.set_durable(*partition, next);
        nexts.push((*partition, next));
    }
    let core = Rc::new(Core {
        id,
        routes,
        owner: RefCell::new(owner),
        peers,
        parser: RefCell::new(Parser::new(routes.partitions, log.max_message_bytes())),
        log,
        progress,
        offload,
        metrics: RefCell::default(),
        settings,
        body_budget: BodyBudget::new(BODY_BUDGET),
        spare_keys: Cell::default(),
        answer_hint: Cell::new(512),
        turns: Turns::default(),
        requests: Cell::new(0),
        answered: Cell::new(0),
        streams: Cell::new(0),
        waiters: Cell::new(0),
        applied: Bell::default(),
        committed: Bell::default(),
    });
    if !inboxes.is_empty() {
        spawn(answer_peers(Rc::clone(&core), inboxes)).detach();
    }
    let counters = Rc::new(ConnectionCounters::default());
    let stop = Stop::default();
    spawn(give_turns(Rc::clone(&core))).detach();
    spawn(take_completions(Rc::clone(&core), completions)).detach();
    let applying = spawn(take_steps(Rc::clone(&core), setup.steps));
    spawn(take_commands(Rc::clone(&core), setup.commands, stop.clone(), Rc::clone(&counters), clock))
        .detach();
    let _ = setup.started.send(Ok(nexts));
    if setup.serve.await.is_err() {
        return Err("the node gave up its start".into());
    }
    let api = Rc::clone(&core);
    let service = service_fn(move |request| api::handle(Rc::clone(&api), request));
    serve(listener, setup.limits, service, stop, counters).await;
    // Nobody listens any more if the node has given up waiting.
    let _ = setup.drained.send(id);
    applying.await;
    core.close();
    Ok(())
}

/// A request that has been let in; leaves when dropped.
pub struct Admitted<'a>(&'a Cell<usize>);

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A listing that streams; leaves when dropped.
pub struct OpenStream(Rc<Core>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
    }
}

impl Core {
    /// Lets a request in, or sheds it.
    ///
    /// # Errors
    /// `MAX_REQUESTS` are in flight on this core.
    pub fn admit(&self) -> Result<Admitted<'_>, ApiError> {
        let requests = self.requests.get();
        if requests >= self.settings.max_requests {
            self.metrics.borrow_mut().shed += 1;
            return Err(ApiError::Overloaded(format!(
                "{requests} requests are in flight on this core; try again"
            )));
        }
        self.requests.set(requests + 1);
        Ok(Admitted(&self.requests))
    }

    /// Registers a listing that goes on after its first page.
    ///
    /// # Errors
    /// Too many are open.
    pub fn open_stream(self: &Rc<Self>) -> Result<OpenStream, ApiError> {
        if self.streams.get() >= MAX_STREAMS {
            self.metrics.borrow_mut().shed += 1;
            return Err(ApiError::Overloaded(format!(
                "{MAX_STREAMS} listings are open on this core; try again"
            )));
        }
        self.streams.set(self.streams.get() + 1);
        Ok(OpenStream(Rc::clone(self)))
    }

    /// Counts an answer.
    pub fn record(&self, operation: Option<Operation>, status: StatusCode, took: Duration) {
        self.answered.set(self.answered.get() + 1);
        let mut metrics = self.metrics.borrow_mut();
        if let Some(operation) = operation {
            metrics.http(operation, took);
        }
        if let Some(count) = metrics.answers.get_mut(usize::from(status.as_u16() / 100).wrapping_sub(1)) {
            *count += 1;
        }
    }

    /// Lets the runtime look at sockets and other cores, and all other tasks run. For work of which a core has one task;
    /// of many, each takes [`Core::turns`].
    pub async fn pause(&self) {
        look().await;
    }

    /// Waits until this core has applied the given positions of its partitions.
    ///
    /// # Errors
    /// They did not come in time.
    pub async fn wait_for(&self, awaited: &Awaited) -> Result<(), ApiError> {
        if self.has(awaited) {
            return Ok(());
        }
        self.waiters.set(self.waiters.get() + 1);
        let come = async {
            while !self.has(awaited) {
                self.applied.rung().await;
            }
            true
        };
        let late = async {
            Timer::new(awaited.wait).await;
            false
        };
        let came = or(come, late).await;
        self.waiters.set(self.waiters.get() - 1);
        if came {
            return Ok(());
        }
        let missing = awaited.positions.iter().filter(|p| self.progress.applied(p.partition) <= p.offset);
        Err(ApiError::Unavailable {
            detail: format!(
                "the position in FireScroll-Session was not applied within {} ms (FireScroll-Wait-Ms)",
                awaited.wait.as_millis()
            ),
            partitions: missing.map(|position| position.partition).collect(),
        })
    }

    fn has(&self, awaited: &Awaited) -> bool {
        // A partition that is not held here is not waited for: the lookup says so.
        awaited.positions.iter().all(|position| {
            self.progress.applied(position.partition) > position.offset
                || matches!(self.progress.holding(position.partition), Holding::Elsewhere | Holding::Missing)
        })
    }

    /// Applies a few mutations of one partition, in one step.
    fn apply(&self, partition: PartitionId, entries: &[LogEntry]) {
        let before = Instant::now();
        let mut owner = self.owner.borrow_mut();
        match owner.apply(partition, entries) {
            Ok(_) => {}
            // It was given up since it was sent here; whoever has it now applies it.
            Err(Unavailable::NotOwned { .. }) => return,
            Err(_) => {
                // A failed store takes no more mutations; the log keeps them for the restart.
                self.progress.poison(partition);
                return;
            }
        }
        if let Ok(next) = owner.next(partition) {
            self.progress.set_applied(partition, next);
        }
        if let Some(last) = entries.last() {
            self.progress.set_applied_timestamp_ms(partition, last.timestamp_ms);
        }
        let each = before.elapsed() / u32::try_from(entries.len().max(1)).unwrap_or(u32::MAX);
        self.metrics.borrow_mut().partition(PartitionOperation::Apply, each);
        if self.waiters.get() > 0 {
            self.applied.ring();
        }
    }

    fn complete(&self, completion: Completion) {
        for (partition, next) in completion.durable() {
            self.progress.set_durable(partition, next);
        }
        let failed = completion.is_failure();
        let mut owner = self.owner.borrow_mut();
        owner.complete(completion);
        if failed {
            for status in owner.status().iter().filter(|status| status.poisoned.is_some()) {
                self.progress.poison(status.partition);
            }
        }
        drop(owner);
        self.committed.ring();
    }

    /// Answers for a partition from here on.
    fn take(&self, opened: OpenedPartition, end: Offset) {
        let (partition, next) = (opened.partition(), opened.next());
        self.owner.borrow_mut().adopt(opened);
        self.progress.take(partition, next, end.max(next));
    }

    /// Stops answering for a partition; `closed` hears of it when the writer has made it durable.
    fn give_up(&self, partition: PartitionId, closed: flume::Sender<PartitionId>) {
        let done = move |synced: Result<(), StoreError>| {
            if let Err(error) = synced {
                tracing::error!(
                    "partition {partition} was not made durable: {error}; the log has what it lacks"
                );
            }
            // The ingest thread has gone when the node stops.
            let _ = closed.send(partition);
        };
        // Unless more is known of it: that it is missing.
        if self.progress.holding(partition) == Holding::Held {
            self.progress.set_holding(partition, Holding::Elsewhere);
        }
        self.owner.borrow_mut().release(partition, Box::new(done));
        // Whoever waits for a position of it must hear that it will not come.
        self.applied.ring();
    }

    fn close(&self) {
        let closing = self.owner.borrow_mut().close();
        if let Some(Err(error)) = closing.map(Closing::finish) {
            tracing::error!(
                "shard {}: the store did not close cleanly: {error}; the log has what it lacks",
                self.id
            );
        }
    }
}

/// Carries out what the ingest thread sends, in order, until there is no more.
async fn take_steps(core: Rc<Core>, steps: flume::Receiver<Step>) {
    let mut pace = Pace::default();
    while let Ok(step) = steps.recv_async().await {
        match step {
            Step::Apply(delivery) => apply(&core, delivery, &mut pace).await,
            Step::Open(partition, end) => core.take(*partition, end),
            Step::Close(partition, closed) => core.give_up(partition, closed),
        }
    }
}

/// How many mutations are applied in one go.
#[derive(Default)]
struct Pace {
    answered: u64,
    quiet: u32,
    taken: usize,
}

impl Pace {
    /// The size of the next slice.
    fn slice(&mut self, core: &Core) -> usize {
        let answered = core.answered.get();
        self.quiet = if answered == self.answered { self.quiet.saturating_add(1) } else { 0 };
        self.answered = answered;
        if self.quiet < QUIET_SLICES { APPLY_SLICE_BESIDE_REQUESTS } else { APPLY_SLICE }
    }
}

/// Feeds a delivery to the owner, with pauses, and never faster than the writer commits.
async fn apply(core: &Core, delivery: Delivery, pace: &mut Pace) {
    for (partition, entries) in delivery {
        let mut rest = &entries[..];
        while !rest.is_empty() {
            while core.owner.borrow().backlog_full() {
                core.committed.rung().await;
            }
            let most = pace.slice(core);
            let (slice, after) = rest.split_at(rest.len().min(most));
            core.apply(partition, slice);
            rest = after;
            // Small deliveries share a turn.
            pace.taken += slice.len();
            if pace.taken >= most {
                pace.taken = 0;
                core.pause().await;
            }
        }
    }
}

async fn give_turns(core: Rc<Core>) {
    core.turns.give(|| core.pause()).await;
}

async fn take_completions(core: Rc<Core>, completions: flume::Receiver<Completion>) {
    while let Ok(completion) = completions.recv_async().await {
        let turn = Instant::now();
        core.complete(completion);
        while let Ok(completion) = completions.try_recv() {
            core.complete(completion);
            if turn.elapsed() > NEWS_SLICE {
                core.pause().await;
                break;
            }
        }
    }
}

/// Takes what other cores send, round by round, until the core ends.
async fn answer_peers(core: Rc<Core>, mut inboxes: Vec<Inbox>) {
    let mut news = News::subscribe();
    loop {
        let mut turn = Instant::now();
        for Inbox { from, ring } in &mut inboxes {
            while let Ok(envelope) = ring.pop() {
                match envelope {
                    Envelope::Answer(number, answer) => core.peers.deliver(number, answer),
                    Envelope::Question(number, question) => answer_peer(&core, *from, number, question),
                }
                if turn.elapsed() > INBOX_SLICE {
                    core.pause().await;
                    turn = Instant::now();
                }
            }
        }
        news.next().await;
    }
}

/// Answers at once what needs no wait. The rest has a task of its own: a question that waits, or a full ring, must not
/// hold up what comes behind it.
fn answer_peer(core: &Rc<Core>, from: ShardId, number: usize, question: Question) {
    let question = match question {
        Question::Get(keys, awaited) if read::is_quick(&keys, &awaited) => {
            let answer = Answer::Get(read::find_quick(core, &keys));
            let Err(answer) = core.peers.try_answer(from, number, answer) else { return };
            let core = Rc::clone(core);
            spawn(async move { core.peers.answer(from, number, answer).await }).detach();
            return;
        }
        question => question,
    };
    let core = Rc::clone(core);
    spawn(async move {
        let answer = match question {
            Question::Get(keys, awaited) => Answer::Get(read::find(&core, &keys, &awaited).await),
            Question::One(keys, awaited) => Answer::One(read::find_one(&core, &keys, &awaited).await),
            Question::List(request, awaited) => {
                Answer::List(read::first_page(&core, request, &awaited).await)
            }
        };
        core.peers.answer(from, number, answer).await;
    })
    .detach();
}

async fn take_commands(
    core: Rc<Core>,
    commands: flume::Receiver<Command>,
    stop: Stop,
    counters: Rc<ConnectionCounters>,
    clock: Clock,
) {
    while let Ok(command) = commands.recv_async().await {
        match command {
            Command::Report(to) => {
                let report = Report {
                    shard: core.id,
                    metrics: core.metrics.borrow().clone(),
                    partitions: core.owner.borrow().status(),
                    connections: connection_counts(&counters),
                    longest_stall: clock.take_worst_gap(),
                    requests: core.requests.get(),
                    streams: core.streams.get(),
                };
                // The scrape may have been given up.
                let _ = to.send(report);
            }
            Command::Export(partition, rows) => {
                spawn(export::run(Rc::clone(&core), partition, rows)).detach();
            }
            Command::Stop(deadline) => stop.trigger(deadline),
        }
    }
}

fn connection_counts(counters: &ConnectionCounters) -> [(&'static str, u64); 8] {
    [
        ("open", counters.open.get()),
        ("accepted", counters.accepted.get()),
        ("shed", counters.shed.get()),
        ("cut_head", counters.cut_head.get()),
        ("cut_idle", counters.cut_idle.get()),
        ("cut_write", counters.cut_write.get()),
        ("parked", counters.parked.get()),
        ("accept_errors", counters.accept_errors.get()),
    ]
}
