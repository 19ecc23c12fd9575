// Names of ATen overloads: what an FX node calls.
#pragma once

#include <optional>
#include <string>

namespace stator {

// "torch.ops.aten.add.Tensor" -> "aten.add.Tensor".
std::string NormalizeTarget(std::string target);

// "aten.add_.Tensor" -> "aten.add.Tensor", "aten.__iadd__.Tensor" -> "aten.add.Tensor"; empty for a
// target that is not in place.
std::optional<std::string> FindFunctional(const std::string& target);

}  // namespace stator
