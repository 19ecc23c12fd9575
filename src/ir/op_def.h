// One row of the op table: everything the compiler knows about an op.
//
// The rows live in src/ops, one file per family; this header is the row's shape, so that the graph,
// its printer, parser and verifier need nothing of the table but lookup. See docs/adding_an_op.md.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "ir/attr.h"
#include "ir/graph.h"

namespace stator {

// What may be done with an op, besides running it.
enum Trait : uint32_t {
  kPointwise = 1u << 0,    // out[i] depends on in[i] alone, after broadcasting
  kCommutative = 1u << 1,  // f(a, b) == f(b, a)
  kView = 1u << 2,       // an output element is an input element: a change of strides if they allow
  kReduction = 1u << 3,  // reduces dims of `axes`
  kRowwise = 1u << 4,    // normalises along the last dims: softmax, norms
  kOpaque = 1u << 5,     // not ours to run: a torch node
  kKernel = 1u << 6,     // carries a body
  kStructured = 1u << 7,  // gemm, conv, attention, pooling, gather: has tactics of its own
};

// The kind of an attribute, its default when optional, and its meaning.
struct AttrDef {
  enum Kind : uint8_t { kBool, kInt, kFloat, kString, kInts, kDType };  // order of the Attr variant
  std::string_view name;
  Kind kind;
  bool required = true;  // an absent optional attribute has no effect
  std::string_view doc;
};

// What a type rule sees. A rule checks its inputs and returns the output types, or raises
// InvalidArgument with a message that starts in lower case and names the operand.
struct InferContext {
  std::span<const TensorType* const> inputs;  // null for an absent optional input
  const Attrs& attrs;
  const TensorType& input(int i) const { return *inputs[i]; }
};
using TypeRule = std::vector<TensorType> (*)(const InferContext&);

// A tensor in memory, for reference kernels: any strides (in elements), never owned.
struct TensorRef {
  std::byte* data = nullptr;
  DType dtype = DType::kFloat32;
  std::vector<int64_t> dims;
  std::vector<int64_t> strides;

  int rank() const { return static_cast<int>(dims.size()); }
  int64_t num_elements() const;
};

// Computes outputs from inputs in the plainest way. Inputs may have any strides; outputs are
// allocated by the caller with the inferred types. Null data marks an absent optional input.
using ReferenceFn = void (*)(const Attrs& attrs, std::span<const TensorRef> inputs,
                             std::span<TensorRef> outputs);

// Spells a composite node with simpler ops in `graph` (reads node attributes and input types);
// returns the values that replace its outputs.
using DecomposeFn = std::vector<ValueId> (*)(Graph& graph, const Node& node);

// A case of the conformance table: input types and attributes in IR text. See test/conformance.
struct OpSample {
  // "f32[2, 3], f32[3]"; "none" for an absent optional input; "_[2, 3]" stands for each dtype that
  // the op's rule accepts
  std::string_view inputs;
  std::string_view attrs;     // "{axes = [1]}", or ""; `dtype = _` likewise
  int64_t low = 0, high = 0;  // integer inputs are drawn from [low, high); any when equal
};

struct Tolerance {  // against torch, in float32: |a - b| <= atol + rtol * |b|
  double rtol = 1.3e-6;
  double atol = 1e-5;
};

struct OpDef {
  int id;  // stable for ever: plans name ops by it
  std::string_view name;
  int min_inputs, max_inputs;  // max_inputs < 0: variadic
  std::span<const AttrDef> attrs;
  TypeRule infer;
  uint32_t traits = 0;
  std::span<const std::string_view> aten;  // overloads that import as this op, 1:1
  std::string_view scalar_body;            // pointwise: the expression over a, b, c, p0, p1
  DecomposeFn decompose = nullptr;
  ReferenceFn reference = nullptr;
  std::span<const OpSample> samples;
  Tolerance tolerance;
  std::string_view torch;  // Python that computes the same on `x` (inputs) and `a` (attributes)
  std::string_view doc;

  bool Is(Trait trait) const { return (traits & trait) != 0; }
};

// Lookup in the op table; defined by src/ops/table.cc.
const OpDef* FindOp(std::string_view name);
const OpDef& GetOp(std::string_view name);  // raises Internal when there is no such op
std::span<const OpDef* const> AllOps();     // sorted by id
// The op that an ATen overload ("aten.add.Tensor") maps to 1:1, or null.
const OpDef* FindOpByAten(std::string_view overload);

// Checks input count and attributes against the schema; raises InvalidArgument.
void CheckSchema(const OpDef& op, size_t num_inputs, const Attrs& attrs);

}  // namespace stator
