//! Wires a node together, in the order in which its parts depend on each other, and takes it apart again.
//!
//! Start: directory → log → stores (moved if `SHARDS` has changed) → cores → ingest. Nothing listens before the
//! stores are open; `/ready` turns when the log has been caught up with. With a log of its own a node opens all partitions
//! at once; with a shared one it opens those that its group assigns to it, when it does. Stop: `/ready` turns,
//! `SHUTDOWN_SLEEP_SEC`, listeners close, requests in flight end, ingest ends, stores close, the log closes.
//!
//! Invariants: what fails at start is said in one line and leaves nothing half made; input stops before what it needs.
//! Runs on: the main thread, which becomes the control core's. Not here: what the parts do.

use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firescroll_io::cpu::{FEEDING, STORING, pin, stand_back};
use firescroll_io::http::{Heartbeat, HttpLimits};
use firescroll_io::log::kafka::{self, KafkaLog, KafkaOptions, Sasl, Tls};
use firescroll_io::log::{EmbeddedLog, EmbeddedOptions, Log, LogError};
use firescroll_io::runtime::{Running, Runtime};
use firescroll_shard::{
    Offset, Opener, Owner, OwnerOptions, PartitionId, PreparedOwner, ReshardStep, Store, StoreError,
    StoreOptions, reshard, shard_path,
};

use futures_channel::oneshot;

use crate::api::offload::Offload;
use crate::api::request::Parser;
use crate::config::{Config, Kafka, LogKind};
use crate::control;
use crate::core::{self, Command, CoreSetup, Settings};
use crate::ingest::{Ingest, Parts, STEPS, Step};
use crate::internal::Internal;
use crate::layout::{Layout, LayoutError};
use crate::peers;
use crate::progress::Progress;
use crate::route::{Routes, ShardId};
use crate::supervisor::Supervisor;

/// Mutations of one core that may be applied and not yet committed: they are copied when a listing starts.
const BACKLOG_MUTATIONS: usize = 8192;
/// Their bytes.
const BACKLOG_BYTES: usize = 32 << 20;

/// Time for a core to begin to serve: its store is open by then, and a start that hangs helps nobody.
const CORE_START: Duration = Duration::from_secs(60);

/// Why a node did not start, or did not stop cleanly.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// `DB_PATH` cannot be used.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The log cannot be opened or read.
    #[error("the log: {0}")]
    Log(#[from] LogError),
    /// A store cannot be opened or moved.
    #[error("a store: {0}")]
    Store(#[from] StoreError),
    /// A port is taken, or an address is not this machine's.
    #[error("cannot listen on {address}: {source} ({variable})")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The variables that say so.
        variable: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// A thread or a runtime cannot be had.
    #[error("{0}")]
    System(String),
    /// The node must not go on; it has stopped in good order.
    #[error("the node has stopped: {0}")]
    Fatal(String),
}

impl NodeError {
    /// 2 when a setting has to change before another start can go better, else 1.
    fn exit_code(&self) -> u8 {
        match self {
            Self::Layout(LayoutError::Mismatch { .. }) => 2,
            Self::Log(error) if error.is_setting() => 2,
            _ => 1,
        }
    }
}

/// Runs a node until it is told to stop. Exit code 0 after a clean stop; otherwise a line in the log says why, and the
/// code is 2 for settings that contradict the data or the log, 1 for everything else.
#[must_use]
pub fn run(config: Config) -> ExitCode {
    match serve(config) {
        Ok(()) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn serve(mut config: Config) -> Result<(), NodeError> {
    let started = Instant::now();
    let mut supervisor = Supervisor::observe();
    let partitions = config.cluster.partitions;
    let layout = Layout::open(&config.storage.db_path, &config.cluster.namespace, partitions.get())?;
    let (api, internal_listener) = listeners(&mut config)?;
    supervisor.status("starting: opening the log");
    let log = open_log(&config, &layout)?;
    let progress = Arc::new(Progress::new(partitions.get()));
    let shards = u32::try_from(config.cores.shards().get()).ok().and_then(NonZeroU32::new);
    let shards = shards.ok_or_else(|| NodeError::System("SHARDS does not fit".into()))?;
    let routes = Routes { partitions, shards };
    supervisor.status("starting: opening the stores");
    let prepared = open_stores(&config, &layout, routes, !log.is_shared(), &mut supervisor)?;
    let openers: Vec<Opener> = prepared.iter().map(PreparedOwner::opener).collect();
    let mut node = Node::start(&config, routes, api, &log, &progress, prepared)?;
    for (partition, next) in &node.nexts {
        progress.take(*partition, *next, Offset(log.end(partition.0)));
    }
    let consumer = if log.is_shared() {
        log.subscribe()?
    } else {
        let from: Vec<(u32, u64)> =
            node.nexts.iter().map(|(partition, next)| (partition.0, next.0)).collect();
        log.consumer(&from)?
    };
    let parts = Parts {
        consumer,
        log: Arc::clone(&log),
        routes: node.routes,
        cores: node.steps.clone(),
        openers,
        progress: Arc::clone(&progress),
    };
    let place = pin_control(&config);
    let ingest = Ingest::start(parts, move || {
        place();
        stand_back(FEEDING);
    })?;
    node.serve();
    let internal = Internal {
        config: config.clone(),
        routes: node.routes,
        cores: node.commands.clone(),
        log: Arc::clone(&log),
        progress,
        started,
    };
    pin_control(&config)();
    let heartbeats = node.heartbeats.clone();
    let timeout = config.shutdown.timeout;
    let verdict = Arc::clone(&internal.progress);
    let stop = move || node.stop(ingest, log.as_ref(), timeout);
    let announce = || banner(&config, started.elapsed());
    let stopped =
        control::until_stopped(internal_listener, internal, &heartbeats, &mut supervisor, announce, stop);
    drop(layout);
    stopped.map_err(|error| NodeError::System(format!("the control core: {error}")))?;
    verdict.fatal().map_or(Ok(()), |reason| Err(NodeError::Fatal(reason.to_owned())))
}

/// The log that the configuration asks for. A shared log's threads run where the control core does.
fn open_log(config: &Config, layout: &Layout) -> Result<Arc<dyn Log>, NodeError> {
    let kafka = match &config.log {
        LogKind::Embedded => return Ok(Arc::new(EmbeddedLog::open(&layout.log(), log_options(config))?)),
        LogKind::Kafka(kafka) => kafka,
    };
    tracing::info!("connecting to Kafka at {}", kafka.seeds);
    let options = kafka_options(config, kafka);
    let pin = pin_control(config);
    let opened = std::thread::scope(|scope| {
        let opening = scope.spawn(|| {
            pin();
            stand_back(FEEDING);
            let log = KafkaLog::open(options.clone())?;
            warn_of_settings(&options, config);
            Ok::<_, LogError>(log)
        });
        opening.join().expect("a panic ends the process")
    });
    Ok(Arc::new(opened?))
}

/// Settings of the topics that could lose mutations are said at every start; not to be able to read them is no reason
/// not to start.
fn warn_of_settings(options: &KafkaOptions, config: &Config) {
    let told = config.storage.log_retention.and_then(|kept| u64::try_from(kept.as_millis()).ok());
    match kafka::check_topics(options, told) {
        Ok(findings) => findings.iter().for_each(|finding| tracing::warn!("{finding}")),
        Err(error) => tracing::warn!("the topics' settings were not checked: {error}"),
    }
}

/// What the log needs to know of the configuration.
pub(crate) fn kafka_options(config: &Config, kafka: &Kafka) -> KafkaOptions {
    let cluster = &config.cluster;
    KafkaOptions {
        seeds: kafka.seeds.clone(),
        tls: kafka.tls.then(|| Tls { ca: kafka.tls_ca.clone() }),
        sasl: kafka.login.as_ref().map(|(user, password)| Sasl {
            mechanism: kafka.mechanism,
            user: user.clone(),
            password: password.expose().to_owned(),
        }),
        namespace: cluster.namespace.clone(),
        group: kafka::group(&cluster.namespace, &cluster.region, &cluster.replica_group),
        instance: cluster.instance_id.clone(),
        rack: kafka.rack.clone(),
        session: kafka.session,
        partitions: cluster.partitions.get(),
        max_message_bytes: config.storage.max_message_bytes,
        ack_timeout: config.storage.log_ack_timeout,
        connect_timeout: kafka.connect_timeout,
    }
}

/// The addresses with their real ports. Several listeners may share a port in one process (SO_REUSEPORT), and another
/// process of the same user could join them; binding once without sharing finds that out.
fn listeners(config: &mut Config) -> Result<(SocketAddr, TcpListener), NodeError> {
    let bind = |address: SocketAddr, variable| {
        let listener = TcpListener::bind(address);
        listener.map_err(|source| NodeError::Listen { address, variable, source })
    };
    let actual = |listener: &TcpListener, asked| listener.local_addr().unwrap_or(asked);
    let internal = bind(config.http.internal, "INTERNAL_ADDR, INTERNAL_PORT")?;
    config.http.internal = actual(&internal, config.http.internal);
    config.http.api = actual(&bind(config.http.api, "API_ADDR, API_PORT")?, config.http.api);
    Ok((config.http.api, internal))
}

fn log_options(config: &Config) -> EmbeddedOptions {
    EmbeddedOptions {
        max_message_bytes: config.storage.max_message_bytes,
        retention: config.storage.log_retention,
        cpus: background_cpus(config),
        ..EmbeddedOptions::new(config.cluster.partitions.get())
    }
}

/// CPUs for what must not disturb the cores: those that serve nothing, or all if every one serves.
fn background_cpus(config: &Config) -> Vec<usize> {
    let cores = &config.cores;
    let free: Vec<usize> =
        cores.allowed.iter().copied().filter(|cpu| !cores.shard_cpus.contains(cpu)).collect();
    if free.is_empty() { cores.allowed.clone() } else { free }
}

fn pin_control(config: &Config) -> impl FnOnce() + Send + 'static {
    let cpus = config.cores.control_cpu.map_or_else(|| background_cpus(config), |cpu| vec![cpu]);
    move || pin(&cpus)
}

/// Moves partitions to where the present `SHARDS` wants them and opens all stores, on threads that run on background
/// CPUs: a store's own workers inherit that. Opens `all` partitions, or none yet.
fn open_stores(
    config: &Config,
    layout: &Layout,
    routes: Routes,
    all: bool,
    supervisor: &mut Supervisor,
) -> Result<Vec<PreparedOwner>, NodeError> {
    let shards = routes.shards.get();
    let options =
        StoreOptions { cache_bytes: config.storage.store_cache_bytes as u64, ..StoreOptions::default() };
    let cpus = background_cpus(config);
    let root = layout.stores();
    let open = |shard| -> Result<PreparedOwner, StoreError> {
        let store = Store::open(&shard_path(root, shard), &options)?;
        let owned = if all { owned(routes, ShardId(shard)) } else { Vec::new() };
        Owner::prepare(store, owner_options(config), &owned, None)
    };
    let opened: Result<Vec<PreparedOwner>, StoreError> = std::thread::scope(|scope| {
        let opening = scope.spawn(|| {
            pin(&cpus);
            stand_back(STORING);
            let mut said = |step| progress_of_move(step, supervisor);
            let report = reshard(root, routes.partitions, routes.shards, &options, &mut said)?;
            if report.moved_partitions > 0 {
                tracing::info!(
                    "{} partitions with {} records moved between stores for SHARDS={shards}",
                    report.moved_partitions,
                    report.moved_records
                );
            }
            let opening: Vec<_> = (0..shards).map(|shard| scope.spawn(move || open(shard))).collect();
            opening.into_iter().map(|opened| opened.join().expect("a panic ends the process")).collect()
        });
        opening.join().expect("a panic ends the process")
    });
    opened.map_err(NodeError::from)
}

/// A move of much data takes long, and neither the API nor the internal port answers yet.
fn progress_of_move(step: ReshardStep, supervisor: &mut Supervisor) -> Result<(), StoreError> {
    if let ReshardStep::Load(partition) = step {
        tracing::info!("moving partition {partition} to the store of its new shard");
        supervisor.status(&format!("starting: moving partition {partition} to the store of its new shard"));
    }
    Ok(())
}

/// The partitions of one core.
fn owned(routes: Routes, shard: ShardId) -> Vec<PartitionId> {
    (0..routes.partitions.get())
        .map(PartitionId)
        .filter(|partition| routes.owner(*partition) == shard)
        .collect()
}

/// The running cores.
struct Node {
    routes: Routes,
    threads: Vec<Running<()>>,
    commands: Vec<flume::Sender<Command>>,
    steps: Vec<flume::Sender<Step>>,
    heartbeats: Vec<Arc<Heartbeat>>,
    drained: flume::Receiver<ShardId>,
    /// Lets each core serve.
    serve: Vec<oneshot::Sender<()>>,
    /// The first offset that each partition has not applied, of those that were opened at the start.
    nexts: Vec<(PartitionId, Offset)>,
}

impl Node {
    fn start(
        config: &Config,
        routes: Routes,
        api: SocketAddr,
        log: &Arc<dyn Log>,
        progress: &Arc<Progress>,
        prepared: Vec<PreparedOwner>,
    ) -> Result<Self, NodeError> {
        let shards = routes.shards;
        let (max, partitions) = (log.max_message_bytes(), routes.partitions);
        let background = background_cpus(config);
        let parser = move || {
            pin(&background);
            Parser::new(partitions, max)
        };
        let offload = Offload::start(parser)
            .map_err(|error| NodeError::System(format!("cannot start a thread: {error}")))?;
        let runtimes = (0..shards.get()).map(|_| Runtime::new()).collect::<Result<Vec<_>, _>>();
        let runtimes = runtimes
            .map_err(|error| NodeError::System(format!("cannot make the cores' runtimes: {error}")))?;
        let bells: Vec<_> = runtimes.iter().map(Runtime::doorbell).collect();
        let runtimes = runtimes.into_iter().map(|runtime| runtime.busy_poll(config.cores.busy_poll));
        let cores = runtimes.zip(peers::link(&bells)).zip(prepared);
        let (started, starts) = flume::unbounded();
        let (drains, drained) = flume::unbounded();
        let mut node = Self {
            routes,
            threads: Vec::new(),
            commands: Vec::new(),
            steps: Vec::new(),
            heartbeats: Vec::new(),
            drained,
            serve: Vec::new(),
            nexts: Vec::new(),
        };
        for (number, ((runtime, links), prepared)) in (0..).zip(cores) {
            let (commands, commands_in) = flume::bounded(64);
            let (steps, steps_in) = flume::bounded(STEPS);
            let (serve, serves) = oneshot::channel();
            let heartbeat = Heartbeat::new();
            let setup = CoreSetup {
                id: ShardId(number),
                cpu: config.cores.shard_cpus[number as usize],
                routes,
                prepared,
                owned: if log.is_shared() { Vec::new() } else { owned(routes, ShardId(number)) },
                log: Arc::clone(log),
                progress: Arc::clone(progress),
                offload: offload.clone(),
                settings: settings(config),
                limits: http_limits(config),
                address: api,
                links,
                steps: steps_in,
                commands: commands_in,
                heartbeat: Arc::clone(&heartbeat),
                started: started.clone(),
                serve: serves,
                drained: drains.clone(),
            };
            node.threads.push(core::start(runtime, setup).map_err(NodeError::System)?);
            node.serve.push(serve);
            node.commands.push(commands);
            node.steps.push(steps);
            node.heartbeats.push(heartbeat);
        }
        drop(started);
        for begun in 0..shards.get() as usize {
            match starts.recv_timeout(CORE_START) {
                Ok(Ok(nexts)) => node.nexts.extend(nexts),
                Ok(Err(error)) => return Err(NodeError::System(error)),
                Err(flume::RecvTimeoutError::Timeout) => {
                    let missing = shards.get() as usize - begun;
                    return Err(NodeError::System(format!(
                        "{missing} of {shards} cores have not begun to serve within {} s; is the machine overloaded?",
                        CORE_START.as_secs()
                    )));
                }
                Err(flume::RecvTimeoutError::Disconnected) => {
                    return Err(NodeError::System("a core ended while it started".into()));
                }
            }
        }
        Ok(node)
    }

    /// Lets all cores accept connections. Not before each of them can be asked by the others, and what it holds is known:
    /// a read with a position would be answered as if its partition were another node's.
    fn serve(&mut self) {
        for core in self.serve.drain(..) {
            // A core that has ended since has said why, and is missed at the next duty.
            let _ = core.send(());
        }
    }

    /// Stops input first: requests, then mutations; then the stores close, and the log.
    fn stop(self, ingest: Ingest, log: &dyn Log, timeout: Duration) {
        for core in &self.commands {
            // A core whose queue is full is still told: this waits for room.
            let _ = core.send(Command::Stop(timeout));
        }
        // The cores cut what is open at the deadline; a little later all have drained unless one is stuck.
        let deadline = Instant::now() + timeout + Duration::from_secs(2);
        for _ in &self.threads {
            if self.drained.recv_deadline(deadline).is_err() {
                tracing::warn!(
                    "a core still has connections after SHUTDOWN_TIMEOUT_SEC; going on without it"
                );
                break;
            }
        }
        ingest.stop();
        drop(self.steps);
        drop(self.commands);
        for (number, thread) in self.threads.into_iter().enumerate() {
            if let Err(error) = thread.join() {
                tracing::error!("core {number} ended with an error: {error}");
            }
        }
        log.close();
    }
}

fn owner_options(config: &Config) -> OwnerOptions {
    OwnerOptions {
        partitions: config.cluster.partitions,
        cache_bytes: config.storage.cache_bytes,
        max_backlog_mutations: BACKLOG_MUTATIONS,
        max_backlog_bytes: BACKLOG_BYTES,
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        max_body_bytes: config.http.max_body_bytes,
        body_deadline: config.http.body_timeout,
        max_response_bytes: config.http.max_response_bytes,
        max_requests: config.http.max_requests,
        log_ack_timeout: config.storage.log_ack_timeout,
        gzip: config.http.gzip,
        cors: config.http.cors,
    }
}

fn http_limits(config: &Config) -> HttpLimits {
    HttpLimits {
        max_connections: config.http.connections_per_shard(config.cores.shards()),
        head_deadline: config.http.head_timeout,
        idle_deadline: config.http.idle_timeout,
        write_deadline: config.http.write_timeout,
        ..HttpLimits::default()
    }
}

/// What the node serves, where, on which CPUs, and a line to try.
fn banner(config: &Config, took: Duration) {
    let Config { cluster, cores, http, storage, .. } = config;
    for note in &config.notes {
        tracing::warn!("{note}");
    }
    tracing::info!(
        "namespace {} ({} partitions), {}stores in {}, serving after {} ms",
        cluster.namespace,
        cluster.partitions,
        if config.log == LogKind::Embedded { "embedded log and " } else { "" },
        storage.db_path.display(),
        took.as_millis()
    );
    if let LogKind::Kafka(kafka) = &config.log {
        tracing::info!(
            "log in Kafka at {}, consumer group {} as {}; partitions come from the group",
            kafka.seeds,
            kafka::group(&cluster.namespace, &cluster.region, &cluster.replica_group),
            cluster.instance_id
        );
    }
    let control = cores.control_cpu.map_or_else(|| "unpinned".to_owned(), |cpu| format!("on CPU {cpu}"));
    tracing::info!("{} shards on CPUs {:?}, control core {control}", cores.shards(), cores.shard_cpus);
    tracing::info!("internal port http://{}: /metrics, /status", http.internal);
    let mut api = http.api;
    if api.ip().is_unspecified() {
        api.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    tracing::info!("serving http://{}", http.api);
    tracing::info!(
        "try: curl -i http://{api}/records/hello/world -X PUT --json '{{\"greeting\":\"hi\"}}' && \
         curl http://{api}/records/hello/world"
    );
}
