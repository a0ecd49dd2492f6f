//! Every way in which the API refuses a request, and its one mapping to HTTP.
//!
//! Handlers return `Result<_, ApiError>`; nothing else in the crate knows status codes of refusals.
//! An answer is a problem document (RFC 9457): `type`, `title`, `status`, `detail`.
//!
//! Runs on: serving cores; the mapping is pure.
//! Not here: log lines (a refusal is the client's news, not the operator's) and retries.

use std::borrow::Cow;

use firescroll_shard::{PartitionId, escape_into};
use http::StatusCode;

/// A refused request. The text is for the client's developer: what was wrong, where, what is accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The request itself is wrong; sending it again changes nothing.
    #[error("{0}")]
    Invalid(String),
    /// No such route, or no such record.
    #[error("{0}")]
    NotFound(String),
    /// The route exists, the method does not; the text is the `Allow` header's value.
    #[error("this resource answers {0} only")]
    Method(&'static str),
    /// The body is declared as something other than JSON.
    #[error("the body is declared as {0:?}; send application/json (or no Content-Type)")]
    MediaType(String),
    /// The body did not arrive in time; the connection is closed.
    #[error("{0}")]
    Slow(String),
    /// Body, mutation or answer over its limit.
    #[error("{0}")]
    TooLarge(String),
    /// The node sheds load; try again shortly.
    #[error("{0}")]
    Overloaded(String),
    /// The log, a partition or a waited-for position is not to be had now.
    #[error("{detail}")]
    Unavailable {
        /// What is missing, and for how long it was waited for.
        detail: String,
        /// The partitions concerned, ascending; empty when it is not about partitions.
        partitions: Vec<PartitionId>,
    },
    /// A serious fault of this node, or the original's `no partitions`.
    #[error("{0}")]
    Internal(String),
}

impl ApiError {
    /// A 503 that concerns no particular partition.
    #[must_use]
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::Unavailable { detail: detail.into(), partitions: Vec::new() }
    }

    /// The status code of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Slow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Overloaded(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Seconds for `Retry-After`, where trying again can help.
    #[must_use]
    pub fn retry_after(&self) -> Option<&'static str> {
        matches!(self, Self::Overloaded(_) | Self::Unavailable { .. }).then_some("1")
    }

    /// The problem document.
    #[must_use]
    pub fn problem(&self) -> Vec<u8> {
        let status = self.status();
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(br#"{"type":"about:blank","title":"#);
        escape_into(status.canonical_reason().unwrap_or("Error"), &mut out);
        out.extend_from_slice(format!(r#","status":{},"detail":"#, status.as_u16()).as_bytes());
        let detail: Cow<'_, str> = match self {
            Self::Unavailable { detail, partitions } if !partitions.is_empty() => {
                format!("{detail} ({})", name_partitions(partitions)).into()
            }
            other => other.to_string().into(),
        };
        escape_into(&detail, &mut out);
        if let Self::Unavailable { partitions, .. } = self
            && !partitions.is_empty()
        {
            out.extend_from_slice(br#","partitions":"#);
            partitions_into(partitions, &mut out);
        }
        out.push(b'}');
        out
    }
}

/// `partition 7`, or `partitions 3, 7`.
fn name_partitions(partitions: &[PartitionId]) -> String {
    let list = partitions.iter().map(|p| p.0.to_string()).collect::<Vec<_>>().join(", ");
    format!("partition{} {list}", if partitions.len() == 1 { "" } else { "s" })
}

/// `[3,7]`, as in the `Unavailable` member of a partial answer.
pub(crate) fn partitions_into(partitions: &[PartitionId], out: &mut Vec<u8>) {
    out.push(b'[');
    for (place, partition) in partitions.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        out.extend_from_slice(partition.0.to_string().as_bytes());
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_what_and_where() {
        let error = ApiError::Unavailable {
            detail: "no replica holds it".into(),
            partitions: vec![PartitionId(3), PartitionId(7)],
        };
        assert_eq!(
            String::from_utf8(error.problem()).expect("text"),
            concat!(
                r#"{"type":"about:blank","title":"Service Unavailable","status":503,"#,
                r#""detail":"no replica holds it (partitions 3, 7)","partitions":[3,7]}"#
            )
        );
        assert_eq!(error.retry_after(), Some("1"));
    }

    #[test]
    fn details_are_escaped() {
        let problem = ApiError::Invalid("say \"ho\"\n".into()).problem();
        assert!(String::from_utf8(problem).expect("text").contains(r#""detail":"say \"ho\"\n""#));
    }
}
