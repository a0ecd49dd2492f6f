//! One record written or deleted: the request that `put` and `delete` share.

use std::io::Write as _;

use serde::Serialize;
use serde_json::value::RawValue;

use super::failure::Failure;
use super::server::Server;

/// One mutation, as the API takes it.
#[derive(Debug, Serialize)]
pub(super) struct Mutation<'a> {
    pub(super) pk: &'a str,
    pub(super) sk: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<&'a RawValue>,
    #[serde(rename = "if", skip_serializing_if = "Option::is_none")]
    pub(super) condition: Option<&'a str>,
}

impl Mutation<'_> {
    fn body(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Request<'a> {
            records: [&'a Mutation<'a>; 1],
        }
        serde_json::to_vec(&Request { records: [self] }).expect("strings and raw JSON can be written as JSON")
    }

    /// Sends the mutation to `path` and prints the session token of the acknowledgement.
    pub(super) fn send(&self, server: &Server, path: &str) -> Result<(), Failure> {
        if let Some(token) = server.mutate(path, &self.body())? {
            writeln!(std::io::stdout(), "{token}").map_err(Failure::Output)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::data;

    #[test]
    fn the_body_holds_the_data_as_typed() {
        let data = data::object(r#"{"z":1.10,"a":12345678901234567890}"#).expect("an object");
        let put = Mutation { pk: "p\"k", sk: "s", data: Some(data), condition: Some("data.a == 'b'") };
        assert_eq!(
            String::from_utf8(put.body()).expect("text"),
            r#"{"records":[{"pk":"p\"k","sk":"s","data":{"z":1.10,"a":12345678901234567890},"if":"data.a == 'b'"}]}"#
        );
        let delete = Mutation { pk: "p", sk: "s", data: None, condition: None };
        assert_eq!(String::from_utf8(delete.body()).expect("text"), r#"{"records":[{"pk":"p","sk":"s"}]}"#);
    }
}
