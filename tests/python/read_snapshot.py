"""Reads one view of a snapshot with DuckDB, pyarrow, pandas and Polars, for tests/tests/it/snapshots.rs.

Usage: read_snapshot.py FOLDER VIEW. Prints one JSON object a row, as the server writes values in JSON, sorted by the first
column. Fails where an engine reads other rows than the others, or other columns than the manifest names.
"""

import json
import sys

import duckdb
import pandas
import polars
import pyarrow
import pyarrow.parquet

from read_rows import shown

folder, view = sys.argv[1], sys.argv[2]
manifest = json.load(open(f"{folder}/_manifest.json"))
part = manifest["views"][view]
files = [f"{folder}/{file}" for file in part["files"]]

table = pyarrow.parquet.ParquetDataset(files).read()
table = table.sort_by(table.column_names[0])
names = table.column_names
assert table.num_rows == part["rows"], (table.num_rows, part)
maps = [pyarrow.types.is_map(field.type) for field in table.schema]


def cells(row):
    """Maps come as dicts, as lists of pairs, or as lists of keys and values."""
    for value, is_map in zip(row, maps):
        if is_map and isinstance(value, list):
            value = dict((pair["key"], pair["value"]) if isinstance(pair, dict) else pair for pair in value)
        yield shown(value)


def check(engine, found):
    for number, (row, expected) in enumerate(zip(found, rows)):
        assert row == expected, f"{engine} reads {row} in row {number}, not {expected}"
    assert len(found) == len(rows), f"{engine} reads {len(found)} rows, not {len(rows)}"


rows = [list(cells(row)) for row in zip(*(table.column(name).to_pylist() for name in names))]

connection = duckdb.connect()
connection.execute("SET TimeZone = 'UTC'")
of_duckdb = connection.execute(f'SELECT * FROM read_parquet({files!r}) ORDER BY "{names[0]}"')
assert [column[0] for column in of_duckdb.description] == names
check("duckdb", [list(cells(row)) for row in of_duckdb.fetchall()])

frame = polars.concat([polars.read_parquet(file) for file in files]).sort(names[0])
assert frame.columns == names
check("polars", [list(cells(row)) for row in frame.rows()])

frame = pandas.concat([pandas.read_parquet(file, dtype_backend="pyarrow") for file in files]).sort_values(names[0])
assert list(frame.columns) == names


def of_pandas(value):
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, dict)):
        return value
    if pandas.isna(value):
        return None
    return value.to_pydatetime() if isinstance(value, pandas.Timestamp) else value


check("pandas", [list(cells(map(of_pandas, row))) for row in frame.itertuples(index=False)])

for row in rows:
    print(json.dumps(dict(zip(names, row))))
