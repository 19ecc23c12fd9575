// Whether torch shares memory between the result of a node and its first tensor argument, from the
// sizes and strides that torch recorded.
#pragma once

#include "import/conversion.h"
#include "import/schema/schema.h"

namespace stator {

// Settles an Alias that depends on strides or dtypes: kFresh, kView, or kUnknown when symbolic
// strides leave it open.
Alias ResolveAlias(Alias alias, const schema::Node& node, const schema::TensorMeta& from,
                   const schema::TensorMeta& to);

}  // namespace stator
