#include "base/version.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>

#include <elf.h>
#include <fmt/format.h>
#include <link.h>

namespace stator {
namespace {

constexpr size_t kNumIdBytes = 8;  // of the 20 that the linker writes

size_t AlignUp(size_t size) { return (size + 3) / 4 * 4; }

// The build id among the notes of a segment (ELF gABI, "Note Section"), or empty.
std::string FindBuildId(std::span<const std::byte> notes) {
  while (notes.size() >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) note;
    std::memcpy(&note, notes.data(), sizeof(note));
    size_t start = sizeof(note) + AlignUp(note.n_namesz);
    size_t end = start + AlignUp(note.n_descsz);
    if (end > notes.size()) break;
    bool gnu = note.n_namesz == 4 && std::memcmp(notes.data() + sizeof(note), "GNU", 4) == 0;
    if (gnu && note.n_type == NT_GNU_BUILD_ID) {
      std::string id;
      for (std::byte byte : notes.subspan(start, std::min<size_t>(note.n_descsz, kNumIdBytes))) {
        id += fmt::format("{:02x}", static_cast<unsigned>(byte));
      }
      return id;
    }
    notes = notes.subspan(end);
  }
  return {};
}

struct Search {
  uintptr_t address;  // in the object wanted
  std::string id;
};

// Called for each loaded object (dl_iterate_phdr(3)); stops at the one that holds the address.
int VisitObject(dl_phdr_info* object, size_t, void* data) {
  auto& search = *static_cast<Search*>(data);
  std::span segments(object->dlpi_phdr, object->dlpi_phnum);
  bool holds = std::any_of(segments.begin(), segments.end(), [&](const ElfW(Phdr) & segment) {
    return segment.p_type == PT_LOAD &&
           search.address - (object->dlpi_addr + segment.p_vaddr) < segment.p_memsz;
  });
  if (!holds) return 0;
  for (const ElfW(Phdr) & segment : segments) {
    if (segment.p_type != PT_NOTE || !search.id.empty()) continue;
    const auto* notes = reinterpret_cast<const std::byte*>(object->dlpi_addr + segment.p_vaddr);
    search.id = FindBuildId({notes, segment.p_memsz});
  }
  return 1;
}

std::string MakeBuildName() {
  Search search{.address = reinterpret_cast<uintptr_t>(&VisitObject), .id = {}};
  dl_iterate_phdr(VisitObject, &search);
  return fmt::format("stator {}{}{}", STATOR_VERSION, search.id.empty() ? "" : " build ",
                     search.id);
}

}  // namespace

const std::string& BuildName() {
  static const std::string name = MakeBuildName();
  return name;
}

}  // namespace stator
