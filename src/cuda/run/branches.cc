#include "cuda/run/branches.h"

#include "cuda/run/kernel.h"

namespace stator {

CudaBranches::CudaBranches(const Driver& driver, const StepSchedule& schedule)
    : driver_(driver), schedule_(schedule) {
  CudaRelaxedCapture relaxed(driver_);
  STATOR_CUDA(driver_, CtxGetCurrent, &context_);
  streams_.resize(schedule.num_streams);
  ends_.resize(schedule.num_streams);
  over_.resize(schedule.streams.size());
  auto make_event = [&](CUevent& event) {
    if (event == nullptr) STATOR_CUDA(driver_, EventCreate, &event, CU_EVENT_DISABLE_TIMING);
  };
  try {
    for (size_t i = 1; i < streams_.size(); ++i) {
      STATOR_CUDA(driver_, StreamCreate, &streams_[i], CU_STREAM_NON_BLOCKING);
    }
    for (CUevent& event : ends_) make_event(event);
    for (const std::vector<int>& waits : schedule.waits) {
      for (int step : waits) make_event(over_[step]);
    }
  } catch (...) {
    Destroy();
    throw;
  }
}

CudaBranches::~CudaBranches() { Destroy(); }

void CudaBranches::Destroy() {
  CUcontext popped = nullptr;
  if (driver_.CtxPushCurrent(context_) != CUDA_SUCCESS) return;  // the process ends
  for (size_t i = 1; i < streams_.size(); ++i) {
    if (streams_[i] != nullptr) driver_.StreamDestroy(streams_[i]);
  }
  for (const std::vector<CUevent>* events : {&over_, &ends_}) {
    for (CUevent event : *events) {
      if (event != nullptr) driver_.EventDestroy(event);
    }
  }
  driver_.CtxPopCurrent(&popped);
}

void CudaBranches::Fork(CUstream caller) {
  streams_[0] = caller;
  STATOR_CUDA(driver_, EventRecord, ends_[0], caller);
  for (size_t i = 1; i < streams_.size(); ++i) {
    STATOR_CUDA(driver_, StreamWaitEvent, streams_[i], ends_[0], 0);
  }
}

CUstream CudaBranches::Enter(int step) {
  for (int other : schedule_.waits[step]) {
    STATOR_CUDA(driver_, StreamWaitEvent, StreamOf(step), over_[other], 0);
  }
  return StreamOf(step);
}

void CudaBranches::Leave(int step) {
  if (over_[step] != nullptr) STATOR_CUDA(driver_, EventRecord, over_[step], StreamOf(step));
}

void CudaBranches::Join() {
  for (size_t i = 1; i < streams_.size(); ++i) {
    STATOR_CUDA(driver_, EventRecord, ends_[i], streams_[i]);
    STATOR_CUDA(driver_, StreamWaitEvent, streams_[0], ends_[i], 0);
  }
}

}  // namespace stator
