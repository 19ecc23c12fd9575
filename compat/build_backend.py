"""The build of torch-stator-compat: setuptools', which first refuses to install over the real
Torch-TensorRT, whose files have the same names."""

import importlib.metadata
import sysconfig

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  (the other hooks)


def _refuse_over_the_real_one():
    paths = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    found = [
        distribution.version
        for distribution in importlib.metadata.distributions(path=paths)
        if distribution.metadata["Name"].lower().replace("-", "_") == "torch_tensorrt"
    ]
    if found:
        raise SystemExit(
            f"torch-tensorrt {found[0]} is installed in {paths[0]}: torch-stator-compat would "
            "replace its files; uninstall it first, or use backend='stator' without this package"
        )


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    _refuse_over_the_real_one()
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    _refuse_over_the_real_one()
    return build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
