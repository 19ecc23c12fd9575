#include "runtime/bind.h"

#include "base/error.h"
#include "runtime/schedule.h"

namespace stator {
namespace {

// The address of a constant's element at `offset` bytes; null for storages that each call brings.
std::byte* FindAddress(const PlanTensor& tensor, int64_t offset,
                       const ConstantAddresses& constants) {
  std::byte* storage = nullptr;
  switch (tensor.storage) {
    case StorageKind::kWeight: storage = constants.weights[tensor.index]; break;
    case StorageKind::kLiteral: storage = constants.literals[tensor.index]; break;
    case StorageKind::kDerived: storage = constants.derived[tensor.index]; break;
    default: return nullptr;
  }
  return storage != nullptr ? storage + offset : NoElements();
}

}  // namespace

BoundPlan BindPlan(const Plan& plan, SymbolValues symbols, const ConstantAddresses& constants) {
  if (!plan.symbols.empty()) CheckPlanSizes(plan, symbols);  // CheckPlan did it for static sizes
  BoundPlan bound{.plan = &plan, .symbols = std::move(symbols)};
  for (const PlanTensor& tensor : plan.tensors) {
    int64_t offset =
        tensor.offset.Eval(bound.symbols) * static_cast<int64_t>(DTypeSize(tensor.dtype));
    bound.tensors.push_back({.data = FindAddress(tensor, offset, constants),
                             .dtype = tensor.dtype,
                             .dims = EvalDims(tensor.dims, bound.symbols),
                             .strides = EvalDims(tensor.strides, bound.symbols)});
    bound.tensor_offsets.push_back(offset);
  }
  std::vector<int64_t> bytes;
  for (const PlanBuffer& buffer : plan.arena) bytes.push_back(buffer.bytes.Eval(bound.symbols));
  if (plan.aux_streams > 0) bound.schedule = MakeSchedule(bound, plan.aux_streams);
  bound.arena_offsets = bound.schedule.num_streams > 1 ? PlanConcurrentMemory(bound, bytes)
                                                       : PlanMemory(plan.arena, bytes);
  bound.arena_bytes = bound.arena_offsets.back();
  bound.arena_offsets.pop_back();
  return bound;
}

ConstantData Device::BringConstant(const ConstantData& data) {
  if (data.device == ConstantData::kHost) return data;
  Fail(ErrorKind::kInvalidArgument, "a constant lies on cuda:{}, and its engine's device is {}",
       data.device, name());
}

std::byte* NoElements() {
  alignas(64) static std::byte bytes[64];
  return bytes;
}

TensorRef BindPort(const PlanPort& port, const SymbolValues& symbols) {
  return {.data = nullptr,
          .dtype = port.dtype,
          .dims = EvalDims(port.dims, symbols),
          .strides = EvalDims(port.strides, symbols)};
}

int64_t Extent(const TensorRef& tensor) {
  int64_t last = 0;
  for (int d = 0; d < tensor.rank(); ++d) last += (tensor.dims[d] - 1) * tensor.strides[d];
  return (last + 1) * static_cast<int64_t>(DTypeSize(tensor.dtype));
}

bool IsSameLayout(std::span<const int64_t> dims, std::span<const int64_t> strides,
                  std::span<const int64_t> expected) {
  bool same = true;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == 0) return true;
    same &= strides[i] == expected[i] || dims[i] == 1;
  }
  return same;
}

}  // namespace stator
