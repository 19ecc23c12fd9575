// Fingerprint: notices that weights were written behind our back.
//
// In:  the weights' addresses. Out: one hash of a sample of their content.
// A write through `.data` or numpy changes neither a tensor's identity, address nor version, so the
// content itself is looked at: of each weight the first 8 bytes, the last 8, and kNumInner words of
// 8 bytes spread evenly between them (all of it when it is that small). For the 267 weights of
// ResNet-50 that takes 1 us when the words are cached, 20 us when none is.
// It sees: any change that touches a sampled word, as a LoRA merge, a cast, a scaling, a new
// initialisation or a loaded checkpoint does (each changes nearly every element).
// It cannot see: a write to few elements that misses every sample. Such a change needs an in-place
// operation on the parameter itself (its version counter is seen), or an explicit Refit.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "plan/plan.h"

namespace stator {

class Fingerprint {
 public:
  // The weights' data must stay valid while Compute is called.
  void Watch(std::span<const ConstantData> weights);
  // The hash of the sampled content as it is now. May be called by several threads.
  uint64_t Compute() const;

 private:
  static constexpr size_t kWord = 8;
  static constexpr size_t kNumInner = 2;

  std::vector<const std::byte*> words_;  // each the address of kWord bytes
  std::vector<ConstantData> small_;      // weights of less than kWord bytes
};

}  // namespace stator
