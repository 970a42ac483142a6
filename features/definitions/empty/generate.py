"""Makes clicks to try this project with: NDJSON on stdout.

    python3 generate.py --events 1000 | tidemill push clicks - --wait

The same --seed gives the same clicks, dated up to --until (now). A few come late and a few come twice, as they do in life.
"""

import argparse
import json
import os
import random
import sys
from datetime import datetime, timedelta, timezone
from itertools import accumulate

DAYS = 14
NAMES = ["ada", "bob", "eve", "kim", "leo", "mia", "noa", "ola", "pia", "tom"]
PAGES = ["/", "/pricing", "/docs", "/docs/start", "/blog", "/login", "/about", "/jobs"]
# How busy each hour of the day is (UTC), against the busiest.
RHYTHM = [.12, .08, .06, .05, .06, .1, .2, .4, .65, .85, .95, 1, .9, .9, .95, .95, .9, .85, .8, .85, .9, .75, .45, .25]


def zipf(n):
    """Running weights: the k-th is chosen about 1/k as often as the first."""
    return list(accumulate(1 / (k + 1) for k in range(n)))


def moment(rng, until):
    """A time of the last days, by the rhythm of the day. It takes one number of rng, however many tries it needs: what follows
    is then the same at every --until."""
    rng = random.Random(rng.random())
    while True:
        at = until - timedelta(seconds=rng.uniform(1, DAYS * 86400))
        if rng.random() < RHYTHM[at.hour]:
            return at


def stamp(at):
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clicks(rng, events, until):
    users = NAMES + [f"user{n}" for n in range(len(NAMES) + 1, max(events // 20, 20))]
    by_user, by_page = zipf(len(users)), zipf(len(PAGES))
    twice = events // 200
    arrivals = []
    for n in range(events - twice):
        at = moment(rng, until)
        click = {
            "click_id": f"k{n + 1}",
            "user_id": rng.choices(users, cum_weights=by_user)[0],
            "page": rng.choices(PAGES, cum_weights=by_page)[0],
            "seconds": round(rng.lognormvariate(2, 1), 1),
            "at": stamp(at),
        }
        late = rng.expovariate(1 / 1800) if rng.random() < 0.02 else 0
        arrivals.append((at + timedelta(seconds=late), click))
    arrivals += [(at + timedelta(seconds=30), click) for at, click in rng.sample(arrivals, twice)]
    arrivals.sort(key=lambda arrival: arrival[0])
    return [click for _, click in arrivals]


def time(text):
    return datetime.strptime(text.replace("Z", "+00:00"), "%Y-%m-%dT%H:%M:%S%z").astimezone(timezone.utc)


def main():
    parser = argparse.ArgumentParser(description="Makes clicks: NDJSON on stdout.")
    parser.add_argument("--source", choices=["clicks"], default="clicks", help="whose events (clicks)")
    parser.add_argument("--events", type=int, default=1000, help="how many lines (1000)")
    parser.add_argument("--seed", type=int, default=1, help="other seeds, other events (1)")
    parser.add_argument("--until", type=time, default=datetime.now(timezone.utc), help="RFC 3339; the last moment (now)")
    options = parser.parse_args()
    if options.events < 0:
        parser.error("--events is 0 or more")
    for click in clicks(random.Random(options.seed), options.events, options.until):
        print(json.dumps(click))


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
