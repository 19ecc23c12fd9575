// The gemm step: matmul with its epilogue, by one of oneDNN's primitives.
//
// In:  a kernel's body and operands, and the form to run it in. Out: a prepared step.
// A linear layer has several spellings in oneDNN and none is fastest for all sizes and instruction
// sets (measured from 31 to 100 % of the FMA peak), so the form is a tactic, chosen by measuring.
#pragma once

#include <memory>
#include <string_view>

#include "cpu/run/step.h"

namespace stator {

// Values of the attribute `form` of a gemm step. For a[M, K] times b[K, N]:
inline constexpr std::string_view kGemmForms[] = {
    "matmul",         // the matmul primitive; the only one for stacks of matrices
    "inner_product",  // fully connected layer with weights b transposed
    "terms",          // the same, a long sum over K added up in terms (cpu/run/sum_terms.h)
    "conv_h",         // 1x1 convolution of a channels-last image of height M and width 1
    "conv_w",         // 1x1 convolution of a channels-last image of height 1 and width M
};

// Null when oneDNN has no optimised implementation of this form of the body.
std::unique_ptr<PreparedStep> FindGemm(const StepSite& site, std::string_view form);

}  // namespace stator
