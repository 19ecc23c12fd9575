// DrawnGraph: a random graph being drawn, with the content of its values: what sizes, dtypes and
// values there are to choose from, and nodes that are evaluated as they are added.
//
// Invariant: each value of the graph has been evaluated on ops/draw.h's content of the seed, with
// symbols of 2.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "base/error.h"
#include "fuzz/random.h"
#include "ir/op_def.h"
#include "ir/rewriter.h"
#include "ops/draw.h"
#include "ops/evaluate.h"

namespace stator {

class DrawnGraph {
 protected:
  explicit DrawnGraph(uint64_t seed) : seed_(seed), random_(seed) {}

  // ---- what this graph is made of
  void ChoosePalettes() {
    constexpr int kSmall[] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, kLarge[] = {16, 17, 31, 33, 48, 65, 130};
    for (int i = 0; i < 3; ++i) sizes_.push_back(random_.In(kSmall));
    if (random_.OneIn(4)) sizes_.push_back(random_.In(kLarge));
    if (random_.OneIn(8)) sizes_.push_back(0);
    if (random_.OneIn(4)) AddSymbol("s0");
    if (random_.OneIn(10)) AddSymbol("s1");
    DType floats[] = {DType::kFloat32, DType::kFloat32, DType::kFloat32,  DType::kFloat32,
                      DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kFloat64};
    dtypes_ = {random_.In(floats)};
    dtypes_.push_back(random_.OneIn(3) ? static_cast<DType>(random_.Below(kNumDTypes))
                                       : dtypes_[0]);
    dtypes_.push_back(random_.OneIn(4) ? DType::kInt64 : dtypes_[0]);
  }

  void AddSymbol(std::string name) {
    int64_t min = random_.Among({0, 1, 2, 2}), max = random_.Among({64, 100, 4096});
    graph_.symbols.push_back({.name = name, .min = min, .max = max});
    symbols_[name] = 2;
    for (int i = 0; i < 2; ++i) sizes_.push_back(Dim::Symbol(name));
  }

  DType AnyDType() { return random_.In(dtypes_); }
  Dim AnySize() { return random_.OneIn(5) ? Dim(1) : random_.In(sizes_); }
  Dims AnyDims(int max_rank) {
    Dims dims;
    int64_t count = 1;
    for (int i = 0, rank = random_.Below(max_rank + 1); i < rank; ++i) {
      Dim size = AnySize();
      count *= std::max<int64_t>(size.Eval(symbols_), 1);
      if (count > kMaxElements) size = 1;
      dims.push_back(size);
    }
    return dims;
  }

  // ---- values
  const TensorType& type(ValueId id) const { return graph_.type(id); }
  int rank(ValueId id) const { return type(id).rank(); }
  const Dim& size(ValueId id, int dim) const { return type(id).dims[static_cast<size_t>(dim)]; }
  const TensorRef& tensor(ValueId id) const { return tensors_.at(id.index).ref; }

  std::string NewName() { return fmt::format("{}{}", "xyzuv"[random_.Below(5)], num_leaves_++); }

  HostTensor Draw(const std::string& name, DType dtype, const Dims& dims) {
    Sizes sizes = EvalDims(dims, symbols_);
    for (int64_t n : sizes) {
      if (n < 0) Fail(ErrorKind::kInvalidArgument, "a negative size");
    }
    return DrawTensor(name, dtype, std::move(sizes), seed_);
  }

  ValueId AddInput(DType dtype, const Dims& dims) {
    std::string name = NewName();
    HostTensor tensor = Draw(name, dtype, dims);
    return Keep(graph_.AddInput(name, {.dtype = dtype, .dims = dims, .order = {}}),
                std::move(tensor));
  }

  // An input, a weight or a literal.
  ValueId Leaf(DType dtype, const Dims& dims) {
    int choice = random_.Below(10);
    if (choice >= 3 || !IsStatic(dims)) return AddInput(dtype, dims);
    TensorType leaf{.dtype = dtype, .dims = dims, .order = {}};
    std::string name = NewName();
    HostTensor tensor = Draw(name, dtype, dims);
    ValueId id;
    if (choice < 2) {
      id = graph_.AddWeight(name, leaf);
      SetData(id, tensor);
    } else {
      id = AddLiteral(std::move(leaf), tensor);
    }
    return Keep(id, std::move(tensor));
  }

  void SetData(ValueId id, const HostTensor& tensor) {
    std::vector<std::byte> bytes = tensor.storage;
    bytes.resize(static_cast<size_t>(tensor.ref.num_elements()) * DTypeSize(tensor.ref.dtype));
    graph_.mutable_value(id).data = MakeConstantData(std::move(bytes));
  }

  ValueId AddLiteral(TensorType leaf, HostTensor& tensor) {
    if (random_.OneIn(2)) {  // the same everywhere
      double value = random_.Among({0.0, 1.0, -1.0, 2.0, 0.5, 0.125, 3.0});
      DispatchDType(leaf.dtype, [&](auto zero) {
        using T = decltype(zero);
        std::fill_n(Data<T>(tensor.ref), tensor.ref.num_elements(), scalar::CastTo<T>(value));
      });
    }
    ValueId id = graph_.AddLiteral(std::move(leaf), {});
    SetData(id, tensor);
    return id;
  }

  ValueId Number(DType dtype, double value) {
    ValueId id = AddScalar(graph_, dtype, value);
    HostTensor tensor = MakeHostTensor(dtype, {});
    DispatchDType(dtype, [&](auto zero) {
      using T = decltype(zero);
      *Data<T>(tensor.ref) = scalar::CastTo<T>(value);
    });
    return Keep(id, std::move(tensor), false);
  }

  ValueId Keep(ValueId id, HostTensor tensor, bool offered = true) {
    tensors_[id.index] = std::move(tensor);
    if (offered) values_.push_back(id);
    return id;
  }

  // A value that `fits`, most often one that is there.
  template <typename Fits>
  ValueId Find(Fits&& fits) {
    std::vector<ValueId> found;
    for (ValueId id : values_) {
      if (fits(type(id))) found.push_back(id);
    }
    if (found.empty()) return {};
    // The newest, so that chains grow long; or any.
    return random_.OneIn(3) ? found.back() : random_.In(found);
  }

  ValueId OfType(DType dtype, const Dims& dims) {
    if (!random_.OneIn(8)) {
      ValueId id = Find([&](const TensorType& t) { return t.dtype == dtype && t.dims == dims; });
      if (id.valid()) return id;
    }
    return Leaf(dtype, dims);
  }

  ValueId AnyValue(int min_rank = 0, int max_rank = 6) {
    ValueId id =
        Find([&](const TensorType& t) { return t.rank() >= min_rank && t.rank() <= max_rank; });
    if (id.valid()) return id;
    Dims dims = AnyDims(max_rank);
    while (static_cast<int>(dims.size()) < min_rank) dims.push_back(random_.In(sizes_));
    return Leaf(AnyDType(), dims);
  }

  ValueId FloatValue(int min_rank, int max_rank = 5) {
    ValueId id = Find([&](const TensorType& t) {
      return IsFloat(t.dtype) && t.rank() >= min_rank && t.rank() <= max_rank;
    });
    if (id.valid() && !random_.OneIn(6)) return id;
    Dims dims = AnyDims(max_rank);
    while (static_cast<int>(dims.size()) < min_rank) dims.push_back(random_.In(sizes_));
    return Leaf(dtypes_[0], dims);
  }

  // Sizes that broadcast with `dims`.
  Dims Broadcast(Dims dims) {
    while (!dims.empty() && random_.OneIn(3)) dims.erase(dims.begin());
    for (Dim& dim : dims) {
      if (random_.OneIn(4)) dim = 1;
      if (dim == Dim(1) && random_.OneIn(6)) dim = random_.In(sizes_);
    }
    return dims;
  }

  // ---- nodes
  // The node's first output; an invalid id when the row rejects it, it cannot be evaluated, or its
  // result is out of the ordinary.
  ValueId Add(std::string_view name, std::vector<ValueId> inputs, Attrs attrs = {}) {
    for (ValueId& input : inputs) {
      if (input.index == kFailed.index) return kFailed;
    }
    NodeId id;
    try {
      id = graph_.AddNode(GetOp(name), std::move(inputs), std::move(attrs));
    } catch (const Error&) {
      return kFailed;
    }
    const Node& node = graph_.node(id);
    try {
      std::vector<TensorRef> refs;
      for (ValueId input : node.inputs) {
        refs.push_back(input.valid() ? tensor(input) : TensorRef{});
      }
      int64_t total = 0;
      for (ValueId output : node.outputs) {
        int64_t count = 1;
        for (int64_t n : EvalDims(type(output).dims, symbols_)) {
          if (n < 0) Fail(ErrorKind::kInvalidArgument, "a negative size");
          count *= n;
        }
        total += count;
      }
      if (total > 4 * kMaxElements) Fail(ErrorKind::kInvalidArgument, "too large");
      std::vector<HostTensor> results = EvaluateNode(graph_, node, refs, symbols_);
      for (const HostTensor& result : results) {
        if (!IsOrdinary(result.ref)) Fail(ErrorKind::kInvalidArgument, "out of the ordinary");
      }
      for (size_t i = 0; i < results.size(); ++i) Keep(node.outputs[i], std::move(results[i]));
      ++num_nodes_;
      return node.outputs[0];
    } catch (const Error&) {
      Rewriter(graph_).Erase(id);
      return kFailed;
    }
  }

  // Finite, and not so large that the next nodes overflow.
  bool IsOrdinary(const TensorRef& tensor) {
    if (!IsFloat(tensor.dtype) || random_.OneIn(40)) return true;
    double largest = tensor.dtype == DType::kFloat16 ? 200 : 1e4;
    bool ordinary = true;
    DispatchFloat(tensor.dtype, [&](auto zero) {
      using T = decltype(zero);
      ForEachOffset<1>(tensor.dims, {tensor.strides}, [&](const auto& at) {
        double value = scalar::CastTo<double>(Data<T>(tensor)[at[0]]);
        ordinary = ordinary && std::abs(value) <= largest;
      });
    });
    return ordinary;
  }

  void ChooseOutputs() {
    std::vector<ValueId> made, outputs;
    for (ValueId id : values_) {
      if (graph_.FindProducer(id) != nullptr) made.push_back(id);
    }
    if (made.empty()) made = values_;
    outputs.push_back(made.back());
    for (int i = random_.Below(4); i > 0; --i) outputs.push_back(random_.In(made));
    if (random_.OneIn(10)) outputs.push_back(random_.In(values_));
    graph_.SetOutputs(std::move(outputs));
  }

  static constexpr ValueId kFailed{-2};
  static constexpr int64_t kMaxElements = 4000;

  uint64_t seed_;
  Random random_;
  Graph graph_;
  SymbolValues symbols_;
  Dims sizes_;
  std::vector<DType> dtypes_;
  std::vector<ValueId> values_;
  std::map<int, HostTensor> tensors_;  // by value
  int num_leaves_ = 0;
  size_t num_nodes_ = 0;
};

}  // namespace stator
