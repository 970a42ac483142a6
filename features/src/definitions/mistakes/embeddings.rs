//! Mistakes in embeddings.

use super::{is_mistake, is_right};

#[test]
fn of_embeddings() {
    let embedding = "[embedding.m]\nentity = 'e'\nsource = 's'\nvector = 'u'\n";
    for (text, code, message, near) in [
        ("Edims = «0\n", "E0003", "an integer from 1 to 8192, not 0", None),
        ("Edims = 2\nmetric = «'l1'\n", "E0003", "one of cosine, dot, l2, not `l1`", Some("l2")),
        ("Edims = 2\nindex = { «mm = 3 }\n", "E0002", "unknown key `mm` in `index`", Some("m")),
        ("Edims = 2\nindex = { m = «1 }\n", "E0003", "an integer from 2 to 128, not 1", None),
        ("Edims = 2\nindex = { m = 16, ef_construction = «8 }\n", "E0003", "at least `m`, which is 16", None),
        ("Edims = 2\nindex = { rows = «'dsk' }\n", "E0003", "one of memory, disk, not `dsk`", Some("disk")),
        ("Edims = 2\nindex = { rows = «true }\n", "E0003", "`rows` is", None),
        ("Edims = 2\nattributes = { k = «'a' }\n", "E0015", "attribute `k` is of no known type", None),
        (
            "Edims = 2\nattributes = { k = «'int64' }\n",
            "E0015",
            "attribute `k` is string in source `s`, not int64",
            None,
        ),
        ("Edims = 2\nattributes = { l = «'list<int64>' }\n", "E0015", "attributes are single values", None),
        ("Edims = 2\nattributes = { «kk = 'string' }\n", "E0007", "source `s` has no column `kk`", Some("k")),
        ("Edims = «3\n", "E0012", "`dims` is 3, but column `u` is vector<2>", None),
        (
            "[entity.f]\nkey = 'x'\n[embedding.m]\n«entity = 'f'\nsource = 's'\nvector = 'u'\ndims = 2\n",
            "E0012",
            "key `x` cannot be",
            None,
        ),
        (
            "[entity.f]\nkey = 'kk'\n[embedding.m]\nentity = 'f'\n«source = 's'\nvector = 'u'\ndims = 2\n",
            "E0012",
            "has no column `kk`",
            Some("k"),
        ),
        (
            "[embedding.m]\nentity = «'ee'\nsource = 's'\nvector = 'u'\ndims = 2\n",
            "E0007",
            "unknown entity `ee`",
            Some("e"),
        ),
        (
            "[embedding.m]\nentity = 'e'\nsource = 's'\nvector = «'l'\ndims = 2\n",
            "E0015",
            "but `l` is list<int64>",
            None,
        ),
    ] {
        is_mistake(&text.replace('E', embedding), code, message, near);
    }
    is_right(&format!("{embedding}dims = 2\nattributes = {{ k = 'string' }}\nindex = {{ m = 2, exact_below = 0 }}\n"));
    for rows in ["memory", "disk"] {
        is_right(&format!("{embedding}dims = 2\nindex = {{ rows = '{rows}' }}\n"));
    }
    let wrong = "[embedding.m]\nentity = 'e'\nsource = 's'\ndims = 2\nvector = «'uu'\n";
    is_mistake(wrong, "E0007", "source `s` has no column `uu`", Some("u"));
}

#[test]
fn of_embeddings_of_views() {
    let text = |vector: &str| format!("[embedding.m]\nentity = 'e'\nview = 'w'\nvector = {vector}\ndims = 2\nV");
    let view = "[view.w]\nentity = 'e'\nsource = 's'\n[view.w.features]\nmean = { agg = 'vector_avg(u)', windows = ['1h'] }\n\
                n = { agg = 'count()', windows = ['1h'] }\nvisit = { agg = 'vector_avg(u)', window = 'session(1h)' }\nall = { agg = 'vector_sum(u)', windows = ['1h'], include_request = true }\n\
                [view.w.derived]\nd = 'n_1h + 1'\n";
    for (text, code, message, near) in [
        (text("«'mean'"), "E0007", "view `w` has no feature `mean`", Some("mean_1h")),
        (text("«'n_1h'"), "E0015", "but `n_1h` is int64", None),
        (text("«'d'"), "E0015", "`d` is derived", None),
        (text("«'all_1h'"), "E0015", "counts the row of a request", None),
        (text("'mean_1h'").replace("'w'", "«'ww'"), "E0007", "unknown view `ww`", Some("w")),
        (text("'mean_1h'").replace("view", "source = 's'\nview").replace("'w'", "«'w'"), "E0011", "exclude", None),
        (text("'mean_1h'").replace("view = 'w'\n", "").replace(".m]", ".«m]"), "E0004", "`source` or `view`", None),
        (
            text("'mean_1h'").replace('V', "«attributes = { k = 'string' }\nV"),
            "E0018",
            "no attributes of its own",
            None,
        ),
        (text("'visit'").replace('V', "«index = { m = 8 }\nV"), "E0018", "no index of `visit`", None),
        (text("'mean_1h'").replace("dims = 2", "dims = 3").replace("'mean", "«'mean"), "E0015", "vector<3>", None),
        (
            text("'mean_1h'").replace("'e'", "«'f'") + "[entity.f]\nkey = 'k'\n",
            "E0012",
            "view `w` is of entity `e`",
            None,
        ),
    ] {
        is_mistake(&text.replace('V', view), code, message, near);
    }
    is_right(&text("'mean_1h'").replace('V', view));
    is_right(&text("'visit'").replace('V', view));
    // All that is wrong is told at once.
    let wrong = text("'men_1h'").replace("dims = 2", "dims = 0").replace("'e'", "'f'").replace('V', view)
        + "[entity.f]\nkey = 'k'\n";
    let told: Vec<&str> = super::problems(&wrong).into_iter().map(|problem| problem.code).collect();
    assert_eq!(told, ["E0012", "E0007", "E0003"]);
}
