#include "cuda/run/capture_stream.h"

#include "base/error.h"

namespace stator {

CaptureStream::CaptureStream(const Driver& driver) : driver_(driver) {
  STATOR_CUDA(driver_, StreamCreate, &stream_, CU_STREAM_NON_BLOCKING);
  CUresult result = driver_.StreamBeginCapture(stream_, CU_STREAM_CAPTURE_MODE_RELAXED);
  if (result == CUDA_SUCCESS) return;
  driver_.StreamDestroy(stream_);
  driver_.Check(result, "cuStreamBeginCapture");
}

CaptureStream::~CaptureStream() {
  CUgraph graph = nullptr;
  if (!ended_ && driver_.StreamEndCapture(stream_, &graph) == CUDA_SUCCESS) {
    driver_.GraphDestroy(graph);
  }
  driver_.StreamDestroy(stream_);
}

CUgraphNode CaptureStream::LastNode(CUstream stream) const {
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  const CUgraphNode* nodes = nullptr;
  const CUgraphEdgeData* edges = nullptr;
  size_t count = 0;
  STATOR_CUDA(driver_, StreamGetCaptureInfo, stream, &status, nullptr, nullptr, &nodes, &edges,
              &count);
  STATOR_CHECK(status == CU_STREAM_CAPTURE_STATUS_ACTIVE, "a capture ended by itself");
  return count == 1 ? nodes[0] : nullptr;
}

CUgraph CaptureStream::End() {
  CUgraph graph = nullptr;
  ended_ = true;
  STATOR_CUDA(driver_, StreamEndCapture, stream_, &graph);
  return graph;
}

}  // namespace stator
