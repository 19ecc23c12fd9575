// MakeModelGraph.
#include <fmt/format.h>

#include "fuzz/random.h"
#include "fuzz/random_graph.h"
#include "ir/op_def.h"

namespace stator {
namespace {

class ModelGraph {
 public:
  explicit ModelGraph(uint64_t seed) : random_(seed) {}

  Graph Make() {
    values_ = {graph_.AddInput("x", {.dims = {2, 3, 4}}), graph_.AddInput("y", {.dims = {6, 4}}),
               graph_.AddInput("z", {.dims = {1, 4, 3, 2}})};
    int count = 4 + random_.Below(24);
    while (static_cast<int>(graph_.nodes().size()) < count) AddNodes();
    graph_.SetOutputs({values_.back(), values_[values_.size() / 2], random_.In(values_)});
    return std::move(graph_);
  }

 private:
  ValueId Pick() { return random_.In(values_); }
  const TensorType& type(ValueId id) { return graph_.type(id); }
  // Positive: some of them are variances.
  ValueId Weight(Dims dims) {
    std::vector<float> content(static_cast<size_t>(NumElements(dims).value()));
    for (float& element : content) {
      element = 0.1f + static_cast<float>(random_.Below(2000)) / 1000;
    }
    std::span<const std::byte> bytes = std::as_bytes(std::span(content));
    return graph_.AddWeight(fmt::format("w{}", num_weights_++), {.dims = std::move(dims)},
                            MakeConstantData({bytes.begin(), bytes.end()}));
  }
  ValueId Add(std::string_view op, std::vector<ValueId> inputs, Attrs attrs = {}) {
    return graph_.node(graph_.AddNode(GetOp(op), std::move(inputs), std::move(attrs))).outputs[0];
  }

  void AddNodes() {
    ValueId x = Pick();
    switch (random_.Below(8)) {
      case 0: return Keep(Add(random_.In(kUnary), {x}));
      case 1: return Keep(AddBinary(x));
      case 2: return Keep(AddView(x));
      case 3: return Keep(AddProduct(x));
      case 4: return Keep(AddConv(x));
      case 5: return Keep(AddRowwise(x));
      case 6: return AddAttention(x);
      default:
        return Keep(Add("mul", {x, AddScalar(graph_, DType::kFloat32, random_.In(kNumbers))}));
    }
  }

  void Keep(ValueId value) { values_.push_back(value); }

  ValueId AddBinary(ValueId x) {
    std::vector<ValueId> same;
    for (ValueId value : values_) {
      if (type(value).dims == type(x).dims) same.push_back(value);
    }
    std::string_view op = random_.In(kBinary);
    if (random_.OneIn(3)) return Add(op, {Weight({type(x).dims.back()}), x});
    return Add(op, {x, random_.In(same)});
  }

  ValueId AddView(ValueId x) {
    Dims dims = type(x).dims;
    if (random_.OneIn(2)) {
      Dims perm;
      for (int i = 0; i < type(x).rank(); ++i) perm.push_back(i);
      random_.Shuffle(perm);
      return Add("permute", {x}, {{"perm", perm}});
    }
    if (random_.OneIn(3)) {
      int64_t dim = random_.Below(type(x).rank()), size = dims[dim].value();
      return Add(
          "slice", {x},
          {{"dim", Dim(dim)}, {"start", Dim(size / 2)}, {"end", Dim(size)}, {"step", Dim(1)}});
    }
    Dim count = type(x).num_elements();
    const Dims kept = {FloorDiv(count, dims.back()), dims.back()};
    const Dims wide = {1, FloorDiv(count, dims.back()), dims.back()};
    return Add("reshape", {x}, {{"dims", random_.OneIn(2) ? kept : wide}});
  }

  ValueId AddProduct(ValueId x) {
    if (type(x).rank() < 2) return Add("neg", {x});
    ValueId w = Add("permute", {Weight({4, type(x).dims.back()})}, {{"perm", Dims{1, 0}}});
    return Add("add", {Weight({4}), Add("matmul", {x, w})});
  }

  ValueId AddConv(ValueId x) {
    if (type(x).rank() != 4) return Add("abs", {x});
    Dim channels = type(x).dims[1];
    ValueId y = Add("conv", {x, Weight({4, channels, 1, 1})},
                    {{"stride", Dims{1, 1}},
                     {"padding", Dims{0, 0}},
                     {"dilation", Dims{1, 1}},
                     {"groups", Dim(1)},
                     {"transposed", false},
                     {"output_padding", Dims{0, 0}}});
    return Add("batch_norm", {y, Weight({4}), Weight({4}), Weight({4}), Weight({4})},
               {{"eps", 1e-5}});
  }

  ValueId AddRowwise(ValueId x) {
    if (type(x).rank() == 0) return Add("abs", {x});
    if (random_.OneIn(2)) return Add("softmax", {x}, {{"axis", Dim(type(x).rank() - 1)}});
    return Add("layer_norm", {x, Weight({type(x).dims.back()})},
               {{"num_dims", Dim(1)}, {"eps", 1e-5}});
  }

  // softmax(x x^T / 2) x
  void AddAttention(ValueId x) {
    int rank = type(x).rank();
    if (rank < 2) return;
    Dims perm;
    for (int i = 0; i < rank; ++i) perm.push_back(i);
    std::swap(perm[rank - 1], perm[rank - 2]);
    ValueId scores = Add("matmul", {x, Add("permute", {x}, {{"perm", perm}})});
    scores = Add("mul", {scores, AddScalar(graph_, DType::kFloat32, 0.5)});
    Keep(Add("matmul", {Add("softmax", {scores}, {{"axis", Dim(rank - 1)}}), x}));
  }

  static constexpr std::string_view kUnary[] = {"neg", "abs",     "relu", "tanh",
                                                "exp", "sigmoid", "gelu", "square"};
  static constexpr std::string_view kBinary[] = {"add", "sub", "mul", "maximum", "minimum"};
  static constexpr double kNumbers[] = {1, 0.5, -1, 2, 0};

  Random random_;
  Graph graph_;
  std::vector<ValueId> values_;
  int num_weights_ = 0;
};

}  // namespace

Graph MakeModelGraph(uint64_t seed) { return ModelGraph(seed).Make(); }

}  // namespace stator
