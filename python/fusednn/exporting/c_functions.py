# SPDX-License-Identifier: Apache-2.0
"""The functions that exported C files are made of.

In the texts ``$real`` is float or double and ``${prefix}`` the name of the model. A name in
capitals followed by ``_`` is the function of math.h for that type: EXP_(x) is expf(x) or exp(x).
N_(number) is a constant of that type.
"""

from __future__ import annotations

import re
from string import Template

# A value of each activation, of x and the parameters in the order that the rule has them. As the
# rules of the engine: no value overflows on the way, and NaN stays NaN.
ACTIVATIONS = {
    "relu": "return x < 0 ? 0 : x;",
    "leaky_relu": "return x > 0 ? x : negative_slope * x;",
    "elu": "return x > 0 ? x : alpha * EXPM1_(x);",
    "selu": "return x > 0 ? N_(1.0507009873554805) * x : N_(1.7580993408473766) * EXPM1_(x);",
    "gelu": """\
x = x < -40 ? -40 : x;
return x * (N_(0.5) * ERF_(x * N_(0.7071067811865476)) + N_(0.5));""",
    "gelu_tanh": """\
x = x < -40 ? -40 : x;
return x / (1 + EXP_(-x * (N_(0.07135481627260025) * x * x + N_(1.5957691216057308))));""",
    "silu": """\
x = x < -1000 ? -1000 : x;
return x / (1 + EXP_(-x));""",
    "sigmoid": "return 1 / (1 + EXP_(-x));",
    "hard_sigmoid": "return (x < -3 ? 0 : x > 3 ? 6 : x + 3) / 6;",
    "tanh": "return TANH_(x);",
    "softplus": "return (x < 0 ? 0 : x) + LOG1P_(EXP_(-FABS_(x)));",
    "softsign": """\
const $real size = FABS_(x) > N_(1e30) ? N_(1e30) : FABS_(x);
return COPYSIGN_(size / (1 + size), x);""",
    "mish": """\
const $real e = EXP_(x > 22 ? 22 : x), n = e * (e + 2);
return (x < -1000 ? -1000 : x) * (n / (n + 2));""",
    "relu6": "return x < 0 ? 0 : x > 6 ? 6 : x;",
    "hard_swish": "return x < -3 ? 0 : x > 3 ? x : x * ((x + 3) / 6);",
    "exponential": "return EXP_(x);",
    "log_sigmoid": "return (x > 0 ? 0 : x) - LOG1P_(EXP_(-FABS_(x)));",
}

# Products are summed up in pieces: a sum of many small errors stays small.
DENSE = """\
static void ${prefix}_dense(const $real *x, const $real *kernel, const $real *bias, $real *y,
                         size_t rows, size_t inputs, size_t units) {
  for (size_t row = 0; row < rows; ++row, x += inputs, y += units) {
    for (size_t unit = 0; unit < units; ++unit) {
      const $real *weights = kernel + unit * inputs;
      $real sum = bias ? bias[unit] : 0;
      for (size_t begin = 0; begin < inputs; begin += 32) {
        const size_t end = inputs - begin < 32 ? inputs : begin + 32;
        $real part = 0;
        for (size_t i = begin; i < end; ++i) part += x[i] * weights[i];
        sum += part;
      }
      y[unit] = sum;
    }
  }
}
"""

SOFTMAX = """\
static void ${prefix}_softmax(const $real *x, $real *y, size_t rows, size_t columns) {
  for (size_t row = 0; row < rows; ++row, x += columns, y += columns) {
    $real highest = x[0], sum = 0;
    for (size_t i = 1; i < columns; ++i) highest = x[i] > highest ? x[i] : highest;
    for (size_t i = 0; i < columns; ++i) {
      y[i] = EXP_(x[i] - highest);
      sum += y[i];
    }
    for (size_t i = 0; i < columns; ++i) y[i] /= sum;
  }
}
"""

LOG_SOFTMAX = """\
static void ${prefix}_log_softmax(const $real *x, $real *y, size_t rows, size_t columns) {
  for (size_t row = 0; row < rows; ++row, x += columns, y += columns) {
    $real highest = x[0], sum = 0;
    for (size_t i = 1; i < columns; ++i) highest = x[i] > highest ? x[i] : highest;
    for (size_t i = 0; i < columns; ++i) sum += EXP_(x[i] - highest);
    sum = LOG_(sum);
    for (size_t i = 0; i < columns; ++i) y[i] = x[i] - highest - sum;
  }
}
"""

# The scale of batch normalisation is gamma / sqrt(variance + epsilon).
BATCH_NORM = """\
static void ${prefix}_batch_norm(const $real *x, const $real *mean, const $real *scale,
                              const $real *beta, $real *y, size_t rows, size_t columns) {
  for (size_t row = 0; row < rows; ++row, x += columns, y += columns) {
    for (size_t i = 0; i < columns; ++i) {
      y[i] = (x[i] - mean[i]) * scale[i] + (beta ? beta[i] : 0);
    }
  }
}
"""

# The mean is taken relative to the first value, as in the engine: small numbers keep their digits.
LAYER_NORM = """\
static void ${prefix}_layer_norm(const $real *x, const $real *gamma, const $real *beta,
                              $real epsilon, $real *y, size_t rows, size_t columns) {
  for (size_t row = 0; row < rows; ++row, x += columns, y += columns) {
    $real mean = 0, variance = 0;
    for (size_t i = 0; i < columns; ++i) mean += x[i] - x[0];
    mean = x[0] + mean / ($real)columns;
    for (size_t i = 0; i < columns; ++i) variance += (x[i] - mean) * (x[i] - mean);
    variance /= ($real)columns;
    const $real inverse = 1 / SQRT_(variance + epsilon);
    for (size_t i = 0; i < columns; ++i) {
      y[i] = (x[i] - mean) * inverse * (gamma ? gamma[i] : 1) + (beta ? beta[i] : 0);
    }
  }
}
"""

ADD = """\
static void ${prefix}_add(const $real *a, const $real *b, $real *y, size_t size) {
  for (size_t i = 0; i < size; ++i) y[i] = a[i] + b[i];
}
"""

RESCALE = """\
static void ${prefix}_rescale(const $real *x, $real scale, $real offset, $real *y, size_t size) {
  for (size_t i = 0; i < size; ++i) y[i] = x[i] * scale + offset;
}
"""

# Copies rows of `columns` values that lie `width` values apart.
CROP = """\
static void ${prefix}_crop(const $real *x, $real *y, size_t rows, size_t columns, size_t width) {
  for (size_t row = 0; row < rows; ++row) {
    memcpy(y + row * columns, x + row * width, columns * sizeof($real));
  }
}
"""

# Writes columns side by side into rows of `width` values.
JOIN = """\
static void ${prefix}_join(const $real *x, $real *y, size_t rows, size_t columns, size_t width) {
  for (size_t row = 0; row < rows; ++row) {
    memcpy(y + row * width, x + row * columns, columns * sizeof($real));
  }
}
"""

SELF_TEST = """\

#ifdef ${macro}_SELF_TEST
#include <stdio.h>

$tables
/* Returns the largest error, relative to the largest expected value. */
static double ${prefix}_compare(const $real *y, const $real *expected, size_t size) {
  double error = 0, scale = 0;
  for (size_t i = 0; i < size; ++i) {
    const double difference = fabs((double)y[i] - (double)expected[i]);
    if (!(difference <= error)) error = difference; /* NaN too */
    if (fabs((double)expected[i]) > scale) scale = fabs((double)expected[i]);
  }
  return scale > 0 ? error / scale : error;
}

int main(void) {
  double worst = 0;
  for (size_t sample = 0; sample < $samples; ++sample) {
$calls
  }
  const int good = worst <= $tolerance;
  printf("${prefix}: largest error %.1e of the largest output: ", worst);
  puts(good ? "good" : "BAD");
  return good ? 0 : 1;
}
#endif
"""


def spell(text: str, real: str, prefix: str, **others: str) -> str:
    """Return a text of this module in C."""
    suffix = "f" if real == "float" else ""
    text = re.sub(r"\bN_\(([^)]*)\)", lambda m: m[1] + suffix, text)
    text = re.sub(r"\b([A-Z0-9]+)_\(", lambda m: f"{m[1].lower()}{suffix}(", text)
    return Template(text).substitute(real=real, prefix=prefix, **others)
