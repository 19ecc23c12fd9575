#include "codegen/loop_dims.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"

namespace stator {
namespace {

// A number to sort by: symbols count as a size that is common.
int64_t Guess(const Dim& dim) {
  if (dim.is_static()) return dim.value();
  constexpr int64_t kTypicalSize = 1021;
  std::set<std::string> names;
  dim.CollectSymbols(names);
  SymbolValues symbols;
  for (const std::string& name : names) symbols[name] = kTypicalSize;
  return dim.Eval(symbols);
}

}  // namespace

Dims BroadcastStrides(const KernelOperand& operand, const Dims& domain) {
  STATOR_CHECK(operand.dims.size() <= domain.size(), "{} over {}", DimsToString(operand.dims),
               DimsToString(domain));
  Dims strides(domain.size(), Dim(0));
  size_t added = domain.size() - operand.dims.size();
  for (size_t i = 0; i < operand.dims.size(); ++i) {
    if (operand.dims[i] == domain[i + added]) strides[i + added] = operand.strides[i];
  }
  return strides;
}

LoopDims MergeInOrder(const Dims& domain, std::vector<Dims> strides) {
  LoopDims loop;
  loop.strides.resize(strides.size());
  for (size_t i = 0; i < domain.size(); ++i) {
    if (domain[i] == Dim(1)) continue;
    bool merges = !loop.dims.empty();
    for (size_t k = 0; merges && k < strides.size(); ++k) {
      merges = loop.strides[k].back() == strides[k][i] * domain[i];
    }
    if (merges) {
      loop.dims.back() = loop.dims.back() * domain[i];
    } else {
      loop.dims.push_back(domain[i]);
    }
    for (size_t k = 0; k < strides.size(); ++k) {
      if (merges) {
        loop.strides[k].back() = strides[k][i];
      } else {
        loop.strides[k].push_back(strides[k][i]);
      }
    }
  }
  if (loop.dims.empty()) {
    loop.dims = {Dim(1)};
    for (Dims& each : loop.strides) each = {Dim(0)};
  }
  return loop;
}

LoopDims SortDims(const Dims& domain, const std::vector<Dims>& strides,
                  std::vector<size_t>* order) {
  std::vector<size_t> sorted(domain.size());
  std::iota(sorted.begin(), sorted.end(), 0);
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](size_t a, size_t b) { return Guess(strides[0][a]) > Guess(strides[0][b]); });
  LoopDims loop;
  loop.strides.resize(strides.size());
  for (size_t d : sorted) {
    loop.dims.push_back(domain[d]);
    for (size_t k = 0; k < strides.size(); ++k) loop.strides[k].push_back(strides[k][d]);
  }
  if (order != nullptr) *order = sorted;
  if (domain.empty()) {
    loop.dims = {Dim(1)};
    for (Dims& each : loop.strides) each = {Dim(0)};
  }
  return loop;
}

LoopDims MergeDims(const Dims& domain, std::vector<Dims> strides) {
  LoopDims sorted = SortDims(domain, strides, nullptr);
  return MergeInOrder(sorted.dims, std::move(sorted.strides));
}

bool IsMultiple(const Dim& dim, int64_t divisor) {
  if (dim.is_static()) return dim.value() % divisor == 0;
  return dim.FindExactQuotient(divisor).has_value();
}

bool IsVectorised(const LoopDims& loop, size_t operand, const KernelOperand& layout, int64_t vec) {
  const Dims& strides = loop.strides[operand];
  int64_t bytes = std::min<int64_t>(16, vec * static_cast<int64_t>(DTypeSize(layout.dtype)));
  if (layout.alignment % bytes != 0 || !(strides.back() == Dim(1))) return false;
  if (!IsMultiple(loop.dims.back(), vec)) return false;
  return std::all_of(strides.begin(), strides.end() - 1,
                     [&](const Dim& stride) { return IsMultiple(stride, vec); });
}

int FindVec(const CudaSite& site, const LoopDims& loop) {
  constexpr int kMaxVec = 8;
  constexpr int64_t kVecBytes = 16;
  size_t num_outputs = site.outputs.size();
  auto operand = [&](size_t k) -> const KernelOperand& {
    return k < num_outputs ? site.outputs[k] : site.inputs[k - num_outputs];
  };
  int64_t smallest = 8;
  for (size_t k = 0; k < loop.strides.size(); ++k) {
    if (operand(k).present) {
      smallest = std::min(smallest, static_cast<int64_t>(DTypeSize(operand(k).dtype)));
    }
  }
  auto fits = [&](int vec) {
    for (size_t k = 0; k < loop.strides.size(); ++k) {
      bool must = k < num_outputs || loop.strides[k].back() == Dim(1);
      if (operand(k).present && must && !IsVectorised(loop, k, operand(k), vec)) return false;
    }
    return IsMultiple(loop.dims.back(), vec);
  };
  int vec = static_cast<int>(std::min<int64_t>(kMaxVec, kVecBytes / smallest));
  while (vec > 1 && !fits(vec)) vec /= 2;
  return vec;
}

bool IsFlat(const LoopDims& loop, size_t operand) {
  Dim dense = 1;
  for (size_t i = loop.dims.size(); i-- > 0;) {
    if (!(loop.strides[operand][i] == dense)) return false;
    dense = dense * loop.dims[i];
  }
  return true;
}

void WriteCoordinates(KernelText& text, const LoopDims& loop, std::string_view flat,
                      const std::vector<std::string>& names, const std::vector<bool>& used) {
  Dim inner = 1;
  for (size_t i = loop.dims.size(); i-- > 0;) {
    if (used[i] && names[i] != flat) {
      std::string value(flat);
      if (!(inner == Dim(1))) value += " / " + text.Size(inner);
      if (i > 0) value += " % " + text.Size(loop.dims[i]);
      text.Line("const Index {} = {};", names[i], value);
    }
    inner = inner * loop.dims[i];
  }
}

std::string OffsetText(KernelText& text, const LoopDims& loop, size_t operand,
                       std::string_view flat, const std::vector<std::string>& names) {
  if (!flat.empty() && IsFlat(loop, operand)) return std::string(flat);
  std::vector<KernelText::Term> terms;
  for (size_t i = 0; i < loop.dims.size(); ++i)
    terms.push_back({names[i], loop.strides[operand][i]});
  return text.Offset(terms);
}

}  // namespace stator
