"""torch_tensorrt.dynamo: the settings, by Torch-TensorRT's name."""

from torch_stator import CompilationSettings

__all__ = ["CompilationSettings"]
