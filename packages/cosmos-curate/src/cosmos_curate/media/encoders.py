"""H.264 encoders of FFmpeg, each at a steady quality rather than a rate of bits, and whether one can be had here."""

import functools
import platform
import subprocess

from cosmos_curate.errors import InputError

# With x264's AVX-512 code, and one thread too, equal frames now and then gave other bytes on a busy machine.
_INSTRUCTIONS = ["-x264-params", "asm=sse4.2"] if platform.machine().lower() in ("x86_64", "amd64") else []

_X264 = ["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"]
PRESETS = {
    "libx264": ("veryfast", _X264),
    "libopenh264": (None, []),
    "h264_nvenc": ("p5", [f"p{n}" for n in range(1, 8)]),
}
"""Of each encoder: the preset that is taken where none is named, and those that it has."""


def ffmpeg() -> str:
    """Return the path of the FFmpeg program that imageio-ffmpeg brings."""
    import imageio_ffmpeg

    return imageio_ffmpeg.get_ffmpeg_exe()


def encoder_arguments(codec: str, quality: int, preset: str | None) -> list[str]:
    """Return FFmpeg's options for one output.

    `quality` is x264's constant rate factor, which spends bits where the eye sees them; the constant quality of NVENC,
    which does so too; and for openh264, which has neither, the quantizer of every macroblock.
    """
    preset = preset or PRESETS[codec][0]
    if codec == "libopenh264":
        # Its rate control picks a quantizer between two bounds, and equal bounds leave it no choice.
        how = ["-rc_mode", "quality", "-qmin", str(quality), "-qmax", str(quality)]
    elif codec == "h264_nvenc":
        how = ["-rc", "vbr", "-cq", str(quality), "-b:v", "0", "-tune", "hq", "-spatial-aq", "1", "-temporal-aq", "1"]
        how += ["-rc-lookahead", "20", "-b_ref_mode", "middle"]
    else:
        how = ["-crf", str(quality), *_INSTRUCTIONS]
    return ["-c:v", codec, *how, *(["-preset", preset] if preset else [])]


@functools.cache
def check_encoder(codec: str) -> None:
    """Encode one frame, once a process.

    Raises:
        InputError: this FFmpeg or this machine cannot.
    """
    command = [ffmpeg(), "-nostdin", "-v", "error", "-f", "lavfi", "-i", "color=s=256x256:d=0.04:r=25"]
    command += [*encoder_arguments(codec, 20, None), "-pix_fmt", "yuv420p", "-f", "null", "-"]
    if subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode:
        if codec == "h264_nvenc":
            way = "it needs an NVIDIA GPU with its driver; there, `pip install cosmos-curate[gpu]`, or take libx264"
        else:
            way = "take another codec, or name another FFmpeg in IMAGEIO_FFMPEG_EXE"
        raise InputError(f"codec {codec} does not work here: {way}")
