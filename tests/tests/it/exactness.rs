//! The same events give the same values and ledgers over every path, and through everything that can happen to a group of
//! processes that share a store: against the oracle, bit by bit.

mod group;
mod load;
mod losses;
mod many;
mod members;
mod paths;
mod storms;
mod topics;

use rand::SeedableRng;
use rand::rngs::StdRng;

/// Random numbers from a seed that is printed.
fn random(what: &str) -> StdRng {
    let seed = std::env::var("TIDEMILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("{what}: TIDEMILL_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// A size that the environment may change.
fn size(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|size| size.parse().ok()).unwrap_or(default)
}
