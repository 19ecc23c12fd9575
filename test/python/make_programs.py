"""Writes the small programs under test/data that the C++ tests of the importer read.

Each NAME.pt2 is what torch.export.save writes; NAME.txt holds what eager torch returns, one output
per line: its sizes, a colon, its elements. Weights and inputs follow `ramp`, so that the tests can
make the same input and the files do not depend on a random generator.

Run it again when the export schema's major version changes: python test/python/make_programs.py
"""

import pathlib
import sys

import torch
from torch import nn

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "test" / "data"


def ramp(*sizes: int) -> torch.Tensor:
    """(7 i mod 13 - 6) / 8 for the i-th element."""
    count = torch.Size(sizes).numel()
    return ((torch.arange(count) * 7 % 13 - 6) / 8).reshape(sizes)


class Convolutions(nn.Module):
    """Composite and in-place ops, a transposed and a shared weight, a buffer that counts calls."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 5)
        self.register_buffer("calls", torch.zeros(()))
        for tensor in self.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(ramp(*tensor.shape))
        self.norm.running_var.abs_().add_(1)
        self.head.weight = nn.Parameter(ramp(4, 5).t())
        self.same_head = nn.Parameter(self.head.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.add_(1)
        y = self.norm(self.conv(x)).relu_()
        y += x[:, :1]
        y = nn.functional.adaptive_avg_pool2d(nn.functional.max_pool2d(y, 2), 1).flatten(1)
        y = nn.functional.dropout(y, 0.5, self.training)
        return self.head(y) + y @ self.same_head.t()


class Views(nn.Module):
    """In-place ops through chains of views, some of which are read again afterwards."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = x + 0
        rows = y.transpose(1, 2)
        rows[:, 1:3].mul_(2)
        y.view(y.shape[0], -1)[:, ::2].add_(10)
        left, right = y.split([2, 3], 2)
        left.zero_()
        right[:, 0] = 7
        return y, rows, right.reshape(-1)


def save(name: str, module: nn.Module, traced: torch.Tensor, tested: torch.Tensor) -> None:
    module.eval()
    with torch.no_grad():
        batch = torch.export.Dim("batch", min=1, max=64)
        program = torch.export.export(module, (traced,), dynamic_shapes={"x": {0: batch}})
        outputs = module(tested)
    for node in program.graph.nodes:  # paths relative to the repository and the environment
        trace = node.meta.get("stack_trace", "").replace(f"{sys.prefix}/", "")
        node.meta["stack_trace"] = trace.replace(f"{ROOT}/", "")
    torch.export.save(program, DATA / f"{name}.pt2")
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    lines = [
        f"{' '.join(map(str, out.shape))}: {' '.join(map(repr, out.flatten().tolist()))}\n"
        for out in outputs
    ]
    (DATA / f"{name}.txt").write_text("".join(lines))


if __name__ == "__main__":
    save("convolutions", Convolutions(), ramp(2, 3, 6, 6), ramp(3, 3, 6, 6))
    save("views", Views(), ramp(2, 4, 5), ramp(3, 4, 5))
