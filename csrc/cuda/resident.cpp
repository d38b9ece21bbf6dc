// SPDX-License-Identifier: Apache-2.0
#include "cuda/resident.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "cuda/backend.h"
#include "cuda/cublaslt.h"
#include "cuda/launch.cuh"
#include "engine/pointers.h"

namespace fusednn::cuda {
namespace {

constexpr double kCyclesPerNanosecond = 1.7;
// To bring everything there and back, which may have to pay for a single run.
constexpr double kStartNanoseconds = 6000;
constexpr double kCaution = 1.5;  // a guess that is wrong by so much does no harm
// The kernel has some shared memory of its own.
constexpr size_t kReserved = 1 << 10;
constexpr uint32_t kAccess = 16;         // bytes that a thread copies at once
constexpr size_t kPieceBytes = 4 << 10;  // that one warp copies

std::atomic<bool> is_allowed{true};

size_t whole_accesses(size_t bytes) { return (bytes + kAccess - 1) / kAccess * kAccess; }

template <class... Ops>
bool is(const Command& command) {
  return ((command.operation == PlaceIn<Ops, Operations>::value) || ...);
}

// Memory that a list names, by address. That of the commands themselves is the host's until the end.
struct Range {
  uintptr_t begin = 0;
  size_t bytes = 0;
  bool written = false;
  bool must = false;        // it holds pointers that are to lead to shared memory
  bool multiplied = false;  // each byte is read many times in a run
  bool placed = false;
  uint32_t place = 0;

  uintptr_t end() const { return begin + bytes; }
};

// A pointer, by the addresses of where it is and of where it leads.
struct Pointer {
  uintptr_t at, target;
};

// Everything that a list of commands names, but for the data set.
class Working : public PointerLister<Working> {
 public:
  Working(const Device& device, std::vector<Command>& commands)
      : PointerLister(DType::float32), device_(device) {
    const size_t bytes = commands.size() * sizeof(Command);
    ranges.push_back({reinterpret_cast<uintptr_t>(commands.data()), bytes, false, true});
    for (Command& command : commands) {
      multiplies_ = is<DenseForward, DenseBackwardInput, DenseBackwardWeights>(command);
      list_pointers(Operations{}, *this, command);
    }
    merge();
  }

  template <class T>
  void add(T*& pointer, size_t bytes, bool written) {
    if (bytes == 0) return;
    const auto target = reinterpret_cast<uintptr_t>(pointer);
    pointers.push_back({on_device(reinterpret_cast<uintptr_t>(&pointer)), target});
    ranges.push_back({target, bytes, written, false, multiplies_ && !written});
  }
  // A copy, which the host can look at.
  template <class T>
  T* entries(const T* table, Index n) {
    const size_t bytes = static_cast<size_t>(n) * sizeof(T);
    const auto address = reinterpret_cast<uintptr_t>(table);
    ranges.push_back({address, bytes, false, true});
    tables_.push_back({address, std::vector<char>(bytes)});
    std::vector<char>& copy = tables_.back().copy;
    check(cudaMemcpyAsync(copy.data(), table, bytes, cudaMemcpyDeviceToHost, device_.stream),
          "reading a table");
    check(cudaStreamSynchronize(device_.stream), "waiting for a table");
    return reinterpret_cast<T*>(copy.data());
  }
  // They stay where they are.
  GatherReach reach(const GatherRows&) { return {}; }
  Index reach(const BeginStep&) { return 0; }

  // What has an address of its own.
  Range& range_of(uintptr_t address) {
    const auto behind =
        std::upper_bound(ranges.begin(), ranges.end(), address,
                         [](uintptr_t a, const Range& range) { return a < range.begin; });
    return *(behind - 1);
  }

  std::vector<Range> ranges;  // by address; none overlaps another one
  std::vector<Pointer> pointers;

 private:
  struct Table {
    uintptr_t address;
    std::vector<char> copy;
  };

  uintptr_t on_device(uintptr_t place) const {
    for (const Table& table : tables_) {
      const auto copy = reinterpret_cast<uintptr_t>(table.copy.data());
      if (copy <= place && place < copy + table.copy.size()) return table.address + (place - copy);
    }
    return place;  // in a command
  }

  void merge() {
    std::sort(ranges.begin(), ranges.end(),
              [](const Range& a, const Range& b) { return a.begin < b.begin; });
    std::vector<Range> merged;
    for (const Range& range : ranges) {
      // Neighbours stay apart: one may be written back, while the other holds pointers that must not be.
      if (merged.empty() || range.begin >= merged.back().end()) {
        merged.push_back(range);
        continue;
      }
      Range& last = merged.back();
      last.bytes = std::max(last.end(), range.end()) - last.begin;
      last.written = last.written || range.written;
      last.must = last.must || range.must;
      last.multiplied = last.multiplied || range.multiplied;
    }
    ranges = std::move(merged);
  }

  const Device& device_;
  std::vector<Table> tables_;
  bool multiplies_ = false;
};

// What is needed comes first, then what products read, then the rest; of each kind the small first.
// False where what is needed does not fit.
bool place_all(std::vector<Range>& ranges, size_t& used, size_t limit) {
  std::vector<Range*> order;
  for (Range& range : ranges) order.push_back(&range);
  std::sort(order.begin(), order.end(), [](const Range* a, const Range* b) {
    if (a->must != b->must) return a->must;
    if (a->multiplied != b->multiplied) return a->multiplied;
    return a->bytes != b->bytes ? a->bytes < b->bytes : a->begin < b->begin;
  });
  for (Range* range : order) {
    const size_t place = used + range->begin % kAccess;
    const size_t end = whole_accesses(place + range->bytes);
    range->placed = end <= limit;
    if (!range->placed && range->must) return false;
    if (!range->placed) continue;
    range->place = static_cast<uint32_t>(place);
    used = end;
  }
  return true;
}

// Cut where accesses begin.
void add_pieces(const Range& range, char* memory, std::vector<ResidentPiece>& pieces) {
  for (size_t done = 0; done < range.bytes;) {
    const size_t before = done == 0 ? range.begin % kAccess : 0;
    const size_t bytes = std::min(range.bytes - done, kPieceBytes - before);
    pieces.push_back({memory + done, range.place + static_cast<uint32_t>(done),
                      static_cast<uint32_t>(bytes), range.written});
    done += bytes;
  }
}

}  // namespace

double resident_nanoseconds(const Command* commands, int n, double launched) {
  if (!is_allowed) return 0;
  double cycles = 0;
  for (int i = 0; i < n; ++i) {
    const ResidentForm form = resident_form(commands[i]);
    if (!form.taken || product_demand(commands[i]).taken) return 0;
    cycles += form.cycles;
  }
  const double nanoseconds = cycles / kCyclesPerNanosecond;
  return kCaution * nanoseconds + kStartNanoseconds < launched ? nanoseconds : 0;
}

std::unique_ptr<Resident> Resident::make(const Device& device, const Command* list, int n) {
  std::vector<Command> commands(list, list + n);
  size_t scratch = 0;
  std::vector<bool> has_scratch;
  for (Command& command : commands) {
    const ResidentForm form = resident_form(command);
    if (!form.taken) return nullptr;
    has_scratch.push_back(form.scratch > 0);
    scratch = std::max(scratch, form.scratch);
  }
  // All use the same scratch, and the list begins anew when all have ended it.
  for (size_t i = 0; i < commands.size(); ++i) {
    const bool last = i + 1 == commands.size();
    if (last || has_scratch[i] || has_scratch[i + 1]) commands[i].beside_next = false;
    // Gathers need of it only the clock, and for that the threads have met.
    if (!last && is<BeginStep>(commands[i]) && is<GatherRows>(commands[i + 1])) {
      commands[i].beside_next = true;
    }
  }

  Working working(device, commands);
  std::unique_ptr<Resident> made(new Resident);
  size_t used = whole_accesses(scratch);
  if (!place_all(working.ranges, used, device.shared_bytes - kReserved)) return nullptr;
  made->shared_bytes_ = used;
  const auto host = reinterpret_cast<uintptr_t>(commands.data());
  const size_t command_bytes = whole_accesses(commands.size() * sizeof(Command));

  std::vector<ResidentLink> links;
  for (const Pointer& pointer : working.pointers) {
    const Range &from = working.range_of(pointer.at), &to = working.range_of(pointer.target);
    if (!to.placed) continue;
    links.push_back({from.place + static_cast<uint32_t>(pointer.at - from.begin),
                     to.place + static_cast<uint32_t>(pointer.target - to.begin)});
  }
  size_t n_pieces = 0;
  for (const Range& range : working.ranges) n_pieces += range.bytes / kPieceBytes + 2;
  const size_t piece_bytes = whole_accesses(n_pieces * sizeof(ResidentPiece));
  const size_t bytes = command_bytes + piece_bytes + links.size() * sizeof(ResidentLink);
  check(cudaMalloc(&made->memory_, bytes), "allocating memory");
  char* const memory = static_cast<char*>(made->memory_);

  std::vector<ResidentPiece> pieces;
  ResidentWork& work = made->work_;
  for (const Range& range : working.ranges) {
    const bool is_commands = range.begin == host;
    if (is_commands) work.commands = range.place;
    if (!range.placed) {
      made->bytes_outside_ += range.bytes;
    } else {
      add_pieces(range, is_commands ? memory : reinterpret_cast<char*>(range.begin), pieces);
    }
  }
  work.pieces = reinterpret_cast<const ResidentPiece*>(memory + command_bytes);
  work.links = reinterpret_cast<const ResidentLink*>(memory + command_bytes + piece_bytes);
  work.n_pieces = static_cast<uint32_t>(pieces.size());
  work.n_links = static_cast<uint32_t>(links.size());
  work.n_commands = static_cast<uint32_t>(n);

  std::vector<char> image(bytes);
  std::memcpy(image.data(), commands.data(), commands.size() * sizeof(Command));
  std::memcpy(image.data() + command_bytes, pieces.data(), pieces.size() * sizeof(ResidentPiece));
  std::memcpy(image.data() + command_bytes + piece_bytes, links.data(),
              links.size() * sizeof(ResidentLink));
  check(cudaMemcpyAsync(memory, image.data(), bytes, cudaMemcpyHostToDevice, device.stream),
        "uploading a list");
  return made;
}

Resident::~Resident() {
  (void)cudaFree(memory_);  // errors do not matter: CUDA may be gone before us
  (void)cudaGetLastError();
}

void Resident::run(cudaStream_t stream, int times) const {
  ResidentWork work = work_;
  work.times = static_cast<uint32_t>(times);
  run_resident(work, shared_bytes_, stream);
}

const Resident* Residents::get(const Device& device, uint64_t recording, const Command* commands,
                               int n) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = lists_.find(recording);
  if (found != lists_.end()) return found->second.get();
  return lists_.emplace(recording, Resident::make(device, commands, n)).first->second.get();
}

void Residents::forget(uint64_t recording) {
  const std::lock_guard<std::mutex> lock(mutex_);
  lists_.erase(recording);
}

size_t Residents::size() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return static_cast<size_t>(std::count_if(
      lists_.begin(), lists_.end(), [](const auto& list) { return list.second != nullptr; }));
}

void allow_resident(bool allowed) { is_allowed = allowed; }

}  // namespace fusednn::cuda
