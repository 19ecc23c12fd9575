// A zip archive whose stored entries are used in place.
//
// In:  a file; libzip reads its directory and local headers, and checks sizes and CRCs.
// Out: the bytes of entries: where they lie in the mapped file when stored, inflated otherwise.
// Errors: CorruptFile naming the file and the entry. Names are relative to the archive's one
// folder.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_map.h"
#include "ir/graph.h"

struct zip;  // of libzip

namespace stator {

class Archive {
 public:
  // `marker` names an entry that lies in the archive's folder ("archive_format").
  Archive(const std::string& path, std::string_view marker);
  ~Archive();

  // Names of all entries in the folder, in the order of the directory.
  const std::vector<std::string>& names() const { return names_; }
  bool Has(std::string_view name) const;
  // The bytes of an entry; they live as long as their owner, longer than the archive.
  ConstantData Read(std::string_view name);
  std::string ReadText(std::string_view name);

 private:
  struct Source;  // the mapped file, as libzip reads it
  class EntryReader;

  void Open();
  void FindNames(std::string_view marker);
  ConstantData ReadStored(EntryReader& reader, size_t size);
  ConstantData ReadDeflated(EntryReader& reader, size_t size);

  std::string path_;
  std::shared_ptr<const FileMap> map_;
  std::unique_ptr<Source> source_;
  ::zip* zip_ = nullptr;
  std::string folder_;  // "model/"
  std::vector<std::string> names_;
};

}  // namespace stator
