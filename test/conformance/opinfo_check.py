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
from opinfo_compare import Difference, compare
from opinfo_samples import DTYPES, call_on_copies, has_dtype, make_samples, random_state, seed
from torch._dynamo.source import LocalSource
from torch._functorch.aot_autograd import aot_module_simplified, make_boxed_func
from torch._guards import TracingContext, tracing
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    ShapeEnv,
    StatefulSymbolicContext,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch_stator import backend

ENGINE, FALLBACK, ROUNDING, FAILED, TORCH = "engine", "fallback", "rounding", "failed", "torch"
PLACE = "sample"
_NAME = re.compile(r" \(`\w+`\)")  # of a node, in a reason

OPTIONS = {
    "min_block_size": 1,
    "optimization_level": 0,
    "cache": False,
    "cache_dir": None,
    "pass_through_build_failures": True,
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a sample.

    engine: engines ran all of it. fallback: it is right, and torch ran some of it, for `reason`.
    torch: the result differs from eager, and so it does, to the same value, when torch runs what
    AOTAutograd traced, without us. rounding: the result differs by more than torch's tolerance, and
    by less than what rounding the inputs does to it (opinfo_compare.py). failed: `reason` says how.
    """

    kind: str
    reason: str = ""


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
            self.expected, self.given = call_on_copies(sample, sample.tensors)
        except Exception as error:
            self.outcome = _check_error(self, error)
            return
        self.is_random = not torch.equal(random_state(), _state_after_seed())
        if not any(isinstance(value, torch.Tensor) for value in self.expected):
            self.outcome = Outcome(FALLBACK, "no tensor comes out: dynamo breaks the graph")
        elif not all(isinstance(value, torch.Tensor) for value in self.expected):
            self.outcome = Outcome(FALLBACK, "what is no tensor comes out: dynamo breaks the graph")

    def judge(self, actual, fallbacks):
        """The outcome of `actual`, results and then arguments, in which `fallbacks` are torch's.
        Raises Difference where they are not what eager makes."""
        excuse = compare(self.op, self.dtype, self.sample, actual, self.expected + self.given)
        if excuse:
            return Outcome(ROUNDING, excuse)
        reasons = sorted({f"{f['op']}: {_NAME.sub('', f['reason'])}" for f in fallbacks})
        return Outcome(FALLBACK, "; ".join(reasons)) if reasons else Outcome(ENGINE)


@functools.cache
def _state_after_seed():
    seed()
    return random_state()


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
            call.outcome = call.judge(actual, own)
        except Difference as difference:
            call.outcome = _run_alone(call)
            if call.outcome.kind in (ENGINE, FALLBACK, ROUNDING) and not _draws(call.sample):
                call.outcome = Outcome(FAILED, f"in a graph with other samples: {difference}")


def _draws(sample):
    """Whether a sample draws random numbers, also if it puts the generator back."""
    with _DrawsMode() as mode:
        call_on_copies(sample, sample.tensors)
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
        outcome = call.judge(results[0], fallbacks or [])
    except Difference as difference:
        if _agrees_with_aot_eager(call, results[0]):
            return Outcome(TORCH, str(difference).partition("! Mismatched")[0])
        return Outcome(FAILED, str(difference))
    if fallbacks is None:
        return Outcome(FALLBACK, "the graph runs in eager PyTorch")
    return outcome


def _compile_and_run(calls):
    """Of calls in one graph: the results, and then the arguments, of each; and what the compiler
    left to torch, None where that is the whole graph."""
    compilations = []
    backend.on_compilation.append(compilations.append)
    try:
        compiled = _compile(calls)
        actual, after = call_on_copies(compiled, [t for call in calls for t in call.sample.tensors])
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


def _check_error(call, expected):
    """Eager raises: so must a compiled call."""
    call.expected = [None]
    try:
        call_on_copies(_compile([call]), call.sample.tensors)
    except torch_stator.errors.InternalError as error:
        return Outcome(FAILED, f"{_where(error)}: {_first_line(error)}")
    except Exception:
        return Outcome(FALLBACK, "eager raises an error, and so does the compiled call")
    reason = f"eager raises {type(expected).__name__}: {_first_line(expected)}"
    try:
        call_on_copies(_compile_aot_eager(call), call.sample.tensors)
    except Exception:
        return Outcome(FAILED, reason)
    return Outcome(TORCH, reason)


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


def _agrees_with_aot_eager(call, actual):
    try:
        results, given = call_on_copies(_compile_aot_eager(call), call.sample.tensors)
        compare(call.op, call.dtype, call.sample, actual, results + given)
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
