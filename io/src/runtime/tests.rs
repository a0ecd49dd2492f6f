//! Cores against each other, against plain sockets, and on a crowded machine.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_lite::future::poll_fn;
use futures_lite::future::{poll_once, yield_now};

use super::*;

/// A guard against hanging, far above anything that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

fn on_a_core<F, T>(main: impl FnOnce() -> F + Send + 'static) -> T
where
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let core = Runtime::new().expect("descriptors").start(Placement::Unbound, "test", main);
    core.expect("a core").join().expect("a clean end")
}

#[test]
fn other_threads_wake_tasks_of_a_core_that_sleeps() {
    let (ask, asked) = flume::unbounded::<u32>();
    let (answer, answered) = flume::unbounded::<u32>();
    let core = Runtime::new().expect("descriptors").start(Placement::Unbound, "test", move || async move {
        while let Ok(number) = asked.recv_async().await {
            answer.send(number + 1).expect("the test listens");
        }
    });
    // Each trip is an own sleep and wake-up, or a race between the two.
    for number in 0..20_000 {
        ask.send(number).expect("the core runs");
        assert_eq!(answered.recv_timeout(PATIENCE), Ok(number + 1));
    }
    drop(ask);
    core.expect("a core").join().expect("a clean end");
}

/// As when one sync of the log answers many writers.
#[test]
fn between_two_looks_other_threads_wake_but_a_few() {
    const TASKS: usize = 10 * doorbell::WAKES + 1;
    let woken_at = on_a_core(|| async {
        let (word, waiting): (Vec<_>, Vec<_>) =
            (0..TASKS).map(|_| futures_channel::oneshot::channel()).unzip();
        let looks = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = waiting
            .into_iter()
            .map(|waiting: futures_channel::oneshot::Receiver<()>| {
                let looks = Rc::clone(&looks);
                spawn(async move {
                    waiting.await.expect("word is left");
                    looks.borrow_mut().push(reactor::current().looks());
                })
            })
            .collect();
        // The core does not look before all is left.
        let leave = move || word.into_iter().for_each(|word| word.send(()).expect("somebody waits"));
        std::thread::spawn(leave).join().expect("no panic");
        for task in tasks {
            task.await;
        }
        looks.take()
    });
    assert_eq!(woken_at.len(), TASKS);
    for few in woken_at.chunk_by(|one, next| one == next) {
        assert!(few.len() <= doorbell::WAKES, "{woken_at:?}");
    }
}

/// What one core leaves for another: a number in shared memory, and a ring.
#[test]
fn no_ring_between_cores_is_lost() {
    const TRIPS: u64 = 20_000;
    let cores: Vec<Runtime> = (0..2).map(|_| Runtime::new().expect("descriptors")).collect();
    let bells: Vec<_> = cores.iter().map(Runtime::doorbell).collect();
    let ball = Arc::new(AtomicU64::new(0));
    let running: Vec<_> = (0..)
        .zip(cores)
        .map(|(me, core)| {
            let (ball, other) = (Arc::clone(&ball), Arc::clone(&bells[1 - me]));
            let play = move || async move {
                let mut news = News::subscribe();
                loop {
                    // Even numbers are the first core's to raise.
                    let seen = ball.load(Ordering::Acquire);
                    if seen >= TRIPS {
                        return;
                    }
                    if seen % 2 == me as u64 {
                        ball.store(seen + 1, Ordering::Release);
                        other.ring();
                    } else {
                        news.next().await;
                    }
                }
            };
            core.start(Placement::Unbound, &format!("player-{me}"), play).expect("a core")
        })
        .collect();
    running.into_iter().for_each(|core| core.join().expect("a clean end"));
    assert_eq!(ball.load(Ordering::Relaxed), TRIPS);
}

#[test]
fn what_a_core_is_made_for_begins_before_its_first_look() {
    // A look with nothing to do would be a sleep.
    assert_eq!(on_a_core(|| async { reactor::current().looks() }), 0);
}

#[test]
fn timers_fire_in_order_and_those_dropped_do_not() {
    let order = on_a_core(|| async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = [30_u64, 10, 20]
            .into_iter()
            .map(|ms| {
                let order = Rc::clone(&order);
                spawn(async move {
                    sleep(Duration::from_millis(ms)).await;
                    order.borrow_mut().push(ms);
                })
            })
            .collect();
        let mut dropped = Timer::new(Duration::from_millis(5));
        assert!(poll_once(&mut dropped).await.is_none());
        drop(dropped);
        for task in tasks {
            task.await;
        }
        order.take()
    });
    assert_eq!(order, [10, 20, 30]);
}

#[test]
fn a_look_comes_although_others_never_rest() {
    let looks = on_a_core(|| async {
        let over = Rc::new(Cell::new(false));
        let busy = Rc::clone(&over);
        let restless = spawn(async move {
            while !busy.get() {
                yield_now().await;
            }
        });
        for _ in 0..100 {
            look().await;
        }
        // A timer is seen too.
        sleep(Duration::from_millis(3)).await;
        over.set(true);
        restless.await;
        100
    });
    assert_eq!(looks, 100);
}

#[test]
fn what_a_task_wakes_runs_before_the_core_sleeps() {
    // Each link of the chain is woken by the one before; none of them has anything else that could end a sleep.
    on_a_core(|| async {
        const LINKS: usize = 1_000;
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..LINKS).map(|_| flume::bounded::<()>(1)).unzip();
        let mut senders = senders.into_iter();
        let first = senders.next().expect("links");
        let mut tasks = Vec::new();
        for (receiver, next) in receivers.into_iter().zip(senders.map(Some).chain([None])) {
            tasks.push(spawn(async move {
                receiver.recv_async().await.expect("the link before");
                if let Some(next) = next {
                    next.send(()).expect("room");
                }
            }));
        }
        first.send(()).expect("room");
        for task in tasks {
            task.await;
        }
    });
}

#[test]
fn a_socket_reads_what_comes_writes_what_is_taken_and_sees_the_end() {
    const BYTES: usize = 4 << 20;
    let listener = StdListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("bound");
    let core = Runtime::new().expect("descriptors").start(Placement::Unbound, "test", move || async move {
        let listener = TcpListener::new(listener).expect("a listener");
        let mut stream = poll_fn(|cx| listener.poll_accept(cx)).await.expect("a connection");
        let (mut seen, mut buffer) = (0, vec![0; 10_000]);
        loop {
            let read = poll_fn(|cx| stream.poll_read(cx, &mut buffer)).await.expect("bytes");
            if read == 0 {
                break;
            }
            let mut sent = 0;
            while sent < read {
                sent += poll_fn(|cx| stream.poll_write(cx, &buffer[sent..read])).await.expect("room");
            }
            seen += read;
        }
        stream.shutdown().expect("open");
        seen
    });
    let mut client = std::net::TcpStream::connect(address).expect("connect");
    client.set_read_timeout(Some(PATIENCE)).expect("a guard");
    let mut reader = client.try_clone().expect("a second handle");
    let echoed = std::thread::spawn(move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).map(|_| all)
    });
    let sent: Vec<u8> = (0..BYTES).map(|n| ((n * 31) >> 3) as u8).collect();
    client.write_all(&sent).expect("the core reads");
    client.shutdown(std::net::Shutdown::Write).expect("open");
    let all = echoed.join().expect("no panic").expect("the core writes");
    assert!(all == sent, "{} bytes came back", all.len());
    assert_eq!(core.expect("a core").join().expect("a clean end"), BYTES);
}

#[test]
fn a_core_that_polls_busily_finds_news_timers_and_its_end() {
    let (ask, asked) = flume::unbounded::<()>();
    let runtime = Runtime::new().expect("descriptors").busy_poll(Duration::from_millis(1));
    let core = runtime.start(Placement::Unbound, "test", move || async move {
        asked.recv_async().await.expect("the test asks");
        sleep(Duration::from_millis(3)).await;
    });
    ask.send(()).expect("the core runs");
    core.expect("a core").join().expect("a clean end");
}

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
    for _ in 0..5 {
        let runtimes: Vec<Runtime> = (0..CORES).map(|_| Runtime::new().expect("descriptors")).collect();
        let bells: Vec<_> = runtimes.iter().map(Runtime::doorbell).collect();
        let arrived = Arc::new(AtomicU64::new(0));
        let (joined, joins) = flume::unbounded();
        let cores: Vec<_> = runtimes
            .into_iter()
            .map(|runtime| {
                let (arrived, bells, joined) = (Arc::clone(&arrived), bells.clone(), joined.clone());
                let waits = move || async move {
                    arrived.fetch_add(1, Ordering::AcqRel);
                    bells.iter().for_each(|bell| bell.ring());
                    while arrived.load(Ordering::Acquire) < CORES as u64 {
                        look().await;
                    }
                    joined.send(()).expect("the test waits");
                };
                runtime.start(Placement::Unbound, "core", waits).expect("a core")
            })
            .collect();
        for _ in &cores {
            joins.recv_timeout(PATIENCE).expect("every core finds all others");
        }
        cores.into_iter().for_each(|core| core.join().expect("a clean end"));
    }
    over.store(true, Ordering::Relaxed);
    crowd.into_iter().for_each(|thread| thread.join().expect("a clean end"));
}
