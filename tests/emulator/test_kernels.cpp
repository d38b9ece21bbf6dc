// SPDX-License-Identifier: Apache-2.0
// Every operation on the CPU and on the device, in shapes at which the kernels change their way.
#include "kernel_check.h"

namespace {

using namespace fusednn::kernel_check;

struct Group {
  const char* name;
  void (*in_float32)();
  void (*in_float64)();
};

}  // namespace

// Arguments: the groups to check, or none for all.
int main(int n_arguments, char** arguments) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const Group groups[] = {
      {"elements",   &elements<float>,   &elements<double>  },
      {"rows",       &rows<float>,       &rows<double>      },
      {"losses",     &losses<float>,     &losses<double>    },
      {"optimizers", &optimizers<float>, &optimizers<double>},
      {"updates",    &updates<float>,    &updates<double>   },
      {"products",   &products<float>,   &products<double>  },
      {"fused",      &fused,             [] {}              },
      {"residents",  &residents,         [] {}              }
  };
  for (const Group& group : groups) {
    bool wanted = n_arguments == 1;
    for (int i = 1; i < n_arguments; ++i) wanted |= std::strcmp(arguments[i], group.name) == 0;
    if (!wanted) continue;
    group.in_float32();
    group.in_float64();
    std::printf("%s: %d cases, %d differences so far\n", group.name, cases, failures);
  }
  return failures == 0 ? 0 : 1;
}
