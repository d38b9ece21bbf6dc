// SPDX-License-Identifier: Apache-2.0
#include "engine/layers/list.h"

#include <stdexcept>

#include "engine/catalog.h"

namespace fusednn::engine {
namespace {

struct Kind {
  const char* type;
  std::unique_ptr<Layer> (*make)(const Config& config);
};

constexpr Kind kKinds[] = {
    {"dense",               make_dense              },
    {"activation",          make_activation         },
    {"softmax",             make_softmax            },
    {"dropout",             make_dropout            },
    {"alpha_dropout",       make_alpha_dropout      },
    {"gaussian_dropout",    make_gaussian_dropout   },
    {"gaussian_noise",      make_gaussian_noise     },
    {"batch_normalization", make_batch_normalization},
    {"layer_normalization", make_layer_normalization},
    {"flatten",             make_flatten            },
    {"resample",            make_resample           },
    {"rescaling",           make_rescaling          },
    {"add",                 make_add                },
    {"concatenate",         make_concatenate        },
};

}  // namespace

std::vector<std::string> layer_types() {
  std::vector<std::string> types;
  for (const Kind& kind : kKinds) types.push_back(kind.type);
  return types;
}

std::unique_ptr<Layer> make_layer(const std::string& type, const Config& config) {
  for (const Kind& kind : kKinds) {
    if (type == kind.type) return kind.make(config);
  }
  std::string message = config.owner() + ": layer type '" + type + "' is unknown";
  const std::string near = nearest(type, layer_types());
  if (!near.empty()) message += "; did you mean '" + near + "'?";
  throw std::invalid_argument(message);
}

}  // namespace fusednn::engine
