"""Spans of a video to mp4 files of one kind, frame for frame: several a call of FFmpeg, each checked by decoding it.

H.264, 4:2:0, 8 bits, limited range, upright, square pixels, even sides (an odd one loses a line of pixels), no sound,
the index in front, timestamps as in the source but from 0. Equal input gives equal bytes: nothing of the machine or
the hour is written, and each encoder works on one thread. Transfer curves are left alone and tagged: HDR is not
tone-mapped. Interlaced pictures stay so.
"""

import errno
import hashlib
import os
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from av.video.reformatter import Colorspace

from cosmos_curate.errors import InputError, Unusable
from cosmos_curate.media.encoders import PRESETS, check_encoder, encoder_arguments, ffmpeg
from cosmos_curate.media.picture import Picture
from cosmos_curate.media.reading import decode, open_video
from cosmos_curate.media.spans import Span

_GAP_S = 10.0
"""Clips further apart than this go to different calls, so that little is decoded in vain."""

_MARGIN_S = 0.0001
"""Frames are told apart by times this much before theirs: FFmpeg takes microseconds."""

_SHOWN = r"select=isnan(prev_selected_t)+gt(t\,prev_selected_t)"
"""What `reading.decode` leaves out, frames that do not follow in time, is left out here too."""


@dataclass(frozen=True, kw_only=True)
class TranscodeConfig:
    """How clips are encoded.

    Args:
        codec: libx264, libopenh264 or h264_nvenc.
        quality: 1 (best) to 51; see `encoders.encoder_arguments` for what it means to each codec.
        preset: the encoder's own name for how much work it does; None for veryfast (libx264) and p5 (h264_nvenc).
            libopenh264 has none.
        clips_per_call: at most so many clips are cut by one call of FFmpeg, which decodes the source once for them.
        crop_letterbox: cut off the bars that `transcode` is told of.

    Raises:
        InputError: a value out of its range.
    """

    codec: str = "libx264"
    quality: int = 18
    preset: str | None = None
    clips_per_call: int = 16
    crop_letterbox: bool = True

    def __post_init__(self) -> None:
        if self.codec not in PRESETS:
            raise InputError(f"codec is {self.codec!r}; choose one of {', '.join(PRESETS)}")
        if not 1 <= self.quality <= 51:
            raise InputError(f"quality is {self.quality}; give 1 (best) to 51")
        names = PRESETS[self.codec][1]
        if self.preset is not None and self.preset not in names:
            way = f"choose one of {', '.join(names)}" if names else f"{self.codec} has none, leave it out"
            raise InputError(f"preset is {self.preset!r}; {way}")
        if self.clips_per_call < 1:
            raise InputError(f"clips_per_call is {self.clips_per_call}; give at least 1")


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """One clip's file, as decoding it found it.

    Args:
        framerate: frames a second, on average.
        bytes: of the file.
        sha256: of the file, hexadecimal.
    """

    path: Path
    num_frames: int
    width: int
    height: int
    framerate: float
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class _Source:
    """What all clips of a source share: FFmpeg's filters before the frames are chosen and after, and their size."""

    path: Path
    stream: int
    start_s: float
    indexed: bool
    before: str
    after: str
    width: int
    height: int


def transcode(
    source: Path | str,
    spans: Sequence[Span],
    targets: Sequence[Path],
    config: TranscodeConfig,
    crop: Sequence[int] | None = None,
) -> list[Encoded | Unusable]:
    """Write each span to its target, whole or not at all; a clip that fails stands as its reason among the others.

    Args:
        spans: by frames and times as `reading.decode` gives them.
        targets: as many local .mp4 files, in folders that exist; one that is there already is replaced.
        crop: pixels to cut off the upright picture at left, top, right and bottom; rounded up at left and top to even
            numbers, as 4:2:0 wants.

    Raises:
        Unusable: the source itself cannot be read, or nothing is left of its picture.
        InputError: the codec cannot be had here.
        OSError: a target cannot be written (a full disk), or FFmpeg was stopped.
    """
    check_encoder(config.codec)
    plan = _plan(Path(source), crop if config.crop_letterbox else None)
    done: dict[int, Encoded | Unusable] = {}
    for group in _groups(spans, config.clips_per_call):
        done |= _call(plan, {i: (spans[i], targets[i]) for i in group}, config, seek=True)
    return [done[i] for i in range(len(spans))]


def _plan(source: Path, crop: Sequence[int] | None) -> _Source:
    with closing(decode(source)) as frames:
        start_s, picture = next(frames)
    container, stream = open_video(source)
    with container:
        number, indexed = stream.index, "mp4" in container.format.name or "matroska" in container.format.name
    left, top, right, bottom = crop or (0, 0, 0, 0)
    left, top = left + left % 2, top + top % 2
    width, height = picture.width - left - right, picture.height - top - bottom
    width, height = width - width % 2, height - height % 2
    if width < 16 or height < 16:
        raise Unusable(f"has a picture of {width}x{height} pixels, and encoders need 16x16")
    before, matrix = _tags(picture)
    after = [
        f"scale={picture.width}:{picture.height}:flags=bicubic+accurate_rnd+full_chroma_int:out_range=tv{matrix}",
        "format=yuv420p",
        f"crop={width}:{height}:{left}:{top}:exact=1",
        "setsar=1",
    ]
    return _Source(
        path=source.absolute(),
        stream=number,
        start_s=start_s,
        indexed=indexed,
        before=before,
        after=",".join(after),
        width=width,
        height=height,
    )


def _tags(picture: Picture) -> tuple[str, str]:
    """Return filters that state the matrix, as other sizes would be taken for another, and the one to convert to."""
    if picture.is_rgb:
        return "null", ":out_color_matrix=bt709"
    if picture.assumed_matrix is None:
        return "null", ""
    return f"setparams=colorspace={'bt709' if picture.assumed_matrix == Colorspace.ITU709 else 'smpte170m'}", ""


def _groups(spans: Sequence[Span], most: int) -> Iterator[list[int]]:
    """Yield indices of spans that one decoding serves well."""
    group: list[int] = []
    for i in sorted(range(len(spans)), key=lambda i: spans[i].start_s):
        if group and (len(group) == most or spans[i].start_s - max(spans[g].end_s for g in group) > _GAP_S):
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def _call(
    source: _Source, clips: dict[int, tuple[Span, Path]], config: TranscodeConfig, *, seek: bool
) -> dict[int, Encoded | Unusable]:
    """Encode clips by one call of FFmpeg, and what fails there again by itself, decoding from the video's start."""
    done: dict[int, Encoded | Unusable] = {}
    beside = {i: target.with_name(f".{target.name}.{uuid.uuid4().hex}") for i, (_, target) in clips.items()}
    try:
        command = _command(source, [(span, beside[i]) for i, (span, _) in clips.items()], config, seek=seek)
        reason = _run(command, next(iter(clips.values()))[1])
        for i, (span, target) in clips.items():
            done[i] = Unusable(f"could not be encoded: {reason}") if reason else _verified(source, span, beside[i])
            if isinstance(done[i], Encoded):
                os.replace(beside[i], target)
    finally:
        for path in beside.values():
            path.unlink(missing_ok=True)
    for i, found in done.items():
        if isinstance(found, Unusable) and (len(clips) > 1 or seek):
            done |= _call(source, {i: clips[i]}, config, seek=False)
        elif isinstance(found, Encoded):
            done[i] = Encoded(**{**vars(found), "path": clips[i][1]})
    return done


def _command(source: _Source, clips: Sequence[tuple[Span, Path]], config: TranscodeConfig, *, seek: bool) -> list[str]:
    command = [ffmpeg(), "-nostdin", "-hide_banner", "-v", "error", "-y", "-filter_complex_threads", "1"]
    if seek:
        first = min(clips, key=lambda clip: clip[0].start_s)[0]
        # Farther back than eight frames, so that none that is wanted leans on a keyframe after it; and much farther
        # where there is no index and FFmpeg may land behind a keyframe.
        back = max(1.0 if source.indexed else 12.0, 8 * (first.end_s - first.start_s) / max(1, first.end - first.first))
        if first.start_s - back > source.start_s:
            command += ["-noaccurate_seek", "-seek_timestamp", "1", "-ss", f"{first.start_s - back:.6f}"]
    command += ["-copyts", "-threads", "1", "-protocol_whitelist", "file", "-i", f"file:{source.path}"]
    names = [f"c{n}" for n in range(len(clips))]
    graph = [f"[0:{source.stream}]{_SHOWN},{source.before},split={len(clips)}" + "".join(f"[{name}]" for name in names)]
    for name, (span, _) in zip(names, clips, strict=True):
        start, end = span.start_s - _MARGIN_S, span.end_s - _MARGIN_S
        graph.append(f"[{name}]trim=start={start:.6f}:end={end:.6f},setpts=PTS-STARTPTS,{source.after}[{name}o]")
    command += ["-filter_complex", ";".join(graph)]
    for name, (span, path) in zip(names, clips, strict=True):
        # FFmpeg 7 forgets durations, and an mp4 whose last frame has none ends before that frame.
        mean_s = (span.end_s - span.start_s) / max(1, span.end - span.first)
        durations = rf"setts=pts=PTS:dts=DTS:duration=if(DURATION\,DURATION\,max(1\,round({mean_s:.6f}/TB)))"
        command += ["-map", f"[{name}o]", "-fps_mode", "passthrough", "-enc_time_base", "demux", "-threads", "1"]
        command += encoder_arguments(config.codec, config.quality, config.preset)
        command += ["-map_metadata", "-1", "-map_chapters", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact"]
        command += ["-bsf:v", durations, "-movflags", "+faststart", "-f", "mp4", f"file:{path}"]
    return command


def _run(command: list[str], target: Path) -> str | None:
    """Run FFmpeg; return its last words if it failed."""
    # In a session of its own: Ctrl-C goes to all programs of a terminal, and a stopped FFmpeg looks like a bad clip.
    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    if not ended.returncode:
        return None
    words = ended.stderr.decode(errors="replace")
    if os.strerror(errno.ENOSPC) in words:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
    if ended.returncode < 0:
        raise ChildProcessError(f"FFmpeg was stopped by signal {-ended.returncode} while it wrote {target}")
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    return lines[-1] if lines else f"FFmpeg returned {ended.returncode} without a word"


def _verified(source: _Source, span: Span, path: Path) -> Encoded | Unusable:
    count, wanted, size = 0, span.end - span.first, (0, 0)
    try:
        with closing(decode(path)) as frames:
            for shown in frames:
                count, size = count + 1, (shown.picture.width, shown.picture.height)
    except Unusable as error:
        return Unusable(f"was encoded to a file that {error}")
    if count != wanted:
        return Unusable(f"was encoded to {count} frames, and {wanted} lie between {span.start_s} and {span.end_s} s")
    if size != (source.width, source.height):
        return Unusable(f"was encoded to pictures of {size[0]}x{size[1]} and not {source.width}x{source.height} pixels")
    container, stream = open_video(path)
    with container:
        rate = float(stream.average_rate or count / (span.end_s - span.start_s))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
        length = os.fstat(file.fileno()).st_size
    return Encoded(
        path=path,
        num_frames=count,
        width=size[0],
        height=size[1],
        framerate=rate,
        bytes=length,
        sha256=digest,
    )
