//! Views whose state begins at a cut of the log: what they never saw.
//!
//! A view that is new after retention has cut the log, or whose state was lost, is built from what is left. That is refused
//! where live values would need more; where they do not, this file remembers what is missing, so that a read which reaches
//! further back says that it does not know. It is written before the state is, and holds for it as long as the state lives.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tidemill_features::aggregates::EventOrder;
use tidemill_features::definitions::{Registry, Source, View};
use tidemill_features::plan::FeaturePlan;
use tidemill_features::read::{Doubts, Missing};
use tidemill_features::stream::EventBatch;
use tidemill_features::time::rfc3339;
use tidemill_features::value::Value;

use crate::failure::Failure;
use crate::log::{Cut, SourceCut};
use crate::online::Meta;

/// Name of the file in the data directory.
const FILE: &str = "views.begun";
/// Version of its format.
const FORMAT: u32 = 1;

/// By hash of a view's plan.
#[derive(Debug, Default)]
pub struct Begun {
    path: PathBuf,
    /// a shared store may come to be filled anew while reads go on
    views: RwLock<BTreeMap<u64, Gone>>,
}

/// What a view never saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Gone {
    /// closed ranges of event times
    ranges: Vec<(i64, i64)>,
    /// greatest arrival
    arrival: i64,
}

/// The last line of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    format: u32,
    checksum: u32,
}

impl Begun {
    /// Reads what a data directory remembers.
    pub(super) fn load(data_dir: &Path) -> Result<Begun, Failure> {
        let path = data_dir.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Begun { path, views: RwLock::default() });
            }
            Err(error) => return Err(Failure::internal("E1027", format!("{}: {error}", path.display()))),
        };
        let views = parse(&text).ok_or_else(|| {
            let message = format!(
                "{} is damaged; restore it from a copy, or remove it together with the folder state/, which is then derived from the log",
                path.display()
            );
            Failure::internal("E1027", message)
        })?;
        Ok(Begun { path, views: RwLock::new(views) })
    }

    /// Notes the views that have to be built from a log that was cut. An error where live values would need what is gone, unless
    /// that is wanted.
    pub(super) fn begin(
        &mut self,
        registry: &Registry,
        meta: &Meta,
        cut: &Cut,
        (now, force): (i64, bool),
    ) -> Result<(), Failure> {
        let mut needy = Vec::new();
        for view in &registry.views {
            let Some(stream) = &view.stream else { continue };
            let applied_to = meta.views.get(&view.plan.hash).map(|view| view.applied_to).unwrap_or_default();
            let source = &registry.sources[stream.source].name;
            let Some(gone) = cut.of(source).filter(|_| applied_to < cut.to()) else {
                if applied_to == Default::default() {
                    self.views.get_mut().remove(&view.plan.hash);
                }
                continue;
            };
            let gone = Gone::of(view, &registry.sources[stream.source], gone);
            needy.extend(needs(view, source, now, &gone));
            self.views.get_mut().insert(view.plan.hash, gone);
        }
        if !needy.is_empty() && !force {
            let message = format!(
                "{} would have to be computed from events that are gone: the event log was cut at {}; leave such features out, restore the log or the state from a copy, or set log.force = true to serve them with status ERROR",
                needy.join(", "),
                described(cut)
            );
            return Err(Failure::invalid("E1026", message));
        }
        if !needy.is_empty() {
            tracing::warn!(
                "E1026: {} cannot be known, since the event log was cut at {}",
                needy.join(", "),
                described(cut)
            );
        }
        self.store()
    }

    /// Notes the views of a source that begin without what is gone of it, because a shared store has lost them. Gives the names of
    /// those whose live values would need it; then nothing is noted, unless that is wanted.
    pub(super) fn begin_without(
        &self,
        registry: &Registry,
        source: usize,
        gone: &SourceCut,
        (now, force): (i64, bool),
    ) -> Result<Vec<String>, Failure> {
        let of = &registry.sources[source];
        let is_fed = |view: &&Arc<View>| view.stream.as_ref().is_some_and(|stream| stream.source == source);
        let fed: Vec<(&View, Gone)> =
            registry.views.iter().filter(is_fed).map(|view| (&**view, Gone::of(view, of, gone))).collect();
        let needy: Vec<String> = fed.iter().filter_map(|(view, gone)| needs(view, &of.name, now, gone)).collect();
        if needy.is_empty() || force {
            self.views.write().extend(fed.into_iter().map(|(view, gone)| (view.plan.hash, gone)));
            self.store()?;
        }
        Ok(needy)
    }

    /// Looks for events, in the order of the log, that may be duplicates of what views never saw.
    pub(super) fn doubts<'r>(&self, registry: &'r Registry) -> Doubtful<'r> {
        let known = self.views.read();
        let of_view = |view: &'r Arc<View>| {
            let gone = known.get(&view.plan.hash)?;
            let source = view.stream.as_ref()?.source;
            let doubts = Doubts::new(&view.plan, gone.arrival)?;
            Some(DoubtfulView { hash: view.plan.hash, source, doubts, times: None })
        };
        Doubtful { registry, views: registry.views.iter().filter_map(of_view).collect() }
    }

    /// Adds the times of the events that were found so far.
    pub(super) fn add(&mut self, doubtful: &Doubtful<'_>) -> Result<(), Failure> {
        let mut changed = false;
        for DoubtfulView { hash, times, .. } in &doubtful.views {
            if let Some((gone, times)) = self.views.get_mut().get_mut(hash).zip(*times)
                && !gone.ranges.contains(&times)
            {
                changed = true;
                gone.ranges.retain(|(from, to)| *from < times.0 || *to > times.1);
                gone.ranges.push(times);
            }
        }
        if changed { self.store() } else { Ok(()) }
    }

    /// What the state of a view never saw; None: it saw everything.
    pub fn of(&self, view: &View) -> Option<Missing> {
        self.views.read().get(&view.plan.hash).map(Gone::missing)
    }

    fn store(&self) -> Result<(), Failure> {
        let views = self.views.read();
        if views.is_empty() && !self.path.exists() {
            return Ok(());
        }
        let temporary = self.path.with_extension("tmp");
        let write = || -> std::io::Result<()> {
            let mut text = serde_json::to_string(&*views)?;
            text.push('\n');
            let end = End { format: FORMAT, checksum: crc32fast::hash(text.as_bytes()) };
            text.push_str(&serde_json::to_string(&end)?);
            let mut file = std::fs::File::create(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temporary, &self.path)?;
            self.path.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
        };
        write().map_err(|error| Failure::internal("E1027", format!("{}: {error}", self.path.display())))
    }
}

/// What of a view would need events that are gone, if its live values do.
fn needs(view: &View, source: &str, now: i64, gone: &Gone) -> Option<String> {
    let missing = gone.missing();
    match view.plan.features.iter().find(|feature| may_miss(view, feature, now, &missing)) {
        Some(feature) => Some(format!("`{}:{}`", view.name, feature.name)),
        None => view.plan.table.is_some().then(|| format!("the rows of `{source}`")),
    }
}

impl Gone {
    fn of(view: &View, source: &Source, gone: &SourceCut) -> Gone {
        let (mut ranges, arrival) = (gone.ranges(), gone.arrival.unwrap_or(i64::MAX));
        if let Some(dedup) = &view.plan.dedup {
            // What arrived so soon after may be a duplicate of what is gone, however it is dated.
            ranges.push((i64::MIN, arrival.saturating_add(dedup.horizon).saturating_add(source.max_future_skew)));
        }
        Gone { ranges, arrival }
    }

    fn missing(&self) -> Missing {
        Missing::new(self.ranges.clone(), self.arrival, None)
    }
}

fn parse(text: &str) -> Option<BTreeMap<u64, Gone>> {
    let (views, end) = text.split_at(text.find('\n')? + 1);
    let end: End = serde_json::from_str(end).ok()?;
    let is_whole = end.format == FORMAT && end.checksum == crc32fast::hash(views.as_bytes());
    if is_whole { serde_json::from_str(views).ok() } else { None }
}

fn described(cut: &Cut) -> String {
    let newest =
        |(source, cut): (&String, &crate::log::SourceCut)| Some(format!("{} for `{source}`", rfc3339(cut.times?.1)));
    cut.sources.iter().filter_map(newest).collect::<Vec<_>>().join(", ")
}

/// Whether the value of a feature at `time` may depend on missing events of its entity.
pub fn may_miss(view: &View, feature: &FeaturePlan, time: i64, missing: &Missing) -> bool {
    let seen_at = time.saturating_sub(feature.offset);
    let range = feature.window.range(seen_at);
    // A run of events may go on in what is missing, and the newest row of a table may be there.
    let unbounded = feature.window.is_unbounded() || view.plan.table.is_some();
    missing.is_in(range.from.filter(|_| !unbounded), range.to)
}

/// Events whose fate cannot be told, because what they may repeat is gone.
pub(super) struct Doubtful<'r> {
    registry: &'r Registry,
    views: Vec<DoubtfulView>,
}

struct DoubtfulView {
    /// of its plan
    hash: u64,
    source: usize,
    doubts: Doubts,
    /// the least and the greatest time so far
    times: Option<(i64, i64)>,
}

impl Doubtful<'_> {
    /// Looks at the next events of a source; their columns are those that it has now.
    pub(super) fn take(&mut self, at: usize, batch: &EventBatch) {
        let Some(id) = self.registry.sources[at].event_id else { return };
        for DoubtfulView { doubts, times, .. } in self.views.iter_mut().filter(|view| view.source == at) {
            for row in 0..batch.len() {
                let id: Value<'_> = batch.columns[id].value(row);
                let (time, partition) = (batch.times[row], batch.partition);
                let order = EventOrder { time, id, partition, offset: batch.offsets[row] };
                if doubts.take(&order, batch.arrivals[row]) {
                    *times = Some(times.map_or((time, time), |(least, most)| (least.min(time), most.max(time))));
                }
            }
        }
    }
}
