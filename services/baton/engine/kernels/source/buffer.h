// Memory of whole cache lines that grows and never shrinks: after a few steps nothing allocates.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>

namespace baton {

template <class T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data_); }

  // Room for `count` values; what was there before is lost when it grows.
  T* reserve(size_t count) {
    if (count > count_) {
      std::free(data_);
      const size_t bytes = (count * sizeof(T) + 63) / 64 * 64;
      data_ = static_cast<T*>(std::aligned_alloc(64, bytes));
      count_ = data_ == nullptr ? 0 : count;
      if (data_ == nullptr) throw std::bad_alloc();
    }
    return data_;
  }

  T* data() const { return data_; }

 private:
  T* data_ = nullptr;
  size_t count_ = 0;
};

}  // namespace baton
