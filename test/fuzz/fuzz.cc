// Differential fuzzing: random graphs, each through both comparisons of tools/difference.h.
//
//   fuzz compare SEED COUNT [FOLDER]   compares COUNT graphs from SEED on; those that differ are
//                                      written to FOLDER, as comparison_seed.ir
//   fuzz cases SEED COUNT SAMPLES      writes them as cases (test/fuzz/case_stream.h) to stdout
//   fuzz case FILE SEED SAMPLES        the same of a graph from a file
//   fuzz print SEED                    prints a graph
// Exit codes: 0 when nothing differs, 1 when something does, 2 for wrong usage. A graph on which
// the program crashes is named on stderr.
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include "base/error.h"
#include "fuzz/case_stream.h"
#include "fuzz/random_graph.h"
#include "ir/print.h"
#include "tools/difference.h"
#include "tools/model_file.h"

namespace stator {
namespace {

// What a crash is told of, in full before anything runs: a signal handler may only write.
std::array<char, 64> at_work;

void TellCrash(int signal) {
  (void)!write(STDERR_FILENO, at_work.data(), std::strlen(at_work.data()));
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void WatchCrashes() {
  static std::array<std::byte, 1 << 16> stack;  // its own: the stack may be what ran out
  stack_t own = {.ss_sp = stack.data(), .ss_flags = 0, .ss_size = stack.size()};
  sigaltstack(&own, nullptr);
  struct sigaction action = {};
  action.sa_handler = TellCrash;
  action.sa_flags = SA_ONSTACK;
  for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) sigaction(signal, &action, nullptr);
}

Graph MakeGraph(uint64_t seed) {
  at_work.fill('\0');
  fmt::format_to_n(at_work.data(), at_work.size() - 1, "crash at seed {}\n", seed);
  return MakeAnyGraph(seed);
}

// Whether nothing differs.
bool Compare(uint64_t seed, const std::string& folder, DifferenceStats& stats) {
  Graph graph = MakeGraph(seed);
  bool same = true;
  for (Comparison comparison : {Comparison::kPasses, Comparison::kEngine}) {
    std::string difference = FindDifference(graph, comparison, seed, &stats);
    if (difference.empty()) continue;
    same = false;
    const char* name = comparison == Comparison::kPasses ? "passes" : "engine";
    fmt::print("seed {}, {}: {}\n", seed, name, difference);
    std::fflush(stdout);
    if (folder.empty()) continue;
    std::filesystem::create_directories(folder);
    WriteText(fmt::format("{}/{}_{}.ir", folder, name, seed), PrintGraph(graph));
  }
  return same;
}

int CompareAll(uint64_t first, uint64_t count, const std::string& folder) {
  DifferenceStats stats;
  int64_t num_bad = 0;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    try {
      num_bad += !Compare(seed, folder, stats);
    } catch (const std::exception& error) {
      fmt::print("seed {}, generator: {}\n", seed, error.what());
      ++num_bad;
    }
  }
  fmt::print("{} graphs from seed {} on: {} differ; {} runs, {} elements, {} without a bound\n",
             count, first, num_bad, stats.num_runs, stats.num_elements, stats.num_unbounded);
  return num_bad > 0 ? 1 : 0;
}

int Main(const std::vector<std::string>& args) {
  WatchCrashes();
  auto number = [&](size_t i) { return std::strtoull(args[i].c_str(), nullptr, 10); };
  if ((args.size() == 3 || args.size() == 4) && args[0] == "compare") {
    return CompareAll(number(1), number(2), args.size() == 4 ? args[3] : "");
  }
  if (args.size() == 4 && args[0] == "cases") {
    for (uint64_t seed = number(1); seed < number(1) + number(2); ++seed) {
      WriteCase(MakeGraph(seed), fmt::format("seed {}", seed), seed, static_cast<int>(number(3)),
                stdout);
    }
    return 0;
  }
  if (args.size() == 4 && args[0] == "case") {
    WriteCase(ReadModel(args[1]), args[1], number(2), static_cast<int>(number(3)), stdout);
    return 0;
  }
  if (args.size() == 2 && args[0] == "print") {
    std::fputs(PrintGraph(MakeGraph(number(1))).c_str(), stdout);
    return 0;
  }
  fmt::print(stderr,
             "usage: fuzz compare SEED COUNT [FOLDER] | cases SEED COUNT SAMPLES |\n"
             "       case FILE SEED SAMPLES | print SEED\n");
  return 2;
}

}  // namespace
}  // namespace stator

int main(int argc, char** argv) { return stator::Main({argv + 1, argv + argc}); }
