//! HTTP/1.1 as bytes on a socket, for what an ordinary client hides.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::process::PATIENCE;

/// One connection.
pub(crate) struct Wire {
    stream: BufReader<TcpStream>,
}

/// A whole answer, or its head where the body is taken piece by piece.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The status code.
    pub(crate) status: u16,
    /// Names in lower case, and values.
    pub(crate) headers: Vec<(String, String)>,
    /// The body; empty while only the head has been read.
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// A header's value; none if it is absent.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The detail of a refusal with this status, after its form has been checked.
    pub(crate) fn refusal(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.text());
        let problem: Value = serde_json::from_slice(&self.body).expect("a problem is JSON");
        assert_eq!(problem["status"], status, "{problem}");
        if matches!(status, 429 | 503) {
            let after = self.header("retry-after").expect("429 and 503 say when to try again");
            assert!(after.parse::<u64>().is_ok(), "Retry-After: {after}");
        }
        problem["detail"].as_str().expect("a problem has a detail").to_owned()
    }
}

/// A `POST` as it goes over the wire.
pub(crate) fn post(path: &str, body: &str) -> String {
    post_with(path, "", body)
}

/// The same with more header lines, each with its line end.
pub(crate) fn post_with(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: node\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    )
}

/// A `GET` as it goes over the wire.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: node\r\n\r\n")
}

impl Wire {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the node accepts");
        stream.set_nodelay(true).expect("an option of every socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option of every socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("an option of every socket");
        Self { stream: BufReader::with_capacity(64 << 10, stream) }
    }

    /// Sends bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the node takes what is sent");
    }

    /// Sends bytes to a node that may have hung up.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends a request and reads its answer.
    pub(crate) fn ask(&mut self, request: &str) -> Reply {
        self.send(request.as_bytes());
        self.reply()
    }

    /// Changes how long a read waits.
    pub(crate) fn patience(&self, wait: Duration) {
        self.stream.get_ref().set_read_timeout(Some(wait)).expect("an option of every socket");
    }

    /// Whether bytes, or the end, have come within the patience of the connection.
    pub(crate) fn has_news(&mut self) -> bool {
        match self.stream.fill_buf() {
            Ok(_) => true,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                false
            }
            // A reset is news too; the read that follows tells.
            Err(_) => true,
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        if !line.ends_with("\r\n") {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.truncate(line.len() - 2);
        Ok(line)
    }

    /// Reads the head of an answer.
    pub(crate) fn try_head(&mut self) -> io::Result<Reply> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status line: {first:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Reply { status, headers, body: Vec::new() });
            }
            let (name, value) = line.split_once(':').ok_or_else(|| io::Error::other("no header"))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// Reads the head of an answer.
    pub(crate) fn head(&mut self) -> Reply {
        self.try_head().expect("an answer comes")
    }

    /// Reads a whole answer.
    pub(crate) fn try_reply(&mut self) -> io::Result<Reply> {
        let mut reply = self.try_head()?;
        if let Some(length) = reply.header("content-length") {
            let length = length.parse().map_err(io::Error::other)?;
            reply.body.resize(length, 0);
            self.stream.read_exact(&mut reply.body)?;
        } else if reply.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.try_chunk()? {
                reply.body.extend_from_slice(&chunk);
            }
        } else if !matches!(reply.status, 100..=199 | 204 | 304) {
            self.stream.read_to_end(&mut reply.body)?;
        }
        Ok(reply)
    }

    /// Reads a whole answer.
    pub(crate) fn reply(&mut self) -> Reply {
        self.try_reply().expect("a whole answer comes")
    }

    /// Reads the next chunk of a chunked body; none at its end.
    pub(crate) fn try_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let size = self.line()?;
        let size = usize::from_str_radix(&size, 16).map_err(io::Error::other)?;
        let mut chunk = vec![0; size];
        self.stream.read_exact(&mut chunk)?;
        self.line()?;
        Ok((size > 0).then_some(chunk))
    }

    /// Reads to the end of the connection; an error if it was reset.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest)?;
        Ok(rest)
    }

    /// Reads on until the node hangs up, one way or the other; gives what came before.
    pub(crate) fn drain(&mut self) -> usize {
        let mut count = 0;
        let mut chunk = vec![0; 64 << 10];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return count,
                Ok(bytes) => count += bytes,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return count,
                Err(error) => panic!("the node does not hang up: {error}"),
            }
        }
    }
}
