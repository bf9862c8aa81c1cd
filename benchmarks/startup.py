"""Section `startup`: the processor time of short commands, beside that of importing SQLModel alone."""

from __future__ import annotations

import sys

from benchmarks.arithmetic import ratios
from benchmarks.bench import Bench
from benchmarks.modes import BY_NAME
from benchmarks.places import SQLITE
from benchmarks.processes import cpu_of, environment, paycli
from benchmarks.provider import API_KEY
from benchmarks.sections import Section, Table, shown

PREFIX = "startup"  # of the names of the store's charges
BASE = "python -c 'import sqlmodel'"


def startup(bench: Bench) -> Section:
    """Run each command in turn within each round; ratios are to the import of SQLModel of the same round."""
    section, rounds = Section("startup"), list[dict[str, float]]()
    place = bench.places.fresh(SQLITE)
    assert place is not None
    result = bench.charge(BY_NAME["ours-sync-sqlite"], (1,), place, calls=3, warm=0, prefix=PREFIX)
    if "error" in result:
        section.failed("the store", {result["error"]: 1})
    env = environment(PAYCLI_DATABASE_URL=place, STRIPE_API_KEY=API_KEY)
    commands = {
        "python -c pass": ([sys.executable, "-c", "pass"], (0,)),
        BASE: ([sys.executable, "-c", "import sqlmodel"], (0,)),
        "python -c 'import gateway_client'": ([sys.executable, "-c", "import gateway_client"], (0,)),
        "paycli show": ([paycli(), "show", f"{PREFIX}n1_0"], (0,)),
        "paycli pending": ([paycli(), "pending"], (0,)),
        "paycli alerts": ([paycli(), "alerts"], (0, 1)),  # nothing was ever reconciled there
    }
    for command, allowed in commands.values():
        cpu_of(command, env, allowed)  # compiles what is imported
    for _ in bench.going(bench.scale.startup_rounds, 120, "startup"):
        values: dict[str, float] = {}
        for name, (command, allowed) in commands.items():
            values[name], failed = cpu_of(command, env, allowed)
            section.failed(name, {failed: 1} if failed else {})
        rounds.append(values)
    table = Table("CPU of short commands", ("command", "CPU ms", f"x {BASE}", "failed"))
    for name in commands:
        spent = section.keep(f"startup/{name}/cpu_ms", [one[name] for one in rounds])
        times = section.keep(f"startup/{name}/ratio", ratios(rounds, name, BASE))
        table.rows.append((name, shown(spent, 0), shown(times), str(section.failures_of(name))))
    section.tables.append(table)
    bench.places.drop(place)
    return section
