"""The command line tool, run without Python on its PATH."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STATOR = Path(os.environ.get("STATOR_CLI", ROOT / "build/stator"))


@pytest.fixture(scope="session")
def stator(tmp_path_factory):
    """stator(*args, status=0) runs the tool at stator.path and checks its exit code."""
    if not STATOR.exists():
        pytest.fail(f"{STATOR} is not there: run `make setup`, or set STATOR_CLI")
    nothing = tmp_path_factory.mktemp("empty_path")

    def run(*args, status=0):
        done = subprocess.run(
            [STATOR, *map(str, args)],
            env={"PATH": str(nothing)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done

    run.path = STATOR
    return run
