"""The README's jobs: its crontab and units hide no exit code, and its table of ages is the program's."""

import re
import subprocess
from pathlib import Path

import pytest

from cli.ages import duration
from reconcile.ages import AGES
from tests import readme

SECONDS_MAX = 60


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_cron_hides_no_exit_code(code: int, tmp_path: Path) -> None:
    """Each line of the crontab ends as its command does, and whatever is not 0 prints something: that is mailed."""
    (tmp_path / "paycli.env").write_text("PAYCLI_NAMESPACE=default\n")
    (tmp_path / "paycli").write_text(f"#!/bin/bash\n[ $PAYCLI_NAMESPACE = default ] || exit 9\nexit {code}\n")
    (tmp_path / "job").write_text(readme.marked("job").replace("/srv/billing", str(tmp_path)))
    for name in ("paycli", "job"):
        (tmp_path / name).chmod(0o700)
    lines = [line.split(maxsplit=5)[5] for line in readme.marked("crontab").splitlines() if line[:1] in "*0123456789"]
    assert [line.split()[1] for line in lines] == ["resume", "reconcile", "alerts"]
    for line in lines:
        done = subprocess.run(
            ["/bin/bash", "-c", line.replace("/srv/billing", str(tmp_path))],
            env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
        assert (done.returncode, done.stderr) == (code, "")
        assert (f"ended with exit code {code}" in done.stdout, done.stdout == "") == (code != 0, code == 0)


def test_units_hide_no_exit_code() -> None:
    """No unit calls a code but 0 a success, and 1 and 2, which another try does not mend, are not tried again."""
    (unit,) = (block.body for block in readme.blocks() if block.language == "ini")
    assert "SuccessExitStatus" not in unit
    assert "RestartPreventExitStatus=1 2\n" in unit
    assert [line for line in unit.splitlines() if line.startswith("Exec") and re.search(r"[;|]|=-", line)] == []


def test_ages_are_the_program_s() -> None:
    """C3: the table of ages is the one that the program goes by."""
    rows = readme.table("Ages")
    assert {row[0].strip("`"): duration("age", row[1]) for row in rows} == AGES
