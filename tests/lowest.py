"""The lowest versions that pyproject.toml allows, as constraints for pip: `make lowest` installs and tries them."""

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
_BOUND = re.compile(r"([A-Za-z0-9-]+)(?:\[[a-z,]+\])?>=([0-9.]+)")


def bounds() -> dict[str, str]:
    """The lower bound of each package that the library and PostgreSQL need."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    found = {}
    for requirement in (*project["dependencies"], *project["optional-dependencies"]["postgres"]):
        match = _BOUND.fullmatch(requirement)
        if match is None:
            raise ValueError(f"{requirement} has no lower bound")
        found[match[1]] = match[2]
    return found


if __name__ == "__main__":
    for package, version in bounds().items():
        print(f"{package}=={version}")
