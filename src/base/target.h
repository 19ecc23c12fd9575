// Target: a device as data read from text, so that programs are compiled for one that is not there.
//
// In:  "key = value" lines (src/base/targets/*.target); `#` starts a comment.
// Out: the figures that choose and write kernels.
// Invariant: every figure is set and positive.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace stator {

struct Target {
  std::string arch;            // "sm_90a": what code is compiled for
  int capability = 0;          // 10 * major + minor: 90
  int num_sms = 0;             // streaming multiprocessors
  int warp_size = 0;           // threads
  int max_threads_per_sm = 0;  //
  int max_smem_per_block = 0;  // bytes that a block may ask for
  int64_t l2_bytes = 0;        //
  double bandwidth = 0;        // of memory, bytes per second
  double half_flops = 0;       // dense fp16 tensor cores, per second
  double float_flops = 0;      // fp32 outside of tensor cores, per second
};

// Raises InvalidArgument naming the line.
Target ParseTarget(std::string_view text);

// The targets that come with Stator, in order of capability: sm_80, sm_90a, sm_100.
std::span<const Target> AllTargets();

// The arch whose code every GPU from sm_80 on runs: PTX, which the driver translates.
inline constexpr std::string_view kPortableArch = "compute_80";

// The target named `arch`: one of AllTargets, or another GPU's as "sm_89", with the figures of the
// nearest older one; kPortableArch has those of sm_80. Empty for other names and below sm_80.
std::optional<Target> FindTarget(std::string_view arch);

// A target for a device of this compute capability: its own, or the figures of the nearest older
// one under the device's own arch. Empty below 8.0.
std::optional<Target> FindTarget(int major, int minor);

// The number of a device by name: 1 for "cuda:1", 0 for a name without one. Raises InvalidArgument.
int GetOrdinal(std::string_view device);

}  // namespace stator
