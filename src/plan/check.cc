// CheckPlan: what makes a plan safe to run, field by field.
//
// In:  a plan from emit or from a file that may be hostile.
// Out: nothing, or CorruptFile naming the field. After it, no index leads outside its list and no
// window outside its storage, and a step's body fits the step's operands.

#include <algorithm>
#include <set>

#include "base/error.h"
#include "ir/op_def.h"
#include "ir/parse.h"
#include "plan/plan.h"
#include "plan/wire.h"

namespace stator {
namespace {

constexpr int64_t kMaxSize = int64_t{1} << 48;  // elements or bytes; products of two fit 128 bits
constexpr size_t kMaxRank = 32;                 // as in IR text

constexpr std::string_view kStepKindNames[] = {"reference", "pointwise", "rowwise",   "reduce",
                                               "gemm",      "conv",      "attention", "pool",
                                               "gather",    "copy"};
static_assert(std::size(kStepKindNames) == kNumStepKinds);

constexpr std::string_view kStorageKindNames[] = {"input",  "output",  "arena",
                                                  "weight", "literal", "derived"};
static_assert(std::size(kStorageKindNames) == kNumStorageKinds);

template <typename... Args>
[[noreturn]] void Bad(const std::string& field, fmt::format_string<Args...> format,
                      Args&&... args) {
  Fail(ErrorKind::kCorruptFile, "plan field {}: {}", field,
       fmt::format(format, std::forward<Args>(args)...));
}

bool IsWord(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(),
                                      [](unsigned char c) { return std::isalnum(c) || c == '_'; });
}

bool IsConstant(StorageKind storage) { return storage >= StorageKind::kWeight; }

bool IsStaticWindow(const PlanTensor& tensor) {
  return IsStatic(tensor.dims) && IsStatic(tensor.strides) && tensor.offset.is_static();
}

// ---- sizes under given symbol values

class SizeChecker {
 public:
  SizeChecker(const Plan& plan, const SymbolValues& symbols) : plan_(plan), symbols_(symbols) {}

  // Which constant is too small for a window whose size depends on symbols; empty when none is.
  std::string Run() {
    std::string too_small;
    CheckPorts("inputs", plan_.inputs, StorageKind::kInput);
    CheckPorts("outputs", plan_.outputs, StorageKind::kOutput);
    CheckBuffers("arena", plan_.arena, StorageKind::kArena);
    CheckBuffers("derived", plan_.derived, StorageKind::kDerived);
    for (size_t i = 0; i < plan_.weights.size(); ++i) CheckWeight(i);
    for (const ConstantData& literal : plan_.literals) {
      Bytes(StorageKind::kLiteral).push_back(static_cast<int64_t>(literal.size));
    }
    for (size_t i = 0; i < plan_.tensors.size(); ++i) {
      const PlanTensor& tensor = plan_.tensors[i];
      std::string field = fmt::format("tensors[{}]", i);
      int64_t end = FindEnd(field, tensor.offset, tensor.dtype, tensor.dims, tensor.strides);
      int64_t size = Bytes(tensor.storage)[tensor.index];
      if (end <= size) continue;
      if (!IsConstant(tensor.storage) || IsStaticWindow(tensor)) {
        Bad(field, "ends at byte {} of {}[{}], which has {}", end, StorageKindName(tensor.storage),
            tensor.index, size);
      }
      if (too_small.empty()) too_small = DescribeTooSmall(tensor, end, size);
    }
    return too_small;
  }

 private:
  // "weight `wpe` has 3072 bytes, and f32[s0, 768] of it needs 6144"
  std::string DescribeTooSmall(const PlanTensor& tensor, int64_t end, int64_t size) const {
    std::string constant = fmt::format("{} {}", StorageKindName(tensor.storage), tensor.index);
    if (tensor.storage == StorageKind::kWeight) {
      constant = fmt::format("weight `{}`", plan_.weights[tensor.index].name);
    }
    return fmt::format("{} has {} bytes, and {}{} of it needs {}", constant, size,
                       DTypeName(tensor.dtype), DimsToString(tensor.dims), end);
  }

  std::vector<int64_t>& Bytes(StorageKind storage) { return bytes_[static_cast<int>(storage)]; }

  int64_t Eval(const std::string& field, const Dim& dim) const {
    int64_t value = dim.Eval(symbols_);
    if (value < 0 || value > kMaxSize) {
      Bad(field, "{} is {}, expected 0 to 2^48", dim.ToString(), value);
    }
    return value;
  }

  // Bytes from the start of the storage to the end of the last element; 0 without elements.
  int64_t FindEnd(const std::string& field, const Dim& offset, DType dtype, const Dims& dims,
                  const Dims& strides) const {
    __int128 count = 1, last = Eval(field + ".offset", offset);
    for (size_t i = 0; i < dims.size(); ++i) {
      int64_t size = Eval(field + ".dims", dims[i]), stride = Eval(field + ".strides", strides[i]);
      count *= size;
      if (count == 0) return 0;
      last += static_cast<__int128>(size - 1) * stride;
      if (count > kMaxSize || last > kMaxSize) Bad(field, "is larger than 2^48 elements");
    }
    return static_cast<int64_t>((last + 1) * DTypeSize(dtype));
  }

  void CheckPorts(std::string_view list, const std::vector<PlanPort>& ports, StorageKind storage) {
    for (size_t i = 0; i < ports.size(); ++i) {
      Bytes(storage).push_back(FindEnd(fmt::format("{}[{}]", list, i), 0, ports[i].dtype,
                                       ports[i].dims, ports[i].strides));
    }
  }

  void CheckBuffers(std::string_view list, const std::vector<PlanBuffer>& buffers,
                    StorageKind storage) {
    int64_t sum = 0;
    for (size_t i = 0; i < buffers.size(); ++i) {
      std::string field = fmt::format("{}[{}].bytes", list, i);
      Bytes(storage).push_back(Eval(field, buffers[i].bytes));
      sum += Bytes(storage).back();
      if (sum > kMaxSize) Bad(field, "the sum up to it is above 2^48 bytes");
    }
  }

  void CheckWeight(size_t i) {
    const PlanWeight& weight = plan_.weights[i];
    std::string field = fmt::format("weights[{}]", i);
    Dims dims(weight.dims.begin(), weight.dims.end());
    int64_t bytes = FindEnd(field, 0, weight.dtype, dims, ContiguousStrides(dims));
    bool bound = weight.data.bytes != nullptr || weight.data.size != 0;
    if (bound && weight.data.size < static_cast<size_t>(bytes)) {
      Bad(field + ".data", "{} bytes, expected {}", weight.data.size, bytes);
    }
    Bytes(StorageKind::kWeight).push_back(bytes);
  }

  const Plan& plan_;
  const SymbolValues& symbols_;
  std::vector<int64_t> bytes_[kNumStorageKinds];
};

// ---- structure

class PlanChecker {
 public:
  explicit PlanChecker(const Plan& plan) : plan_(plan) {}

  void Run() {
    if (plan_.aux_streams < 0 || plan_.aux_streams > kMaxAuxStreams) {
      Bad("aux_streams", "{}, expected 0 to {}", plan_.aux_streams, kMaxAuxStreams);
    }
    CheckSymbols();
    CheckPorts("inputs", plan_.inputs);
    CheckPorts("outputs", plan_.outputs);
    std::set<std::string> names;
    for (size_t i = 0; i < plan_.weights.size(); ++i) {
      const PlanWeight& weight = plan_.weights[i];
      std::string field = fmt::format("weights[{}]", i);
      if (!names.insert(weight.name).second) Bad(field + ".name", "`{}` occurs twice", weight.name);
      CheckDType(field, weight.dtype);
      if (weight.dims.size() > kMaxRank) Bad(field + ".dims", "rank is above {}", kMaxRank);
    }
    for (size_t i = 0; i < plan_.code.size(); ++i) CheckCode(i);
    CheckBuffers("derived", plan_.derived);
    CheckBuffers("arena", plan_.arena);
    for (size_t i = 0; i < plan_.tensors.size(); ++i) CheckTensor(i);
    CheckSteps("prologue", plan_.prologue);
    CheckSteps("steps", plan_.steps);
    for (size_t i = 0; i < plan_.outputs.size(); ++i) {
      if (!written_.contains({StorageKind::kOutput, static_cast<int>(i)})) {
        Bad(fmt::format("outputs[{}]", i), "no step writes it");
      }
    }
  }

 private:
  void CheckSymbols() {
    for (size_t i = 0; i < plan_.symbols.size(); ++i) {
      const SymbolRange& symbol = plan_.symbols[i];
      std::string field = fmt::format("symbols[{}]", i);
      std::optional<Dim> parsed = Dim::Find(symbol.name);
      bool named = parsed && !parsed->is_static() && *parsed == Dim::Symbol(symbol.name);
      if (!named || !symbols_.insert(symbol.name).second) {
        Bad(field + ".name", "`{}` is no name, or occurs twice", symbol.name);
      }
      if (symbol.min < 0 || symbol.max < symbol.min || symbol.max > kMaxSize) {
        Bad(field, "range [{}, {}] is not within 0 to 2^48", symbol.min, symbol.max);
      }
    }
  }

  void CheckDim(const std::string& field, const Dim& dim) const {
    if (dim.is_static()) return;
    if (dim.ToString().size() > kMaxDimText) {
      Bad(field, "a size of more than {} characters", kMaxDimText);
    }
    std::set<std::string> used;
    dim.CollectSymbols(used);
    for (const std::string& symbol : used) {
      if (!symbols_.contains(symbol)) Bad(field, "symbol `{}` has no range", symbol);
    }
  }

  void CheckDims(const std::string& field, const Dims& dims, const Dims& strides) const {
    if (dims.size() > kMaxRank) Bad(field + ".dims", "rank is above {}", kMaxRank);
    if (dims.size() != strides.size()) {
      Bad(field + ".strides", "{} strides for {} dims", strides.size(), dims.size());
    }
    for (const Dim& dim : dims) CheckDim(field + ".dims", dim);
    for (const Dim& stride : strides) CheckDim(field + ".strides", stride);
  }

  static void CheckDType(const std::string& field, DType dtype) {
    if (static_cast<int>(dtype) >= kNumDTypes) {
      Bad(field + ".dtype", "there is no dtype {}", static_cast<int>(dtype));
    }
  }

  void CheckPorts(std::string_view list, const std::vector<PlanPort>& ports) const {
    for (size_t i = 0; i < ports.size(); ++i) {
      std::string field = fmt::format("{}[{}]", list, i);
      CheckDType(field, ports[i].dtype);
      CheckDims(field, ports[i].dims, ports[i].strides);
    }
  }

  void CheckBuffers(std::string_view list, const std::vector<PlanBuffer>& buffers) const {
    for (size_t i = 0; i < buffers.size(); ++i) {
      std::string field = fmt::format("{}[{}]", list, i);
      CheckDim(field + ".bytes", buffers[i].bytes);
      if (list == "derived" && !buffers[i].bytes.is_static()) {
        Bad(field + ".bytes", "{} is symbolic, expected an integer", buffers[i].bytes.ToString());
      }
    }
  }

  void CheckCode(size_t i) const {
    const PlanCode& code = plan_.code[i];
    std::string field = fmt::format("code[{}]", i);
    if (!IsWord(code.arch)) Bad(field + ".arch", "`{}` is no name", code.arch);
    if (!IsWord(code.entry)) Bad(field + ".entry", "`{}` is no name", code.entry);
    if (code.binary.size == 0) Bad(field + ".binary", "is empty");
  }

  int StorageSize(StorageKind storage) const {
    switch (storage) {
      case StorageKind::kInput: return static_cast<int>(plan_.inputs.size());
      case StorageKind::kOutput: return static_cast<int>(plan_.outputs.size());
      case StorageKind::kArena: return static_cast<int>(plan_.arena.size());
      case StorageKind::kWeight: return static_cast<int>(plan_.weights.size());
      case StorageKind::kLiteral: return static_cast<int>(plan_.literals.size());
      case StorageKind::kDerived: return static_cast<int>(plan_.derived.size());
    }
    return 0;
  }

  void CheckTensor(size_t i) const {
    const PlanTensor& tensor = plan_.tensors[i];
    std::string field = fmt::format("tensors[{}]", i);
    int kind = static_cast<int>(tensor.storage);
    if (kind >= kNumStorageKinds) Bad(field + ".storage", "there is no storage kind {}", kind);
    int size = StorageSize(tensor.storage);
    if (tensor.index < 0 || tensor.index >= size) {
      Bad(field + ".index", "{} is outside the {} storages, which are {}", tensor.index,
          StorageKindName(tensor.storage), size);
    }
    CheckDType(field, tensor.dtype);
    CheckDim(field + ".offset", tensor.offset);
    CheckDims(field, tensor.dims, tensor.strides);
  }

  void CheckSteps(std::string_view list, const std::vector<Step>& steps) {
    bool prologue = list == "prologue";
    for (size_t i = 0; i < steps.size(); ++i) {
      const Step& step = steps[i];
      std::string field = fmt::format("{}[{}]", list, i);
      if (static_cast<int>(step.kind) >= kNumStepKinds) {
        Bad(field + ".kind", "there is no step kind {}", static_cast<int>(step.kind));
      }
      for (int tensor : step.inputs) CheckRead(field + ".inputs", tensor, prologue);
      for (int tensor : step.outputs) CheckWrite(field + ".outputs", tensor, prologue);
      if (!prologue) {
        for (int tensor : step.inputs) CheckAlive(field + ".inputs", tensor, i);
        for (int tensor : step.outputs) CheckAlive(field + ".outputs", tensor, i);
      }
      for (const auto& [name, attr] : step.attrs) CheckAttr(field + ".attrs", name, attr);
      CheckLaunch(field + ".attrs", step.attrs);
      if (step.kind == StepKind::kCopy) {
        CheckCopy(field, step);
      } else {
        CheckBody(field + ".body", step);
      }
    }
  }

  void CheckAttr(const std::string& field, const std::string& name, const Attr& attr) const {
    if (!IsWord(name)) Bad(field, "`{}` is no name", name);
    if (const Dim* dim = std::get_if<Dim>(&attr)) CheckDim(field, *dim);
    if (const Dims* dims = std::get_if<Dims>(&attr)) {
      for (const Dim& dim : *dims) CheckDim(field, dim);
    }
  }

  void CheckLaunch(const std::string& field, const Attrs& attrs) const {
    constexpr int kMaxBlock = 1024, kMaxSmem = 1 << 20;
    std::optional<StepLaunch> launch;
    try {
      launch = FindLaunch(attrs);
    } catch (const Error& error) {
      Bad(field, "{}", error.message());
    }
    if (!launch) return;
    if (launch->code >= static_cast<int>(plan_.code.size())) {
      Bad(field, "`code` is {}, outside code, which has {}", launch->code, plan_.code.size());
    }
    if (launch->grid.size() != 3) Bad(field, "`grid` has {} sizes, not 3", launch->grid.size());
    if (launch->block == 0 || launch->block > kMaxBlock) {
      Bad(field, "`block` is {}, expected 1 to {}", launch->block, kMaxBlock);
    }
    if (launch->smem > kMaxSmem) Bad(field, "`smem` is {}, above {}", launch->smem, kMaxSmem);
    for (const std::string& symbol : launch->symbols) {
      if (!symbols_.contains(symbol)) Bad(field, "symbol `{}` has no range", symbol);
    }
  }

  const PlanTensor& Tensor(const std::string& field, int tensor) const {
    if (tensor < 0 || tensor >= static_cast<int>(plan_.tensors.size())) {
      Bad(field, "{} is outside tensors, which has {}", tensor, plan_.tensors.size());
    }
    return plan_.tensors[tensor];
  }

  void CheckRead(const std::string& field, int index, bool prologue) const {
    const PlanTensor& tensor = Tensor(field, index);
    switch (tensor.storage) {
      case StorageKind::kInput:
        if (prologue) Bad(field, "tensors[{}] is not a constant", index);
        break;
      case StorageKind::kWeight:
      case StorageKind::kLiteral:
        if (prologue && !IsStatic(tensor.dims)) {
          Bad(field, "tensors[{}] has a symbolic size, before any is known", index);
        }
        break;
      default:
        if (!written_.contains({tensor.storage, tensor.index})) {
          Bad(field, "tensors[{}] is read before it is written", index);
        }
    }
    if (prologue) CheckStatic(field, tensor, index);
  }

  // The prologue runs once for all sizes.
  static void CheckStatic(const std::string& field, const PlanTensor& tensor, int index) {
    if (!IsStaticWindow(tensor)) Bad(field, "tensors[{}] is of symbolic size", index);
  }

  void CheckWrite(const std::string& field, int index, bool prologue) {
    const PlanTensor& tensor = Tensor(field, index);
    if (prologue) CheckStatic(field, tensor, index);
    bool writable =
        prologue ? tensor.storage == StorageKind::kDerived
                 : tensor.storage == StorageKind::kOutput || tensor.storage == StorageKind::kArena;
    if (!writable) {
      Bad(field, "tensors[{}] lies in {} storage, which it may not write", index,
          StorageKindName(tensor.storage));
    }
    bool empty = std::find(tensor.dims.begin(), tensor.dims.end(), Dim(0)) != tensor.dims.end();
    for (size_t i = 0; i < tensor.dims.size(); ++i) {
      if (tensor.strides[i] == Dim(0) && !(tensor.dims[i] == Dim(1)) && !empty) {
        Bad(field, "tensors[{}] is written and overlaps itself", index);
      }
    }
    written_.insert({tensor.storage, tensor.index});
  }

  void CheckAlive(const std::string& field, int index, size_t step) const {
    const PlanTensor& tensor = plan_.tensors[index];
    if (tensor.storage != StorageKind::kArena) return;
    const PlanBuffer& buffer = plan_.arena[tensor.index];
    if (static_cast<int>(step) < buffer.first_step || static_cast<int>(step) > buffer.last_step) {
      Bad(field, "arena[{}] lives during steps {} to {} only", tensor.index, buffer.first_step,
          buffer.last_step);
    }
  }

  void CheckCopy(const std::string& field, const Step& step) const {
    if (step.inputs.size() != 1 || step.outputs.size() != 1 || !step.body.empty()) {
      Bad(field, "a copy has one input, one output and no body");
    }
    const PlanTensor& from = plan_.tensors[step.inputs[0]];
    const PlanTensor& to = plan_.tensors[step.outputs[0]];
    if (from.dtype != to.dtype || from.dims != to.dims) {
      Bad(field, "copies {}{} to {}{}", DTypeName(from.dtype), DimsToString(from.dims),
          DTypeName(to.dtype), DimsToString(to.dims));
    }
  }

  void CheckBody(const std::string& field, const Step& step) const {
    if (!step.body.ends_with('\n')) Bad(field, "does not end with a line end");
    Graph body;
    try {
      body = ParseGraph(step.body);
    } catch (const Error& error) {
      Bad(field, "{}", error.message());
    }
    for (ValueId id : body.constants()) {
      if (body.value(id).kind == ValueKind::kWeight) Bad(field, "has a weight");
    }
    CheckOperands(field, "inputs", body, body.inputs(), step.inputs);
    CheckOperands(field, "outputs", body, body.outputs(), step.outputs);
  }

  void CheckOperands(const std::string& field, std::string_view list, const Graph& body,
                     std::span<const ValueId> values, const std::vector<int>& tensors) const {
    if (values.size() != tensors.size()) {
      Bad(field, "has {} {} for the step's {}", values.size(), list, tensors.size());
    }
    for (size_t i = 0; i < values.size(); ++i) {
      const TensorType& type = body.type(values[i]);
      const PlanTensor& tensor = plan_.tensors[tensors[i]];
      if (type.dtype != tensor.dtype || type.dims != tensor.dims) {
        Bad(field, "{}[{}] is {}, the step's tensors[{}] is {}{}", list, i, type.ToString(),
            tensors[i], DTypeName(tensor.dtype), DimsToString(tensor.dims));
      }
    }
  }

  const Plan& plan_;
  std::set<std::string> symbols_;
  std::set<std::pair<StorageKind, int>> written_;
};

bool HasNegativeSize(const Plan& plan, const SymbolValues& symbols) {
  auto has = [&](const Dims& dims) {
    return std::any_of(dims.begin(), dims.end(),
                       [&](const Dim& dim) { return dim.Eval(symbols) < 0; });
  };
  auto port_has = [&](const PlanPort& port) { return has(port.dims); };
  return std::any_of(plan.inputs.begin(), plan.inputs.end(), port_has) ||
         std::any_of(plan.outputs.begin(), plan.outputs.end(), port_has) ||
         std::any_of(plan.tensors.begin(), plan.tensors.end(),
                     [&](const PlanTensor& tensor) { return has(tensor.dims); });
}

// What SizeChecker finds; every error of it is one of the plan.
std::string FindTooSmall(const Plan& plan, const SymbolValues& symbols) {
  try {
    return SizeChecker(plan, symbols).Run();
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::kCorruptFile) throw;
    Fail(ErrorKind::kCorruptFile, "plan sizes: {}", error.message());
  }
}

}  // namespace

std::string_view StepKindName(StepKind kind) { return kStepKindNames[static_cast<int>(kind)]; }

std::string_view StorageKindName(StorageKind kind) {
  return kStorageKindNames[static_cast<int>(kind)];
}

void CheckPlan(const Plan& plan) {
  // An unbounded range is no reason to reject a plan, though at its end tensors would not fit; nor
  // is a range that leads beyond the end of a constant.
  constexpr int64_t kProbe = 256;
  PlanChecker(plan).Run();
  if (plan.symbols.empty()) return CheckPlanSizes(plan, {});
  SymbolValues smallest, larger;
  for (const SymbolRange& symbol : plan.symbols) {
    smallest[symbol.name] = symbol.min;
    larger[symbol.name] = std::min(symbol.max, std::max(symbol.min, kProbe));
  }
  // Ranges do not tell how symbols depend on each other: where a size would be negative, no call
  // can have these symbols.
  for (const SymbolValues& symbols : {smallest, larger}) {
    if (!HasNegativeSize(plan, symbols)) FindTooSmall(plan, symbols);
  }
}

void CheckPlanSizes(const Plan& plan, const SymbolValues& symbols) {
  std::string too_small = FindTooSmall(plan, symbols);
  if (too_small.empty()) return;
  std::string values;
  for (const auto& [name, value] : symbols) {
    values += fmt::format("{}{} = {}", values.empty() ? "" : ", ", name, value);
  }
  Fail(ErrorKind::kInvalidArgument, "plan @{} cannot run with {}: {}", plan.name, values,
       too_small);
}

}  // namespace stator
