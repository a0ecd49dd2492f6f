//! Conditions from clients, against data of any kind.
//!
//! Input: the condition, a line break, the data. Checked: compiling and evaluating never panic, hang or overflow the
//! stack, also against bytes that no writer of ours would have stored; the answer is the same the second time.
#![no_main]

use firescroll_shard::{Condition, Meta, Offset, Stored};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |&byte| byte == b'\n');
    let (Some(text), data) = (parts.next(), parts.next().unwrap_or(b"{}")) else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(condition) = Condition::compile(text) else { return };
    let meta = Meta { created_ms: 1_767_323_045_678, updated_ms: 1_767_323_046_000, offset: Offset(7) };
    let stored = Stored { meta, data };
    for row in [None, Some(&stored)] {
        let first = condition.evaluate("example.com", "A", row).ok();
        let second = condition.evaluate("example.com", "A", row).ok();
        assert_eq!(first, second, "equal inputs, equal answers");
    }
});
