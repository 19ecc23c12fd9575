// The streams of a schedule beside the caller's, and the events between them.
//
// In:  a schedule (runtime/schedule.h), and for each call the caller's stream, which may capture.
// Out: for each step the stream that it goes to, after what it waits for.
// Invariant: on the caller's stream, what comes behind Join comes after all steps, and all steps
// come after what was there before Fork. Used by one call at a time.
#pragma once

#include <vector>

#include "cuda/run/driver.h"
#include "runtime/device.h"

namespace stator {

class CudaBranches {
 public:
  // The device's context is current, here and in all calls; it need not be at the end. `schedule`
  // outlives the object.
  CudaBranches(const Driver& driver, const StepSchedule& schedule);
  ~CudaBranches();
  CudaBranches(const CudaBranches&) = delete;
  CudaBranches& operator=(const CudaBranches&) = delete;

  void Fork(CUstream caller);
  // The stream that the step is to be enqueued on now.
  CUstream Enter(int step);
  void Leave(int step);
  void Join();

 private:
  CUstream StreamOf(int step) const { return streams_[schedule_.streams[step]]; }
  void Destroy();

  const Driver& driver_;
  const StepSchedule& schedule_;
  CUcontext context_ = nullptr;
  std::vector<CUstream> streams_;  // the caller's first
  std::vector<CUevent> over_;      // one per step that others wait for; else null
  std::vector<CUevent> ends_;      // one per stream; the caller's: the start
};

}  // namespace stator
