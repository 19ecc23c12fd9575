"""Every row of the op table against torch, for each dtype it claims.

The table comes from C++ as JSON (src/ops/describe.h): each row has samples as IR text and the
Python expression that computes the same with torch. Each sample runs with contiguous and with
strided inputs, on the reference evaluator and on the CPU engine.
"""

import json
import zlib

import pytest
import torch
from torch_rows import DTYPES, evaluate_row
from torch_stator import _ffi

ENGINES = {"reference": _ffi.evaluate, "cpu": _ffi.run_ir}
ROWS = [row for row in json.loads(_ffi.op_table()) if row["samples"]]

SPECIAL_FLOATS = [float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -300.5]
# Integer division by zero raises in torch and gives 0 in Stator; the smallest integer divided by -1
# ends a process that runs torch.
DIVISIONS = {"floor_div", "trunc_div", "remainder", "fmod"}
# torch's vectorised exact GELU gives NaN at infinity, where x * Phi(x) is infinite.
FINITE_ONLY = {"gelu"}


def parse_type(text):
    name, _, dims = text.partition("[")
    return DTYPES[name], [int(d) for d in dims.rstrip("]").split(",") if d.strip()]


def tolerance(row, dtype):
    """What |a - b| may be: the row's own for f32, else that of the dtype's precision."""
    if dtype == torch.float64:
        return {"rtol": 1e-7, "atol": 1e-9}
    if dtype == torch.float16:
        return {"rtol": 2e-3, "atol": 1e-3}
    if dtype == torch.bfloat16:
        return {"rtol": 1.6e-2, "atol": 1e-2}
    return {"rtol": row["rtol"], "atol": row["atol"]}


def sprinkle(tensor, values, generator):
    """Overwrites about a third of the elements with `values`."""
    flat = tensor.reshape(-1)
    chosen = torch.rand(flat.shape, generator=generator) < 0.35
    picks = torch.randint(len(values), flat.shape, generator=generator)
    source = torch.tensor(values, dtype=tensor.dtype)[picks]
    return torch.where(chosen, source, flat).reshape(tensor.shape)


def make_input(row, position, dtype, dims, sample, generator):
    if dtype == torch.bool:
        return torch.rand(dims, generator=generator) < 0.5
    pointwise = "pointwise" in row["traits"]
    if dtype.is_floating_point:
        tensor = (torch.randn(dims, generator=generator, dtype=torch.float64) * 2).to(dtype)
        if row["name"] == "batch_norm" and position == 4:
            return tensor.abs()
        if row["name"] in ("prod", "cumprod"):
            return tensor.sign() * (0.5 + tensor.abs() / 4)  # products of many stay in range
        if pointwise:
            finite = row["name"] in FINITE_ONLY
            values = [v for v in SPECIAL_FLOATS if not finite or abs(v) < float("inf")]
            tensor = sprinkle(tensor, values, generator)
        return tensor
    if sample["low"] < sample["high"]:
        low = max(sample["low"], torch.iinfo(dtype).min)
        return torch.randint(low, sample["high"], dims, generator=generator).to(dtype)
    low = -8 if dtype.is_signed else 0
    tensor = torch.randint(low, 9, dims, generator=generator).to(dtype)
    if row["name"] in DIVISIONS:
        return torch.where(tensor == 0, 3, tensor) if position == 1 else tensor
    if pointwise:
        info = torch.iinfo(dtype)
        tensor = sprinkle(tensor, [info.min, info.max, info.max - 1], generator)
    return tensor


def make_inputs(row, sample):
    generator = torch.Generator().manual_seed(zlib.crc32(sample["ir"].encode()))
    return [
        None if text is None else make_input(row, i, *parse_type(text), sample, generator)
        for i, text in enumerate(sample["inputs"])
    ]


def make_strided(tensor):
    """The same values with dims in reverse memory order and gaps between elements."""
    if tensor is None or tensor.dim() == 0:
        return tensor
    storage = torch.zeros(*reversed(tensor.shape), 2, dtype=tensor.dtype)
    view = storage.select(-1, 1).permute(*reversed(range(tensor.dim())))
    return view.copy_(tensor)


def evaluate_in_torch(row, sample, inputs):
    expected_dtypes = [parse_type(text)[0] for text in sample["outputs"]]
    return evaluate_row(row, inputs, sample["attrs"], expected_dtypes)


def cases():
    for row in ROWS:
        for dtype in sorted({str(s["dtype"]) for s in row["samples"]}):
            samples = [s for s in row["samples"] if str(s["dtype"]) == dtype]
            yield pytest.param(row, samples, id=f"{row['name']}-{dtype}")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("row", "samples"), list(cases()))
def test_matches_torch(row, samples, engine):
    for sample in samples:
        inputs = make_inputs(row, sample)
        expected = evaluate_in_torch(row, sample, inputs)
        for layout in (lambda t: t, make_strided):
            given = [layout(t) for t in inputs if t is not None]
            actual = ENGINES[engine](sample["ir"], given)
            for a, e in zip(actual, expected, strict=True):
                torch.testing.assert_close(
                    a,
                    e,
                    **tolerance(row, e.dtype),
                    equal_nan=True,
                    msg=lambda text, ir=sample["ir"], x=given: f"{text}\n{ir}\ninputs: {x}",
                )


@pytest.mark.parametrize("engine", ENGINES)
def test_integer_division_by_zero_gives_zero(engine):
    for name in sorted(DIVISIONS):
        ir = f"graph @g(%a: i32[3], %b: i32[3]) {{\n  %0 = {name}(%a, %b) : i32[3]\n  return %0\n}}"
        a = torch.tensor([7, 0, -(2**31)], dtype=torch.int32)
        zero = ENGINES[engine](ir, [a, torch.zeros(3, dtype=torch.int32)])[0]
        assert zero.tolist() == [0, 0, 0], name
        # The smallest integer divided by -1 wraps.
        wrapped = ENGINES[engine](ir, [a, torch.full((3,), -1, dtype=torch.int32)])[0]
        assert wrapped.tolist() == ([-7, 0, -(2**31)] if name.endswith("_div") else [0, 0, 0]), name


@pytest.mark.parametrize("source", ["f16", "bf16", "f32", "f64"])
@pytest.mark.parametrize("target", ["u8", "i8", "i16", "i32", "i64", "bool"])
@pytest.mark.parametrize("engine", ENGINES)
def test_cast_of_what_does_not_fit(engine, source, target):
    values = [float("nan"), float("inf"), -float("inf"), 3e9 + 5, -3e9 - 5, 1e19, -1e19, 70000.7]
    values += [255.9, -128.9, 2.0**31, -(2.0**31), 2.0**63, -(2.0**63), 0.9, -0.9]
    x = torch.tensor(values, dtype=torch.float64).to(DTYPES[source])
    ir = (
        f"graph @g(%x: {source}[{len(x)}]) {{\n"
        f"  %0 = cast(%x) {{dtype = {target}}} : {target}[{len(x)}]\n  return %0\n}}"
    )
    assert ENGINES[engine](ir, [x])[0].tolist() == x.to(DTYPES[target]).tolist()


@pytest.mark.parametrize("mask", ["bool", "f32"])
@pytest.mark.parametrize("engine", ENGINES)
def test_attention_rows_without_keys_are_zero(engine, mask):
    q, k, v = (torch.randn(1, 2, n, 4) for n in (3, 5, 5))
    seen = torch.tensor([[1, 1, 0, 1, 1], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0]], dtype=torch.bool)
    given = seen if mask == "bool" else torch.zeros(3, 5).masked_fill(~seen, -float("inf"))
    ir = (
        f"graph @g(%q: f32[1, 2, 3, 4], %k: f32[1, 2, 5, 4], %v: f32[1, 2, 5, 4], "
        f"%m: {mask}[3, 5]) {{\n"
        "  %0 = attention(%q, %k, %v, %m) {causal = false, scale = 0.5} : f32[1, 2, 3, 4]\n"
        "  return %0\n}"
    )
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, given, scale=0.5)
    actual = ENGINES[engine](ir, [q, k, v, given])[0]
    assert not actual[:, :, 1].any()
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(
    ("op", "x", "index"),
    [
        ("embedding(%x, %i)", "f32[4, 5]", 4),
        ("embedding(%x, %i)", "f32[4, 5]", -1),
        ("index(%x, %i)", "f32[4, 5]", 4),
        ("index(%x, %i)", "f32[4, 5]", -5),
        ("index_select(%x, %i) {dim = 0}", "f32[4, 5]", 4),
        ("gather(%x, %i) {dim = 0}", "f32[4]", -1),
    ],
)
@pytest.mark.parametrize("engine", ENGINES)
def test_index_out_of_range_raises(engine, op, x, index):
    dims = parse_type(x)[1]
    out = "f32[1, 5]" if len(dims) == 2 else "f32[1]"
    ir = f"graph @g(%x: {x}, %i: i64[1]) {{\n  %0 = {op} : {out}\n  return %0\n}}"
    with pytest.raises(Exception, match="out of bounds"):
        ENGINES[engine](ir, [torch.zeros(dims), torch.tensor([index])])
