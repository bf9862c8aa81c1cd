"""README.md in pieces: its fenced blocks and its tables, for the tests that run and compare them."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Block:
    """One fenced block; `marker` is the word of the HTML comment above it, `heading` the section it stands in."""

    language: str
    body: str
    marker: str
    heading: str


def blocks() -> list[Block]:
    """Every fenced block, in order."""
    found = []
    pattern = re.compile(r"(?:<!-- (?P<marker>[a-z ]+) -->\n)?^```(?P<language>\w+)\n(?P<body>.*?)^```$", re.M | re.S)
    for match in pattern.finditer(TEXT):
        headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", TEXT[: match.start()], flags=re.M | re.S), re.M)
        found.append(Block(match["language"], match["body"], match["marker"] or "", headings[-1]))
    return found


def marked(marker: str) -> str:
    """The body of the one block with a marker."""
    [body] = [block.body for block in blocks() if block.marker == marker]
    return body


def python(heading: str, containing: str = "") -> str:
    """The one Python block under a heading (that contains a word)."""
    [body] = [
        block.body
        for block in blocks()
        if block.language == "python" and block.heading == heading and containing in block.body
    ]
    return body


def table(heading: str) -> list[list[str]]:
    """The rows of the table under a heading, without its head."""
    section = re.split(r"^## ", TEXT, flags=re.M)
    [text] = [part for part in section if part.startswith(heading + "\n")]
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]
