//! What changed since an earlier build of ours.
//!
//! Both builds take turns in every round, and in every other round the order is reversed. Each
//! figure is compared within its round, so that a slow minute is slow for both, and the median of
//! the rounds' ratios counts. Its confidence interval comes from order statistics of the rounds and
//! assumes no distribution of the noise. The true median lies between the k-th smallest and the
//! k-th largest of n ratios, except with the probability that n tosses of a coin show heads, or
//! tails, fewer than k times. A build is slower if that interval lies beyond 1 and the median
//! beyond the tolerance.

use anyhow::{Result, bail, ensure};

use crate::measure::Measure;
use crate::spread::{Spread, misses};
use crate::table::Table;

/// With fewer rounds the confidence interval of a cell is too wide for a verdict.
pub const ROUNDS_MIN: usize = 8;

/// How often the interval of all cells together may miss the truth.
const MISS_ALL: f64 = 0.05;

/// The same of any of the cells' intervals.
const MISS_CELLS: f64 = 0.1;

/// The share of a build's requests that may fail beyond the earlier build's share.
const ERRORS_MAX: f64 = 0.001;

/// One cell of this build over the same one of the earlier build; a ratio above 1 is worse.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    what: String,
    /// Time per request, the reciprocal of the rate, of each round.
    time: Vec<f64>,
    /// Server CPU per request, of each round.
    cpu: Vec<f64>,
    fails_more: bool,
}

impl Change {
    /// Compares a cell that both builds should have measured in each of the rounds.
    ///
    /// # Errors
    /// One has not, or nothing succeeded in a round.
    pub fn new(
        what: String,
        new: Option<&Measure>,
        old: Option<&Measure>,
        rounds: usize,
    ) -> Result<Change> {
        let (Some(new), Some(old)) = (new, old) else {
            bail!("{what}: there is no measurement of both builds");
        };
        let share = |one: &Measure| one.tally.errors as f64 / one.requests.max(1) as f64;
        let change = Change {
            fails_more: share(old) + ERRORS_MAX < share(new),
            time: ratios(&old.rates, &new.rates),
            cpu: ratios(&new.cpu_micros, &old.cpu_micros),
            what,
        };
        for (figure, ratios) in [("rate", &change.time), ("server CPU", &change.cpu)] {
            ensure!(
                ratios.len() == rounds,
                "{}: {} of {rounds} rounds have a {figure} of both builds",
                change.what,
                ratios.len()
            );
        }
        Ok(change)
    }
}

/// By round; without those in which one has nothing.
fn ratios(above: &[f64], below: &[f64]) -> Vec<f64> {
    let both = above.iter().zip(below);
    let ratios = both.map(|(above, below)| above / below);
    ratios
        .filter(|ratio| ratio.is_finite() && 0.0 < *ratio)
        .collect()
}

/// Whether a run of that many rounds can have a verdict.
///
/// # Errors
/// It cannot.
pub fn check_rounds(rounds: usize) -> Result<()> {
    ensure!(
        ROUNDS_MIN <= rounds && rounds.is_multiple_of(2),
        "--baseline needs an even number of --rounds, {ROUNDS_MIN} or more: each build goes first \
         in half of them, and fewer cannot tell a change from noise"
    );
    Ok(())
}

/// All cells, and their common interval.
#[derive(Debug)]
pub struct Verdict {
    tolerance: f64,
    cells: Vec<Cell>,
    time: Spread,
    cpu: Spread,
    /// How often chance makes a cell worse in a run of equal builds, at most.
    chance: f64,
}

#[derive(Debug)]
struct Cell {
    what: String,
    time: Spread,
    cpu: Spread,
    fails_more: bool,
}

impl Verdict {
    /// Judges cells that all have the same number of rounds.
    ///
    /// # Errors
    /// There are no cells, or too few rounds.
    pub fn of(changes: Vec<Change>, tolerance: f64) -> Result<Verdict> {
        let Some(first) = changes.first() else {
            bail!("nothing was measured for both builds");
        };
        let rounds = first.time.len();
        check_rounds(rounds)?;
        let tests = 2 * changes.len();
        let together = |figure: fn(&Change) -> &[f64]| {
            let logs = |round: usize| changes.iter().map(move |one| figure(one)[round].ln());
            let mean = |round| (logs(round).sum::<f64>() / changes.len() as f64).exp();
            Spread::of((0..rounds).map(mean).collect(), MISS_ALL)
        };
        let (time, cpu) = (together(|one| &one.time), together(|one| &one.cpu));
        let miss = MISS_CELLS / tests as f64;
        let cells = changes.into_iter().map(|change| Cell {
            what: change.what,
            time: Spread::of(change.time, miss),
            cpu: Spread::of(change.cpu, miss),
            fails_more: change.fails_more,
        });
        Ok(Verdict {
            tolerance,
            cells: cells.collect(),
            time,
            cpu,
            // Half of what an interval misses is on the side of slower.
            chance: (tests as f64 * misses(rounds, miss) / 2.0).min(1.0),
        })
    }

    fn is_worse(&self, spread: Spread) -> bool {
        1.0 < spread.low && 1.0 + self.tolerance < spread.median
    }

    /// What is worse about a cell.
    fn faults(&self, cell: &Cell) -> String {
        let faults = [
            (self.is_worse(cell.time), "rate"),
            (self.is_worse(cell.cpu), "CPU"),
            (cell.fails_more, "errors"),
        ];
        let faults = faults.iter().filter(|(is_worse, _)| *is_worse);
        let faults: Vec<&str> = faults.map(|(_, fault)| *fault).collect();
        faults.join(", ")
    }

    /// The table, and how far it can be trusted.
    pub fn markdown(&self) -> String {
        let columns = [
            "this build / the earlier one",
            "req/s",
            "server CPU/req",
            "worse",
        ];
        let mut table = Table::new(1, &columns);
        for cell in &self.cells {
            let figures = [cell.time.inverse().to_string(), cell.cpu.to_string()];
            let faults = std::iter::once(self.faults(cell));
            table.row(&[&cell.what], figures.into_iter().chain(faults));
        }
        format!(
            "{}\nMedians of the rounds, and between which ratios the true ones lie. All cells: \
             req/s {}, server CPU/req {}.\n{}A cell is worse if all of its interval is and its \
             median by more than {:.1} %; of equal builds chance finds one such cell in {:.1} % \
             of runs at most.\n",
            table.finish(),
            self.time.inverse(),
            self.cpu,
            self.doubt(),
            100.0 * self.tolerance,
            100.0 * self.chance,
        )
    }

    /// A change that is tolerated no more and that this run could not have found.
    fn doubt(&self) -> String {
        let noise = self.time.noise().max(self.cpu.noise());
        match self.tolerance < noise {
            false => String::new(),
            true => format!(
                "**The noise of all cells together, {:.1} %, is larger than the tolerance: more \
                 rounds, or a quieter machine.**\n",
                100.0 * noise
            ),
        }
    }

    /// The outcome.
    ///
    /// # Errors
    /// This build is slower, beyond tolerance and noise; or more of its requests failed.
    pub fn outcome(&self) -> Result<()> {
        let mut worse = Vec::new();
        if self.is_worse(self.time) || self.is_worse(self.cpu) {
            let (rate, cpu) = (self.time.inverse(), self.cpu);
            worse.push(format!("all cells: req/s {rate}, server CPU/req {cpu}"));
        }
        for cell in &self.cells {
            let faults = self.faults(cell);
            if !faults.is_empty() {
                worse.push(format!("{}: {faults}", cell.what));
            }
        }
        ensure!(
            worse.is_empty(),
            "worse than the earlier build: {}",
            worse.join("; ")
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests;
