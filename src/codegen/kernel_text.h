// KernelText: the lines of one CUDA kernel, and what belongs around them.
//
// In:  the site (a body and the layouts of its operands), then lines in order.
// Out: the whole text with its header, and the launch.
// Invariant: `x0_at` is where operand %x0 lies, and a value's name without its `%` is its element.
#pragma once

#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "codegen/cuda_kernel.h"

namespace stator {

// A kernel to write: what FindCudaVariants and MakeCudaKernel are given.
struct CudaSite {
  std::string_view kind;
  const Graph& body;
  std::span<const KernelOperand> inputs, outputs;
  const Target& target;
};

// The type of an element in memory ("f16"), and that in which it is computed ("float").
std::string ElementType(DType dtype);
std::string ComputeType(DType dtype);
// An unsigned integer as wide as an element, to move it unread.
std::string MovedType(DType dtype);

// A number as a literal of the dtype's compute type; integers are cut as torch cuts a Scalar.
std::string NumberText(DType dtype, double value);

// A Dim as a C expression that binds tighter than any operator.
std::string DimText(const Dim& dim);

// Whether offsets and counts of elements fit 31 bits: every operand is static and small. The type
// `Index` of a kernel's text is then unsigned, else long long.
bool IsSmall(const CudaSite& site);

class KernelText {
 public:
  // `types`: parameter element types, inputs then outputs; empty: by dtype.
  KernelText(const CudaSite& site, std::vector<std::string> types = {});

  const CudaSite& site() const { return site_; }
  const std::string& input_name(size_t i) const { return input_names_[i]; }
  const std::string& output_name(size_t i) const { return output_names_[i]; }
  // Names of the parameters.
  std::string input_at(size_t i) const { return input_names_[i] + "_at"; }
  std::string output_at(size_t i) const { return output_names_[i] + "_at"; }
  // Names of the body's values, as its text has them, without `%`.
  const std::string& NameOf(ValueId id) const { return value_names_[id.index]; }

  template <typename... Args>
  void Line(fmt::format_string<Args...> format, Args&&... args) {
    AddLine(fmt::format(format, std::forward<Args>(args)...));
  }
  // A line before the kernel.
  template <typename... Args>
  void Before(fmt::format_string<Args...> format, Args&&... args) {
    before_ += fmt::format(format, std::forward<Args>(args)...) + "\n";
  }
  // A line that opens a block, and the line that closes the last one opened.
  template <typename... Args>
  void Open(fmt::format_string<Args...> format, Args&&... args) {
    AddLine(fmt::format(format, std::forward<Args>(args)...) + " {");
    ++depth_;
  }
  void Close(std::string_view end = "");  // what stands behind the brace
  // A block of its own, to be closed.
  void OpenBlock();
  // `#pragma unroll` and a loop `for (int name = 0; name < count; ++name)`, to be closed; for a
  // count of 1 a block in which the name is 0.
  void OpenLoop(std::string_view name, int64_t count);

  // A size for an expression; notes the symbols that it needs.
  std::string Size(const Dim& dim);
  // "a * 3 + b * s0", with terms of stride 0 left out; "0" without any.
  struct Term {
    std::string index;
    Dim stride;
  };
  std::string Offset(const std::vector<Term>& terms);
  // "x0_at + offset", without "+ 0".
  static std::string At(const std::string& pointer, const std::string& offset);

  // `entry`: a word for the kernel's name. `cluster`: blocks that run together, from sm_90 on.
  // `blocks`: how many a multiprocessor is to have room for.
  CudaKernel Finish(std::string_view entry, Dims grid, int block, int smem = 0, int cluster = 1,
                    int blocks = 1);

 private:
  void AddLine(std::string_view line);

  const CudaSite& site_;
  std::vector<std::string> types_, input_names_, output_names_, value_names_;
  std::set<std::string> symbols_;
  std::string before_, lines_;
  int depth_ = 1;
};

// ceil(a / b)
Dim CeilDiv(const Dim& a, int64_t b);

}  // namespace stator
