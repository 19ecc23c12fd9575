// The ATen overloads that the importer knows, for tests and generated documentation.
#pragma once

#include <map>
#include <string>

namespace stator {

// By overload ("aten.add.Tensor"): empty when it can become ops of ours, else why the node is left
// to torch.
std::map<std::string, std::string> ListOverloads();

}  // namespace stator
