//! How right the generator's latencies are: it measures a server whose answers take a known time.
//!
//! A thread on the servers' CPU answers each request exactly D after it has received it, by spinning on the clock; the
//! generator measures it from the load's CPU, one connection, open loop, for one D after another. What its p50 grows by
//! between D = 0 and another D should be that D; the largest difference is the precision of everything it measures.
//!
//! **Invariants**: every wait is bounded. **Runs on**: both threads at the highest ordinary priority, because it is the
//! generator that is tried and not the machine. **Not here**: HTTP beyond one request after another with a length.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use crate::client::Target;
use crate::cpu;
use crate::dataset::{DataSet, Shape};
use crate::error::{BenchError, Result, Tried};
use crate::interrupt;
use crate::load::{LoadPlan, LoadReport};
use crate::request::Workload;
use crate::summary::Summary;

/// What the precision should be at least, in µs.
pub(crate) const WANTED_US: f64 = 10.0;
/// The times that answers take, in µs; the first is what the others are compared with.
const DELAYS_US: [u64; 7] = [0, 20, 50, 100, 200, 500, 1000];
/// Requests a second: the longest delay takes half of the time between two.
const RATE: f64 = 500.0;
/// Undisturbed values that make a median.
const ENOUGH: u64 = 100;
/// Beyond its measured time a step may take so long.
const PATIENCE: Duration = Duration::from_secs(5);
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
const LONGEST: usize = 4096;

/// What `calibrate` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct CalibrateOptions {
    /// CPU of the server.
    #[arg(long, default_value_t = 0)]
    server_cpu: usize,
    /// CPU of the generator.
    #[arg(long, default_value_t = 1)]
    load_cpu: usize,
    /// Measured time of each step, in seconds.
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
}

fn seconds(text: &str) -> std::result::Result<f64, String> {
    let seconds = text.parse().map_err(|error| format!("{error}"))?;
    if (0.1..=60.0).contains(&seconds) { Ok(seconds) } else { Err("from 0.1 to 60 is accepted".into()) }
}

/// `firescroll-bench calibrate`.
pub(crate) fn command(options: &CalibrateOptions) -> Result<()> {
    cpu::pin(options.load_cpu)?;
    let each = Duration::from_secs_f64(options.seconds);
    print!("{}", run(options.server_cpu, each)?);
    Ok(())
}

/// What was measured of each delay.
#[derive(Debug)]
pub(crate) struct Calibration {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    delay_us: f64,
    p50_us: f64,
    p99_us: f64,
}

/// Measures every delay for so long, from the calling thread's CPUs.
pub(crate) fn run(server_cpu: usize, each: Duration) -> Result<Calibration> {
    let steps = DELAYS_US.map(|micros| step(server_cpu, Duration::from_micros(micros), each));
    Ok(Calibration { steps: steps.into_iter().collect::<Result<_>>()? })
}

fn step(server_cpu: usize, delay: Duration, each: Duration) -> Result<Step> {
    let listener = TcpListener::bind("127.0.0.1:0").tried(|| "bind a free port".into())?;
    let port = listener.local_addr().tried(|| "read the bound address".into())?.port();
    let set = DataSet::new(10, 64, Shape::Single)?;
    let mut plan = LoadPlan::closed(Target::local(port), Workload::Constant, set, each);
    (plan.connections, plan.warmup, plan.rate) = (1, Duration::ZERO, Some(RATE));
    let deadline = Instant::now() + each + PATIENCE;
    let report = thread::scope(|scope| {
        let server = scope.spawn(|| {
            cpu::pin(server_cpu)?;
            cpu::raise_priority();
            respond(&listener, delay, deadline)
        });
        let report = plan.run();
        let served = server.join().expect("the responder does not panic");
        // Whatever went wrong, the generator saw it first.
        report.and_then(|report| served.map(|()| report))
    })?;
    let LoadReport { latency, undisturbed, .. } = report;
    let calm = undisturbed.map(|calm| calm.latency).filter(|calm| calm.count >= ENOUGH);
    let Summary { p50_us, p99_us, .. } = calm.unwrap_or(latency);
    Ok(Step { delay_us: delay.as_secs_f64() * 1e6, p50_us, p99_us })
}

/// Serves one connection until it is closed.
fn respond(listener: &TcpListener, delay: Duration, deadline: Instant) -> Result<()> {
    listener.set_nonblocking(true).tried(|| "make a socket non-blocking".into())?;
    let (mut stream, _) = spin(deadline, || listener.accept())?;
    stream.set_nonblocking(true).tried(|| "make a socket non-blocking".into())?;
    stream.set_nodelay(true).tried(|| "set TCP_NODELAY".into())?;
    let mut request = Vec::with_capacity(LONGEST);
    while receive(&mut stream, &mut request, deadline)? {
        let received = Instant::now();
        while received.elapsed() < delay {
            std::hint::spin_loop();
        }
        stream.write_all(ANSWER).tried(|| "send an answer".into())?;
    }
    Ok(())
}

/// Reads one request; whether there was one before the connection ended.
fn receive(stream: &mut TcpStream, request: &mut Vec<u8>, deadline: Instant) -> Result<bool> {
    request.clear();
    let mut buffer = [0; LONGEST];
    loop {
        let length = match spin(deadline, || stream.read(&mut buffer)) {
            // The generator is done, whichever way its socket says so.
            Ok(0) | Err(BenchError::Io { .. }) => return Ok(false),
            Ok(length) => length,
            Err(error) => return Err(error),
        };
        request.extend_from_slice(&buffer[..length]);
        if is_whole(request)? {
            return Ok(true);
        }
    }
}

/// Whether head and body are there.
fn is_whole(request: &[u8]) -> Result<bool> {
    let wrong = || BenchError::Usage("the generator sent no request with a length".into());
    let text = std::str::from_utf8(request).map_err(|_| wrong())?;
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return if request.len() < LONGEST { Ok(false) } else { Err(wrong()) };
    };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    Ok(body.len() >= length.ok_or_else(wrong)?)
}

/// Tries again and again, so that nothing has to be woken.
fn spin<T>(deadline: Instant, mut attempt: impl FnMut() -> io::Result<T>) -> Result<T> {
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                interrupt::check()?;
                if Instant::now() >= deadline {
                    return Err(BenchError::Patience("the generator neither asks nor ends".into()));
                }
                std::hint::spin_loop();
            }
            done => return done.tried(|| "serve the generator".into()),
        }
    }
}

impl Calibration {
    /// The measured growth of each step's p50 against the first, and its error, in µs.
    fn errors(&self) -> impl Iterator<Item = (&Step, f64, f64)> {
        let first = self.steps.first().map_or(0.0, |first| first.p50_us);
        self.steps.iter().map(move |step| {
            let grown = step.p50_us - first;
            (step, grown, grown - step.delay_us)
        })
    }

    /// The largest error of a p50, in µs.
    pub(crate) fn precision_us(&self) -> f64 {
        self.errors().map(|(_, _, error)| error.abs()).fold(0.0, f64::max)
    }
}

impl fmt::Display for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| answers take µs | p50 above the first µs | error µs | p99 above p50 µs |")?;
        writeln!(f, "| ---: | ---: | ---: | ---: |")?;
        for (step, grown, error) in self.errors() {
            let spread = step.p99_us - step.p50_us;
            writeln!(f, "| {:.0} | {grown:.1} | {error:.1} | {spread:.1} |", step.delay_us)?;
        }
        let precision = self.precision_us();
        let verdict = if precision <= WANTED_US { "met" } else { "missed" };
        writeln!(f, "\nFigures are right to within {precision:.1} µs; wanted ≤ {WANTED_US:.0} µs: {verdict}.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_error_is_the_precision() {
        let step = |delay_us, p50_us| Step { delay_us, p50_us, p99_us: p50_us + 5.0 };
        let steps = vec![step(0.0, 30.0), step(20.0, 51.0), step(100.0, 118.0), step(1000.0, 1041.0)];
        let calibration = Calibration { steps };
        assert!((calibration.precision_us() - 12.0).abs() < 1e-9);
        let text = calibration.to_string();
        assert!(text.contains("| 100 | 88.0 | -12.0 | 5.0 |\n"), "{text}");
        assert!(text.ends_with("right to within 12.0 µs; wanted ≤ 10 µs: missed.\n"), "{text}");
    }

    #[test]
    fn an_answer_takes_its_time_and_not_less() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let delay = Duration::from_millis(3);
        let deadline = Instant::now() + Duration::from_secs(60);
        let server = thread::spawn(move || respond(&listener, delay, deadline));
        let mut stream = TcpStream::connect(address).expect("connect");
        // In two pieces: the time counts from the second.
        stream.write_all(b"POST / HTTP/1.1\r\ncontent-length: 4\r\n").expect("send");
        let before = Instant::now();
        stream.write_all(b"\r\nbody").expect("send");
        let mut answer = vec![0; ANSWER.len()];
        stream.read_exact(&mut answer).expect("answer");
        assert!(before.elapsed() >= delay);
        assert_eq!(answer, ANSWER);
        drop(stream);
        assert!(server.join().expect("no panic").is_ok());
    }

    #[test]
    fn a_generator_that_never_comes_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let gone = respond(&listener, Duration::ZERO, Instant::now());
        assert!(matches!(gone, Err(BenchError::Patience(_))));
    }
}
