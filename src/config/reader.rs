//! Turns settings from text into values, and collects what is wrong with them instead of stopping at the first.
//!
//! text of one setting → a method named after its kind → the value, or a [`Problem`] noted and the default
//! handed out so that the remaining settings are still looked at.
//!
//! **Not here**: rules that tie one setting to another (`validate`).

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::problem::Problem;

/// The longest wait that may be configured: an hour in milliseconds.
const LONGEST_MS: u64 = 3_600_000;
/// The longest name: Kafka allows 249 bytes for a topic, which adds a prefix and a suffix to the namespace.
const LONGEST_NAME: usize = 200;

/// Collects problems while settings are read.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    pub(crate) problems: Vec<Problem>,
}

/// The text of a setting, or `None` where it is unset or empty.
pub(crate) fn given(text: Option<&String>) -> Option<&str> {
    text.map(|text| text.trim()).filter(|text| !text.is_empty())
}

impl Reader {
    /// Notes that `variable` is wrong.
    pub(crate) fn refuse(&mut self, variable: &'static str, value: Option<&str>, reason: impl Into<String>) {
        let value = value.map(str::to_owned);
        self.problems.push(Problem { variable, value, reason: reason.into() });
    }

    /// A whole number within `accepted`; `None` when unset.
    pub(crate) fn optional_number(
        &mut self,
        variable: &'static str,
        text: Option<&String>,
        accepted: RangeInclusive<u64>,
        unit: &str,
    ) -> Option<u64> {
        let text = given(text)?;
        match text.parse::<u64>() {
            Ok(number) if accepted.contains(&number) => Some(number),
            _ => {
                let reason = format!("accepted: {} to {} {unit}", accepted.start(), accepted.end());
                self.refuse(variable, Some(text), reason);
                None
            }
        }
    }

    /// A whole number within `accepted`, or `default` when unset.
    pub(crate) fn number(
        &mut self,
        variable: &'static str,
        text: Option<&String>,
        default: u64,
        accepted: RangeInclusive<u64>,
        unit: &str,
    ) -> u64 {
        self.optional_number(variable, text, accepted, unit).unwrap_or(default)
    }

    /// A size in memory, counted in `unit`; see [`Reader::number`].
    pub(crate) fn size(
        &mut self,
        variable: &'static str,
        text: Option<&String>,
        default: usize,
        accepted: RangeInclusive<usize>,
        unit: &str,
    ) -> usize {
        let accepted = *accepted.start() as u64..=*accepted.end() as u64;
        let number = self.number(variable, text, default as u64, accepted, unit);
        usize::try_from(number).unwrap_or(default)
    }

    /// A wait between one millisecond and an hour.
    pub(crate) fn milliseconds(
        &mut self,
        variable: &'static str,
        text: Option<&String>,
        default: u64,
    ) -> Duration {
        Duration::from_millis(self.number(variable, text, default, 1..=LONGEST_MS, "milliseconds"))
    }

    /// A wait in whole seconds within `accepted`.
    pub(crate) fn seconds(
        &mut self,
        variable: &'static str,
        text: Option<&String>,
        default: u64,
        accepted: RangeInclusive<u64>,
    ) -> Duration {
        Duration::from_secs(self.number(variable, text, default, accepted, "seconds"))
    }

    /// A switch: 1, 0, true or false.
    pub(crate) fn switch(&mut self, variable: &'static str, text: Option<&String>, default: bool) -> bool {
        let Some(text) = given(text) else { return default };
        if text == "1" || text.eq_ignore_ascii_case("true") {
            true
        } else if text == "0" || text.eq_ignore_ascii_case("false") {
            false
        } else {
            self.refuse(variable, Some(text), "accepted: 1, 0, true or false");
            default
        }
    }

    /// A port; 0 lets the kernel choose.
    pub(crate) fn port(&mut self, variable: &'static str, text: Option<&String>, default: u16) -> u16 {
        let accepted = 0..=u64::from(u16::MAX);
        let port = self.number(variable, text, u64::from(default), accepted, "(a port; 0 takes a free one)");
        u16::try_from(port).unwrap_or(default)
    }

    /// An address to listen on.
    pub(crate) fn ip(&mut self, variable: &'static str, text: Option<&String>, default: IpAddr) -> IpAddr {
        let Some(text) = given(text) else { return default };
        text.parse().unwrap_or_else(|_| {
            let reason = "accepted: an IP address like 0.0.0.0, 127.0.0.1 or ::, without port and host name";
            self.refuse(variable, Some(text), reason);
            default
        })
    }

    /// A name that may become part of a topic, a group or a file.
    pub(crate) fn name(&mut self, variable: &'static str, text: Option<&String>, default: &str) -> String {
        let name = given(text).unwrap_or(default);
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(legal) {
            let reason = format!("accepted: 1 to {LONGEST_NAME} of the letters A-Z and a-z, digits, . _ -");
            self.refuse(variable, Some(name), reason);
        }
        name.to_owned()
    }

    /// Several `host:port`, separated by commas; whether any is given.
    pub(crate) fn endpoints(&mut self, variable: &'static str, text: Option<&String>) -> bool {
        let Some(text) = given(text) else { return false };
        for endpoint in text.split(',').map(str::trim) {
            if !is_endpoint(endpoint) {
                let reason = format!("{endpoint:?} is no address; accepted: host:port, separated by commas");
                self.refuse(variable, Some(text), reason);
                break;
            }
        }
        true
    }

    /// A host with or without a port.
    pub(crate) fn host(&mut self, variable: &'static str, text: Option<&String>) {
        let Some(text) = given(text) else { return };
        if !is_host(text) && !is_endpoint(text) && text.parse::<IpAddr>().is_err() {
            self.refuse(variable, Some(text), "accepted: a host name or IP address, with or without :port");
        }
    }

    /// A web address.
    pub(crate) fn url(&mut self, variable: &'static str, text: Option<&String>) {
        let Some(text) = given(text) else { return };
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        if rest.is_none_or(|rest| rest.is_empty() || rest.starts_with('/') || rest.contains(' ')) {
            self.refuse(variable, Some(text), "accepted: an address that begins with http:// or https://");
        }
    }
}

fn is_endpoint(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_is_good = bracketed.map_or_else(|| is_host(host), |v6| v6.parse::<std::net::Ipv6Addr>().is_ok());
    host_is_good && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_host(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !text.is_empty() && text.len() <= 253 && text.bytes().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_told_from_other_text() {
        for good in ["a:1", "kafka-1.example.com:9092", "10.0.0.1:9092", "[::1]:9092"] {
            assert!(is_endpoint(good), "{good}");
        }
        for bad in ["", "a", "a:", "a:0", "a:65536", ":9092", "::1", "[::1]", "a b:1", "[x]:1"] {
            assert!(!is_endpoint(bad), "{bad}");
        }
    }

    #[test]
    fn a_wrong_value_is_noted_and_replaced_by_the_default() {
        let mut reader = Reader::default();
        assert_eq!(reader.number("X", Some(&"7x".to_owned()), 5, 1..=9, "things"), 5);
        assert_eq!(reader.number("Y", Some(&"  ".to_owned()), 5, 1..=9, "things"), 5);
        assert_eq!(reader.problems.len(), 1);
        assert_eq!(reader.problems[0].to_string(), "X (--x) is \"7x\": accepted: 1 to 9 things");
    }
}
