//! A blocking HTTP client for everything around a measurement: loading data, waiting for a node, reading metrics.
//!
//! One connection, one request at a time, kept alive and opened again when the server has closed it.
//!
//! **Not here**: TLS, redirects, proxies; the measured load itself (`load`).

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use crate::answer::{AnswerReader, Progress};
use crate::error::{BenchError, Result, Tried};

const PATIENCE: Duration = Duration::from_secs(60);

/// Where a server listens, as `http://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The resolved address.
    pub(crate) address: SocketAddr,
    /// What the `host` header says.
    pub(crate) host: String,
}

impl Target {
    /// The target of a port on this machine.
    pub(crate) fn local(port: u16) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Self { address, host: address.to_string() }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(url: &str) -> std::result::Result<Self, String> {
        let host = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
        if host.contains('/') {
            return Err(format!("{url}: http://host:port without a path is accepted"));
        }
        let host = if host.contains(':') { host.to_owned() } else { format!("{host}:8190") };
        let address = host.to_socket_addrs().map_err(|error| format!("{url}: {error}"))?.next();
        let address = address.ok_or_else(|| format!("{url}: the name has no address"))?;
        Ok(Self { address, host })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.host)
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    pub(crate) session: Option<String>,
}

impl Answer {
    /// The answer, unless its status is another than `status`.
    pub(crate) fn expect(self, status: u16, what: &str) -> Result<Self> {
        if self.status == status {
            return Ok(self);
        }
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(400)]).into_owned();
        Err(BenchError::Answer(format!("{what}: status {} instead of {status}: {body}", self.status)))
    }
}

/// A keep-alive connection.
#[derive(Debug)]
pub(crate) struct Client {
    target: Target,
    stream: Option<TcpStream>,
    reader: AnswerReader,
    buffer: Vec<u8>,
}

impl Client {
    /// A client that connects with its first request.
    pub(crate) fn new(target: Target) -> Self {
        Self { target, stream: None, reader: AnswerReader::new(), buffer: vec![0; 64 * 1024] }
    }

    /// `GET path`.
    pub(crate) fn get(&mut self, path: &str) -> Result<Answer> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.target.host);
        self.send(request.as_bytes())
    }

    /// `POST path` with a JSON body; `headers` are whole lines, each with its line end.
    pub(crate) fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> Result<Answer> {
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n",
            self.target.host,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.send(&request)
    }

    /// Sends the bytes of one request and reads its answer; a connection that fails is not used again.
    pub(crate) fn send(&mut self, request: &[u8]) -> Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(&self.target)?,
        };
        let sent = stream.write_all(request);
        sent.tried(|| format!("send a request to {}", self.target))?;
        self.reader.begin(true);
        loop {
            let length =
                stream.read(&mut self.buffer).tried(|| format!("read an answer of {}", self.target))?;
            if length == 0 {
                return Err(BenchError::Answer(format!("{} closed the connection", self.target)));
            }
            if let Progress::Done { status, .. } = self.reader.feed(&self.buffer[..length])? {
                let closing = self.reader.header("connection").is_some_and(|value| value == "close");
                if !closing {
                    self.stream = Some(stream);
                }
                let session = self.reader.header("firescroll-session").map(str::to_owned);
                return Ok(Answer { status, body: self.reader.body().to_vec(), session });
            }
        }
    }
}

/// Opens a connection with the settings that every part of this program uses.
pub(crate) fn connect(target: &Target) -> Result<TcpStream> {
    let stream =
        TcpStream::connect_timeout(&target.address, PATIENCE).tried(|| format!("connect to {target}"))?;
    stream.set_nodelay(true).tried(|| "set TCP_NODELAY".into())?;
    stream.set_read_timeout(Some(PATIENCE)).tried(|| "set a read timeout".into())?;
    stream.set_write_timeout(Some(PATIENCE)).tried(|| "set a write timeout".into())?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_parse() {
        let target: Target = "http://127.0.0.1:9999/".parse().expect("valid");
        assert_eq!(target, Target::local(9999));
        assert_eq!("127.0.0.1".parse::<Target>().expect("valid").address.port(), 8190);
        assert!("http://127.0.0.1:1/path".parse::<Target>().is_err());
        assert!("http://127.0.0.1:x".parse::<Target>().is_err());
    }

    #[test]
    fn keeps_a_connection_until_the_server_closes_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        let server = std::thread::spawn(move || {
            let answers: [&[&[u8]]; 2] = [
                &[
                    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
                    b"HTTP/1.1 503 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
                ],
                &[b"HTTP/1.1 200 OK\r\nFireScroll-Session: 1:2\r\ncontent-length: 0\r\n\r\n"],
            ];
            for connection in answers {
                let (mut stream, _) = listener.accept().expect("accept");
                for answer in connection {
                    let mut request = [0; 1024];
                    assert!(stream.read(&mut request).expect("read") > 0);
                    stream.write_all(answer).expect("write");
                }
            }
        });
        let mut client = Client::new(Target::local(port));
        assert_eq!(client.get("/").expect("answer").body, b"ok");
        assert!(client.get("/").expect("answer").expect(200, "second").is_err());
        let third = client.post("/", "", b"{}").expect("answer");
        assert_eq!(third.session.as_deref(), Some("1:2"));
        server.join().expect("server");
    }
}
