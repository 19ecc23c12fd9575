"""docs/generated/core_aten.md is what core_aten.py prints now; `make golden` renews it."""

import os
from pathlib import Path

import core_aten

PAGE = Path(__file__).parents[2] / "docs/generated/core_aten.md"


def test_generated_list_is_current():
    text = core_aten.page()
    if "STATOR_UPDATE_GOLDEN" in os.environ:
        PAGE.write_text(text)
    assert PAGE.read_text() == text, "run `make golden`"


def test_no_core_operator_is_missing():
    missing = [
        name for name in core_aten.core_overloads() if core_aten.classify(name)[0] == "missing"
    ]
    assert not missing
