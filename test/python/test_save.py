"""torch_stator.save and load: equal results, memory that values share, damaged files; and a loaded
program's refit, copy and pickle."""

import collections
import copy
import json
import pickle
import random
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_stator
from conftest import check, clone
from torch import nn
from torch_stator import (
    CorruptFileError,
    InvalidArgumentError,
    UnsupportedError,
    VersionMismatchError,
    _ffi,
)

Pair = collections.namedtuple("Pair", "first second")


class Net(nn.Module):
    """Weights of both orders, read by engines and by torch; a node in the middle that torch runs;
    an output that is a view of a parameter's product."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
        self.fc = nn.Linear(8, 5)
        self.table = nn.Parameter(torch.randn(5, 4).T)

    def forward(self, x):
        y = self.fc(self.conv(x).relu().mean((2, 3)))
        values, order = y.frexp()
        return {"y": values.tanh() @ self.table.T.cumsum(0), "order": order}


class Counter(nn.Module):
    """A buffer that it writes to, and an input."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(2))

    def forward(self, x):
        self.count.add_(1)
        x.mul_(2)
        return (x * self.count).sort().values, x


class Head(nn.Module):
    """Its weights are tied."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 6)
        self.head = nn.Linear(6, 10, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        return self.head(self.embed(ids))


class Shapes(nn.Module):
    """Torch parts with sizes, lists, dtypes, devices, infinities, constants and no tensor input."""

    def __init__(self):
        super().__init__()
        self.register_buffer("unused", torch.ones(2), persistent=False)

    def forward(self, x, scale=2.0):
        a, b = x.split([1, x.shape[1] - 1], dim=1)
        c = torch.histc(b, 4, 0, 1) + torch.tensor([1.0, 2.0, 3.0, 4.0])
        d = x.cumsum(0).nan_to_num(0.5, float("inf"), -float("inf")).to(torch.float64)
        e = torch.full((x.shape[0], 2), float("inf"), device="cpu", dtype=torch.half).cumprod(1)
        return [a.cumsum(0) * scale, c], (d.median(), x.argsort(stable=True), e), None, 7


def make(model, *inputs, **options):
    options = {"optimization_level": 0, "min_block_size": 1, **options}
    return torch_stator.compile(model.eval(), inputs, **options)


@pytest.fixture
def reload(tmp_path):
    def save_and_load(program, **options):
        torch_stator.save(program, tmp_path / "it.stator")
        return torch_stator.load(tmp_path / "it.stator", **options)

    return save_and_load


@pytest.fixture
def net():
    return Net()


@pytest.fixture
def loaded(net, reload):
    return reload(make(net, IMAGE))


# The same in each process: frexp makes small numbers large, rounding errors included.
IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


# ---- equal results


@pytest.mark.parametrize("min_block_size", [1, 3, float("inf")])
def test_engines_and_torch_parts(net, reload, tmp_path, min_block_size):
    program = make(net, IMAGE, min_block_size=min_block_size)
    assert program.report["fallbacks"]
    loaded = reload(program)
    with torch.no_grad():
        torch.testing.assert_close(loaded(IMAGE), program(IMAGE), rtol=0, atol=0)
        check(loaded, net, torch.randn(2, 3, 8, 8))
    names = zipfile.ZipFile(tmp_path / "it.stator").namelist()
    assert any(name.startswith("torch/") for name in names)
    assert not any(name.endswith((".pkl", ".py")) for name in names)


def test_what_torch_parts_may_hold(reload):
    x = torch.rand(3, 4)
    program = torch_stator.compile(
        Shapes(),
        (x,),
        {"scale": 3.0},
        min_block_size=1,
        dynamic_shapes={"x": {0: torch.export.Dim("n", min=2, max=9)}, "scale": None},
    )
    loaded = reload(program)
    with torch.no_grad():
        for n in (3, 2, 7):
            x = torch.rand(n, 4)
            torch.testing.assert_close(loaded(x, scale=3.0), Shapes()(x, scale=3.0))
        with pytest.raises(InvalidArgumentError, match="expected 3.0"):
            loaded(x, scale=2.0)


@pytest.mark.parametrize("min_block_size", [1, float("inf")])
def test_writes_and_shared_memory(reload, min_block_size):
    model = Counter()
    program = make(model, torch.ones(2), min_block_size=min_block_size)
    with torch.no_grad():
        program(torch.ones(2))
        loaded = reload(program)
        x = torch.ones(2)
        first, second = loaded(x)
        assert (first.tolist(), second.tolist(), x.tolist()) == ([4, 4], [2, 2], [2, 2])
        assert loaded(torch.ones(2))[0].tolist() == [6, 6]
    assert model.count.tolist() == [1, 1]


def test_weights_that_changed_are_saved_as_they_are(net, reload):
    program = make(net, IMAGE)
    with torch.no_grad():
        net.fc.weight = nn.Parameter(torch.randn(5, 8))
        net.conv.weight.data = torch.randn(8, 3, 3, 3).to(memory_format=torch.channels_last)
        net.table.mul_(2)
        loaded = reload(program)
        expected = net(IMAGE)
        net.fc.weight.zero_()
        torch.testing.assert_close(loaded(IMAGE), expected)


@pytest.mark.slow
def test_a_loaded_program_needs_no_model(net, tmp_path):
    torch_stator.save(make(net, IMAGE), tmp_path / "net.stator")
    code = (
        "import sys, torch, torch_stator; x = torch.ones(2, 3, 8, 8)\n"
        "print(torch_stator.load(sys.argv[1])(x)['y'].sum().item())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "net.stator")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    with torch.no_grad():
        expected = net(torch.ones(2, 3, 8, 8))["y"].sum().item()
    assert float(result.stdout) == pytest.approx(expected, rel=1e-4)


def test_a_file_that_cannot_be_written_leaves_the_old_one(net, tmp_path, monkeypatch):
    path = tmp_path / "net.stator"
    path.write_text("old")
    monkeypatch.setattr(zipfile.ZipFile, "writestr", lambda *_: (_ for _ in ()).throw(OSError(28)))
    with pytest.raises(OSError, match="28"):
        torch_stator.save(make(net, IMAGE), path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["net.stator"]


def test_a_full_disk_leaves_the_old_file(net, tmp_path):
    """No file may grow beyond 64 bytes."""
    path, program = tmp_path / "net.stator", make(net, IMAGE)
    path.write_text("old")
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, most))
    try:
        with pytest.raises(OSError, match="too large"):
            torch_stator.save(program, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["net.stator"]


# ---- what a file cannot tell


@pytest.mark.parametrize("wrap", [lambda m: torch.compile(m, backend="stator"), lambda m: m])
def test_what_is_no_program(net, wrap):
    with pytest.raises(InvalidArgumentError, match=r"use torch_stator.compile\(model, inputs\)"):
        torch_stator.save(wrap(net), "unused.stator")


def test_structures():
    class Model(nn.Module):
        def forward(self, x):
            return Pair(x + 1, x + 2)

    program = make(Model(), torch.ones(2))
    with pytest.raises(UnsupportedError, match="of a type that a file cannot tell"):
        torch_stator.save(program, "unused.stator")


@torch.library.custom_op("stator_test::scale", mutates_args=())
def scale(x: torch.Tensor, factor: float) -> torch.Tensor:
    return x * factor


@scale.register_fake
def _(x, factor):
    return torch.empty_like(x)


def test_custom_ops_are_asked_for(reload):
    class Model(nn.Module):
        def forward(self, x):
            return scale(x.exp(), 2.0) + 1

    program = make(Model(), torch.ones(2))
    with pytest.raises(CorruptFileError, match=r'op_libraries=\["stator_test"\]'):
        reload(program)
    with torch.no_grad():
        check(reload(program, op_libraries=["stator_test"]), Model(), torch.ones(2))


def test_a_dry_run_and_a_loaded_program(net, loaded):
    with pytest.raises(UnsupportedError, match="dry run"):
        torch_stator.save(make(net, IMAGE, dryrun="/dev/null"), "unused.stator")
    with pytest.raises(UnsupportedError, match="copy its file"):
        torch_stator.save(loaded, "unused.stator")


# ---- damaged and hostile files


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    """The entries of a file with all of its parts."""
    path = tmp_path_factory.mktemp("saved") / "net.stator"
    torch_stator.save(make(Net(), IMAGE), path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path, entries, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def edited(entries, name, *path, value):
    """The entries with one value of a JSON entry replaced."""
    document = json.loads(entries[name])
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return {**entries, name: json.dumps(document)}


def test_files_that_are_none(entries, tmp_path):
    path = tmp_path / "it"
    write(path, entries)
    data = path.read_bytes()
    for broken in (b"", b"hello", data[: len(data) // 2], data[:-1]):
        path.write_bytes(broken)
        with pytest.raises(CorruptFileError, match="is not a saved program"):
            torch_stator.load(path)
    with pytest.raises(FileNotFoundError):
        torch_stator.load(tmp_path / "nothing")
    write(path, entries, zipfile.ZIP_DEFLATED)
    with pytest.raises(CorruptFileError, match="is packed"):
        torch_stator.load(path)


PROGRAMS = sorted((Path(__file__).parents[1] / "data/programs").glob("*.stator"))


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_file_of_an_earlier_version(path):
    """Saved by the release whose format version its name tells, of a model that computes
    fc(sum(frexp(fc(x))) * scale).tanh(), in two engines; beside it what came out."""
    expected = torch.from_numpy(np.load(path.with_suffix(".npy")))
    x = torch.linspace(-2, 2, 24).view(3, 8)
    program = torch_stator.load(path)
    torch.testing.assert_close(program(x), expected)
    torch_stator.refit(program, {"fc.weight": torch.zeros(8, 8), "fc.bias": torch.full((8,), 0.5)})
    torch.testing.assert_close(program(x), torch.full((3, 8), 0.5).tanh())


class Tied(nn.Module):
    """Two engines, with torch between them, that read one weight of 4 MiB; tied to a third."""

    def __init__(self):
        super().__init__()
        self.fc, self.other = (nn.Linear(1024, 1024, bias=False) for _ in range(2))
        self.other.weight = self.fc.weight

    def forward(self, x):
        return self.other(self.fc(self.fc(x).abs()).tanh())


def test_a_weight_is_in_the_file_once(tmp_path):
    model, x = Tied().requires_grad_(False), torch.randn(16, 1024)
    options = {"optimization_level": 0, "min_block_size": 1, "torch_executed_ops": {"aten.abs"}}
    program = torch_stator.compile(model, (x,), **options)
    assert sum(isinstance(part, _ffi.Engine) for part in program.runner.parts) == 2
    program.save(tmp_path / "it")
    assert (tmp_path / "it").stat().st_size < 5 * 2**20
    loaded = torch_stator.load(tmp_path / "it")
    torch.testing.assert_close(loaded(x), model(x))
    other = Tied().requires_grad_(False)
    torch_stator.refit(loaded, other)
    torch.testing.assert_close(loaded(x), other(x))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"fc.weight": "program.json"}, "is damaged"),
        ({"fc.weight": "weights/0"}, "missing"),
        ({}, "has no data"),
        ([], "cannot be read"),
    ],
)
def test_weights_that_are_none(entries, tmp_path, weights, message):
    engine = next(name for name in entries if name.startswith("engines/"))
    path = tmp_path / "it"
    write(path, edited(entries, "program.json", "weights", engine, value=weights))
    with pytest.raises(CorruptFileError, match=message):
        torch_stator.load(path)


def test_a_weight_that_no_engine_has(entries, tmp_path):
    engine = next(name for name in entries if name.startswith("engines/"))
    weights = json.loads(entries["program.json"])["weights"][engine]
    weights["nothing"] = next(iter(weights.values()))
    write(tmp_path / "it", edited(entries, "program.json", "weights", engine, value=weights))
    with pytest.raises(CorruptFileError, match="no weight `nothing`"):
        torch_stator.load(tmp_path / "it")


def test_another_version(entries, tmp_path):
    write(tmp_path / "it", edited(entries, "program.json", "version", value=99))
    with pytest.raises(VersionMismatchError, match="99"):
        torch_stator.load(tmp_path / "it")


HOSTILE = {
    "no op": ("target", "torch.ops.aten.nothing.default", "does not have"),
    "a function": ("target", "torch.load", "is no op"),
    "os": ("target", "torch.os.system", "is no op"),
    "a file": ("target", "torch.ops.aten.from_file.default", "has effects"),
    "a write": ("target", "torch.ops.aten.add_.Tensor", "has effects"),
    "a library": ("target", "torch.ops.rngprims.philox_rand.default", "op_libraries"),
    "an unknown name": ("inputs", [{"name": "a", "arg": {"as_tensor": {"name": "q"}}}], "schema"),
    "an expression": (
        "inputs",
        [{"name": "a", "arg": {"as_sym_int": {"as_expr": {"expr_str": "1"}}}}],
        "schema",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_torch_parts(entries, tmp_path, case):
    name = next(name for name in entries if name.startswith("torch/"))
    member, value, message = HOSTILE[case]
    write(tmp_path / "it", edited(entries, name, "graph", "nodes", 0, member, value=value))
    with pytest.raises(CorruptFileError, match=message):
        torch_stator.load(tmp_path / "it")


STRUCTURES = {
    "a function": {"type": "collections.defaultdict", "context": None, "children_spec": []},
    "a module": {
        "type": "builtins.dict",
        "context": r'[{"\u005f_enum__": true, "fqn": "antigravity:x", "name": "y"}]',
        "children_spec": [{"type": None, "context": None, "children_spec": []}],
    },
}


@pytest.mark.parametrize("case", STRUCTURES)
def test_hostile_structures(entries, tmp_path, case):
    spec = [1, STRUCTURES[case]]
    write(tmp_path / "it", edited(entries, "program.json", "out_spec", value=spec))
    with pytest.raises(CorruptFileError, match=r"a defaultdict|an enum"):
        torch_stator.load(tmp_path / "it")
    assert "antigravity" not in sys.modules


def places(document, path=()):
    """The paths of all values in a JSON document."""
    yield path
    if isinstance(document, (dict, list)):
        items = document.items() if isinstance(document, dict) else enumerate(document)
        for key, value in items:
            yield from places(value, (*path, key))


def test_random_damage(entries, tmp_path):
    """Any value of any entry replaced, or a byte: an error of ours, or a program that returns or
    raises."""
    random.seed(0)
    values = [None, -1, 0, 1, 2**31, 2**70, 1.5, "", "x", [], [0], {}, True, "float64", [[]]]
    outcomes = collections.Counter()
    jsons = [name for name in entries if name.endswith(".json")]
    for _ in range(160):
        name = random.choice(jsons if random.random() < 0.8 else list(entries))
        if name in jsons:
            found = [p for p in places(json.loads(entries[name])) if p and "metadata" not in p]
            broken = edited(entries, name, *random.choice(found), value=random.choice(values))
        else:
            data = bytearray(entries[name])
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
            broken = {**entries, name: bytes(data)}
        write(tmp_path / "it", broken)
        try:
            program = torch_stator.load(tmp_path / "it")
        except (CorruptFileError, VersionMismatchError):
            outcomes["refused"] += 1
            continue
        try:
            with torch.no_grad():
                program(IMAGE.clone())
        except Exception as error:
            outcomes[type(error).__name__] += 1
        else:
            outcomes["ran"] += 1
    assert outcomes["refused"] > 80, outcomes
    assert outcomes["ran"] > 5, outcomes


# ---- refit, copy, pickle


def test_refit(net, loaded):
    other = Net()
    with torch.no_grad():
        torch_stator.refit(loaded, other.state_dict())
        check(loaded, other, torch.randn(2, 3, 8, 8))
        expected = other(IMAGE)
        other.fc.weight.zero_()
        torch.testing.assert_close(loaded(IMAGE), expected)
        torch_stator.refit(loaded, {"fc.bias": net.fc.bias})
        other = copy.deepcopy(other)
        torch_stator.refit(loaded, net)
        torch.testing.assert_close(loaded(IMAGE), net(IMAGE))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fc.weigth": torch.ones(5, 8)}, "`fc.weigth`: did you mean `fc.weight`"),
        ({"fc.weight": torch.ones(8, 5)}, r"expected torch.float32\[5, 8\], found .*\[8, 5\]"),
        ({"fc.weight": torch.ones(5, 8).double()}, r"found torch.float64\[5, 8\]"),
        ({"fc.weight": 3}, "expected a tensor, found int"),
    ],
)
def test_a_refit_that_does_not_fit_changes_nothing(net, loaded, values, message):
    with torch.no_grad():
        with pytest.raises(InvalidArgumentError, match=message):
            torch_stator.refit(loaded, {"fc.bias": torch.ones(5), "table": net.table * 2, **values})
        check(loaded, net, IMAGE)


def test_refit_of_tied_weights(reload):
    model, other = Head(), Head()
    ids = torch.tensor([[1, 2, 9]])
    loaded = reload(make(model, ids))
    with torch.no_grad():
        torch_stator.refit(loaded, other)
        torch.testing.assert_close(loaded(ids), other(ids))
        state = {name: value.clone() for name, value in other.state_dict().items()}
        state["head.weight"] += 1
        with pytest.raises(InvalidArgumentError, match="is one tensor with"):
            torch_stator.refit(loaded, state)


def test_a_copy_is_refitted_apart(net, loaded):
    other, third = Net(), Net()
    with torch.no_grad():
        made = copy.deepcopy(loaded)
        assert made.runner.parts[0] is loaded.runner.parts[0]
        torch_stator.refit(made, other)
        check(made, other, IMAGE)
        check(loaded, net, IMAGE)
        torch_stator.refit(loaded, third)
        check(made, other, IMAGE)
        check(loaded, third, IMAGE)


def test_a_copy_has_its_own_buffers(reload):
    loaded = reload(make(Counter(), torch.ones(2)))
    with torch.no_grad():
        loaded(torch.ones(2))
        made = copy.deepcopy(loaded)
        for program, count in ((made, 2), (made, 3), (loaded, 2)):
            assert program(torch.ones(2))[0].tolist() == [2 * count] * 2


def test_copies_and_pickles_are_refused_with_advice(net, loaded):
    program = make(net, IMAGE)
    with pytest.raises(UnsupportedError, match="compile a copy of the model"):
        copy.deepcopy(program)
    for refused in (program, loaded):
        with pytest.raises(UnsupportedError, match=r"torch_stator\.save"):
            pickle.dumps(refused)


def test_a_model_under_torch_compile_is_copied():
    model = nn.Linear(4, 4)
    compiled = torch.compile(model, backend="stator", options={"min_block_size": 1})
    x = torch.randn(2, 4)
    with torch.no_grad():
        compiled(x)
        made = copy.deepcopy(compiled)
        made.weight.mul_(2)
        expected = clone(made.weight)
        torch.testing.assert_close(made(x), x @ expected.T + model.bias)
        torch.testing.assert_close(compiled(x), model(x))
