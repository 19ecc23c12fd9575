#include "import/conversion.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "import/overloads.h"
#include "import/promote.h"
#include "import/schema/sympy.h"
#include "ir/op_def.h"

namespace stator {

using Kind = schema::Argument::Kind;

// ---- arguments

const schema::Argument* Conversion::Find(std::string_view name) const {
  for (const schema::NamedArgument& input : node_.inputs) {
    if (input.name == name) return input.arg.kind == Kind::kNone ? nullptr : &input.arg;
  }
  return nullptr;
}

const schema::Argument& Conversion::Get(std::string_view name) const {
  const schema::Argument* arg = Find(name);
  if (arg == nullptr) Reject("argument `{}` is missing", name);
  return *arg;
}

bool Conversion::Has(std::string_view name) const { return Find(name) != nullptr; }

bool Conversion::IsTensor(std::string_view name) const {
  const schema::Argument* arg = Find(name);
  return arg != nullptr && arg->kind == Kind::kTensor;
}

ValueId Conversion::Tensor(std::string_view name) const {
  const schema::Argument& arg = Get(name);
  if (arg.kind != Kind::kTensor) Reject("argument `{}` is no tensor", name);
  return Read(arg.name);
}

ValueId Conversion::Read(const std::string& tensor) const {
  auto it = wide_tensors_.find(tensor);
  return it != wide_tensors_.end() ? it->second : tensors_.at(tensor);
}

void Conversion::ComputeWide() {
  for (const auto& [name, value] : tensors_) {
    DType dtype = type(value).dtype;
    if (dtype == DType::kFloat16 || dtype == DType::kBFloat16) {
      wide_tensors_[name] = Cast(value, DType::kFloat32);
    }
  }
}

ValueId Conversion::FindTensor(std::string_view name) const {
  return Find(name) == nullptr ? ValueId{} : Tensor(name);
}

std::vector<ValueId> Conversion::Tensors(std::string_view name) const {
  const schema::Argument& arg = Get(name);
  if (arg.kind != Kind::kTensors) Reject("argument `{}` is no list of tensors", name);
  std::vector<ValueId> values;
  for (const std::string& tensor : arg.names) {
    values.push_back(tensor.empty() ? ValueId{} : Read(tensor));
  }
  return values;
}

Dim Conversion::GetSize(const schema::Argument::Size& size, std::string_view name) const {
  if (size.name.empty()) {
    if (std::abs(static_cast<double>(size.integer)) > static_cast<double>(kMaxSize)) {
      Reject("argument `{}` has the value {}", name, size.integer);
    }
    return size.integer;
  }
  auto it = state_.sizes.find(size.name);
  if (it == state_.sizes.end()) Reject("the size `{}` is not known when compiling", size.name);
  return it->second;
}

Dim Conversion::Size(std::string_view name, std::optional<Dim> fallback) const {
  const schema::Argument* arg = Find(name);
  if (arg == nullptr && fallback) return *fallback;
  if (arg == nullptr) Get(name);
  if (arg->kind == Kind::kInt) return GetSize({.integer = arg->integer, .name = {}}, name);
  if (arg->kind == Kind::kSymInt) return GetSize(arg->sizes[0], name);
  Reject("argument `{}` is no integer", name);
}

Dim Conversion::Bound(std::string_view name, const Dim& fallback) const {
  const schema::Argument* arg = Find(name);
  if (arg != nullptr && arg->kind == Kind::kInt)
    return std::clamp(arg->integer, -kMaxSize, kMaxSize);
  return Size(name, fallback);
}

Dims Conversion::Sizes(std::string_view name) const {
  const schema::Argument& arg = Get(name);
  if (arg.kind == Kind::kInt || arg.kind == Kind::kSymInt) return {Size(name)};
  Require(arg.kind == Kind::kInts || arg.kind == Kind::kSymInts || arg.kind == Kind::kTensors,
          "a list of integers is expected");
  Dims sizes;
  for (const schema::Argument::Size& size : arg.sizes) sizes.push_back(GetSize(size, name));
  Require(arg.names.empty(), "a list of integers is expected");
  return sizes;
}

int64_t Conversion::Int(std::string_view name, std::optional<int64_t> fallback) const {
  Dim size = Size(name, fallback ? std::optional<Dim>(*fallback) : std::nullopt);
  if (!size.is_static())
    Reject("argument `{}` depends on the symbolic size {}", name, size.ToString());
  return size.value();
}

std::vector<int64_t> Conversion::Ints(std::string_view name) const {
  Dims sizes = Sizes(name);
  if (!IsStatic(sizes)) Reject("argument `{}` depends on symbolic sizes", name);
  return EvalDims(sizes, {});
}

double Conversion::Float(std::string_view name, std::optional<double> fallback) const {
  Scalar scalar = GetScalar(name, fallback);
  if (!scalar.is_static()) Reject("argument `{}` depends on a symbolic size", name);
  return scalar.value();
}

std::vector<double> Conversion::Floats(std::string_view name) const {
  const schema::Argument& arg = Get(name);
  if (arg.kind != Kind::kFloats) Reject("argument `{}` is no list of numbers", name);
  return arg.numbers;
}

bool Conversion::Bool(std::string_view name, std::optional<bool> fallback) const {
  const schema::Argument* arg = Find(name);
  if (arg == nullptr && fallback) return *fallback;
  if (arg == nullptr) Get(name);
  if (arg->kind != Kind::kBool) Reject("argument `{}` is no boolean known when compiling", name);
  return arg->integer != 0;
}

std::string Conversion::String(std::string_view name, std::string_view fallback) const {
  const schema::Argument* arg = Find(name);
  if (arg == nullptr) return std::string(fallback);
  if (arg->kind != Kind::kString) Reject("argument `{}` is no string", name);
  return arg->name;
}

Scalar Conversion::GetScalar(std::string_view name, std::optional<double> fallback) const {
  const schema::Argument* arg = Find(name);
  if (arg == nullptr && fallback) {
    return {.kind = Scalar::Kind::kFloat, .number = *fallback, .size = {}};
  }
  if (arg == nullptr) Get(name);
  switch (arg->kind) {
    case Kind::kBool:
      return {.kind = Scalar::Kind::kBool, .number = static_cast<double>(arg->integer), .size = {}};
    case Kind::kFloat: return {.kind = Scalar::Kind::kFloat, .number = arg->number, .size = {}};
    case Kind::kInt:
      // Any 64-bit integer is a valid number; only sizes are bounded.
      return {.kind = Scalar::Kind::kInt, .number = 0, .size = Dim(arg->integer)};
    case Kind::kSymInt: return {.kind = Scalar::Kind::kInt, .number = 0, .size = Size(name)};
    default: Reject("argument `{}` is no number known when compiling", name);
  }
}

std::optional<DType> Conversion::FindDTypeArgument(std::string_view name) const {
  const schema::Argument* arg = Find(name);
  if (arg == nullptr) return std::nullopt;
  if (arg->kind != Kind::kScalarType) Reject("argument `{}` is no dtype", name);
  std::optional<DType> dtype = schema::FindScalarType(static_cast<int>(arg->integer));
  if (!dtype) Reject("dtype {}", schema::ScalarTypeName(static_cast<int>(arg->integer)));
  return dtype;
}

int Conversion::DimIndex(std::string_view name, int rank, std::optional<int64_t> fallback) const {
  return WrapDim(Int(name, fallback), rank);
}

// ---- building

NodeId Conversion::AddNode(std::string_view op, std::vector<ValueId> inputs, Attrs attrs) {
  return state_.graph.AddNode(GetOp(op), std::move(inputs), std::move(attrs), origin_);
}

ValueId Conversion::Add(std::string_view op, std::vector<ValueId> inputs, Attrs attrs) {
  return graph().node(AddNode(op, std::move(inputs), std::move(attrs))).outputs[0];
}

ValueId Conversion::Literal(DType dtype, const Scalar& scalar) {
  if (!scalar.is_static()) {
    // A size in a tensor: the last element of arange(size + 1). What may be below 0 is a
    // difference.
    auto last = [&](const Dim& size, double step) {
      ValueId range =
          Add("arange", {},
              {{"dtype", DType::kInt64}, {"start", 0.0}, {"step", step}, {"size", size + Dim(1)}});
      return Reshape(Slice(range, 0, size, size + Dim(1)), {});
    };
    const Dim& size = scalar.size;
    if (size.ToString().find('-') == std::string::npos) return Cast(last(size, 1), dtype);
    return Cast(Add("add", {last(Max(size, 0), 1), last(Max(Dim(0) - size, 0), -1)}), dtype);
  }
  bool integer = scalar.kind == Scalar::Kind::kInt;
  std::string key =
      integer ? scalar.size.ToString() : fmt::format("f{}", FloatToString(scalar.number));
  ValueId& id = state_.scalars[{dtype, key}];
  if (id.valid()) return id;
  if (!IsFloat(dtype) && dtype != DType::kBool) {
    // Beyond 2^53 a double is not exact, and beyond the dtype torch raises.
    int64_t value = integer ? scalar.size.value() : 0;
    if (!integer) {
      bool exact = std::abs(scalar.number) < 0x1p62 && std::trunc(scalar.number) == scalar.number;
      Require(exact, "a fractional or infinite number cannot become an integer tensor");
      value = static_cast<int64_t>(scalar.number);
    }
    std::vector<std::byte> bytes(DTypeSize(dtype));
    DispatchDType(dtype, [&](auto zero) {
      using T = decltype(zero);
      T element{};
      if constexpr (std::is_integral_v<T>) {
        element = static_cast<T>(value);
        Require(static_cast<int64_t>(element) == value, "a number does not fit its dtype");
      }
      std::memcpy(bytes.data(), &element, sizeof(T));
    });
    id = graph().AddLiteral({.dtype = dtype, .dims = {}, .order = {}},
                            MakeConstantData(std::move(bytes)));
  } else {
    id = AddScalar(graph(), dtype, scalar.value());
  }
  return id;
}

ValueId Conversion::Literal(DType dtype, double value) {
  return Literal(dtype, Scalar{.kind = Scalar::Kind::kFloat, .number = value, .size = {}});
}

ValueId Conversion::Cast(ValueId value, DType dtype) {
  return type(value).dtype == dtype ? value : Add("cast", {value}, {{"dtype", dtype}});
}

ValueId Conversion::Reshape(ValueId value, const Dims& dims) {
  return type(value).dims == dims ? value : Add("reshape", {value}, {{"dims", dims}});
}

ValueId Conversion::Permute(ValueId value, const std::vector<int>& perm) {
  return std::is_sorted(perm.begin(), perm.end())
             ? value
             : Add("permute", {value}, {{"perm", ToDims(perm)}});
}

ValueId Conversion::Transpose(ValueId value, int dim0, int dim1) {
  std::vector<int> perm = IdentityPerm(type(value).rank());
  std::swap(perm.at(dim0), perm.at(dim1));
  return Permute(value, perm);
}

ValueId Conversion::Expand(ValueId value, const Dims& dims) {
  return type(value).dims == dims ? value : Add("expand", {value}, {{"dims", dims}});
}

ValueId Conversion::Slice(ValueId value, int dim, Dim start, Dim end, int64_t step) {
  if (start == Dim(0) && end == type(value).dims.at(dim) && step == 1) return value;
  return Add("slice", {value},
             {{"dim", Dim(dim)}, {"start", start}, {"end", end}, {"step", Dim(step)}});
}

ValueId Conversion::Unsqueeze(ValueId value, int dim) {
  Dims dims = type(value).dims;
  dims.insert(dims.begin() + dim, Dim(1));
  return Reshape(value, dims);
}

ValueId Conversion::Squeeze(ValueId value, int dim) {
  Dims dims = type(value).dims;
  dims.erase(dims.begin() + dim);
  return Reshape(value, dims);
}

ValueId Conversion::Full(Dims dims, DType dtype, const Scalar& scalar) {
  return Expand(Literal(dtype, scalar), dims);
}

// ---- dims and dtypes

int WrapDim(int64_t dim, int rank) {
  int bound = std::max(rank, 1);  // torch lets a 0-d tensor be addressed as 1-d
  if (dim < -bound || dim >= bound) {
    Fail(ErrorKind::kUnsupported, "dim {} of a tensor of rank {}", dim, rank);
  }
  return static_cast<int>(dim < 0 ? dim + bound : dim);
}

std::vector<int> IdentityPerm(int rank) {
  std::vector<int> perm(rank);
  for (int i = 0; i < rank; ++i) perm[i] = i;
  return perm;
}

DType WidestDType(const Conversion& c, std::initializer_list<ValueId> values) {
  std::optional<DType> widest;
  for (ValueId value : values) {
    if (!value.valid()) continue;
    DType dtype = c.type(value).dtype;
    widest = widest ? PromoteTypes(*widest, dtype) : dtype;
  }
  return widest.value_or(DType::kFloat32);
}

Dims ToDims(const std::vector<int64_t>& values) { return Dims(values.begin(), values.end()); }
Dims ToDims(const std::vector<int>& values) { return Dims(values.begin(), values.end()); }

namespace {

using ConverterTable = std::map<std::string_view, const Converter*>;

const ConverterTable& GetConverters() {
  static const ConverterTable* table = [] {
    auto* made = new ConverterTable;
    for (std::span<const Converter> rows :
         {ViewConverters(), PointwiseConverters(), ReductionConverters(), NormConverters(),
          GemmConverters(), AttentionConverters(), WindowConverters(), IndexConverters(),
          OrderConverters(), CreationConverters(), CompositeConverters(), RecurrentConverters()}) {
      for (const Converter& row : rows) {
        bool inserted = made->emplace(row.target, &row).second;
        STATOR_CHECK(inserted, "two converters for {}", row.target);
      }
    }
    return made;
  }();
  return *table;
}

}  // namespace

const Converter* FindConverter(std::string_view target) {
  auto it = GetConverters().find(target);
  return it == GetConverters().end() ? nullptr : it->second;
}

std::map<std::string, std::string> ListOverloads() {
  std::map<std::string, std::string> overloads;
  for (const OpDef* op : AllOps()) {
    for (std::string_view overload : op->aten) overloads.emplace(overload, "");
  }
  for (const auto& [target, row] : GetConverters()) {
    overloads.emplace(target, row->convert == nullptr ? row->op : "");
  }
  return overloads;
}

}  // namespace stator
