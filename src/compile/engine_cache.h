// Engines kept between processes: the plan of a segment, without its weights.
//
// In:  a segment's graph and the context in which it is compiled. Out: the plan that an earlier
//      compilation of the same made, bound to this graph's weights; or a reason why there is none.
// File: <graph>-<context>.engine, both as hashes; docs/python.md tells users of it. An entry holds
//      no weights: what is derived from them is made when the engine is loaded.
// Invariants: a cached plan is what the compiler would make, but for times measured anew. A file
// that is damaged counts as none. Nothing here raises: without a cache, compilation goes on.
#pragma once

#include <memory>
#include <string>

#include "ir/graph.h"
#include "plan/plan.h"

namespace stator {

// What decides a plan.
struct EngineKey {
  // Hash of the graph: ops, attributes, wiring, sizes, literals' bytes, FX names; weights by name
  // and type. No locations: lines of the user's file may move.
  std::string graph;
  std::string context;  // one fact per line: build, target, options
};

EngineKey MakeEngineKey(const Graph& graph, std::string context);

struct CachedEngine {
  std::shared_ptr<const Plan> plan;  // null: none
  std::string status;  // "hit", "miss: <reason>", or "off: <reason>" when nothing is cached
};

class EngineCache {
 public:
  // Uses the folder, or nothing when it is empty or may not be used (OpenCacheFolder), which is
  // warned about once.
  explicit EngineCache(std::string folder);

  // `graph` is the one that the key was made of.
  CachedEngine Find(const EngineKey& key, const Graph& graph) const;
  // Keeps a plan for a key that Find missed, and trims the folder to STATOR_CACHE_SIZE. A folder
  // that cannot be written is warned about once.
  void Store(const EngineKey& key, const Plan& plan) const;

 private:
  std::string PathOf(const EngineKey& key) const;
  std::string FindMissReason(const EngineKey& key) const;

  std::string folder_;
  std::string off_reason_;  // empty: on
  int64_t max_bytes_ = 0;
};

// An entry as the file holds it: for `stator cache`.
struct CacheEntry {
  EngineKey key;
  Plan plan;  // its weights without data
};

// Raises CorruptFile when the file is not whole, and InvalidArgument when it cannot be read.
CacheEntry ReadCacheEntry(const std::string& path);

}  // namespace stator
