// NumPy's array files: .npy and .npz, read and written without Python.
//
// Format: numpy.lib.format (versions 1 to 3 of the header), little endian, C or Fortran order; an
// .npz is a zip of such files. bfloat16, which NumPy lacks, is "|V2", as ml_dtypes writes it.
// Invariant: every size is checked against the bytes that are there, so a hostile file raises
// CorruptFile and does nothing else. Object arrays (pickles) and structured dtypes are refused.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "ops/tensor.h"

namespace stator {

struct NamedTensor {
  std::string name;
  HostTensor tensor;
};

// Raises CorruptFile, starting with `what`; Unsupported for a dtype outside our table.
HostTensor ParseNpy(std::span<const std::byte> bytes, const std::string& what);
// A file with a dense row-major copy of the tensor.
std::vector<std::byte> PrintNpy(const TensorRef& tensor);

// One tensor from x.npy, named "x"; those of x.npz in the archive's order, by their names.
std::vector<NamedTensor> ReadTensors(const std::string& path);
// Writes an .npz, or an .npy of the only tensor; raises InvalidArgument for another ending.
void WriteTensors(const std::string& path, std::span<const NamedTensor> tensors);

}  // namespace stator
