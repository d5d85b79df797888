"""Decoding and transcoding against the plain tools, in one run: `python benchmarks/bench_media.py CLIP`.

Each line gives wall and CPU seconds, children's included, and both as ratios to the plain tool of its group. All
decoders and encoders work on one thread; FFmpeg's filters, encoders and files have threads of their own.
"""

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av

from cosmos_curate.media.encoders import encoder_arguments, ffmpeg
from cosmos_curate.media.reading import decode, read_index
from cosmos_curate.media.spans import Span
from cosmos_curate.media.transcode import Encoded, TranscodeConfig, transcode


def measure(work: Callable[[], int]) -> tuple[int, float, float]:
    """Return frames, wall and CPU seconds of the better of two runs."""
    found = []
    for _ in range(2):
        wall, used = time.perf_counter(), os.times()
        frames = work()
        now = os.times()
        cpu = sum(now[:4]) - sum(used[:4])
        found.append((frames, time.perf_counter() - wall, cpu))
    return min(found, key=lambda run: run[2])


def run(*arguments: object) -> None:
    """Run FFmpeg."""
    subprocess.run([ffmpeg(), "-nostdin", "-v", "error", "-y", *map(str, arguments)], check=True)


def plain_decode(path: Path) -> int:
    """Decode by PyAV alone."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        return sum(1 for _ in container.decode(stream))


def ffmpeg_decode(path: Path) -> int:
    """Decode by FFmpeg to nowhere."""
    run("-threads", 1, "-i", path, "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "null", "-")
    return 0


def scaled(path: Path, size: tuple[int, int]) -> int:
    """Decode and convert every frame."""
    return sum(bool(picture.pixels(size).size) for _, picture in decode(path))


def ffmpeg_scaled(path: Path, size: tuple[int, int]) -> int:
    """Let FFmpeg do the same, into a pipe."""
    scale = f"scale={size[1]}:{size[0]}:flags=area"
    run("-threads", 1, "-i", path, "-vf", scale, "-fps_mode", "passthrough", "-pix_fmt", "rgb24", "-f", "null", "-")
    return 0


def one_a_call(source: Path, spans: list[Span], folder: Path, config: TranscodeConfig) -> int:
    """Cut each clip by its own FFmpeg, seeking, unchecked."""
    for number, span in enumerate(spans):
        run(
            *("-threads", 1, "-ss", f"{span.start_s:.6f}", "-to", f"{span.end_s:.6f}", "-i", source, "-map", "0:v:0"),
            *("-fps_mode", "passthrough", "-threads", 1),
            *encoder_arguments(config.codec, config.quality, config.preset),
            *("-pix_fmt", "yuv420p", "-movflags", "+faststart", folder / f"{number}.mp4"),
        )
    return sum(span.end - span.first for span in spans)


def ours(source: Path, spans: list[Span], folder: Path, config: TranscodeConfig) -> int:
    """Transcode, checked."""
    made = transcode(source, spans, [folder / f"{number}.mp4" for number in range(len(spans))], config)
    failed = [clip for clip in made if not isinstance(clip, Encoded)]
    assert not failed, failed
    return sum(span.end - span.first for span in spans)


def report(title: str, rows: dict[str, Callable[[], int]], seconds: float) -> None:
    """Print a group; its first line is the plain tool."""
    print(f"\n{title}\n{'':44}wall s   CPU s  wall ×   CPU ×  CPU s a second of video")
    base = None
    for name, work in rows.items():
        _, wall, cpu = measure(work)
        base = base or (wall, cpu)
        print(f"{name:42}{wall:8.2f}{cpu:8.2f}{wall / base[0]:8.2f}{cpu / base[1]:8.2f}{cpu / seconds:10.3f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--start", type=float, default=0.0, help="seconds into the clip")
    parser.add_argument("--seconds", type=float, default=30.0, help="of it to take")
    parser.add_argument("--length", type=float, default=2.5, help="seconds of each clip that is cut")
    parser.add_argument("--codec", default="libx264")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "part.mp4"
        run("-ss", args.start, "-t", args.seconds, "-i", args.clip, "-map", "0:v:0", "-c", "copy", source)
        shown = [(time_s, picture.width, picture.height) for time_s, picture in decode(source)]
        times = [time_s for time_s, _, _ in shown] + [read_index(source).end_s]
        seconds = times[-1] - times[0]
        step = max(1, round(args.length * len(shown) / seconds))
        firsts = range(0, len(shown), step)
        ends = [min(first + step, len(shown)) for first in firsts]
        spans = [Span(first=a, end=b, start_s=times[a], end_s=times[b]) for a, b in zip(firsts, ends, strict=True)]
        print(
            f"{args.clip.name}: {len(shown)} frames, {seconds:.1f} s, {shown[0][1]}x{shown[0][2]}, {len(spans)} clips"
        )
        report(
            "decode",
            {
                "PyAV": lambda: plain_decode(source),
                "FFmpeg to null": lambda: ffmpeg_decode(source),
                "decode()": lambda: sum(1 for _ in decode(source)),
            },
            seconds,
        )
        size = (27, 48)
        report(
            "decode to 48x27 RGB",
            {
                "FFmpeg to null": lambda: ffmpeg_scaled(source, size),
                "decode(), pixels()": lambda: scaled(source, size),
            },
            seconds,
        )
        config = TranscodeConfig(codec=args.codec)
        single = TranscodeConfig(codec=args.codec, clips_per_call=1)
        report(
            f"transcode, {args.codec}",
            {
                "FFmpeg, one clip a call, unchecked": lambda: one_a_call(source, spans, folder, config),
                "transcode(), one clip a call, checked": lambda: ours(source, spans, folder, single),
                f"transcode(), {config.clips_per_call} clips a call, checked": lambda: ours(
                    source, spans, folder, config
                ),
            },
            seconds,
        )


if __name__ == "__main__":
    main()
