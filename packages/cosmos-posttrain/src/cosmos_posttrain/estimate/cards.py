"""GPUs that people rent: their peak rate for matrix products in bfloat16 and their memory, from public data sheets."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """`tflops`: 10^12 operations a second in bfloat16, dense (half of what sheets give with sparsity); `gb`: memory."""

    tflops: float
    gb: float


CARDS: Mapping[str, Card] = MappingProxyType(
    {
        "h100": Card(tflops=989.0, gb=80.0),
        "h100-pcie": Card(tflops=756.0, gb=80.0),
        "h200": Card(tflops=989.0, gb=141.0),
        "b200": Card(tflops=2250.0, gb=180.0),
        "a100": Card(tflops=312.0, gb=80.0),
        "a100-40gb": Card(tflops=312.0, gb=40.0),
        "l40s": Card(tflops=362.0, gb=48.0),
        "rtx-4090": Card(tflops=165.0, gb=24.0),
        "rtx-5090": Card(tflops=209.0, gb=32.0),
        "mi300x": Card(tflops=1307.0, gb=192.0),
    }
)
"""Name to card; h100 is the SXM one."""
