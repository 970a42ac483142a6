"""Makes the interactions and items of a shop to try this project with: NDJSON on stdout.

    for source in items item_vectors interactions; do
        python3 generate.py --source $source --events 20000 | tidemill push $source - --wait
    done

The same --events and --seed give the same shop, dated up to --until (now): call it alike for each source. u1 is the busiest
user, i1 the most popular item. Users come for visits of a few items, mostly of what they like; a few events come late, a few
come twice.
"""

import argparse
import json
import os
import random
import sys
from datetime import datetime, timedelta, timezone
from itertools import accumulate

DAYS = 21
CATEGORIES = {"shoes": 70, "books": 15, "toys": 25, "garden": 40, "kitchen": 35, "sports": 60}
# How busy each hour of the day is (UTC), against the busiest: people shop in the evening.
RHYTHM = [.15, .08, .05, .04, .04, .06, .15, .3, .4, .45, .5, .6, .6, .5, .5, .55, .65, .8, .95, 1, .95, .75, .5, .3]


def zipf(n, shift=1):
    """Running weights by Zipf's law: the k-th has 1 / (k + shift); a greater shift makes the first less busy."""
    return list(accumulate(1 / (k + shift) for k in range(n)))


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


def catalogue(events, seed, until):
    """Rows of the items; some get a new price, some leave the shelf. And the vector of each item."""
    rng = random.Random(f"{seed} items")
    start = until - timedelta(days=DAYS)
    centre = {category: [rng.gauss(0, 1) for _ in range(8)] for category in CATEGORIES}
    rows, vectors = [], {}
    for n in range(max(events // 100, 30)):
        category = rng.choice(list(CATEGORIES))
        item = {"item_id": f"i{n + 1}", "title": f"{category} no. {n + 1}", "category": category,
                "price": round(CATEGORIES[category] * rng.lognormvariate(0, 0.5), 2),
                "changed_at": stamp(start - timedelta(days=rng.randint(1, 300)))}
        rows.append(item)
        vectors[item["item_id"]] = [round(x + rng.gauss(0, 0.3), 4) for x in centre[category]]
        if rng.random() < 0.1:
            rows.append({**item, "price": round(item["price"] * 0.8, 2), "changed_at": stamp(moment(rng, until))})
        elif n >= 10 and rng.random() < 0.02:
            rows.append({"item_id": item["item_id"], "op": "d", "changed_at": stamp(moment(rng, until))})
    return rows, vectors


def item_vectors(events, seed, until):
    """The vector of each item, as of its first row."""
    rows, vectors = catalogue(events, seed, until)
    first = {}
    for row in rows:
        first.setdefault(row["item_id"], row)
    return [{"item_id": item, "vec": vectors[item], "category": row["category"], "price": row["price"],
             "at": row["changed_at"]} for item, row in first.items()]


def interactions(events, seed, until):
    rows, vectors = catalogue(events, seed, until)
    items = list({row["item_id"]: row for row in rows if "op" not in row}.values())
    shelves = {category: [item for item in items if item["category"] == category] or items for category in CATEGORIES}
    weights = {id(shelf): zipf(len(shelf)) for shelf in [items, *shelves.values()]}
    rng = random.Random(f"{seed} interactions")
    users = [(f"u{n + 1}", rng.choice(list(CATEGORIES))) for n in range(max(events // 20, 20))]
    by_user, twice = zipf(len(users), 20), events // 200
    arrivals = []
    while len(arrivals) < events - twice:
        at, (user, likes) = moment(rng, until), rng.choices(users, cum_weights=by_user)[0]
        for _ in range(min(1 + int(rng.expovariate(1 / 5)), events - twice - len(arrivals))):
            shelf = shelves[likes] if rng.random() < 0.7 else items
            item = rng.choices(shelf, cum_weights=weights[id(shelf)])[0]["item_id"]
            seconds = min(rng.lognormvariate(2.8, 0.9), 900)
            kind = rng.choices(["view", "cart", "purchase"], [90, 7, 3])[0]
            late = rng.expovariate(1 / 1800) if rng.random() < 0.02 else 0
            arrivals.append((at + timedelta(seconds=late), {
                "interaction_id": f"e{len(arrivals) + 1}", "user_id": user, "item_id": item, "kind": kind,
                "seconds": round(seconds, 1), "taste": vectors[item], "at": stamp(at)}))
            at = min(at + timedelta(seconds=seconds + rng.expovariate(1 / 60)), until)
    arrivals += [(at + timedelta(seconds=30), event) for at, event in rng.sample(arrivals, twice)]
    return [event for _, event in sorted(arrivals, key=lambda arrival: arrival[0])]


def time(text):
    return datetime.strptime(text.replace("Z", "+00:00"), "%Y-%m-%dT%H:%M:%S%z").astimezone(timezone.utc)


def main():
    parser = argparse.ArgumentParser(description="Makes interactions and items: NDJSON on stdout.")
    parser.add_argument("--source", choices=["interactions", "items", "item_vectors"], default="interactions", help="whose events")
    parser.add_argument("--events", type=int, default=20000, help="how many interactions; the items fit them (20000)")
    parser.add_argument("--seed", type=int, default=1, help="other seeds, other events (1)")
    parser.add_argument("--until", type=time, default=datetime.now(timezone.utc), help="RFC 3339; the last moment (now)")
    options = parser.parse_args()
    if options.events < 0:
        parser.error("--events is 0 or more")
    of = (options.events, options.seed, options.until)
    rows = {"interactions": interactions, "items": lambda *of: catalogue(*of)[0], "item_vectors": item_vectors}
    for row in rows[options.source](*of):
        print(json.dumps(row))


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
