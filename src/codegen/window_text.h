// Windows that slide over spatial dims, for pooling and convolution: positions and their bounds.
#pragma once

#include "codegen/output_text.h"

namespace stator {

// The signed type of positions, which may lie outside of a tensor.
std::string PositionType(const CudaSite& site);

// Names of the coordinates of a [n, c, spatial...] output: "n", "c", "p0", ...
std::vector<std::string> WindowNames(size_t rank);

// A static list attribute; all ones when absent.
std::vector<int64_t> WindowAttr(const Attrs& attrs, std::string_view name, size_t count);

// The most channels that a thread can compute when neighbouring channels of both x and the output
// lie next to each other; 1 else.
int FindChannelVec(const CudaSite& site, const AnchoredBody& body, int max_vec);

}  // namespace stator
