// MakeTape: from nodes to instructions on virtual registers.
#include <algorithm>
#include <map>

#include "cpu/run/tape.h"
#include "cpu/run/tape_registers.h"
#include "ir/op_def.h"

namespace stator {
namespace {

// Below this many columns one call per row costs more than a register that repeats the row.
constexpr int64_t kMinColumnsPerCall = 128;

constexpr int kAddId = 100, kMulId = 102, kMaximumId = 109;

// Whether results of exact operands need no rounding to be exact in f16 and bf16.
bool IsExact(const Node& node) {
  static constexpr std::string_view kExact[] = {"neg",     "abs",   "sign",  "where", "floor",
                                                "ceil",    "trunc", "round", "relu",  "maximum",
                                                "minimum", "amax",  "amin"};
  return std::find(std::begin(kExact), std::end(kExact), node.op->name) != std::end(kExact);
}

// Whether registers hold elements as memory does.
bool IsNative(DType dtype) {
  return dtype != DType::kFloat16 && dtype != DType::kBFloat16 && dtype != DType::kBool;
}

Extent Join(Extent a, Extent b) { return static_cast<Extent>(a | b); }

}  // namespace

class TapeBuilder {
 public:
  explicit TapeBuilder(const TapeSite& site)
      : site_(site),
        body_(*site.body),
        sources_(body_.num_values()),
        num_uses_(body_.num_values(), 0),
        is_only_stored_(body_.num_values(), false),
        deferred_(body_.num_values(), false) {}

  std::optional<Tape> Run() {
    AddOperands();
    if (!AddConstants()) return std::nullopt;
    FindMulAdds();
    for (NodeId id : site_.nodes) {
      const Node& node = body_.node(id);
      if (!deferred_[node.outputs[0].index] && !AddNode(node)) return std::nullopt;
    }
    if (site_.store_outputs) StoreOutputs();
    if (site_.result.valid()) tape_.result_ = Read(site_.result).place;
    FinishRegisters();
    return std::move(tape_);
  }

 private:
  using Place = TapeInstr::Place;
  struct Source {  // where a value is
    Place place;
    TapeClass tape_class = TapeClass::kF32;
  };

  // ---- operands and constants
  void AddOperands() {
    const BodyOperands& operands = *site_.operands;
    for (size_t i = 0; i < operands.tensors.size(); ++i) {
      DType dtype = operands.tensors[i].dtype;
      tape_.operands_.push_back({.load = FindLoad(dtype),
                                 .store = FindStore(dtype),
                                 .row_stride = site_.accesses[i].row_stride,
                                 .column_stride = site_.accesses[i].column_stride,
                                 .size = static_cast<int64_t>(DTypeSize(dtype)),
                                 .is_native = IsNative(dtype)});
      if (i < operands.first_output) operand_of_.emplace(operands.values[i], static_cast<int>(i));
    }
    tape_.shape_ = site_.shape;
    bound_.assign(operands.tensors.size(), false);
  }

  bool AddConstants() {
    for (ValueId id : body_.constants()) {
      const Value& value = body_.value(id);
      if (operand_of_.contains(id)) continue;
      if (value.data.bytes == nullptr) return false;
      auto& constant = tape_.constants_.emplace_back();
      FindLoad(value.type.dtype)(constant.data(), value.data.bytes, 1, 1);
      int slot = static_cast<int>(tape_.operands_.size() + tape_.constants_.size()) - 1;
      sources_[id.index] = MakeSource(slot, kScalar, ClassOf(value.type.dtype));
    }
    return true;
  }

  static Source MakeSource(int slot, Extent extent, TapeClass tape_class) {
    auto size = static_cast<uint8_t>(ClassSize(tape_class));
    return {.place = {.slot = slot, .extent = extent, .size = size}, .tape_class = tape_class};
  }

  Extent ExtentOf(int operand) const {
    const TapeAccess& access = site_.accesses[operand];
    bool row = site_.shape.rows > 1 && access.row_stride != 0;
    bool column = site_.shape.columns > 1 && access.column_stride != 0;
    return static_cast<Extent>((row ? kRow : 0) | (column ? kColumn : 0));
  }

  // Whether the operand's elements lie in memory as they would in a register.
  bool LiesDense(int operand, Extent extent) const {
    const TapeAccess& access = site_.accesses[operand];
    switch (extent) {
      case kScalar: return true;
      case kRow: return access.row_stride == 1;
      case kColumn: return access.column_stride == 1;
      case kTile:
        return access.column_stride == 1 && site_.whole_columns &&
               access.row_stride == site_.shape.columns;
    }
    return false;
  }

  // Where the value is; emits the load of an operand on its first use.
  Source Read(ValueId id) {
    std::optional<Source>& source = sources_[id.index];
    if (!source) source = LoadOperand(operand_of_.at(id), body_.type(id).dtype);
    return *source;
  }

  Source LoadOperand(int operand, DType dtype) {
    Extent extent = ExtentOf(operand);
    bool fixed = site_.accesses[operand].fixed;
    bool repeat = fixed && extent == kColumn && site_.shape.rows > 1 &&
                  site_.shape.columns < kMinColumnsPerCall;
    if (repeat) extent = kTile;
    if (!repeat && IsNative(dtype) && LiesDense(operand, extent)) {
      return MakeSource(operand, extent, ClassOf(dtype));
    }
    Source source = NewRegister(extent, ClassOf(dtype));
    TapeInstr load{.kind = TapeInstr::kLoad, .out = source.place, .operand = operand};
    (fixed ? tape_.start_ : tape_.instrs_).push_back(load);
    return source;
  }

  // ---- instructions
  Source NewRegister(Extent extent, TapeClass tape_class) {
    return MakeSource(kFirstVirtual + num_virtual_++, extent, tape_class);
  }

  // Where the result of a node's last instruction goes: straight into an output when it may.
  Source NewResult(ValueId id, Extent extent, TapeClass tape_class) {
    const BodyOperands& operands = *site_.operands;
    bool may_bind = site_.store_outputs && id.valid() && IsNative(body_.type(id).dtype);
    for (size_t i = operands.first_output; may_bind && i < operands.values.size(); ++i) {
      int operand = static_cast<int>(i);
      if (operands.values[i] != id || bound_[i]) continue;
      if (ExtentOf(operand) != extent || !LiesDense(operand, extent)) continue;
      bound_[i] = true;
      return MakeSource(operand, extent, tape_class);
    }
    return NewRegister(extent, tape_class);
  }

  void StoreOutputs() {
    const BodyOperands& operands = *site_.operands;
    for (size_t i = operands.first_output; i < operands.values.size(); ++i) {
      if (bound_[i]) continue;
      Extent extent = ExtentOf(static_cast<int>(i));
      Source source = Read(operands.values[i]);
      if (!(source.place.extent & kColumn) && (extent & kColumn)) source = Fill(source, extent);
      if (source.place.extent == kScalar && extent == kRow) source = Fill(source, extent);
      Place out{.extent = extent};
      tape_.instrs_.push_back({.kind = TapeInstr::kStore,
                               .out = out,
                               .in = {source.place},
                               .operand = static_cast<int>(i)});
    }
  }

  Source Fill(const Source& source, Extent extent) {
    Source filled = NewRegister(extent, source.tape_class);
    TapeKernel kernel = source.tape_class == TapeClass::kF32
                            ? FindF32Kernel(kFillOp, 1)
                            : FindElementKernel(kFillOp, source.tape_class);
    tape_.instrs_.push_back({.by_rows = source.place.extent != kScalar,
                             .out = filled.place,
                             .in = {source.place},
                             .kernel = kernel});
    return filled;
  }

  // One instruction with its operands made to fit; `id` is the value it finishes, or invalid.
  // Empty when there is no kernel.
  std::optional<Source> Emit(int op_id, std::vector<Source> in, TapeClass in_class,
                             TapeClass out_class, std::array<double, 2> params, ValueId id) {
    Extent extent = kScalar;
    for (const Source& source : in) extent = Join(extent, source.place.extent);
    bool by_rows = std::any_of(in.begin(), in.end(), [&](const Source& source) {
      return source.place.extent != extent && source.place.extent != kScalar;
    });
    auto is_narrow = [&](const Source& source) {
      if (by_rows) return !(source.place.extent & kColumn);
      return source.place.extent == kScalar && extent != kScalar;
    };
    unsigned narrow = 0;
    for (size_t i = 0; i < in.size(); ++i) narrow |= is_narrow(in[i]) ? 1u << i : 0u;
    TapeKernel kernel = in_class == TapeClass::kF32 ? FindF32Kernel(op_id, narrow) : nullptr;
    if (kernel == nullptr) {
      for (Source& source : in) {
        if (is_narrow(source)) source = Fill(source, extent);
      }
      kernel = in_class == TapeClass::kF32 ? FindF32Kernel(op_id, 0)
                                           : FindElementKernel(op_id, in_class);
    }
    if (kernel == nullptr) return std::nullopt;
    Source out = NewResult(id, extent, out_class);
    AddRun(kernel, in, out, by_rows, params);
    return out;
  }

  void AddRun(TapeKernel kernel, std::span<const Source> in, const Source& out, bool by_rows,
              std::array<double, 2> params) {
    TapeInstr instr{.by_rows = by_rows, .out = out.place, .kernel = kernel, .params = params};
    for (size_t i = 0; i < in.size(); ++i) instr.in[i] = in[i].place;
    tape_.instrs_.push_back(instr);
  }

  bool Define(ValueId id, std::optional<Source> source) {
    sources_[id.index] = source;
    return source.has_value();
  }

  // ---- nodes
  bool AddNode(const Node& node) {
    ValueId id = node.outputs[0];
    DType dtype = body_.type(id).dtype;
    bool rounds = (dtype == DType::kFloat16 || dtype == DType::kBFloat16) && !IsExact(node) &&
                  !is_only_stored_[id.index];  // a store rounds by itself
    std::optional<Source> source;
    if (AddHalves(node)) return true;
    if (node.op->name == "cast") {
      source = AddCast(node);
    } else if (node.op->Is(kPointwise)) {
      source = AddPointwise(node);
    } else if (node.op->Is(kRowwise)) {
      source = AddRowMap(node);
    } else if (node.op->Is(kReduction)) {
      source = AddRowReduce(node);
    }
    if (source && rounds) source = Round(*source, dtype);
    return Define(id, source);
  }

  Source Round(const Source& source, DType dtype) {
    int op_id = dtype == DType::kFloat16 ? kRoundF16Op : kRoundBF16Op;
    return *Emit(op_id, {source}, TapeClass::kF32, TapeClass::kF32, {}, {});
  }

  // A node alone between memory and memory, all of one type that registers do not hold: in one pass
  // where there is a kernel.
  bool AddHalves(const Node& node) {
    ValueId id = node.outputs[0];
    DType dtype = body_.type(id).dtype;
    TapeKernel kernel = FindHalfKernel(node.op->id, dtype);
    if (kernel == nullptr || !is_only_stored_[id.index] || num_uses_[id.index] != 1) return false;
    Extent all = static_cast<Extent>((site_.shape.rows > 1 ? kRow : 0) | kColumn);
    auto lies_so = [&](int operand) {
      return ExtentOf(operand) == all && LiesDense(operand, all) && !site_.accesses[operand].fixed;
    };
    auto place = [&](int operand) { return Place{.slot = operand, .extent = all, .size = 2}; };
    TapeInstr instr{.kernel = kernel, .params = Params(node)};
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      ValueId input = node.inputs[i];
      auto it = operand_of_.find(input);
      bool reads = it != operand_of_.end() && body_.type(input).dtype == dtype &&
                   !sources_[input.index] && lies_so(it->second);
      if (!reads) return false;
      instr.in[i] = place(it->second);
    }
    const BodyOperands& operands = *site_.operands;
    auto out = std::find(operands.values.begin() + static_cast<int64_t>(operands.first_output),
                         operands.values.end(), id);
    int operand = static_cast<int>(out - operands.values.begin());
    if (out == operands.values.end() || !lies_so(operand)) return false;
    instr.out = place(operand);
    bound_[operand] = true;
    tape_.instrs_.push_back(instr);
    return true;
  }

  static std::array<double, 2> Params(const Node& node) {
    std::array<double, 2> params{};
    size_t next = 0;
    for (const AttrDef& attr : node.op->attrs) {
      if (attr.kind == AttrDef::kFloat) params[next++] = node.attrs.GetFloat(attr.name);
    }
    return params;
  }

  std::optional<Source> AddPointwise(const Node& node) {
    ValueId id = node.outputs[0];
    if (node.op->id == kAddId) {
      std::optional<Source> fused = AddMulAdd(node);
      if (fused) return fused;
    }
    std::vector<Source> in;
    for (ValueId input : node.inputs) in.push_back(Read(input));
    TapeClass in_class = in.back().tape_class;  // of `where`, not the mask's
    int op_id = node.op->id;
    // Bools are 0 and 1, which a sum would leave.
    if (op_id == kAddId && body_.type(id).dtype == DType::kBool) op_id = kMaximumId;
    TapeClass out_class = ClassOf(body_.type(id).dtype);
    return Emit(op_id, std::move(in), in_class, out_class, Params(node), id);
  }

  std::optional<Source> AddCast(const Node& node) {
    ValueId id = node.outputs[0];
    DType from = body_.type(node.inputs[0]).dtype, to = body_.type(id).dtype;
    TapeClass to_class = ClassOf(to);
    if (auto loaded = LoadCast(node.inputs[0], id)) return loaded;
    Source source = Read(node.inputs[0]);
    bool to_bool = to == DType::kBool && from != DType::kBool;
    if (!to_bool && source.tape_class == to_class) return source;
    TapeKernel kernel = FindCastKernel(source.tape_class, to_class, to_bool);
    Source out = NewResult(id, source.place.extent, to_class);
    AddRun(kernel, {&source, 1}, out, false, {});
    return out;
  }

  // A cast that is the load of its operand, straight to where the result goes; empty where it is
  // more, or where the operand has been loaded.
  std::optional<Source> LoadCast(ValueId from, ValueId to) {
    DType dtype = body_.type(from).dtype;
    bool is_load = !sources_[from.index] && !IsNative(dtype) && IsNative(body_.type(to).dtype) &&
                   ClassOf(dtype) == ClassOf(body_.type(to).dtype);
    if (!is_load) return std::nullopt;
    int operand = operand_of_.at(from);
    Extent extent = ExtentOf(operand);
    if (site_.accesses[operand].fixed) return std::nullopt;
    Source source = NewResult(to, extent, ClassOf(dtype));
    tape_.instrs_.push_back({.kind = TapeInstr::kLoad, .out = source.place, .operand = operand});
    sources_[from.index] = source;
    return source;
  }

  std::optional<Source> AddRowMap(const Node& node) {
    ValueId id = node.outputs[0];
    std::vector<Source> in;
    for (ValueId input : node.inputs) in.push_back(input.valid() ? Read(input) : Source{});
    TapeKernel kernel = FindRowMapKernel(node.op->name, in[0].tape_class);
    if (kernel == nullptr) return std::nullopt;
    for (Source& source : in) {
      bool fits = source.place.slot < 0 || source.place.extent & kColumn;
      if (!fits && site_.shape.columns > 1) {
        source = Fill(source, Join(source.place.extent, kColumn));
      }
    }
    Source out = NewResult(id, in[0].place.extent, in[0].tape_class);
    AddRun(kernel, in, out, true, Params(node));
    return out;
  }

  std::optional<Source> AddRowReduce(const Node& node) {
    ValueId id = node.outputs[0];
    Source source = Read(node.inputs[0]);
    TapeKernel kernel = FindRowReduceKernel(node.op->name, source.tape_class);
    if (kernel == nullptr || body_.type(id).dtype == DType::kBool) return std::nullopt;
    if (!(source.place.extent & kColumn) && site_.shape.columns > 1) {
      source = Fill(source, Join(source.place.extent, kColumn));
    }
    Extent extent = static_cast<Extent>(source.place.extent & kRow);
    Source out = NewResult(id, extent, source.tape_class);
    AddRun(kernel, {&source, 1}, out, true, Params(node));
    return out;
  }

  // ---- fused multiply-add: add(mul(a, b), c) where nothing else reads the product
  // Counts uses before.
  void FindMulAdds() {
    std::vector<bool> inside(body_.num_node_slots(), false);
    for (NodeId id : site_.nodes) {
      inside[id.index] = true;
      for (ValueId input : body_.node(id).inputs) {
        if (input.valid()) ++num_uses_[input.index];
      }
    }
    if (site_.result.valid()) ++num_uses_[site_.result.index];
    for (ValueId output : body_.outputs()) {
      if (site_.store_outputs && num_uses_[output.index] == 0) is_only_stored_[output.index] = true;
    }
    for (ValueId output : body_.outputs()) ++num_uses_[output.index];
    for (NodeId id : site_.nodes) {
      const Node& node = body_.node(id);
      if (node.op->id != kAddId || body_.type(node.outputs[0]).dtype != DType::kFloat32) continue;
      for (ValueId input : node.inputs) {
        const Node* producer = body_.FindProducer(input);
        bool fuses = producer != nullptr && producer->op->id == kMulId &&
                     inside[body_.value(input).producer.index] && num_uses_[input.index] == 1;
        if (!fuses) continue;
        deferred_[input.index] = true;
        break;
      }
    }
  }

  // Empty when `add` has no product to take in; that product is then computed.
  std::optional<Source> AddMulAdd(const Node& add) {
    size_t k = 0;
    while (k < 2 && !deferred_[add.inputs[k].index]) ++k;
    if (k == 2) return std::nullopt;
    const Node& mul = *body_.FindProducer(add.inputs[k]);
    Source a = Read(mul.inputs[0]), b = Read(mul.inputs[1]), c = Read(add.inputs[1 - k]);
    Extent product = Join(a.place.extent, b.place.extent);
    if (Join(product, c.place.extent) != product) {
      AddNode(mul);
      return std::nullopt;
    }
    // The kernels take b and c as scalars, never a.
    bool swaps = b.place.extent == product || !(a.place.extent & kColumn);
    if (swaps) std::swap(a, b);
    return Emit(kMulAddOp, {a, b, c}, TapeClass::kF32, TapeClass::kF32, {}, add.outputs[0]);
  }

  // ---- registers
  void FinishRegisters() {
    auto first_slot = static_cast<int>(tape_.operands_.size() + tape_.constants_.size());
    tape_.register_bytes_ =
        AssignRegisters(site_.shape, first_slot, tape_.start_, tape_.instrs_, tape_.result_);
    int64_t num_slots = first_slot + static_cast<int64_t>(tape_.register_bytes_.size());
    tape_.ws_bytes_ = (num_slots * static_cast<int64_t>(sizeof(std::byte*)) + 63) / 64 * 64;
    for (int64_t bytes : tape_.register_bytes_) tape_.ws_bytes_ += bytes;
  }

  const TapeSite& site_;
  const Graph& body_;
  Tape tape_;
  std::vector<std::optional<Source>> sources_;  // by value
  std::vector<int> num_uses_;                   // by value
  std::vector<bool> is_only_stored_;            // by value: outputs that no instruction reads
  std::vector<bool> deferred_;                  // by value: products that wait for their sum
  std::vector<bool> bound_;                     // by operand: outputs that are written already
  std::map<ValueId, int> operand_of_;
  int num_virtual_ = 0;
};

std::optional<Tape> MakeTape(const TapeSite& site) { return TapeBuilder(site).Run(); }

}  // namespace stator
