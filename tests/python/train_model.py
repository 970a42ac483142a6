"""Trains a small model on an exported training set, then scores some of its rows again with values that a server gave.

Usage: train_model.py FOLDER ANSWERS STEP: the export; one JSON object a line as `tidemill get --json` prints them, for every
STEP-th row. Fails where an engine reads other rows than the others, or where an online score is not the offline one.
"""

import json
import sys

import duckdb
import numpy
import pandas
import polars
import pyarrow.parquet
from sklearn.tree import DecisionTreeClassifier

folder, answers, step = sys.argv[1], sys.argv[2], int(sys.argv[3])
manifest = json.load(open(f"{folder}/_manifest.json"))

table = pyarrow.parquet.read_table(folder)
frame = pandas.read_parquet(folder)
lazy = polars.read_parquet(f"{folder}/*.parquet")
rows = duckdb.sql(f"SELECT * FROM read_parquet('{folder}/*.parquet')").arrow().read_all()
numbers = [field.name for field in table.schema if "__" in field.name and str(field.type) in ("int64", "double")]
assert len(numbers) >= 10, numbers
for name in numbers + ["row", "label"]:
    expected = table.column(name).to_pylist()
    assert lazy[name].to_list() == expected, f"polars reads other values of {name}"
    assert rows.column(name).to_pylist() == expected, f"duckdb reads other values of {name}"
    of_pandas = [None if pandas.isna(value) else value for value in frame[name]]
    assert of_pandas == expected, f"pandas reads other values of {name}"
assert table.num_rows == manifest["rows"]


def vectors(columns):
    """Floats, -1 where there is no value: what a model server would make of them."""
    return numpy.array([[-1.0 if value is None else float(value) for value in row] for row in zip(*columns)])


offline = vectors([table.column(name).to_pylist() for name in numbers])
labels = numpy.array(table.column("label").to_pylist())
model = DecisionTreeClassifier(max_depth=8, random_state=1).fit(offline, labels)
scores = model.predict_proba(offline)[:, 1]

served = [json.loads(line)["values"] for line in open(answers)]
online = vectors([[row[name.replace("__", ":")] for row in served] for name in numbers])
online_scores = model.predict_proba(online)[:, 1]
offline_scores = scores[::step][: len(served)]
assert len(served) > 100 and (online_scores == offline_scores).all(), (online_scores - offline_scores).nonzero()
assert len(set(scores)) > 10, "a model that says the same of every row shows nothing"
print(f"{len(labels)} rows, {len(numbers)} features, {len(served)} scores online as offline")
