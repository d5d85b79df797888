"""Networks that come as a TorchScript file, by path: what `torch.jit.load` makes of it, called with care.

The file's own code runs: take it from where you would take a program.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from cosmos_tokenizer.errors import InputError


class ScriptedNetwork:
    """A TorchScript module in inference mode on `device`; `path` names it in errors.

    Args:
        options: keywords for the module's `forward`; those that it does not take are left out.

    Raises:
        InputError: there is no such file, or it is not TorchScript.
    """

    def __init__(self, path: Path | str, device: torch.device | str, options: Mapping[str, bool] | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"{path}: no such file; name a TorchScript file")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                self._module = torch.jit.load(str(path), map_location=device).eval()
            taken = {argument.name for argument in self._module.forward.schema.arguments}
        except (RuntimeError, ValueError, AttributeError, EOFError) as error:
            reason = _brief(error)
            raise InputError(
                f"{path}: is not a TorchScript network ({reason}); save one with torch.jit.save"
            ) from error
        self._options = {name: value for name, value in (options or {}).items() if name in taken}

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Run the network once.

        Raises:
            InputError: it does not take such inputs, or gives anything but one finite tensor.
        """
        try:
            with torch.inference_mode():
                result = self._module(*inputs, **self._options)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if "can't allocate memory" in str(error):
                raise
            raise InputError(
                f"{self.path}: fails on {_shapes(inputs)} ({_brief(error)}); give another network"
            ) from error
        if not isinstance(result, Tensor) or not result.is_floating_point():
            kind = str(result.dtype) if isinstance(result, Tensor) else type(result).__name__
            raise InputError(
                f"{self.path}: gives {kind} for {_shapes(inputs)}, and one floating-point tensor is needed"
            )
        if not bool(torch.isfinite(result).all()):
            raise InputError(
                f"{self.path}: gives values that are not finite for {_shapes(inputs)}; give another network"
            )
        return result


def _shapes(inputs: tuple[Tensor, ...]) -> str:
    return " and ".join("x".join(map(str, x.shape)) for x in inputs)


def _brief(error: Exception) -> str:
    """The last line: TorchScript puts its own traceback before it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip()[:160]
