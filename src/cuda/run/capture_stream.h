// A stream that captures its work, and that of streams forked from it, into a graph.
#pragma once

#include "cuda/run/driver.h"

namespace stator {

class CaptureStream {
 public:
  explicit CaptureStream(const Driver& driver);
  ~CaptureStream();
  CaptureStream(const CaptureStream&) = delete;
  CaptureStream& operator=(const CaptureStream&) = delete;

  CUstream get() const { return stream_; }

  // The node that all further work on a stream of the capture depends on; null for none, and for
  // several.
  CUgraphNode LastNode(CUstream stream) const;

  // Ends the capture. The graph is the caller's.
  CUgraph End();

 private:
  const Driver& driver_;
  CUstream stream_ = nullptr;
  bool ended_ = false;
};

}  // namespace stator
