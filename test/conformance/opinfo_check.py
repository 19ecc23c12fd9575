"""One sample through the backend, compared with eager.

In:  a Sample. Out: an Outcome.
The backend gets what dynamo would give it: a graph with one placeholder per tensor, and the
tensors. So all behind dynamo runs as in torch.compile, without dynamo's time; the variant "dynamo"
goes through torch.compile itself.
"""

import contextlib
import dataclasses
import functools
import operator
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
from torch_stator import backend

ENGINE, FALLBACK, FAILED, TORCH = "engine", "fallback", "failed", "torch"

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


def run_sample(op, dtype, variant, sample):
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _run_sample(op, DTYPES[dtype], variant, sample)


def _run_sample(op, dtype, variant, sample):
    try:
        expected, given = _call(sample, sample.tensors)
    except Exception as error:
        return _check_error(sample, variant, error)
    if not any(isinstance(value, torch.Tensor) for value in expected):
        return Outcome(FALLBACK, "no tensor comes out: dynamo breaks the graph")
    if not all(isinstance(value, torch.Tensor) for value in expected):
        return Outcome(FALLBACK, "what is no tensor comes out: dynamo breaks the graph")
    compilations = []
    backend.on_compilation.append(compilations.append)
    try:
        compiled = _compile(sample, len(expected), variant)
        actual, after = _call(compiled, sample.tensors)
    except Exception as error:
        if _is_torch_error(error):
            return Outcome(FALLBACK, f"torch cannot trace it: {_first_line(error)}")
        return Outcome(FAILED, f"{_where(error)}: {_first_line(error)}")
    finally:
        backend.on_compilation.remove(compilations.append)
    try:
        _compare(op, dtype, sample, actual + after, expected + given)
    except Difference as difference:
        if _agrees_with_aot_eager(sample, actual + after, variant, dtype, op, len(expected)):
            return Outcome(TORCH, str(difference).partition("! Mismatched")[0])
        return Outcome(FAILED, str(difference))
    if not compilations:
        return Outcome(FALLBACK, "the graph runs in eager PyTorch")
    fallbacks = [f for c in compilations for f in c.report["fallbacks"]]
    if fallbacks:
        return Outcome(
            FALLBACK, "; ".join(sorted({f"{f['op']}: {f['reason']}" for f in fallbacks}))
        )
    return Outcome(ENGINE)


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


def _check_error(sample, variant, expected):
    """Eager raises: so must a compiled call."""
    try:
        compiled = _compile(sample, 1, variant)
        _call(compiled, sample.tensors)
    except torch_stator.errors.InternalError as error:
        return Outcome(FAILED, f"{_where(error)}: {_first_line(error)}")
    except Exception:
        return Outcome(FALLBACK, "eager raises an error, and so does the compiled call")
    return Outcome(FAILED, f"eager raises {type(expected).__name__}: {_first_line(expected)}")


# ---- compiling


def make_graph(sample, num_outputs):
    """The graph that dynamo would make of a call."""
    graph = torch.fx.Graph()
    tensors = tuple(graph.placeholder(f"x{i}") for i in range(len(sample.tensors)))
    # A function, whose name FX prints; a Sample has none.
    node = graph.call_function(lambda *values: sample(*values), tensors)
    graph.output(
        tuple(graph.call_function(operator.getitem, (node, i)) for i in range(num_outputs))
    )
    return torch.fx.GraphModule(torch.nn.Module(), graph)


@contextlib.contextmanager
def dynamo_context(tensors, dynamic):
    """What dynamo tells a backend of the tensors besides themselves: which sizes are symbols."""
    mode = FakeTensorMode(shape_env=ShapeEnv() if dynamic else None, allow_non_fake_inputs=True)
    context = TracingContext(mode)
    if dynamic:
        for i, tensor in enumerate(tensors):
            context.tensor_to_context[tensor] = StatefulSymbolicContext(
                dynamic_sizes=[DimDynamic.DUCK] * tensor.dim(), tensor_source=LocalSource(f"x{i}")
            )
    with tracing(context):
        yield


def _compile(sample, num_outputs, variant):
    if variant == "dynamo":
        torch._dynamo.reset()
        return torch.compile(sample.__call__, backend="stator", dynamic=False, options=OPTIONS)
    seed()
    with dynamo_context(sample.tensors, variant == "dynamic"):
        return backend.stator(make_graph(sample, num_outputs), sample.tensors, options=OPTIONS)


def _compile_aot_eager(sample, num_outputs, variant):
    """The same without us: torch runs what AOTAutograd traces."""

    def run(gm, _):
        return make_boxed_func(gm.forward)

    with dynamo_context(sample.tensors, variant == "dynamic"):
        gm = make_graph(sample, num_outputs)
        return aot_module_simplified(gm, sample.tensors, fw_compiler=run, inference_compiler=run)


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
            with torch.no_grad(), dynamo_context(sample.tensors, dynamic=False):
                aot_module_simplified(
                    make_graph(sample, len(sample(*sample.tensors))),
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


def _run_wider(sample, expected):
    """Eager's results where each input is in the next wider dtype; None where it has none."""
    tensors = [t.to(WIDER.get(t.dtype, t.dtype)) for t in sample.tensors]
    try:
        results, given = _call(sample, tensors)
    except Exception:
        return None
    return results + given if len(results + given) == len(expected) else None


def _agrees_with_aot_eager(sample, actual, variant, dtype, op, num_outputs):
    try:
        results, given = _call(_compile_aot_eager(sample, num_outputs, variant), sample.tensors)
        _compare(op, dtype, sample, actual, results + given)
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
