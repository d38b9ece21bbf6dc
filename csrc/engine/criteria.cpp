// SPDX-License-Identifier: Apache-2.0
#include "engine/criteria.h"

#include <algorithm>
#include <optional>
#include <stdexcept>

#include "engine/catalog.h"
#include "rules/tally.h"

namespace fusednn::engine {
namespace {

std::optional<Tallied> find_tallied(const std::string& rule) {
  if (rule == "levels") return Tallied::levels;
  if (rule == "classes") return Tallied::classes;
  if (rule == "moments") return Tallied::moments;
  return std::nullopt;
}

void check_tally(const CriterionSpec& spec, const Node& node) {
  const std::vector<double>& list = spec.thresholds;
  const auto wrong = [&](const std::string& what) {
    throw std::invalid_argument("metric " + spec.rule + ": " + what);
  };
  for (size_t i = 0; i < list.size(); ++i) {
    if (!(list[i] == list[i]) || (i > 0 && list[i] < list[i - 1])) wrong("thresholds must ascend");
  }
  if (spec.rule == "classes" && node.size == 1 && list.size() != 1) {
    wrong("a single column needs one threshold");
  }
  if (spec.column < -1 || spec.column >= node.size) {
    wrong("column=" + std::to_string(spec.column) + " is not one of the " +
          std::to_string(node.size) + " columns of node '" + spec.node + "'");
  }
  if (spec.top < 0) wrong("top=" + std::to_string(spec.top) + " must not be negative");
}

// How many numbers a tally over so many columns has.
Index counts_of(const Criterion& tally, Index cols) {
  const Index classes = cols == 1 ? 2 : cols;
  if (tally.tallied == Tallied::classes) return classes * classes;
  if (tally.tallied == Tallied::moments) return cols * rules::kMoments;
  const Index groups = tally.per_column && tally.column < 0 ? cols : 1;
  return groups * 2 * (tally.n_thresholds + 1);
}

}  // namespace

Criterion resolve(const CriterionSpec& spec, const Graph& graph, std::vector<Feed>& targets) {
  Criterion criterion;
  criterion.node = graph.find(spec.node);
  criterion.labels = spec.labels;
  criterion.target = spec.target;
  criterion.weight = spec.weight;
  criterion.threshold = spec.threshold;
  criterion.top = spec.top;
  criterion.against_zero = spec.against_zero;
  const Node& node = graph.nodes[criterion.node];
  if (spec.rule == "accuracy") {
    criterion.rule = Criterion::kAccuracy;
    criterion.top = std::max<Index>(spec.top, 1);
  } else if (const auto tallied = find_tallied(spec.rule)) {
    criterion.rule = Criterion::kTally;
    criterion.tallied = *tallied;
    check_tally(spec, node);
    criterion.column = spec.column;
    criterion.per_column = spec.per_column;
    criterion.n_thresholds = static_cast<Index>(spec.thresholds.size());
    criterion.n_counts = counts_of(criterion, node.size);
  } else {
    criterion.rule = find_loss(spec.rule);
    const LossInfo& info = losses()[criterion.rule];
    criterion.parameters = bind_parameters("loss " + spec.rule, info.parameters, spec.parameters);
    if (spec.labels && !info.rowwise) {
      throw std::invalid_argument("loss " + spec.rule +
                                  " compares with values, not with class numbers");
    }
  }
  if (spec.against_zero) {
    if (criterion.rule < 0 || losses()[criterion.rule].rowwise || spec.labels) {
      throw std::invalid_argument("loss " + spec.rule + ": against_zero is for losses by elements");
    }
    return criterion;
  }
  if (spec.target < 0)
    throw std::invalid_argument("target=" + std::to_string(spec.target) + " must not be negative");
  Feed feed{spec.labels ? 1 : node.size, spec.labels, node.size};
  if (static_cast<size_t>(spec.target) >= targets.size()) targets.resize(spec.target + 1);
  Feed& known = targets[spec.target];
  const bool fresh = known.row_elements == 0;
  if (!fresh && (known.labels != feed.labels || known.row_elements != feed.row_elements)) {
    throw std::invalid_argument("target " + std::to_string(spec.target) + " is used both as " +
                                (known.labels ? "class numbers" : "values") + " of " +
                                std::to_string(known.row_elements) + " columns and as " +
                                (feed.labels ? "class numbers" : "values") + " of " +
                                std::to_string(feed.row_elements));
  }
  if (!fresh) feed.classes = std::min(feed.classes, known.classes);
  known = feed;
  return criterion;
}

}  // namespace fusednn::engine
