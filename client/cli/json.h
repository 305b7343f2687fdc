// JsonWriter: appends one JSON document to a string. The caller keeps the nesting right.
//
// External lock.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace farwarp::cli {

class JsonWriter {
 public:
  JsonWriter& BeginObject();
  JsonWriter& EndObject();
  JsonWriter& BeginArray();
  JsonWriter& EndArray();
  JsonWriter& Key(std::string_view name);
  JsonWriter& String(std::string_view text);
  JsonWriter& Number(std::uint64_t number);
  JsonWriter& Bool(bool value);

  JsonWriter& Field(std::string_view name, std::string_view text) { return Key(name).String(text); }
  JsonWriter& Field(std::string_view name, const char* text) { return Key(name).String(text); }
  JsonWriter& Field(std::string_view name, std::uint64_t number) {
    return Key(name).Number(number);
  }
  JsonWriter& Field(std::string_view name, bool value) { return Key(name).Bool(value); }

  const std::string& text() const { return text_; }

 private:
  void Separate();

  std::string text_;
  bool needs_comma_ = false;
};

}  // namespace farwarp::cli
