"""The command that checks and explains: settings, key, clocks, database, and what is left to do. It changes nothing."""

from __future__ import annotations

import os
from collections import Counter

from cli import checks, output
from cli.charging import Json

_COLOURS = {
    checks.Result.OK: output.GREEN,
    checks.Result.WARNING: output.YELLOW,
    checks.Result.PROBLEM: output.RED,
}


def doctor(as_json: Json = False) -> int:
    """Check settings, key, provider, clocks and database, one line for each; it changes nothing, anywhere.

    Exit code: 0 all is fine; 1 something needs a person; 2 a setting is wrong; 3 the database or the provider could not
    be asked.
    """
    from cli.checkup import Checkup
    from gateway_client.clock import SystemClock

    found = []
    for check in Checkup(os.environ, SystemClock()).checks():
        found.append(check)
        if as_json:
            output.json_line(check.as_json())
        else:
            advice = f" → {check.advice}" if check.advice else ""
            output.judged(
                f"{check.result:<11}", f"  {check.check:<14}  {check.found}{advice}", _COLOURS.get(check.result)
            )
    counted = Counter(check.result for check in found)
    output.say(", ".join(f"{counted[result]} {result}" for result in checks.Result if counted[result]))
    return checks.exit_code(check.code for check in found)
