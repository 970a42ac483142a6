"""Makes payments, cards and merchants to try this project with: NDJSON on stdout.

    for source in cards merchants payments; do
        python3 generate.py --source $source --events 20000 | tidemill push $source - --wait
    done

The same --events and --seed give the same world, dated up to --until (now): call it alike for each source. c1 is the busiest
card, m1 the busiest merchant. A few payments come late, a few twice; some cards are stolen and tried out abroad.
"""

import argparse
import json
import os
import random
import sys
from datetime import datetime, timedelta, timezone
from itertools import accumulate

DAYS = 14
COUNTRIES = ["DE", "FR", "AT", "NL", "IT", "PL", "ES", "US"]
CATEGORIES = {"grocery": 25, "fuel": 50, "restaurant": 35, "clothing": 70, "electronics": 220, "travel": 400, "games": 30}
# How busy each hour of the day is (UTC), against the busiest.
RHYTHM = [.1, .06, .04, .03, .04, .1, .25, .5, .6, .65, .75, .95, .9, .75, .7, .75, .9, 1, .95, .8, .6, .4, .25, .15]


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


def world(events, seed, until):
    """Rows of the tables, oldest first; the last row that a card or merchant has here is the one that counts."""
    rng = random.Random(f"{seed} world")
    start = until - timedelta(days=DAYS)
    cards, merchants = [], []
    for n in range(max(events // 20, 20)):
        issued = start - timedelta(days=rng.randint(30, 1500))
        card = {"card_id": f"c{n + 1}", "brand": rng.choice(["visa", "mastercard", "amex"]),
                "credit_limit": rng.choice([500, 1000, 2000, 5000]), "issued_at": stamp(issued), "changed_at": stamp(issued),
                "home_country": rng.choices(COUNTRIES, cum_weights=zipf(len(COUNTRIES)))[0]}
        cards.append(card)
        if rng.random() < 0.05:
            cards.append({**card, "credit_limit": 2 * card["credit_limit"], "changed_at": stamp(moment(rng, until))})
        elif n >= 10 and rng.random() < 0.01:  # the busiest ones stay
            cards.append({"card_id": card["card_id"], "op": "d", "changed_at": stamp(moment(rng, until))})
    for n in range(max(events // 400, 10)):
        merchants.append({"merchant_id": f"m{n + 1}", "category": rng.choice(list(CATEGORIES)),
                          "risk": round(rng.betavariate(1, 6), 3),
                          "changed_at": stamp(start - timedelta(days=rng.randint(1, 300)))})
    return cards, merchants


def payments(events, seed, until):
    rows, merchants = world(events, seed, until)
    cards = list({row["card_id"]: row for row in rows if "op" not in row}.values())
    rng = random.Random(f"{seed} payments")
    by_card, by_merchant, twice = zipf(len(cards), 20), zipf(len(merchants)), events // 200
    arrivals = []

    def pay(at, card, merchant, country, amount, decline):
        payment = {"payment_id": f"p{len(arrivals) + 1}", "card_id": card["card_id"], "merchant_id": merchant["merchant_id"],
                   "amount": round(amount, 2), "country": country, "paid_at": stamp(at),
                   "status": "declined" if rng.random() < decline else "approved"}
        late = rng.expovariate(1 / 1800) if rng.random() < 0.02 else 0
        arrivals.append((at + timedelta(seconds=late), payment))

    while len(arrivals) < events - twice:
        at, card = moment(rng, until), rng.choices(cards, cum_weights=by_card)[0]
        if rng.random() < 0.002:
            country = rng.choice([known for known in COUNTRIES if known != card["home_country"]])
            for k in range(min(rng.randint(3, 9), events - twice - len(arrivals))):
                at = min(at + timedelta(seconds=rng.uniform(20, 120)), until)
                pay(at, card, rng.choice(merchants), country, 5 * 2.2 ** k, 0.1 + 0.1 * k)
            continue
        merchant = rng.choices(merchants, cum_weights=by_merchant)[0]
        country = card["home_country"] if rng.random() < 0.96 else rng.choice(COUNTRIES)
        usual = CATEGORIES[merchant["category"]]
        pay(at, card, merchant, country, usual * rng.lognormvariate(-0.3, 0.8), 0.03 + 0.2 * merchant["risk"])
    arrivals += [(at + timedelta(seconds=30), payment) for at, payment in rng.sample(arrivals, twice)]
    return [payment for _, payment in sorted(arrivals, key=lambda arrival: arrival[0])]


def time(text):
    return datetime.strptime(text.replace("Z", "+00:00"), "%Y-%m-%dT%H:%M:%S%z").astimezone(timezone.utc)


def main():
    parser = argparse.ArgumentParser(description="Makes payments, cards and merchants: NDJSON on stdout.")
    parser.add_argument("--source", choices=["payments", "cards", "merchants"], default="payments", help="whose events")
    parser.add_argument("--events", type=int, default=20000, help="how many payments; tables fit them (20000)")
    parser.add_argument("--seed", type=int, default=1, help="other seeds, other events (1)")
    parser.add_argument("--until", type=time, default=datetime.now(timezone.utc), help="RFC 3339; the last moment (now)")
    options = parser.parse_args()
    if options.events < 0:
        parser.error("--events is 0 or more")
    of = (options.events, options.seed, options.until)
    for row in payments(*of) if options.source == "payments" else world(*of)[options.source == "merchants"]:
        print(json.dumps(row))


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
