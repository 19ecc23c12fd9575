// Whether a process is a forked child of the one that made something: the threads of its parent are
// gone, and with them those that OpenMP's teams were made of.
#pragma once

#include <cstdint>

namespace stator {

// The forks between this process and the one in which this was first called.
int64_t NumForks();

}  // namespace stator
