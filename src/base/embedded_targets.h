// The files of src/base/targets, embedded when building.
#pragma once

#include <string_view>

namespace stator {

extern const std::string_view kTargetSm80, kTargetSm90a, kTargetSm100;

}  // namespace stator
