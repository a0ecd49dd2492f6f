//! Which CPU each part of a run has.
//!
//! the machine's cores, each a list of the CPUs that are one core → [`Places`]. What is compared sits on cores of its own as
//! long as there are enough: two CPUs that are one core slow each other down, which would look like the server's doing.
//!
//! **Not here**: pinning anything (`cpu`, `starter`).

use std::{fmt, fs};

use crate::cpu;
use crate::error::{BenchError, Result};

/// CPUs that it takes to have shards and load on several of them.
const SEVERAL: usize = 4;

/// The CPUs of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    /// Of the server that is measured: a node's first shard, a yardstick.
    pub(super) server: usize,
    /// Of the load.
    pub(super) load: usize,
    /// Of what a node does in the background; it shares the server's if there is none.
    pub(super) background: Option<usize>,
    /// In lines of several shards: theirs, one after the other.
    pub(super) shards: Vec<usize>,
    /// In lines of several shards: those of the load.
    pub(super) loads: Vec<usize>,
}

/// What a command line asks for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted {
    pub(super) server: Option<usize>,
    pub(super) load: Option<usize>,
    pub(super) background: Option<usize>,
}

impl Places {
    /// On the CPUs that the calling thread may use.
    pub(super) fn find(wanted: Wanted) -> Result<Self> {
        Self::on(&cores(&cpu::allowed()?), wanted)
    }

    /// On these cores.
    fn on(cores: &[Vec<usize>], wanted: Wanted) -> Result<Self> {
        let all = dealt(cores);
        for cpu in [wanted.server, wanted.load, wanted.background].into_iter().flatten() {
            if !all.contains(&cpu) {
                let mut all = all;
                all.sort_unstable();
                return Err(BenchError::Usage(format!("CPU {cpu} is not among this process's: {all:?}")));
            }
        }
        let taken = [wanted.server, wanted.load, wanted.background];
        let mut free = all.iter().copied().filter(|cpu| !taken.contains(&Some(*cpu)));
        let few = || {
            BenchError::Usage(format!(
                "the suite needs a CPU for the servers and another for the load, and may use {}",
                all.len()
            ))
        };
        let server = wanted.server.or_else(|| free.next()).ok_or_else(few)?;
        let load = wanted.load.or_else(|| free.next()).ok_or_else(few)?;
        let background = wanted.background.or_else(|| free.next());
        // Halves of the cores; CPUs that are one core serve together or load together.
        let is_several = all.len() >= SEVERAL;
        let (shards, loads) = if is_several && cores.len() >= 2 {
            let (shards, loads) = cores.split_at(cores.len() / 2);
            (dealt(shards), dealt(loads))
        } else if is_several {
            let (shards, loads) = all.split_at(all.len() / 2);
            (shards.to_vec(), loads.to_vec())
        } else {
            (vec![server], vec![load])
        };
        Ok(Self { server, load, background, shards, loads })
    }

    /// Whether there are CPUs for several shards and for their load.
    pub(super) fn is_several(&self) -> bool {
        self.shards.len() >= 2
    }
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Servers sit on CPU {}, the load on CPU {}; a node's background ", self.server, self.load)?;
        match self.background {
            Some(cpu) => write!(f, "is on CPU {cpu}.")?,
            None => f.write_str("shares the servers' CPU.")?,
        }
        if self.is_several() {
            write!(
                f,
                " Several shards sit on CPUs {:?}, in this order, their load on {:?}.",
                self.shards, self.loads
            )?;
        }
        Ok(())
    }
}

/// One CPU of each core, then another of each.
fn dealt(cores: &[Vec<usize>]) -> Vec<usize> {
    let most = cores.iter().map(Vec::len).max().unwrap_or(0);
    (0..most).flat_map(|nth| cores.iter().filter_map(move |core| core.get(nth).copied())).collect()
}

/// The CPUs by cores, as the kernel tells them; each is a core where it tells nothing.
fn cores(cpus: &[usize]) -> Vec<Vec<usize>> {
    let core = |cpu: usize| {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        fs::read_to_string(path).ok()
    };
    let mut cores: Vec<(Option<String>, Vec<usize>)> = Vec::new();
    for &cpu in cpus {
        let name = core(cpu);
        match cores.iter_mut().find(|(known, _)| name.is_some() && *known == name) {
            Some((_, together)) => together.push(cpu),
            None => cores.push((name, vec![cpu])),
        }
    }
    cores.into_iter().map(|(_, together)| together).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn single(count: usize) -> Vec<Vec<usize>> {
        (0..count).map(|cpu| vec![cpu]).collect()
    }

    fn on(cores: &[Vec<usize>]) -> Places {
        Places::on(cores, Wanted::default()).expect("enough CPUs")
    }

    #[test]
    fn two_cpus_are_server_and_load() {
        let two = Places { server: 0, load: 1, background: None, shards: vec![0], loads: vec![1] };
        assert_eq!(on(&single(2)), two);
        // Also as one core: there is nothing better.
        assert_eq!(on(&[vec![0, 1]]), two);
        assert!(!two.is_several());
        assert!(two.to_string().ends_with("background shares the servers' CPU."));
    }

    #[test]
    fn a_third_cpu_is_for_the_background() {
        assert_eq!(on(&single(3)).background, Some(2));
    }

    #[test]
    fn cores_are_shared_last() {
        let pairs: Vec<Vec<usize>> = (0..4).map(|core| vec![2 * core, 2 * core + 1]).collect();
        let places = on(&pairs);
        assert_eq!((places.server, places.load, places.background), (0, 2, Some(4)));
        assert_eq!((places.shards, places.loads), (vec![0, 2, 1, 3], vec![4, 6, 5, 7]));
        assert!(on(&pairs).to_string().ends_with(
            "is on CPU 4. Several shards sit on CPUs [0, 2, 1, 3], in this order, their load on [4, 6, 5, 7]."
        ));
        let far: Vec<Vec<usize>> = (0..4).map(|core| vec![core, core + 4]).collect();
        assert_eq!((on(&far).shards, on(&far).loads), (vec![0, 1, 4, 5], vec![2, 3, 6, 7]));
        assert_eq!((on(&single(4)).shards, on(&single(4)).loads), (vec![0, 1], vec![2, 3]));
    }

    #[test]
    fn what_is_asked_for_is_given() {
        let wanted = Wanted { server: Some(2), load: None, background: Some(0) };
        let places = Places::on(&single(4), wanted).expect("enough CPUs");
        assert_eq!((places.server, places.load, places.background), (2, 1, Some(0)));
        let error = Places::on(&single(2), Wanted { load: Some(7), ..Wanted::default() });
        assert!(error.expect_err("there is none").to_string().contains("CPU 7 is not among"));
        assert!(Places::on(&single(1), Wanted::default()).is_err());
    }

    #[test]
    fn the_machine_has_cores() {
        let allowed = cpu::allowed().expect("own CPUs");
        let mut all = cores(&allowed).concat();
        all.sort_unstable();
        assert_eq!(all, allowed);
    }
}
