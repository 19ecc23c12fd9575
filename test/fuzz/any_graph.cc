// MakeAnyGraph: a way to draw nodes of each family of ops.
#include <numeric>
#include <optional>

#include "fuzz/drawn_graph.h"
#include "fuzz/random_graph.h"
#include "ops/samples.h"

namespace stator {
namespace {

class AnyGraph : DrawnGraph {
 public:
  explicit AnyGraph(uint64_t seed) : DrawnGraph(seed) {}

  Graph Make() {
    ChoosePalettes();
    for (int i = 0, count = 1 + random_.Below(3); i < count; ++i) Leaf(AnyDType(), AnyDims(4));
    size_t count = 1 + static_cast<size_t>(random_.Below(random_.OneIn(3) ? 30 : 12));
    // Symbols take their values from the sizes of inputs.
    for (const SymbolRange& symbol : graph_.symbols) {
      Dims dims = AnyDims(2);
      dims.push_back(Dim::Symbol(symbol.name));
      AddInput(AnyDType(), dims);
    }
    for (int tries = 0; num_nodes_ < count && tries < 400; ++tries) {
      try {
        AddNodes();
      } catch (const Error&) {  // a size below 0
      }
    }
    ChooseOutputs();
    return Compact(graph_);
  }

 private:
  void AddNodes() {
    switch (random_.Below(16)) {
      case 0:
      case 1:
      case 2:
      case 3: return AddPointwise();
      case 4:
      case 5: return AddView();
      case 6:
      case 7: return AddReduction();
      case 8: return AddProduct();
      case 9: return AddWindow();
      case 10: return AddRowwise();
      case 11: return AddIndexing();
      case 12: return AddPattern();
      default: return AddSample();
    }
  }

  static std::vector<const OpDef*> Rows(uint32_t trait) {
    std::vector<const OpDef*> rows;
    for (const OpDef* op : AllOps()) {
      if (op->reference != nullptr && op->Is(static_cast<Trait>(trait))) rows.push_back(op);
    }
    return rows;
  }

  // Operands in the domain of the op, most of the time.
  ValueId Guard(const OpDef& op, ValueId x, size_t position) {
    if (random_.OneIn(8)) return x;
    DType dtype = type(x).dtype;
    std::string_view name = op.name;
    if (position == 1 && !IsFloat(dtype) && dtype != DType::kBool &&
        (name == "floor_div" || name == "trunc_div" || name == "remainder" || name == "fmod")) {
      return Add("bitwise_or", {x, Number(dtype, 1)});
    }
    if (!IsFloat(dtype)) return x;
    if (name == "sqrt" || name == "acosh" || (name == "pow" && position == 0)) {
      x = Add("abs", {x});
    } else if (name.starts_with("log") || name == "rsqrt" || name == "reciprocal" ||
               (position == 1 && (name.find("div") != std::string_view::npos ||
                                  name == "remainder" || name == "fmod"))) {
      x = Add("add", {Add("abs", {x}), Number(dtype, 0.25)});
    } else if (name == "asin" || name == "acos" || name == "atanh") {
      return Add("mul", {Add("tanh", {x}), Number(dtype, 0.875)});
    }
    return name == "acosh" ? Add("add", {x, Number(dtype, 1)}) : x;
  }

  Attrs RandomFloats(const OpDef& op) {
    Attrs attrs;
    for (const AttrDef& def : op.attrs) {
      if (def.kind == AttrDef::kFloat) {
        bool positive = def.name == "beta" || def.name == "max" || def.name == "threshold";
        double value = random_.Among({0.5, 0.01, 1.0, 1.5, 3.0});
        bool negative = def.name == "min" || (!positive && random_.OneIn(2));
        attrs.Set(def.name, negative ? -value : value);
      } else if (def.kind == AttrDef::kDType) {
        attrs.Set(def.name, static_cast<DType>(random_.Below(kNumDTypes)));
      }
    }
    return attrs;
  }

  void AddPointwise() {
    static const std::vector<const OpDef*> rows = Rows(kPointwise);
    const OpDef& op = *random_.In(rows);
    ValueId x = random_.OneIn(2) ? FloatValue(0) : AnyValue();
    std::vector<ValueId> inputs;
    if (op.name == "where") inputs.push_back(OfType(DType::kBool, Broadcast(type(x).dims)));
    inputs.push_back(Guard(op, x, 0));
    while (static_cast<int>(inputs.size()) < op.min_inputs) {
      ValueId y;
      if (random_.OneIn(6)) {
        y = Number(type(x).dtype, random_.Among({0.0, 1.0, -1.0, 2.0, 0.5, 3.0}));
      } else if (random_.OneIn(2)) {
        y = Find([&](const TensorType& t) {
          if (t.dtype != type(x).dtype) return false;
          for (int i = 1; i <= std::min(t.rank(), rank(x)); ++i) {
            const Dim &a = t.dims[t.dims.size() - i], &b = type(x).dims[type(x).dims.size() - i];
            if (a != b && a != Dim(1) && b != Dim(1)) return false;
          }
          return true;
        });
      }
      if (!y.valid()) y = OfType(type(x).dtype, Broadcast(type(x).dims));
      inputs.push_back(Guard(op, y, inputs.size()));
    }
    if (op.Is(kCommutative) && random_.OneIn(2)) std::reverse(inputs.begin(), inputs.end());
    Add(op.name, inputs, RandomFloats(op));
  }

  Dims RandomAxes(int rank) {
    Dims axes;
    for (int i = 0; i < rank; ++i) {
      if (random_.OneIn(2)) axes.push_back(i);
    }
    if (axes.empty() && rank > 0) axes.push_back(random_.Below(rank));
    if (random_.OneIn(4)) random_.Shuffle(axes);
    return axes;
  }

  ValueId Permute(ValueId x) {
    Dims perm(static_cast<size_t>(rank(x)));
    std::iota(perm.begin(), perm.end(), 0);
    random_.Shuffle(perm);
    return Add("permute", {x}, {{"perm", perm}});
  }

  // Neighbouring dims joined, or one split in two.
  ValueId Reshape(ValueId x) {
    Dims dims = type(x).dims;
    if (random_.OneIn(3)) {
      dims.insert(dims.begin() + random_.Below(rank(x) + 1), 1);
    } else if (dims.size() >= 2 && random_.OneIn(2)) {
      auto at = dims.begin() + random_.Below(static_cast<int>(dims.size()) - 1);
      *at = at[0] * at[1];
      dims.erase(at + 1);
    } else if (!dims.empty()) {
      auto at = dims.begin() + random_.Below(static_cast<int>(dims.size()));
      if (at->is_static() && at->value() > 1) {
        for (int64_t divisor : {random_.Below(5) + 2, 2, 3, 1}) {
          if (at->value() % divisor != 0) continue;
          *at = at->value() / divisor;
          dims.insert(at, divisor);
          break;
        }
      } else if (*at == Dim(1)) {
        dims.erase(at);
      }
    }
    return Add("reshape", {x}, {{"dims", dims}});
  }

  ValueId Slice(ValueId x) {
    if (rank(x) == 0) return kFailed;
    int dim = random_.Below(rank(x));
    const Dim& n = size(x, dim);
    Dim start = 0, end = n;
    if (n.is_static()) {
      start = random_.Below(static_cast<int>(n.value()) + 1);
      end = start + random_.Below(static_cast<int>(n.value() - start.value()) + 1);
      if (end == start && !random_.OneIn(6)) start = 0, end = n;
    } else {
      start = random_.Below(2), end = random_.OneIn(2) ? n : n - 1;
    }
    return Add("slice", {x},
               {{"dim", Dim(dim)},
                {"start", start},
                {"end", end},
                {"step", Dim(random_.Among({1, 1, 2, 3}))}});
  }

  ValueId Expand(ValueId x) {
    Dims dims = type(x).dims;
    for (Dim& dim : dims) {
      if (dim == Dim(1) && random_.OneIn(2)) dim = AnySize();
    }
    if (random_.OneIn(2)) dims.insert(dims.begin(), AnySize());
    return Add("expand", {x}, {{"dims", dims}});
  }

  void AddView() {
    ValueId x = AnyValue(0, 6);
    switch (random_.Below(9)) {
      case 0:
      case 1: Permute(x); return;
      case 2:
      case 3: Reshape(x); return;
      case 4:
      case 5: Slice(x); return;
      case 6: Expand(x); return;
      case 7: {
        Add("flip", {x}, {{"axes", RandomAxes(rank(x))}});
        return;
      }
      default: {
        int dim = random_.Below(std::max(rank(x), 1));
        std::vector<ValueId> inputs = {x};
        for (int i = random_.Below(3); i >= 0; --i) {
          Dims dims = type(x).dims;
          if (!dims.empty() && random_.OneIn(2)) dims[static_cast<size_t>(dim)] = AnySize();
          inputs.push_back(OfType(type(x).dtype, dims));
        }
        Add("concat", inputs, {{"dim", Dim(dim)}});
      }
    }
  }

  void AddReduction() {
    static const std::vector<const OpDef*> rows = Rows(kReduction);
    const OpDef& op = *random_.In(rows);
    ValueId x = random_.OneIn(2) ? FloatValue(1) : AnyValue(0);
    Attrs attrs = {{"axes", RandomAxes(rank(x))}, {"keepdim", random_.OneIn(2)}};
    if (op.name.starts_with("arg") && rank(x) > 0) {
      attrs.Set("axes", Dims{random_.Below(rank(x))});
    }
    if (op.name == "var") attrs.Set("correction", random_.Among({0.0, 1.0}));
    if (random_.OneIn(6) && rank(x) > 0) {
      Add(random_.Among<std::string_view>({"cumsum", "cumsum", "cumprod"}), {x},
          {{"dim", Dim(random_.Below(rank(x)))}});
      return;
    }
    Add(op.name, {x}, attrs);
  }

  void AddProduct() {
    ValueId x = random_.OneIn(8) ? AnyValue(2, 5) : FloatValue(2);
    DType dtype = type(x).dtype;
    Dim k = type(x).dims.back();
    if (random_.OneIn(2)) {  // a linear layer
      Dim n = AnySize();
      ValueId w = Add("permute", {OfType(dtype, {n, k})}, {{"perm", Dims{1, 0}}});
      ValueId y = Add("matmul", {x, w});
      if (random_.OneIn(2)) Add("add", {y, OfType(dtype, {n})});
      return;
    }
    Dims dims(type(x).dims.begin(), type(x).dims.end() - 2);
    dims = Broadcast(dims);
    dims.push_back(k);
    dims.push_back(AnySize());
    ValueId y = Find([&](const TensorType& t) {
      return t.dtype == dtype && t.rank() >= 2 && t.dims[t.dims.size() - 2] == k;
    });
    Add("matmul", {x, y.valid() && random_.OneIn(2) ? y : OfType(dtype, dims)});
  }

  ValueId Spatial() {
    ValueId x = FloatValue(3, 5);
    return random_.OneIn(3) ? Leaf(type(x).dtype, MakeSpatial()) : x;
  }
  Dims MakeSpatial() {
    Dims dims = {random_.OneIn(4) ? Dim(2) : random_.In(sizes_), random_.Among({1, 2, 3, 4, 6, 8})};
    for (int i = random_.Among({1, 2, 2, 2, 3}); i > 0; --i) {
      dims.push_back(random_.Among({1, 3, 4, 5, 7, 8, 12}));
    }
    return dims;
  }
  Dims Window(int count, std::initializer_list<int> choices) {
    Dims dims;
    for (int i = 0; i < count; ++i) dims.push_back(random_.Among(choices));
    return dims;
  }

  void AddWindow() {
    ValueId x = Spatial();
    int count = rank(x) - 2;
    DType dtype = type(x).dtype;
    switch (random_.Below(9)) {
      case 0:
      case 1:
      case 2:
      case 3: return AddConv(x);
      case 4: {
        Attrs attrs = {{"kernel", Window(count, {1, 2, 3})},
                       {"stride", Window(count, {1, 2, 3})},
                       {"padding", Window(count, {0, 0, 1})},
                       {"ceil_mode", random_.OneIn(3)}};
        if (random_.OneIn(2)) {
          attrs.Set("count_include_pad", random_.OneIn(2));
          // torch has it for 2 and 3 spatial dims alone.
          attrs.Set("divisor_override", Dim(count > 1 ? random_.Among({0, 0, 3}) : 0));
          Add("avg_pool", {x}, attrs);
        } else {
          attrs.Set("dilation", Window(count, {1, 1, 2}));
          Add(random_.OneIn(4) ? "max_pool_indices" : "max_pool", {x}, attrs);
        }
        return;
      }
      case 5:
        Add(random_.Among<std::string_view>({"adaptive_avg_pool", "adaptive_avg_pool",
                                             "adaptive_max_pool", "adaptive_max_pool_indices"}),
            {x}, {{"output_size", Window(count, {1, 1, 2, 3, 5})}});
        return;
      case 6: {
        std::string mode = random_.Among<const char*>(
            {"nearest", "nearest_exact", "linear", "linear", "cubic", "linear_aa", "cubic_aa"});
        Add("resample", {x},
            {{"mode", mode},
             {"align_corners", random_.OneIn(3)},
             {"output_size", Window(count, {1, 2, 4, 7, 10})}});
        return;
      }
      case 7: {
        const Dim& channels = size(x, 1);
        auto scale = [&] { return random_.OneIn(4) ? ValueId{} : OfType(dtype, {channels}); };
        if (random_.OneIn(2)) {
          ValueId var = Add("abs", {OfType(dtype, {channels})});
          ValueId weight = scale(), bias = scale();
          Add("batch_norm", {x, weight, bias, OfType(dtype, {channels}), var},
              {{"eps", random_.Among({1e-5, 1e-3, 0.5})}});
        } else {
          ValueId weight = scale(), bias = scale();
          Add("group_norm", {x, weight, bias},
              {{"eps", 1e-3}, {"groups", Dim(random_.Among({1, 2, 3, 4}))}});
        }
        return;
      }
      default: {
        Dims dims = {size(x, 0)};
        for (int i = 0; i < count; ++i) dims.push_back(random_.Among({1, 3, 6}));
        dims.push_back(count);
        Add("grid_sample", {x, OfType(dtype, dims)},
            {{"mode", std::string(random_.Among<const char*>({"bilinear", "nearest", "bicubic"}))},
             {"padding",
              std::string(random_.Among<const char*>({"zeros", "border", "reflection"}))},
             {"align_corners", random_.OneIn(2)}});
      }
    }
  }

  void AddConv(ValueId x) {
    int count = rank(x) - 2;
    const Dim& channels = size(x, 1);
    if (!channels.is_static() || channels.value() == 0) return;
    int in = static_cast<int>(channels.value()), groups = random_.Among({1, 1, 2, in});
    if (in % groups != 0) groups = 1;
    bool transposed = random_.OneIn(4);
    Dim out = groups * random_.Among({1, 2, 3, 4, 8});
    Dims dims = transposed ? Dims{in, FloorDiv(out, groups)} : Dims{out, in / groups};
    for (Dim& dim : dims) dim = dim.value();
    for (int i = 0; i < count; ++i) dims.push_back(random_.Among({1, 1, 2, 3, 3}));
    std::vector<ValueId> inputs = {x, Leaf(type(x).dtype, dims)};
    if (random_.OneIn(2)) inputs.push_back(OfType(type(x).dtype, {out}));
    Dims zeros(static_cast<size_t>(count), 0);
    ValueId y = Add("conv", inputs,
                    {{"stride", Window(count, {1, 1, 2})},
                     {"padding", Window(count, {0, 1, 1})},
                     {"dilation", Window(count, {1, 1, 2})},
                     {"groups", Dim(groups)},
                     {"transposed", transposed},
                     {"output_padding", transposed ? Window(count, {0, 0, 1}) : zeros}});
    if (y == kFailed) return;
    if (random_.OneIn(4)) y = Add("add", {y, OfType(type(y).dtype, type(y).dims)});
    if (y != kFailed && random_.OneIn(3)) Add(random_.In(kActivations), {y});
  }

  void AddRowwise() {
    ValueId x = FloatValue(1);
    DType dtype = type(x).dtype;
    int num_dims = 1 + random_.Below(std::min(rank(x), 2));
    Dims dims(type(x).dims.end() - num_dims, type(x).dims.end());
    auto scale = [&] { return random_.OneIn(4) ? ValueId{} : OfType(dtype, dims); };
    double eps = random_.Among({1e-5, 1e-3, 0.1});
    switch (random_.Below(4)) {
      case 0:
      case 1:
        Add(random_.OneIn(4) ? "log_softmax" : "softmax", {x},
            {{"axis", Dim(random_.OneIn(2) ? rank(x) - 1 : random_.Below(rank(x)))}});
        return;
      case 2: {
        ValueId weight = scale(), bias = scale();
        Add("layer_norm", {x, weight, bias}, {{"num_dims", Dim(num_dims)}, {"eps", eps}});
        return;
      }
      default: Add("rms_norm", {x, scale()}, {{"num_dims", Dim(num_dims)}, {"eps", eps}});
    }
  }

  // Indices in [0, size), of some shape.
  ValueId Indices(const Dim& size, Dims dims, bool negative = false) {
    DType dtype = random_.OneIn(4) ? DType::kInt32 : DType::kInt64;
    ValueId x = OfType(dtype, dims);
    if (!size.is_static() || size.value() == 0) return x;
    ValueId low = Add("remainder", {x, Number(dtype, static_cast<double>(size.value()))});
    return negative && random_.OneIn(2)
               ? Add("sub", {low, Number(dtype, static_cast<double>(size.value()))})
               : low;
  }

  void AddIndexing() {
    ValueId x = AnyValue(1, 5);
    DType dtype = type(x).dtype;
    int dim = random_.Below(rank(x));
    const Dim n = size(x, dim);
    switch (random_.Below(12)) {
      case 0: Add("embedding", {AnyValue(2, 2), Indices(n, AnyDims(2))}); return;
      case 1: Add("index_select", {x, Indices(n, {AnySize()})}, {{"dim", Dim(dim)}}); return;
      case 2:
      case 3: {
        Dims dims = type(x).dims;
        dims[static_cast<size_t>(dim)] = AnySize();
        ValueId index = Indices(n, dims);
        if (random_.OneIn(2)) {
          Add("gather", {x, index}, {{"dim", Dim(dim)}});
          return;
        }
        Attrs attrs = {{"dim", Dim(dim)}};
        if (random_.OneIn(2)) {
          attrs.Set(
              "reduce",
              std::string(random_.Among<const char*>({"sum", "prod", "mean", "amax", "amin"})));
          if (random_.OneIn(2)) attrs.Set("include_self", random_.OneIn(2));
        }
        Add("scatter", {x, index, OfType(dtype, dims)}, attrs);
        return;
      }
      case 4:
      case 5: {
        Dims dims = AnyDims(2);
        std::vector<ValueId> inputs = {x};
        for (int i = 0; i < rank(x) && (i == 0 || random_.OneIn(2)); ++i) {
          bool absent = random_.OneIn(4) && i + 1 < rank(x);
          inputs.push_back(absent ? ValueId{} : Indices(size(x, i), Broadcast(dims), true));
        }
        bool any = std::any_of(inputs.begin() + 1, inputs.end(),
                               [](ValueId index) { return index.valid(); });
        if (!any) return;  // torch wants one
        ValueId y = Add("index", inputs);
        if (y == kFailed || random_.OneIn(2)) return;
        inputs.insert(inputs.begin() + 1, OfType(dtype, Broadcast(type(y).dims)));
        Add("index_put", inputs, {{"accumulate", random_.OneIn(2)}});
        return;
      }
      case 6: {
        Dims pads;
        std::string mode =
            random_.Among<const char*>({"constant", "constant", "reflect", "replicate"});
        if (rank(x) == 1) mode = "constant";
        for (int i = 0; i < 2 * rank(x); ++i) {
          bool outer = mode != "constant" && i < 2 * (rank(x) - 2);
          pads.push_back(outer ? 0 : random_.Among({0, 0, 1, 2, 3, mode == "constant" ? -1 : 0}));
        }
        Add("pad", {x},
            {{"pads", pads}, {"mode", mode}, {"value", random_.Among({0.0, 1.0, -2.0})}});
        return;
      }
      case 7:
        Add(random_.OneIn(2) ? "tril" : "triu", {x},
            {{"diagonal", Dim(random_.Among({0, 0, 1, -1, 2}))}});
        return;
      case 8: Add("sort", {x}, {{"dim", Dim(dim)}, {"descending", random_.OneIn(2)}}); return;
      case 9: {
        if (!n.is_static()) return;
        Add("topk", {x},
            {{"dim", Dim(dim)},
             {"k", Dim(random_.Below(static_cast<int>(n.value()) + 1))},
             {"largest", random_.OneIn(2)},
             {"sorted", true}});
        return;
      }
      case 10: {
        ValueId sorted =
            Add("sort", {OfType(dtype, {AnySize()})}, {{"dim", Dim(0)}, {"descending", false}});
        Add("searchsorted", {sorted, x},
            {{"right", random_.OneIn(2)},
             {"dtype", random_.Among({DType::kInt64, DType::kInt32})}});
        return;
      }
      default:
        if (random_.OneIn(2)) {
          bool whole = random_.OneIn(2);
          Add("arange", {},
              {{"dtype", AnyDType()},
               {"start", whole ? 1.0 : 0.0},
               {"step", random_.Among({1.0, 2.0, -1.0})},
               {"size", random_.In(sizes_)}});
        } else {
          Add("full", {},
              {{"dims", AnyDims(3)},
               {"value", random_.Among({0.0, 1.0, -1.0, 3.0})},
               {"dtype", AnyDType()}});
        }
    }
  }

  // What models spell out, and passes look for.
  void AddPattern() {
    ValueId x = FloatValue(2, 4);
    DType dtype = type(x).dtype;
    int last = rank(x) - 1;
    auto reduce = [&](std::string_view op, ValueId v) {
      return Add(op, {v}, {{"axes", Dims{last}}, {"keepdim", true}});
    };
    auto number = [&](double value) { return Number(dtype, value); };
    switch (random_.Below(7)) {
      case 0: {  // attention, spelled out
        Dims perm(static_cast<size_t>(rank(x)));
        std::iota(perm.begin(), perm.end(), 0);
        std::swap(perm[static_cast<size_t>(last)], perm[static_cast<size_t>(last - 1)]);
        ValueId k = OfType(dtype, type(x).dims), v = OfType(dtype, type(x).dims);
        ValueId scores = Add("matmul", {x, Add("permute", {k}, {{"perm", perm}})});
        scores = Add(random_.OneIn(2) ? "mul" : "div", {scores, number(random_.Among({0.5, 2.0}))});
        if (scores == kFailed) return;
        if (random_.OneIn(2)) scores = Add("add", {scores, OfType(dtype, type(scores).dims)});
        Add("matmul", {Add("softmax", {scores}, {{"axis", Dim(last)}}), v});
        return;
      }
      case 1: {  // attention
        if (rank(x) < 3) return;
        Dims keys = type(x).dims;
        keys[static_cast<size_t>(last - 1)] = AnySize();
        if (random_.OneIn(3)) keys[static_cast<size_t>(last - 2)] = 1;
        Dims mask = type(x).dims;
        mask.back() = keys[static_cast<size_t>(last - 1)];
        std::vector<ValueId> inputs = {x, OfType(dtype, keys), OfType(dtype, keys)};
        bool masked = random_.OneIn(2);
        if (masked) inputs.push_back(OfType(random_.OneIn(2) ? DType::kBool : dtype, mask));
        Add("attention", inputs,
            {{"causal", !masked && random_.OneIn(2)}, {"scale", random_.Among({0.5, 0.3})}});
        return;
      }
      case 2: {  // layer norm
        ValueId centred = Add("sub", {x, reduce("mean", x)});
        ValueId var = reduce("mean", Add("square", {centred}));
        ValueId y = Add("mul", {centred, Add("rsqrt", {Add("add", {var, number(1e-3)})})});
        Add("add",
            {Add("mul", {y, OfType(dtype, {size(x, last)})}), OfType(dtype, {size(x, last)})});
        return;
      }
      case 3: {  // RMS norm, in a wider type
        ValueId wide =
            dtype == DType::kFloat64 ? x : Add("cast", {x}, {{"dtype", DType::kFloat32}});
        ValueId square = random_.OneIn(2) ? Add("mul", {wide, wide}) : Add("square", {wide});
        ValueId mean = reduce("mean", square);
        if (mean == kFailed) return;
        ValueId sum = Add("add", {mean, Number(type(mean).dtype, 1e-3)});
        ValueId y = Add("mul", {wide, Add("rsqrt", {sum})});
        y = Add("cast", {y}, {{"dtype", dtype}});
        Add("mul", {OfType(dtype, {size(x, last)}), y});
        return;
      }
      case 4: {  // GELU
        ValueId erf = Add("erf", {Add("mul", {x, number(0.70710678118654752)})});
        Add("mul", {Add("mul", {x, number(0.5)}), Add("add", {erf, number(1)})});
        return;
      }
      case 5: {  // rotary embedding
        const Dim& n = size(x, last);
        if (!n.is_static() || n.value() % 2 != 0 || n.value() == 0) return;
        Dim half = n.value() / 2;
        auto part = [&](const Dim& start, const Dim& end) {
          return Add("slice", {x},
                     {{"dim", Dim(last)}, {"start", start}, {"end", end}, {"step", Dim(1)}});
        };
        ValueId turned =
            Add("concat", {Add("neg", {part(half, n)}), part(0, half)}, {{"dim", Dim(last)}});
        Dims angles = {size(x, last - 1), n};
        Add("add",
            {Add("mul", {x, OfType(dtype, angles)}), Add("mul", {turned, OfType(dtype, angles)})});
        return;
      }
      default: {  // several products of one value
        for (int i = 0; i < 2 + random_.Below(2); ++i) {
          Dim n = random_.In(sizes_);
          ValueId w = Add("permute", {Leaf(dtype, {n, size(x, last)})}, {{"perm", Dims{1, 0}}});
          ValueId y = Add("matmul", {x, w});
          if (random_.OneIn(2)) Add("add", {y, Leaf(dtype, {n})});
        }
      }
    }
  }

  // A sample of any row, on values that are there or new ones.
  void AddSample() {
    static const std::vector<std::vector<SampleCase>> rows = [] {
      std::vector<std::vector<SampleCase>> all;
      for (const OpDef* op : AllOps()) {
        if (op->reference != nullptr && !op->samples.empty()) all.push_back(ExpandSamples(*op));
      }
      return all;
    }();
    const SampleCase& sample = random_.In(random_.In(rows));
    const OpDef* op = sample.op;
    std::vector<ValueId> inputs;
    for (size_t i = 0; i < sample.inputs.size(); ++i) {
      if (!sample.inputs[i]) {
        inputs.push_back({});
        continue;
      }
      const TensorType& wanted = *sample.inputs[i];
      bool is_index = sample.high > sample.low && IsInteger(wanted.dtype);
      ValueId x = is_index ? Indices(sample.high, wanted.dims, sample.low < 0)
                           : OfType(wanted.dtype, wanted.dims);
      if (op->name == "batch_norm" && i == 4) x = Add("abs", {x});
      if (op->name == "searchsorted" && i == 0) {
        x = Add("sort", {x}, {{"dim", Dim(wanted.rank() - 1)}, {"descending", false}});
      }
      inputs.push_back(op->Is(kPointwise) ? Guard(*op, x, i) : x);
    }
    Add(op->name, inputs, sample.attrs);
  }

  static constexpr std::string_view kActivations[] = {"relu",    "silu",      "gelu",
                                                      "sigmoid", "hardswish", "tanh"};
};

}  // namespace

Graph MakeAnyGraph(uint64_t seed) { return AnyGraph(seed).Make(); }

}  // namespace stator
