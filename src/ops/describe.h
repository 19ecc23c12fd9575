// The op table as JSON, for tests in Python and for generated documentation.
#pragma once

#include <string>

#include "ir/attr.h"

namespace stator {

// A list of rows in order of id:
//   {"id", "name", "min_inputs", "max_inputs" (-1: variadic), "traits": [names],
//    "attrs": [{"name", "kind", "required", "doc"}], "aten": [overloads], "scalar_body",
//    "decomposes": bool, "rtol", "atol", "torch", "doc",
//    "samples": [{"dtype": "f32" or null, "inputs": [type text or null], "attrs": {name: value},
//                 "outputs": [type text], "low", "high", "ir": graph text}]}
// An attribute of kind dtype is its name; infinities and NaN are the strings "inf", "-inf", "nan".
std::string OpTableToJson();

// {name: value}, as a sample's "attrs".
std::string AttrsToJson(const Attrs& attrs);

}  // namespace stator
