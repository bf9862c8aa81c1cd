"""Draw a run as an SVG: charges as ratios to the bare SDK, and the time that the nightly run takes for a charge."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.arithmetic import Measure
from benchmarks.charging import LEVELS
from benchmarks.modes import MODES, WORDS
from benchmarks.places import KINDS

OURS, PEER = "#0b6e4f", "#9aa5b1"


def missing() -> str | None:
    """Say what is missing to draw, or None."""
    return None if find_spec("matplotlib") else "matplotlib is not installed: pip install '.[bench]'"


def draw(figures: Mapping[str, Measure], file: Path) -> None:
    """Draw the figures that there are; bars are medians, lines reach from the lowest to the highest round."""
    from matplotlib import pyplot, rcParams

    rcParams["svg.hashsalt"] = "benchmarks"  # the same figures are the same file
    rcParams["svg.fonttype"] = "none"  # text stays text
    rcParams["font.size"] = 9
    panels: list[tuple[Bars, str, float | None]]
    panels = [(_charges(figures, level), f"{level} in flight: charges/s, × bare SDK", 1.0) for level in LEVELS]
    panels.append((_nights(figures), "nightly run: µs a charge (less is better)", None))
    panels = [panel for panel in panels if panel[0]]
    if not panels:
        return
    rows = (len(panels) + 1) // 2
    canvas, places = pyplot.subplots(rows, min(2, len(panels)), figsize=(11, 3.4 * rows), squeeze=False)
    for place in places.flat[len(panels) :]:
        place.axis("off")
    for place, (bars, title, base) in zip(places.flat, panels, strict=False):
        _panel(place, bars, title, base)
    canvas.tight_layout()
    canvas.savefig(file, format="svg", metadata={"Date": None})
    pyplot.close(canvas)


Bars = list[tuple[str, Measure, bool]]


def _charges(figures: Mapping[str, Measure], level: int) -> Bars:
    named = ((mode, figures.get(f"charge/{mode.name}/{level}/ratio")) for mode in MODES)
    return [(mode.label, found, mode.name.startswith("ours")) for mode, found in named if found is not None]


def _nights(figures: Mapping[str, Measure]) -> Bars:
    sizes = sorted(
        {int(name.split("/")[1]) for name in figures if name.startswith("night/") and name.split("/")[1].isdigit()}
    )
    if not sizes:
        return []
    size = sizes[-1]
    wanted = [("fetch", "fetch and decode only")]
    for kind in KINDS:
        wanted += [(f"naive-{kind}", f"naive on the SDK, {WORDS[kind]}"), (f"ours-{kind}", f"ours, {WORDS[kind]}")]
    found: Bars = []
    for name, label in wanted:
        # The naive run may have been measured on a smaller night only: its time for a charge is the same.
        one = next((figures[key] for n in (size, *sizes[::-1]) if (key := f"night/{n}/{name}/us") in figures), None)
        if one is not None:
            found.append((f"{label}, {size:,}", one, name.startswith("ours")))
    return found


def _panel(place: Any, bars: Bars, title: str, base: float | None) -> None:
    labels = [label for label, _, _ in bars]
    medians = [found.median for _, found, _ in bars]
    spread = [[found.median - found.low for _, found, _ in bars], [found.high - found.median for _, found, _ in bars]]
    colours = [OURS if ours else PEER for _, _, ours in bars]
    place.barh(labels, medians, xerr=spread, color=colours, ecolor="#333333", capsize=2)
    for number, value in enumerate(medians):
        place.text(
            value, number + 0.02, f"  {value:,.2f}" if value < 100 else f"  {value:,.0f}", va="bottom", fontsize=7
        )
    if base is not None:
        place.axvline(base, color="#333333", linewidth=0.8, linestyle="--")
    place.invert_yaxis()
    place.margins(x=0.15)
    place.set_title(title, loc="left", fontsize=10)
    for side in ("top", "right"):
        place.spines[side].set_visible(False)
