// The file form of a plan: docs/plan_format.md is its description, field by field.
//
// In:  a plan, or bytes that may be hostile.
// Out: equal bytes for equal plans; or a plan that passes CheckPlan, its constants pointing into
//      the bytes.
// Invariant: reading allocates in proportion to the bytes it is given, and follows no offset or
// size that it has not checked against them.

#include <cstring>
#include <new>

#include "base/error.h"
#include "base/hash.h"
#include "plan/plan.h"
#include "plan/wire.h"

namespace stator {
namespace {

// ---- layout of the file

constexpr char kMagic[8] = {'S', 'T', 'A', 'T', 'P', 'L', 'A', 'N'};
constexpr size_t kAlignment = 64;  // of each constant, and of the header

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t message_size;  // bytes of the message after the header
  uint64_t file_size;
  uint64_t checksum;  // XXH3-64 of everything after the header
  uint8_t reserved[32];
};
static_assert(sizeof(Header) == kAlignment);

size_t AlignUp(size_t size) { return (size + kAlignment - 1) / kAlignment * kAlignment; }

// Field numbers of the messages. Part of the plan format: append only.
enum PlanField {
  kName = 1,
  kTarget,
  kSymbol,
  kInput,
  kOutput,
  kWeight,
  kLiteral,
  kDerived,
  kArena,
  kTensor,
  kPrologue,
  kStep,
  kCode,
  kAuxStreams
};
enum SymbolField { kSymbolName = 1, kSymbolMin, kSymbolMax };
enum PortField { kPortName = 1, kPortDType, kPortDim, kPortStride };
enum ConstantField {
  kConstantName = 1,
  kConstantDType,
  kConstantDim,
  kConstantOffset,
  kConstantSize
};
enum CodeField { kCodeArch = 1, kCodeEntry, kCodeOffset, kCodeSize };
enum BufferField { kBufferBytes = 1, kBufferFirstStep, kBufferLastStep };
enum TensorField {
  kTensorStorage = 1,
  kTensorIndex,
  kTensorOffset,
  kTensorDType,
  kTensorDim,
  kTensorStride
};
enum StepField { kStepKind = 1, kStepInput, kStepOutput, kStepAttr, kStepBody, kStepOrigin };
enum AttrField {
  kAttrName = 1,
  kAttrBool,
  kAttrInt,
  kAttrFloat,
  kAttrString,
  kAttrInts,
  kAttrDType
};
enum IntsField { kIntsDim = 1 };

// ---- writing

void WriteDims(WireWriter& out, int field, const Dims& dims) {
  for (const Dim& dim : dims) out.AddDim(field, dim);
}

void WritePort(WireWriter& out, const PlanPort& port) {
  out.AddText(kPortName, port.name);
  out.AddInt(kPortDType, static_cast<int>(port.dtype));
  WriteDims(out, kPortDim, port.dims);
  WriteDims(out, kPortStride, port.strides);
}

void WriteBuffer(WireWriter& out, const PlanBuffer& buffer) {
  out.AddDim(kBufferBytes, buffer.bytes);
  out.AddInt(kBufferFirstStep, buffer.first_step);
  out.AddInt(kBufferLastStep, buffer.last_step);
}

void WriteTensor(WireWriter& out, const PlanTensor& tensor) {
  out.AddInt(kTensorStorage, static_cast<int>(tensor.storage));
  out.AddInt(kTensorIndex, tensor.index);
  out.AddDim(kTensorOffset, tensor.offset);
  out.AddInt(kTensorDType, static_cast<int>(tensor.dtype));
  WriteDims(out, kTensorDim, tensor.dims);
  WriteDims(out, kTensorStride, tensor.strides);
}

void WriteAttr(WireWriter& out, const std::string& name, const Attr& attr) {
  out.AddText(kAttrName, name);
  if (const bool* value = std::get_if<bool>(&attr)) out.AddInt(kAttrBool, *value);
  if (const Dim* value = std::get_if<Dim>(&attr)) out.AddDim(kAttrInt, *value);
  if (const double* value = std::get_if<double>(&attr)) {
    out.AddInt(kAttrFloat, std::bit_cast<int64_t>(*value));
  }
  if (const std::string* value = std::get_if<std::string>(&attr)) {
    out.AddText(kAttrString, *value);
  }
  if (const Dims* value = std::get_if<Dims>(&attr)) {
    out.AddMessage(kAttrInts, [&](WireWriter& ints) { WriteDims(ints, kIntsDim, *value); });
  }
  if (const DType* value = std::get_if<DType>(&attr)) {
    out.AddInt(kAttrDType, static_cast<int>(*value));
  }
}

void WriteStep(WireWriter& out, const Step& step) {
  out.AddInt(kStepKind, static_cast<int>(step.kind));
  for (int tensor : step.inputs) out.AddInt(kStepInput, tensor);
  for (int tensor : step.outputs) out.AddInt(kStepOutput, tensor);
  for (const auto& [name, attr] : step.attrs) {
    out.AddMessage(kStepAttr, [&](WireWriter& message) { WriteAttr(message, name, attr); });
  }
  out.AddText(kStepBody, step.body);
  out.AddText(kStepOrigin, step.origin);
}

// Writes the message; constants with data get offsets from the start of the data that follows it,
// and are appended to `data` in the order in which they lie there.
class PlanWriter {
 public:
  explicit PlanWriter(const Plan& plan) : plan_(plan) {}

  std::vector<std::byte> Write() {
    WireWriter out;
    out.AddText(kName, plan_.name);
    out.AddText(kTarget, plan_.target);
    if (plan_.aux_streams > 0) out.AddInt(kAuxStreams, plan_.aux_streams);
    for (const SymbolRange& symbol : plan_.symbols) {
      out.AddMessage(kSymbol, [&](WireWriter& message) {
        message.AddText(kSymbolName, symbol.name);
        message.AddInt(kSymbolMin, symbol.min);
        message.AddInt(kSymbolMax, symbol.max);
      });
    }
    AddMessages(out, kInput, plan_.inputs, WritePort);
    AddMessages(out, kOutput, plan_.outputs, WritePort);
    AddMessages(out, kWeight, plan_.weights, [this](WireWriter& message, const PlanWeight& weight) {
      message.AddText(kConstantName, weight.name);
      message.AddInt(kConstantDType, static_cast<int>(weight.dtype));
      for (int64_t dim : weight.dims) message.AddInt(kConstantDim, dim);
      WriteData(message, weight.data);
    });
    AddMessages(out, kLiteral, plan_.literals,
                [this](WireWriter& message, const ConstantData& data) {
                  RequireData(data, "long literals");
                  WriteData(message, data);
                });
    AddMessages(out, kDerived, plan_.derived, WriteBuffer);
    AddMessages(out, kArena, plan_.arena, WriteBuffer);
    AddMessages(out, kTensor, plan_.tensors, WriteTensor);
    AddMessages(out, kPrologue, plan_.prologue, WriteStep);
    AddMessages(out, kStep, plan_.steps, WriteStep);
    AddMessages(out, kCode, plan_.code, [this](WireWriter& message, const PlanCode& code) {
      RequireData(code.binary, "code");
      message.AddText(kCodeArch, code.arch);
      message.AddText(kCodeEntry, code.entry);
      WriteData(message, code.binary, kCodeOffset, kCodeSize);
    });
    return Assemble(out.bytes());
  }

 private:
  template <typename T, typename Fn>
  void AddMessages(WireWriter& out, int field, const std::vector<T>& items, Fn&& write) {
    for (const T& item : items) {
      out.AddMessage(field, [&](WireWriter& message) { write(message, item); });
    }
  }

  static void RequireData(const ConstantData& data, std::string_view what) {
    if (data.bytes != nullptr || data.size == 0) return;
    Fail(ErrorKind::kInvalidArgument, "a plan read from text lacks its {} and cannot be saved",
         what);
  }

  void WriteData(WireWriter& out, const ConstantData& data, int offset_field = kConstantOffset,
                 int size_field = kConstantSize) {
    if (data.bytes == nullptr) return;
    STATOR_CHECK(data.device == ConstantData::kHost, "a constant of a file lies on a device");
    out.AddInt(offset_field, static_cast<int64_t>(data_size_));
    out.AddInt(size_field, static_cast<int64_t>(data.size));
    data_.push_back(&data);
    data_size_ = AlignUp(data_size_ + data.size);
  }

  std::vector<std::byte> Assemble(std::span<const std::byte> message) const {
    size_t data_start = AlignUp(sizeof(Header) + message.size());
    std::vector<std::byte> file(data_start + data_size_);
    std::memcpy(file.data() + sizeof(Header), message.data(), message.size());
    size_t offset = data_start;
    for (const ConstantData* data : data_) {
      if (data->size > 0) std::memcpy(file.data() + offset, data->bytes, data->size);
      offset = AlignUp(offset + data->size);
    }
    STATOR_CHECK(message.size() <= UINT32_MAX, "a plan of {} bytes without constants",
                 message.size());
    Header header{.version = kPlanVersion,
                  .message_size = static_cast<uint32_t>(message.size()),
                  .file_size = file.size(),
                  .checksum = Hash64(file.data() + sizeof(Header), file.size() - sizeof(Header)),
                  .reserved = {}};
    std::memcpy(header.magic, kMagic, sizeof(kMagic));
    std::memcpy(file.data(), &header, sizeof(header));
    return file;
  }

  const Plan& plan_;
  std::vector<const ConstantData*> data_;
  size_t data_size_ = 0;
};

// ---- reading

DType ReadDType(WireReader& in) { return static_cast<DType>(in.Int(0, kNumDTypes - 1)); }

PlanPort ReadPort(WireReader in) {
  PlanPort port;
  while (in.Next()) {
    switch (in.field()) {
      case kPortName: port.name = in.Text(); break;
      case kPortDType: port.dtype = ReadDType(in); break;
      case kPortDim: port.dims.push_back(in.OneDim()); break;
      case kPortStride: port.strides.push_back(in.OneDim()); break;
      default: in.BadField();
    }
  }
  return port;
}

SymbolRange ReadSymbol(WireReader in) {
  SymbolRange symbol;
  while (in.Next()) {
    switch (in.field()) {
      case kSymbolName: symbol.name = in.Text(); break;
      case kSymbolMin: symbol.min = in.Int(0, INT64_MAX); break;
      case kSymbolMax: symbol.max = in.Int(0, INT64_MAX); break;
      default: in.BadField();
    }
  }
  return symbol;
}

PlanBuffer ReadBuffer(WireReader in) {
  PlanBuffer buffer;
  while (in.Next()) {
    switch (in.field()) {
      case kBufferBytes: buffer.bytes = in.OneDim(); break;
      case kBufferFirstStep: buffer.first_step = in.SmallInt(); break;
      case kBufferLastStep: buffer.last_step = in.SmallInt(); break;
      default: in.BadField();
    }
  }
  return buffer;
}

PlanTensor ReadTensor(WireReader in) {
  PlanTensor tensor;
  while (in.Next()) {
    switch (in.field()) {
      case kTensorStorage:
        tensor.storage = static_cast<StorageKind>(in.Int(0, kNumStorageKinds - 1));
        break;
      case kTensorIndex: tensor.index = in.SmallInt(); break;
      case kTensorOffset: tensor.offset = in.OneDim(); break;
      case kTensorDType: tensor.dtype = ReadDType(in); break;
      case kTensorDim: tensor.dims.push_back(in.OneDim()); break;
      case kTensorStride: tensor.strides.push_back(in.OneDim()); break;
      default: in.BadField();
    }
  }
  return tensor;
}

Dims ReadInts(WireReader in) {
  Dims dims;
  while (in.Next()) {
    if (in.field() != kIntsDim) in.BadField();
    dims.push_back(in.OneDim());
  }
  return dims;
}

void ReadAttr(WireReader in, Attrs& attrs) {
  std::string name;
  std::optional<Attr> attr;
  while (in.Next()) {
    switch (in.field()) {
      case kAttrName: name = in.Text(); break;
      case kAttrBool: attr = in.Int(0, 1) == 1; break;
      case kAttrInt: attr = in.OneDim(); break;
      case kAttrFloat: attr = std::bit_cast<double>(in.Int(INT64_MIN, INT64_MAX)); break;
      case kAttrString: attr = std::string(in.Text()); break;
      case kAttrInts: attr = ReadInts(in.Message()); break;
      case kAttrDType: attr = ReadDType(in); break;
      default: in.BadField();
    }
  }
  if (!attr) in.Bad("an attribute without value");
  attrs.Set(name, std::move(*attr));
}

Step ReadStep(WireReader in) {
  Step step;
  while (in.Next()) {
    switch (in.field()) {
      case kStepKind: step.kind = static_cast<StepKind>(in.Int(0, kNumStepKinds - 1)); break;
      case kStepInput: step.inputs.push_back(in.SmallInt()); break;
      case kStepOutput: step.outputs.push_back(in.SmallInt()); break;
      case kStepAttr: ReadAttr(in.Message(), step.attrs); break;
      case kStepBody: step.body = in.Text(); break;
      case kStepOrigin: step.origin = in.Text(); break;
      default: in.BadField();
    }
  }
  return step;
}

class PlanReader {
 public:
  PlanReader(std::span<const std::byte> data, std::shared_ptr<const void> owner)
      : data_(data), owner_(std::move(owner)) {}

  Plan Read(WireReader in) {
    Plan plan;
    while (in.Next()) {
      switch (in.field()) {
        case kName: plan.name = in.Text(); break;
        case kTarget: plan.target = in.Text(); break;
        case kAuxStreams: plan.aux_streams = in.SmallInt(); break;
        case kSymbol: plan.symbols.push_back(ReadSymbol(in.Message())); break;
        case kInput: plan.inputs.push_back(ReadPort(in.Message())); break;
        case kOutput: plan.outputs.push_back(ReadPort(in.Message())); break;
        case kWeight: plan.weights.push_back(ReadConstant(in.Message())); break;
        case kLiteral: plan.literals.push_back(ReadConstant(in.Message()).data); break;
        case kDerived: plan.derived.push_back(ReadBuffer(in.Message())); break;
        case kArena: plan.arena.push_back(ReadBuffer(in.Message())); break;
        case kTensor: plan.tensors.push_back(ReadTensor(in.Message())); break;
        case kPrologue: plan.prologue.push_back(ReadStep(in.Message())); break;
        case kStep: plan.steps.push_back(ReadStep(in.Message())); break;
        case kCode: plan.code.push_back(ReadCode(in.Message())); break;
        default: in.BadField();
      }
    }
    return plan;
  }

 private:
  PlanWeight ReadConstant(WireReader in) {
    PlanWeight weight;
    std::optional<uint64_t> offset;
    uint64_t size = 0;
    while (in.Next()) {
      switch (in.field()) {
        case kConstantName: weight.name = in.Text(); break;
        case kConstantDType: weight.dtype = ReadDType(in); break;
        case kConstantDim: weight.dims.push_back(in.Int(0, INT64_MAX)); break;
        case kConstantOffset: offset = in.Int(0, INT64_MAX); break;
        case kConstantSize: size = in.Int(0, INT64_MAX); break;
        default: in.BadField();
      }
    }
    if (offset) weight.data = GetData(in, *offset, size);
    return weight;
  }

  PlanCode ReadCode(WireReader in) {
    PlanCode code;
    std::optional<uint64_t> offset;
    uint64_t size = 0;
    while (in.Next()) {
      switch (in.field()) {
        case kCodeArch: code.arch = in.Text(); break;
        case kCodeEntry: code.entry = in.Text(); break;
        case kCodeOffset: offset = in.Int(0, INT64_MAX); break;
        case kCodeSize: size = in.Int(0, INT64_MAX); break;
        default: in.BadField();
      }
    }
    if (!offset) in.Bad("code without its bytes");
    code.binary = GetData(in, *offset, size);
    return code;
  }

  ConstantData GetData(const WireReader& in, uint64_t offset, uint64_t size) const {
    if (offset % kAlignment != 0 || offset > data_.size() || size > data_.size() - offset) {
      in.Bad(fmt::format("constant data at {} of {} bytes, outside the {} bytes of data", offset,
                         size, data_.size()));
    }
    return {.bytes = data_.data() + offset, .size = size, .owner = owner_};
  }

  std::span<const std::byte> data_;
  std::shared_ptr<const void> owner_;
};

Header ReadHeader(std::span<const std::byte> bytes) {
  Header header{};
  if (bytes.size() < sizeof(header)) {
    Fail(ErrorKind::kCorruptFile, "plan file: {} bytes, expected at least {}", bytes.size(),
         sizeof(header));
  }
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0) {
    Fail(ErrorKind::kCorruptFile,
         "plan file: does not start with `STATPLAN`; expected a plan that "
         "`stator compile` or torch_stator.save wrote");
  }
  if (header.version > kPlanVersion) {
    Fail(ErrorKind::kVersionMismatch,
         "plan file: format version {}, this build reads up to {}; compile the model again, or "
         "update stator",
         header.version, kPlanVersion);
  }
  if (header.version == 0) Fail(ErrorKind::kCorruptFile, "plan file: format version 0");
  if (header.file_size != bytes.size()) {
    Fail(ErrorKind::kCorruptFile, "plan file: {} bytes, its header says {}", bytes.size(),
         header.file_size);
  }
  if (header.message_size > bytes.size() - sizeof(header)) {
    Fail(ErrorKind::kCorruptFile, "plan file: a message of {} bytes in a file of {}",
         header.message_size, bytes.size());
  }
  std::span<const std::byte> content = bytes.subspan(sizeof(header));
  if (Hash64(content.data(), content.size()) != header.checksum) {
    Fail(ErrorKind::kCorruptFile, "plan file: the checksum does not match its content");
  }
  return header;
}

// A copy at an aligned address, for bytes that do not lie at one.
std::shared_ptr<const std::byte> CopyAligned(std::span<const std::byte> bytes) {
  constexpr auto kAlign = std::align_val_t{kAlignment};
  auto* copy = static_cast<std::byte*>(::operator new(bytes.size(), kAlign));
  std::memcpy(copy, bytes.data(), bytes.size());
  return {copy, [](std::byte* data) { ::operator delete(data, kAlign); }};
}

}  // namespace

std::vector<std::byte> PlanToBytes(const Plan& plan) { return PlanWriter(plan).Write(); }

Plan PlanFromBytes(std::span<const std::byte> bytes, std::shared_ptr<const void> owner) {
  Header header = ReadHeader(bytes);
  size_t data_start = std::min(AlignUp(sizeof(Header) + header.message_size), bytes.size());
  std::span<const std::byte> data = bytes.subspan(data_start);
  if (!data.empty() && reinterpret_cast<uintptr_t>(data.data()) % kAlignment != 0) {
    std::shared_ptr<const std::byte> copy = CopyAligned(data);
    data = {copy.get(), data.size()};
    owner = copy;
  }
  Plan plan = PlanReader(data, std::move(owner))
                  .Read(WireReader(bytes.subspan(sizeof(Header), header.message_size)));
  CheckPlan(plan);
  return plan;
}

}  // namespace stator
