//! A step, and the two ways of measuring it: by the clock (divan), or done so many times where valgrind counts.
//!
//! A step's function sets up, asserts that the step does its work, and hands it to [`Meter::each`], which repeats it.
//!
//! **Invariants**: all that is counted happens inside [`once`], and each step enters [`counted`] once; valgrind is told
//! both names by `scripts/instructions`. So the printed lines and valgrind's dumps are in the same order. What other
//! threads do meanwhile is not counted.

use std::cell::RefCell;
use std::fmt;
use std::hint::black_box;

use divan::Bencher;
use divan::counter::ItemsCount;

/// One step of a request, by the name that it has in reports.
pub(crate) struct Step {
    name: &'static str,
    measure: fn(Meter<'_, '_>),
}

impl Step {
    pub(crate) const fn new(name: &'static str, measure: fn(Meter<'_, '_>)) -> Self {
        Self { name, measure }
    }

    /// Sets the step up and measures it.
    pub(crate) fn run(&self, meter: Meter<'_, '_>) {
        (self.measure)(meter);
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// How a step is measured.
pub(crate) enum Meter<'a, 'b> {
    /// By the clock. What a step returns is dropped outside of the time.
    Time(Bencher<'a, 'b>),
    /// For a count of its instructions, until `items` are through. What a step returns is dropped within.
    Count { name: &'a str, items: u32 },
}

impl Meter<'_, '_> {
    /// Repeats `step`, which handles so many keys or records each time.
    pub(crate) fn each<T>(self, items: u32, mut step: impl FnMut() -> T) {
        self.each_of(items, (), |()| (), |()| step());
    }

    /// Repeats a `step` of something that other threads work on too. A count lets it get `ready` before each time, so
    /// that it does not depend on how far they have come. By the clock they would be what is measured.
    pub(crate) fn each_of<S, T>(
        self,
        items: u32,
        mut state: S,
        ready: impl Fn(&mut S),
        mut step: impl FnMut(&mut S) -> T,
    ) {
        match self {
            Self::Time(bencher) => bencher.counter(ItemsCount::new(items)).bench_local(|| step(&mut state)),
            Self::Count { name, items: wanted } => {
                let times = wanted.div_ceil(items);
                let state = RefCell::new(state);
                let mut ready = || ready(&mut state.borrow_mut());
                let mut step = || {
                    black_box(step(&mut state.borrow_mut()));
                };
                // Buffers have grown and lazy things are there before the count.
                for _ in 0..times.div_ceil(4) {
                    ready();
                    step();
                }
                counted(times, &mut ready, &mut step);
                println!("{name}\t{times}\t{items}");
            }
        }
    }
}

/// One function for all steps, and never inlined, as valgrind is told its name: where it ends, the count of a step is
/// complete.
#[inline(never)]
fn counted(times: u32, ready: &mut dyn FnMut(), step: &mut dyn FnMut()) {
    for _ in 0..times {
        ready();
        once(step);
    }
}

/// Never inlined, for the same reason: instructions are counted in here.
#[inline(never)]
fn once(step: &mut dyn FnMut()) {
    step();
}
