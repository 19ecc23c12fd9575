#include "select/select.h"

#include <algorithm>
#include <limits>

#include "base/hash.h"
#include "base/log.h"
#include "ir/print.h"

namespace stator {
namespace {

constexpr size_t kFewCandidates = 3;

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

Tactic SelectTactic(const KernelSite& site, const TacticProvider& provider,
                    const SelectOptions& options) {
  std::vector<Tactic> tactics = provider.FindTactics(site);
  if (tactics.empty()) return {.kind = StepKind::kReference, .attrs = {}};
  if (options.optimization_level <= 3 && tactics.size() > kFewCandidates) {
    tactics.resize(kFewCandidates);
  }
  if (options.optimization_level == 0 || tactics.size() == 1) return tactics[0];

  std::string site_key = Hash128(DescribeSite(site, provider)).ToString();
  int num_runs = options.num_avg_timing_iters;
  if (num_runs > 1) site_key += fmt::format(" average of {}", num_runs);
  size_t best = 0;
  double best_seconds = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < tactics.size(); ++i) {
    std::string key = fmt::format("{} {} {}", site_key, StepKindName(tactics[i].kind),
                                  tactics[i].attrs.ToString());
    std::optional<double> seconds = options.cache ? options.cache->Find(key) : std::nullopt;
    if (!seconds) {
      seconds = provider.Measure(site, tactics[i], num_runs);
      if (options.cache) options.cache->Set(key, *seconds);
    }
    Log().debug("tactic {}{}: {:.1f} us", StepKindName(tactics[i].kind),
                tactics[i].attrs.ToString(), *seconds * 1e6);
    if (*seconds < best_seconds) {
      best = i;
      best_seconds = *seconds;
    }
  }
  return tactics[best];
}

}  // namespace stator
