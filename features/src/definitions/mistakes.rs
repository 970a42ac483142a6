//! Mistakes that users make, one line each: what is said of it, where, and which name was meant.
//!
//! `«` stands before the place that must be told. Every line is added to one project that is right.

use super::*;

mod embeddings;

const PROJECT: &str = r#"
[source.s]
connector = 'push'
event_time = 't'
fields = { k = 'string', n = 'int64', x = 'float64', d = 'decimal(9,2)', l = 'list<int64>', u = 'vector<2>', t = 'timestamp' }
[source.rows]
kind = 'table'
connector = 'push'
event_time = 't'
fields = { k = 'string', n = 'string', p = 'float64', x = 'float64', t = 'timestamp' }
[entity.e]
key = 'k'
[entity.pair]
keys = ['k', 'n']
[view.v]
entity = 'e'
source = 's'
[view.v.features]
b = { agg = 'count()' }
last_k = { agg = 'last(k)' }
with_row = { agg = 'count()', include_request = true }
[view.both]
entity = 'pair'
source = 's'
[view.both.features]
b = { agg = 'count()' }
[view.asked]
entity = 'e'
request = { r = 'float64' }
[view.asked.derived]
c = 'request.r + v.b'
"#;

/// Another view of the source.
const VIEW: &str = "[view.w]\nentity = 'e'\nsource = 's'\n";
/// Another source, without its columns.
const SOURCE: &str = "event_time = 't'\nfields = { t = 'timestamp', k = 'string', x = 'float64' }\n";

fn problems(text: &str) -> Vec<crate::problem::Problem> {
    check(&[DefinitionFile { path: "project.toml".into(), text: format!("{PROJECT}{text}") }]).err().unwrap_or_default()
}

/// The one problem of a text.
#[track_caller]
fn is_mistake(text: &str, code: &str, message: &str, near: Option<&str>) {
    let (before, after) = text.split_once('«').unwrap_or_else(|| panic!("no place in {text}"));
    let front = format!("{PROJECT}{before}");
    let place = (front.matches('\n').count() + 1, front.lines().last().map_or(0, |line| line.chars().count()) + 1);
    let place = if front.ends_with('\n') { (place.0, 1) } else { place };
    let found = problems(&format!("{before}{after}"));
    let told: Vec<_> = found.iter().map(|p| (p.code, (p.line, p.column), p.near.as_deref())).collect();
    assert_eq!(told, [(code, place, near)], "{text}: {found:?}");
    assert!(found[0].message.contains(message), "{text}: {}", found[0].message);
}

#[track_caller]
fn is_right(text: &str) {
    assert!(problems(text).is_empty(), "{text}: {}", problems(text)[0]);
}

#[test]
fn of_sections_and_entities() {
    is_right("");
    for (text, code, message, near) in [
        ("[«veiw.a]\n", "E0002", "unknown section `veiw`", Some("view")),
        ("[embedding]\na = «3\n", "E0003", "[embedding.a] is a table", None),
        ("[entity.«E]\nkey = 'k'\n", "E0005", "`E` is not a name", None),
        ("[entity.«a-b]\nkey = 'k'\n", "E0005", "`a-b` is not a name", None),
        ("[entity.«1a]\nkey = 'k'\n", "E0005", "`1a` is not a name", None),
        ("[entity.«a]\n", "E0004", "entity `a` needs `key` or `keys`", None),
        ("[entity.a]\nkey = 'k'\nkeys = «['k']\n", "E0011", "exclude one another", None),
        ("[entity.«a]\nkeys = []\n", "E0012", "an entity has 1 to 16 key columns", None),
        ("[entity.a]\nkeys = ['k', 'n', «'k']\n", "E0012", "key column `k` twice", None),
        ("[entity.a]\nkey = 'k'\n«kye = 'x'\n", "E0002", "unknown key `kye` in `entity.a`", Some("key")),
        ("[entity.a]\nkey = «3\n", "E0003", "`key` is a text, not 3", None),
        ("[entity.a]\nkey = 'k'\ndescription = «true\n", "E0003", "`description` is a text, not a bool", None),
        ("[entity.a]\nkeys = «'k'\n", "E0003", "`keys` is a list of texts, not a text", None),
        ("[entity.a]\nkeys = ['k', «1.5]\n", "E0003", "`keys` is a text, not a float", None),
        ("[entity.a]\nkey = «{ b = 1 }\n", "E0003", "`key` is a text, not a table", None),
        ("[entity.a]\nkey = «2026-01-01\n", "E0003", "`key` is a text, not a date", None),
    ] {
        is_mistake(text, code, message, near);
    }
    let keys = |count: usize| (0..count).map(|i| format!("'k{i}'")).collect::<Vec<_>>().join(", ");
    is_right(&format!("[entity.a]\nkeys = [{}]\n", keys(16)));
    is_mistake(&format!("[entity.«a]\nkeys = [{}]\n", keys(17)), "E0012", "1 to 16", None);
    is_right(&format!("[entity.{}]\nkey = 'k'\n", "a".repeat(63)));
    is_mistake(&format!("[entity.«{}]\nkey = 'k'\n", "a".repeat(64)), "E0005", "is not a name", None);
    let alone = check(&[DefinitionFile { path: "a.toml".into(), text: "entity = 3\n".into() }]).unwrap_err();
    assert_eq!((alone[0].code, alone[0].line, alone[0].column), ("E0003", 1, 10));
    assert_eq!(alone[0].message, "`entity` holds tables: [entity.NAME]");
}

#[test]
#[allow(clippy::too_many_lines)]
fn of_sources() {
    for (text, code, message, near) in [
        ("[source.«r]\nconnector = 'kafka'\nS", "E0004", "a kafka source needs `topic`", None),
        ("[source.«r]\nconnector = 'file'\nS", "E0004", "a file source needs `path`", None),
        ("[source.r]\nconnector = 'push'\n«topic = 'a'\nS", "E0018", "`topic` has no effect on a push source", None),
        ("[source.r]\nconnector = 'push'\n«path = 'a'\nS", "E0018", "`path` has no effect on a push source", None),
        ("[source.r]\nconnector = 'push'\n«follow = true\nS", "E0018", "`follow` has no effect on a push", None),
        (
            "[source.r]\nconnector = 'file'\npath = 'a'\n«topic = 'a'\nS",
            "E0018",
            "has no effect on a file source",
            None,
        ),
        ("[source.r]\nconnector = 'push'\n«metadata = { k = 'key' }\nS", "E0018", "`metadata` has no effect", None),
        ("[source.r]\nconnector = 'kafka'\ntopic = 'a'\ntopics = «['b']\nS", "E0011", "exclude one another", None),
        ("[source.r]\nconnector = 'kafka'\n«topics = []\nS", "E0017", "1 to 1000 topics", None),
        ("[source.r]\nconnector = 'kafka'\ntopics = ['b', «'b']\nS", "E0012", "topic `b` twice", None),
        ("[source.r]\nconnector = 'kafka'\ntopic = «'a b'\nS", "E0005", "`a b` is not a topic", None),
        ("[source.r]\nconnector = 'kafka'\ntopic = 'a'\nformat = «'csv'\nS", "E0003", "json, avro or protobuf", None),
        ("[source.r]\nconnector = 'kafka'\ntopic = 'a'\n«dead_letter_topic = 'a'\nS", "E0012", "into it again", None),
        (
            "[source.r]\nconnector = 'kafka'\ntopic = 'a'\nmetadata = { k = «'kye' }\nS",
            "E0003",
            "`kye` is none of",
            Some("key"),
        ),
        (
            "[source.r]\nconnector = 'kafka'\ntopic = 'a'\nmetadata = { «kk = 'key' }\nS",
            "E0007",
            "no column `kk`",
            Some("k"),
        ),
        (
            "[source.r]\nconnector = 'kafka'\ntopic = 'a'\nmetadata = { k = «'offset' }\nS",
            "E0015",
            "`offset` is int64",
            None,
        ),
        ("[source.r]\nconnector = 'kafka'\ntopic = 'a'\nmetadata = { k = «'tombstone' }\nS", "E0015", "is bool", None),
        ("[source.r]\nconnector = 'kafka'\ntopic = 'a'\n«path = 'a'\nS", "E0018", "no effect on a kafka source", None),
        ("[source.r]\nconnector = 'kafka'\ntopic = 'a'\n«follow = true\nS", "E0018", "on a kafka source", None),
        (
            "[source.r]\nconnector = 'push'\nevent_id = «'kk'\nS",
            "E0007",
            "`event_id`: source `r` has no column",
            Some("k"),
        ),
        ("[source.r]\nconnector = 'push'\nevent_id = «'x'\nS", "E0015", "string or int64, but `x` is float64", None),
        ("[source.r]\nconnector = 'push'\narrival_time = «'k'\nS", "E0015", "a timestamp, but `k` is string", None),
        ("[source.r]\nconnector = 'push'\n«dedup = 'partition'\nS", "E0018", "no effect without `event_id`", None),
        ("[source.r]\nconnector = 'push'\n«dedup_horizon = '1h'\nS", "E0018", "no effect without `event_id`", None),
        ("[source.r]\nconnector = 'push'\n«delete_when = \"k = 'a'\"\nS", "E0018", "no effect on a stream", None),
        ("[source.r]\nconnector = 'push'\nkind = 'table'\ndelete_when = «'k'\nS", "E0008", "so bool, not string", None),
        ("[source.r]\nconnector = 'push'\nkind = 'table'\ndelete_when = '«kk = 1'\nS", "E0007", "`kk`", Some("k")),
        (
            "[source.r]\nconnector = 'push'\nkind = 'table'\ndelete_when = '«now() > t'\nS",
            "E0008",
            "only at read",
            None,
        ),
        ("[source.r]\nconnector = 'push'\nmax_lag = «'5'\nS", "E0009", "`5` is not a duration", None),
        (
            "[source.r]\nconnector = 'push'\nmax_lag = «5\nS",
            "E0003",
            "`max_lag` is a duration such as \"10m\", not 5",
            None,
        ),
        (
            "[source.r]\nconnector = 'file'\npath = 'a'\nfollow = «'x'\nS",
            "E0003",
            "`follow` is true or false, not a text",
            None,
        ),
        (
            "[source.r]\nconnector = 'push'\nkind = «'tabel'\nS",
            "E0003",
            "is one of stream, table, not `tabel`",
            Some("table"),
        ),
        (
            "[source.«r]\nconnector = 'push'\nfields = { t = 'timestamp' }\n",
            "E0004",
            "`source.r` needs `event_time`",
            None,
        ),
    ] {
        is_mistake(&text.replace("S", SOURCE), code, message, near);
    }
    let columns = |count: usize| (1..count).map(|i| format!(", c{i} = 'bool'")).collect::<String>();
    let many = |mark: &str, count: usize| {
        format!(
            "[source.r]\nconnector = 'push'\nevent_time = 't'\n{mark}fields = {{ t = 'timestamp'{} }}\n",
            columns(count)
        )
    };
    is_right(&many("", 2_000));
    is_mistake(&many("«", 2_001), "E0017", "more than 2000 columns", None);
    let wrong = "[source.r]\nconnector = 'push'\nevent_time = «'k'\nfields = { k = 'int64' }\n";
    is_mistake(wrong, "E0015", "`event_time` is a timestamp, but `k` is int64", None);
    let wrong = "[source.r]\nconnector = 'push'\nevent_time = 't'\nfields = { t = 'timestamp', a = «'strnig' }\n";
    is_mistake(wrong, "E0015", "column `a`: `strnig` is not a type", Some("string"));
}

#[test]
fn of_views_and_joins() {
    for (text, code, message, near) in [
        ("[view.«w]\nsource = 's'\n", "E0004", "`view.w` needs `entity`", None),
        ("[view.w]\nentity = 'e'\nsource = «'ss'\n", "E0007", "unknown source `ss`", Some("s")),
        ("[view.w]\nentity = 'e'\n«where = 'true'\n", "E0004", "`where` needs a `source`", None),
        ("[view.w]\nentity = 'e'\n«select = {}\n", "E0004", "`select` needs a `source`", None),
        ("[view.w]\nentity = 'e'\n«features = {}\n", "E0004", "`features` needs a `source`", None),
        ("[view.w]\nentity = 'e'\n«join = {}\n", "E0004", "`join` needs a `source`", None),
        ("[view.w]\nentity = 'e'\nrequest = { a = «'x' }\n", "E0015", "`x` is not a type", None),
        ("[view.w]\nentity = 'e'\nrequest = { «A = 'bool' }\n", "E0005", "`A` is not a name", None),
        ("[entity.f]\nkey = 'x'\n[view.w]\n«entity = 'f'\nsource = 's'\n", "E0012", "key `x` cannot be float64", None),
        (
            "[entity.f]\nkey = 'l'\n[view.w]\n«entity = 'f'\nsource = 's'\n",
            "E0012",
            "key `l` cannot be list<int64>",
            None,
        ),
        (
            "[entity.f]\nkey = 'kk'\n[view.w]\nentity = 'f'\n«source = 's'\n",
            "E0012",
            "the key of the entity",
            Some("k"),
        ),
        ("Vwhere = «'x'\n", "E0008", "this is a condition, so bool, not float64", None),
        ("Vwhere = 'x > 0 AND «kk = 1'\n", "E0007", "unknown column `kk`", Some("k")),
        ("Vwhere = 'x > 0 AND «j.p = 1'\n", "E0007", "no join `j` is declared", None),
        ("V[view.w.select]\n«A = 'x'\n", "E0005", "`A` is not a name", None),
        ("V[view.w.select]\n«x = 'k'\n", "E0013", "column `x` is there already", None),
        ("V[view.w.select]\na = 'x + «xx'\n", "E0007", "unknown column `xx`", Some("x")),
        ("V[view.w.join.j]\nsource = «'s'\non = 'k'\n", "E0012", "`s` is a stream", None),
        ("V[view.w.join.j]\nsource = 'rows'\non = «'n'\n", "E0012", "`n` is int64 in `s` and string in `rows`", None),
        ("V[view.w.join.j]\nsource = 'rows'\non = «'x'\n", "E0012", "key `x` cannot be float64", None),
        ("V[view.w.join.j]\nsource = 'rows'\non = «'d'\n", "E0007", "source `rows` has no column `d`", Some("k")),
        ("V[view.w.join.j]\nsource = 'rows'\non = «'p'\n", "E0007", "source `s` has no column `p`", Some("k")),
        ("V[view.w.join.«J]\nsource = 'rows'\non = 'k'\n", "E0005", "`J` is not a name", None),
        ("V[view.w.join.«j]\nsource = 'rows'\n", "E0004", "`j` needs `on`", None),
        ("Vwhere = «'j.p > 0'\n[view.w.join.j]\nsource = 'rows'\non = 'k'\n", "E0008", "belongs to a feature", None),
        ("V[view.w.join.j]\nsource = 'rows'\non = 'k'\n[view.w.select]\na = '«i.p'\n", "E0007", "`i.p`", Some("j.p")),
        ("V[view.w.join.j]\nsource = 'rows'\non = 'k'\n[view.w.select]\na = '«j.q'\n", "E0007", "`j.q`", Some("k")),
    ] {
        is_mistake(&text.replace('V', VIEW), code, message, near);
    }
    let joins = |count: usize| -> String {
        (0..count).map(|i| format!("j{i} = {{ source = 'rows', on = 'k' }}\n")).collect::<String>()
    };
    is_right(&format!("{VIEW}[view.w.join]\n{}", joins(16)));
    is_mistake(&format!("{VIEW}[view.w.«join]\n{}", joins(17)), "E0017", "more than 16 joins", None);
}

#[test]
fn of_features() {
    for (feature, code, message, near) in [
        ("«A = { agg = 'count()' }", "E0005", "`A` is not a name", None),
        ("«a = {}", "E0004", "`a` needs `agg`", None),
        ("a = «3", "E0003", "`a` is a table, not 3", None),
        ("a = { agg = 'count()' }\n«a_1h = { agg = 'count()' }\nc = { agg = 'count()' }", "", "", None),
        ("a = { agg = 'count()', where = «'x' }", "E0008", "so bool, not float64", None),
        ("a = { agg = 'sum(«xx)' }", "E0007", "unknown column `xx`", Some("x")),
        ("a = { agg = 'sum(x) «x' }", "E0008", "expected the end", None),
        ("a = { agg = 'count()', windows = «[] }", "E0011", "names at least one duration", None),
        ("a = { agg = 'count()', windows = [«'3661d'] }", "E0011", "at most 3660 days; use lifetime", None),
        ("a = { agg = 'count()', windows = ['1h', «'0us'] }", "E0011", "of no length holds no event", None),
        ("a = { agg = 'count()', ttl = «'3661d' }", "E0011", "at most 3660 days", None),
        ("a = { agg = 'count()', windows = ['1h'], «window = '2h' }", "E0011", "`windows` and `window` exclude", None),
        ("a = { agg = 'count()', «ttl = '1h', window = '2h' }", "E0011", "`window` and `ttl` exclude", None),
        ("a = { agg = 'count()', last_n = «0 }", "E0003", "an integer from 1 to 10000, not 0", None),
        ("a = { agg = 'count()', last_n = «10001 }", "E0003", "an integer from 1 to 10000, not 10001", None),
        ("a = { agg = 'count()', offset = «'3661d' }", "E0011", "an offset is at most 3660 days", None),
        ("a = { agg = 'count()', ttl = '1h', «hop = '5m' }", "E0018", "`hop` has no effect", None),
        ("a = { agg = 'count()', window = 'tumbling(1h)', «hop = '5m' }", "E0018", "`hop` has no effect", None),
        ("a = { agg = 'count()', «hop = '5m' }", "E0018", "`hop` has no effect", None),
        ("a = { agg = 'count()', windows = ['1h'], hop = «'0s' }", "E0011", "of no length", None),
        ("a = { agg = 'count()', window = «'tumbling(0s)' }", "E0011", "from 1us to 3660 days", None),
        ("a = { agg = 'count()', window = «'session(3661d)' }", "E0011", "from 1us to 3660 days", None),
        ("a = { agg = 'count()', window = «'tumbling(1h' }", "E0011", "lacks its closing parenthesis", None),
        ("a = { agg = 'count()', window = «'tumbling(1x)' }", "E0011", "`x` is not a unit of time", None),
        ("a = { agg = 'count()', window = «'calendar(dya)' }", "E0011", "`dya` is not day, week or month", Some("day")),
        ("a = { agg = 'count()', window = «\"calendar(day, 'Mars')\" }", "E0011", "'Mars' is not a time zone", None),
        ("a = { agg = 'count()', window = «'sesion(1h)' }", "E0011", "`sesion(1h)` is not a window", Some("session")),
        ("a = { agg = 'count()', window = «'lifetime(1h)' }", "E0011", "is not a window", Some("lifetime")),
        ("a = { agg = 'count()', window = «'3661d' }", "E0011", "at most 3660 days", None),
        ("a = { agg = 'count()', window = «'5' }", "E0011", "`5` is not a duration", None),
        ("a = { agg = 'count()', default = «'a' }", "E0016", "the default is a text, but the feature is int64", None),
        ("a = { agg = 'count()', default = «1.5 }", "E0016", "the default is a float, but", None),
        ("a = { agg = 'sum(x)', default = «nan }", "E0016", "the feature is float64", None),
        ("a = { agg = 'max(t)', default = «'noon' }", "E0016", "the feature is timestamp", None),
        ("a = { agg = 'max(d)', default = «'1.234' }", "E0016", "the feature is decimal(9,2)", None),
        ("a = { agg = 'max(d)', default = «12345678 }", "E0016", "the feature is decimal(9,2)", None),
    ] {
        if code.is_empty() {
            is_right(&format!("{VIEW}[view.w.features]\n{}\n", feature.replace('«', "")));
            continue;
        }
        is_mistake(&format!("{VIEW}[view.w.features]\n{feature}\n"), code, message, near);
    }
    let twice = "a = { agg = 'count()', windows = ['1h'] }\n«a_1h = { agg = 'count()' }\n";
    is_mistake(&format!("{VIEW}[view.w.features]\n{twice}"), "E0013", "feature `a_1h` is there already", None);
    let long = "a".repeat(60);
    is_right(&format!("{VIEW}[view.w.features]\n{long} = {{ agg = 'count()', windows = ['1h'] }}\n"));
    let text = format!("{VIEW}[view.w.features]\n{long} = {{ agg = 'count()', windows = [«'10m'] }}\n");
    is_mistake(&text, "E0005", "is longer than 63 characters", None);
    let table = "[view.w]\nentity = 'e'\nsource = 'rows'\n[view.w.features]\na = { agg = 'last(p)', «include_request = true }\n";
    is_mistake(table, "E0018", "has no meaning on a table", None);
}

/// What is right at the very edge, and what is wrong beside it.
#[test]
fn of_constants() {
    for call in [
        "quantile(x, 0)",
        "quantile(x, 1)",
        "first_k(x, 1)",
        "last_k(x, 10000)",
        "decayed_sum(x, '1us')",
        "decayed_count('3660d')",
        "histogram(x, ARRAY[-1.5, 0, 9007199254740992])",
        "count(x)",
        "mean(x)",
    ] {
        is_right(&format!("{VIEW}[view.w.features]\na = {{ agg = \"{call}\" }}\n"));
    }
    for (call, message, near) in [
        ("«sum()", "`sum` does not take 0 arguments", None),
        ("«count(x, x)", "`count` does not take 2 arguments", None),
        ("«sum(x, x)", "`sum` does not take 2 arguments", None),
        ("«first_k(x)", "`first_k` does not take 1 arguments", None),
        ("«smu(x)", "unknown aggregate `smu`", Some("sum")),
        ("quantile(x, «1.5)", "q of quantile is a number from 0 to 1", None),
        ("quantile(x, «'a')", "q of quantile is a number from 0 to 1", None),
        ("first_k(x, «0)", "k of first_k is an integer from 1 to 10000", None),
        ("top_k(x, «10001)", "k of top_k is an integer from 1 to 10000", None),
        ("last_k(x, «1.5)", "k of last_k is an integer", None),
        ("decayed_sum(x, «3)", "is a duration in quotes such as '1h'", None),
        ("decayed_sum(x, «'0s')", "the half-life of decayed_sum is from 1us to 3660 days", None),
        ("decayed_count(«'3661d')", "the half-life of decayed_count is from 1us", None),
        ("decayed_count(«'1x')", "`x` is not a unit of time", None),
        ("rate(n, x, «'a', 1)", "the prior of rate is two numbers", None),
        ("histogram(x, «3)", "edges of histogram are a list of numbers", None),
        ("histogram(x, ARRAY[«2, 1])", "ascend, each greater than the one before", None),
        ("histogram(x, ARRAY[«1, 1.0])", "ascend, each greater than the one before", None),
        ("histogram(x, ARRAY[«9007199254740993])", "does not hold 9007199254740993", None),
        ("histogram(x, ARRAY[«'a'])", "edges of histogram are numbers", None),
        ("sum(«k)", "`sum` cannot take string", None),
        ("sum(«NULL)", "`sum` of NULL has no type", None),
        ("stddev(«d)", "cannot take decimal(9,2); CAST it to DOUBLE", None),
        ("vector_sum(«l)", "cannot take list<int64>; declare the column as vector<n>", None),
        ("arg_max(x, «l)", "cannot take list<int64> as its second argument", None),
    ] {
        is_mistake(&format!("{VIEW}[view.w.features]\na = {{ agg = \"{call}\" }}\n"), "E0010", message, near);
    }
}

#[test]
fn of_derived_features() {
    let of_pair = "lookup('both:b', v.last_k)";
    for (derived, code, message, near) in [
        ("«b = 'v.b'", "E0013", "feature `b` is there already", None),
        ("«A = 'v.b'", "E0005", "`A` is not a name", None),
        ("a = '«request.q'", "E0007", "unknown request value `q`", Some("request.r")),
        ("a = '«bb'", "E0007", "unknown feature `bb`", Some("b")),
        ("a = '«v.bb'", "E0007", "unknown feature `v.bb`", Some("b")),
        ("a = '«vv.b'", "E0007", "unknown view `vv`", Some("v.b")),
        ("a = '«v.b.c'", "E0007", "unknown feature `v.b.c`", None),
        ("a = '«v.b + v.last_k'", "E0008", "`+` takes numbers", None),
        ("«a = 'c'\nc = 'a'", "E0014", "depends on itself", None),
        ("a = \"«lookup('v', v.last_k)\"", "E0008", "lookup takes a feature such as 'view:feature'", None),
        ("a = \"«lookup('vv:b', v.last_k)\"", "E0007", "unknown view `vv`", Some("v:b")),
        ("a = \"«lookup('v:bb', v.last_k)\"", "E0007", "unknown feature `v:bb`", Some("v:b")),
        ("a = \"«lookup('v:b', v.b)\"", "E0008", "is read by `k`, which is string, not int64", None),
        ("a = \"«lookup('v:with_row', v.last_k)\"", "E0008", "needs values of the request", None),
        ("a = \"«lookup('asked:c', v.last_k)\"", "E0008", "needs values of the request", None),
        (&format!("a = \"«{of_pair}\""), "E0008", "is read by 2 key columns; a lookup has one key", None),
    ] {
        let text = format!("{VIEW}request = {{ r = 'float64' }}\n[view.w.features]\nb = {{ agg = 'count()' }}\n");
        is_mistake(&format!("{text}[view.w.derived]\n{derived}\n"), code, message, near);
    }
    // What is broken is reported where it is declared, and not again where it is used.
    let broken =
        "[view.w.features]\na = { agg = '«smu(x)', windows = ['1h'] }\n[view.w.derived]\nc = 'a_1h + 1'\nd = 'c'\n";
    let uses = "[view.y]\nentity = 'e'\n[view.y.derived]\nz = \"lookup('w:c', v.last_k) + w.a_1h\"\n[service.a]\nfeatures = ['w:a_1h', 'w:d']\n";
    is_mistake(&format!("{VIEW}{broken}{uses}"), "E0010", "unknown aggregate `smu`", Some("sum"));
}

#[test]
fn of_services() {
    for (text, code, message, near) in [
        ("[service.a]\nfeatures = «[]\n", "E0017", "a service has 1 to 5000 features", None),
        ("[service.a]\nfeatures = ['v:b', «'v:b']\n", "E0013", "`v:b` gives a feature that is there already", None),
        ("[service.a]\nfeatures = ['v:b', «'v:*']\n", "E0013", "`v:*` gives a feature that is there already", None),
        ("[service.a]\nfeatures = [«'v:bb']\n", "E0007", "view `v` has no feature `bb`", Some("v:b")),
        ("[service.a]\nfeatures = [«'vv:b']\n", "E0007", "unknown view `vv`", Some("v:b")),
        ("[service.a]\nfeatures = [«'v']\n", "E0007", "`v` is not a reference such as", Some("v:*")),
        ("[service.a]\nfeatures = [«'last_k']\n", "E0007", "`last_k` is not a reference", Some("v:last_k")),
        ("[service.a]\nfeatures = ['v:b']\nowner = «1\n", "E0003", "`owner` is a text, not 1", None),
    ] {
        is_mistake(text, code, message, near);
    }
}
