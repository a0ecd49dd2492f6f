//! Deadlines and verdicts by a clock that the test moves.

use super::super::frames::PREFACE;
use super::*;

const DEADLINES: Deadlines = Deadlines { head: 100, idle: 1000, write: 300, last_call: 50 };

fn after(clock: &Clock, ms: u64) {
    clock.advance(clock.now() + Duration::from_millis(ms));
}

#[test]
fn dripping_bytes_do_not_extend_a_head() {
    let clock = Clock::new();
    let state = ConnectionState::new(clock.clone());
    after(&clock, 90);
    state.received(b"G");
    after(&clock, 60);
    state.received(b"E");
    assert_eq!(state.judge(&DEADLINES), None);
    after(&clock, 40);
    state.received(b"T");
    assert_eq!(state.judge(&DEADLINES), Some(Verdict::HeadLate));
}

#[test]
fn a_request_in_flight_has_no_deadline_and_rest_after_it_has() {
    let clock = Clock::new();
    let state = ConnectionState::new(clock.clone());
    state.received(b"GET / HTTP/1.1\r\n\r\n");
    let first = state.begin();
    let second = state.begin();
    after(&clock, 100_000);
    assert_eq!(state.judge(&DEADLINES), None);
    drop(first);
    assert_eq!(state.phase(), Phase::Busy);
    drop(second);
    assert_eq!(state.phase(), Phase::Idle);
    after(&clock, 999);
    assert_eq!(state.judge(&DEADLINES), Some(Verdict::Park), "resting, and not late yet");
    after(&clock, 1);
    assert_eq!(state.judge(&DEADLINES), Some(Verdict::IdleLate));
}

#[test]
fn a_connection_at_rest_is_parked_once() {
    let clock = Clock::new();
    let state = ConnectionState::new(clock.clone());
    let patient = Deadlines { idle: 1_000_000, ..DEADLINES };
    drop(state.begin());
    after(&clock, PARK_MS - 1);
    assert_eq!(state.judge(&patient), None);
    after(&clock, 1);
    assert_eq!(state.judge(&patient), Some(Verdict::Park));
    state.pass(Verdict::Park);
    assert!(state.may_park());
    assert_eq!(state.verdict(), Verdict::Run);
    state.set_parked(true);
    assert_eq!(state.judge(&patient), None);
    let request = state.begin();
    state.pass(Verdict::Park);
    assert!(!state.may_park(), "a request came first");
    drop(request);
    state.blocked();
    assert!(!state.may_park(), "its response is not out");
}

#[test]
fn a_drip_reader_stalls_and_a_slow_reader_does_not() {
    let clock = Clock::new();
    let state = ConnectionState::new(clock.clone());
    let _request = state.begin();
    state.blocked();
    for _ in 0..3 {
        after(&clock, 100);
        state.moved(1000);
        state.blocked();
    }
    assert_eq!(state.judge(&DEADLINES), Some(Verdict::WriteStalled));
    state.moved(64 << 10);
    assert_eq!(state.judge(&DEADLINES), None);
    state.blocked();
    after(&clock, 299);
    assert_eq!(state.judge(&DEADLINES), None);
    state.drained();
    after(&clock, 300);
    assert_eq!(state.judge(&DEADLINES), None);
}

#[test]
fn http2_pings_neither_extend_rest_nor_count_as_a_head() {
    let clock = Clock::new();
    let state = ConnectionState::new(clock.clone());
    state.received(&PREFACE[..]);
    state.turn_http2(&PREFACE[..]);
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    for _ in 0..5 {
        after(&clock, 150);
        state.received(&ping);
        assert_eq!(state.judge(&DEADLINES), None);
    }
    after(&clock, 250);
    assert_eq!(state.judge(&DEADLINES), Some(Verdict::IdleLate));
}

#[test]
fn a_half_sent_http2_frame_is_a_late_head() {
    let clock = Clock::new();
    let state = ConnectionState::new(clock.clone());
    state.turn_http2(&PREFACE[..]);
    state.received(&[0, 0]);
    after(&clock, 99);
    assert_eq!(state.judge(&DEADLINES), None);
    after(&clock, 1);
    assert_eq!(state.judge(&DEADLINES), Some(Verdict::HeadLate));
}

#[test]
fn an_http2_body_without_flow_control_stalls_but_a_waiting_producer_does_not() {
    let clock = Clock::new();
    let state = ConnectionState::new(clock.clone());
    state.turn_http2(&PREFACE[..]);
    let mut stuck = state.begin();
    stuck.respond(&mut Response::new(()));
    let mut healthy = state.begin();
    healthy.respond(&mut Response::new(()));
    stuck.polled(false);
    after(&clock, 10_000);
    healthy.polled(true);
    assert_eq!(state.judge(&DEADLINES), None);
    stuck.polled(true);
    after(&clock, 300);
    healthy.polled(true);
    assert_eq!(state.judge(&DEADLINES), Some(Verdict::WriteStalled));
    drop(stuck);
    assert_eq!(state.judge(&DEADLINES), None);
}

#[test]
fn the_next_answer_is_the_last_and_silence_ends_it() {
    let clock = Clock::new();
    let goodbye = |request: &mut InFlight| {
        let mut response = Response::new(());
        request.respond(&mut response);
        response.headers().contains_key(CONNECTION)
    };
    let resting = ConnectionState::new(clock.clone());
    assert!(!goodbye(&mut resting.begin()), "nobody stops");
    after(&clock, 40);
    resting.stop();
    let silent = ConnectionState::new(clock.clone());
    silent.stop();
    after(&clock, 49);
    assert_eq!((resting.judge(&DEADLINES), silent.judge(&DEADLINES)), (None, None));
    assert_eq!(resting.verdict(), Verdict::Run, "it is not told yet");
    resting.received(b"GET / HTTP/1.1\r\n\r\n");
    let mut request = resting.begin();
    after(&clock, 1);
    assert_eq!(silent.judge(&DEADLINES), Some(Verdict::Stop));
    assert!(goodbye(&mut request));
    // Whoever is being answered is told at once, and HTTP/2 without that header.
    let busy = ConnectionState::new(clock.clone());
    let _request = busy.begin();
    busy.stop();
    let http2 = ConnectionState::new(clock);
    http2.turn_http2(&PREFACE[..]);
    http2.stop();
    assert_eq!((busy.verdict(), http2.verdict()), (Verdict::Stop, Verdict::Stop));
    assert!(!goodbye(&mut http2.begin()));
}

#[test]
fn a_stop_waits_less_for_clients_that_do_not_close() {
    let clock = Clock::new();
    let [usual, stopped, told] = [(); 3].map(|()| ConnectionState::new(clock.clone()));
    told.stop();
    for state in [&usual, &stopped, &told] {
        state.linger();
    }
    after(&clock, 900);
    assert!([&usual, &stopped, &told].iter().all(|state| state.judge(&DEADLINES).is_none()), "still sending");
    for state in [&usual, &stopped, &told] {
        state.part();
    }
    after(&clock, 50);
    assert_eq!(told.judge(&DEADLINES), Some(Verdict::Abort));
    assert_eq!((usual.judge(&DEADLINES), stopped.judge(&DEADLINES)), (None, None));
    stopped.stop();
    assert_eq!(stopped.judge(&DEADLINES), Some(Verdict::Abort));
    after(&clock, 50);
    assert_eq!(usual.judge(&DEADLINES), Some(Verdict::Abort));
}

#[test]
fn a_draining_connection_at_rest_goes_soon() {
    let clock = Clock::new();
    let state = ConnectionState::new(clock.clone());
    state.turn_http2(&PREFACE[..]);
    let slow = Deadlines { idle: 1_000_000, ..DEADLINES };
    state.pass(Verdict::Stop);
    after(&clock, LINGER_MS - 1);
    assert_eq!(state.judge(&slow), None);
    after(&clock, 1);
    assert_eq!(state.judge(&slow), Some(Verdict::Abort));
}
