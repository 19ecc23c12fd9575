// The files that the command line tool works on, by their endings: .pt2, .ir, .plan.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "ir/graph.h"
#include "plan/plan.h"

namespace stator {

// The whole text of a file; raises InvalidArgument, as writing does.
std::string ReadText(const std::string& path);
void WriteText(const std::string& path, std::string_view text);

// The graph of a .pt2 archive or of a .ir text. Raises Unsupported for a program that does more
// than map tensors to tensors (changes its buffers or inputs, returns sizes): its caller must run
// Python.
Graph ReadModel(const std::string& path);

// A plan whose weights lie in the mapped file.
Plan ReadPlan(const std::string& path);

// "f32[1, 3, 224, 224]"
std::string PortType(const PlanPort& port);
// "102.2 MB"
std::string BytesToString(int64_t bytes);

}  // namespace stator
