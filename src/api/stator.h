/* The C interface of libstator.so: load a plan, run it, refit it. No Python, no C++ types.
 *
 * Tensors cross as DLPack (dlpack/dlpack.h). Every function that can fail returns 0, or another
 * value after which StatorLastError() says, for the calling thread, what went wrong. Handles may be
 * shared by threads; StatorEngineRun may be called by several threads at once.
 */
#ifndef STATOR_H_
#define STATOR_H_

#include <dlpack/dlpack.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define STATOR_API __attribute__((visibility("default")))

/* What went wrong; the order is that of ErrorKind in base/error.h. */
enum StatorStatus {
  kStatorOk = 0,
  kStatorInvalidArgument = 1,
  kStatorUnsupported = 2,
  kStatorCorruptFile = 3,
  kStatorVersionMismatch = 4,
  kStatorDeviceError = 5,
  kStatorOutOfMemory = 6,
  kStatorInternal = 7,
};

typedef struct StatorEngine StatorEngine;

/* Loads a plan that `stator compile` or torch_stator wrote with its weights. The file is mapped;
 * `bytes` are copied. */
STATOR_API int StatorEngineLoadFile(const char* path, StatorEngine** engine);
/* On the CUDA device of this ordinal, for a plan that was compiled for CUDA; the functions without
 * one take the first device. */
STATOR_API int StatorEngineLoadFileOnDevice(const char* path, int ordinal, StatorEngine** engine);
STATOR_API int StatorEngineLoadBytes(const void* bytes, size_t size, StatorEngine** engine);
/* Not while a call of it runs. Null is allowed. */
STATOR_API void StatorEngineFree(StatorEngine* engine);

STATOR_API int StatorEngineNumInputs(const StatorEngine* engine);
STATOR_API int StatorEngineNumOutputs(const StatorEngine* engine);
/* The name of an input or output, valid as long as the engine; null when there is no such one. */
STATOR_API const char* StatorEngineInputName(const StatorEngine* engine, int index);
STATOR_API const char* StatorEngineOutputName(const StatorEngine* engine, int index);

/* Runs on `inputs` (any strides, on the engine's device). `outputs` gets StatorEngineNumOutputs new
 * tensors; the caller ends each by its deleter, which may be after the engine is freed. */
STATOR_API int StatorEngineRun(StatorEngine* engine, const DLTensor* const* inputs, int num_inputs,
                               DLManagedTensorVersioned** outputs);
/* On a CUDA device: enqueues the work on this CUstream, and returns. StatorEngineRun takes the
 * default stream. */
STATOR_API int StatorEngineRunOnStream(StatorEngine* engine, const DLTensor* const* inputs,
                                       int num_inputs, DLManagedTensorVersioned** outputs,
                                       void* stream);

/* Replaces a weight by a copy of `tensor`: same dtype and sizes, dense row-major. Takes effect with
 * the next StatorEngineRefit. */
STATOR_API int StatorEngineSetWeight(StatorEngine* engine, const char* name,
                                     const DLTensor* tensor);
/* Makes anew what was derived from weights; waits for running calls. */
STATOR_API int StatorEngineRefit(StatorEngine* engine);

/* The message of the last failure in this thread; empty when there was none. */
STATOR_API const char* StatorLastError(void);

#ifdef __cplusplus
}
#endif

#endif /* STATOR_H_ */
