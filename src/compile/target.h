// The device engines that plans can be made for, as the compiler's stages see them.
//
// In:  what CompileOptions::device names. Out: what the engine can run and how.
// Invariant: targets are made once and live for ever.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "fuse/fuse.h"
#include "ir/graph.h"
#include "select/select.h"

namespace stator {

struct CompileTarget {
  std::string name;  // Plan::target
  const TacticProvider* tactics = nullptr;
  // Plan::aux_streams where the caller has no wish; none for a device without streams.
  std::optional<int> aux_streams;
  // Whether one kernel of this kind can run `body`: FuseOptions::can_run.
  std::function<bool(std::string_view kind, const Graph& body)> can_run;
  // Why a node of an imported graph is left to torch; empty when the engine runs it.
  std::function<std::string(const Graph& graph, const Node& node)> find_reason;
  // Whether the engine has only a slow kernel for a node, for the cost model (partition/cost.h);
  // empty where that has no figures of the device.
  std::function<bool(const Graph& graph, const Node& node)> is_reference;
  // Makes an emitted plan complete: compiles its kernels. May be empty. Raises Unsupported for a
  // step that nothing runs. `cache_folder`: for what is compiled; may be empty.
  std::function<void(Plan& plan, const std::string& cache_folder)> finish;
};

// Raises InvalidArgument for a device that there is no engine for. `device`: "cpu",
// "cuda:0", or, to compile for a device that is not there, an arch: "sm_90a".
const CompileTarget& GetTarget(std::string_view device, const TacticLimits& limits);

}  // namespace stator
