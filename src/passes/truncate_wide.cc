// TruncateWide: int64 and float64 values are computed as int32 and float32.
//
//                                       %0 = cast(%x) {dtype = i32}
//   %0 = add(%x, 7) : i64         ->    %1 = add(%0, 7) : i32
//   return %0                           %2 = cast(%1) {dtype = i64}
//                                       return %2
//
// Invariant: inputs and outputs keep their types. Raises InvalidArgument for a literal that the
// narrow type cannot hold; a weight is cast with each refit, unseen here.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "ir/op_def.h"
#include "passes/match.h"
#include "passes/passes.h"

namespace stator {
namespace {

bool IsWide(DType dtype) { return dtype == DType::kInt64 || dtype == DType::kFloat64; }

DType NarrowOf(DType wide) { return wide == DType::kInt64 ? DType::kInt32 : DType::kFloat32; }

bool Fits(double element, DType wide) {
  if (wide == DType::kFloat64) {
    return !std::isfinite(element) || std::abs(element) <= std::numeric_limits<float>::max();
  }
  return element >= std::numeric_limits<int32_t>::min() &&
         element <= std::numeric_limits<int32_t>::max();
}

void RequireFit(double element, DType wide, const Node& node) {
  if (Fits(element, wide)) return;
  throw Error(ErrorKind::kInvalidArgument,
              fmt::format("truncate_long_and_double: the constant {} does not fit in {}", element,
                          DTypeName(NarrowOf(wide))),
              node.origin.ToString());
}

void RequireFit(const Value& literal, const Node& node) {
  DispatchDType(literal.type.dtype, [&](auto zero) {
    using T = decltype(zero);
    for (size_t at = 0; at + sizeof(T) <= literal.data.size; at += sizeof(T)) {
      T element;
      std::memcpy(&element, literal.data.bytes + at, sizeof(T));
      RequireFit(static_cast<double>(element), literal.type.dtype, node);
    }
  });
}

// The node's attributes with a narrow `dtype` (arange, full).
Attrs NarrowAttrs(const Node& node) {
  Attrs attrs = node.attrs;
  const Attr* dtype = attrs.Find("dtype");
  if (dtype == nullptr || !IsWide(std::get<DType>(*dtype))) return attrs;
  DType wide = std::get<DType>(*dtype);
  for (std::string_view name : {"value", "start"}) {
    if (attrs.Find(name) != nullptr) RequireFit(attrs.GetFloat(name), wide, node);
  }
  attrs.Set("dtype", NarrowOf(wide));
  return attrs;
}

ValueId Truncate(Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  if (node.op->name == "cast") return {};
  auto is_wide = [&](ValueId value) { return value.valid() && IsWide(graph.type(value).dtype); };
  Attrs attrs = NarrowAttrs(node);
  bool reads_wide = std::any_of(node.inputs.begin(), node.inputs.end(), is_wide);
  if ((!reads_wide && attrs == node.attrs) || !rewriter.Start()) return {};
  std::vector<ValueId> inputs = node.inputs;
  for (ValueId& input : inputs) {
    if (!is_wide(input)) continue;
    const Value& value = graph.value(input);
    if (value.kind == ValueKind::kLiteral) RequireFit(value, node);
    input = rewriter.Add("cast", {input}, {{"dtype", NarrowOf(value.type.dtype)}});
  }
  DType dtype = graph.type(node.outputs[0]).dtype;
  ValueId result = rewriter.Add(node.op->name, std::move(inputs), std::move(attrs));
  if (graph.type(result).dtype == dtype) return result;
  return rewriter.Add("cast", {result}, {{"dtype", dtype}});
}

}  // namespace

bool TruncateWide(Rewriter& rewriter) {
  constexpr Rule kRules[] = {{"", Truncate}};
  return ApplyRules(rewriter, kRules);
}

}  // namespace stator
