// SPDX-License-Identifier: Apache-2.0
// Arenas: one allocation that holds many tensors; and the ways between the host's memory and a device's.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "engine/backend.h"

namespace fusednn::engine {

constexpr size_t kAlignment = 64;  // bytes; a cache line, and the widest vector
constexpr size_t align(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

enum class Side { device, staging };  // of Backend::allocate_staging()

// Owns one allocation of a backend.
class Arena {
 public:
  Arena() : memory_(nullptr, Release{nullptr}) {}
  Arena(const Backend& backend, size_t bytes, Side side = Side::device);
  char* data() const { return memory_.get(); }
  size_t size() const { return bytes_; }

 private:
  struct Release {
    void (*release)(void*);
    void operator()(char* memory) const { release(memory); }
  };
  std::unique_ptr<char, Release> memory_;
  size_t bytes_ = 0;
};

// Numbers that the host writes and commands read, or the other way round. Where the device's memory is
// the host's there is only one of each; otherwise the device has a twin.
template <class T>
class Mirror {
 public:
  explicit Mirror(const Backend& backend) : backend_(&backend) {}
  Mirror(const Backend& backend, size_t n) : host(n), backend_(&backend) {}

  std::vector<T> host;

  // Where commands find them. It stays the same as long as there are not more of them.
  T* device() {
    if (backend_->host_memory) return host.data();
    const size_t bytes = std::max<size_t>(host.size(), 1) * sizeof(T);
    if (twin_.data() == nullptr || twin_.size() < bytes) twin_ = Arena(*backend_, bytes);
    return reinterpret_cast<T*>(twin_.data());
  }
  // Lets the commands executed from now on see what the host has written; the second is for what
  // nobody else writes and often stays the same.
  void publish() {
    published_.clear();
    if (!backend_->host_memory) backend_->upload(device(), host.data(), host.size() * sizeof(T));
  }
  void publish_changes() { write_changes(backend_->upload); }
  // As the second, also where a graph is being captured (Backend::put).
  void put_changes() { write_changes(backend_->put); }
  // Lets the host see what commands have written.
  void fetch() {
    if (!backend_->host_memory) backend_->download(host.data(), device(), host.size() * sizeof(T));
  }

 private:
  void write_changes(void (*write)(void*, const void*, size_t)) {
    if (backend_->host_memory) return;
    const size_t bytes = host.size() * sizeof(T);
    T* to = device();
    if (published_.size() == bytes && std::memcmp(published_.data(), host.data(), bytes) == 0)
      return;
    write(to, host.data(), bytes);
    published_.resize(bytes);
    std::memcpy(published_.data(), host.data(), bytes);
  }

  const Backend* backend_;
  Arena twin_;
  std::vector<char> published_;
};

// An arena as the caller sees it: the arena itself where its memory is the host's. Otherwise a copy,
// which is made by show() and which the caller may change until hide() puts it back; a run of commands
// begins with hide(), and what it does to the arena is seen after the next show().
class Window {
 public:
  Window(const Backend& backend, const Arena& arena) : backend_(backend), arena_(arena) {}

  char* show();
  void hide();

 private:
  const Backend& backend_;
  const Arena& arena_;
  std::vector<char> copy_;
  bool shown_ = false;
};

// Leave for a backend to remember a list of commands.
class Recording {
 public:
  Recording() = default;
  explicit Recording(const Backend& backend) : backend_(&backend), number_(backend.remember()) {}
  Recording(Recording&& other) noexcept
      : backend_(other.backend_), number_(std::exchange(other.number_, 0)) {}
  Recording& operator=(Recording&& other) noexcept {
    std::swap(backend_, other.backend_);
    std::swap(number_, other.number_);
    return *this;
  }
  ~Recording() {
    if (number_ != 0) backend_->forget(number_);
  }
  uint64_t number() const { return number_; }

 private:
  const Backend* backend_ = nullptr;
  uint64_t number_ = 0;
};

// That of somebody else which the calling thread is on, or 0.
inline uint64_t queue_in_use(const Backend& backend) {
  const uint64_t queue = backend.use_queue(0);
  backend.use_queue(queue);
  return queue;
}

// While it lives, what the calling thread does with a backend goes to this queue.
class OnQueue {
 public:
  OnQueue(const Backend& backend, uint64_t queue)
      : backend_(backend), before_(backend.use_queue(queue)) {}
  ~OnQueue() { backend_.use_queue(before_); }
  OnQueue(const OnQueue&) = delete;
  OnQueue& operator=(const OnQueue&) = delete;

 private:
  const Backend& backend_;
  uint64_t before_;
};

// Something that needs memory from one tick to another; ticks count the nodes of a plan as they run.
struct Lifetime {
  size_t bytes = 0;
  int first = 0;
  int last = 0;
};

struct Layout {
  std::vector<size_t> offsets;  // one per lifetime
  size_t bytes = 0;             // of the whole arena
};

// Places lifetimes so that those which overlap in time never overlap in memory, largest first, each
// at the lowest offset that is free during its whole life.
Layout lay_out(const std::vector<Lifetime>& lifetimes);

}  // namespace fusednn::engine
