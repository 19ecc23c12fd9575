// Rows that stand for something else: a node left to torch, and a kernel with a body.
#include "ops/rows.h"
#include "ops/rules.h"

namespace stator {
namespace {

std::vector<TensorType> InferNothing(const InferContext&) {
  Reject("this op's output types are given, not inferred");
}

constexpr AttrDef kTorchAttrs[] = {
    {"target", AttrDef::kString, true, "the ATen overload, \"aten.sort.default\""},
    {"reason", AttrDef::kString, true, "why it is left to torch, for the report"},
};
constexpr AttrDef kKernelAttrs[] = {
    {"kind", AttrDef::kString, true, "which tactics may run the body: \"pointwise\", \"gemm\" ..."},
};

const OpDef kRows[] = {
    {.id = 1,
     .name = "torch",
     .min_inputs = 0,
     .max_inputs = -1,
     .attrs = kTorchAttrs,
     .infer = InferNothing,
     .traits = kOpaque,
     .doc = "a node that torch runs; its output types are given"},
    {.id = 2,
     .name = "kernel",
     .min_inputs = 0,
     .max_inputs = -1,
     .attrs = kKernelAttrs,
     .infer = InferNothing,
     .traits = kKernel,
     .doc = "one launch: computes its body, whose inputs and outputs are its own"},
};

}  // namespace

std::span<const OpDef> SpecialRows() { return kRows; }

}  // namespace stator
