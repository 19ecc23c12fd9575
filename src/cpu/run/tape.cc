#include "cpu/run/tape.h"

#include "cpu/simd/transpose.h"

namespace stator {
namespace {

constexpr int64_t kCacheLine = 64;

int64_t RoundUp(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

int64_t CountOf(Extent extent, int64_t rows, int64_t columns) {
  return (extent & kRow ? rows : 1) * (extent & kColumn ? columns : 1);
}

// Elements from one row to the next.
int64_t PitchOf(Extent extent, int64_t columns) {
  if (!(extent & kRow)) return 0;
  return extent & kColumn ? columns : 1;
}

}  // namespace

// ---- operands
BodyOperands FindOperands(const StepSite& site) {
  const Graph& body = site.body;
  BodyOperands operands{.tensors = site.inputs,
                        .values = {body.inputs().begin(), body.inputs().end()},
                        .num_inputs = site.inputs.size()};
  for (ValueId id : body.constants()) {
    const Value& value = body.value(id);
    if (value.type.num_elements() == Dim(1)) continue;
    operands.values.push_back(id);
    operands.tensors.push_back({.data = const_cast<std::byte*>(value.data.bytes),  // only read
                                .dtype = value.type.dtype,
                                .dims = EvalDims(value.type.dims, {}),
                                .strides = EvalDims(value.type.strides(), {})});
  }
  operands.first_output = operands.tensors.size();
  operands.tensors.insert(operands.tensors.end(), site.outputs.begin(), site.outputs.end());
  operands.values.insert(operands.values.end(), body.outputs().begin(), body.outputs().end());
  return operands;
}

void BodyOperands::SetPointers(const StepArgs& args, std::span<std::byte*> pointers) const {
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (i < num_inputs) {
      pointers[i] = args.inputs[i];
    } else {
      pointers[i] = i < first_output ? tensors[i].data : args.outputs[i - first_output];
    }
  }
}

// ---- running
Tape::Frame Tape::MakeFrame(std::byte* ws) const {
  auto** slots = reinterpret_cast<std::byte**>(ws);
  size_t slot = operands_.size();
  for (const auto& constant : constants_) {
    slots[slot++] = const_cast<std::byte*>(constant.data());  // only read
  }
  std::byte* next = ws + RoundUp((slot + register_bytes_.size()) * sizeof(std::byte*), kCacheLine);
  for (int64_t bytes : register_bytes_) {
    slots[slot++] = next;
    next += bytes;
  }
  return {.slots = slots, .operands = {slots, operands_.size()}};
}

void Tape::Start(const Frame& frame) const {
  for (const TapeInstr& instr : start_) Execute(instr, frame, shape_.rows, shape_.columns);
}

void Tape::Run(const Frame& frame, int64_t rows, int64_t columns) const {
  for (const TapeInstr& instr : instrs_) Execute(instr, frame, rows, columns);
}

void Tape::Execute(const TapeInstr& instr, const Frame& frame, int64_t rows,
                   int64_t columns) const {
  if (instr.kind == TapeInstr::kLoad) return Load(instr, frame, rows, columns);
  if (instr.kind == TapeInstr::kStore) return Store(instr, frame, rows, columns);
  std::byte* out = frame.slots[instr.out.slot];
  std::byte* in[3];
  for (int i = 0; i < 3; ++i)
    in[i] = instr.in[i].slot < 0 ? nullptr : frame.slots[instr.in[i].slot];
  if (!instr.by_rows) {
    int64_t count = CountOf(instr.out.extent, rows, columns);
    instr.kernel(out, in[0], in[1], in[2], instr.params.data(), count);
    return;
  }
  int64_t steps[3];
  for (int i = 0; i < 3; ++i) steps[i] = PitchOf(instr.in[i].extent, columns) * instr.in[i].size;
  int64_t out_step = PitchOf(instr.out.extent, columns) * instr.out.size;
  for (int64_t row = 0; row < rows; ++row) {
    instr.kernel(out, in[0], in[1], in[2], instr.params.data(), columns);
    out += out_step;
    for (int i = 0; i < 3; ++i) {
      if (in[i] != nullptr) in[i] += steps[i];
    }
    if (out_step == 0) break;  // the same for every row
  }
}

void Tape::Load(const TapeInstr& instr, const Frame& frame, int64_t rows, int64_t columns) const {
  const Operand& operand = operands_[instr.operand];
  const std::byte* from = frame.slots[instr.operand];
  std::byte* to = frame.slots[instr.out.slot];
  switch (instr.out.extent) {
    case kScalar: operand.load(to, from, 1, 1); return;
    case kRow: operand.load(to, from, operand.row_stride, rows); return;
    case kColumn: operand.load(to, from, operand.column_stride, columns); return;
    case kTile: break;
  }
  if (operand.row_stride == columns * operand.column_stride) {
    operand.load(to, from, operand.column_stride, rows * columns);
    return;
  }
  if (operand.row_stride == 1 && operand.is_native) {
    Transpose(to, columns, from, operand.column_stride, rows, columns, instr.out.size);
    return;
  }
  for (int64_t row = 0; row < rows; ++row) {
    operand.load(to + row * columns * instr.out.size,
                 from + row * operand.row_stride * operand.size, operand.column_stride, columns);
  }
}

void Tape::Store(const TapeInstr& instr, const Frame& frame, int64_t rows, int64_t columns) const {
  const Operand& operand = operands_[instr.operand];
  const TapeInstr::Place& in = instr.in[0];
  const std::byte* from = frame.slots[in.slot];
  std::byte* to = frame.slots[instr.operand];
  switch (instr.out.extent) {
    case kScalar: operand.store(to, from, 1, 1); return;
    case kRow: operand.store(to, from, operand.row_stride, rows); return;
    case kColumn: operand.store(to, from, operand.column_stride, columns); return;
    case kTile: break;
  }
  int64_t pitch = PitchOf(in.extent, columns);
  if (pitch == columns && operand.row_stride == columns * operand.column_stride) {
    operand.store(to, from, operand.column_stride, rows * columns);
    return;
  }
  for (int64_t row = 0; row < rows; ++row) {
    operand.store(to + row * operand.row_stride * operand.size, from + row * pitch * in.size,
                  operand.column_stride, columns);
  }
}

}  // namespace stator
