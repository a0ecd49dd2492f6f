//! One node as a client sees it: blocking HTTP/1.1 with kept-alive connections.
//!
//! path + body → request → 200 with its body to stream from, or a [`Failure`] with the `detail` of the
//! server's problem document.
//!
//! **Invariants**: every wait has a deadline. An error body is read up to a bound and never trusted to be JSON.
//!
//! **Runs on**: any thread; clones share the pool of connections.
//!
//! **Not here**: TLS (nodes speak plain HTTP inside a data centre), proxies, redirects, retries.

use std::time::Duration;

use http::Uri;
use serde::Deserialize;
use ureq::http::Response;
use ureq::{Agent, Body};

use super::failure::Failure;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// The most of an error body that is read.
const LONGEST_PROBLEM: u64 = 64 << 10;
/// The header that carries session tokens, in both directions.
const SESSION: &str = "FireScroll-Session";

/// A node's address and the connections to it.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    agent: Agent,
    base: String,
}

/// The part of an `application/problem+json` document that people read.
#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
}

impl Server {
    /// A node at `url`, like `http://10.0.0.1:8190`; nothing is connected yet. `timeout` bounds every single
    /// wait for bytes, not whole answers, which may be long.
    ///
    /// # Errors
    /// [`Failure::Usage`] where `url` is none that this client can speak to.
    pub(crate) fn new(url: &str, timeout: Duration) -> Result<Self, Failure> {
        let usage = |reason: &str| {
            Failure::Usage(format!("{url:?} {reason}; accepted: an address like http://127.0.0.1:8190"))
        };
        let uri: Uri = url.parse().map_err(|_| usage("is no web address"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(usage("asks for TLS, which nodes do not speak")),
            _ => return Err(usage("does not begin with http://")),
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err(usage("has a path"));
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("firescroll/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(timeout))
            .timeout_per_read(Some(timeout))
            .timeout_per_write(Some(timeout))
            .max_idle_connections_per_host(64)
            .build()
            .new_agent();
        Ok(Self { agent, base: url.trim_end_matches('/').to_owned() })
    }

    /// Sends a JSON body; gives the 200 answer, its body unread.
    pub(crate) fn post(
        &self,
        path: &str,
        body: &[u8],
        session: Option<&str>,
    ) -> Result<Response<Body>, Failure> {
        let mut request =
            self.agent.post(format!("{}{path}", self.base)).header("Content-Type", "application/json");
        if let Some(session) = session {
            request = request.header(SESSION, session);
        }
        self.judge(request.send(body))
    }

    /// Sends a JSON body of mutations; gives the session token of the acknowledgement, if it carries one.
    pub(crate) fn mutate(&self, path: &str, body: &[u8]) -> Result<Option<String>, Failure> {
        let mut answer = self.post(path, body, None)?;
        let token = answer.headers().get(SESSION).and_then(|token| token.to_str().ok()).map(str::to_owned);
        // Read to its end the connection can be used again. The status has said what matters already.
        let _ = answer.body_mut().with_config().limit(LONGEST_PROBLEM).read_to_vec();
        Ok(token)
    }

    /// Asks for `path`; gives the 200 answer, its body unread.
    pub(crate) fn get(&self, path: &str) -> Result<Response<Body>, Failure> {
        self.judge(self.agent.get(format!("{}{path}", self.base)).call())
    }

    /// The failure of an answer that ended or made no sense halfway.
    pub(crate) fn useless(&self, reason: &(impl ToString + ?Sized)) -> Failure {
        Failure::Answer { url: self.base.clone(), reason: reason.to_string() }
    }

    fn judge(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, Failure> {
        let mut answer = answer.map_err(|error| self.lost(&error))?;
        let status = answer.status().as_u16();
        if status == 200 {
            return Ok(answer);
        }
        let retry_after = answer
            .headers()
            .get("Retry-After")
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let text = answer.body_mut().with_config().limit(LONGEST_PROBLEM).lossy_utf8(true).read_to_string();
        let detail = detail(&text.unwrap_or_default());
        if matches!(status, 400..=499) && !matches!(status, 408 | 429) {
            Err(Failure::Refused { status, detail })
        } else if matches!(status, 408 | 429 | 500..=599) {
            Err(Failure::Unavailable { status, detail, retry_after })
        } else {
            Err(self.useless(&format!("status {status} from something that is no FireScroll node")))
        }
    }

    fn lost(&self, error: &ureq::Error) -> Failure {
        match error {
            ureq::Error::Http(_) | ureq::Error::BadUri(_) => Failure::Usage(error.to_string()),
            ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) => self.useless(error),
            _ => Failure::Unreachable { url: self.base.clone(), reason: error.to_string() },
        }
    }
}

/// What a problem document says; the text itself where it is none.
fn detail(text: &str) -> String {
    let said = serde_json::from_str::<Problem>(text)
        .map(|problem| if problem.detail.is_empty() { problem.title } else { problem.detail });
    match said {
        Ok(said) if !said.is_empty() => said,
        _ if text.trim().is_empty() => "no reason given".to_owned(),
        _ => text.trim().chars().take(500).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_cannot_work_are_usage_errors() {
        for (url, reason) in [
            ("ftp://x", "does not begin with http://"),
            ("127.0.0.1:8190", "does not begin with http://"),
            ("https://x", "asks for TLS"),
            ("http://x/records", "has a path"),
            ("http://", "is no web address"),
        ] {
            let failure = Server::new(url, CONNECT).expect_err("no usable address").to_string();
            assert!(failure.contains(reason), "{failure}");
        }
        let server = Server::new("http://localhost:8190/", CONNECT).expect("a good address");
        assert_eq!(server.base, "http://localhost:8190");
    }

    #[test]
    fn the_detail_of_a_problem_is_what_people_see() {
        assert_eq!(
            detail(r#"{"title":"Bad Request","status":400,"detail":"record 3 has no sk"}"#),
            "record 3 has no sk"
        );
        assert_eq!(detail(r#"{"title":"Bad Request"}"#), "Bad Request");
        assert_eq!(detail("<html>"), "<html>");
        assert_eq!(detail(" \n"), "no reason given");
    }
}
