"""From a .pt2 archive to outputs without Python, compared with eager; and clear errors."""

import json
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.Hardswish(inplace=True),
        )
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        y = self.stem(x)
        y = y + nn.functional.max_pool2d(y, 3, stride=1, padding=1)
        return self.head(y.mean((2, 3)))


class Block(nn.Module):
    """Token embedding, attention, MLP; two outputs."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 32)
        self.norm = nn.LayerNorm(32)
        self.qkv = nn.Linear(32, 96)
        self.mlp = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))

    def forward(self, tokens, scale):
        x = self.embedding(tokens) * scale
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, 4, 8)).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + y.transpose(1, 2).flatten(2)
        return x + self.mlp(x), x.argmax(-1)


class Halves(nn.Module):
    def forward(self, x):
        return x.half().softmax(-1)


def make_inputs(model):
    torch.manual_seed(0)
    return {
        ConvNet: lambda: {"x": torch.randn(2, 3, 17, 19)},
        Block: lambda: {"tokens": torch.randint(50, (2, 7)), "scale": torch.rand(1)},
        Halves: lambda: {"x": torch.randn(3, 5)},
    }[type(model)]()


def export(model, inputs, path):
    with torch.no_grad():
        torch.export.save(torch.export.export(model, (), inputs), path)


@pytest.fixture(scope="module")
def plan(stator, tmp_path_factory):
    """A compiled ConvNet."""
    folder = tmp_path_factory.mktemp("plan")
    torch.manual_seed(1)
    model = ConvNet().eval()
    export(model, make_inputs(model), folder / "model.pt2")
    stator("compile", folder / "model.pt2", "-o", folder / "model.plan")
    return folder / "model.plan"


@pytest.mark.parametrize("make_model", [ConvNet, Block, Halves])
@pytest.mark.parametrize("decomposed", [False, True])
def test_archive_runs_as_in_eager(stator, tmp_path, make_model, decomposed):
    torch.manual_seed(1)
    model = make_model().eval()
    inputs = make_inputs(model)
    with torch.no_grad():
        program = torch.export.export(model, (), inputs)
        expected = model(**inputs)
    if decomposed:
        program = program.run_decompositions()
    torch.export.save(program, tmp_path / "model.pt2")
    np.savez(tmp_path / "in.npz", **{name: t.numpy() for name, t in inputs.items()})

    out = stator("compile", tmp_path / "model.pt2", "-o", tmp_path / "model.plan").stdout
    assert "steps" in out
    stator(
        *("run", tmp_path / "model.plan", "--inputs", tmp_path / "in.npz"),
        *("--outputs", tmp_path / "out.npz"),
    )
    actual = list(np.load(tmp_path / "out.npz").values())
    expected = [expected] if isinstance(expected, torch.Tensor) else list(expected)
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(a), e)


class Positions(nn.Module):
    """A window on a table, whose length is the input's, and a causal mask from sizes."""

    def __init__(self):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(50, 16), nn.Embedding(40, 16)

    def forward(self, tokens):
        length = tokens.shape[1]
        x = self.tokens(tokens) + self.positions.weight[:length]
        mask = torch.arange(length)[:, None] >= torch.arange(length)
        return nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=mask)


def test_dynamic_sizes(stator, tmp_path):
    model = Positions().eval()
    sizes = {0: torch.export.Dim("batch", max=4), 1: torch.export.Dim("length", max=40)}
    tokens = torch.randint(50, (2, 7))
    with torch.no_grad():
        program = torch.export.export(model, (tokens,), dynamic_shapes=(sizes,))
    torch.export.save(program, tmp_path / "model.pt2")
    stator("compile", tmp_path / "model.pt2", "-o", tmp_path / "model.plan")
    run = ("run", tmp_path / "model.plan", "--inputs", tmp_path / "in.npz")
    for size in ((2, 7), (1, 1), (4, 40), (1, 39)):
        tokens = torch.randint(50, size)
        np.savez(tmp_path / "in.npz", tokens=tokens.numpy())
        stator(*run, "--outputs", tmp_path / "out.npz")
        (actual,) = np.load(tmp_path / "out.npz").values()
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(actual), model(tokens))
    np.savez(tmp_path / "in.npz", tokens=np.zeros((2, 41), np.int64))
    done = stator(*run, status=1)
    assert "in [0, 4], found i64[2, 41]" in done.stderr


def test_same_plan_twice(stator, plan, tmp_path):
    """The same input, options and timing cache give the same bytes."""
    model = plan.with_name("model.pt2")
    cache = ("--timing-cache", tmp_path / "times.json")
    for name in ("a", "b", "c"):
        stator("compile", model, "-o", tmp_path / name, *cache)
    assert (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


@pytest.mark.parametrize("target", ["sm_80", "sm_89", "sm_90", "sm_90a", "sm_100"])
@pytest.mark.parametrize("make_model", [ConvNet, Block, Halves])
def test_a_gpu_that_is_not_there(stator, tmp_path, make_model, target):
    """All kernels are compiled to machine code; the plan says what it is for."""
    model = make_model().eval()
    export(model, make_inputs(model), tmp_path / "model.pt2")
    command = ("compile", tmp_path / "model.pt2", "-o", tmp_path / "model.plan")
    try:
        stator(*command, "--target", target)
    except AssertionError as error:
        if "NVRTC" in str(error) or "without CUDA's headers" in str(error):
            pytest.skip(str(error))
        raise
    text = stator("inspect", tmp_path / "model.plan", "--text").stdout
    assert f'target "cuda {target}"' in text
    assert f'code 0 = "{target}"' in text


def test_targets_that_are_none(stator, plan):
    for target in ("sm_70", "sm_9x", "gpu"):
        done = stator("compile", plan.with_name("model.pt2"), "--target", target, status=1)
        assert "no device engine for" in done.stderr or "no engine for" in done.stderr
        assert target in done.stderr


def test_inputs_from_npy_in_order_and_fortran(stator, plan, tmp_path):
    x = make_inputs(ConvNet())["x"].numpy()
    np.save(tmp_path / "c.npy", x)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(x))
    np.savez(tmp_path / "unnamed.npz", x)
    np.savez_compressed(tmp_path / "packed.npz", x=x)
    results = []
    for name in ("c.npy", "fortran.npy", "unnamed.npz", "packed.npz"):
        stator("run", plan, "--inputs", tmp_path / name, "--outputs", tmp_path / "y.npy")
        results.append(np.load(tmp_path / "y.npy"))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_summary_inspect_and_bench(stator, plan, tmp_path):
    np.save(tmp_path / "x.npy", make_inputs(ConvNet())["x"].numpy())
    assert "f32[2, 5]" in stator("run", plan, "--inputs", tmp_path / "x.npy").stdout
    table = stator("inspect", plan).stdout
    assert "x: f32[2, 3, 17, 19]" in table
    assert "conv" in table
    assert stator("inspect", plan, "--text").stdout.count("\n") > 20
    out = stator("bench", plan, "--seconds", "0.1", "--profile").stdout
    assert "median" in out
    assert "share" in out


def test_archive_report(stator, plan, tmp_path):
    report = stator("inspect", plan.with_name("model.pt2")).stdout
    assert "left to torch: nothing" in report
    assert "100.0 % coverage" in report

    class Splits(nn.Module):
        def forward(self, x):
            return torch.add(*x.frexp()) * 2

    export(Splits(), {"x": torch.randn(4)}, tmp_path / "splits.pt2")
    report = stator("inspect", tmp_path / "splits.pt2").stdout
    assert "aten.frexp" in report
    assert "test_cli.py:" in report
    data = json.loads(stator("inspect", tmp_path / "splits.pt2", "--json").stdout)
    assert [segment["kind"] for segment in data["segments"]] == ["torch", "engine"]
    error = stator("compile", tmp_path / "splits.pt2", status=1).stderr
    assert "Unsupported" in error
    assert "frexp" in error


def test_mutation_is_refused(stator, tmp_path):
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x):
            self.count += 1
            return x + self.count

    export(Counts(), {"x": torch.randn(4)}, tmp_path / "counts.pt2")
    assert "writes to" in stator("compile", tmp_path / "counts.pt2", status=1).stderr


# ---- text

GRAPH = """\
graph @g(%x: f32[4, 8]) {
  weight %w: f32[8, 8] = "w"
  %0 = matmul(%x, %w) : f32[4, 8]
  %1 = relu(%0) : f32[4, 8]
  %2 = relu(%0) : f32[4, 8]
  %3 = add(%1, %2) : f32[4, 8]
  return %3
}
"""


def test_text_goes_through_the_stages(stator, tmp_path):
    (tmp_path / "g.ir").write_text(GRAPH)
    one_relu = stator("opt", tmp_path / "g.ir", "--passes=eliminate_common,eliminate_dead").stdout
    assert one_relu.count("relu(") == 1
    for stage in ("passes", "fuse"):
        text = stator("compile", tmp_path / "g.ir", "--stop-after", stage).stdout
        assert text == stator("opt", tmp_path / "g.ir", "--stop-after", stage).stdout
        (tmp_path / f"{stage}.ir").write_text(text)
    assert "kernel" in (tmp_path / "fuse.ir").read_text()
    stator("compile", tmp_path / "g.ir", "-o", tmp_path / "whole.plan")
    stator("compile", tmp_path / "passes.ir", "--start-at", "fuse", "-o", tmp_path / "half.plan")
    stator("compile", tmp_path / "fuse.ir", "--start-at", "emit", "-o", tmp_path / "end.plan")

    x, w = np.random.randn(4, 8).astype("f"), np.random.randn(8, 8).astype("f")
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "w.npz", w=w)
    for name in ("whole", "half", "end"):
        run = ("run", tmp_path / f"{name}.plan", "--inputs", tmp_path / "x.npy")
        assert "`w`" in stator(*run, status=1).stderr  # a weight without data
        stator(*run, "--weights", tmp_path / "w.npz", "--outputs", tmp_path / "y.npy")
        expected = 2 * np.maximum(x @ w, 0)
        np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, rtol=1e-5, atol=1e-5)


def test_text_errors_name_the_place(stator, tmp_path):
    (tmp_path / "g.ir").write_text(GRAPH.replace("relu(%0)", "rellu(%0)", 1))
    error = stator("opt", tmp_path / "g.ir", status=1).stderr
    assert "g.ir" in error
    assert "rellu" in error
    error = stator("opt", tmp_path / "g.ir", "--passes=no_such_pass", status=1).stderr
    assert "rellu" in error or "no_such_pass" in error


def test_reduce_finds_the_node(stator, tmp_path):
    (tmp_path / "g.ir").write_text("""\
graph @g(%x: f32[4, 64], %y: f32[4, 64]) {
  weight %w: f32[64, 64] = "w"
  %0 = add(%x, %y)
  %1 = sigmoid(%0)
  %2 = matmul(%1, %w)
  %3 = relu(%2)
  %4 = mul(%3, %y)
  return %4
}
""")
    small = tmp_path / "small.ir"
    error = stator("reduce", tmp_path / "g.ir", "-o", small, status=1).stderr
    assert "agrees with the reference" in error
    # A test of the user's own: the shell is all that it needs.
    has_relu = "f() { while read -r line; do case $line in *relu*) return 0;; esac; done < $1; "
    has_relu += "return 1; }; f"
    out = stator("reduce", tmp_path / "g.ir", "-o", small, "--test", has_relu).stdout
    assert "1 of 5 nodes" in out
    assert "relu(" in small.read_text()


# ---- what goes wrong: one line on stderr, exit code 1; wrong usage: 2


def check_error(done, *words):
    assert done.stdout == ""
    assert done.stderr.startswith("stator: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr


def test_missing_files(stator, plan, tmp_path):
    for args in (
        ("compile", tmp_path / "no.pt2"),
        ("run", tmp_path / "no.plan"),
        ("inspect", tmp_path / "no.plan"),
        ("run", plan, "--inputs", tmp_path / "no.npz"),
        ("run", plan, "--inputs", tmp_path / "no.npy"),
    ):
        check_error(stator(*args, status=1), "no.")
    check_error(stator("compile", plan, status=1), ".pt2")
    check_error(
        stator("compile", plan.with_name("model.pt2"), "-o", "/no/x.plan", status=1), "/no/"
    )


def test_damaged_plans(stator, plan, tmp_path):
    whole = plan.read_bytes()
    damaged = tmp_path / "damaged.plan"
    for size in (0, 3, 8, 64, len(whole) // 2, len(whole) - 1):
        damaged.write_bytes(whole[:size])
        check_error(stator("inspect", damaged, status=1), "CorruptFile", "damaged.plan")
    for at in (9, 64, len(whole) // 3, len(whole) - 5):
        damaged.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        stator("run", damaged, status=1)
    damaged.write_bytes(b"not a plan at all" * 10)
    check_error(stator("run", damaged, status=1), "CorruptFile")


def test_wrong_inputs(stator, plan, tmp_path):
    x = make_inputs(ConvNet())["x"].numpy()
    inputs = tmp_path / "in.npz"
    for arrays, words in (
        ({"y": x}, ("x: f32[2, 3, 17, 19]", "found y")),
        ({}, ("nothing",)),
        ({"x": x[:1]}, ("`x`", "2", "1")),
        ({"x": x.astype("f8")}, ("`x`", "f32", "f64")),
        ({"x": x.astype(object)}, ("|O",)),
    ):
        np.savez(inputs, **arrays)
        check_error(stator("run", plan, "--inputs", inputs, status=1), *words)
    np.savez(inputs, x=x)
    inputs.write_bytes(inputs.read_bytes()[:-30])
    check_error(stator("run", plan, "--inputs", inputs, status=1), "in.npz")
    with zipfile.ZipFile(inputs, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00\xff\xff{")
    check_error(stator("run", plan, "--inputs", inputs, status=1), "x.npy", "CorruptFile")


def test_damaged_archives(stator, plan, tmp_path):
    whole = plan.with_name("model.pt2").read_bytes()
    damaged = tmp_path / "damaged.pt2"
    for size in (0, 100, len(whole) // 2):
        damaged.write_bytes(whole[:size])
        check_error(stator("compile", damaged, status=1), "damaged.pt2")


def test_usage(stator, plan):
    for args in ((), ("no_such",), ("run",), ("compile", "x.ir", "--stop-after", "nowhere")):
        assert stator(*args, status=2).stderr
    assert "compile" in stator("--help").stdout


def test_needs_no_torch(stator):
    """Neither libtorch nor libpython is linked."""
    listing = subprocess.run(
        ["ldd", stator.path], capture_output=True, text=True, check=True
    ).stdout
    assert "not found" not in listing
    # The first word of a line; what follows holds addresses, in which "c10" can turn up.
    libraries = [Path(line.split()[0]).name for line in listing.splitlines()]
    assert any(name.startswith("libdnnl") for name in libraries)
    for name in libraries:
        assert not name.startswith(("libtorch", "libc10", "libpython")), name
