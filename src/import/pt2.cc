// `.pt2` archives, as torch.export.save writes them (torch/export/pt2_archive).
//
// In:  <folder>/archive_format, archive_version, byteorder, models/<model>.json, and under data/
// the
//      storages of weights and constants with a table of contents each.
// Out: the program with its weights in place in the mapped file.
// Invariant: nothing is unpickled. An entry that is a pickle is refused when the program needs it.
#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "import/import.h"
#include "import/importer.h"
#include "import/schema/archive.h"
#include "import/schema/json.h"
#include "ops/tensor.h"

namespace stator {
namespace {

// Where the table of contents of a kind of payload lies, and its payloads.
struct PayloadFolder {
  std::string config;  // "data/weights/model_weights_config.json"
  std::string folder;  // "data/weights/"
};

// One tensor: a window of a storage that several may share.
struct Payload {
  std::string entry;  // "data/weights/weight_0"
  bool pickled = false;
  schema::TensorMeta meta;
};

using Payloads = std::map<std::string, Payload, std::less<>>;

void CheckFormat(Archive& archive) {
  auto expect = [&](std::string_view entry, std::string_view expected, ErrorKind kind) {
    std::string found = archive.ReadText(entry);
    if (found == expected) return;
    Fail(kind, "{} is `{}` where `{}` is expected", entry, found.substr(0, 16), expected);
  };
  expect("archive_format", "pt2", ErrorKind::kCorruptFile);
  expect("archive_version", "0", ErrorKind::kVersionMismatch);
  expect("byteorder", "little", ErrorKind::kUnsupported);
}

// The name of the one program in the archive.
std::string FindModel(const Archive& archive) {
  constexpr std::string_view kFolder = "models/", kSuffix = ".json";
  std::vector<std::string> models;
  for (const std::string& name : archive.names()) {
    bool is_model = name.starts_with(kFolder) && name.ends_with(kSuffix) &&
                    name.size() > kFolder.size() + kSuffix.size();
    if (!is_model) continue;
    models.push_back(name.substr(kFolder.size(), name.size() - kFolder.size() - kSuffix.size()));
  }
  if (models.empty()) Fail(ErrorKind::kCorruptFile, "there is no program under `models/`");
  if (models.size() > 1) {
    Fail(ErrorKind::kUnsupported,
         "{} programs (`{}`, `{}`) where one is expected: save each in an "
         "archive of its own",
         models.size(), models[0], models[1]);
  }
  return models[0];
}

void ReadPayloads(Archive& archive, const PayloadFolder& place, Payloads& payloads) {
  if (!archive.Has(place.config)) return;
  Json document = ParseJson(archive.ReadText(place.config), place.config);
  JsonRef(document, place.config)
      .Get("config")
      .ForEachMember([&](const std::string& name, const JsonRef& json) {
        Payload payload;
        payload.entry = place.folder + json.Get("path_name").GetString();
        payload.pickled = json.Get("use_pickle").GetBool();
        JsonRef meta = json.Find("tensor_meta");
        if (meta.is_null()) return;  // a script object, which no tensor input refers to
        payload.meta = schema::ParseTensorMeta(meta.json(), meta.place());
        payloads[name] = std::move(payload);
      });
}

Sizes GetStatic(const std::vector<schema::SymInt>& sizes, std::string_view weight) {
  Sizes values;
  for (const schema::SymInt& size : sizes) {
    bool valid = size.unknown.empty() && size.dim.is_static() && size.dim.value() >= 0;
    if (!valid) Fail(ErrorKind::kCorruptFile, "weight `{}` has no valid sizes or strides", weight);
    values.push_back(size.dim.value());
  }
  return values;
}

// One past the last element that the window reads; fails on overflow.
int64_t WindowEnd(const Sizes& dims, const Sizes& strides, int64_t offset,
                  std::string_view weight) {
  int64_t end = offset + 1;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == 0) return 0;
    int64_t extent;
    if (__builtin_mul_overflow(dims[i] - 1, strides[i], &extent) ||
        __builtin_add_overflow(end, extent, &end)) {
      Fail(ErrorKind::kCorruptFile, "weight `{}` has strides beyond 64 bits", weight);
    }
  }
  return end;
}

ConstantData CopyDense(const TensorRef& window) {
  HostTensor dense = MakeHostTensor(window.dtype, window.dims);
  CopyTensor(window, dense.ref);
  size_t size = static_cast<size_t>(window.num_elements()) * DTypeSize(window.dtype);
  std::vector<std::byte> bytes(dense.ref.data, dense.ref.data + size);
  return MakeConstantData(std::move(bytes));
}

// The bytes of a payload in row-major order: in place when they lie so, a copy otherwise. A dtype
// that only torch knows keeps no data.
ConstantData LoadTensor(const ConstantData& storage, const schema::TensorMeta& meta,
                        std::string_view weight) {
  std::optional<DType> dtype = schema::FindScalarType(meta.scalar_type);
  if (!dtype) return {};
  Sizes dims = GetStatic(meta.sizes, weight), strides = GetStatic(meta.strides, weight);
  int64_t offset = GetStatic({meta.storage_offset}, weight)[0];
  if (dims.size() != strides.size()) {
    Fail(ErrorKind::kCorruptFile, "weight `{}` has {} sizes and {} strides", weight, dims.size(),
         strides.size());
  }
  int64_t element = static_cast<int64_t>(DTypeSize(*dtype));
  int64_t end = WindowEnd(dims, strides, offset, weight);
  if (end > static_cast<int64_t>(storage.size) / element) {
    Fail(ErrorKind::kCorruptFile, "weight `{}` ends at element {} of a storage of {} bytes", weight,
         end, storage.size);
  }
  TensorRef window = {.data = const_cast<std::byte*>(storage.bytes) + offset * element,
                      .dtype = *dtype,
                      .dims = dims,
                      .strides = strides};
  int64_t size = window.num_elements() * element;
  if (size == 0) return {};
  bool aligned = reinterpret_cast<uintptr_t>(window.data) % element == 0;
  if (aligned && strides == DenseStrides(dims)) {
    return {.bytes = window.data, .size = static_cast<size_t>(size), .owner = storage.owner};
  }
  // An expanded tensor is larger than its storage; this much larger is no weight.
  constexpr int64_t kMaxExpanded = int64_t{1} << 30;
  if (size > std::max(static_cast<int64_t>(storage.size), kMaxExpanded)) {
    Fail(ErrorKind::kCorruptFile, "weight `{}` expands {} bytes to {}", weight, storage.size, size);
  }
  return CopyDense(window);
}

class WeightReader {
 public:
  WeightReader(Archive& archive, const std::string& model) : archive_(archive) {
    ReadPayloads(archive, {"data/weights/" + model + "_weights_config.json", "data/weights/"},
                 payloads_);
    ReadPayloads(archive, {"data/constants/" + model + "_constants_config.json", "data/constants/"},
                 payloads_);
  }

  // The weights that the inputs of the program name.
  WeightData Read(const schema::Program& program) {
    WeightData weights;
    for (const schema::InputSpec& spec : program.inputs) {
      if (spec.kind == schema::InputSpec::Kind::kWeight) {
        weights[spec.arg.name] = ReadWeight(program, spec);
      }
    }
    return weights;
  }

 private:
  ConstantData ReadWeight(const schema::Program& program, const schema::InputSpec& spec) {
    auto it = payloads_.find(spec.weight);
    if (it == payloads_.end()) {
      Fail(ErrorKind::kCorruptFile, "there are no bytes of weight `{}`", spec.weight);
    }
    const Payload& payload = it->second;
    if (payload.pickled) {
      Fail(
          ErrorKind::kUnsupported,
          "weight `{}` is a pickle, which may run code when it is read: save a model whose weights "
          "are plain tensors",
          spec.weight);
    }
    auto meta = program.graph.tensors.find(spec.arg.name);
    if (meta != program.graph.tensors.end() &&
        meta->second.scalar_type != payload.meta.scalar_type) {
      Fail(ErrorKind::kCorruptFile, "weight `{}` is {} where the program has {}", spec.weight,
           schema::ScalarTypeName(payload.meta.scalar_type),
           schema::ScalarTypeName(meta->second.scalar_type));
    }
    auto [storage, inserted] = storages_.try_emplace(payload.entry);
    if (inserted) storage->second = archive_.Read(payload.entry);
    return LoadTensor(storage->second, payload.meta, spec.weight);
  }

  Archive& archive_;
  Payloads payloads_;                             // by the weight's name
  std::map<std::string, ConstantData> storages_;  // by entry
};

ImportedGraph Import(Archive& archive) {
  CheckFormat(archive);
  std::string model = FindModel(archive);
  schema::Program program = schema::ParseProgram(archive.ReadText("models/" + model + ".json"));
  WeightData weights = WeightReader(archive, model).Read(program);
  return ImportProgram(std::move(program), weights);
}

}  // namespace

ImportedGraph ImportArchive(const std::string& path) {
  Archive archive(path, "archive_format");
  try {
    return Import(archive);
  } catch (const Error& error) {
    if (error.message().starts_with(path)) throw;
    throw Error(error.kind(), path + ": " + error.message(), error.node(), error.where());
  }
}

}  // namespace stator
