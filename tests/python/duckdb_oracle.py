"""Answers SQL expressions by DuckDB, for tests/tests/it/sql.rs: one line of JSON in, one out.

In: {"setup": [statements]} once, then {"columns": [[name, type]], "rows": [[values]], "ask": [expressions]}.
Out: {"version": ...}, then {"answers": [one list of values an expression, or {"failed": message}]}.
Values: null, booleans, and {"int" | "float" | "decimal" | "text": "..."}. In rows floats and decimals are text, times are
microseconds.
"""

import decimal
import json
import sys

import duckdb


def encoded(value):
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return {"int": str(value)}
    if isinstance(value, float):
        return {"float": repr(value)}
    if isinstance(value, decimal.Decimal):
        return {"decimal": format(value, "f")}
    return {"text": str(value)}


def place(type_name):
    return "make_timestamp(?)" if type_name == "TIMESTAMP" else f"CAST(? AS {type_name})"


def load(connection, columns, rows):
    fields = ", ".join(f"{name} {type_name}" for name, type_name in columns)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE t (number INTEGER, {fields})")
    places = ", ".join(["?"] + [place(type_name) for _, type_name in columns])
    floats = [type_name == "DOUBLE" for _, type_name in columns]
    for number, row in enumerate(rows):
        values = [float(v) if is_float and v is not None else v for v, is_float in zip(row, floats)]
        connection.execute(f"INSERT INTO t VALUES ({places})", [number] + values)


def evaluate(connection, expressions):
    listed = ", ".join(expressions)
    rows = connection.execute(f"SELECT {listed} FROM t ORDER BY number").fetchall()
    return [[encoded(value) for value in column] for column in zip(*rows)]


def answers(connection, request):
    load(connection, request["columns"], request["rows"])
    try:
        return evaluate(connection, request["ask"])
    except duckdb.Error:
        # One of them failed: which?
        return [one_answer(connection, expression) for expression in request["ask"]]


def one_answer(connection, expression):
    try:
        return evaluate(connection, [expression])[0]
    except duckdb.Error as error:
        return {"failed": str(error)}


def main():
    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    for line in sys.stdin:
        request = json.loads(line)
        if "setup" in request:
            for statement in request["setup"]:
                connection.execute(statement)
            reply = {"version": duckdb.__version__}
        else:
            reply = {"answers": answers(connection, request)}
        print(json.dumps(reply), flush=True)


main()
