// StageGate: times each stage of the straight line, dumps what it made, and names it in errors.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "compile/compile.h"

namespace stator {

class StageGate {
 public:
  // Times are added to `stages`, one entry per name in order of first run.
  explicit StageGate(std::vector<StageTime>& stages) : stages_(stages) {}

  // Runs `fn`. `text`, when given, is what the stage made, for STATOR_DUMP. An Error raised by `fn`
  // that is a bug of ours (Internal) is raised again with the stage's name in it; any other
  // exception becomes an Error.
  void Run(const std::string& name, const std::function<void()>& fn,
           const std::function<std::string()>& text = {});
  // Adds the times of a run of the passes to those of stage "passes".
  void AddPasses(std::span<const PassTime> times);

 private:
  StageTime& GetStage(const std::string& name);

  std::vector<StageTime>& stages_;
};

}  // namespace stator
