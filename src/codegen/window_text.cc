#include "codegen/window_text.h"

#include <algorithm>

namespace stator {

std::string PositionType(const CudaSite& site) { return IsSmall(site) ? "int" : "i64"; }

std::vector<std::string> WindowNames(size_t rank) {
  std::vector<std::string> names = {"n", "c"};
  for (size_t i = 2; i < rank; ++i) names.push_back(fmt::format("p{}", i - 2));
  return names;
}

std::vector<int64_t> WindowAttr(const Attrs& attrs, std::string_view name, size_t count) {
  if (attrs.Find(name) == nullptr) return std::vector<int64_t>(count, 1);
  return attrs.GetInts(name);
}

int FindChannelVec(const CudaSite& site, const AnchoredBody& body, int max_vec) {
  const KernelOperand& x = site.inputs[body.operands[0]];
  int64_t size = static_cast<int64_t>(DTypeSize(x.dtype));
  int vec =
      OutputText::FindVec(site, body, 1, static_cast<int>(std::min<int64_t>(max_vec, 16 / size)));
  auto fits = [&](int64_t each) {
    if (!(x.strides[1] == Dim(1)) || x.alignment % (each * size) != 0) return false;
    for (size_t d = 0; d < x.strides.size(); ++d) {
      if (d != 1 && !IsMultiple(x.strides[d], each)) return false;
    }
    return true;
  };
  while (vec > 1 && !fits(vec)) vec /= 2;
  return vec;
}

}  // namespace stator
