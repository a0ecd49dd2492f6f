//! Takes `{"Records":[…]}` apart while it arrives.
//!
//! reader → one record at a time, as the bytes it was sent in → a closure. Only one record is in memory,
//! however long the answer is.
//!
//! **Invariants**: the text of a record is passed on unparsed. An answer that ends early is an error, never a
//! shorter answer.

use std::borrow::Cow;
use std::fmt;
use std::io::{BufReader, Read};

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::failure::Failure;

/// The members of a record that commands look at. `data` keeps its bytes.
#[derive(Deserialize)]
pub(crate) struct Record<'a> {
    /// The partition key.
    #[serde(rename = "Pk", borrow)]
    pub(crate) pk: Cow<'a, str>,
    /// The sort key.
    #[serde(rename = "Sk", borrow)]
    pub(crate) sk: Cow<'a, str>,
    /// The stored object, as sent.
    #[serde(rename = "Data", borrow)]
    pub(crate) data: &'a RawValue,
}

/// What went wrong while reading an answer.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The answer is cut off or malformed.
    Answer(serde_json::Error),
    /// The closure failed.
    Own(Failure),
}

/// Hands every record of the answer to `each`, as text, in order. Returns how many there were.
pub(crate) fn each_record(
    answer: impl Read,
    mut each: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<u64, Trouble> {
    let mut reader = serde_json::Deserializer::from_reader(BufReader::with_capacity(64 << 10, answer));
    let mut own = None;
    let seed = Answer { records: Records { each: &mut each, own: &mut own } };
    match seed.deserialize(&mut reader).and_then(|count| reader.end().map(|()| count)) {
        Ok(count) => Ok(count),
        Err(error) => Err(own.map_or(Trouble::Answer(error), Trouble::Own)),
    }
}

struct Records<'f, F> {
    each: &'f mut F,
    own: &'f mut Option<Failure>,
}

struct Answer<'f, F> {
    records: Records<'f, F>,
}

impl<'de, F: FnMut(&str) -> Result<(), Failure>> DeserializeSeed<'de> for Answer<'_, F> {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(&str) -> Result<(), Failure>> Visitor<'de> for Answer<'_, F> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the member Records")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<u64, A::Error> {
        let mut records = Some(self.records);
        let mut count = None;
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            if name == "Records" {
                let seed = records.take().ok_or_else(|| A::Error::duplicate_field("Records"))?;
                count = Some(map.next_value_seed(seed)?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        count.ok_or_else(|| A::Error::missing_field("Records"))
    }
}

impl<'de, F: FnMut(&str) -> Result<(), Failure>> DeserializeSeed<'de> for Records<'_, F> {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(&str) -> Result<(), Failure>> Visitor<'de> for Records<'_, F> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<u64, A::Error> {
        let mut count = 0;
        while let Some(record) = seq.next_element::<Box<RawValue>>()? {
            if let Err(failure) = (self.each)(record.get()) {
                *self.own = Some(failure);
                return Err(A::Error::custom("stopped"));
            }
            count += 1;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answer: &str) -> Result<Vec<String>, Trouble> {
        let mut seen = Vec::new();
        each_record(answer.as_bytes(), |record| {
            seen.push(record.to_owned());
            Ok(())
        })?;
        Ok(seen)
    }

    #[test]
    fn records_come_out_as_the_bytes_that_arrived() {
        let one = r#"{"Pk":"a","Sk":"b","Data":{"n":12345678901234567890,"f":1.10,"z":1,"a":"\u00e9"}}"#;
        let answer = format!(r#"{{"Unavailable":[3],"Records":[{one},{{"Pk":"c"}}]}}"#);
        assert_eq!(read(&answer).expect("a good answer"), [one, r#"{"Pk":"c"}"#]);
        let record: Record<'_> = serde_json::from_str(one).expect("a record");
        assert_eq!((&*record.pk, &*record.sk), ("a", "b"));
        assert_eq!(record.data.get(), r#"{"n":12345678901234567890,"f":1.10,"z":1,"a":"\u00e9"}"#);
    }

    #[test]
    fn an_answer_that_ends_early_or_is_no_answer_is_an_error() {
        for bad in [r#"{"Records":[{"Pk":"a"}"#, r#"{"Records":[{"Pk":"a"},"#, "{}", "[]", "", "ok"] {
            assert!(matches!(read(bad), Err(Trouble::Answer(_))), "{bad}");
        }
        assert!(matches!(read(r#"{"Records":[]}x"#), Err(Trouble::Answer(_))));
    }

    #[test]
    fn a_failure_of_the_closure_comes_back_as_itself() {
        let result = each_record(r#"{"Records":[{},{}]}"#.as_bytes(), |_| Err(Failure::Interrupted));
        assert!(matches!(result, Err(Trouble::Own(Failure::Interrupted))));
    }
}
