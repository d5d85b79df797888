"""MuJoCo and its off-screen renderer: imported so that it needs no display, and checked before anything is written."""

import os
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from cosmos_tokenizer import InputError

PLATFORM = "osmesa"
"""MuJoCo's name of the software renderer, which needs neither a display nor a GPU."""


def load_mujoco() -> ModuleType:
    """MuJoCo, imported with a GL platform that needs no display unless MUJOCO_GL names another."""
    # OSMesa makes its LLVM's symbols global, which crashes Triton's LLVM where that comes second; torch brings Triton
    # with its first optimizer.
    if find_spec("triton") is not None:
        import_module("triton")
    # MuJoCo reads the variable once, while it is imported, and takes no other word for it; its default needs a display.
    given = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = given or PLATFORM
    try:
        import mujoco
    except ModuleNotFoundError as error:
        if error.name != "mujoco":
            raise
        raise InputError("rendering worlds needs mujoco: pip install 'cosmos-posttrain[worlds]'") from error
    finally:
        if given is None:
            del os.environ["MUJOCO_GL"]
        else:
            os.environ["MUJOCO_GL"] = given
    return mujoco


def check_renderer() -> None:
    """Raise one clear error when MuJoCo is not installed or cannot render here."""
    try:
        mujoco = load_mujoco()
        mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), 8, 8).close()
    except InputError:
        raise
    except Exception as error:  # the GL platforms raise errors of many kinds, some while they are imported
        platform = os.environ.get("MUJOCO_GL") or PLATFORM
        raise InputError(f"cannot render with MUJOCO_GL={platform} ({error}); apt-get install libosmesa6") from error
