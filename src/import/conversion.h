// One FX node on its way to ops of our table: its arguments, and what a converter builds with.
//
// A converter reads arguments by their names in the ATen schema, adds nodes, and returns one value
// per tensor output. It raises Unsupported or InvalidArgument (Reject, or a type rule) when it
// cannot express the node exactly; the importer then drops what it added and leaves the node to
// torch with that message as the reason.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "import/schema/schema.h"
#include "ir/graph.h"

namespace stator {

// A Python number. A sym_int is kInt, its value in `size`; other kinds keep theirs in `number`.
struct Scalar {
  enum class Kind { kBool, kInt, kFloat };  // torch's categories, in order of promotion
  Kind kind = Kind::kInt;
  double number = 0;
  Dim size;

  double value() const { return kind != Kind::kInt ? number : static_cast<double>(size.value()); }
  bool is_static() const { return kind != Kind::kInt || size.is_static(); }
};

// What all conversions of one graph share.
struct ImportState {
  Graph& graph;
  std::map<std::string, Dim, std::less<>> sizes;             // sym_ints by FX name
  std::map<std::pair<DType, std::string>, ValueId> scalars;  // literals made so far
};

class Conversion {
 public:
  // `tensors` are the values of all tensor names in the node's arguments; `output_types` and `used`
  // what torch says of its tensor outputs.
  Conversion(ImportState& state, const schema::Node& node, Origin origin,
             const std::map<std::string, ValueId, std::less<>>& tensors,
             std::vector<TensorType> output_types, std::vector<bool> used)
      : state_(state),
        node_(node),
        origin_(std::move(origin)),
        tensors_(tensors),
        output_types_(std::move(output_types)),
        used_(std::move(used)) {}

  // ---- arguments; those without a default are required, and so is a kind that fits
  bool Has(std::string_view name) const;  // given, and not None
  ValueId Tensor(std::string_view name) const;
  ValueId FindTensor(std::string_view name) const;            // invalid when absent
  std::vector<ValueId> Tensors(std::string_view name) const;  // invalid ids for None
  bool IsTensor(std::string_view name) const;
  int64_t Int(std::string_view name, std::optional<int64_t> fallback = {}) const;
  std::vector<int64_t> Ints(std::string_view name) const;
  Dim Size(std::string_view name, std::optional<Dim> fallback = {}) const;
  Dims Sizes(std::string_view name) const;
  // A slice bound: as Size, but any 64-bit integer, clipped to +-kMaxSize.
  Dim Bound(std::string_view name, const Dim& fallback) const;
  double Float(std::string_view name, std::optional<double> fallback = {}) const;
  std::vector<double> Floats(std::string_view name) const;
  bool Bool(std::string_view name, std::optional<bool> fallback = {}) const;
  std::string String(std::string_view name, std::string_view fallback) const;
  Scalar GetScalar(std::string_view name, std::optional<double> fallback = {}) const;
  std::optional<DType> FindDTypeArgument(std::string_view name) const;
  // A dim in [0, rank), or in [0, rank] with `inclusive`.
  int DimIndex(std::string_view name, int rank, std::optional<int64_t> fallback = {}) const;

  // ---- results, as torch says they are
  const TensorType& output_type(int index = 0) const { return output_types_.at(index); }
  int num_outputs() const { return static_cast<int>(output_types_.size()); }
  bool IsUsed(int index) const { return used_.at(index); }  // whether anything reads the output

  // From here on, 16-bit float tensors among the arguments are read as float32, and the results
  // are cast back: torch computes so where one kernel of its own stands for several of our ops.
  void ComputeWide();
  bool is_wide() const { return !wide_tensors_.empty(); }

  // ---- building
  Graph& graph() { return state_.graph; }
  ImportState& state() { return state_; }
  const TensorType& type(ValueId id) const { return state_.graph.type(id); }
  ValueId Add(std::string_view op, std::vector<ValueId> inputs, Attrs attrs = {});
  NodeId AddNode(std::string_view op, std::vector<ValueId> inputs, Attrs attrs = {});
  // A 0-d literal, shared by equal ones.
  ValueId Literal(DType dtype, const Scalar& scalar);
  ValueId Literal(DType dtype, double value);

  ValueId Cast(ValueId value, DType dtype);  // `value` itself when it has that dtype
  ValueId Reshape(ValueId value, const Dims& dims);
  ValueId Permute(ValueId value, const std::vector<int>& perm);
  ValueId Transpose(ValueId value, int dim0, int dim1);
  ValueId Expand(ValueId value, const Dims& dims);  // broadcasts from the right
  // start and end in [0, size], start <= end.
  ValueId Slice(ValueId value, int dim, Dim start, Dim end, int64_t step = 1);
  ValueId Unsqueeze(ValueId value, int dim);
  ValueId Squeeze(ValueId value, int dim);
  ValueId Full(Dims dims, DType dtype, const Scalar& scalar);

  template <typename... Args>
  [[noreturn]] void Reject(fmt::format_string<Args...> format, Args&&... args) const {
    Fail(ErrorKind::kUnsupported, format, std::forward<Args>(args)...);
  }
  void Require(bool condition, std::string_view reason) const {
    if (!condition) Reject("{}", reason);
  }

 private:
  const schema::Argument* Find(std::string_view name) const;  // null when absent or None
  const schema::Argument& Get(std::string_view name) const;
  ValueId Read(const std::string& tensor) const;
  Dim GetSize(const schema::Argument::Size& size, std::string_view name) const;

  ImportState& state_;
  const schema::Node& node_;
  Origin origin_;
  const std::map<std::string, ValueId, std::less<>>& tensors_;
  std::map<std::string, ValueId, std::less<>> wide_tensors_;  // those read as float32
  std::vector<TensorType> output_types_;
  std::vector<bool> used_;
};

// `dim` counted from the front; raises Unsupported when it is outside [-rank, rank).
int WrapDim(int64_t dim, int rank);
std::vector<int> IdentityPerm(int rank);
// The dtype of highest precision among float tensors; invalid ids are skipped.
DType WidestDType(const Conversion& c, std::initializer_list<ValueId> values);
// The value list of a kInts attribute.
Dims ToDims(const std::vector<int64_t>& values);
Dims ToDims(const std::vector<int>& values);

// Whether the outputs share memory with the node's first tensor argument.
enum class Alias {
  kFresh,
  kView,        // always
  kReshape,     // when the strides allow it
  kContiguous,  // when the argument is already laid out as asked
  kTo,          // when nothing changes
  kUnknown,     // perhaps
};

using ConvertFn = std::vector<ValueId> (*)(Conversion& c, std::string_view op);

// One row of the converter table. `op` is passed to `convert`: the op of our table that several
// overloads share a converter for. A row without a converter says why the node is left to torch.
struct Converter {
  std::string_view target;  // "aten.add.Tensor"
  ConvertFn convert = nullptr;
  std::string_view op = "";
  Alias alias = Alias::kFresh;
};

// The table, one family per file.
std::span<const Converter> ViewConverters();
std::span<const Converter> PointwiseConverters();
std::span<const Converter> ReductionConverters();
std::span<const Converter> NormConverters();
std::span<const Converter> GemmConverters();
std::span<const Converter> AttentionConverters();
std::span<const Converter> WindowConverters();
std::span<const Converter> IndexConverters();
std::span<const Converter> OrderConverters();
std::span<const Converter> CreationConverters();
std::span<const Converter> CompositeConverters();
std::span<const Converter> RecurrentConverters();

// The row of "aten.add.Tensor"; null when there is none. Unary pointwise overloads that are 1:1 in
// the op table have no row here: see FindOpByAten.
const Converter* FindConverter(std::string_view target);

}  // namespace stator
