//! Reads: get, list and the single record.
//!
//! keys → one leg for each owning core → lookups there → slots joined in the order asked → bytes of the answer. The
//! common case, a few keys of this core, takes none of these detours: it looks up and writes the answer in one step.
//!
//! Invariants: an absent record and an unreachable one are told apart; no slice of work on a core is longer than
//! `SLICE_KEYS` lookups or `SLICE`; nothing stored is parsed or printed here.
//! Runs on: serving cores. Not here: HTTP (`api`), records on other nodes.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use firescroll_io::runtime::{Timer, spawn};
use firescroll_shard::{PartitionId, Progress, Record, Scan, ScanRange};
use futures_lite::future::or;
use quanta::Instant;

use super::body::Chunk;
use super::offload::INLINE_BYTES;
use super::request::ListRequest;
use super::session::Session;
use crate::core::Core;
use crate::error::{ApiError, partitions_into};
use crate::keys::KeyList;
use crate::metrics::PartitionOperation;
use crate::peers::{Answer, Awaited, Question};
use crate::route::ShardId;

/// Keys that a core looks up before it lets others have a turn.
const SLICE_KEYS: usize = 128;
/// Time that a scan may take before it lets others have a turn.
const SLICE: Duration = Duration::from_micros(80);
/// A page of a listing, in bytes; more follows as a stream.
const PAGE_BYTES: usize = 64 * 1024;
/// How long a listing waits for its reader to take a page before it gives up its snapshot.
const PAGE_DEADLINE: Duration = Duration::from_secs(30);

/// The records found on one core, rendered, one slot a key.
#[derive(Debug, Default)]
pub struct Found {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    unavailable: Vec<PartitionId>,
}

/// One record with its metadata.
pub type One = Option<Record>;

/// The start of a listing.
#[derive(Debug)]
pub struct Page {
    /// Comma-separated records.
    pub bytes: Vec<u8>,
    /// What follows; none if this is all.
    pub rest: Option<flume::Receiver<Result<Chunk, ApiError>>>,
}

impl Found {
    fn with_room_for(keys: usize) -> Self {
        Self { ends: Vec::with_capacity(keys), ..Self::default() }
    }

    fn slot(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }
}

const OPEN: &[u8] = b"{\"Records\":[";

/// `POST /records/get`: the bytes of the answer.
///
/// # Errors
/// A wrong body, an unreachable partition, a position that did not come.
pub async fn get(core: &Rc<Core>, session: Option<Session>, body: Bytes) -> Result<Vec<u8>, ApiError> {
    let mut keys = core.spare_keys.take();
    keys.clear();
    let allow_partial;
    if body.len() <= INLINE_BYTES {
        allow_partial = core.parser.borrow_mut().get(&body, &mut keys)?;
    } else {
        (keys, allow_partial) = Box::pin(core.offload.run(move |parser| {
            let mut keys = KeyList::default();
            let allow_partial = parser.get(&body, &mut keys)?;
            Ok((keys, allow_partial))
        }))
        .await?;
    }
    let mut unavailable = Vec::new();
    let mut out;
    if session.is_none() && keys.len() <= SLICE_KEYS && core.routes.all_at(core.id, &keys) {
        out = Vec::with_capacity(core.answer_hint.get());
        out.extend_from_slice(OPEN);
        look_up(core, &keys, 0..keys.len(), &mut unavailable, |record| {
            if let Some(record) = record {
                push_record(&mut out, record.json());
            }
        });
        core.answer_hint.set((out.len() + 64).clamp(512, 64 * 1024));
    } else {
        out = Box::pin(get_from_many(core, session, &keys, &mut unavailable)).await?;
    }
    core.spare_keys.replace(keys);
    if out.len() > core.settings.max_response_bytes {
        return Err(answer_too_large(core));
    }
    out.push(b']');
    if !unavailable.is_empty() {
        unavailable.sort_unstable();
        unavailable.dedup();
        if !allow_partial {
            return Err(out_of_reach(unavailable));
        }
        out.extend_from_slice(br#","Unavailable":"#);
        partitions_into(&unavailable, &mut out);
    }
    out.push(b'}');
    Ok(out)
}

fn push_record(out: &mut Vec<u8>, json: &[u8]) {
    if out.last() == Some(&b'}') {
        out.push(b',');
    }
    out.extend_from_slice(json);
}

fn answer_too_large(core: &Core) -> ApiError {
    ApiError::TooLarge(format!(
        "the answer would be longer than {} bytes (MAX_RESPONSE_BYTES); ask for fewer keys at a time",
        core.settings.max_response_bytes
    ))
}

fn out_of_reach(partitions: Vec<PartitionId>) -> ApiError {
    ApiError::Unavailable { detail: "no reachable replica holds what was asked for".into(), partitions }
}

/// Looks up some keys of this core without giving up the turn; the metric is taken key by key.
fn look_up(
    core: &Core,
    keys: &KeyList,
    places: std::ops::Range<usize>,
    unavailable: &mut Vec<PartitionId>,
    mut each: impl FnMut(Option<&Record>),
) {
    let mut owner = core.owner.borrow_mut();
    let mut metrics = core.metrics.borrow_mut();
    let mut before = Instant::now();
    for place in places {
        let (partition, key) = keys.get(place);
        // Copying a record into the answer counts as a part of getting it.
        if owner.get(partition, key, &mut each).is_err() {
            unavailable.push(partition);
            each(None);
        }
        let after = Instant::now();
        metrics.partition(PartitionOperation::Get, after - before);
        before = after;
    }
}

/// The general case: other cores, sessions, and more keys than one slice.
async fn get_from_many(
    core: &Rc<Core>,
    session: Option<Session>,
    keys: &KeyList,
    unavailable: &mut Vec<PartitionId>,
) -> Result<Vec<u8>, ApiError> {
    let legs = core.routes.plan(keys);
    let mut asked = Vec::with_capacity(legs.len());
    let mut places = vec![(0usize, 0usize); keys.len()];
    let mut mine = None;
    for (number, leg) in legs.into_iter().enumerate() {
        for (index, place) in leg.places.iter().enumerate() {
            places[*place] = (number, index);
        }
        let awaited = awaited(core, session.as_ref(), leg.keys.partitions());
        if leg.shard == core.id {
            mine = Some((leg.keys, awaited));
            asked.push(None);
        } else {
            core.metrics.borrow_mut().crossed += leg.keys.len() as u64;
            asked.push(Some(core.peers.ask(leg.shard, Question::Get(leg.keys, awaited))?));
        }
    }
    // The other cores work while this one does its own part.
    let mut here = match mine {
        Some((keys, awaited)) => Some(find(core, &keys, &awaited).await?),
        None => None,
    };
    let mut parts = Vec::with_capacity(asked.len());
    for receiver in asked {
        parts.push(match receiver {
            None => here.take().unwrap_or_default(),
            Some(receiver) => match receiver.await {
                Ok(Answer::Get(found)) => found?,
                _ => return Err(ApiError::Internal("another core gave no answer".into())),
            },
        });
    }
    let total: usize = parts.iter().map(|part| part.bytes.len()).sum();
    if total > core.settings.max_response_bytes {
        return Err(answer_too_large(core));
    }
    let mut out = Vec::with_capacity(total + keys.len() + 64);
    out.extend_from_slice(OPEN);
    for (number, index) in places {
        let slot = parts[number].slot(index);
        if !slot.is_empty() {
            push_record(&mut out, slot);
        }
    }
    for part in parts {
        unavailable.extend(part.unavailable);
    }
    Ok(out)
}

/// The positions of a session that concern these partitions: what this read must see.
fn awaited(core: &Core, session: Option<&Session>, partitions: &[PartitionId]) -> Awaited {
    let Some(session) = session else { return Awaited::default() };
    debug_assert!(partitions.iter().all(|p| core.routes.owner(*p) == core.routes.owner(partitions[0])));
    let mut touched = partitions.to_vec();
    touched.sort_unstable();
    touched.dedup();
    let concerns = |partition| touched.binary_search(&partition).is_ok();
    let positions =
        session.positions.iter().filter(|position| concerns(position.partition)).copied().collect();
    Awaited { positions, wait: session.wait }
}

/// Whether keys that this core owns can be looked up in one slice, without waiting for anything.
#[must_use]
pub fn is_quick(keys: &KeyList, awaited: &Awaited) -> bool {
    keys.len() <= SLICE_KEYS && awaited.positions.is_empty()
}

/// Looks up keys that [`is_quick`] accepts.
///
/// # Errors
/// The answer grows too large.
pub fn find_quick(core: &Core, keys: &KeyList) -> Result<Found, ApiError> {
    let mut found = Found::with_room_for(keys.len());
    find_slice(core, keys, 0..keys.len(), &mut found)?;
    Ok(found)
}

/// Looks up keys that this core owns, after what the reader waits for has been applied.
///
/// # Errors
/// A position did not come in time; the answer grows too large.
pub async fn find(core: &Rc<Core>, keys: &KeyList, awaited: &Awaited) -> Result<Found, ApiError> {
    core.wait_for(awaited).await?;
    let mut found = Found::with_room_for(keys.len());
    let mut next = 0;
    while next < keys.len() {
        if next > 0 {
            core.turns.take().await;
        }
        let end = (next + SLICE_KEYS).min(keys.len());
        find_slice(core, keys, next..end, &mut found)?;
        next = end;
    }
    Ok(found)
}

fn find_slice(
    core: &Core,
    keys: &KeyList,
    places: std::ops::Range<usize>,
    found: &mut Found,
) -> Result<(), ApiError> {
    let Found { bytes, ends, unavailable } = found;
    look_up(core, keys, places, unavailable, |record| {
        if let Some(record) = record {
            bytes.extend_from_slice(record.json());
        }
        ends.push(bytes.len());
    });
    if found.bytes.len() > core.settings.max_response_bytes { Err(answer_too_large(core)) } else { Ok(()) }
}

/// The same for the one key of a list of one, with the record's metadata.
///
/// # Errors
/// A position did not come in time; the partition cannot be read.
pub async fn find_one(core: &Rc<Core>, keys: &KeyList, awaited: &Awaited) -> Result<One, ApiError> {
    core.wait_for(awaited).await?;
    let mut unavailable = Vec::new();
    let mut one = None;
    look_up(core, keys, 0..1, &mut unavailable, |record| one = record.cloned());
    if unavailable.is_empty() { Ok(one) } else { Err(out_of_reach(unavailable)) }
}

/// `GET /records/{pk}/{sk}`, from whichever core owns it.
///
/// # Errors
/// A position did not come in time; the partition cannot be read.
pub async fn get_one(core: &Rc<Core>, session: Option<Session>, pk: &str, sk: &str) -> Result<One, ApiError> {
    let mut keys = KeyList::default();
    keys.push(pk, sk, core.routes.partitions);
    let awaited = awaited(core, session.as_ref(), keys.partitions());
    let shard = core.routes.owner(keys.partitions()[0]);
    if shard == core.id {
        return find_one(core, &keys, &awaited).await;
    }
    match ask(core, shard, Question::One(keys, awaited)).await? {
        Answer::One(one) => one,
        _ => Err(ApiError::Internal(format!("core {shard} gave another question's answer"))),
    }
}

/// `POST /records/list`, from whichever core owns the partition.
///
/// # Errors
/// A position did not come in time; the partition cannot be read; too many listings are open.
pub async fn list(core: &Rc<Core>, session: Option<Session>, request: ListRequest) -> Result<Page, ApiError> {
    let awaited = awaited(core, session.as_ref(), &[request.partition]);
    let shard = core.routes.owner(request.partition);
    if shard == core.id {
        return first_page(core, request, &awaited).await;
    }
    match ask(core, shard, Question::List(request, awaited)).await? {
        Answer::List(page) => page,
        _ => Err(ApiError::Internal(format!("core {shard} gave another question's answer"))),
    }
}

async fn ask(core: &Core, shard: ShardId, question: Question) -> Result<Answer, ApiError> {
    core.metrics.borrow_mut().crossed += 1;
    core.peers
        .ask(shard, question)?
        .await
        .map_err(|_| ApiError::Internal(format!("core {shard} gave no answer")))
}

/// Opens a listing on the core that owns its partition and fills its first page.
///
/// # Errors
/// As [`list`].
pub async fn first_page(core: &Rc<Core>, request: ListRequest, awaited: &Awaited) -> Result<Page, ApiError> {
    core.wait_for(awaited).await?;
    let partition = request.partition;
    let condition = match &request.condition {
        Some(text) => Some(core.parser.borrow_mut().condition(text)?),
        None => None,
    };
    let range = ScanRange {
        pk: request.pk,
        sk_prefix: request.sk_prefix,
        sk_after: request.sk_after,
        sk_before: request.sk_before,
        reverse: request.reverse,
        limit: request.limit,
        condition,
        if_stop: request.if_stop,
    };
    core.turns.take().await;
    let mut scan = core.owner.borrow().scan(partition, range).map_err(|_| out_of_reach(vec![partition]))?;
    let mut bytes = Vec::with_capacity(4096);
    if fill_page(core, &mut scan, &mut bytes, partition).await? == Progress::Done {
        return Ok(Page { bytes, rest: None });
    }
    let stream = core.open_stream()?;
    let (sender, receiver) = flume::bounded(2);
    let streaming = Rc::clone(core);
    spawn(async move {
        let _open = stream;
        stream_pages(&streaming, scan, partition, &sender).await;
    })
    .detach();
    Ok(Page { bytes, rest: Some(receiver) })
}

/// Fills one page, a slice a turn; the caller has the first turn.
async fn fill_page(
    core: &Core,
    scan: &mut Scan,
    page: &mut Vec<u8>,
    partition: PartitionId,
) -> Result<Progress, ApiError> {
    loop {
        let before = Instant::now();
        let progress = scan.fill(page, PAGE_BYTES, SLICE).map_err(|_| out_of_reach(vec![partition]))?;
        core.metrics.borrow_mut().partition(PartitionOperation::List, before.elapsed());
        if progress == Progress::Done || page.len() >= PAGE_BYTES {
            return Ok(progress);
        }
        core.turns.take().await;
    }
}

/// Sends the rest of a listing, page by page, until its end, a failure, or a reader that is gone or too slow.
async fn stream_pages(
    core: &Core,
    mut scan: Scan,
    partition: PartitionId,
    pages: &flume::Sender<Result<Chunk, ApiError>>,
) {
    loop {
        core.turns.take().await;
        let mut page = Vec::with_capacity(PAGE_BYTES + 4096);
        let filled = fill_page(core, &mut scan, &mut page, partition).await;
        let done = !matches!(filled, Ok(Progress::More));
        let failed = filled.is_err();
        let chunk = filled.map(|_| Chunk::Records(page.into()));
        if !taken(pages, chunk).await || failed {
            return;
        }
        if done {
            taken(pages, Ok(Chunk::End)).await;
            return;
        }
    }
}

/// Whether the reader took the chunk in time.
async fn taken(pages: &flume::Sender<Result<Chunk, ApiError>>, chunk: Result<Chunk, ApiError>) -> bool {
    let sent = async { pages.send_async(chunk).await.is_ok() };
    let late = async {
        Timer::new(PAGE_DEADLINE).await;
        false
    };
    or(sent, late).await
}
