"""Plans that earlier releases of this major version made (test/data/plans) run, and are right."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch_stator import VersionMismatchError, _ffi

PLANS = sorted((Path(__file__).parents[1] / "data/plans").glob("*.plan"))
assert PLANS


@pytest.fixture(params=PLANS, ids=lambda path: path.stem)
def plan(request):
    return request.param


def split(path):
    """The inputs by name, and the outputs in order."""
    with np.load(path.with_suffix(".npz")) as file:
        inputs = {name: file[name] for name in file if not name.startswith("output")}
        return inputs, [file[f"output{i}"] for i in range(len(file.files) - len(inputs))]


def test_it_runs_from_the_command_line(stator, plan, tmp_path):
    inputs, expected = split(plan)
    np.savez(tmp_path / "inputs.npz", **inputs)
    outputs = tmp_path / "outputs.npz"
    stator("run", plan, "--inputs", tmp_path / "inputs.npz", "--outputs", outputs)
    with np.load(outputs) as file:
        for actual, right in zip(file.values(), expected, strict=True):
            torch.testing.assert_close(torch.tensor(actual), torch.tensor(right))


def test_it_runs_in_python(plan):
    inputs, expected = split(plan)
    engine = _ffi.load_plan_file(str(plan))
    given = [torch.tensor(inputs[name]) for name in engine.input_names()]
    for actual, right in zip(engine.function(False)(*given), expected, strict=True):
        torch.testing.assert_close(actual, torch.tensor(right))


def test_one_of_a_newer_major_version_is_refused(stator, plan, tmp_path):
    data = bytearray(plan.read_bytes())
    data[8:12] = (int.from_bytes(data[8:12], "little") + 1).to_bytes(4, "little")
    newer = tmp_path / "newer.plan"
    newer.write_bytes(data)
    done = stator("inspect", newer, status=1)
    assert "version 2" in done.stderr
    assert "reads up to 1; compile the model again" in done.stderr
    with pytest.raises(VersionMismatchError, match="version 2"):
        _ffi.load_plan_file(str(newer))
