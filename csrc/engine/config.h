// SPDX-License-Identifier: Apache-2.0
// What a caller said about one layer, loss or optimizer: names with plain values. Reading a value
// checks its type and names the culprit, so that every error speaks of what the caller wrote.
#pragma once

#include <map>
#include <string>
#include <variant>
#include <vector>

#include "core/dtype.h"

namespace fusednn::engine {

using Shape = std::vector<Index>;  // of one sample, without the batch axis

using Value = std::variant<bool, int64_t, double, std::string, std::vector<int64_t>,
                           std::map<std::string, double>>;

class Config {
 public:
  Config() = default;
  Config(std::string owner, std::map<std::string, Value> values)
      : owner_(std::move(owner)), values_(std::move(values)) {}

  bool has(const std::string& key) const { return values_.count(key) != 0; }
  bool flag(const std::string& key, bool otherwise) const;
  double number(const std::string& key, double otherwise) const;
  Index integer(const std::string& key) const;
  std::string text(const std::string& key, const std::string& otherwise) const;
  std::vector<int64_t> integers(const std::string& key) const;
  std::map<std::string, double> numbers(const std::string& key) const;  // {} where absent

  const std::string& owner() const { return owner_; }

 private:
  const Value* find(const std::string& key) const;
  std::string owner_;
  std::map<std::string, Value> values_;
};

std::string to_string(const Shape& shape);  // "(28, 28)"
Index size_of(const Shape& shape);          // product of the dimensions

}  // namespace fusednn::engine
