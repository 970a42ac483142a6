//! What the targets share: definitions that use everything, rows of edge values, a store that holds whatever it is given.
//!
//! A target is a function of bytes that must return: a panic, an assertion, an overflow, more than a second or more than the
//! memory limit is a find. `scripts/fuzz` builds and runs the targets; `examples/seeds.rs` writes the binary part of the corpus.

pub mod decoded;
pub mod definitions;
pub mod messages;
pub mod rows;
pub mod running;
pub mod stored;

/// Where temporary files cost no disk, if the system has such a place.
pub fn memory_folder() -> std::path::PathBuf {
    let memory = std::path::PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

/// Panics of other crates are passed over: they unwind up to where the server catches them.
pub fn watch_own_panics() {
    let find = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let file = panic.location().map_or("", |location| location.file());
        let foreign = file.contains("/registry/src/") || file.starts_with("/rustc/") || file.starts_with("library/");
        if !foreign {
            find(panic);
        }
    }));
}
