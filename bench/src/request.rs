//! Request bytes, made once and only patched afterwards.
//!
//! Every record number has the same number of digits and every record's data the same length, so a request's length
//! never changes: a template is copied to each connection once, and a request costs the writing of its digits.
//!
//! **Not here**: sockets, and choosing the records.

use crate::dataset::{DIGITS, DataSet, LISTED, digits};
use crate::error::{BenchError, Result};
use crate::protocol::{Protocol, http2};

/// What a request asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    /// `POST /records/get` of so many keys.
    Get(usize),
    /// The same of one key that is not there.
    Miss,
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
            Self::Miss => 0,
            Self::Put | Self::Constant => 1,
            Self::List => LISTED as usize,
        }
    }

    /// Record numbers that a request is made from.
    pub(crate) fn keys(self) -> usize {
        match self {
            Self::Get(keys) => keys,
            Self::Miss | Self::Put | Self::List | Self::Constant => 1,
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
    /// Where each frame's stream identifier stands, in HTTP/2.
    streams: Vec<usize>,
    set: DataSet,
}

impl Template {
    /// The request of a workload, with zeros for record numbers.
    pub(crate) fn new(workload: Workload, set: DataSet, host: &str, protocol: Protocol) -> Result<Self> {
        let keys = workload.keys();
        if keys == 0 || keys > set.records as usize {
            return Err(BenchError::Usage(format!(
                "{keys} keys a request: from 1 to --records are accepted"
            )));
        }
        match protocol {
            Protocol::Http1 => {
                let (path, body) = http_body(workload, set);
                let head = format!(
                    "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                    body.bytes.len()
                );
                Ok(Self::join(head.into_bytes(), &body, Vec::new(), set))
            }
            Protocol::Http2 => {
                let (path, body) = http_body(workload, set);
                let (head, streams) = http2::head(path, host, body.bytes.len())?;
                Ok(Self::join(head, &body, streams, set))
            }
            Protocol::Redis => {
                let body = redis_command(workload, set)?;
                Ok(Self::join(Vec::new(), &body, Vec::new(), set))
            }
        }
    }

    fn join(mut bytes: Vec<u8>, body: &Body, streams: Vec<usize>, set: DataSet) -> Self {
        let head = bytes.len();
        bytes.extend_from_slice(&body.bytes);
        let keys = body.keys.iter().map(|at| at + head).collect();
        Self { bytes, keys, data: body.data.map(|at| at + head), streams, set }
    }

    /// Writes the stream identifier of an HTTP/2 request into a copy of it.
    pub(crate) fn number(&self, request: &mut [u8], stream: u32) {
        for &at in &self.streams {
            request[at..at + 4].copy_from_slice(&stream.to_be_bytes());
        }
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

/// The path of a workload and its JSON body.
fn http_body(workload: Workload, set: DataSet) -> (&'static str, Body) {
    let mut body = Body::default();
    let path = match workload {
        Workload::Get(_) | Workload::Miss | Workload::Constant => {
            let sk = if workload == Workload::Miss { "absent" } else { "record" };
            body.text("{\"Records\":[");
            for i in 0..workload.keys() {
                body.text(if i == 0 { "{\"pk\":\"" } else { ",{\"pk\":\"" });
                body.key(set);
                body.text(&format!("\",\"sk\":\"{sk}\"}}"));
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
    (path, body)
}

/// The same as a Redis command, whose values are whole records as an answer of a node spells them.
fn redis_command(workload: Workload, set: DataSet) -> Result<Body> {
    let Workload::Get(keys) = workload else {
        return Err(BenchError::Usage("Redis is only asked for records (get)".into()));
    };
    let mut body = Body::default();
    let name = if keys == 1 { "GET" } else { "MGET" };
    body.text(&format!("*{}\r\n${}\r\n{name}\r\n", keys + 1, name.len()));
    let mut key = Vec::new();
    set.pk(0, &mut key);
    for _ in 0..keys {
        body.text(&format!("${}\r\n", key.len()));
        body.key(set);
        body.text("\r\n");
    }
    Ok(body)
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
        let template = Template::new(Workload::Get(3), set, "host", Protocol::Http1).expect("valid");
        let mut request = template.bytes();
        template.patch(&mut request, &[1, 22, 333], &mut Vec::new());
        let json = body(&request);
        let keys: Vec<_> = (0..3).map(|i| json["Records"][i]["pk"].as_str().expect("text")).collect();
        assert_eq!(keys, ["bench-00000001", "bench-00000022", "bench-00000333"]);
    }

    #[test]
    fn a_redis_command_names_its_records() {
        let set = DataSet::new(1000, 64, Shape::Single).expect("valid");
        let template = Template::new(Workload::Get(2), set, "", Protocol::Redis).expect("valid");
        let mut request = template.bytes();
        template.patch(&mut request, &[7, 42], &mut Vec::new());
        let expected = "*3\r\n$4\r\nMGET\r\n$14\r\nbench-00000007\r\n$14\r\nbench-00000042\r\n";
        assert_eq!(std::str::from_utf8(&request).expect("ASCII"), expected);
        assert!(Template::new(Workload::Put, set, "", Protocol::Redis).is_err());
    }

    #[test]
    fn an_http2_request_is_two_frames_of_one_stream() {
        let set = DataSet::new(1000, 64, Shape::Single).expect("valid");
        let template = Template::new(Workload::Get(1), set, "host", Protocol::Http2).expect("valid");
        let mut request = template.bytes();
        template.patch(&mut request, &[42], &mut Vec::new());
        template.number(&mut request, 5);
        let head = usize::from(request[2]);
        assert_eq!(request[3..9], [1, 4, 0, 0, 0, 5]);
        let data = &request[9 + head..];
        assert_eq!(data[3..9], [0, 1, 0, 0, 0, 5]);
        assert_eq!(usize::from(data[2]), data.len() - 9);
        let body: serde_json::Value = serde_json::from_slice(&data[9..]).expect("JSON");
        assert_eq!(body["Records"][0]["pk"], "bench-00000042");
    }

    #[test]
    fn a_put_carries_the_records_own_data() {
        let set = DataSet::new(1000, 64, Shape::Single).expect("valid");
        let template = Template::new(Workload::Put, set, "host", Protocol::Http1).expect("valid");
        let mut request = template.bytes();
        template.patch(&mut request, &[77], &mut Vec::new());
        let json = body(&request);
        assert_eq!(json["Records"][0]["pk"], "bench-00000077");
        assert_eq!(json["Records"][0]["data"]["id"], "00000077");
    }

    #[test]
    fn a_list_names_the_shared_key() {
        let set = DataSet::new(1000, 64, Shape::Listed).expect("valid");
        let template = Template::new(Workload::List, set, "host", Protocol::Http1).expect("valid");
        let mut request = template.bytes();
        template.patch(&mut request, &[345], &mut Vec::new());
        assert_eq!(body(&request)["pk"], "bench-list-00000003");
        assert!(Template::new(Workload::Get(1001), set, "host", Protocol::Http1).is_err());
    }
}
