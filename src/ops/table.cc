// The op table: every family's rows in one list, and lookup by name and by ATen overload.
#include <algorithm>
#include <map>

#include "base/error.h"
#include "ops/rows.h"

namespace stator {
namespace {

struct Table {
  std::vector<const OpDef*> ops;  // sorted by id
  std::map<std::string_view, const OpDef*> by_name;
  std::map<std::string_view, const OpDef*> by_aten;

  Table() {
    for (auto rows : {SpecialRows, ViewRows, PointwiseRows, ReduceRows, ScanRows, LinalgRows,
                      NormRows, AttentionRows, PoolRows, ResampleRows, GridSampleRows, IndexRows,
                      EmbeddingBagRows, OrderRows, ChooseRows, CreateRows}) {
      for (const OpDef& op : rows()) Add(op);
    }
    std::sort(ops.begin(), ops.end(), [](auto* a, auto* b) { return a->id < b->id; });
  }

  void Add(const OpDef& op) {
    ops.push_back(&op);
    STATOR_CHECK(by_name.emplace(op.name, &op).second, "two ops named `{}`", op.name);
    for (std::string_view overload : op.aten) {
      STATOR_CHECK(by_aten.emplace(overload, &op).second, "`{}` maps to two ops", overload);
    }
  }
};

const Table& GetTable() {
  static const Table table;
  return table;
}

const OpDef* FindIn(const std::map<std::string_view, const OpDef*>& map, std::string_view key) {
  auto it = map.find(key);
  return it == map.end() ? nullptr : it->second;
}

constexpr std::string_view kKindNames[] = {"bool", "int", "float", "string", "ints", "dtype"};

}  // namespace

const OpDef* FindOp(std::string_view name) { return FindIn(GetTable().by_name, name); }

const OpDef& GetOp(std::string_view name) {
  const OpDef* op = FindOp(name);
  STATOR_CHECK(op != nullptr, "there is no op `{}`", name);
  return *op;
}

std::span<const OpDef* const> AllOps() { return GetTable().ops; }

const OpDef* FindOpByAten(std::string_view overload) {
  return FindIn(GetTable().by_aten, overload);
}

void CheckSchema(const OpDef& op, size_t num_inputs, const Attrs& attrs) {
  int count = static_cast<int>(num_inputs);
  if (count < op.min_inputs || (op.max_inputs >= 0 && count > op.max_inputs)) {
    std::string expected = std::to_string(op.min_inputs);
    if (op.max_inputs < 0) expected += " or more";
    if (op.max_inputs > op.min_inputs) expected += fmt::format(" to {}", op.max_inputs);
    Fail(ErrorKind::kInvalidArgument, "op `{}` takes {} inputs, found {}", op.name, expected,
         count);
  }
  for (const AttrDef& def : op.attrs) {
    const Attr* attr = attrs.Find(def.name);
    if (attr == nullptr && def.required) {
      Fail(ErrorKind::kInvalidArgument, "op `{}` needs attribute `{}` ({})", op.name, def.name,
           kKindNames[def.kind]);
    }
    if (attr != nullptr && attr->index() != def.kind) {
      Fail(ErrorKind::kInvalidArgument, "attribute `{}` of op `{}` is a {}, expected {}", def.name,
           op.name, AttrKindName(*attr), kKindNames[def.kind]);
    }
  }
  for (const auto& [name, attr] : attrs) {
    if (std::none_of(op.attrs.begin(), op.attrs.end(),
                     [&, &name = name](const AttrDef& def) { return def.name == name; })) {
      Fail(ErrorKind::kInvalidArgument, "op `{}` has no attribute `{}`", op.name, name);
    }
  }
}

}  // namespace stator
