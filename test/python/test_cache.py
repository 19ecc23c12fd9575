"""The engine cache: hits in a new process, misses with a reason, damage, and many at once."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

# Compiles models of `argv[1]` layers and up, each checked against eager; prints what the cache had.
SCRIPT = """
import json, resource, sys
import torch
from torch import nn
from torch_stator.backend import on_compilation

first, count, limit = map(int, sys.argv[1:])
found = []
on_compilation.append(lambda c: found.extend(part["cache"] for part in c.report["parts"]))
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
for depth in range(first, first + count):
    torch.manual_seed(depth)
    layers = [nn.Linear(4, 4) for _ in range(depth % 5 + 1)]
    model = nn.Sequential(*layers, nn.Hardtanh(0, depth + 1), nn.Softmax(-1)).eval()
    x = torch.randn(3, 4)
    compiled = torch.compile(
        model, backend="stator", options={"optimization_level": 0, "min_block_size": 1}
    )
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x))
    torch._dynamo.reset()
print(json.dumps(found))
"""


def start(first=1, count=1, limit=0):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(first), str(count), str(limit)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1]), err


def engines():
    return sorted(Path(os.environ["STATOR_CACHE_DIR"]).glob("*.engine"))


@pytest.mark.slow
def test_a_new_process_takes_the_engine():
    assert finish(start())[0] == ["miss: not cached"]
    assert finish(start())[0] == ["hit"]


@pytest.mark.slow
def test_two_processes_compile_twenty_models_at_once():
    """Both start at the same time on one empty folder; what both build lies there once, whole."""
    for process in [start(count=20), start(count=20)]:
        found, err = finish(process)
        assert len(found) == 20
        assert "warning" not in err
    assert len(engines()) == 20
    assert finish(start(count=20))[0] == ["hit"] * 20


@pytest.mark.slow
def test_a_full_disk_is_a_warning():
    """No file may grow beyond 64 bytes."""
    found, err = finish(start(limit=64))
    assert found == ["miss: not cached"]
    assert "an engine is not cached: cannot write" in err
    assert os.listdir(os.environ["STATOR_CACHE_DIR"]) == []


def test_measured_times_on_a_full_disk(compilations):
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, most))
    try:
        assert compile_once(compilations, optimization_level=3) == "miss: not cached"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert os.listdir(os.environ["STATOR_CACHE_DIR"]) == []


def compile_once(compilations, **options):
    model = nn.Sequential(nn.Linear(4, 3), nn.GELU()).eval()
    options = {"optimization_level": 0, "min_block_size": 1, **options}
    compiled = torch.compile(model, backend="stator", options=options)
    x = torch.randn(2, 4)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x))
    torch._dynamo.reset()
    return compilations[-1].report["parts"][0]["cache"]


def test_new_weights_are_a_hit(compilations):
    """An entry holds no weights; each model here has its own."""
    assert compile_once(compilations) == "miss: not cached"
    assert compile_once(compilations) == "hit"


def test_a_miss_names_the_setting_that_differs(compilations):
    compile_once(compilations)
    assert compile_once(compilations, optimization_level=1) == (
        "miss: cached for `optimization_level 0`, not for `optimization_level 1`"
    )


def test_a_damaged_engine_is_built_again(compilations, capfd):
    compile_once(compilations)
    (path,) = engines()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    assert "checksum" in compile_once(compilations)
    assert capfd.readouterr().err.count("an engine is built again") == 1
    assert compile_once(compilations) == "hit"


@pytest.mark.parametrize("off", [{"cache": False}, {"cache_dir": None}])
def test_the_cache_can_be_off(compilations, off):
    for _ in range(2):
        assert compile_once(compilations, **off).startswith("off: ")
    assert not engines()


def test_a_folder_that_others_may_write_to_is_refused(compilations, tmp_path, capfd):
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    assert "others may write" in compile_once(compilations, cache_dir=folder)
    assert "run `chmod go-w` on it" in capfd.readouterr().err


def test_an_entry_of_another_version_is_built_again(compilations, capfd):
    """Of another release it has another name; of another layout, it does not start as ours do."""
    compile_once(compilations)
    (path,) = engines()
    data = path.read_bytes()
    path.write_bytes(b"STATENG0" + data[8:])
    assert "does not start as a cached engine does" in compile_once(compilations)
    assert capfd.readouterr().err.count("an engine is built again") == 1
    assert compile_once(compilations) == "hit"


def test_a_folder_that_cannot_be_made_is_a_warning(compilations, tmp_path, capfd):
    (tmp_path / "file").touch()
    status = compile_once(compilations, cache_dir=tmp_path / "file" / "cache")
    assert status.startswith("off: cannot make the cache folder")
    assert "engines are not cached" in capfd.readouterr().err
