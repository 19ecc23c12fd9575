#include "compile/stage.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <new>

#include "base/error.h"
#include "base/knobs.h"
#include "base/log.h"

namespace stator {

void StageGate::Run(const std::string& name, const std::function<void()>& fn,
                    const std::function<std::string()>& text) {
  auto start = std::chrono::steady_clock::now();
  try {
    fn();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kInternal) throw;
    throw Error(error.kind(), fmt::format("stage {}: {}", name, error.message()), error.node());
  } catch (const std::bad_alloc&) {
    Fail(ErrorKind::kOutOfMemory, "stage {}: out of memory", name);
  } catch (const std::exception& error) {  // of a library
    Fail(ErrorKind::kInternal, "stage {}: {}", name, error.what());
  }
  auto elapsed = std::chrono::steady_clock::now() - start;
  double ms = std::chrono::duration<double, std::milli>(elapsed).count();
  GetStage(name).ms += ms;
  Log().debug("stage {} took {:.1f} ms", name, ms);
  if (text) DumpText(name, text);
}

void StageGate::AddPasses(std::span<const PassTime> times) {
  std::vector<PassTime>& passes = GetStage("passes").passes;
  for (const PassTime& time : times) {
    auto it = std::ranges::find(passes, time.name, &PassTime::name);
    if (it == passes.end()) it = passes.insert(it, {.name = time.name});
    it->ms += time.ms;
    it->num_rewrites += time.num_rewrites;
  }
}

StageTime& StageGate::GetStage(const std::string& name) {
  auto it = std::ranges::find(stages_, name, &StageTime::name);
  return it != stages_.end() ? *it : stages_.emplace_back(StageTime{.name = name});
}

}  // namespace stator
