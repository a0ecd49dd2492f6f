//! One load from several threads, for servers that take more than one CPU of load.
//!
//! a plan and its CPUs → as many plans, each with its share of connections and rate → a generator on each CPU → histograms
//! added up, one report. The generators start within milliseconds of each other; the warm-up covers that.
//!
//! **Not here**: writes beside, time lines and restarts, which one generator is enough for.

use std::thread;

use super::LoadPlan;
use super::measure::{Calm, Measured};
use super::report::Undisturbed;
use super::witness::Witnesses;
use crate::cpu;
use crate::error::{BenchError, Result};
use crate::summary::Summary;

/// Measures from all CPUs of the plan.
pub(super) fn run(plan: &LoadPlan, witnesses: &Witnesses) -> Result<Measured> {
    let plans = shares(plan)?;
    let parts: Vec<Measured> = thread::scope(|scope| {
        let generators: Vec<_> = plans
            .iter()
            .map(|plan| {
                scope.spawn(move || {
                    cpu::pin_to(&plan.cpus)?;
                    plan.measure_alone(witnesses)
                })
            })
            .collect();
        generators
            .into_iter()
            .map(|generator| generator.join().expect("a generator does not panic"))
            .collect::<Result<_>>()
    })?;
    Ok(join(plan, parts))
}

/// The part of each CPU.
fn shares(plan: &LoadPlan) -> Result<Vec<LoadPlan>> {
    let count = plan.cpus.len();
    let needs_one = plan.writes.is_some() || plan.pieces.is_some() || plan.reopen;
    if needs_one && count > 1 {
        return Err(BenchError::Usage("writes beside and time lines take a single CPU of load".into()));
    }
    if plan.connections < count {
        return Err(BenchError::Usage(format!("{count} CPUs of load need at least as many connections")));
    }
    let share = |(i, &cpu): (usize, &usize)| LoadPlan {
        cpus: vec![cpu],
        connections: plan.connections / count + usize::from(i < plan.connections % count),
        rate: plan.rate.map(|rate| rate / count as f64),
        seed: plan.seed.wrapping_add(i as u64),
        ..plan.clone()
    };
    Ok(plan.cpus.iter().enumerate().map(share).collect())
}

/// Adds up what the generators found.
fn join(plan: &LoadPlan, parts: Vec<Measured>) -> Measured {
    let mut parts = parts.into_iter();
    let mut all = parts.next().expect("a plan has at least one CPU");
    for part in parts {
        let (report, other) = (&mut all.report, part.report);
        report.requests += other.requests;
        report.rate += other.rate;
        report.records_rate += other.records_rate;
        report.unsent += other.unsent;
        // The busiest of them is what may have been the limit.
        report.generator_cpu = report.generator_cpu.max(other.generator_cpu);
        report.normal_priority |= other.normal_priority;
        for (sum, histogram) in [
            (&mut all.latency, &part.latency),
            (&mut all.service, &part.service),
            (&mut all.delay, &part.delay),
        ] {
            *sum += histogram;
        }
        all.calm = match (all.calm.take(), part.calm) {
            (Some(sum), Some(calm)) => Some(sum.plus(&calm)),
            _ => None,
        };
    }
    let report = &mut all.report;
    (report.connections, report.offered_rate) = (plan.connections, plan.rate);
    report.latency = Summary::of(&all.latency);
    report.service = plan.rate.map(|_| Summary::of(&all.service));
    report.delay = plan.rate.map(|_| Summary::of(&all.delay));
    report.undisturbed = all.calm.as_ref().map(Undisturbed::of);
    all
}

impl Calm {
    fn plus(mut self, other: &Self) -> Self {
        self.latency += &other.latency;
        self.service += &other.service;
        self.delay += &other.delay;
        self.windows += other.windows;
        self.undisturbed += other.undisturbed;
        self
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::client::Target;
    use crate::dataset::{DataSet, Shape};
    use crate::request::Workload;

    fn plan(cpus: &[usize], connections: usize) -> LoadPlan {
        let set = DataSet::new(10, 64, Shape::Single).expect("valid");
        let mut plan = LoadPlan::closed(Target::local(1), Workload::Get(1), set, Duration::from_secs(1));
        (plan.cpus, plan.connections, plan.rate) = (cpus.to_vec(), connections, Some(900.0));
        plan
    }

    #[test]
    fn every_cpu_has_its_share() {
        let plans = shares(&plan(&[3, 5, 7], 64)).expect("valid");
        let found: Vec<_> = plans.iter().map(|plan| (plan.cpus[0], plan.connections, plan.seed)).collect();
        assert_eq!(found, [(3, 22, 1), (5, 21, 2), (7, 21, 3)]);
        assert!(plans.iter().all(|plan| plan.rate == Some(300.0)));
        assert!(shares(&plan(&[1, 2, 3], 2)).is_err());
        let mut beside = plan(&[1, 2], 64);
        beside.writes = Some(1.0);
        assert!(shares(&beside).is_err());
        beside.cpus.pop();
        assert_eq!(shares(&beside).expect("one is enough").len(), 1);
    }
}
