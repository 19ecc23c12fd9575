// Checked access to JSON: a value of the wrong kind is CorruptFile, with its place in the document.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace stator {

using Json = nlohmann::json;

// A value and the path to it. Views the document: must not outlive it.
class JsonRef {
 public:
  JsonRef(const Json& json, std::string place) : json_(&json), place_(std::move(place)) {}

  const Json& json() const { return *json_; }
  const std::string& place() const { return place_; }
  bool is_null() const { return json_->is_null(); }

  template <typename... Args>
  [[noreturn]] void Corrupt(fmt::format_string<Args...> format, Args&&... args) const {
    Fail(ErrorKind::kCorruptFile, "{}: {}", place_,
         fmt::format(format, std::forward<Args>(args)...));
  }

  // A member; absent ones are null.
  JsonRef Find(std::string_view key) const {
    static const Json kNull;
    CheckKind(json_->is_object(), "an object");
    auto it = json_->find(key);
    return {it == json_->end() ? kNull : *it, place_ + "." + std::string(key)};
  }
  JsonRef Get(std::string_view key) const {
    JsonRef member = Find(key);
    if (member.is_null()) Corrupt("`{}` is missing", key);
    return member;
  }
  // The single member of a tagged union.
  std::pair<std::string, JsonRef> GetUnion() const {
    CheckKind(json_->is_object() && json_->size() == 1, "an object of one member");
    return {json_->begin().key(), {*json_->begin(), place_ + "." + json_->begin().key()}};
  }

  std::string GetString() const {
    CheckKind(json_->is_string(), "a string");
    return json_->get<std::string>();
  }
  int64_t GetInt() const {
    bool fits = json_->is_number_integer() &&
                (!json_->is_number_unsigned() || json_->get<uint64_t>() <= INT64_MAX);
    CheckKind(fits, "an integer of 64 bits");
    return json_->get<int64_t>();
  }
  int64_t GetIntIn(int64_t min, int64_t max) const {
    int64_t value = GetInt();
    if (value < min || value > max) {
      Corrupt("{} lies outside [{}, {}]", value, min, max);
    }
    return value;
  }
  bool GetBool() const {
    CheckKind(json_->is_boolean(), "a boolean");
    return json_->get<bool>();
  }
  // A number, or "Infinity", "-Infinity", "NaN".
  double GetFloat() const {
    if (json_->is_string()) {
      const std::string& text = json_->get_ref<const std::string&>();
      if (text == "Infinity") return std::numeric_limits<double>::infinity();
      if (text == "-Infinity") return -std::numeric_limits<double>::infinity();
      if (text == "NaN") return std::numeric_limits<double>::quiet_NaN();
    }
    CheckKind(json_->is_number(), "a number");
    return json_->get<double>();
  }

  // Calls fn(JsonRef) for each element of an array.
  template <typename Fn>
  void ForEach(Fn&& fn) const {
    CheckKind(json_->is_array(), "an array");
    for (size_t i = 0; i < json_->size(); ++i) {
      fn(JsonRef((*json_)[i], place_ + "[" + std::to_string(i) + "]"));
    }
  }
  // Calls fn(key, JsonRef) for each member of an object.
  template <typename Fn>
  void ForEachMember(Fn&& fn) const {
    CheckKind(json_->is_object(), "an object");
    for (const auto& [key, value] : json_->items()) fn(key, JsonRef(value, place_ + "." + key));
  }

 private:
  void CheckKind(bool condition, std::string_view expected) const {
    if (!condition) Corrupt("expected {}, found {}", expected, json_->type_name());
  }

  const Json* json_;
  std::string place_;
};

// Parses a document; raises CorruptFile naming `what`.
inline Json ParseJson(std::string_view text, std::string_view what) {
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) Fail(ErrorKind::kCorruptFile, "{}: not a JSON document", what);
  return json;
}

}  // namespace stator
