//! Puts a data set into a node and reads all of it back.
//!
//! Batches go over a few connections at once; the session tokens of all answers together are the position that the
//! reads wait for, so a record that is missing then is a fault of the node and ends the run. A shed request (429, 503)
//! is sent again: putting a record twice leaves the same data.
//!
//! **Runs on**: plain threads. **Not here**: timing; this is preparation.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Target};
use crate::dataset::DataSet;
use crate::error::{BenchError, Result};
use crate::interrupt;

const CONNECTIONS: usize = 4;
const BATCH_BYTES: usize = 256 * 1024;
const BATCH_RECORDS: u32 = 1000;
const PATIENCE: Duration = Duration::from_secs(120);
/// Keys of one read.
const READ_RECORDS: u32 = 500;
/// Positions that a session token may hold here, so that a request's head stays within every server's limit.
const POSITIONS: usize = 1024;

/// The greatest offset known of each partition.
type Positions = BTreeMap<u32, u64>;

/// Puts every record of the set; returns when all of them have been read.
pub(crate) fn fill(target: &Target, set: DataSet) -> Result<Duration> {
    let started = Instant::now();
    let batch = (BATCH_BYTES / (set.value_bytes + 64)).clamp(1, BATCH_RECORDS as usize) as u32;
    let next = AtomicU32::new(0);
    let parts: Vec<Result<Positions>> = thread::scope(|scope| {
        let workers: Vec<_> =
            (0..CONNECTIONS).map(|_| scope.spawn(|| put_batches(target, set, batch, &next))).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker does not panic")).collect()
    });
    let mut positions = Positions::new();
    for part in parts {
        for (partition, offset) in part? {
            raise(&mut positions, partition, offset);
        }
    }
    read_back(target, set, &positions)?;
    Ok(started.elapsed())
}

fn put_batches(target: &Target, set: DataSet, batch: u32, next: &AtomicU32) -> Result<Positions> {
    let mut client = Client::new(target.clone());
    let mut positions = Positions::new();
    let mut body = Vec::new();
    loop {
        interrupt::check()?;
        let start = next.fetch_add(batch, Ordering::Relaxed);
        if start >= set.records {
            return Ok(positions);
        }
        body.clear();
        body.extend_from_slice(b"{\"Records\":[");
        for n in start..start.saturating_add(batch).min(set.records) {
            if n > start {
                body.push(b',');
            }
            set.put(n, &mut body);
        }
        body.extend_from_slice(b"]}");
        let token = patiently(|| client.post("/records/put", "", &body), "put a batch")?.session;
        read_token(token.as_deref().unwrap_or_default(), &mut positions)?;
    }
}

/// Repeats a request while the server sheds load.
fn patiently(
    mut request: impl FnMut() -> Result<crate::client::Answer>,
    what: &str,
) -> Result<crate::client::Answer> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = request()?;
        if !matches!(answer.status, 429 | 503) {
            return answer.expect(200, what);
        }
        if Instant::now() >= deadline {
            return Err(BenchError::Patience(format!(
                "{what}: still status {} after {PATIENCE:?}",
                answer.status
            )));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Reads every record, waiting for the positions, and compares it.
fn read_back(target: &Target, set: DataSet, positions: &Positions) -> Result<()> {
    if positions.len() > POSITIONS {
        let count = positions.len();
        return Err(BenchError::Usage(format!("{count} partitions: at most {POSITIONS} can be waited for")));
    }
    let token: Vec<String> =
        positions.iter().map(|(partition, offset)| format!("{partition}:{offset}")).collect();
    let headers = format!("firescroll-session: {}\r\nfirescroll-wait-ms: 20000\r\n", token.join(","));
    let mut client = Client::new(target.clone());
    let (mut body, mut scratch) = (Vec::new(), Vec::new());
    for start in (0..set.records).step_by(READ_RECORDS as usize) {
        let numbers: Vec<u32> = (start..start.saturating_add(READ_RECORDS).min(set.records)).collect();
        interrupt::check()?;
        body.clear();
        set.get(&numbers, &mut body);
        let answer = patiently(|| client.post("/records/get", &headers, &body), "read the data set back")?;
        set.check(&numbers, &answer.body, &mut scratch)?;
    }
    Ok(())
}

/// Adds the positions of a session token, `partition:offset[,…]`.
pub(crate) fn read_token(token: &str, positions: &mut Positions) -> Result<()> {
    for part in token.split(',').filter(|part| !part.is_empty()) {
        let pair =
            part.split_once(':').and_then(|(p, o)| Some((p.trim().parse().ok()?, o.trim().parse().ok()?)));
        let (partition, offset) =
            pair.ok_or_else(|| BenchError::Answer(format!("session token {token:?}")))?;
        raise(positions, partition, offset);
    }
    Ok(())
}

fn raise(positions: &mut Positions, partition: u32, offset: u64) {
    let known = positions.entry(partition).or_insert(offset);
    *known = (*known).max(offset);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_keep_the_greatest_offset() {
        let mut positions = Positions::new();
        read_token("1:5,2:7", &mut positions).expect("valid");
        read_token("1:3", &mut positions).expect("valid");
        read_token("", &mut positions).expect("valid");
        assert_eq!(positions, Positions::from([(1, 5), (2, 7)]));
        assert!(read_token("1-5", &mut positions).is_err());
    }
}
