//! How soon a put is seen: from sending it to its acknowledgement, and to a get that shows it.
//!
//! One put at a time, on a node that has nothing else to do; the reader asks again and again, of the same node or of
//! another one on the same log.
//!
//! **Not here**: load beside it.

use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Target};
use crate::error::{BenchError, Result};
use crate::interrupt;
use crate::summary::{Summary, latencies};

/// A put that is not seen for so long is lost.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two puts.
const APART: Duration = Duration::from_millis(10);
/// Between two gets.
const LOOK: Duration = Duration::from_micros(100);
/// Puts that open connections and learn where leaders are.
const FIRST: u32 = 20;

/// The way of puts.
pub(crate) struct Way {
    pub(crate) acknowledged: Summary,
    pub(crate) visible: Summary,
}

/// Times so many puts on their way from one server to the other.
pub(crate) fn measure(write: &Target, read: &Target, puts: u32) -> Result<Way> {
    let (mut writer, mut reader) = (Client::new(write.clone()), Client::new(read.clone()));
    let (mut acknowledged, mut visible) = (latencies(), latencies());
    let get = br#"{"Records":[{"pk":"way","sk":"s"}]}"#;
    for n in 0..puts + FIRST {
        interrupt::check()?;
        let put = format!(r#"{{"Records":[{{"pk":"way","sk":"s","data":{{"n":{n}}}}}]}}"#);
        let wanted = format!("\"n\":{n}}}");
        let before = Instant::now();
        // The put is answered on a thread of its own: it may well be visible before that.
        let (acked, seen) = thread::scope(|scope| {
            let putting = scope.spawn(|| {
                let answer = writer.post("/records/put", "", put.as_bytes());
                answer.and_then(|answer| answer.expect(200, "put")).map(|_| before.elapsed())
            });
            let seen = loop {
                let answer = reader.post("/records/get", "", get)?.expect(200, "get")?;
                if answer.body.windows(wanted.len()).any(|window| window == wanted.as_bytes()) {
                    break before.elapsed();
                }
                if before.elapsed() > PATIENCE {
                    return Err(BenchError::Patience("a put was never seen".into()));
                }
                thread::sleep(LOOK);
            };
            Ok((putting.join().expect("the writer does not panic")?, seen))
        })?;
        if n >= FIRST {
            let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            acknowledged.saturating_record(nanos(acked));
            visible.saturating_record(nanos(seen));
        }
        thread::sleep(APART);
    }
    Ok(Way { acknowledged: Summary::of(&acknowledged), visible: Summary::of(&visible) })
}
