#include "codegen/cuda_kernel.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "codegen/families.h"

namespace stator {
namespace {

// The families that may have a kernel's body, the better one first.
std::vector<const KernelFamily*> FindFamilies(std::string_view kind) {
  if (kind == "pointwise" || kind == "copy") return {&kTransposeFamily, &kPointwiseFamily};
  if (kind == "rowwise") return {&kRowwiseFamily};
  if (kind == "reduce") return {&kReduceFamily};
  if (kind == "pool") return {&kPoolFamily};
  if (kind == "gather") return {&kIndexFamily};
  if (kind == "conv") return {&kWgmmaFamily, &kMmaFamily, &kDepthwiseFamily, &kConvFamily};
  if (kind == "gemm") return {&kWgmmaFamily, &kMmaFamily, &kGemmFamily};
  if (kind == "attention") return {&kMmaAttentionFamily, &kAttentionFamily};
  if (kind == "reference") return {&kIndexFamily, &kPoolFamily, &kLineFamily};
  return {};
}

// Symbols are parameters under their own names: s0, s77. No other name in a kernel looks so.
bool IsParameterName(std::string_view name) {
  return name.size() > 1 && name[0] == 's' &&
         name.find_first_not_of("0123456789", 1) == std::string_view::npos;
}

bool HaveParameterNames(std::span<const KernelOperand> operands) {
  std::set<std::string> symbols;
  for (const KernelOperand& operand : operands) {
    for (const Dim& dim : operand.dims) dim.CollectSymbols(symbols);
    for (const Dim& stride : operand.strides) stride.CollectSymbols(symbols);
  }
  return std::all_of(symbols.begin(), symbols.end(), IsParameterName);
}

const KernelFamily& GetFamily(std::string_view kind, std::string_view name) {
  for (const KernelFamily* family : FindFamilies(kind)) {
    if (family->name == name) return *family;
  }
  Fail(ErrorKind::kInvalidArgument, "a {} kernel has no form \"{}\"", kind, name);
}

}  // namespace

std::vector<Attrs> FindCudaVariants(std::string_view kind, const Graph& body,
                                    std::span<const KernelOperand> inputs,
                                    std::span<const KernelOperand> outputs, const Target& target) {
  CudaSite site{.kind = kind, .body = body, .inputs = inputs, .outputs = outputs, .target = target};
  std::vector<Attrs> variants;
  constexpr size_t kMaxOperands = 120;  // parameters of a kernel: at most 4 KB, symbols among them
  if (inputs.size() + outputs.size() > kMaxOperands) return variants;
  if (!HaveParameterNames(inputs) || !HaveParameterNames(outputs)) return variants;
  for (const KernelFamily* family : FindFamilies(kind)) {
    for (Attrs& variant : family->find_variants(site)) {
      variant.Set("form", std::string(family->name));
      variants.push_back(std::move(variant));
    }
  }
  return variants;
}

CudaKernel MakeCudaKernel(std::string_view kind, const Graph& body,
                          std::span<const KernelOperand> inputs,
                          std::span<const KernelOperand> outputs, const Target& target,
                          const Attrs& variant) {
  CudaSite site{.kind = kind, .body = body, .inputs = inputs, .outputs = outputs, .target = target};
  return GetFamily(kind, variant.GetString("form")).make(site, variant);
}

}  // namespace stator
