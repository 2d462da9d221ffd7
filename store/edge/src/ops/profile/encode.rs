//! The samples of the profiler as a profile of pprof: texts, functions and frames stand once.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pprof::{Frames, Symbol};

use super::messages::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};

/// The one mapping: this program.
const MAPPING: u64 = 1;

/// Numbers things in their order, from 0.
struct Numbers<T>(HashMap<T, usize>);

impl<T> Default for Numbers<T> {
    fn default() -> Numbers<T> {
        Numbers(HashMap::new())
    }
}

impl<T: Eq + Hash> Numbers<T> {
    fn of(&mut self, thing: T) -> usize {
        let next = self.0.len();
        *self.0.entry(thing).or_insert(next)
    }

    fn in_order(self) -> Vec<T> {
        let mut all: Vec<_> = self.0.into_iter().collect();
        all.sort_unstable_by_key(|(_, number)| *number);
        all.into_iter().map(|(thing, _)| thing).collect()
    }
}

/// A profile in the making.
pub(super) struct ProfileBuilder {
    period: Duration,
    texts: Numbers<String>,
    /// Name, name before it was demangled, and file, each a text.
    functions: Numbers<[i64; 3]>,
    locations: Numbers<Vec<Line>>,
    samples: Vec<Sample>,
}

impl ProfileBuilder {
    /// Samples come after each `period` of the processor's time.
    pub(super) fn new(period: Duration) -> ProfileBuilder {
        let mut texts = Numbers::default();
        texts.of(String::new());
        ProfileBuilder {
            period,
            texts,
            functions: Numbers::default(),
            locations: Numbers::default(),
            samples: Vec::new(),
        }
    }

    fn text(&mut self, text: impl Into<String>) -> i64 {
        signed(self.texts.of(text.into()))
    }

    /// Adds a stack that was found so often.
    pub(super) fn add(&mut self, stack: &Frames, count: i64) {
        let frames = stack.frames.iter().map(|frame| self.location(frame));
        let location_id = frames.collect();
        let label = Label {
            key: self.text("thread"),
            text: self.text(stack.thread_name_or_id()),
        };
        self.samples.push(Sample {
            location_id,
            value: vec![count, count.saturating_mul(nanos(self.period))],
            label: vec![label],
        });
    }

    fn location(&mut self, frame: &[Symbol]) -> u64 {
        let lines = frame.iter().map(|symbol| self.line(symbol)).collect();
        id(self.locations.of(lines))
    }

    fn line(&mut self, symbol: &Symbol) -> Line {
        let function = [
            self.text(symbol.name()),
            self.text(symbol.sys_name()),
            self.text(symbol.filename()),
        ];
        Line {
            function_id: id(self.functions.of(function)),
            line: symbol.lineno().into(),
        }
    }

    /// The profile of that time.
    pub(super) fn finish(mut self, began: SystemTime, lasted: Duration) -> Profile {
        let nanoseconds = self.text("nanoseconds");
        let samples = ValueType {
            kind: self.text("samples"),
            unit: self.text("count"),
        };
        let cpu = ValueType {
            kind: self.text("cpu"),
            unit: nanoseconds,
        };
        let mapping = Mapping {
            id: MAPPING,
            filename: self.text("keelson"),
            has_functions: true,
        };
        let functions = self.functions.in_order().into_iter().enumerate();
        let locations = self.locations.in_order().into_iter().enumerate();
        Profile {
            sample_type: vec![samples, cpu],
            sample: self.samples,
            mapping: vec![mapping],
            location: locations
                .map(|(number, line)| Location {
                    id: id(number),
                    mapping_id: MAPPING,
                    line,
                })
                .collect(),
            function: functions
                .map(|(number, [name, system_name, filename])| Function {
                    id: id(number),
                    name,
                    system_name,
                    filename,
                })
                .collect(),
            string_table: self.texts.in_order(),
            time_nanos: nanos(began.duration_since(UNIX_EPOCH).unwrap_or_default()),
            duration_nanos: nanos(lasted),
            period_type: Some(cpu),
            period: nanos(self.period),
        }
    }
}

/// Ids begin with 1.
fn id(number: usize) -> u64 {
    number as u64 + 1
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
