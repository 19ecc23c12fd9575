"""The package as it is installed: metadata, what the libraries need, a wheel (`make wheel`)."""

import importlib.metadata
import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import torch_stator

ROOT = Path(__file__).parents[2]
WHEEL = os.environ.get("STATOR_WHEEL")
needs_wheel = pytest.mark.skipif(not WHEEL, reason="`make wheel` builds one, and runs this")

COMPILE_AND_CHECK = """
import sys
import torch
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4)).eval()
x = torch.randn(3, 8)
with torch.no_grad():
    compiled = torch.compile(model, backend="stator", options={"min_block_size": 1})
    torch.testing.assert_close(compiled(x), model(x))
torch.export.save(torch.export.export(model, (x,)), sys.argv[1])
import torch_stator
print(torch_stator.__file__)
"""


def test_metadata():
    metadata = importlib.metadata.metadata("torch-stator")
    project = re.search(r"project\(stator VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text())
    assert metadata["Version"] == project[1]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.10"


def test_torch_finds_the_backend_by_its_entry_point():
    (entry,) = importlib.metadata.entry_points(group="torch_dynamo_backends", name="stator")
    assert entry.load() is torch_stator.stator


@pytest.mark.parametrize("library", ["libstator.so", "libstator_ffi.so"])
def test_a_library_needs_neither_torch_nor_python(library):
    check_needs(Path(torch_stator.__file__).parent / "lib" / library)


def test_the_tool_needs_neither_torch_nor_python():
    check_needs(Path(os.environ.get("STATOR_CLI", ROOT / "build/stator")))


def check_needs(file):
    needs = subprocess.run(["ldd", file], capture_output=True, text=True, check=True).stdout
    assert "libdnnl" in needs
    assert not re.search("libtorch|libc10|libpython|not found", needs), needs


@needs_wheel
def test_wheel_contents():
    assert re.fullmatch(r"torch_stator-[\d.]+-py3-none-linux_\w+\.whl", Path(WHEEL).name)
    names = [
        re.sub(r"^torch_stator-[\d.]+\.(data|dist-info)", r"\1", name)
        for name in zipfile.ZipFile(WHEEL).namelist()
    ]
    assert {
        "torch_stator/__init__.py",
        "torch_stator/py.typed",
        "torch_stator/include/stator.h",
        "torch_stator/lib/libstator.so",
        "torch_stator/lib/libstator_ffi.so",
        "data/scripts/stator",
        "dist-info/licenses/LICENSE",
        "dist-info/entry_points.txt",
    } <= set(names)
    folders = {name.split("/")[0] for name in names}
    assert folders == {"torch_stator", "data", "dist-info"}


@needs_wheel
def test_wheel_works_where_it_is_installed(tmp_path):
    env = make_environment(tmp_path / "env")
    python = [env / "bin/python", "-c", COMPILE_AND_CHECK, tmp_path / "model.pt2"]
    found = subprocess.run(python, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert found.startswith(str(env))

    tool = env / "bin/stator"
    check_needs(tool)
    (library,) = env.glob("lib/python3*/site-packages/torch_stator/lib/libstator.so")
    check_needs(library)
    command = [tool, "compile", tmp_path / "model.pt2", "-o", tmp_path / "model.plan"]
    subprocess.run(command, env={"PATH": ""}, check=True)
    subprocess.run([tool, "bench", tmp_path / "model.plan"], env={"PATH": ""}, check=True)


def make_environment(folder):
    """A new environment with the wheel in it, and what it depends on borrowed from this one."""
    venv.create(folder, with_pip=True)
    pip = [folder / "bin/python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, WHEEL], check=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    torch_site = importlib.metadata.distribution("torch").locate_file("")
    (site / "borrowed.pth").write_text(f"{torch_site}\n")
    for library in Path(sys.prefix).glob("lib/libdnnl.so*"):
        (folder / "lib" / library.name).symlink_to(library)
    return folder
