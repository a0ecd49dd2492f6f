//! The step that finds a record: in the record cache, in the store, or nowhere.

use divan::black_box;

use crate::meter::{Meter, Step};
use crate::shard::{RECORDS, Shard, key};

pub(crate) const STEPS: &[Step] = &[
    Step::new("100 hot records", |meter| walk(meter, 64 << 20, 100, true)),
    Step::new("10,000 hot records", |meter| walk(meter, 64 << 20, 10_000, true)),
    Step::new("in the store", |meter| walk(meter, 1 << 10, RECORDS, true)),
    Step::new("absent", |meter| walk(meter, 64 << 20, RECORDS, false)),
];

fn walk(meter: Meter<'_, '_>, cache_bytes: usize, range: u32, there: bool) {
    let mut shard = Shard::new(cache_bytes);
    let sk = if there { "record" } else { "absent" };
    let keys: Vec<Vec<u8>> = (0..range).map(|n| key(n, sk)).collect();
    for key in &keys {
        assert_eq!(shard.get(key).is_some(), there);
    }
    // Neighbours in the store are not asked for one after the other.
    let mut at = 0;
    meter.each(1, || {
        at = (at + 7_919) % keys.len();
        shard.get(black_box(&keys[at]))
    });
}
