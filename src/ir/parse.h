// Text to Graph: reads what PrintGraph writes, and what people write by hand.
//
// In:  text of one graph (see ir/print.h). Types after ":" are optional where the op's rule infers
//      them; `//` comments name the origin; names are free, numbers or words.
// Out: a graph that verifies. A weight has no data.
// Errors: InvalidArgument with line and column. Nesting and sizes are bounded, so hostile text
// fails quickly instead of exhausting memory.
#pragma once

#include <string_view>

#include "ir/graph.h"

namespace stator {

Graph ParseGraph(std::string_view text);
// Parses "f32[2, s0]@10"; raises InvalidArgument.
TensorType ParseType(std::string_view text);
// Parses "{axis = 1, dims = [2, 3]}" or "".
Attrs ParseAttrs(std::string_view text);

}  // namespace stator
