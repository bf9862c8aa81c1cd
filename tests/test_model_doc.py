"""docs/MODEL.md prints the tables of the code; nobody copies them by hand."""

import re
from pathlib import Path

import pytest

from gateway_client import Stripe, evidence

MODEL = Path(__file__).resolve().parent.parent / "docs" / "MODEL.md"


@pytest.mark.parametrize(("name", "table"), [("bounds", Stripe.profile.bounds.table()), ("evidence", evidence.table())])
def test_tables_of_the_model_are_the_codes(name: str, table: str) -> None:
    """The published lengths, and what evidence allows, are printed from the code."""
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- {name} -->", MODEL.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    assert found[1] == table
