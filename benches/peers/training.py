"""Training sets by engines that people use today: the peers of benches/src/training.rs.

    python training.py make FOLDER EVENTS LABELS KEYS   writes events.parquet (in the order of time) and labels.parquet
    python training.py ENGINE JOB FOLDER                runs one job and writes its result as Parquet

ENGINE is duckdb or polars. JOB is window (count and sum of the hour before each label) or last (the newest value before it).
Prints one line of JSON: rows, wall and CPU seconds of reading, joining and writing, the greatest resident size in bytes, and two
figures by which answers can be compared.
"""

import json
import os
import resource
import sys
import time

START = 1_700_000_000_000_000
HOUR = 3_600_000_000


def make(folder, events, labels, keys):
    import numpy
    import pyarrow
    from pyarrow import parquet

    random = numpy.random.default_rng(7)
    span = 30 * 24 * HOUR

    def frame(rows, more):
        # The square makes keys uneven: the busiest has some hundred times the events of the median.
        key = (random.random(rows) ** 2 * keys).astype(numpy.int64)
        at = numpy.sort(random.integers(START, START + span, rows))
        names = numpy.char.add("user-", numpy.char.zfill(key.astype("U7"), 7))
        at = pyarrow.array(at, pyarrow.timestamp("us", tz="UTC"))
        return pyarrow.table({"key": pyarrow.array(names), "at": at, **more(rows)})

    events = frame(events, lambda rows: {"x": numpy.round(random.random(rows) * 100, 2)})
    parquet.write_table(events, os.path.join(folder, "events.parquet"), compression="zstd")
    labels = frame(labels, lambda rows: {"label": random.integers(0, 2, rows)})
    order = random.permutation(len(labels))
    parquet.write_table(labels.take(order), os.path.join(folder, "labels.parquet"), compression="zstd")


DUCKDB = {
    "window": """
        WITH together AS (
            SELECT key, "at", x, NULL::BIGINT AS label, false AS wanted FROM 'FOLDER/events.parquet'
            UNION ALL
            SELECT key, "at", NULL, label, true FROM 'FOLDER/labels.parquet'),
        read AS (
            SELECT key, "at", label, wanted, count(x) OVER span AS n, sum(x) OVER span AS total FROM together
            WINDOW span AS (PARTITION BY key ORDER BY "at"
                RANGE BETWEEN INTERVAL 1 HOUR PRECEDING AND INTERVAL 1 MICROSECOND PRECEDING))
        SELECT key, "at", label, n, total FROM read WHERE wanted""",
    "last": """
        SELECT l.key, l.at, l.label, e.x AS last
        FROM 'FOLDER/labels.parquet' l ASOF LEFT JOIN 'FOLDER/events.parquet' e ON l.key = e.key AND l.at > e.at""",
}


def duckdb_job(job, folder, out):
    import duckdb

    connection = duckdb.connect()
    query = DUCKDB[job].replace("FOLDER", folder)
    connection.execute(f"COPY ({query}) TO '{out}' (FORMAT parquet, COMPRESSION zstd)")


def polars_job(job, folder, out):
    import polars

    events = polars.read_parquet(os.path.join(folder, "events.parquet"))
    labels = polars.read_parquet(os.path.join(folder, "labels.parquet")).with_row_index("row").sort("at")
    strictly = {"by": "key", "strategy": "backward", "allow_exact_matches": False, "check_sortedness": False}
    if job == "last":
        joined = labels.join_asof(events.rename({"x": "last"}).sort("at"), on="at", **strictly)
    else:
        count, total = polars.col("x").cum_count().over("key"), polars.col("x").cum_sum().over("key")
        sums = events.sort("at").select("key", "at", n=count, total=total)
        labels = labels.with_columns(polars.col("at").dt.offset_by("-1h").alias("from"))
        upto = labels.join_asof(sums, on="at", **strictly)
        before = labels.sort("from").join_asof(sums, left_on="from", right_on="at", **strictly).sort("at")
        joined = upto.with_columns(
            n=upto["n"].fill_null(0) - before["n"].fill_null(0),
            total=upto["total"].fill_null(0.0) - before["total"].fill_null(0.0),
        )
    joined.sort("row").write_parquet(out, compression="zstd")


def main():
    if sys.argv[1] == "make":
        make(sys.argv[2], *map(int, sys.argv[3:6]))
        return
    engine, job, folder = sys.argv[1:4]
    out = os.path.join(folder, f"{engine}-{job}.parquet")
    started, used = time.monotonic(), time.process_time()
    {"duckdb": duckdb_job, "polars": polars_job}[engine](job, folder, out)
    wall, cpu = time.monotonic() - started, time.process_time() - used
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    from pyarrow import compute, parquet

    result = parquet.read_table(out)
    column = result["total" if job == "window" else "last"]
    figures = [compute.sum(result["n"]).as_py() if job == "window" else column.null_count, compute.sum(column).as_py()]
    print(json.dumps({"rows": len(result), "wall": wall, "cpu": cpu, "resident": resident, "figures": figures}))


main()
