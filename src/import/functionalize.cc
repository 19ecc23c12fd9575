#include "import/functionalize.h"

#include <algorithm>

#include "base/error.h"
#include "ir/op_def.h"

namespace stator {

void Functionalizer::Define(const std::string& name, ValueId value, bool input) {
  int storage = static_cast<int>(storages_.size());
  storages_.push_back({.base = value, .version = 0, .input = input, .name = name, .may_alias = {}});
  bindings_[name] = {.storage = storage, .version = 0, .value = value, .path = {}};
}

void Functionalizer::DefineView(const std::string& name, const std::string& base, ValueId value) {
  const Binding& from = bindings_.at(base);
  std::vector<Step> steps;  // from `value` back to the value of `base`
  for (ValueId id = value; id != from.value;) {
    const Node* node = graph_.FindProducer(id);
    STATOR_CHECK(node != nullptr && node->inputs.size() == 1, "`{}` is no view of `{}`", name,
                 base);
    id = node->inputs[0];
    steps.push_back({.op = node->op, .attrs = node->attrs, .dims = graph_.type(id).dims});
  }
  Binding binding = from;
  binding.value = value;
  binding.path.insert(binding.path.end(), steps.rbegin(), steps.rend());
  bindings_[name] = std::move(binding);
}

void Functionalizer::DefineUnknown(const std::string& name, const std::string& base,
                                   ValueId value) {
  Define(name, value);
  int storage = bindings_.at(name).storage, other = bindings_.at(base).storage;
  storages_[storage].may_alias.push_back(other);
  storages_[other].may_alias.push_back(storage);
}

ValueId Functionalizer::Read(const std::string& name, const Origin& origin) {
  auto it = bindings_.find(name);
  if (it == bindings_.end()) {
    Fail(ErrorKind::kCorruptFile, "node `{}` reads `{}`, which is not defined before it",
         origin.name, name);
  }
  Binding& binding = it->second;
  const Storage& storage = storages_[binding.storage];
  if (binding.version != storage.version) {
    binding.value = storage.base;
    for (const Step& step : binding.path) binding.value = Apply(step, binding.value, origin);
    binding.version = storage.version;
  }
  return binding.value;
}

void Functionalizer::Write(const std::string& name, ValueId value, const Origin& origin,
                           int index) {
  Read(name, origin);
  Binding& binding = bindings_.at(name);
  if (binding.value == value) return;
  CheckAliases(binding.storage, name, origin, index);
  Storage& storage = storages_[binding.storage];
  std::vector<ValueId> before = {storage.base};
  for (size_t i = 0; i + 1 < binding.path.size(); ++i) {
    before.push_back(Apply(binding.path[i], before.back(), origin));
  }
  ValueId after = value;
  for (size_t i = binding.path.size(); i-- > 0;) {
    after = WriteBack(binding.path[i], before[i], after, origin);
  }
  storage.base = after;
  binding.version = ++storage.version;
  binding.value = value;
}

std::vector<std::string> Functionalizer::mutated_inputs() const {
  std::vector<std::string> names;
  for (const Storage& storage : storages_) {
    if (storage.input && storage.version > 0) names.push_back(storage.name);
  }
  return names;
}

void Functionalizer::CheckAliases(int storage, const std::string& name, const Origin& origin,
                                  int index) const {
  for (int other : storages_[storage].may_alias) {
    bool read = storages_[other].input;
    for (const auto& [member, binding] : bindings_) {
      auto use = last_uses_.find(member);
      read |= binding.storage == other && use != last_uses_.end() && use->second > index;
    }
    if (!read) continue;
    Fail(ErrorKind::kUnsupported,
         "node `{}` changes `{}`, which may share memory with `{}`; call "
         "program.run_decompositions() before saving, or avoid the in-place op",
         origin.ToString(), name, storages_[other].name);
  }
}

ValueId Functionalizer::Add(std::string_view op, std::vector<ValueId> inputs, Attrs attrs,
                            const Origin& origin) {
  NodeId node = graph_.AddNode(GetOp(op), std::move(inputs), std::move(attrs), origin);
  return graph_.node(node).outputs[0];
}

ValueId Functionalizer::Apply(const Step& step, ValueId value, const Origin& origin) {
  return Add(step.op->name, {value}, step.attrs, origin);
}

ValueId Functionalizer::WriteBack(const Step& step, ValueId before, ValueId value,
                                  const Origin& origin) {
  if (step.op->name == "reshape") return Add("reshape", {value}, {{"dims", step.dims}}, origin);
  if (step.op->name == "permute") {
    std::vector<int64_t> perm = step.attrs.GetInts("perm");
    Dims inverse(perm.size());
    for (size_t i = 0; i < perm.size(); ++i) inverse[perm[i]] = Dim(static_cast<int64_t>(i));
    return Add("permute", {value}, {{"perm", inverse}}, origin);
  }
  if (step.op->name == "slice") return WriteBackSlice(step, before, value, origin);
  // An expand that repeats nothing is a reshape; one that repeats has no element to write to.
  if (step.op->name == "expand" && graph_.type(value).num_elements() == NumElements(step.dims)) {
    return Add("reshape", {value}, {{"dims", step.dims}}, origin);
  }
  Fail(ErrorKind::kUnsupported, "node `{}` changes a view made by `{}`", origin.ToString(),
       step.op->name);
}

ValueId Functionalizer::WriteBackSlice(const Step& step, ValueId before, ValueId value,
                                       const Origin& origin) {
  Dim dim = step.attrs.GetDim("dim");
  Dim start = step.attrs.GetDim("start"), end = step.attrs.GetDim("end");
  int64_t stride = step.attrs.GetInt("step");
  const Dims& dims = step.dims;
  Dim size = dims.at(dim.value());
  if (stride != 1) {
    // scatter(before, start + stride * i, value) along the dim.
    if (!start.is_static()) {
      Fail(ErrorKind::kUnsupported, "node `{}` changes a strided slice from a symbolic index",
           origin.ToString());
    }
    Dim count = graph_.type(value).dims.at(dim.value());
    ValueId index = Add("arange", {},
                        {{"dtype", DType::kInt64},
                         {"start", static_cast<double>(start.value())},
                         {"step", static_cast<double>(stride)},
                         {"size", count}},
                        origin);
    Dims column(dims.size(), Dim(1));
    column.at(dim.value()) = count;
    index = Add("reshape", {index}, {{"dims", column}}, origin);
    index = Add("expand", {index}, {{"dims", graph_.type(value).dims}}, origin);
    return Add("scatter", {before, index, value}, {{"dim", dim}}, origin);
  }
  auto part = [&](const Dim& from, const Dim& to) {
    return Add("slice", {before}, {{"dim", dim}, {"start", from}, {"end", to}, {"step", Dim(1)}},
               origin);
  };
  std::vector<ValueId> parts;
  if (!(start == Dim(0))) parts.push_back(part(0, start));
  parts.push_back(value);
  if (!(end == size)) parts.push_back(part(end, size));
  if (parts.size() == 1) return value;
  return Add("concat", std::move(parts), {{"dim", dim}}, origin);
}

}  // namespace stator
