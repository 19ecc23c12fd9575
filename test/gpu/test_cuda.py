"""The CUDA engine from PyTorch: results, streams, threads, pointers, graphs, refit, memory, files.

Needs an NVIDIA GPU that engines run on, and is skipped with the reason without one.
"""

import subprocess
import sys
import textwrap
import threading
import warnings

import pytest
import torch
import torch_stator
from torch import nn
from torch_stator import _ffi
from torch_stator.backend import on_compilation

WHY_NOT = _ffi.why_no_cuda(0)
if not WHY_NOT and not torch.cuda.is_available():
    WHY_NOT = "this torch has no CUDA"
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=f"no GPU to test on: {WHY_NOT}")

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("STATOR_CACHE_DIR", str(tmp_path / "cache"))
    # Results in float32 are compared as such; test_tf32 allows it.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch._dynamo.reset()
    torch.manual_seed(0)
    with torch.no_grad():
        yield


class Mlp(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x):
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


class Convs(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.conv = nn.Conv2d(16, 16, 3, 1, 1)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = nn.functional.max_pool2d(x + torch.relu(self.conv(x)), 2)
        return self.head(x.mean((2, 3)))


class Attention(nn.Module):
    def __init__(self, width=64, heads=4):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.heads = heads

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(b, n, c))


class Pointwise(nn.Module):
    def forward(self, x):
        return torch.softmax(torch.sigmoid(x) * x.exp() - x.abs().sqrt(), -1), x.sum(-1)


MODELS = {
    "mlp": (Mlp, (5, 64)),
    "convs": (Convs, (2, 3, 32, 32)),
    "attention": (Attention, (2, 17, 64)),
    "pointwise": (Pointwise, (3, 7, 33)),
}


def make(model, dtype=torch.float32):
    return model.eval().to("cuda", dtype)


def compile_whole(model, *inputs, **options):
    """Compiles; all of it must run in engines."""
    options = {"min_block_size": 1, "pass_through_build_failures": True, **options}
    compiled = torch.compile(model, backend="stator", dynamic=False, options=options)
    made = []
    on_compilation.append(made.append)
    with warnings.catch_warnings():
        warnings.simplefilter("error", torch_stator.FallbackWarning)
        compiled(*inputs)
    on_compilation.pop()
    assert not made[-1].report["fallbacks"], made[-1].text
    return compiled


def assert_as_good(result, model, *inputs):
    """No worse than twice eager's own error against float32."""
    exact = model.float()(*(x.float() if x.is_floating_point() else x for x in inputs))
    dtype = inputs[0].dtype
    eager = model.to(dtype)(*inputs)
    for got, want, own in zip(*map(as_tuple, (result, exact, eager)), strict=True):
        assert got.dtype == own.dtype
        assert got.stride() == own.stride()
        error = (got.float() - want).abs().max()
        allowed = 2 * (own.float() - want).abs().max() + 1e-5 * (1 + want.abs().max())
        assert error <= allowed, (error, allowed)


def as_tuple(value):
    return value if isinstance(value, tuple) else (value,)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_results(name, dtype):
    build, shape = MODELS[name]
    model = make(build(), dtype)
    x = torch.randn(shape, device="cuda", dtype=dtype)
    compiled = compile_whole(model, x)
    for _ in range(4):  # plainly, captured, replayed
        result = compiled(x)
    assert_as_good(result, model, x)


def test_tf32_is_used_where_torch_allows_it(monkeypatch):
    model = make(nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.Flatten(1), nn.LazyLinear(256)))
    x = torch.randn(8, 64, 14, 14, device="cuda")
    exact = model(x)
    errors = {}
    for allowed in (True, False):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
        monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", allowed)
        torch._dynamo.reset()
        errors[allowed] = (compile_whole(model, x)(x) - exact).abs().max().item()
        assert ("tf32 = true" in plan_text(model, x)) == allowed
        assert "tf32 = true" not in plan_text(model, x, disable_tf32=True)
        disabled = compile_whole(model, x, disable_tf32=True)(x)
        torch.testing.assert_close(disabled, exact, atol=1e-4, rtol=1e-4)
    assert errors[False] < 1e-4, errors
    assert errors[False] < errors[True] < 1e-2, errors


def plan_text(model, x, **options):
    program = torch_stator.compile(model, (x,), min_block_size=1, **options)
    return program.runner.parts[0].plan_text()


@pytest.mark.parametrize("workspace_size", [1, 2**20])
def test_scratch_memory_is_bounded(workspace_size):
    model = make(Convs(), torch.half)
    x = torch.randn(2, 3, 32, 32, device="cuda", dtype=torch.half)
    result = compile_whole(model, x, workspace_size=workspace_size)(x)
    assert_as_good(result, model, x)
    text = plan_text(model, x, workspace_size=workspace_size)
    assert text.count("library = ") == text.count(f"workspace = {workspace_size}")


class Branches(nn.Module):
    """Two long chains of small steps, and four that write parts of one tensor."""

    def __init__(self, depth):
        super().__init__()
        self.left = nn.Sequential(*(Mlp() for _ in range(depth)))
        self.right = nn.Sequential(*(Mlp() for _ in range(depth)))
        self.parts = nn.ModuleList(nn.Linear(64, 32) for _ in range(4))

    def forward(self, x):
        y = self.left(x) * torch.tanh(self.right(x))
        return torch.cat([torch.relu(part(y)) for part in self.parts], -1), y.sum(-1)


@pytest.mark.parametrize("max_aux_streams", [1, 3])
def test_branches_on_streams_of_their_own(max_aux_streams):
    model = make(Branches(4), torch.half)
    xs = [torch.randn(8, 64, dtype=torch.half, device="cuda") for _ in range(3)]
    serial = compile_whole(model, xs[0], max_aux_streams=0)
    beside = compile_whole(model, xs[0], max_aux_streams=max_aux_streams)
    for x in [*xs, *xs, *xs]:  # step by step, then as a graph with other pointers
        for result, expected in zip(beside(x), serial(x), strict=True):
            torch.testing.assert_close(result, expected, atol=0, rtol=0)
    other = torch.cuda.Stream()
    with torch.cuda.stream(other):
        results = [beside(x) for x in xs]
    other.synchronize()
    for x, result in zip(xs, results, strict=True):
        assert_as_good(result, model, x)


def test_branches_in_a_callers_graph():
    model = make(Branches(2), torch.half)
    x = torch.randn(8, 64, dtype=torch.half, device="cuda")
    compiled = compile_whole(model, x, max_aux_streams=2)
    expected = [y.clone() for y in compiled(x)]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = compiled(x)
    for _ in range(3):
        for result in results:
            result.zero_()
        graph.replay()
        for result, one in zip(results, expected, strict=True):
            torch.testing.assert_close(result, one, atol=0, rtol=0)


def test_branches_take_less_time_side_by_side():
    model = make(Branches(16), torch.half)
    x = torch.randn(8, 64, dtype=torch.half, device="cuda")
    ways = [compile_whole(model, x, max_aux_streams=count) for count in (0, 1)]
    times = [[], []]
    for _ in range(50):
        for way, taken in zip(ways, times, strict=True):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(20):
                way(x)
            end.record()
            end.synchronize()
            taken.append(start.elapsed_time(end))
    serial, beside = map(min, times)
    assert beside < 0.8 * serial, f"{beside} beside {serial} ms"


def test_code_for_every_gpu():
    model, x = make(Mlp()), torch.randn(5, 64, device="cuda")
    result = compile_whole(model, x, hardware_compatible=True)(x)
    torch.testing.assert_close(result, model(x), atol=1e-4, rtol=1e-4)
    assert 'code 0 = "compute_80"' in plan_text(model, x, hardware_compatible=True)


def test_other_inputs_and_outputs_at_other_addresses():
    model = make(Mlp())
    inputs = [torch.randn(5, 64, device="cuda") for _ in range(6)]
    compiled = compile_whole(model, inputs[0])
    results = [compiled(x) for _ in range(3) for x in inputs]
    for result, x in zip(results, inputs * 3, strict=True):
        torch.testing.assert_close(result, model(x), atol=1e-4, rtol=1e-4)


def test_inputs_of_other_strides_and_alignment():
    model = make(Pointwise())
    x = torch.randn(3, 7, 33, device="cuda")
    compiled = compile_whole(model, x)
    flat = torch.randn(3 * 7 * 33 + 1, device="cuda")
    others = [
        torch.randn(33, 7, 3, device="cuda").permute(2, 1, 0),
        torch.randn(3, 7, 66, device="cuda")[:, :, ::2],
        flat[1:].view(3, 7, 33),
        torch.randn(33, device="cuda").expand(3, 7, 33),
    ]
    for other in others:
        for _ in range(3):
            torch.testing.assert_close(compiled(other), model(other))


def test_the_current_stream_is_used():
    model = make(Mlp(256))
    x = torch.zeros(64, 256, device="cuda")
    compiled = compile_whole(model, x)
    streams = [torch.cuda.Stream() for _ in range(3)]
    for i in range(12):
        stream = streams[i % 3]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            torch.cuda._sleep(1_000_000)  # what follows must wait for it
            y = torch.full_like(x, float(i)) + torch.arange(256, device="cuda")
            result = compiled(y)
            expected = model(y)
        stream.synchronize()
        torch.testing.assert_close(result, expected, atol=1e-3, rtol=1e-3)


def test_threads_on_streams_of_their_own():
    model = make(Mlp())
    compiled = compile_whole(model, torch.randn(5, 64, device="cuda"))
    failures = []

    def work(seed):
        try:
            generator = torch.Generator("cuda").manual_seed(seed)
            with torch.no_grad(), torch.cuda.stream(torch.cuda.Stream()):
                for _ in range(50):
                    x = torch.randn(5, 64, device="cuda", generator=generator)
                    torch.testing.assert_close(compiled(x), model(x), atol=1e-4, rtol=1e-4)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


def test_inside_a_callers_graph():
    model = make(Mlp())
    x = torch.randn(5, 64, device="cuda")
    compiled = compile_whole(model, x)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            compiled(x)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = compiled(x)
    for _ in range(3):
        x.copy_(torch.randn(5, 64, device="cuda"))
        compiled(torch.randn(5, 64, device="cuda"))  # its own buffers must not be the graph's
        graph.replay()
        torch.testing.assert_close(result, model(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("precision", [torch.float32, torch.half], ids=str)
def test_changed_weights(precision):
    model = make(Mlp())
    x = torch.randn(5, 64, device="cuda")
    compiled = compile_whole(model, x, precision=precision)
    tolerance = (
        {"atol": 1e-4, "rtol": 1e-4} if precision is torch.float32 else {"atol": 0.05, "rtol": 0.05}
    )

    def same():
        for _ in range(3):
            torch.testing.assert_close(compiled(x), model(x), **tolerance)

    same()
    model.up.weight.mul_(2)  # its version
    same()
    model.down.weight.data = torch.randn_like(model.down.weight) / 16  # its pointer
    same()
    model.up.bias = nn.Parameter(torch.randn_like(model.up.bias))  # its identity
    same()
    other = make(Mlp())
    model.load_state_dict(other.state_dict())
    same()
    model.up.weight.data.add_(1)  # seen by nothing
    torch_stator.refit(compiled, model.state_dict())
    same()


def test_dynamic_sizes():
    model = make(Mlp())
    program = torch_stator.compile(
        model,
        (torch.randn(4, 64, device="cuda"),),
        dynamic_shapes=({0: torch.export.Dim("n", min=2, max=100)},),
        require_full_compilation=True,
    )
    for _ in range(3):
        for n in (2, 3, 8, 100, 31):
            x = torch.randn(n, 64, device="cuda")
            torch.testing.assert_close(program(x), model(x), atol=1e-4, rtol=1e-4)


def test_saved_program(tmp_path):
    model = make(Convs())
    x = torch.randn(2, 3, 32, 32, device="cuda")
    program = torch_stator.compile(model, (x,), require_full_compilation=True)
    expected = program(x)
    program.save(tmp_path / "convs.stator")
    loaded = torch_stator.load(tmp_path / "convs.stator", device="cuda:0")
    torch.testing.assert_close(loaded(x), expected)
    values = {name: value + 0.25 for name, value in model.state_dict().items() if "head" in name}
    loaded.refit(values)
    model.load_state_dict({**model.state_dict(), **values})
    torch.testing.assert_close(loaded(x), model(x), atol=1e-3, rtol=1e-3)
    with pytest.raises(torch_stator.InvalidArgumentError, match="cannot run on cpu"):
        torch_stator.load(tmp_path / "convs.stator", device="cpu")
    with pytest.raises(torch_stator.InvalidArgumentError, match="on cuda, found one on cpu"):
        loaded(x.cpu())


def test_out_of_memory_in_a_call_leaves_the_engine_usable():
    class Wide(nn.Module):
        def forward(self, x):
            return torch.softmax(x.exp(), -1).cumsum(-1).sum(-1)

    program = torch_stator.compile(
        nn.Sequential(Wide()).eval(),
        (torch.randn(4, 1024, device="cuda"),),
        dynamic_shapes=({0: torch.export.Dim("n", min=2, max=2**24)},),
    )
    small = torch.randn(8, 1024, device="cuda")
    expected = program(small)
    free, _ = torch.cuda.mem_get_info()
    kept = torch.empty(max(free - (256 << 20), 0), dtype=torch.uint8, device="cuda")
    large = torch.zeros(1, 1024, device="cuda").expand(200_000, 1024)  # its copy is 800 MB
    with pytest.raises((torch_stator.OutOfMemoryError, torch.OutOfMemoryError)):
        program(large)
    del kept
    torch.testing.assert_close(program(small), expected)
    torch.cuda.empty_cache()  # for the processes of other tests


def test_memory_that_torch_keeps_is_given_back():
    x = torch.randn(4, 64, device="cuda")
    model = make(Mlp())
    free, _ = torch.cuda.mem_get_info()
    kept = torch.empty(max(free - (64 << 20), 0), dtype=torch.uint8, device="cuda")
    del kept  # torch's allocator has it
    compiled = compile_whole(model, x)
    torch.testing.assert_close(compiled(x), model(x), atol=1e-4, rtol=1e-4)
    torch.cuda.empty_cache()  # for the processes of other tests


def test_out_of_memory_in_a_build_falls_back_and_leaves_no_trace():
    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.Linear(4096, 16384)

        def forward(self, x):
            return torch.relu(self.up(x)).sum(-1)

    model, x = Wide().eval().cuda(), torch.randn(4, 4096, device="cuda")
    expected = model(x)  # what torch's libraries keep is there
    options = {"min_block_size": 1, "precision": torch.half}  # a copy of the weight: 128 MB
    compiled = torch.compile(model, backend="stator", dynamic=False, options=options)
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    kept = torch.empty(max(free - (64 << 20), 0), dtype=torch.uint8, device="cuda")
    with pytest.warns(torch_stator.FallbackWarning, match="runs in eager PyTorch.*OutOfMemory"):
        torch.testing.assert_close(compiled(x), expected)
    del kept
    torch.cuda.empty_cache()
    torch._dynamo.reset()
    compilations = []
    on_compilation.append(compilations.append)
    torch.testing.assert_close(compiled(x), expected, atol=0.5, rtol=1e-2)
    on_compilation.pop()
    assert compilations[0].engines[0].device() == "cuda:0"


def test_contexts_that_no_call_uses_give_memory_back():
    class Wide(nn.Module):
        def forward(self, x):
            return torch.softmax(x.exp(), -1).cumsum(-1).sum(-1)

    x = torch.randn(100_000, 1024, device="cuda")
    model = Wide().eval()
    compiled = compile_whole(model, x)
    expected = compiled(x).clone()
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    kept = torch.empty(max(free - (64 << 20), 0), dtype=torch.uint8, device="cuda")
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):  # a context of its own, with an arena of 400 MB or more
        result = compiled(x)
    stream.synchronize()
    torch.testing.assert_close(result, expected)
    del kept
    torch.testing.assert_close(compiled(x), expected)
    torch.cuda.empty_cache()


def test_mixed_devices_run_in_eager_with_a_reason():
    class Mixed(nn.Module):
        def forward(self, x, y):
            return x + y.to(x.device)

    compiled = torch.compile(Mixed(), backend="stator")
    x, y = torch.ones(3, device="cuda"), torch.ones(3)
    with pytest.warns(torch_stator.FallbackWarning, match="tensors on cpu and cuda:0"):
        torch.testing.assert_close(compiled(x, y), x + 1)


def test_a_device_that_was_asked_for():
    x = torch.randn(3, 7, 33, device="cuda")
    model = Pointwise()
    for device in ("cuda", 0, torch.device("cuda", 0)):
        torch.testing.assert_close(compile_whole(model, x, device=device)(x), model(x))
        torch._dynamo.reset()
    compiled = torch.compile(model, backend="stator", options={"device": "cpu"})
    with pytest.warns(torch_stator.FallbackWarning, match="`device` asks for cpu"):
        torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_devices():
    for device in ("cuda:1", "cuda:0"):
        model = Mlp().eval().to(device)
        x = torch.randn(5, 64, device=device)
        compiled = compile_whole(model, x)
        for _ in range(3):
            torch.testing.assert_close(compiled(x), model(x), atol=1e-4, rtol=1e-4)
        torch._dynamo.reset()


class Products(nn.Module):
    """Products and convolutions in the shapes that kernels on tensor cores are written for."""

    def __init__(self):
        super().__init__()
        self.deep = nn.Linear(1024, 64)
        self.odd = nn.Linear(64, 75)
        self.conv = nn.Conv2d(64, 72, 3, padding=1)

    def forward(self, x, image):
        return torch.relu(self.odd(self.deep(x))), self.conv(image) + image.mean()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rows", [9, 70, 200])
def test_tensor_cores(dtype, rows):
    model = make(Products()).to(dtype)
    image = torch.randn(2, 64, 7, 9, device="cuda", dtype=dtype)
    image = image.to(memory_format=torch.channels_last)
    inputs = (torch.randn(rows, 1024, device="cuda", dtype=dtype), image)
    compiled = compile_whole(model, *inputs, optimization_level=5)
    assert_as_good(compiled(*inputs), model, *inputs)


def test_a_process_ends_without_complaint():
    script = """
        import torch, torch_stator
        with torch.no_grad():
            f = torch.compile(lambda x: x.exp() + 1, backend="stator",
                              options={"min_block_size": 1})
            x = torch.ones(1000, device="cuda")
            for _ in range(3):
                y = f(x)
        torch.cuda.synchronize()
        print("done")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"


def test_settings_without_an_effect_are_noted():
    options = {"sparse_weights": True, "refit": True}
    x = torch.randn(3, 64).cuda()
    program = torch_stator.compile(Mlp().cuda(), (x,), min_block_size=1, **options)
    notes = program.report["notes"]
    assert [note.split()[0] for note in notes] == list(options)
    assert all("has no effect on cuda" in note for note in notes)
