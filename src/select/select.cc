#include "select/select.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <set>

#include "base/hash.h"
#include "base/log.h"
#include "ir/print.h"

namespace stator {
namespace {

std::string DescribeTensor(const PlanTensor& tensor) {
  return fmt::format("{}{}{}{}", IsConstant(tensor) ? "const " : "", DTypeName(tensor.dtype),
                     DimsToString(tensor.dims), DimsToString(tensor.strides));
}

// Everything that decides how fast a kernel runs.
std::string DescribeSite(const KernelSite& site, const TacticProvider& provider) {
  std::string text = provider.key() + "\n";
  for (const PlanTensor& tensor : site.inputs) text += DescribeTensor(tensor) + "\n";
  for (const PlanTensor& tensor : site.outputs) text += DescribeTensor(tensor) + "\n";
  return text + PrintGraph(*site.kernel->body, {.origins = false, .literal_bytes = true});
}

struct Candidates {
  std::vector<Tactic> tactics;
  std::vector<std::string> keys;  // in the timing cache; none where the first tactic is taken
};

Candidates FindCandidates(const KernelSite& site, const TacticProvider& provider,
                          const SelectOptions& options) {
  Candidates found{.tactics = provider.FindTactics(site), .keys = {}};
  std::vector<Tactic>& tactics = found.tactics;
  if (tactics.empty()) tactics.push_back({.kind = StepKind::kReference, .attrs = {}});
  if (options.tactic_seed != 0) {
    std::string text = DescribeSite(site, provider);
    tactics = {tactics[Hash64(text.data(), text.size(), options.tactic_seed) % tactics.size()]};
  }
  if (options.optimization_level <= 3 && tactics.size() > provider.num_few()) {
    tactics.resize(provider.num_few());
  }
  if (options.optimization_level == 0 || tactics.size() == 1) return found;
  std::string site_key = Hash128(DescribeSite(site, provider)).ToString();
  int num_runs = options.num_avg_timing_iters;
  if (num_runs > 1) site_key += fmt::format(" average of {}", num_runs);
  for (const Tactic& tactic : tactics) {
    found.keys.push_back(
        fmt::format("{} {} {}", site_key, StepKindName(tactic.kind), tactic.attrs.ToString()));
  }
  return found;
}

// The position of the fastest.
size_t FindBest(const KernelSite& site, const Candidates& candidates,
                const TacticProvider& provider, const SelectOptions& options) {
  size_t best = 0;
  double best_seconds = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < candidates.tactics.size(); ++i) {
    const Tactic& tactic = candidates.tactics[i];
    const std::string& key = candidates.keys[i];
    std::optional<double> seconds = options.cache ? options.cache->Find(key) : std::nullopt;
    if (!seconds) {
      seconds = provider.Measure(site, tactic, options.num_avg_timing_iters);
      if (options.cache && !std::isnan(*seconds)) options.cache->Set(key, *seconds);
    }
    Log().debug("tactic {}{}: {:.1f} us", StepKindName(tactic.kind), tactic.attrs.ToString(),
                *seconds * 1e6);
    if (*seconds * tactic.penalty < best_seconds) {
      best = i;
      best_seconds = *seconds * tactic.penalty;
    }
  }
  return best;
}

}  // namespace

bool IsConstant(const PlanTensor& tensor) {
  return tensor.storage == StorageKind::kWeight || tensor.storage == StorageKind::kLiteral ||
         tensor.storage == StorageKind::kDerived;
}

SymbolValues GuessSymbols(const Graph& body) {
  SymbolValues symbols;
  for (const SymbolRange& range : body.symbols) {
    symbols[range.name] = range.min + (std::min<int64_t>(range.max, 4096) - range.min) / 2;
  }
  return symbols;
}

std::vector<Tactic> SelectTactics(std::span<const KernelSite> sites, const TacticProvider& provider,
                                  const SelectOptions& options) {
  std::vector<Candidates> all;
  std::vector<TacticProvider::Trial> trials;
  std::set<std::string> seen;
  using Clock = std::chrono::steady_clock;
  auto start = Clock::now();
  auto log_time = [&](std::string_view what, size_t count) {
    std::chrono::duration<double> elapsed = Clock::now() - start;
    Log().debug("select: {} {} in {:.2f} s", count, what, elapsed.count());
    start = Clock::now();
  };
  for (const KernelSite& site : sites) all.push_back(FindCandidates(site, provider, options));
  log_time("kernels' tactics listed", sites.size());
  for (size_t i = 0; i < sites.size(); ++i) {
    for (size_t k = 0; k < all[i].keys.size(); ++k) {
      const std::string& key = all[i].keys[k];
      bool known = options.cache != nullptr && options.cache->Find(key).has_value();
      if (!known && seen.insert(key).second) trials.emplace_back(&sites[i], &all[i].tactics[k]);
    }
  }
  if (!trials.empty()) provider.Prepare(trials);
  log_time("tactics prepared", trials.size());
  std::vector<Tactic> tactics;
  for (size_t i = 0; i < sites.size(); ++i) {
    size_t best = all[i].keys.empty() ? 0 : FindBest(sites[i], all[i], provider, options);
    tactics.push_back(std::move(all[i].tactics[best]));
  }
  log_time("tactics measured", trials.size());
  return tactics;
}

}  // namespace stator
