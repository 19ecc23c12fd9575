// What the families of pointwise kernels and copies share: which kernels they take, the dims over
// which these run, and the statements for one element.
#pragma once

#include "codegen/body_text.h"
#include "codegen/loop_dims.h"

namespace stator {

// A copy has no body: its output is its input.
bool IsCopy(const CudaSite& site);
// Whether the site is a copy, or pointwise nodes over one domain.
bool IsPointwise(const CudaSite& site);

// Operands in the order outputs, inputs: the first output gives the order of the dims.
LoopDims FindPointwiseLoop(const CudaSite& site);

// Types of the parameters: a copy's elements are moved unread.
std::vector<std::string> PointwiseTypes(const CudaSite& site);

// Writes the computation of one element, `elements` being those of the inputs in memory; returns
// the outputs' elements.
std::vector<std::string> WritePointwise(const CudaSite& site, BodyText& body,
                                        const std::vector<std::string>& elements);

}  // namespace stator
