//! Replays every corpus, and a bounded number of mutations of each of its files: the same ones
//! every time, so that a failure is a failure tomorrow too. `KEELSON_FUZZ_ROUNDS` sets a larger
//! number.

use std::path::Path;

use keelson_fuzz::TARGETS;

/// Mutations of each file in a plain `cargo test`.
const ROUNDS_DEFAULT: u64 = 200;

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the soak asks for more rounds through it"
)]
fn corpora_and_their_neighbours_hold() {
    let rounds = std::env::var("KEELSON_FUZZ_ROUNDS").ok();
    let rounds = rounds
        .and_then(|text| text.parse().ok())
        .unwrap_or(ROUNDS_DEFAULT);
    let mut runs = 0_u64;
    for (name, target) in TARGETS {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(name);
        let files = std::fs::read_dir(&corpus).expect(name).flatten();
        let mut paths: Vec<_> = files.map(|file| file.path()).collect();
        paths.sort_unstable();
        assert!(!paths.is_empty(), "no corpus for {name}");
        let read = |path| std::fs::read(path).expect("a readable corpus");
        let seeds: Vec<Vec<u8>> = paths.into_iter().map(read).collect();
        for seed in &seeds {
            target(seed);
            let mut dice = Dice(seed.len() as u64 + 1);
            for _ in 0..rounds {
                target(&mutate(seed, &seeds, &mut dice));
                runs += 1;
            }
        }
    }
    println!("{runs} mutated inputs held");
}

/// A small generator: the standard library has none, and this one need only be the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides.max(1) as u64) as usize
    }
}

/// `seeds` are all files of the corpus: parts of them come in.
fn mutate(seed: &[u8], seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(bytes.len() + 1);
        let value = dice.roll(256) as u8;
        match dice.roll(6) {
            0 => bytes.insert(at, value),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.truncate(at),
            3 => bytes.extend_from_within(at..),
            4 => {
                let other = &seeds[dice.roll(seeds.len())];
                let from = dice.roll(other.len());
                let part = &other[from..];
                let part = &part[..dice.roll(part.len().min(64) + 1)];
                drop(bytes.splice(at..at, part.iter().copied()));
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
        }
        bytes.truncate(64 << 10);
    }
    bytes
}
