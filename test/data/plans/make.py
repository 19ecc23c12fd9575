"""Makes NAME.plan and NAME.npz, which later releases of the same major version have to read.

`python test/data/plans/make.py NAME [stator]`, by the release whose plans they shall be. Never made
anew: test/cli/test_old_plans.py runs each plan that lies here on its inputs, and compares.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn


class Model(nn.Module):
    """Steps of every kind that a CPU plan has, over symbolic sizes; weights folded and merged."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.embedding = nn.Embedding(30, 16)
        self.norm = nn.LayerNorm(16)
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))
        self.out = nn.Linear(16, 8)

    def forward(self, image, tokens):
        y = self.bn(self.conv(image)).relu()
        y = nn.functional.max_pool2d(y, 2).transpose(2, 3).mean((2, 3))
        x = self.norm(self.embedding(tokens))
        heads = [
            layer(x).unflatten(-1, (2, 8)).transpose(1, 2) for layer in (self.q, self.k, self.v)
        ]
        x = nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
        x = nn.functional.gelu(self.out(x.transpose(1, 2).flatten(2)))
        return torch.cat([x.softmax(-1).sum(1), y], -1), x.cumsum(1), x.argmax(-1)


def main(name, stator="build/stator"):
    folder = Path(__file__).parent
    torch.manual_seed(0)
    model = Model().eval()
    model.bn.running_mean.normal_()
    inputs = {"image": torch.randn(3, 3, 8, 10), "tokens": torch.randint(30, (3, 7))}
    batch, length = torch.export.Dim("batch", max=64), torch.export.Dim("length", max=64)
    sizes = {"image": {0: batch}, "tokens": {0: batch, 1: length}}
    program = torch.export.export(model, (), inputs, dynamic_shapes=sizes)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "model.pt2"
        torch.export.save(program, path)
        command = (stator, "compile", path, "-o", folder / f"{name}.plan")
        subprocess.run([*command, "--optimization-level", "0"], check=True)
    with torch.no_grad():
        outputs = {f"output{i}": y.numpy() for i, y in enumerate(model(**inputs))}
    np.savez_compressed(
        folder / f"{name}.npz", **{k: x.numpy() for k, x in inputs.items()}, **outputs
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
