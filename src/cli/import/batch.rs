//! Records gathered for one request.
//!
//! **Invariants**: at most [`MOST_RECORDS`] records, and at most [`MOST_BYTES`] of them unless it is a single
//! larger one. A batch can be halved, so that one refused record does not keep its neighbours out.

use std::ops::Range;

use super::line::Record;

/// The most records in one request.
pub(super) const MOST_RECORDS: usize = 500;
/// The most bytes of records in one request, unless one record alone is larger.
pub(super) const MOST_BYTES: usize = 1 << 20;

/// Records of one request, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The records as JSON, each followed by a comma.
    text: Vec<u8>,
    /// For each record its line number and where it ends in `text`, comma included.
    ends: Vec<(u64, usize)>,
}

impl Batch {
    /// Adds a record of the given line. When it would not fit, the batch so far is returned, and the record
    /// begins the next one.
    pub(super) fn add(&mut self, line: u64, record: &Record<'_>) -> Option<Self> {
        let before = self.text.len();
        record.write(&mut self.text);
        self.text.push(b',');
        let full = !self.ends.is_empty() && (self.ends.len() >= MOST_RECORDS || self.text.len() > MOST_BYTES);
        let sealed = full.then(|| {
            let text = self.text.split_off(before);
            std::mem::replace(self, Self { text, ends: Vec::new() })
        });
        self.ends.push((line, self.text.len()));
        sealed
    }

    /// The number of records.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no record.
    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The line number of a record, by its place in the batch.
    pub(super) fn line(&self, place: usize) -> u64 {
        self.ends[place].0
    }

    /// A request body with the records of these places, at least one.
    pub(super) fn body(&self, places: Range<usize>) -> Vec<u8> {
        let start = if places.start == 0 { 0 } else { self.ends[places.start - 1].1 };
        // The last comma stays out.
        let end = self.ends[places.end - 1].1 - 1;
        let mut body = Vec::with_capacity(end - start + 16);
        body.extend_from_slice(b"{\"records\":[");
        body.extend_from_slice(&self.text[start..end]);
        body.extend_from_slice(b"]}");
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(batch: &mut Batch, line: u64, data: &str) -> Option<Batch> {
        let text = format!(r#"{{"pk":"p","sk":"s{line}","data":{data}}}"#);
        batch.add(line, &Record::parse(text.as_bytes()).expect("a good line"))
    }

    fn body(batch: &Batch, places: Range<usize>) -> String {
        String::from_utf8(batch.body(places)).expect("JSON is text")
    }

    #[test]
    fn a_body_holds_the_records_asked_for() {
        let mut batch = Batch::default();
        for line in [4, 7, 9] {
            assert!(add(&mut batch, line, "{}").is_none());
        }
        let record = |line: u64| format!(r#"{{"pk":"p","sk":"s{line}","data":{{}}}}"#);
        let all = format!(r#"{{"records":[{},{},{}]}}"#, record(4), record(7), record(9));
        assert_eq!(body(&batch, 0..3), all);
        assert_eq!(body(&batch, 1..2), format!(r#"{{"records":[{}]}}"#, record(7)));
        assert_eq!(body(&batch, 2..3), format!(r#"{{"records":[{}]}}"#, record(9)));
        assert_eq!((batch.line(0), batch.line(2), batch.len()), (4, 9, 3));
    }

    #[test]
    fn the_count_of_records_is_bounded() {
        let mut batch = Batch::default();
        for line in 1..=MOST_RECORDS as u64 {
            assert!(add(&mut batch, line, "{}").is_none());
        }
        let sealed = add(&mut batch, 501, "{}").expect("the batch is full");
        assert_eq!((sealed.len(), sealed.line(0), sealed.line(499)), (500, 1, 500));
        assert_eq!((batch.len(), batch.line(0)), (1, 501));
        assert!(body(&batch, 0..1).contains("s501"));
        assert!(body(&sealed, 499..500).contains("s500"));
    }

    #[test]
    fn the_bytes_are_bounded_and_a_larger_record_goes_alone() {
        let half = format!(r#"{{"x":"{}"}}"#, "y".repeat(MOST_BYTES * 6 / 10));
        let huge = format!(r#"{{"x":"{}"}}"#, "y".repeat(MOST_BYTES * 2));
        let mut batch = Batch::default();
        assert!(add(&mut batch, 1, &half).is_none());
        assert_eq!(add(&mut batch, 2, &half).expect("two halves are too much").len(), 1);
        assert_eq!(add(&mut batch, 3, &huge).expect("nothing beside a huge one").len(), 1);
        let sealed = add(&mut batch, 4, "{}").expect("nothing after a huge one");
        assert_eq!((sealed.len(), sealed.line(0)), (1, 3));
        assert!(body(&sealed, 0..1).len() > MOST_BYTES * 2);
    }
}
