"""Schedules that once failed, each in its shortest form: name → decisions. `tests/FOUND.md` tells what each found."""

from __future__ import annotations

KEPT: dict[str, dict[str, str]] = {}
