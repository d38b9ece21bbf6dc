// SPDX-License-Identifier: Apache-2.0
#include "engine/program.h"

namespace fusednn::engine {

// A step longer than this runs in pieces, so that Ctrl-C need not wait for its end.
constexpr double kPieceNanoseconds = 50e6;

std::vector<Piece> cut(const Backend& backend, std::vector<Command>& commands, int update,
                       int max_threads) {
  const auto piece = [&](int first, int end) {
    return Piece{first, end - first,
                 backend.prepare(commands.data() + first, end - first, max_threads)};
  };
  const int n = static_cast<int>(commands.size());
  std::vector<Piece> pieces;
  pieces.push_back(piece(0, n));
  if (pieces[0].schedule.nanoseconds <= kPieceNanoseconds) return pieces;
  pieces.clear();
  for (Command& command : commands) command.inner = false;  // the next piece may read it
  int first = 0;
  double sum = 0;
  for (int i = 0; i < n; ++i) {
    const double each = backend.prepare(&commands[i], 1, max_threads).nanoseconds;
    if (i > first && (i == update || (i < update && sum + each > kPieceNanoseconds))) {
      pieces.push_back(piece(first, i));
      first = i;
      sum = 0;
    }
    sum += each;
  }
  pieces.push_back(piece(first, n));
  return pieces;
}

}  // namespace fusednn::engine
