// A small plan that uses every part of the format, for tests of the plan and the runtime:
// y = relu(x) * exp(w) + c, through the arena, with a symbolic batch.
#pragma once

#include "plan/plan.h"

namespace stator {

inline constexpr std::string_view kSamplePlan = R"(plan "sample" version 1 target "reference"
symbol s0 in [1, 64]
input 0 = "x" f32[s0, 3] strides [3, 1]
output 0 = "y" f32[s0, 3] strides [3, 1]
weight 0 = "w" f32[3] hex "0000000000000000000000c0"
literal 0 = hex "0000803f0000004000004040"
code 0 = "sm_90a" "add_3" hex "7f454c46"
derived 0 = 12 bytes, steps 0 to 0
arena 0 = 12*s0 bytes, steps 0 to 1
arena 1 = 12*s0 bytes, steps 1 to 2
tensor 0 = input 0 + 0 : f32[s0, 3] strides [3, 1]
tensor 1 = weight 0 + 0 : f32[3] strides [1]
tensor 2 = derived 0 + 0 : f32[3] strides [1]
tensor 3 = arena 0 + 0 : f32[s0, 3] strides [3, 1]
tensor 4 = arena 1 + 0 : f32[s0, 3] strides [3, 1]
tensor 5 = literal 0 + 0 : f32[3] strides [1]
tensor 6 = output 0 + 0 : f32[s0, 3] strides [3, 1]
prologue 0 = pointwise(1) -> (2) from "exp · sample.py:3" {}
  graph @body(%a: f32[3]) {
    %0 = exp(%a) : f32[3]
    return %0
  }
step 0 = pointwise(0) -> (3) from "relu · sample.py:4" {scale = 0.5, tile = [16, s0], vector = true}
  graph @body(%a: f32[s0, 3]) where s0 in [1, 64] {
    %0 = relu(%a) : f32[s0, 3]
    return %0
  }
step 1 = pointwise(3, 2) -> (4) from "mul" {dtype = f32, name = "a \"b\"", unroll = 4}
  graph @body(%a: f32[s0, 3], %b: f32[3]) where s0 in [1, 64] {
    %0 = mul(%a, %b) : f32[s0, 3]
    return %0
  }
step 2 = reference(4, 5) -> (6) from "" {block = 128, code = 0, grid = [s0, 1, 1], pdl = true, smem = 0, symbols = "s0"}
  graph @body(%a: f32[s0, 3], %b: f32[3]) where s0 in [1, 64] {
    %0 = add(%a, %b) : f32[s0, 3]
    return %0
  }
)";

inline Plan MakeSamplePlan() { return PlanFromText(kSamplePlan); }

}  // namespace stator
