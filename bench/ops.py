"""Single operators, by eager PyTorch and by an engine: ratios of medians, timed in turn.

Each operator is compiled ahead of time for its sizes and checked against eager first. A ratio above
1 says that the engine is faster. Differences between runs on a busy machine cancel in the ratio,
since each round times both.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
import torch_stator
import zoo

SECONDS, LEAST_ROUNDS = 0.4, 15
SAMPLE_S = 0.0005  # one sample repeats the call until it takes about that long

CASES = {}


def case(name, *inputs):
    def add(fn):
        CASES[name] = (fn, inputs)

    return add


def rows(n, high, *shape):
    return torch.randint(0, high, (*shape, n))


torch.manual_seed(0)
X = torch.randn(64, 4096)
I64 = torch.randint(-100, 100, (8, 512))
case("gather 64x4096 dim 1", X, rows(4096, 4096, 64))(lambda x, i: x.gather(1, i))
case("gather 64x4096 dim 0", X, rows(4096, 64, 64))(lambda x, i: x.gather(0, i))
case("gather 8x50000, 1 a row", torch.randn(8, 50000), rows(1, 50000, 8))(
    lambda x, i: x.gather(1, i)
)
case("index, two index tensors", X, rows(4096, 64), rows(4096, 4096))(lambda x, i, j: x[i, j])
case("index, second dim", X, rows(512, 4096))(lambda x, j: x[:, j])
case("index, bool sums", X, rows(512, 64))(lambda x, i: x[i])
case("scatter dim 1", X, rows(1024, 4096, 64), torch.randn(64, 1024))(
    lambda x, i, s: x.scatter(1, i, s)
)
case("scatter dim 0", X, rows(4096, 64, 32), torch.randn(32, 4096))(
    lambda x, i, s: x.scatter(0, i, s)
)
case("scatter_add dim 1", X, rows(1024, 4096, 64), torch.randn(64, 1024))(
    lambda x, i, s: x.scatter_add(1, i, s)
)
case("scatter_add, expanded index", torch.zeros(64, 256), rows(2048, 64), torch.randn(2048, 256))(
    lambda x, i, s: x.scatter_add(0, i[:, None].expand(-1, 256), s)
)
case("index_add rows", torch.zeros(64, 256), rows(2048, 64), torch.randn(2048, 256))(
    lambda x, i, s: x.index_add(0, i, s)
)
case("cumsum i64 8x512", I64)(lambda x: x.cumsum(1))
case("cumsum i64 8x512 dim 0", I64)(lambda x: x.cumsum(0))
case("cumsum f32 1024x1024", torch.randn(1024, 1024))(lambda x: x.cumsum(1))
case("cumsum of a mask", torch.randint(0, 2, (4, 128)))(lambda x: x.cumsum(1) * x)
OFFSETS = torch.arange(0, 2048, 16)
for mode in ("sum", "mean", "max"):
    case(f"embedding_bag {mode}", torch.randn(5000, 64), rows(2048, 5000), OFFSETS)(
        lambda w, i, o, mode=mode: F.embedding_bag(i, w, o, mode=mode)
    )
MAPS = torch.randn(8, 64, 28, 28)
case("softmax dim 1 of 8x64x28x28", MAPS)(lambda x: x.softmax(1))
case("softmax dim 1 of 4x21x128x128", torch.randn(4, 21, 128, 128))(lambda x: x.softmax(1))
case("log_softmax dim 1", MAPS)(lambda x: x.log_softmax(1))
case("softmax dim 0 of 256x256", torch.randn(256, 256))(lambda x: x.softmax(0))
case("softmax dim -1", torch.randn(512, 768))(lambda x: x.softmax(-1))
case("layer_norm of channels first", MAPS, torch.randn(64), torch.randn(64))(
    lambda x, w, b: F.layer_norm(x.permute(0, 2, 3, 1), (64,), w, b).permute(0, 3, 1, 2)
)
case("rms over dim 1", MAPS)(lambda x: x * (x.pow(2).mean(1, keepdim=True) + 1e-6).rsqrt())
case("group_norm", MAPS, torch.randn(64), torch.randn(64))(lambda x, w, b: F.group_norm(x, 8, w, b))
case(
    "group_norm channels last",
    MAPS.to(memory_format=torch.channels_last),
    torch.randn(64),
    torch.randn(64),
)(lambda x, w, b: F.group_norm(x, 8, w, b))
case("instance_norm", MAPS)(lambda x: F.instance_norm(x))
for num in (1, 16, 128, 512):
    linear = torch.nn.Linear(768, 768).requires_grad_(False)
    case(f"Linear(768, 768) at {num}", torch.randn(num, 768))(linear)
case("median dim 1", torch.randn(64, 1001))(lambda x: x.median(1))
case("median", torch.randn(64, 1001))(lambda x: x.median())
case("kthvalue", torch.randn(64, 1001))(lambda x: x.kthvalue(17, 1))
case("mode", torch.randint(0, 50, (64, 1001)))(lambda x: x.mode(1))
case("sort", torch.randn(64, 1001))(lambda x: x.sort(1))
case("topk", torch.randn(8, 32000))(lambda x: x.topk(50))
case("max_pool2d of i64", torch.randint(0, 50, (4, 16, 28, 28)))(lambda x: F.max_pool2d(x, 2))


class Call(torch.nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, *inputs):
        return self.fn(*inputs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-k", default="", help="only cases with this text in their name")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = {}
    print(f"{args.threads} threads\n{'operator':<34}{'eager µs':>10}{'engine µs':>11}{'ratio':>7}")
    for name, (fn, inputs) in CASES.items():
        if args.k in name:
            results[name] = eager, ours, note = measure(fn, inputs)
            print(f"{name:<34}{eager:>10.1f}{ours:>11.1f}{eager / ours:>7.2f}  {note}", flush=True)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(results, indent=1))


def measure(fn, inputs):
    """Median µs of eager and of the program, and which nodes torch runs in it."""
    model = Call(fn).eval()
    with torch.inference_mode():
        program = torch_stator.compile(model, inputs, min_block_size=1)
        torch.testing.assert_close(program(*inputs), model(*inputs))
        fallbacks = sorted({item["op"] for item in program.report["fallbacks"]})
        start = time.perf_counter()
        model(*inputs)
        calls = max(1, round(SAMPLE_S / (time.perf_counter() - start)))

        def repeated(way):
            return lambda: [way(*inputs) for _ in range(calls)]

        ways = {"eager": repeated(model), "stator": repeated(program)}
        times = zoo.time_in_turn(ways, SECONDS, LEAST_ROUNDS)
    micros = [1e3 * ms / calls for ms in times.values()]
    return *micros, "in torch: " + ", ".join(fallbacks) if fallbacks else ""


if __name__ == "__main__":
    sys.exit(main())
