// Knobs: every environment variable that the C++ side reads, in one table.
//
// In:  the environment of the process; a knob is read when it is asked for, never cached.
// Out: its value or its default, and the folder of dumps that STATOR_DUMP names.
// Invariant: no other file calls getenv.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace stator {

struct Knob {
  std::string_view name;
  std::string_view fallback;  // what an unset or empty variable means
  std::string_view doc;
};

std::span<const Knob> AllKnobs();

// The variable's value, or its default; raises Internal for a name that the table lacks.
std::string GetKnob(std::string_view name);
// The same as an integer; raises InvalidArgument, naming the variable, for anything else.
int64_t GetIntKnob(std::string_view name);

// STATOR_CACHE_DIR, else `stator` in the user's cache folder (XDG Base Directory Specification).
std::string GetCacheFolder();

// Writes `text()` to the file <folder>/<number>_<name>.txt of the folder that STATOR_DUMP names;
// numbers count up through the process, so that files sort in order of making. Does nothing when
// STATOR_DUMP is unset, not even call `text`. A folder that cannot be written is warned about once.
void DumpText(std::string_view name, const std::function<std::string()>& text);

}  // namespace stator
