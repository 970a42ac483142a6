//! Which versions of views the state store keeps: those that the definitions name, and for each view the last few that they
//! named before, so that a rollback finds its state. Whatever else there is goes.

use std::collections::{BTreeMap, HashSet};

use tidemill_features::definitions::Registry;

use crate::limits::VERSIONS_KEPT;
use crate::online::{Meta, ViewMeta};

/// Brings what the store says in line with the definitions: each of their views gets a version, and what is too old is marked to
/// be removed.
pub(super) fn settle(registry: &Registry, meta: &mut Meta) {
    for view in &registry.views {
        let hash = view.plan.hash;
        if !meta.views.contains_key(&hash) {
            let version = ViewMeta { id: meta.take_id(), ..ViewMeta::default() };
            meta.views.insert(hash, version);
        }
        if let Some(version) = meta.views.get_mut(&hash) {
            version.name.clone_from(&view.name);
            version.retired = 0;
        }
    }
    let declared: HashSet<u64> = registry.views.iter().map(|view| view.plan.hash).collect();
    // A back-fill of what nobody declares any more is not gone on with.
    let abandoned = meta.rebuilds.extract_if(.., |hash, _| !declared.contains(hash)).map(|(_, version)| version.id);
    meta.dropped.extend(abandoned);
    let now = meta.sequence + 1;
    let mut retired: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
    for (hash, version) in meta.views.iter_mut().filter(|(hash, _)| !declared.contains(hash)) {
        if version.retired == 0 {
            version.retired = now;
        }
        retired.entry(version.name.clone()).or_default().push((version.retired, *hash));
    }
    for mut of_view in retired.into_values() {
        of_view.sort_unstable();
        of_view.truncate(of_view.len().saturating_sub(VERSIONS_KEPT));
        for (_, hash) in of_view {
            if let Some(version) = meta.views.remove(&hash) {
                meta.dropped.insert(version.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_features::definitions::{DefinitionFile, check};

    fn registry(aggregates: &[&str]) -> Registry {
        let mut text = "[source.s]\nconnector = 'push'\nevent_time = 'at'\n\
            fields = { key = 'int64', x = 'float64', at = 'timestamp[us]' }\n[entity.e]\nkey = 'key'\n"
            .to_string();
        for (at, aggregate) in aggregates.iter().enumerate() {
            text += &format!("[view.v{at}]\nentity = 'e'\nsource = 's'\n[view.v{at}.features]\n");
            text += &format!("f = {{ agg = '{aggregate}', windows = ['1h'] }}\n");
        }
        check(&[DefinitionFile { path: "test.toml".into(), text }]).unwrap()
    }

    /// One start of a server: what becomes of the versions, by their ids.
    fn start(meta: &mut Meta, aggregates: &[&str]) -> (Vec<u32>, Vec<u32>) {
        let registry = registry(aggregates);
        settle(&registry, meta);
        meta.sequence += 1;
        let serving = registry.views.iter().map(|view| meta.views[&view.plan.hash].id).collect();
        (serving, meta.dropped.iter().copied().collect())
    }

    #[test]
    fn the_last_two_versions_of_each_view_stay() {
        let mut meta = Meta::default();
        assert_eq!(start(&mut meta, &["count()", "sum(x)"]), (vec![0, 1], vec![]));
        assert_eq!(start(&mut meta, &["min(x)", "sum(x)"]), (vec![2, 1], vec![]));
        assert_eq!(start(&mut meta, &["max(x)", "sum(x)"]), (vec![3, 1], vec![]));
        // Back to the first one, whose place among the old ones is free now.
        assert_eq!(start(&mut meta, &["count()", "sum(x)"]), (vec![0, 1], vec![]));
        assert_eq!(start(&mut meta, &["avg(x)", "sum(x)"]), (vec![4, 1], vec![2]));
        // A view that is gone keeps what it has.
        assert_eq!(start(&mut meta, &["avg(x)"]), (vec![4], vec![2]));
        assert_eq!(start(&mut meta, &["avg(x)", "sum(x)"]), (vec![4, 1], vec![2]));
        assert_eq!(meta.next_id, 5);
    }

    #[test]
    fn an_abandoned_rebuild_goes() {
        let mut meta = Meta::default();
        let first = registry(&["count()"]);
        settle(&first, &mut meta);
        let id = meta.take_id();
        meta.rebuilds.insert(first.views[0].plan.hash, ViewMeta { id, ..ViewMeta::default() });
        settle(&first, &mut meta);
        assert!(meta.dropped.is_empty() && meta.rebuilds.len() == 1);
        settle(&registry(&["sum(x)"]), &mut meta);
        assert!(meta.dropped.contains(&id) && meta.rebuilds.is_empty() && meta.views.len() == 2);
    }
}
