#include "tools/model_file.h"

#include "base/error.h"
#include "base/file_map.h"
#include "import/import.h"
#include "ir/parse.h"

namespace stator {
namespace {

Graph GraphOfArchive(const std::string& path) {
  ImportedGraph imported = ImportArchive(path);
  for (const ImportedOutput& output : imported.outputs) {
    if (!output.mutates.empty()) {
      Fail(ErrorKind::kUnsupported,
           "{}: the program writes to `{}`, which a plan alone cannot do: run it from Python by "
           "torch.compile(backend=\"stator\")",
           path, output.mutates);
    }
    if (!output.value.valid()) {
      Fail(ErrorKind::kUnsupported,
           "{}: output `{}` is not a tensor: export a module that returns tensors alone", path,
           output.name);
    }
  }
  return std::move(imported.graph);
}

}  // namespace

std::string ReadText(const std::string& path) {
  std::shared_ptr<const FileMap> file = MapFile(path);
  return {reinterpret_cast<const char*>(file->bytes.data()), file->bytes.size()};
}

void WriteText(const std::string& path, std::string_view text) {
  WriteFile(path, std::as_bytes(std::span(text)));
}

Graph ReadModel(const std::string& path) {
  if (path.ends_with(".pt2")) return GraphOfArchive(path);
  if (!path.ends_with(".ir")) {
    Fail(ErrorKind::kInvalidArgument, "cannot tell what {} is: expected a name in .pt2 or .ir",
         path);
  }
  try {
    return ParseGraph(ReadText(path));
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kInvalidArgument) throw;
    throw Error(error.kind(), fmt::format("{}: {}", path, error.message()), error.node());
  }
}

Plan ReadPlan(const std::string& path) {
  std::shared_ptr<const FileMap> file = MapFile(path);
  try {
    return PlanFromBytes(file->bytes, file);
  } catch (const Error& error) {
    throw Error(error.kind(), fmt::format("{}: {}", path, error.message()), error.node());
  }
}

std::string PortType(const PlanPort& port) {
  return std::string(DTypeName(port.dtype)) + DimsToString(port.dims);
}

std::string BytesToString(int64_t bytes) {
  if (bytes >= 100'000) return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
  return fmt::format("{} bytes", bytes);
}

}  // namespace stator
