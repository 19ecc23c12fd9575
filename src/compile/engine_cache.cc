#include "compile/engine_cache.h"

#include <cstring>
#include <filesystem>
#include <map>

#include "base/error.h"
#include "base/file_map.h"
#include "base/hash.h"
#include "base/knobs.h"
#include "base/log.h"
#include "compile/cache_folder.h"
#include "ir/print.h"
#include "plan/wire.h"

namespace stator {
namespace {

// ---- entries as bytes: a header, then a message (plan/wire.h)

constexpr char kMagic[8] = {'S', 'T', 'A', 'T', 'E', 'N', 'G', '1'};

struct Header {
  char magic[8];
  uint64_t checksum;  // XXH3-64 of everything after the header
};

enum EntryField { kGraph = 1, kContext, kPlan };

std::vector<std::byte> EntryToBytes(const EngineKey& key, std::span<const std::byte> plan) {
  WireWriter message;
  message.AddText(kGraph, key.graph);
  message.AddText(kContext, key.context);
  message.AddText(kPlan, {reinterpret_cast<const char*>(plan.data()), plan.size()});
  std::span<const std::byte> content = message.bytes();
  Header header{.checksum = Hash64(content.data(), content.size())};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  std::vector<std::byte> bytes(sizeof(header) + content.size());
  std::memcpy(bytes.data(), &header, sizeof(header));
  std::memcpy(bytes.data() + sizeof(header), content.data(), content.size());
  return bytes;
}

struct RawEntry {
  EngineKey key;
  std::string_view plan;  // bytes of the file
};

RawEntry EntryFromBytes(std::span<const std::byte> bytes) {
  Header header;
  if (bytes.size() < sizeof(header)) Fail(ErrorKind::kCorruptFile, "{} bytes", bytes.size());
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0) {
    Fail(ErrorKind::kCorruptFile, "it does not start as a cached engine does");
  }
  std::span<const std::byte> content = bytes.subspan(sizeof(header));
  if (Hash64(content.data(), content.size()) != header.checksum) {
    Fail(ErrorKind::kCorruptFile, "its checksum does not match its content");
  }
  RawEntry entry;
  for (WireReader in(content); in.Next();) {
    switch (in.field()) {
      case kGraph: entry.key.graph = in.Text(); break;
      case kContext: entry.key.context = in.Text(); break;
      case kPlan: entry.plan = in.Text(); break;
      default: in.BadField();
    }
  }
  return entry;
}

// ---- a cached plan for this graph

// Binds the plan's weights to the graph's, which have the same names.
void BindWeights(Plan& plan, const Graph& graph) {
  std::map<std::string_view, const Value*> weights;
  for (ValueId id : graph.constants()) {
    const Value& value = graph.value(id);
    if (value.kind == ValueKind::kWeight) weights[value.name] = &value;
  }
  for (PlanWeight& weight : plan.weights) {
    auto it = weights.find(weight.name);
    if (it == weights.end() || it->second->type.dtype != weight.dtype ||
        EvalDims(it->second->type.dims, {}) != weight.dims) {
      Fail(ErrorKind::kCorruptFile, "its weight `{}` is not the graph's", weight.name);
    }
    weight.data = it->second->data;
  }
}

void CheckPorts(const std::vector<PlanPort>& ports, std::span<const ValueId> values,
                const Graph& graph) {
  bool same = ports.size() == values.size();
  for (size_t i = 0; same && i < ports.size(); ++i) {
    const TensorType& type = graph.type(values[i]);
    same = ports[i].dtype == type.dtype && ports[i].dims == type.dims;
  }
  if (!same) Fail(ErrorKind::kCorruptFile, "its inputs or outputs are not the graph's");
}

constexpr std::string_view kOriginSeparator = " · ";  // Origin::ToString

// Steps name their nodes' lines in the user's file as it was when the plan was made.
void RenewLocations(Plan& plan, const Graph& graph) {
  std::map<std::string_view, std::string_view> locations;  // by FX name
  for (NodeId id : graph.nodes()) {
    const Origin& origin = graph.node(id).origin;
    if (!origin.location.empty()) locations.emplace(origin.name, origin.location);
  }
  for (auto* steps : {&plan.prologue, &plan.steps}) {
    for (Step& step : *steps) {
      size_t separator = step.origin.find(kOriginSeparator);
      std::string name = step.origin.substr(0, std::min(separator, step.origin.find('+')));
      auto it = locations.find(name);
      if (separator == std::string::npos || it == locations.end()) continue;
      step.origin.resize(separator + kOriginSeparator.size());
      step.origin += it->second;
    }
  }
}

std::shared_ptr<const Plan> MakePlan(std::string_view bytes, std::shared_ptr<const void> owner,
                                     const Graph& graph) {
  auto plan =
      std::make_shared<Plan>(PlanFromBytes(std::as_bytes(std::span(bytes)), std::move(owner)));
  CheckPorts(plan->inputs, graph.inputs(), graph);
  CheckPorts(plan->outputs, graph.outputs(), graph);
  BindWeights(*plan, graph);
  RenewLocations(*plan, graph);
  return plan;
}

// ---- reasons

// The first line of `ours` that `theirs` lacks, beside the one at its place.
std::string DescribeDifference(std::string_view ours, std::string_view theirs) {
  auto next_line = [](std::string_view& text) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    return line;
  };
  while (!ours.empty() || !theirs.empty()) {
    std::string_view left = next_line(ours), right = next_line(theirs);
    if (left != right) return fmt::format("cached for `{}`, not for `{}`", right, left);
  }
  return "not cached";
}

}  // namespace

EngineKey MakeEngineKey(const Graph& graph, std::string context) {
  std::string text = PrintGraph(graph, {.origins = false, .literal_bytes = false});
  for (NodeId id : graph.nodes()) text += graph.node(id).origin.name + "\n";
  return {.graph = Hash128(text).ToString(), .context = std::move(context)};
}

EngineCache::EngineCache(std::string folder) : folder_(std::move(folder)) {
  if (folder_.empty()) {
    off_reason_ = "no cache is wanted";
    return;
  }
  try {
    max_bytes_ = GetIntKnob("STATOR_CACHE_SIZE");
    OpenCacheFolder(folder_);
    if (!GetKnob("STATOR_DUMP").empty()) off_reason_ = "STATOR_DUMP wants every stage run";
  } catch (const Error& error) {
    off_reason_ = error.message();
    WarnOnce("engines are not cached: " + off_reason_);
  }
}

CachedEngine EngineCache::Find(const EngineKey& key, const Graph& graph) const {
  if (!off_reason_.empty()) return {.plan = nullptr, .status = "off: " + off_reason_};
  std::string path = PathOf(key);
  if (!std::filesystem::exists(path)) {
    return {.plan = nullptr, .status = "miss: " + FindMissReason(key)};
  }
  try {
    std::shared_ptr<const FileMap> file = MapFile(path);
    RawEntry entry = EntryFromBytes(file->bytes);
    if (entry.key.graph != key.graph || entry.key.context != key.context) {
      Fail(ErrorKind::kCorruptFile, "it holds another engine than its name says");
    }
    CachedEngine found{.plan = MakePlan(entry.plan, file, graph), .status = "hit"};
    MarkUsed(path);
    return found;
  } catch (const Error& error) {
    std::string reason = fmt::format("{} cannot be used: {}", path, error.message());
    WarnOnce("an engine is built again: " + reason);
    return {.plan = nullptr, .status = "miss: " + reason};
  }
}

void EngineCache::Store(const EngineKey& key, const Plan& plan) const {
  if (!off_reason_.empty()) return;
  Plan bare = plan;
  for (PlanWeight& weight : bare.weights) weight.data = {};
  try {
    WriteFile(PathOf(key), EntryToBytes(key, PlanToBytes(bare)));
    TrimCache(folder_, max_bytes_);
  } catch (const Error& error) {
    WarnOnce("an engine is not cached: " + error.message());
  }
}

std::string EngineCache::PathOf(const EngineKey& key) const {
  return fmt::format("{}/{}-{}{}", folder_, key.graph, Hash128(key.context).ToString(),
                     kEngineSuffix);
}

std::string EngineCache::FindMissReason(const EngineKey& key) const {
  for (const CacheFile& file : ListEngines(folder_)) {
    if (std::filesystem::path(file.path).filename().string().rfind(key.graph, 0) != 0) continue;
    try {
      return DescribeDifference(key.context, EntryFromBytes(MapFile(file.path)->bytes).key.context);
    } catch (const Error&) {  // damaged, or gone: no reason to give
    }
  }
  return "not cached";
}

CacheEntry ReadCacheEntry(const std::string& path) {
  std::shared_ptr<const FileMap> file = MapFile(path);
  RawEntry entry = EntryFromBytes(file->bytes);
  return {.key = std::move(entry.key),
          .plan = PlanFromBytes(std::as_bytes(std::span(entry.plan)), file)};
}

}  // namespace stator
