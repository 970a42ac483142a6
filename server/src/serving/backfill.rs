//! Back-fill: asks for a view's state anew and tells how far it is. The builder does the work, whether or not anybody listens.

use std::time::Duration;

use tidemill_features::problem::nearest;
use tidemill_proto::v1;

use super::training::Job;
use crate::failure::{Failure, shortened};
use crate::ingest::parts_of;

/// Pause between two looks at a build.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Job<'_> {
    /// Offline.Backfill
    pub fn backfill(&self, name: &str, tell: &mut dyn FnMut(v1::BackfillProgress)) -> Result<(), Failure> {
        let registry = &self.server.registry;
        let fed = || registry.views.iter().filter(|view| view.is_declared() && view.stream.is_some());
        let Some(view) = fed().find(|view| view.name == name).and_then(|view| registry.view(&view.name)) else {
            let near = nearest(name, fed().map(|view| view.name.as_str()));
            return Err(Failure::unknown("E3060", format!("no view `{}` with a source", shortened(name)), near));
        };
        if self.server.reader.shared.is_some() {
            let message = "in a shared store nothing is built anew in place: start an ingest process with another `prefix` under [redis], and let servers follow when it has caught up";
            return Err(Failure::invalid("E3063", message));
        }
        self.check_log(view)?;
        let build = self.server.ingest.builds.rebuild(registry, view)?;
        let source = registry.views[view].stream.as_ref().map_or(0, |stream| stream.source);
        loop {
            let outcome = build.outcome();
            let (mut events, mut entities) = build.reached(view);
            let done = matches!(outcome, Some(Ok(())));
            let state = self.server.memory.read();
            if done {
                (events, entities) = (state.views[view].seen(), state.entities(view) as u64);
            }
            let events_total = state.sources[source].accepted.max(events);
            drop(state);
            tell(v1::BackfillProgress { events, events_total, entities, done });
            match outcome {
                Some(outcome) => return outcome,
                // The build goes on; only the telling ends.
                None => self.go_on()?,
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// The state of a view knows of events that retention has cut since; one that is derived anew would not.
    fn check_log(&self, view: usize) -> Result<(), Failure> {
        let registry = &self.server.registry;
        let cut = self.server.reader.past.cut()?;
        for part in parts_of(registry, view) {
            let Some(stream) = &registry.views[part].stream else { continue };
            let source = &registry.sources[stream.source].name;
            if let Some(gone) = cut.of(source) {
                let message = format!(
                    "retention has cut {} events of `{source}` off the event log, which the state of view `{}` has seen; it stays as it is",
                    gone.events, registry.views[view].name
                );
                return Err(Failure::invalid("E3062", message));
            }
        }
        Ok(())
    }
}
