// SPDX-License-Identifier: Apache-2.0
#include "bindings/specs.h"

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "bindings/array.h"

namespace fusednn::bindings {
namespace {

std::string text(py::handle value, const std::string& what) {
  if (!PyUnicode_Check(value.ptr())) {
    throw py::type_error(what + " must be a string, got " + shown(value));
  }
  Py_ssize_t size = 0;
  const char* utf8 = PyUnicode_AsUTF8AndSize(value.ptr(), &size);
  if (utf8 == nullptr) {  // half of a surrogate pair
    PyErr_Clear();
    throw std::invalid_argument(what + "=" + shown(value) + " is no valid text");
  }
  return {utf8, static_cast<size_t>(size)};
}

double number(py::handle value, const std::string& what) {
  const double result = PyFloat_AsDouble(value.ptr());
  if (result == -1 && PyErr_Occurred()) {
    PyErr_Clear();
    throw py::type_error(what + " must be a number, got " + shown(value));
  }
  return result;
}

bool is_integer(py::handle value) {
  return PyIndex_Check(value.ptr()) && !PyBool_Check(value.ptr());
}

int64_t integer(py::handle value, const std::string& what) {
  if (!is_integer(value)) throw py::type_error(what + " must be an integer, got " + shown(value));
  const py::object whole = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
  if (!whole) throw py::error_already_set();
  int overflow = 0;
  const int64_t result = PyLong_AsLongLongAndOverflow(whole.ptr(), &overflow);
  if (overflow != 0) {
    throw std::invalid_argument(what + "=" + shown(value) + " does not fit in 64 bits");
  }
  return result;
}

bool flag(py::handle value, const std::string& what) {
  if (!PyBool_Check(value.ptr())) {
    throw py::type_error(what + " must be True or False, got " + shown(value));
  }
  return value.ptr() == Py_True;
}

template <class T, class Read>
std::vector<T> list(py::handle value, const std::string& what, Read read) {
  if (!PyList_Check(value.ptr()) && !PyTuple_Check(value.ptr())) {
    throw py::type_error(what + " must be a list, got " + shown(value));
  }
  std::vector<T> result;
  for (const py::handle item : py::reinterpret_borrow<py::sequence>(value)) {
    result.push_back(static_cast<T>(read(item, what)));
  }
  return result;
}

py::dict dictionary(py::handle value, const std::string& what) {
  if (!PyDict_Check(value.ptr())) {
    throw py::type_error(what + " must be a dict, got " + shown(value));
  }
  return py::reinterpret_borrow<py::dict>(value);
}

engine::Value value_of(py::handle value, const std::string& what) {
  if (PyBool_Check(value.ptr())) return value.ptr() == Py_True;
  if (is_integer(value)) return integer(value, what);
  if (PyUnicode_Check(value.ptr())) return text(value, what);
  if (PyDict_Check(value.ptr())) return numbers(py::reinterpret_borrow<py::dict>(value), what);
  if (PyList_Check(value.ptr()) || PyTuple_Check(value.ptr())) {
    return list<int64_t>(value, what, integer);
  }
  return number(value, what);
}

int place(py::handle value, const std::string& what) {
  const int64_t result = integer(value, what);
  if (result < 0 || result > 1000000) {
    throw std::invalid_argument(what + "=" + std::to_string(result) +
                                " must be a place in a list, counted from 0");
  }
  return static_cast<int>(result);
}

// Reads the items of a dictionary one by one; `done` refuses those nobody asked for.
class Reader {
 public:
  Reader(const py::dict& given, std::string owner) : given_(given), owner_(std::move(owner)) {}

  template <class T, class Read>
  void optional(const char* key, T& target, Read read) {
    known_.push_back(key);
    if (!given_.contains(key)) return;
    const py::object value = given_[key];
    if (!value.is_none()) target = read(value, owner_ + ": " + key);
  }
  template <class T, class Read>
  void required(const char* key, T& target, Read read) {
    if (!given_.contains(key)) {
      throw std::invalid_argument(owner_ + ": '" + key + "' is missing from " + shown(given_));
    }
    optional(key, target, read);
  }
  void done() const {
    for (const auto& item : given_) {
      const std::string key = text(item.first, owner_ + ": a key");
      if (std::find(known_.begin(), known_.end(), key) == known_.end()) {
        throw std::invalid_argument(owner_ + ": '" + key + "' is unknown");
      }
    }
  }

 private:
  const py::dict& given_;
  std::string owner_;
  std::vector<std::string> known_;
};

Numbers numbers_of(py::handle value, const std::string& what) {
  return numbers(dictionary(value, what), what);
}

engine::Treatment treatment(py::handle given, const std::string& what) {
  const py::dict entries = dictionary(given, what);
  engine::Treatment result;
  Reader reader(entries, what);
  reader.optional("rate", result.rate, number);
  reader.optional("decays", result.decays, flag);
  reader.optional("l1", result.l1, number);
  reader.optional("l2", result.l2, number);
  reader.done();
  return result;
}

engine::Constraint constraint(py::handle given, const std::string& what) {
  engine::Constraint result;
  if (given.is_none()) return result;
  const py::dict entries = dictionary(given, what);
  Reader reader(entries, what);
  reader.required("bound", result.bound, text);
  reader.optional("low", result.low, number);
  reader.optional("high", result.high, number);
  reader.optional("rate", result.rate, number);
  reader.done();
  return result;
}

}  // namespace

Numbers numbers(const py::dict& given, const std::string& owner) {
  Numbers result;
  for (const auto& item : given) {
    const std::string name = text(item.first, owner + ": a name");
    result[name] = number(item.second, owner + ": " + name);
  }
  return result;
}

std::vector<int> node_places(py::handle given, const std::string& argument) {
  return list<int>(given, argument, place);
}

std::vector<double> number_list(py::handle given, const std::string& argument) {
  return list<double>(given, argument, number);
}

std::map<std::string, engine::Value> config_of(py::handle value, const std::string& what) {
  std::map<std::string, engine::Value> config;
  for (const auto& item : dictionary(value, what)) {
    const std::string key = text(item.first, what + ": a key");
    if (!item.second.is_none()) config[key] = value_of(item.second, what + ": " + key);
  }
  return config;
}

engine::NodeSpec node_spec(const py::dict& given) {
  engine::NodeSpec spec;
  Reader reader(given, "node");
  reader.required("type", spec.type, text);
  reader.required("name", spec.name, text);
  reader.optional("inputs", spec.inputs, node_places);
  reader.optional("config", spec.config, config_of);
  reader.done();
  return spec;
}

engine::CriterionSpec criterion_spec(const py::dict& given) {
  engine::CriterionSpec spec;
  Reader reader(given, "loss or metric");
  reader.required("rule", spec.rule, text);
  reader.required("node", spec.node, text);
  reader.optional("parameters", spec.parameters, numbers_of);
  reader.optional("target", spec.target, place);
  reader.optional("labels", spec.labels, flag);
  reader.optional("weight", spec.weight, number);
  reader.optional("against_zero", spec.against_zero, flag);
  reader.optional("threshold", spec.threshold, number);
  reader.optional("thresholds", spec.thresholds, [](py::handle value, const std::string& what) {
    return list<double>(value, what, number);
  });
  reader.optional("top", spec.top, integer);
  reader.optional("column", spec.column, integer);
  reader.optional("per_column", spec.per_column, flag);
  reader.done();
  return spec;
}

engine::OptimizerSpec optimizer_spec(const py::dict& given) {
  engine::OptimizerSpec spec;
  Reader reader(given, "optimizer");
  reader.required("rule", spec.rule, text);
  reader.optional("convention", spec.convention, text);
  reader.optional("hyper", spec.hyper, numbers_of);
  reader.optional("weight_decay", spec.weight_decay, number);
  reader.optional("decoupled", spec.decoupled, flag);
  reader.optional("l1", spec.l1, number);
  reader.optional("maximize", spec.maximize, flag);
  reader.optional("clip_value", spec.clip_value, number);
  reader.optional("clip_norm", spec.clip_norm, number);
  reader.optional("global_clip_norm", spec.global_clip_norm, number);
  reader.optional("ema_decay", spec.ema_decay, number);
  reader.optional("treatments", spec.treatments, [](py::handle value, const std::string& what) {
    return list<engine::Treatment>(value, what, treatment);
  });
  reader.optional("constraints", spec.constraints, [](py::handle value, const std::string& what) {
    return list<engine::Constraint>(value, what, constraint);
  });
  reader.optional("seed", spec.seed, [](py::handle value, const std::string& what) {
    return static_cast<uint64_t>(integer(value, what));
  });
  reader.optional("accumulation_steps", spec.accumulation_steps, integer);
  reader.done();
  return spec;
}

}  // namespace fusednn::bindings
