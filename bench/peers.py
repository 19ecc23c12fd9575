"""Other ways to run a model, to time beside Stator: {name: f(module, inputs) -> a call}."""

import importlib.util
import sys

import torch


def _inductor(module, inputs):
    compiled = torch.compile(module, dynamic=False)
    return lambda: compiled(**inputs)


def _onnxruntime(module, inputs):
    import io

    import onnxruntime

    file = io.BytesIO()
    torch.onnx.export(module, (), file, kwargs=inputs, input_names=list(inputs), dynamo=True)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    return lambda: session.run(None, arrays)


def _openvino(module, inputs):
    import openvino

    model = openvino.convert_model(module, example_input=inputs)
    compiled = openvino.compile_model(model, "CPU")
    arrays = [tensor.numpy() for tensor in inputs.values()]
    return lambda: compiled(arrays)


PEERS = {"inductor": _inductor, "onnxruntime": _onnxruntime, "openvino": _openvino}


def find_installed(names):
    """Those of `names` that can be imported; says which cannot."""
    missing = [n for n in names if n != "inductor" and importlib.util.find_spec(n) is None]
    for name in missing:
        print(f"{name} is not installed: not timed", file=sys.stderr)
    return [name for name in names if name not in missing]
