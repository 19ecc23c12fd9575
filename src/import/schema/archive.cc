#include "import/schema/archive.h"

#include <algorithm>
#include <cstring>

#include <zip.h>

#include "base/error.h"

namespace stator {

// libzip does not tell where an entry's bytes lie; it shows in where it first reads them.
struct Archive::Source {
  std::span<const std::byte> bytes;
  zip_int64_t position = 0;
  std::optional<zip_int64_t> first_read;  // since it was last reset
  zip_error_t error;

  zip_int64_t Read(void* data, zip_uint64_t size) {
    if (!first_read) first_read = position;
    size = std::min<zip_uint64_t>(size, bytes.size() - position);
    if (size > 0) std::memcpy(data, bytes.data() + position, size);
    position += static_cast<zip_int64_t>(size);
    return static_cast<zip_int64_t>(size);
  }

  static zip_int64_t Serve(void* state, void* data, zip_uint64_t size, zip_source_cmd_t command) {
    Source& source = *static_cast<Source*>(state);
    switch (command) {
      case ZIP_SOURCE_OPEN: source.position = 0; return 0;
      case ZIP_SOURCE_READ: return source.Read(data, size);
      case ZIP_SOURCE_TELL: return source.position;
      case ZIP_SOURCE_CLOSE:
      case ZIP_SOURCE_FREE: return 0;
      case ZIP_SOURCE_ERROR: return zip_error_to_data(&source.error, data, size);
      case ZIP_SOURCE_SEEK: {
        zip_int64_t position = zip_source_seek_compute_offset(source.position, source.bytes.size(),
                                                              data, size, &source.error);
        if (position < 0) return -1;
        source.position = position;
        return 0;
      }
      case ZIP_SOURCE_STAT: {
        auto* stat = static_cast<zip_stat_t*>(data);
        zip_stat_init(stat);
        stat->valid = ZIP_STAT_SIZE;
        stat->size = source.bytes.size();
        return sizeof(*stat);
      }
      case ZIP_SOURCE_SUPPORTS:
        return zip_source_make_command_bitmap(
            ZIP_SOURCE_OPEN, ZIP_SOURCE_READ, ZIP_SOURCE_TELL, ZIP_SOURCE_CLOSE, ZIP_SOURCE_FREE,
            ZIP_SOURCE_ERROR, ZIP_SOURCE_SEEK, ZIP_SOURCE_STAT, ZIP_SOURCE_SUPPORTS, -1);
      default: zip_error_set(&source.error, ZIP_ER_OPNOTSUPP, 0); return -1;
    }
  }
};

// One open entry.
class Archive::EntryReader {
 public:
  // `what` names the entry in errors.
  EntryReader(zip_file_t* file, std::string what)
      : file_(file, zip_fclose), what_(std::move(what)) {}

  // Fills a first part of `part`, at least one byte; returns how much.
  size_t Read(std::span<std::byte> part) {
    zip_int64_t count = zip_fread(file_.get(), part.data(), part.size());
    if (count <= 0) FailDamaged();
    return static_cast<size_t>(count);
  }
  // Here libzip compares the CRC.
  void ReadEnd() {
    std::byte extra;
    if (zip_fread(file_.get(), &extra, 1) != 0) FailDamaged();
  }

 private:
  [[noreturn]] void FailDamaged() {
    Fail(ErrorKind::kCorruptFile, "{} is damaged: {}", what_, zip_file_strerror(file_.get()));
  }

  std::unique_ptr<zip_file_t, int (*)(zip_file_t*)> file_;
  std::string what_;
};

Archive::Archive(const std::string& path, std::string_view marker)
    : path_(path), map_(MapFile(path)), source_(std::make_unique<Source>()) {
  source_->bytes = map_->bytes;
  zip_error_init(&source_->error);
  Open();
  try {
    FindNames(marker);
  } catch (...) {
    zip_discard(zip_);
    throw;
  }
}

Archive::~Archive() { zip_discard(zip_); }

void Archive::Open() {
  zip_error_t error;
  zip_error_init(&error);
  zip_source_t* source = zip_source_function_create(&Source::Serve, source_.get(), &error);
  if (source != nullptr) zip_ = zip_open_from_source(source, ZIP_RDONLY, &error);
  if (zip_ != nullptr) return;
  std::string reason = zip_error_strerror(&error);
  zip_error_fini(&error);
  if (source != nullptr) zip_source_free(source);
  Fail(ErrorKind::kCorruptFile, "{}: not a zip archive: {}", path_, reason);
}

void Archive::FindNames(std::string_view marker) {
  std::vector<std::string> all;
  zip_int64_t count = zip_get_num_entries(zip_, 0);
  for (zip_int64_t i = 0; i < count; ++i) {
    const char* name = zip_get_name(zip_, i, ZIP_FL_ENC_RAW);
    if (name != nullptr) all.emplace_back(name);
  }
  auto is_marker = [&](const std::string& name) {
    size_t slash = name.find('/');
    return slash != std::string::npos && name.substr(slash + 1) == marker;
  };
  auto found = std::find_if(all.begin(), all.end(), is_marker);
  if (found == all.end()) {
    Fail(ErrorKind::kCorruptFile, "{}: no entry `{}`: this is not what torch.export.save writes",
         path_, marker);
  }
  folder_ = found->substr(0, found->size() - marker.size());
  for (const std::string& name : all) {
    if (name.starts_with(folder_)) names_.push_back(name.substr(folder_.size()));
  }
}

bool Archive::Has(std::string_view name) const {
  return std::find(names_.begin(), names_.end(), name) != names_.end();
}

ConstantData Archive::Read(std::string_view name) {
  std::string full_name = folder_ + std::string(name);
  std::string what = fmt::format("{}: entry `{}`", path_, name);
  zip_stat_t stat;
  zip_int64_t index = zip_name_locate(zip_, full_name.c_str(), ZIP_FL_ENC_RAW);
  if (index < 0 || zip_stat_index(zip_, index, 0, &stat) != 0) {
    Fail(ErrorKind::kCorruptFile, "{} is missing", what);
  }
  // No deflated entry grows more than this (zlib.net, "Maximum Compression Factor").
  constexpr zip_uint64_t kMaxFactor = 1032;
  bool stored = stat.comp_method == ZIP_CM_STORE;
  bool fits = stat.comp_size <= map_->bytes.size() &&
              (stored ? stat.size == stat.comp_size : stat.size <= kMaxFactor * stat.comp_size);
  if (!fits) Fail(ErrorKind::kCorruptFile, "{} has no valid size", what);
  zip_file_t* file = zip_fopen_index(zip_, index, 0);
  if (file == nullptr) {
    Fail(ErrorKind::kCorruptFile, "{} cannot be read: {}", what, zip_strerror(zip_));
  }
  EntryReader reader(file, what);
  return stored ? ReadStored(reader, stat.size) : ReadDeflated(reader, stat.size);
}

// Reads all of the entry for its CRC, and returns where its bytes lie.
ConstantData Archive::ReadStored(EntryReader& reader, size_t size) {
  if (size == 0) return {};
  constexpr size_t kChunk = 1 << 18;
  std::vector<std::byte> chunk(std::min(size, kChunk));
  source_->first_read.reset();
  size_t done = reader.Read(chunk);
  zip_uint64_t offset = static_cast<zip_uint64_t>(source_->first_read.value());
  const std::byte* bytes = map_->bytes.data() + offset;
  STATOR_CHECK(offset + size <= map_->bytes.size() && std::memcmp(bytes, chunk.data(), done) == 0,
               "an entry does not lie where libzip read it");
  while (done < size) done += reader.Read(std::span(chunk).first(std::min(kChunk, size - done)));
  reader.ReadEnd();
  return {.bytes = bytes, .size = size, .owner = map_};
}

ConstantData Archive::ReadDeflated(EntryReader& reader, size_t size) {
  std::vector<std::byte> bytes(size);
  for (size_t done = 0; done < size;) done += reader.Read(std::span(bytes).subspan(done));
  reader.ReadEnd();
  return MakeConstantData(std::move(bytes));
}

std::string Archive::ReadText(std::string_view name) {
  ConstantData data = Read(name);
  return std::string(reinterpret_cast<const char*>(data.bytes), data.size);
}

}  // namespace stator
