//! Request bytes, made once and only patched afterwards.
//!
//! Every record number has the same number of digits and every record's data the same length, so a request's length
//! never changes: a template is copied to each connection once, and a request costs the writing of its digits.
//!
//! **Not here**: sockets, and choosing the records.

use crate::dataset::{DIGITS, DataSet, LISTED, digits};
use crate::error::{BenchError, Result};

/// What a request asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    /// `POST /records/get` of so many keys.
    Get(usize),
    /// `POST /records/put` of one record, with the data that it already has.
    Put,
    /// `POST /records/list` of one partition key.
    List,
    /// The request of `Get(1)`, whose answer is not looked into: for the constant responder.
    Constant,
}

impl Workload {
    /// Records in each answer.
    pub(crate) fn records(self) -> usize {
        match self {
            Self::Get(keys) => keys,
            Self::Put | Self::Constant => 1,
            Self::List => LISTED as usize,
        }
    }

    /// Record numbers that a request is made from.
    pub(crate) fn keys(self) -> usize {
        match self {
            Self::Get(keys) => keys,
            Self::Put | Self::List | Self::Constant => 1,
        }
    }
}

/// A request with places for record numbers.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    /// Where the digits of each key begin.
    keys: Vec<usize>,
    /// Where a put's data begins.
    data: Option<usize>,
    set: DataSet,
}

impl Template {
    /// The request of a workload, with zeros for record numbers.
    pub(crate) fn new(workload: Workload, set: DataSet, host: &str) -> Result<Self> {
        let keys = workload.keys();
        if keys == 0 || keys > set.records as usize {
            return Err(BenchError::Usage(format!(
                "{keys} keys a request: from 1 to --records are accepted"
            )));
        }
        let mut body = Body::default();
        let path = match workload {
            Workload::Get(_) | Workload::Constant => {
                body.text("{\"Records\":[");
                for i in 0..keys {
                    body.text(if i == 0 { "{\"pk\":\"" } else { ",{\"pk\":\"" });
                    body.key(set);
                    body.text("\",\"sk\":\"record\"}");
                }
                body.text("]}");
                "/records/get"
            }
            Workload::Put => {
                body.text("{\"Records\":[{\"pk\":\"");
                body.key(set);
                body.text("\",\"sk\":\"record\",\"data\":");
                body.data = Some(body.bytes.len());
                set.data(0, &mut body.bytes);
                body.text("}]}");
                "/records/put"
            }
            Workload::List => {
                body.text("{\"pk\":\"");
                body.key(set);
                body.text("\",\"limit\":100}");
                "/records/list"
            }
        };
        let mut bytes = format!(
            "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.bytes.len()
        )
        .into_bytes();
        let head = bytes.len();
        bytes.extend_from_slice(&body.bytes);
        let keys = body.keys.iter().map(|at| at + head).collect();
        Ok(Self { bytes, keys, data: body.data.map(|at| at + head), set })
    }

    /// A copy of the request to patch.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.bytes.clone()
    }

    /// Writes record numbers into a copy of the request. `scratch` keeps its allocation from call to call.
    pub(crate) fn patch(&self, request: &mut [u8], numbers: &[u32], scratch: &mut Vec<u8>) {
        for (&at, &n) in self.keys.iter().zip(numbers) {
            let shown = if self.set.shape == crate::dataset::Shape::Listed { n / LISTED } else { n };
            request[at..at + DIGITS].copy_from_slice(&digits(shown));
        }
        if let Some(at) = self.data {
            scratch.clear();
            self.set.data(numbers[0], scratch);
            request[at..at + scratch.len()].copy_from_slice(scratch);
        }
    }
}

#[derive(Default)]
struct Body {
    bytes: Vec<u8>,
    keys: Vec<usize>,
    data: Option<usize>,
}

impl Body {
    fn text(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// The partition key of record 0, whose digits stand at its end.
    fn key(&mut self, set: DataSet) {
        set.pk(0, &mut self.bytes);
        self.keys.push(self.bytes.len() - DIGITS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Shape;

    fn body(request: &[u8]) -> serde_json::Value {
        let text = std::str::from_utf8(request).expect("ASCII");
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        serde_json::from_str(body).expect("JSON body")
    }

    #[test]
    fn patched_requests_name_their_records() {
        let set = DataSet::new(1000, 64, Shape::Single).expect("valid");
        let template = Template::new(Workload::Get(3), set, "host").expect("valid");
        let mut request = template.bytes();
        template.patch(&mut request, &[1, 22, 333], &mut Vec::new());
        let json = body(&request);
        let keys: Vec<_> = (0..3).map(|i| json["Records"][i]["pk"].as_str().expect("text")).collect();
        assert_eq!(keys, ["bench-00000001", "bench-00000022", "bench-00000333"]);
    }

    #[test]
    fn a_put_carries_the_records_own_data() {
        let set = DataSet::new(1000, 64, Shape::Single).expect("valid");
        let template = Template::new(Workload::Put, set, "host").expect("valid");
        let mut request = template.bytes();
        template.patch(&mut request, &[77], &mut Vec::new());
        let json = body(&request);
        assert_eq!(json["Records"][0]["pk"], "bench-00000077");
        assert_eq!(json["Records"][0]["data"]["id"], "00000077");
    }

    #[test]
    fn a_list_names_the_shared_key() {
        let set = DataSet::new(1000, 64, Shape::Listed).expect("valid");
        let template = Template::new(Workload::List, set, "host").expect("valid");
        let mut request = template.bytes();
        template.patch(&mut request, &[345], &mut Vec::new());
        assert_eq!(body(&request)["pk"], "bench-list-00000003");
        assert!(Template::new(Workload::Get(1001), set, "host").is_err());
    }
}
