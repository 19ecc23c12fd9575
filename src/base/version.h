// Which build of Stator this is.
#pragma once

#include <string>

namespace stator {

// "stator 0.1.0 build 16d77e41c96c40c5": the release, and the id that the linker gave to the
// library or program that holds this code. Two builds of one release that differ in any instruction
// have different ids, so what one made (a cached plan) is not taken for what the other would make.
const std::string& BuildName();

}  // namespace stator
