"""docs/generated is what the tool prints now; `make golden` renews it."""

import os
from pathlib import Path

import pytest

GENERATED = Path(__file__).parents[2] / "docs/generated"


@pytest.mark.parametrize("table", ["ops", "passes", "knobs"])
def test_generated_docs_are_current(stator, table):
    path = GENERATED / f"{table}.md"
    text = stator(table).stdout
    if "STATOR_UPDATE_GOLDEN" in os.environ:
        path.write_text(text)
    assert path.read_text() == text, "run `make golden`"
