"""Section `settled`: what a charge costs in a store that has none, a hundred thousand, or a million settled rows."""

from __future__ import annotations

from benchmarks.arithmetic import ratios
from benchmarks.bench import Bench
from benchmarks.inside import plant
from benchmarks.modes import BY_NAME, WORDS
from benchmarks.places import KINDS
from benchmarks.planting import plan_night
from benchmarks.provider import serving
from benchmarks.sections import Section, Table, shown

SETTLED_S_MAX = 120.0


def settled(bench: Bench) -> Section:
    """Charge in stores of each size in turn, one at a time; ratios are to the empty store of the same round."""
    section, sizes = Section("settled"), bench.scale.settled
    table = Table(
        "One charge, 1 in flight, in a store of settled rows", ("settled rows", "database", "ms", "x empty", "failed")
    )
    for kind in KINDS:
        stores = {size: _planted(bench, kind, size) for size in sizes}
        mode, rounds = BY_NAME[f"ours-sync-{kind}"], list[dict[str, float]]()
        for _ in bench.going(bench.scale.rounds, SETTLED_S_MAX, f"settled, {WORDS[kind]}"):
            values: dict[str, float] = {}
            for size in sizes:
                result = bench.charge(mode, (1,), stores[size])
                where = f"{size:,} rows, {WORDS[kind]}"
                if "error" in result:
                    section.failed(where, {result["error"]: 1})
                    continue
                (burst,) = result["bursts"]
                section.failed(where, burst["failed"])
                if burst["done"]:
                    values[str(size)] = 1000 * burst["elapsed_s"] / burst["done"]
            rounds.append(values)
        for size in sizes:
            where = f"settled/{kind}/{size}"
            spent = section.keep(f"{where}/ms", [one[str(size)] for one in rounds if str(size) in one])
            times = section.keep(f"{where}/ratio", ratios(rounds, str(size), "0"))
            failures = section.failures_of(f"{size:,} rows, {WORDS[kind]}")
            table.rows.append((f"{size:,}", WORDS[kind], shown(spent, 1), shown(times), str(failures)))
        for store in stores.values():
            bench.places.drop(store)
    section.tables.append(table)
    return section


def _planted(bench: Bench, kind: str, size: int) -> str:
    place = bench.places.fresh(kind)
    assert place is not None
    bench.say(f"settled, {WORDS[kind]}: planting {size:,} rows")
    plan = plan_night(bench.places.folder, max(size, 1))
    with serving(bench.program) as provider:
        plant(place, provider.url, plan.facts if size else lambda: iter(()))
    return place
