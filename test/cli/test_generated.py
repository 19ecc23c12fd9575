"""docs/generated is what the tool prints now; `make golden` renews it."""

import os
from pathlib import Path

import pytest

GENERATED = Path(__file__).parents[2] / "docs/generated"


@pytest.mark.parametrize("table", ["ops", "passes", "knobs"])
def test_generated_docs_are_current(stator, table):
    path = GENERATED / f"{table}.md"
    text = stator(table).stdout + measured_part(path)
    if "STATOR_UPDATE_GOLDEN" in os.environ:
        path.write_text(text)
    assert path.read_text() == text, "run `make golden`"


def measured_part(path):
    """The end of a page that the tool does not print: what `make conformance` puts there."""
    _, mark, measured = path.read_text().partition("<!-- measured:")
    return mark + measured
