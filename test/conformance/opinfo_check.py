"""Samples through the backend, compared with eager.

In:  Samples of one op. Out: an Outcome of each.
The backend gets what dynamo would give it: a graph with one placeholder per tensor, and the
tensors. So all behind dynamo runs as in torch.compile, without dynamo's time; the variant "dynamo"
goes through torch.compile itself.
"""

import contextlib
import dataclasses
import functools
import itertools
import operator
import re
import traceback
import warnings

import torch
import torch_stator
from opinfo_samples import DTYPES, UNSPECIFIED_VALUES, find_tolerance, has_dtype, make_samples, seed
from torch._dynamo.source import LocalSource
from torch._functorch.aot_autograd import aot_module_simplified, make_boxed_func
from torch._guards import TracingContext, tracing
from torch._prims_common import check_significant_strides
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    ShapeEnv,
    StatefulSymbolicContext,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch_stator import backend

ENGINE, FALLBACK, FAILED, TORCH = "engine", "fallback", "failed", "torch"
PLACE = "sample"
_NAME = re.compile(r" \(`\w+`\)")  # of a node, in a reason

OPTIONS = {
    "min_block_size": 1,
    "optimization_level": 0,
    "cache": False,
    "cache_dir": None,
    "pass_through_build_failures": True,
}
WIDER = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float32: torch.float64,
}
_ROUNDINGS = 4


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a sample.

    engine: engines ran all of it. fallback: it is right, and torch ran some of it, for `reason`.
    torch: the result differs from eager, and so it does, to the same value, when torch runs what
    AOTAutograd traced, without us. failed: `reason` says how.
    """

    kind: str
    reason: str = ""


class Difference(Exception):
    """A result that is not eager's."""


def run_samples(op, dtype, variant, samples):
    """The Outcomes of samples. They share a graph where they can, since torch traces a large graph
    faster than many small ones; if it cannot be traced, compiled or run, each runs alone."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        calls = [_Call(op, DTYPES[dtype], variant, sample) for sample in samples]
        _run_together([call for call in calls if call.outcome is None and not call.is_random])
        for call in calls:
            call.outcome = call.outcome or _run_alone(call)
    return [call.outcome for call in calls]


class _Call:
    """A sample, and what eager makes of it."""

    def __init__(self, op, dtype, variant, sample):
        self.op, self.dtype, self.variant, self.sample = op, dtype, variant, sample
        self.outcome = None
        self.is_random = False  # it draws numbers, which are eager's only in a graph of its own
        try:
            self.expected, self.given = _call(sample, sample.tensors)
        except Exception as error:
            self.outcome = _check_error(self, error)
            return
        self.is_random = not torch.equal(torch.get_rng_state(), _state_after_seed())
        if not any(isinstance(value, torch.Tensor) for value in self.expected):
            self.outcome = Outcome(FALLBACK, "no tensor comes out: dynamo breaks the graph")
        elif not all(isinstance(value, torch.Tensor) for value in self.expected):
            self.outcome = Outcome(FALLBACK, "what is no tensor comes out: dynamo breaks the graph")

    def compare(self, actual):
        """Raises Difference unless `actual`, results and then arguments, is what eager makes."""
        _compare(self.op, self.dtype, self.sample, actual, self.expected + self.given)


@functools.cache
def _state_after_seed():
    seed()
    return torch.get_rng_state()


def _run_together(calls):
    """Runs calls in one graph and sets their outcomes, but of those that have to run alone."""
    if len(calls) < 2 or calls[0].variant == "dynamo":
        return
    try:
        results, fallbacks = _compile_and_run(calls)
    except Exception:
        return
    if fallbacks is None:
        return
    places = [fallback["location"].rpartition(":") for fallback in fallbacks]
    if any(file != PLACE for file, _, _ in places):
        return  # nobody's
    for i, (call, actual) in enumerate(zip(calls, results, strict=True)):
        own = [f for f, (_, _, place) in zip(fallbacks, places, strict=True) if int(place) == i]
        try:
            call.compare(actual)
            call.outcome = _judge(own)
        except Difference as difference:
            call.outcome = _run_alone(call)
            if call.outcome.kind in (ENGINE, FALLBACK) and not _draws(call.sample):
                call.outcome = Outcome(FAILED, f"in a graph with other samples: {difference}")


def _draws(sample):
    """Whether a sample draws random numbers, also if it puts the generator back."""
    with _DrawsMode() as mode:
        _call(sample, sample.tensors)
    return mode.draws


class _DrawsMode(TorchDispatchMode):
    draws = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.draws = self.draws or torch.Tag.nondeterministic_seeded in func.tags
        return func(*args, **(kwargs or {}))


def _run_alone(call):
    try:
        results, fallbacks = _compile_and_run([call])
    except Exception as error:
        if _is_torch_error(error):
            return Outcome(FALLBACK, f"torch cannot trace it: {_first_line(error)}")
        return Outcome(FAILED, f"{_where(error)}: {_first_line(error)}")
    try:
        call.compare(results[0])
    except Difference as difference:
        if _agrees_with_aot_eager(call, results[0]):
            return Outcome(TORCH, str(difference).partition("! Mismatched")[0])
        return Outcome(FAILED, str(difference))
    if fallbacks is None:
        return Outcome(FALLBACK, "the graph runs in eager PyTorch")
    return _judge(fallbacks)


def _judge(fallbacks):
    """The outcome of a right result, some of which may be torch's."""
    reasons = sorted({f"{f['op']}: {_NAME.sub('', f['reason'])}" for f in fallbacks})
    return Outcome(FALLBACK, "; ".join(reasons)) if reasons else Outcome(ENGINE)


def _compile_and_run(calls):
    """Of calls in one graph: the results, and then the arguments, of each; and what the compiler
    left to torch, None where that is the whole graph."""
    compilations = []
    backend.on_compilation.append(compilations.append)
    try:
        compiled = _compile(calls)
        actual, after = _call(compiled, [t for call in calls for t in call.sample.tensors])
    finally:
        backend.on_compilation.remove(compilations.append)
    if len(actual) != sum(len(call.expected) for call in calls):
        wanted = [len(call.expected) for call in calls]
        raise Difference(f"{len(actual)} results where eager gives {wanted}")
    actual, after = iter(actual), iter(after)
    results = [
        [*itertools.islice(actual, len(call.expected)), *itertools.islice(after, len(call.given))]
        for call in calls
    ]
    fallbacks = [f for c in compilations for f in c.report["fallbacks"]]
    return results, fallbacks if compilations else None


def _call(function, tensors):
    """(results, the tensors given) of a call with copies, so that what it does to them shows."""
    given = [_copy(tensor) for tensor in tensors]
    seed()
    return list(function(*given)), given


def _copy(tensor):
    """A copy with the same layout, of its whole storage."""
    storage = tensor.untyped_storage().clone()
    copy = torch.empty(0, dtype=tensor.dtype)
    copy.set_(storage, tensor.storage_offset(), tensor.shape, tensor.stride())
    return torch._neg_view(copy) if tensor.is_neg() else copy


def _check_error(call, expected):
    """Eager raises: so must a compiled call."""
    call.expected = [None]
    try:
        _call(_compile([call]), call.sample.tensors)
    except torch_stator.errors.InternalError as error:
        return Outcome(FAILED, f"{_where(error)}: {_first_line(error)}")
    except Exception:
        return Outcome(FALLBACK, "eager raises an error, and so does the compiled call")
    return Outcome(FAILED, f"eager raises {type(expected).__name__}: {_first_line(expected)}")


# ---- compiling


def make_graph(samples, num_outputs):
    """The graph that dynamo would make of calls of samples, one after the other; each node tells
    which sample it is of, where a user's file and line would be."""
    graph = torch.fx.Graph()
    tensors = [
        tuple(graph.placeholder(f"x{i}_{j}") for j in range(len(sample.tensors)))
        for i, sample in enumerate(samples)
    ]
    results = []
    for i, (sample, count) in enumerate(zip(samples, num_outputs, strict=True)):
        node = graph.call_function(_make_function(sample), tensors[i])
        node.meta["stack_trace"] = f'  File "{PLACE}", line {i}, in call\n    sample()\n'
        results += [graph.call_function(operator.getitem, (node, j)) for j in range(count)]
    graph.output(tuple(results))
    return torch.fx.GraphModule(torch.nn.Module(), graph)


def _make_function(sample):
    """A function, whose name FX prints; a Sample has none."""
    return lambda *values: sample(*values)


@contextlib.contextmanager
def dynamo_context(samples, dynamic):
    """What dynamo tells a backend of the tensors besides themselves: which sizes are symbols.
    Within a sample, equal sizes are one symbol."""
    shapes = ShapeEnv() if dynamic else None
    mode = FakeTensorMode(shape_env=shapes, allow_non_fake_inputs=True)
    if dynamic:
        for i, sample in enumerate(samples):
            shapes.val_to_var.clear()
            for j, tensor in enumerate(sample.tensors):
                source = LocalSource(f"x{i}_{j}")
                symbols = StatefulSymbolicContext(
                    dynamic_sizes=[DimDynamic.DUCK] * tensor.dim(), tensor_source=source
                )
                mode.from_tensor(tensor, symbolic_context=symbols, source=source)  # remembered
    with tracing(TracingContext(mode)):
        yield


def _compile(calls):
    samples = [call.sample for call in calls]
    if calls[0].variant == "dynamo":
        torch._dynamo.reset()
        function = samples[0].__call__
        return torch.compile(function, backend="stator", dynamic=False, options=OPTIONS)
    seed()
    with dynamo_context(samples, calls[0].variant == "dynamic"):
        gm = make_graph(samples, [len(call.expected) for call in calls])
        tensors = [tensor for sample in samples for tensor in sample.tensors]
        return backend.stator(gm, tensors, options=OPTIONS)


def _compile_aot_eager(call):
    """The same without us: torch runs what AOTAutograd traces."""

    def run(gm, _):
        return make_boxed_func(gm.forward)

    with dynamo_context([call.sample], call.variant == "dynamic"):
        gm = make_graph([call.sample], [len(call.expected)])
        return aot_module_simplified(
            gm, call.sample.tensors, fw_compiler=run, inference_compiler=run
        )


def classify(op):
    """ "core": all that it is made of is core ATen; "mixed": some; "other": none, or torch cannot
    trace it."""
    dtype = next((name for name in DTYPES if has_dtype(op, name, "static")), None)
    if dtype is None:
        return "other"
    targets = []

    def note(gm, _):
        targets.extend(node.target for node in gm.graph.nodes if node.op == "call_function")
        return make_boxed_func(gm.forward)

    try:
        for _, sample in make_samples(op, dtype, "static", most=2):
            with torch.no_grad(), dynamo_context([sample], dynamic=False):
                aot_module_simplified(
                    make_graph([sample], [len(sample(*sample.tensors))]),
                    sample.tensors,
                    fw_compiler=note,
                    inference_compiler=note,
                    decompositions=_core_decompositions(),
                )
    except Exception:
        return "other"
    core = [torch.Tag.core in target.tags for target in targets if hasattr(target, "tags")]
    if all(core):
        return "core"
    return "mixed" if any(core) else "other"


@functools.cache
def _core_decompositions():
    return torch._decomp.core_aten_decompositions()


# ---- comparing


def _compare(op, dtype, sample, actual, expected):
    """Raises Difference unless dtypes, shapes, strides and elements are those expected. An element
    may be near to eager's, or to eager's result in the next wider dtype: torch's own tests of
    compiled ops judge so, since in a chain of ops eager rounds more often than one kernel does."""
    if len(actual) != len(expected):
        raise Difference(f"{len(actual)} results where eager gives {len(expected)}")
    wider = None
    for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
        _compare_types(a, e, i)
        if op.full_name in UNSPECIFIED_VALUES:
            continue
        difference = _find_difference(op, dtype, a, e)
        if difference and e.dtype in WIDER:
            wider = wider or _run_wider(sample, expected)
            if wider and not _find_difference(op, dtype, a, wider[i].to(e.dtype)):
                continue
            if wider and _is_rounding(op, sample, a, wider, i):
                continue
        if difference:
            raise Difference(f"result {i}: {difference}")


def _compare_types(actual, expected, i):
    if actual.dtype != expected.dtype:
        raise Difference(f"result {i} is {actual.dtype} where eager gives {expected.dtype}")
    if actual.shape != expected.shape:
        shapes = f"{list(actual.shape)} where eager gives {list(expected.shape)}"
        raise Difference(f"result {i} has shape {shapes}")
    same, _ = check_significant_strides(actual, expected)
    if not same:
        strides = f"{list(actual.stride())} where eager gives {list(expected.stride())}"
        raise Difference(f"result {i} of shape {list(actual.shape)} has strides {strides}")


def _find_difference(op, dtype, actual, expected):
    rtol, atol = find_tolerance(op, dtype, expected)
    try:
        torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol, equal_nan=True)
    except AssertionError as error:
        return " ".join(str(error).split())
    return ""


def _is_rounding(op, sample, actual, wider, i):
    """Whether each element of a convolution is as far from eager's in a wider dtype as roundings of
    its sum can bring it: a few units of the sum of its products' magnitudes (Higham 2002, 3.1; the
    bound for any order of a sum of n products is n). Where products cancel, so that they are more
    than a result's tolerance, the order of the sum decides, and eager is as far from it."""
    if "conv" not in op.name:
        return False
    magnitudes = _run_wider(sample, wider, torch.abs)
    if magnitudes is None:
        return False
    bound = _ROUNDINGS * torch.finfo(actual.dtype).eps / 2 * magnitudes[i]
    return bool(((actual - wider[i]).abs() <= bound).all())


def _run_wider(sample, expected, change=lambda tensor: tensor):
    """Eager's results where each input, changed, is in the next wider dtype; None where it has
    none."""
    tensors = [change(t).to(WIDER.get(t.dtype, t.dtype)) for t in sample.tensors]
    try:
        results, given = _call(sample, tensors)
    except Exception:
        return None
    return results + given if len(results + given) == len(expected) else None


def _agrees_with_aot_eager(call, actual):
    try:
        results, given = _call(_compile_aot_eager(call), call.sample.tensors)
        _compare(call.op, call.dtype, call.sample, actual, results + given)
    except Exception:
        return False
    return True


# ---- errors


def _is_torch_error(error):
    """Whether torch raised it while it traced, before the graph reached us."""
    if isinstance(error, torch_stator.errors.Error):
        return False
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    return "compile_functional" not in names and (
        "aot_module_simplified" in names or "_compile_aot_eager" in names
    )


def _where(error):
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {frame.name}"


def _first_line(error):
    lines = str(error).splitlines()
    return lines[0][:300] if lines else ""
