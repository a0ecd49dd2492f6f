//! Answers that are given without hyper, because there is no request to answer: fixed bytes.

/// To a client whose request head was begun and not finished in time.
pub(crate) const HEAD_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\n\
content-type: application/problem+json\r\n\
content-length: 125\r\n\
connection: close\r\n\
\r\n\
{\"type\":\"about:blank\",\"title\":\"Request Timeout\",\"status\":408,\
\"detail\":\"the request head did not arrive within its deadline\"}\n";

/// To a connection over the limit.
pub(crate) const TOO_MANY_CONNECTIONS: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
content-type: application/problem+json\r\n\
content-length: 143\r\n\
retry-after: 1\r\n\
connection: close\r\n\
\r\n\
{\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\
\"detail\":\"this core serves as many connections as it may; try again shortly\"}\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lengths_are_true() {
        for answer in [HEAD_TIMEOUT, TOO_MANY_CONNECTIONS] {
            let text = std::str::from_utf8(answer).expect("ASCII");
            let (head, body) = text.split_once("\r\n\r\n").expect("a head");
            let declared =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
            assert_eq!(declared.parse(), Ok(body.len()));
            assert!(body.starts_with('{') && body.ends_with("}\n"));
        }
    }
}
