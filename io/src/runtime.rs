//! The io_uring runtime of a serving core, set up in one place: the node's cores, the bench's constant responder and the
//! tests all run on it.
//!
//! glommio 0.9.0 can park while tasks are runnable: it reads "preempted before anything ran" as "nothing to run". The
//! preemption timer is what preempts so, when the thread loses its CPU right after the timer was set. While an
//! executor starts nothing else is armed that could end such a sleep, and whoever waits for it waits for ever: with
//! a timer of one millisecond, and eight executors starting on two CPUs, one start in a hundred ended so. Hence
//! it is so long here that it never fires. Nothing here needs it: long work waits for a timer of its own between
//! two slices, and what arrives on sockets preempts by itself. (What is left of the fault, once an executor runs, is the
//! business of [`crate::http::start_tick`].)
//!
//! **Runs on**: whichever thread starts an executor.

use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};

/// See the module. A thread does not lose its CPU for this long while its machine is of any use.
const PREEMPTION: Duration = Duration::from_secs(1);

/// Memory that an executor registers for direct I/O on files, of which there is none here: the least that is taken.
const IO_MEMORY: usize = 64 << 10;

/// The builder of a serving core's executor; its thread bears `name`.
pub fn executor(placement: Placement, name: &str) -> LocalExecutorBuilder {
    LocalExecutorBuilder::new(placement).name(name).io_memory(IO_MEMORY).preempt_timer(PREEMPTION)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use glommio::channels::channel_mesh::MeshBuilder;

    use super::*;

    /// The cores of a node wait for each other when they start; one that sleeps then stops them all.
    #[test]
    fn cores_that_wait_for_each_other_start_on_a_crowded_machine() {
        const CORES: usize = 8;
        let over = Arc::new(AtomicBool::new(false));
        let crowd = [(); 4].map(|()| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        });
        for _ in 0..15 {
            let mesh = MeshBuilder::<u8, _>::full(CORES, 1);
            let (joined, joins) = flume::unbounded();
            let core = |number| {
                let (mesh, joined) = (mesh.clone(), joined.clone());
                let core = executor(Placement::Unbound, &format!("core-{number}"));
                let waits = move || async move {
                    let places = mesh.join().await.expect("all come");
                    joined.send(places.0.peer_id()).expect("the test waits");
                };
                core.spawn(waits).expect("an executor")
            };
            let cores: Vec<_> = (0..CORES).map(core).collect();
            for _ in &cores {
                joins.recv_timeout(Duration::from_secs(30)).expect("every core finds all others");
            }
            cores.into_iter().for_each(|core| core.join().expect("a clean end"));
        }
        over.store(true, Ordering::Relaxed);
        crowd.into_iter().for_each(|thread| thread.join().expect("a clean end"));
    }
}
