//! An ordinary HTTP client, and answers as a test looks at them.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use ureq::http::{HeaderMap, Request};

/// The longest that one request may take.
const REQUEST: Duration = Duration::from_secs(60);
/// How long reads of a test wait for the write that they are about, in ms: long enough for a machine under load.
const WAIT_MS: &str = "30000";
/// The largest answer that is read.
const LARGEST: u64 = 1 << 30;

/// One node's port, with kept-alive connections.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    base: String,
    agent: ureq::Agent,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body as it came.
    pub(crate) body: Vec<u8>,
}

/// A record as answers spell it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// Partition key.
    #[serde(rename = "Pk")]
    pub(crate) pk: String,
    /// Sort key.
    #[serde(rename = "Sk")]
    pub(crate) sk: String,
    #[serde(rename = "Data")]
    data: Box<RawValue>,
    /// When it was first put.
    #[serde(rename = "CreatedAt")]
    pub(crate) created: String,
    /// When it was last put.
    #[serde(rename = "UpdatedAt")]
    pub(crate) updated: String,
}

impl Record {
    /// The bytes of its data.
    pub(crate) fn raw(&self) -> &str {
        self.data.get()
    }

    /// All that it says, to be compared.
    pub(crate) fn members(&self) -> [&str; 5] {
        [&self.pk, &self.sk, self.raw(), &self.created, &self.updated]
    }

    /// Its data.
    pub(crate) fn data(&self) -> Value {
        serde_json::from_str(self.raw()).expect("data is JSON")
    }

    /// The whole number at a member of its data.
    pub(crate) fn number(&self, member: &str) -> u64 {
        let data = self.data();
        data[member].as_u64().unwrap_or_else(|| panic!("no number {member} in {data}"))
    }
}

/// Unix milliseconds of a time as answers spell it.
pub(crate) fn millis(time: &str) -> i64 {
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z", "{time}");
    let number = |from: usize, to: usize| -> i64 { time[from..to].parse().expect("digits") };
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    // Days since 1970 in the Gregorian calendar, with years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468;
    ((days * 24 + number(11, 13)) * 60 + number(14, 16)) * 60_000 + number(17, 19) * 1000 + number(20, 23)
}

/// A JSON string.
pub(crate) fn text(text: &str) -> String {
    serde_json::to_string(text).expect("a string can be written as JSON")
}

/// Data with one number in it.
pub(crate) fn data(number: u64) -> String {
    format!("{{\"n\":{number}}}")
}

impl Answer {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    /// A header's value; none if it is absent.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("header values are ASCII"))
    }

    /// The records of a get or list.
    pub(crate) fn records(&self) -> Vec<Record> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Records {
            #[serde(rename = "Records")]
            records: Vec<Record>,
        }
        assert_eq!(self.status, 200, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/json"));
        let answer: Result<Records, _> = serde_json::from_slice(&self.body);
        answer.unwrap_or_else(|error| panic!("{error} in {}", self.text())).records
    }

    /// The token of an acknowledged write.
    pub(crate) fn token(&self) -> String {
        assert_eq!((self.status, self.text().as_str()), (200, "ok"));
        self.header("firescroll-session").expect("an acknowledged write answers with a token").to_owned()
    }

    /// The detail of a refusal with this status, after its form has been checked.
    pub(crate) fn refusal(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.text());
        let problem = self.json();
        assert_eq!(problem["status"], status, "{problem}");
        for member in ["type", "title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member} of {problem}");
        }
        if matches!(status, 429 | 503) {
            let after = self.header("retry-after").expect("429 and 503 say when to try again");
            assert!(after.parse::<u64>().is_ok(), "Retry-After: {after}");
        }
        problem["detail"].as_str().expect("looked at above").to_owned()
    }
}

impl Client {
    /// A client of the port at `address`; nothing is connected yet.
    pub(crate) fn new(address: SocketAddr) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_global(Some(REQUEST))
            .allow_non_standard_methods(true)
            .build()
            .new_agent();
        Self { base: format!("http://{address}"), agent }
    }

    /// The address as a command line takes it.
    pub(crate) fn url(&self) -> &str {
        &self.base
    }

    /// A client with connections of its own.
    pub(crate) fn anew(&self) -> Self {
        Self::new(self.base["http://".len()..].parse().expect("made from an address"))
    }

    /// Sends a request; an error means that no answer came.
    pub(crate) fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Answer, ureq::Error> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let built = "the parts of a test's request are valid";
        let mut answer = match body {
            Some(body) => self.agent.run(request.body(body).expect(built))?,
            None => self.agent.run(request.body(()).expect(built))?,
        };
        let body = answer.body_mut().with_config().limit(LARGEST).read_to_vec()?;
        Ok(Answer { status: answer.status().as_u16(), headers: answer.headers().clone(), body })
    }

    /// Sends a request that must be answered.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Answer {
        let answer = self.try_send(method, path, headers, body);
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// `GET path`; an error means that no answer came.
    pub(crate) fn try_get(&self, path: &str) -> Result<Answer, ureq::Error> {
        self.try_send("GET", path, &[], None)
    }

    /// `GET path`.
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], None)
    }

    /// `POST path` with a JSON body; an error means that no answer came.
    pub(crate) fn try_post(&self, path: &str, body: &str) -> Result<Answer, ureq::Error> {
        self.try_send("POST", path, &[("Content-Type", "application/json")], Some(body.as_bytes()))
    }

    /// `POST path` with a JSON body.
    pub(crate) fn post(&self, path: &str, body: &str) -> Answer {
        self.send("POST", path, &[("Content-Type", "application/json")], Some(body.as_bytes()))
    }

    /// `POST path` with a JSON body, answered from a state that holds the writes of `token`, if one is given.
    pub(crate) fn post_after(&self, token: &str, path: &str, body: &str) -> Answer {
        if token.is_empty() {
            return self.post(path, body);
        }
        let headers = [
            ("Content-Type", "application/json"),
            ("FireScroll-Session", token),
            ("FireScroll-Wait-Ms", WAIT_MS),
        ];
        self.send("POST", path, &headers, Some(body.as_bytes()))
    }

    /// Puts one record; gives the token of the write.
    pub(crate) fn put(&self, pk: &str, sk: &str, data: &str) -> String {
        let record = format!(r#"{{"pk":{},"sk":{},"data":{data}}}"#, text(pk), text(sk));
        self.post("/records/put", &format!(r#"{{"records":[{record}]}}"#)).token()
    }

    /// Puts one record on a condition; gives the token of the write.
    pub(crate) fn put_if(&self, pk: &str, sk: &str, data: &str, condition: &str) -> String {
        let (pk, sk, condition) = (text(pk), text(sk), text(condition));
        let record = format!(r#"{{"pk":{pk},"sk":{sk},"data":{data},"if":{condition}}}"#);
        self.post("/records/put", &format!(r#"{{"records":[{record}]}}"#)).token()
    }

    /// Puts many records of one partition key, at once; gives the token of the write.
    pub(crate) fn put_all<'a>(&self, pk: &str, rows: impl IntoIterator<Item = (&'a str, String)>) -> String {
        let pk = text(pk);
        let record = |(sk, data): (&str, String)| format!(r#"{{"pk":{pk},"sk":{},"data":{data}}}"#, text(sk));
        let records: Vec<String> = rows.into_iter().map(record).collect();
        self.post("/records/put", &format!(r#"{{"records":[{}]}}"#, records.join(","))).token()
    }

    /// Deletes one record; gives the token of the write.
    pub(crate) fn delete(&self, pk: &str, sk: &str) -> String {
        let body = format!(r#"{{"records":[{{"pk":{},"sk":{}}}]}}"#, text(pk), text(sk));
        self.post("/records/delete", &body).token()
    }

    /// The records with these keys, from a state that holds the writes of `token`.
    pub(crate) fn read(&self, token: &str, keys: &[(&str, &str)]) -> Vec<Record> {
        self.post_after(token, "/records/get", &keys_body(keys)).records()
    }

    /// The records with these keys, as they are by now.
    pub(crate) fn read_now(&self, keys: &[(&str, &str)]) -> Vec<Record> {
        self.post("/records/get", &keys_body(keys)).records()
    }

    /// The record with this key, from a state that holds the writes of `token`.
    pub(crate) fn one(&self, token: &str, pk: &str, sk: &str) -> Option<Record> {
        let mut records = self.read(token, &[(pk, sk)]);
        assert!(records.len() <= 1, "{records:?}");
        records.pop()
    }

    /// The sort keys that a listing gives, from a state that holds the writes of `token`.
    pub(crate) fn listed(&self, token: &str, request: &Value) -> Vec<String> {
        let answer = self.post_after(token, "/records/list", &request.to_string());
        answer.records().into_iter().map(|record| record.sk).collect()
    }
}

/// The body of a get.
fn keys_body(keys: &[(&str, &str)]) -> String {
    let key = |(pk, sk): &(&str, &str)| format!(r#"{{"pk":{},"sk":{}}}"#, text(pk), text(sk));
    let keys: Vec<String> = keys.iter().map(key).collect();
    format!(r#"{{"records":[{}]}}"#, keys.join(","))
}
