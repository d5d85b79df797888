"""Kernels compiled for GPUs that are not here: registers, spills and memory operations of the machine code."""

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "compile: compiles kernels ahead of time, for minutes; only with -m compile")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "compile" in item.keywords:
            if "compile" not in config.getoption("markexpr"):
                item.add_marker(pytest.mark.skip(reason="compiles for minutes: nox -s compile, or -m compile"))
            elif os.environ.get("TRITON_INTERPRET") == "1":
                item.add_marker(pytest.mark.skip(reason="TRITON_INTERPRET=1 leaves nothing to compile: unset it"))


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """Each stage's text, and what the cubin uses."""

    ttir: str
    ttgir: str
    ptx: str
    cubin: bytes
    registers: int
    spilled: int

    def elements(self, operation: str) -> int:
        """How many elements all tensors of an operation of the TTIR have together."""
        shapes = re.findall(rf"tt\.{operation} .*: tensor<([\dx]+)x!tt\.ptr", self.ttir)
        return sum(eval(shape.replace("x", "*")) for shape in shapes)


@pytest.fixture
def ahead_of_time(tmp_path: Path) -> Callable[..., Compiled]:
    """Return a compiler of a kernel for a compute capability, as a launch with tidy strides would specialise it.

    `constants` are its constexprs and the strides that are 1; pointers are of `dtype` unless `dtypes` names them.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"

    def compiled(
        kernel: Any,
        capability: int,
        constants: Mapping[str, Any],
        *,
        dtype: str,
        dtypes: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Compiled:
        signature, divisible = {}, {}
        for place, name in enumerate(kernel.arg_names):
            if name in constants:
                signature[name] = "constexpr"
                continue
            pointer = name.endswith("_ptr")
            number = "fp32" if name in ("scale", "eps") else "i32"
            signature[name] = f"*{(dtypes or {}).get(name, dtype)}" if pointer else number
            if pointer or "_stride_" in name:
                divisible[(place,)] = [["tt.divisibility", 16]]
        source = ASTSource(fn=kernel, signature=signature, constexprs=dict(constants), attrs=divisible)
        asm = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 4, **options}).asm
        cubin = tmp_path / "kernel.cubin"
        cubin.write_bytes(asm["cubin"])
        usage = subprocess.run([tool, "--dump-resource-usage", cubin], capture_output=True, text=True, check=True)
        counts = {name: int(n) for name, n in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", usage.stdout)}
        return Compiled(
            ttir=asm["ttir"],
            ttgir=asm["ttgir"],
            ptx=asm["ptx"],
            cubin=asm["cubin"],
            registers=counts["REG"],
            spilled=counts["STACK"] + counts["LOCAL"],
        )

    return compiled
