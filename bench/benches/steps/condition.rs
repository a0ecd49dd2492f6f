//! The steps of an `if`: compiling it, and evaluating it on a record.

use divan::black_box;
use firescroll_shard::{Condition, Stored, encode_record};

use crate::input::{data, meta, pk};
use crate::meter::{Meter, Step};

/// A comparison of a field, which is answered without JMESPath's interpreter.
const USUAL: &str = "data.id == '00000001'";
/// A function: the whole interpreter.
const GENERAL: &str = "length(data.id) == `8` && starts_with(pk, 'bench')";

pub(crate) const STEPS: &[Step] = &[
    Step::new("compile", compile),
    Step::new("evaluate a usual one", |meter| evaluate(meter, USUAL)),
    Step::new("evaluate a general one", |meter| evaluate(meter, GENERAL)),
];

fn compile(meter: Meter<'_, '_>) {
    assert!(Condition::compile(USUAL).is_ok());
    meter.each(1, || Condition::compile(black_box(USUAL)));
}

fn evaluate(meter: Meter<'_, '_>, text: &str) {
    let bytes = encode_record(&meta(), data(1).as_bytes());
    let stored = Stored::decode(&bytes).expect("a record");
    let condition = Condition::compile(text).expect("a condition");
    let pk = pk(1);
    assert_eq!(condition.evaluate(&pk, "record", Some(&stored)).ok(), Some(true));
    meter.each(1, || condition.evaluate(black_box(&pk), "record", Some(black_box(&stored))));
}
