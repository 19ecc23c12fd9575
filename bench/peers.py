"""Other ways to run a model, to time beside Stator: {name: f(module, inputs) -> a call}."""

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
