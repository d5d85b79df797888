"""How long a clip fits: a clip goes through the network in one piece, so its memory grows with its length."""

from pathlib import Path

from cosmos_tokenizer.model import CausalTokenizer

_MEMORY_FILE = Path("/proc/meminfo")
_CLIP_BYTES = 24
"""Of a pixel of a frame: three 8-bit samples, and the clip and its reconstruction in float32."""
_LIVE_TENSORS = 10
"""Widest tensors alive at once, as measured on CPU: 10 in the small nets, 20 in the largest."""


def room_for_frames(model: CausalTokenizer) -> int | None:
    """Bytes that the 8-bit frames of one clip may take for the clip to go through ``model`` on this machine.

    None where the system does not say how much memory is free. On a GPU only the clip itself counts.
    """
    free = available_bytes()
    if free is None:
        return None
    config = model.config
    widest = max(config.patch_channels, config.widths[0]) / (config.patch_size**2 * config.time_patch)
    network = _LIVE_TENSORS * widest * model.dtype.itemsize if model.device.type == "cpu" else 0
    return int(free * 3 / (_CLIP_BYTES + network))


def available_bytes() -> int | None:
    """Memory that a new process can use without swapping, where the system says (Linux)."""
    if not _MEMORY_FILE.exists():
        return None
    fields = dict(line.split(":", 1) for line in _MEMORY_FILE.read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024
