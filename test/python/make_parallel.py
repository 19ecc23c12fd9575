"""One of two processes that share a block of a Llama, for test_parallel.py: checks what its engines
compute against the whole block in eager, and prints a line of JSON. `docs`: runs the snippet of
docs/python.md.

    make_parallel.py RANK STORE {tensor|sequence|docs} {cpu|cuda}
"""

import copy
import json
import re
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
import torch_stator
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from torch_stator.backend import on_compilation

OPTIONS = {"optimization_level": 0, "min_block_size": 1}
WIDTH, HEAD, HIDDEN, STEPS = 64, 16, 176, 6


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(WIDTH, eps=1e-6), nn.RMSNorm(WIDTH, eps=1e-6)
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.gate, self.up = (nn.Linear(WIDTH, HIDDEN, bias=False) for _ in range(2))
        self.down = nn.Linear(HIDDEN, WIDTH)

    def forward(self, x, cos, sin):
        h = self.norm1(x)
        q, k, v = (split_heads(layer(h)) for layer in (self.q, self.k, self.v))
        h = F.scaled_dot_product_attention(
            rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True
        )
        x = x + self.o(h.transpose(1, 2).flatten(2))
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


def split_heads(x):
    return x.unflatten(-1, (-1, HEAD)).transpose(1, 2)


def rotate(x, cos, sin):
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin


def make_inputs(device):
    angles = torch.outer(torch.arange(STEPS), 10000 ** -torch.linspace(0, 0.9, HEAD // 2))
    angles = torch.cat((angles, angles), -1)
    x = torch.randn(2, STEPS, WIDTH)
    return [value.to(device) for value in (x, angles.cos(), angles.sin())]


def make_plan(kind):
    if kind == "tensor":
        first, last, norm = ColwiseParallel(), RowwiseParallel(), {}
    else:  # between the products each process has a part of the steps
        first = ColwiseParallel(input_layouts=Shard(1))
        last = RowwiseParallel(output_layouts=Shard(1))
        norm = {"norm1": SequenceParallel(), "norm2": SequenceParallel()}
    return norm | dict.fromkeys(["q", "k", "v", "gate", "up"], first) | {"o": last, "down": last}


def main(rank, store, kind, device):
    torch.set_num_threads(1)
    rank = int(rank)
    backend = {"cpu": "gloo", "cuda": "nccl"}[device]
    if device == "cuda":
        torch.cuda.set_device(rank)
    dist.init_process_group(backend, store=dist.FileStore(store, 2), rank=rank, world_size=2)
    torch.manual_seed(0)
    if kind == "docs":
        run_snippet()
        dist.destroy_process_group()
        return
    whole, inputs = Block().eval().to(device), make_inputs(device)
    parallel = Block().eval().to(device)
    parallel.load_state_dict(whole.state_dict())
    parallelize_module(parallel, init_device_mesh(device, (2,)), make_plan(kind))

    compilations = []
    on_compilation.append(compilations.append)
    compiled = torch.compile(parallel, backend="stator", options=OPTIONS)

    def check():
        expected = whole(*inputs)
        given = list(inputs)
        if kind == "sequence":
            given[0] = given[0].chunk(2, 1)[rank]
            expected = expected.chunk(2, 1)[rank]
        torch.testing.assert_close(compiled(*given), expected)

    with torch.no_grad():
        for _ in range(2):
            check()
        for weight in (whole.gate.weight, parallel.gate.weight):
            weight.mul_(1.5)
        check()
        # One element, which no fingerprint shows, of one process's part.
        whole.o.weight[5, 60] += 10
        full = parallel.o.weight.full_tensor()
        full[5, 60] += 10
        parallel.o.weight.copy_(
            DTensor.from_local(full, parallel.o.weight.device_mesh, [Replicate()]).redistribute(
                placements=parallel.o.weight.placements
            )
        )
        check()
        state = {"down.weight": torch.randn_like(whole.down.weight)}
        whole.load_state_dict(state, strict=False)
        mesh, placements = parallel.down.weight.device_mesh, parallel.down.weight.placements
        state["down.weight"] = torch.distributed.tensor.distribute_tensor(
            state["down.weight"], mesh, placements
        )
        whole.down.weight.copy_(state["down.weight"].full_tensor())
        parallel.load_state_dict(state, strict=False)
        check()
        parallel.down.weight = nn.Parameter(
            DTensor.from_local(parallel.down.weight.to_local() * 2, mesh, placements)
        )
        whole.down.weight.mul_(2)
        check()

    print(
        json.dumps(
            {
                "reports": [one.report for one in compilations],
                "weights": sum(
                    len(engine.weight_names())
                    for one in compilations
                    for engine in one.engines
                    if engine
                ),
                "refits": torch_stator.stats().refits,
            }
        )
    )
    dist.destroy_process_group()


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, x):
        return self.down(self.up(x).relu())


def run_snippet():
    page = Path(__file__).parents[2] / "docs/python.md"
    (snippet,) = re.findall(r"^```py\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    whole, x = Mlp().eval(), torch.randn(3, WIDTH)
    names = {**globals(), "model": copy.deepcopy(whole)}
    exec(snippet, names)
    with torch.no_grad():
        torch.testing.assert_close(names["model"](x), whole(x))
    print(json.dumps({"engine_calls": torch_stator.stats().engine_calls}))


if __name__ == "__main__":
    warnings.simplefilter("error", torch_stator.FallbackWarning)
    main(*sys.argv[1:])
