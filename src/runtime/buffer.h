// DeviceBuffer: memory of a device, freed when it goes.
#pragma once

#include <utility>

#include "runtime/device.h"

namespace stator {

class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  // No memory for 0 bytes. Raises OutOfMemory.
  DeviceBuffer(Device& device, int64_t bytes)
      : device_(&device), data_(bytes > 0 ? device.Allocate(bytes) : nullptr), bytes_(bytes) {}
  DeviceBuffer(DeviceBuffer&& other) noexcept { *this = std::move(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~DeviceBuffer() {
    if (data_ != nullptr) device_->Free(data_);
  }

  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  Device* device_ = nullptr;
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace stator
