//! CPU lists as the kernel writes them: `0-3,6`.
//!
//! **Invariants**: what comes out is ascending, without duplicates and no longer than [`MOST_CPUS`].

use std::collections::BTreeSet;

/// The highest CPU number plus one that the kernel's affinity calls know about here.
pub(crate) const MOST_CPUS: usize = 1024;

/// Parses numbers and inclusive ranges, separated by commas; white space around them is allowed.
///
/// Errors say which piece is wrong and why, without naming the variable.
pub(crate) fn parse(text: &str) -> Result<Vec<usize>, String> {
    let mut cpus = BTreeSet::new();
    for piece in text.split(',').map(str::trim) {
        let (first, last) = match piece.split_once('-') {
            Some((first, last)) => (number(first, piece)?, number(last, piece)?),
            None => {
                let only = number(piece, piece)?;
                (only, only)
            }
        };
        if first > last {
            return Err(format!("{piece:?} runs backwards"));
        }
        for cpu in first..=last {
            if !cpus.insert(cpu) {
                return Err(format!("CPU {cpu} is listed twice"));
            }
        }
    }
    Ok(cpus.into_iter().collect())
}

fn number(text: &str, piece: &str) -> Result<usize, String> {
    let cpu: usize =
        text.trim().parse().map_err(|_| format!("{piece:?} is no CPU number and no range like 0-3"))?;
    if cpu >= MOST_CPUS {
        return Err(format!("CPU {cpu} is beyond {}", MOST_CPUS - 1));
    }
    Ok(cpu)
}

/// Prints ascending CPU numbers with runs as ranges.
pub(crate) fn print(cpus: &[usize]) -> String {
    let mut text = String::new();
    let mut rest = cpus;
    while let Some(&first) = rest.first() {
        let run = rest.iter().enumerate().take_while(|&(place, &cpu)| cpu == first + place).count();
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&first.to_string());
        if run > 1 {
            text.push_str(&format!("-{}", first + run - 1));
        }
        rest = &rest[run..];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ranges_come_out_ascending() {
        assert_eq!(parse("6, 0-3"), Ok(vec![0, 1, 2, 3, 6]));
        assert_eq!(parse("5"), Ok(vec![5]));
        assert_eq!(parse("2-2"), Ok(vec![2]));
    }

    #[test]
    fn what_is_no_list_is_refused_with_the_piece() {
        assert_eq!(parse("0,x"), Err("\"x\" is no CPU number and no range like 0-3".to_owned()));
        assert_eq!(parse("1,"), Err("\"\" is no CPU number and no range like 0-3".to_owned()));
        assert_eq!(parse("3-1"), Err("\"3-1\" runs backwards".to_owned()));
        assert_eq!(parse("0-2,1"), Err("CPU 1 is listed twice".to_owned()));
        assert_eq!(parse("0-99999999999"), Err("CPU 99999999999 is beyond 1023".to_owned()));
    }

    #[test]
    fn printing_joins_runs() {
        assert_eq!(print(&[0, 1, 2, 3, 6, 8, 9]), "0-3,6,8-9");
        assert_eq!(print(&[]), "");
    }
}
