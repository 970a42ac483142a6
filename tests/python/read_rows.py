"""Reads Parquet files by DuckDB, for tests/tests/it/training_set.rs: prints one JSON object a row, in the order of the files.

Values are as the server writes them in JSON: decimals as text, times as RFC 3339, bytes as base64, infinities as text.
"""

import base64
import datetime
import decimal
import json
import math
import sys

import duckdb


def shown(value):
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: shown(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(item) for item in value]
    return value


def main():
    connection = duckdb.connect()
    rows = connection.execute("SELECT * FROM read_parquet(?, hive_partitioning = true)", [sys.argv[1]])
    names = [column[0] for column in rows.description]
    for row in rows.fetchall():
        print(json.dumps({name: shown(value) for name, value in zip(names, row)}))


if __name__ == "__main__":
    main()
