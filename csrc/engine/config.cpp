// SPDX-License-Identifier: Apache-2.0
#include "engine/config.h"

#include <stdexcept>

namespace fusednn::engine {
namespace {

[[noreturn]] void wrong(const std::string& owner, const std::string& key, const char* expected) {
  throw std::invalid_argument(owner + ": " + key + " must be " + expected);
}

}  // namespace

const Value* Config::find(const std::string& key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

bool Config::flag(const std::string& key, bool otherwise) const {
  const Value* value = find(key);
  if (!value) return otherwise;
  if (const bool* flag = std::get_if<bool>(value)) return *flag;
  wrong(owner_, key, "True or False");
}

double Config::number(const std::string& key, double otherwise) const {
  const Value* value = find(key);
  if (!value) return otherwise;
  if (const double* real = std::get_if<double>(value)) return *real;
  if (const int64_t* whole = std::get_if<int64_t>(value)) return static_cast<double>(*whole);
  wrong(owner_, key, "a number");
}

Index Config::integer(const std::string& key) const {
  const Value* value = find(key);
  if (value) {
    if (const int64_t* whole = std::get_if<int64_t>(value)) return *whole;
  }
  wrong(owner_, key, "an integer");
}

std::string Config::text(const std::string& key, const std::string& otherwise) const {
  const Value* value = find(key);
  if (!value) return otherwise;
  if (const std::string* text = std::get_if<std::string>(value)) return *text;
  wrong(owner_, key, "a string");
}

std::vector<int64_t> Config::integers(const std::string& key) const {
  const Value* value = find(key);
  if (value) {
    if (const auto* list = std::get_if<std::vector<int64_t>>(value)) return *list;
  }
  wrong(owner_, key, "a list of integers");
}

std::map<std::string, double> Config::numbers(const std::string& key) const {
  const Value* value = find(key);
  if (!value) return {};
  if (const auto* map = std::get_if<std::map<std::string, double>>(value)) return *map;
  wrong(owner_, key, "a mapping of names to numbers");
}

std::string to_string(const Shape& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i ? ", " : "") + std::to_string(shape[i]);
  }
  return text + (shape.size() == 1 ? ",)" : ")");
}

Index size_of(const Shape& shape) {
  // Far more than any memory holds, and far less than what overflows when multiplied by rows or bytes.
  constexpr Index kMost = Index{1} << 48;
  Index size = 1;
  for (const Index dimension : shape) {
    if (__builtin_mul_overflow(size, dimension, &size) || size > kMost) {
      throw std::invalid_argument("shape " + to_string(shape) + " has too many elements");
    }
  }
  return size;
}

}  // namespace fusednn::engine
