"""Runs a kernel with a race, named as ours or not: what compute-sanitizer is to find or not.

planted_race.py NAME
"""

import sys

import torch

SOURCE = """
extern "C" __global__ void NAME(float* data) {
  __shared__ float values[64];
  values[threadIdx.x] = threadIdx.x;
  data[threadIdx.x] = values[63 - threadIdx.x];  // no barrier
}
"""

name = sys.argv[1]
kernel = torch.cuda._compile_kernel(SOURCE.replace("NAME", name), name)
data = torch.zeros(64, device="cuda")
kernel((1, 1, 1), (64, 1, 1), (data,))
torch.cuda.synchronize()
