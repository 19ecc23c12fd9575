"""README.md and docs/: their snippets run, their links and make targets are there."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import numpy
import pytest
import torch
import torch_stator

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TOOL = Path(os.environ.get("STATOR_CLI", ROOT / "build/stator"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_readme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run_python("README.md", {})
    model, image = names["model"], names["image"]
    torch.export.save(torch.export.export(model, (image,)), "resnet50.pt2")
    numpy.savez("image.npz", x=image.numpy())
    run_tool("README.md")
    (logits,) = numpy.load("logits.npz").values()
    # As near as the page says: tactics are measured, so each compilation may round in its own way.
    torch.testing.assert_close(torch.from_numpy(logits), names["logits"], rtol=1e-3, atol=1e-3)


def test_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, x = make_model(), torch.randn(3, 8)
    with torch._dynamo.config.patch(allow_rnn=False):  # the page sets it
        run_python("docs/python.md", {"model": model, "x": x, "torch_stator": torch_stator})


def test_debugging(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, inputs = make_model(), (torch.randn(3, 8),)
    run_python(
        "docs/debugging.md", {"model": model, "inputs": inputs, "torch_stator": torch_stator}
    )
    torch.export.save(torch.export.export(model, inputs), "model.pt2")
    Path("crashes.sh").write_text("#!/bin/sh\nexit 0\n")
    Path("crashes.sh").chmod(0o755)
    run_tool("docs/debugging.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_targets(page):
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / link).exists(), f"{page}: no {link}"
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"(?:`|^\$? ?)make (\w+)", text, re.MULTILINE)
    assert set(named) <= set(targets)


def make_model():
    layers = [torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 16), torch.nn.GELU()]
    return torch.nn.Sequential(*layers, torch.nn.LayerNorm(16), torch.nn.Linear(16, 4)).eval()


def blocks(page, language):
    found = BLOCK.findall((ROOT / page).read_text())
    return [text for name, text in found if name == language]


def run_python(page, names):
    """Runs the Python blocks of a page one after the other; returns the names they leave."""
    texts = blocks(page, "python")
    assert texts
    for text in texts:
        exec(compile(text, page, "exec"), names)
    return names


def run_tool(page):
    """Runs the lines of a page that call the tool, without Python on the path."""
    lines = [line for text in blocks(page, "") for line in text.splitlines()]
    commands = [line.split("#")[0] for line in lines if line.startswith("stator ")]
    assert commands
    for command in commands:
        done = subprocess.run(
            ["/bin/sh", "-c", f"{shlex.quote(str(TOOL))} {command.removeprefix('stator ')}"],
            env={"PATH": "/nowhere"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
