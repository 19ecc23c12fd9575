"""Prints docs/generated/settings.md: every field of CompilationSettings, with its default, its
meaning, its effect on each engine, and the test that proves it. `make golden` renews it."""

import dataclasses
import sys
from pathlib import Path

from torch_stator import CompilationSettings

TESTS = Path(__file__).parents[1] / "test/python"


def main():
    print(
        "# Settings\n\nEvery field of `torch_stator.CompilationSettings`. Written by "
        "`tools/settings_table.py`; `make golden` renews it.\n\n"
        "| field | default | meaning | on the CPU engine | on the CUDA engine | test |\n"
        "|---|---|---|---|---|---|"
    )
    for field in dataclasses.fields(CompilationSettings):
        cells = [f"`{field.name}`", describe_default(field), field.metadata["meaning"]]
        cells += map(describe_effect, field.metadata["no_effect"].values())
        print(f"| {' | '.join([*cells, find_test(field)])} |")


def describe_default(field):
    if field.default is not dataclasses.MISSING:
        return f"`{getattr(field.default, 'name', field.default)}`"
    return {"torch_executed_ops": "none", "device": "`cpu`"}.get(field.name, "see meaning")


def describe_effect(reason):
    return f"no effect, noted in the report: {reason}" if reason else "as said"


def find_test(field):
    """ "test_settings.py::test_debug"; exits when there is none."""
    has_none = all(field.metadata["no_effect"].values())
    name = "test_without_effect" if has_none else f"test_{field.name}"
    for file in sorted(TESTS.glob("test_*.py")):
        if f"def {name}(" in file.read_text():
            return f"`{file.name}::{name}`"
    sys.exit(f"{field.name}: there is no test {name} in {TESTS}")


main()
