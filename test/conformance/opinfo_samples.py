"""What of PyTorch's OpInfo database is run, and how near to eager a result has to be.

In:  torch.testing._internal.common_methods_invocations.op_db.
Out: the ops by name, and for an op, dtype and variant a list of samples, the same on each call.
"""

import random
import unittest.mock
import warnings

import numpy
import torch
from torch.testing._comparison import default_tolerances
from torch.testing._internal.common_device_type import precisionOverride, toleranceOverride
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo.core import DecorateInfo, SampleInput
from torch.utils import _pytree as pytree

DEVICE = "cpu"  # where samples are made and run; a worker sets it
DTYPES = {
    "f32": torch.float32,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "f64": torch.float64,
    "i64": torch.int64,
    "i32": torch.int32,
    "i16": torch.int16,
    "i8": torch.int8,
    "u8": torch.uint8,
    "bool": torch.bool,
}
# static: the sizes are constants. dynamic: symbols, where a size is 2 or more. strided: static,
# with gaps in memory. permuted: static, with dims in reverse order in memory. errors: arguments
# that eager refuses. dynamo: through torch.compile itself.
VARIANTS = ("static", "dynamic", "strided", "permuted", "errors", "dynamo")
_DRAWS = "functionalised, it takes other numbers of the generator than in place: so says torch"
EXCLUDED = {
    "cauchy": _DRAWS,
    "exponential": _DRAWS,
    "geometric": _DRAWS,
    "log_normal": _DRAWS,
    "normal.in_place": _DRAWS,
    "uniform": _DRAWS,
}
OPS = {op.full_name: op for op in op_db if op.full_name not in EXCLUDED}

# These read beyond a tensor whose last dim has gaps or is not innermost: not run on such.
DENSE_ONLY = {"torch.ops.aten._scaled_dot_product_flash_attention_for_cpu"}

# Of these only dtypes, shapes and strides are compared: torch says nothing of the values.
UNSPECIFIED_VALUES = {
    "empty",
    "empty_like",
    "empty_permuted",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
}
# Classes of torch's own tests that compare an op with another implementation of it.
_COMPARING_TESTS = (None, "TestCommon", "TestDecomp", "TestInductorOpInfo")


class Sample:
    """A call of an op: its tensors, and all else fixed."""

    def __init__(self, function, sample):
        arguments = (sample.input, sample.args, sample.kwargs)
        self._leaves, self._spec = pytree.tree_flatten(arguments)
        self._function = function
        self._positions = [i for i, v in enumerate(self._leaves) if isinstance(v, torch.Tensor)]
        self.tensors = [self._leaves[i] for i in self._positions]

    def __call__(self, *tensors):
        """The op's results for other tensors, as a flat list."""
        leaves = list(self._leaves)
        for position, tensor in zip(self._positions, tensors, strict=True):
            leaves[position] = tensor
        first, args, kwargs = pytree.tree_unflatten(leaves, self._spec)
        return pytree.tree_leaves(self._function(first, *args, **kwargs))

    def __str__(self):
        def describe(value):
            if not isinstance(value, torch.Tensor):
                return repr(value)
            return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"

        first, args, kwargs = pytree.tree_unflatten(self._leaves, self._spec)
        texts = [describe(pytree.tree_map(describe, v)) for v in (first, *args)]
        texts += [f"{k}={describe(pytree.tree_map(describe, v))}" for k, v in kwargs.items()]
        return f"({', '.join(texts)})".replace("'", "")


def seed():
    random.seed(0)
    numpy.random.seed(0)
    _seed_cheaply(0)


def _seed_cheaply(number):
    torch.default_generator.manual_seed(number)
    if DEVICE != "cpu":
        torch.cuda.manual_seed(number)


def random_state():
    """What of the generators a call that draws numbers changes."""
    return torch.get_rng_state() if DEVICE == "cpu" else torch.cuda.get_rng_state()


def call_on_copies(function, tensors):
    """(results, the tensors given) of a call with copies, so that what it does to them shows."""
    given = [_copy(tensor) for tensor in tensors]
    seed()
    return list(function(*given)), given


def _copy(tensor):
    """A copy with the same layout, of its whole storage."""
    storage = tensor.untyped_storage().clone()
    copy = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    copy.set_(storage, tensor.storage_offset(), tensor.shape, tensor.stride())
    return torch._neg_view(copy) if tensor.is_neg() else copy


def has_dtype(op, dtype, variant):
    """Whether an op claims the dtype. Errors and dynamo need one dtype only."""
    if variant in ("errors", "dynamo") and dtype != "f32":
        return False
    if variant in ("strided", "permuted") and op.full_name in DENSE_ONLY:
        return False
    return DTYPES[dtype] in op.supported_dtypes(DEVICE)


def make_samples(op, dtype, variant, most=None):
    """[(index, Sample)]; `most`: that many of them, spread evenly."""
    seed()
    # torch.manual_seed asks each kind of device, which torch's samplers call for each sample.
    cheap = unittest.mock.patch.object(torch, "manual_seed", _seed_cheaply)
    with warnings.catch_warnings(), torch.no_grad(), cheap:
        warnings.simplefilter("ignore")
        if variant == "errors":
            samples = [] if op.error_inputs_func is None else op.error_inputs(DEVICE)
            samples = [error.sample_input for error in samples]
        else:
            samples = list(op.sample_inputs(DEVICE, DTYPES[dtype], requires_grad=False))
        samples = [s if isinstance(s, SampleInput) else SampleInput(s) for s in samples]
        if variant == "dynamo":
            samples = samples[:1]
        chosen = range(len(samples))
        if most is not None and most < len(samples):
            chosen = sorted({i * len(samples) // most for i in range(most)})
        lay_out = {"strided": _leave_gaps, "permuted": _permute_memory}
        change = lay_out.get(variant, lambda sample: sample)
        return [(i, Sample(op.op, change(samples[i]))) for i in chosen]


def _leave_gaps(sample):
    tensors = pytree.tree_leaves((sample.input, sample.args, sample.kwargs))
    tensors = [value for value in tensors if isinstance(value, torch.Tensor)]
    if any(tensor.layout != torch.strided for tensor in tensors):
        return sample
    return sample.noncontiguous()


def _permute_memory(sample):
    def permute(value):
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            return value
        dims = tuple(reversed(range(value.dim())))
        return value.permute(dims).contiguous().permute(dims)

    return sample.transform(permute)


def find_tolerance(op, dtype, output):
    """(rtol, atol) for an output of a sample: torch's default for its dtype, or what torch's own
    tests allow the op where that is more."""
    rtol, atol = default_tolerances(output.dtype)
    if not output.dtype.is_floating_point:
        return rtol, atol
    for decorator in op.decorators:
        if not isinstance(decorator, DecorateInfo) or not _is_active(decorator, dtype):
            continue
        for override in decorator.decorators:
            if isinstance(override, toleranceOverride) and dtype in override.d:
                rtol = max(rtol, override.d[dtype].rtol)
                atol = max(atol, override.d[dtype].atol)
            elif isinstance(override, precisionOverride) and dtype in override.d:
                atol = max(atol, override.d[dtype])
    return rtol, atol


def _is_active(decorator, dtype):
    return decorator.cls_name in _COMPARING_TESTS and decorator.is_active(
        decorator.cls_name, decorator.test_name, DEVICE, dtype, {}
    )
