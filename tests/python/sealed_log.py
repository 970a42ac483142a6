"""Reads a sealed event log with DuckDB, pyarrow, Polars and pandas, for tests/tests/it/sealing.rs: prints one line of JSON each.

Argument: the folder of the log. The files of the source `payments` are read by a glob, as anybody would.
"""

import glob
import json
import sys

import duckdb
import pandas
import polars
import pyarrow
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

log = sys.argv[1]
pattern = f"{log}/events/payments/*.parquet"


def with_duckdb():
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    rows = f"read_parquet('{pattern}', union_by_name = true)"
    count, total, users, first, last = connection.execute(
        f"SELECT count(*), sum(amount), count(DISTINCT \"user\"), min(\"at\"), max(\"at\") FROM {rows}"
    ).fetchone()
    price, tags, vector = connection.execute(
        f"SELECT sum(price), sum(len(tags)), sum(list_sum(place)) FROM {rows}"
    ).fetchone()
    arrivals = connection.execute(f"SELECT min(epoch_us(_arrival_time)) FROM {rows}").fetchone()[0]
    order = connection.execute(
        f"SELECT _partition, _offset FROM {rows} ORDER BY _segment, _position, _offset"
    ).fetchall()
    frames, consumed = connection.execute(f"SELECT count(*), sum(_consumed) FROM '{log}/frames/*.parquet'").fetchone()
    dead = connection.execute(f"SELECT _offset, code, reason, decode(payload) FROM '{log}/dead/*.parquet' ORDER BY 1")
    return {
        "count": count,
        "total": total,
        "users": users,
        "first": first.isoformat(),
        "last": last.isoformat(),
        "price": str(price),
        "tags": int(tags),
        "vector": vector,
        "arrivals": arrivals,
        "offsets": [list(row) for row in order],
        "frames": frames,
        "consumed": int(consumed),
        "dead": [list(row) for row in dead.fetchall()],
    }


def with_pyarrow():
    files = sorted(glob.glob(pattern))
    table = ds.dataset(files, format="parquet").to_table()
    table = table.sort_by([("_segment", "ascending"), ("_position", "ascending"), ("_offset", "ascending")])
    dead = ds.dataset(f"{log}/dead", format="parquet").to_table().sort_by("_offset")
    frames = ds.dataset(f"{log}/frames", format="parquet").to_table()
    letters = zip(*(dead[name].to_pylist() for name in ["_offset", "code", "reason", "payload"]))
    metadata = [pq.ParquetFile(file).metadata for file in files]
    for file in metadata:
        for group in range(file.num_row_groups):
            for column in range(file.num_columns):
                chunk = file.row_group(group).column(column)
                assert chunk.compression == "ZSTD", chunk
                assert chunk.has_column_index and chunk.has_offset_index, chunk.path_in_schema
    for file in files:
        buckets = pq.read_table(file, columns=["_bucket"])["_bucket"].to_pylist()
        assert buckets == sorted(buckets), "a file is sorted by bucket"
    return {
        "count": table.num_rows,
        "total": pc.sum(table["amount"]).as_py(),
        "users": pc.count_distinct(table["user"]).as_py(),
        "first": pc.min(table["at"]).as_py().isoformat(),
        "last": pc.max(table["at"]).as_py().isoformat(),
        "price": str(pc.sum(table["price"]).as_py()),
        "tags": pc.sum(pc.list_value_length(table["tags"])).as_py(),
        "vector": pc.sum(pc.list_flatten(table["place"])).as_py(),
        "arrivals": pc.min(table["_arrival_time"]).cast("int64").as_py(),
        "offsets": [list(row) for row in zip(table["_partition"].to_pylist(), table["_offset"].to_pylist())],
        "frames": frames.num_rows,
        "consumed": pc.sum(frames["_consumed"]).as_py(),
        "dead": [[offset, code, reason, payload.decode()] for offset, code, reason, payload in letters],
    }


def with_polars():
    rows = polars.read_parquet(pattern).sort("_segment", "_position", "_offset")
    frames = polars.read_parquet(f"{log}/frames/*.parquet")
    dead = polars.read_parquet(f"{log}/dead/*.parquet").sort("_offset")
    return {
        "count": rows.height,
        "total": rows["amount"].sum(),
        "users": rows["user"].n_unique(),
        "first": rows["at"].min().isoformat(),
        "last": rows["at"].max().isoformat(),
        "price": str(rows["price"].sum()),
        "tags": rows["tags"].list.len().sum(),
        "vector": rows["place"].explode().sum(),
        "arrivals": rows["_arrival_time"].cast(polars.Int64).min(),
        "offsets": [list(row) for row in rows.select("_partition", "_offset").rows()],
        "frames": frames.height,
        "consumed": frames["_consumed"].sum(),
        "dead": [[*row, payload.decode()] for *row, payload in dead.select("_offset", "code", "reason", "payload").rows()],
    }


def with_pandas():
    def read(folder):
        files = sorted(glob.glob(f"{log}/{folder}/*.parquet"))
        return pandas.concat([pandas.read_parquet(file, dtype_backend="pyarrow") for file in files])

    rows = read("events/payments").sort_values(["_segment", "_position", "_offset"])
    frames, dead = read("frames"), read("dead").sort_values("_offset")
    return {
        "count": len(rows),
        "total": float(rows["amount"].sum()),
        "users": int(rows["user"].nunique()),
        "first": rows["at"].min().isoformat(),
        "last": rows["at"].max().isoformat(),
        "price": str(rows["price"].sum()),
        "tags": sum(len(tags) for tags in rows["tags"]),
        "vector": float(sum(sum(place) for place in rows["place"])),
        "arrivals": int(rows["_arrival_time"].astype("int64[pyarrow]").min()),
        "offsets": [[int(partition), int(offset)] for partition, offset in zip(rows["_partition"], rows["_offset"])],
        "frames": len(frames),
        "consumed": int(frames["_consumed"].sum()),
        "dead": [
            [int(row["_offset"]), row["code"], row["reason"], row["payload"].decode()] for _, row in dead.iterrows()
        ],
    }


print(json.dumps({"duckdb": duckdb.__version__, "read": with_duckdb()}))
print(json.dumps({"pyarrow": pyarrow.__version__, "read": with_pyarrow()}))
print(json.dumps({"polars": polars.__version__, "read": with_polars()}))
print(json.dumps({"pandas": pandas.__version__, "read": with_pandas()}))
