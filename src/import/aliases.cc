#include "import/aliases.h"

#include <optional>

namespace stator {
namespace {

using schema::Argument;
using schema::TensorMeta;

enum MemoryFormat { kContiguousFormat = 1, kChannelsLast = 2, kChannelsLast3d = 3, kPreserve = 4 };

std::optional<std::vector<int64_t>> FindStatic(const std::vector<schema::SymInt>& sizes) {
  std::vector<int64_t> values;
  for (const schema::SymInt& size : sizes) {
    if (!size.unknown.empty() || !size.dim.is_static()) return std::nullopt;
    values.push_back(size.dim.value());
  }
  return values;
}

// Whether strides are those of a dense tensor whose dims lie in `order`, outermost first; a dim of
// size 1 may have any stride.
bool IsDense(const TensorMeta& meta, const std::vector<int>& order) {
  Dim expected = 1;
  for (size_t i = order.size(); i-- > 0;) {
    const Dim& size = meta.sizes[order[i]].dim;
    if (!(size == Dim(1)) && !(meta.strides[order[i]].dim == expected)) return false;
    expected = expected * size;
  }
  return true;
}

bool IsContiguous(const TensorMeta& meta, int64_t format) {
  int rank = static_cast<int>(meta.sizes.size());
  if (static_cast<int>(meta.strides.size()) != rank) return false;
  std::vector<int> order = IdentityPerm(rank);
  if (format == kChannelsLast || format == kChannelsLast3d) {
    if (rank != (format == kChannelsLast ? 4 : 5)) return false;
    order.erase(order.begin() + 1);
    order.push_back(1);
  }
  return IsDense(meta, order);
}

// Whether strides exist that make `to_sizes` a view of `from`: each run of new dims must cover dims
// that lie densely one after another.
std::optional<bool> FindReshapeIsView(const TensorMeta& from, const TensorMeta& to) {
  if (IsContiguous(from, kContiguousFormat)) return true;
  auto sizes = FindStatic(from.sizes), strides = FindStatic(from.strides),
       wanted = FindStatic(to.sizes);
  if (!sizes || !strides || !wanted || sizes->size() != strides->size()) return std::nullopt;
  int64_t elements = 1;
  for (int64_t size : *sizes) elements *= size;
  if (elements == 0) return true;
  int next = static_cast<int>(wanted->size()) - 1;
  int64_t chunk = 1, innermost = sizes->empty() ? 1 : strides->back();
  for (int i = static_cast<int>(sizes->size()) - 1; i >= 0; --i) {
    chunk *= (*sizes)[i];
    bool joins = i > 0 && ((*sizes)[i - 1] == 1 || (*strides)[i - 1] == chunk * innermost);
    if (joins) continue;
    int64_t covered = 1;
    while (next >= 0 && (covered < chunk || (*wanted)[next] == 1)) covered *= (*wanted)[next--];
    if (covered != chunk) return false;
    chunk = 1;
    if (i > 0) innermost = (*strides)[i - 1];
  }
  return next < 0;
}

int64_t FindFormat(const schema::Node& node, int64_t fallback) {
  for (const schema::NamedArgument& input : node.inputs) {
    if (input.name == "memory_format" && input.arg.kind == Argument::Kind::kMemoryFormat) {
      return input.arg.integer;
    }
  }
  return fallback;
}

bool HasTrue(const schema::Node& node, std::string_view name) {
  for (const schema::NamedArgument& input : node.inputs) {
    if (input.name == name && input.arg.kind == Argument::Kind::kBool)
      return input.arg.integer != 0;
  }
  return false;
}

bool IsStaticMeta(const TensorMeta& meta) {
  return FindStatic(meta.sizes) && FindStatic(meta.strides);
}

}  // namespace

Alias ResolveAlias(Alias alias, const schema::Node& node, const TensorMeta& from,
                   const TensorMeta& to) {
  switch (alias) {
    case Alias::kFresh:
    case Alias::kView:
    case Alias::kUnknown: return alias;
    case Alias::kReshape: {
      std::optional<bool> view = FindReshapeIsView(from, to);
      return !view ? Alias::kUnknown : *view ? Alias::kView : Alias::kFresh;
    }
    case Alias::kContiguous:
      if (IsContiguous(from, FindFormat(node, kContiguousFormat))) return Alias::kView;
      return IsStaticMeta(from) ? Alias::kFresh : Alias::kUnknown;
    case Alias::kTo: {
      if (HasTrue(node, "copy") || from.scalar_type != to.scalar_type || from.device != to.device ||
          from.device_index != to.device_index) {
        return Alias::kFresh;
      }
      int64_t format = FindFormat(node, kPreserve);
      if (format == kPreserve || IsContiguous(from, format)) return Alias::kView;
      return IsStaticMeta(from) ? Alias::kFresh : Alias::kUnknown;
    }
  }
  __builtin_unreachable();
}

}  // namespace stator
