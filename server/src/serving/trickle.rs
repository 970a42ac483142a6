//! The trickle: kept answers are recomputed from the event log all the time, each about once, so that a difference is noticed
//! without anybody asking. It uses a share of one core: after each walk over the log it pauses for as long as that takes.
//!
//! Answers of other definitions than those of now are left out: they were right by their own. How far it has come is kept
//! beside the answers, so that a restart goes on there. It holds nothing of the log: what is gone is gone.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidemill_features::read::Status;
use tidemill_features::time::rfc3339;
use tidemill_features::value::{DataType, Value};
use tidemill_proto::v1;

use super::explain::{Explained, Explanation};
use super::sample::{Place, next};
use super::training::Job;
use super::verify::{Difference, Verified, recompute};
use super::wire::NO_TIME;
use crate::components::Server;
use crate::failure::Failure;
use crate::limits::{TRICKLE_ANSWERS, TRICKLE_PAUSE, TRICKLE_PAUSE_MAX, TRICKLE_RETRY, VERIFY_EXPLAINED_MAX};

/// How far the verification in the background is, since the server started.
#[derive(Debug, Default)]
pub struct Verification {
    answers: u64,
    differences: u64,
    outdated: u64,
    newest: Option<i64>,
    is_running: bool,
    trouble: Option<String>,
}

impl Verification {
    /// As a status shows it.
    pub fn to_wire(&self) -> v1::VerifyStatus {
        let state = match &self.trouble {
            Some(trouble) => trouble.clone(),
            None if self.is_running => "running".to_string(),
            None => "off".to_string(),
        };
        v1::VerifyStatus {
            answers: self.answers,
            differences: self.differences,
            outdated: self.outdated,
            newest: self.newest.unwrap_or(NO_TIME),
            state,
        }
    }

    fn add(&mut self, verified: &Verified) {
        self.answers += verified.sampled - verified.outdated;
        self.outdated += verified.outdated;
        self.differences += verified.differences;
        self.newest = self.newest.max(verified.newest);
    }
}

/// Recomputes until the server stops, at a share of one core.
pub fn run(server: &Server, share: f64) {
    let folder = server.answers_folder();
    let mut place = remembered(&folder);
    server.verification.lock().is_running = true;
    // A walk over the log is made by one thread, what follows by all of them: this much at most.
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get()) as f64;
    while !server.stopping.load(Ordering::Relaxed) {
        let began = server.clock.now();
        let done = step(server, &folder, &mut place);
        let used = Duration::from_micros(u64::try_from(server.clock.now() - began).unwrap_or(0));
        let pause = match done {
            Ok(false) => TRICKLE_PAUSE,
            Ok(true) => used.mul_f64(cores / share).clamp(TRICKLE_PAUSE, TRICKLE_PAUSE_MAX),
            Err(failure) => {
                complain(server, &failure);
                TRICKLE_RETRY
            }
        };
        wait(server, pause);
    }
}

/// One walk over the log for the next answers. False: there are none.
fn step(server: &Server, folder: &Path, place: &mut Place) -> Result<bool, Failure> {
    let unreadable = |e: std::io::Error| Failure::internal("E3030", format!("{}: {e}", folder.display()));
    let (kept, behind) = next(folder, *place, TRICKLE_ANSWERS).map_err(unreadable)?;
    if kept.is_empty() {
        return Ok(false);
    }
    let all = kept.len() as u64;
    let own: Vec<_> = kept.into_iter().filter(|sampled| sampled.definition_hash == server.registry.hash).collect();
    let of_others = all - own.len() as u64;
    let mut verified = recompute(&Job { server, stop: &server.stopping }, own)?;
    verified.sampled += of_others;
    verified.outdated += of_others;
    for difference in verified.shown.iter().take(VERIFY_EXPLAINED_MAX) {
        tracing::error!("{}", told(server, difference));
    }
    if verified.differences > 0 {
        let differences = verified.differences;
        tracing::error!(differences, "served values are not what the event log gives; `tidemill verify` shows them");
    }
    let mut verification = server.verification.lock();
    verification.add(&verified);
    verification.trouble = None;
    drop(verification);
    *place = behind;
    if let Err(error) = remember(folder, behind) {
        tracing::warn!(%error, "after a restart, some answers are verified once more");
    }
    Ok(true)
}

/// Says once what keeps it from going on.
fn complain(server: &Server, failure: &Failure) {
    if server.stopping.load(Ordering::Relaxed) {
        return;
    }
    let trouble = Some(failure.to_string());
    let mut verification = server.verification.lock();
    if verification.trouble != trouble {
        tracing::error!(%failure, "served answers cannot be verified");
        verification.trouble = trouble;
    }
}

fn wait(server: &Server, pause: Duration) {
    let slice = Duration::from_millis(100);
    let mut left = pause;
    while !left.is_zero() && !server.stopping.load(Ordering::Relaxed) {
        std::thread::sleep(slice.min(left));
        left = left.saturating_sub(slice);
    }
}

/// The file that says how far answers were verified.
const VERIFIED: &str = "verified";

fn remembered(folder: &Path) -> Place {
    let text = std::fs::read_to_string(folder.join(VERIFIED)).unwrap_or_default();
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(segment)), Some(Ok(offset))) => Place { segment, offset },
        // Nothing yet, or not readable: then answers are verified once more.
        _ => Place::default(),
    }
}

fn remember(folder: &Path, place: Place) -> std::io::Result<()> {
    let new = folder.join(format!("{VERIFIED}.new"));
    std::fs::write(&new, format!("{} {}\n", place.segment, place.offset))?;
    std::fs::rename(new, folder.join(VERIFIED))
}

/// By their numbers.
const STATUSES: [Status; 5] = [Status::Present, Status::Defaulted, Status::Empty, Status::NotFound, Status::Error];

/// Events of each kind that a message lists.
const TOLD_EVENTS: usize = 20;

/// Both sides of a difference, as one message.
fn told(server: &Server, difference: &Difference) -> String {
    let shown = |value: &Value<'_>, of: &DataType| crate::json::value(value, Some(of)).to_string();
    let given: Vec<String> =
        difference.given.iter().map(|(name, of, value)| format!("{name}={}", shown(value, of))).collect();
    let position = |((source, partition), next): (&(u32, u32), &u64)| {
        format!("{}/{partition} before {next}", server.registry.sources[*source as usize].name)
    };
    let (status, served) = &difference.served;
    let status = STATUSES.get(usize::from(*status)).map_or("?", |status| status.name());
    let Difference { feature, data_type, recomputed, .. } = difference;
    let mut text = format!(
        "{feature} of {} as of {}: served {} ({status}), the event log gives {} ({}) from {}",
        given.join(" "),
        rfc3339(difference.time),
        shown(served, data_type),
        shown(&recomputed.value, data_type),
        recomputed.status.name(),
        difference.positions.iter().map(position).collect::<Vec<_>>().join(", "),
    );
    if let Some(explained) = &difference.explained {
        text.push_str(&explanation(server, explained));
    }
    text
}

/// What the log counts, and what it does not.
fn explanation(server: &Server, explained: &Explanation) -> String {
    let event = |event: &Explained| {
        let source = &server.registry.sources[event.source].name;
        let value =
            event.value.as_ref().map(|value| format!(" value {}", crate::json::value(value, event.data_type.as_ref())));
        let why = if event.reason.is_empty() { String::new() } else { format!(" {}", event.reason) };
        let place = format!("{source}/{}/{}", event.partition, event.offset);
        format!("{place} of {}{}{why}", rfc3339(event.event_time), value.unwrap_or_default())
    };
    let list = |events: &[Explained]| events.iter().rev().take(TOLD_EVENTS).map(event).collect::<Vec<_>>().join(", ");
    format!(
        "; {} over events from {} up to (not at) {}: counted {} [{}], left out {} [{}]",
        explained.arithmetic,
        explained.from.map_or("the first one".to_string(), rfc3339),
        rfc3339(explained.to),
        explained.counted_total,
        list(&explained.counted),
        explained.excluded_total,
        list(&explained.excluded),
    )
}
