"""Prints docs/generated/settings.md: every field of CompilationSettings, with its default, its
meaning, its effect on the CPU engine, and the test that proves it. `make golden` renews it."""

import dataclasses
import sys
from pathlib import Path

from torch_stator import CompilationSettings

TESTS = Path(__file__).parents[1] / "test/python"


def main():
    print(
        "# Settings\n\nEvery field of `torch_stator.CompilationSettings`. Written by "
        "`tools/settings_table.py`; `make golden` renews it.\n\n"
        "| field | default | meaning | on the CPU engine | test |\n|---|---|---|---|---|"
    )
    for field in dataclasses.fields(CompilationSettings):
        reason = field.metadata["no_effect"]
        effect = f"no effect, noted in the report: {reason}" if reason else "as said"
        meaning = field.metadata["meaning"]
        default = describe_default(field)
        print(f"| `{field.name}` | {default} | {meaning} | {effect} | {find_test(field)} |")


def describe_default(field):
    if field.default is not dataclasses.MISSING:
        return f"`{getattr(field.default, 'name', field.default)}`"
    return {"torch_executed_ops": "none", "device": "`cpu`"}.get(field.name, "see meaning")


def find_test(field):
    """ "test_settings.py::test_debug"; exits when there is none."""
    name = "test_without_effect" if field.metadata["no_effect"] else f"test_{field.name}"
    for file in sorted(TESTS.glob("test_*.py")):
        if f"def {name}(" in file.read_text():
            return f"`{file.name}::{name}`"
    sys.exit(f"{field.name}: there is no test {name} in {TESTS}")


main()
