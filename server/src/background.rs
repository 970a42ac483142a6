//! Work that nobody waits for.

/// Makes the calling thread, and those that it starts, come after threads that answer: where all cores are busy it gets about a fifth
/// of one that it shares. So a search does not wait for a slice of time that a build has. Linux alone has priorities of threads.
pub fn comes_last() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        // Who has less already keeps it.
        let set = getpriority_process(None).and_then(|now| setpriority_process(None, now.max(NICE)));
        if let Err(error) = set {
            tracing::debug!(%error, "background work has the priority of everything else");
        }
    }
}

#[cfg(target_os = "linux")]
const NICE: i32 = 6;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_threads() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        let started = || std::thread::spawn(move || (nice(), std::thread::spawn(nice).join().unwrap())).join().unwrap();
        let background = std::thread::spawn(move || {
            comes_last();
            (nice(), std::thread::spawn(nice).join().unwrap())
        });
        assert_eq!(background.join().unwrap(), (before.max(NICE), before.max(NICE)));
        assert_eq!((nice(), started()), (before, (before, before)));
    }
}
