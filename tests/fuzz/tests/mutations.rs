//! Every target, on its seeds and on mutations of them.
//!
//! `FUZZ_RUNS` sets the number of mutations for each fast target (default 3000; a tenth of it for the others). A failure
//! prints the smallest input that shows it.

use std::path::Path;

use fuzz::{TARGETS, Target};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

const RUNS: u32 = 3000;
/// Parts of documents that parsers treat specially.
const TOKENS: &[&[u8]] = &[
    b"\0",
    b"\r\n",
    b"\r\n\r\n",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[[",
    b"]",
    b",",
    b":",
    b"null",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"9223372036854775807",
    b"65536",
    b"0",
    b"%00",
    b"%ff",
    b"..",
    b"/",
    b"#",
    b"&",
    b"=",
    b"@",
    b"\xff",
    b"\xe2\x80\xae",
    b"\x1b[2J",
];

/// One change of an input. Positions are relative, so that a change fits any length.
#[derive(Debug, Clone)]
enum Mutation {
    SetByte(Index, u8),
    FlipBit(Index, u8),
    Insert(Index, Vec<u8>),
    InsertToken(Index, Index),
    Remove(Index, Index),
    Repeat(Index, Index, u8),
    Truncate(Index),
    /// Replaces the end by the end of another seed.
    Splice(Index, Index, Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::SetByte(at, byte)),
        (at(), 0..8_u8).prop_map(|(at, bit)| Mutation::FlipBit(at, bit)),
        (at(), prop::collection::vec(any::<u8>(), 1..8)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (at(), at()).prop_map(|(at, token)| Mutation::InsertToken(at, token)),
        (at(), at()).prop_map(|(from, to)| Mutation::Remove(from, to)),
        (at(), at(), 1..64_u8).prop_map(|(from, to, times)| Mutation::Repeat(from, to, times)),
        at().prop_map(Mutation::Truncate),
        (at(), at(), at()).prop_map(|(at, seed, from)| Mutation::Splice(at, seed, from)),
    ]
}

impl Mutation {
    fn apply(&self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let position = |index: &Index| index.index(input.len() + 1);
        let range = |from: &Index, to: &Index| {
            let (from, to) = (position(from), position(to));
            from.min(to)..from.max(to)
        };
        match self {
            Self::SetByte(at, byte) => {
                let at = position(at);
                input.splice(at..(at + 1).min(input.len()), [*byte]);
            }
            Self::FlipBit(at, bit) => {
                let at = position(at);
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            Self::Insert(at, bytes) => {
                let at = position(at);
                input.splice(at..at, bytes.iter().copied());
            }
            Self::InsertToken(at, token) => {
                let at = position(at);
                input.splice(at..at, token.get(TOKENS).iter().copied());
            }
            Self::Remove(from, to) => {
                let range = range(from, to);
                input.drain(range);
            }
            Self::Repeat(from, to, times) => {
                let range = range(from, to);
                // At most a few hundred kilobytes, however often inputs are repeated.
                let part = input[range.start..range.end.min(range.start + 256)].repeat(usize::from(*times));
                input.splice(range.end..range.end, part);
            }
            Self::Truncate(at) => {
                let at = position(at);
                input.truncate(at);
            }
            Self::Splice(at, seed, from) => {
                let at = position(at);
                input.truncate(at);
                let seed = seed.get(seeds);
                input.extend_from_slice(&seed[from.index(seed.len() + 1)..]);
            }
        }
    }
}

fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target.name);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable directory").path()).collect();
    // The same seed has the same number on every machine.
    paths.sort();
    let seeds: Vec<_> = paths.iter().map(|path| std::fs::read(path).expect("a readable file")).collect();
    assert!(!seeds.is_empty(), "no seeds in {}", dir.display());
    seeds
}

fn fuzz(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let seeds = seeds(target);
    for seed in &seeds {
        (target.run)(seed);
    }
    let runs = std::env::var("FUZZ_RUNS").map_or(RUNS, |runs| runs.parse().expect("FUZZ_RUNS is a number"));
    let cases = if target.fast { runs } else { runs.div_ceil(10) };
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
    let input = (any::<Index>(), prop::collection::vec(mutation(), 1..6));
    let result = TestRunner::new(config).run(&input, |(seed, mutations)| {
        let mut input = seed.get(&seeds).clone();
        for mutation in &mutations {
            mutation.apply(&mut input, &seeds);
        }
        let outcome = std::panic::catch_unwind(|| (target.run)(&input));
        outcome.map_err(|_| TestCaseError::fail(format!("{:?}", String::from_utf8_lossy(&input))))
    });
    if let Err(error) = result {
        panic!("{name}: {error}");
    }
}

macro_rules! targets {
    ($($name:ident)+) => {
        $(#[test]
        fn $name() {
            fuzz(stringify!($name));
        })+

        /// So that none is forgotten here.
        #[test]
        fn every_target_is_run() {
            let run = [$(stringify!($name)),+];
            assert_eq!(TARGETS.iter().map(|target| target.name).collect::<Vec<_>>(), run);
        }
    };
}

targets! {
    order_record environment_spec connection_string project_tags route_table progress_line desk_action desk_answer shared_requests
    ticket user_data method_call cards_request http_request websocket_bytes remote_answer
}
