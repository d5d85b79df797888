"""Second step: from a video's shots to groups of spans, each group one call of the encoder.

Nothing is decoded here. A clip's id comes from the video's bytes, the span and everything that decides the encoding.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from cosmos_curate.engine.steps import Measure, StepResult, Work, put_aside
from cosmos_curate.media.spans import Span
from cosmos_curate.media.transcode import TranscodeConfig
from cosmos_curate.shots.cutting import CutConfig, cut
from cosmos_curate.shots.shot import Shot
from cosmos_curate.stage import Item, Resources

NAME = "cut"
VERSION = 1
"""Of the encoding: raised whenever equal spans and settings would give other bytes; part of every clip's id."""
SPANS = "spans"
"""Column of a group: its spans, each with the clip's id."""


@dataclass(frozen=True, kw_only=True)
class CutStep:
    """Cuts by the columns `shots` and `frame_times_s`; a video of which nothing is left is put aside."""

    cut: CutConfig
    transcode: TranscodeConfig
    name: str = NAME
    resources: Resources = Resources(cpus=1)
    workers: int | None = 1

    def open(self) -> Work:
        """Return the function over videos."""
        return self.run

    def run(self, item: Item) -> StepResult:
        """Return a video's groups of clips."""
        columns = {name: value for name, value in item.columns.items() if name not in ("shots", "frame_times_s")}
        found: list[dict[str, int]] = item.columns["shots"]  # pyright: ignore
        spans = cut([Shot(**shot) for shot in found], item.columns["frame_times_s"], self.cut)  # pyright: ignore
        if not spans:
            reason = f"{NAME}: no shot outlasts its guard bands of {self.cut.guard_s:g} s"
            return StepResult(
                items=(put_aside(replace(item, columns=columns), reason),), measures=(Measure(stage=NAME),)
            )
        # How many clips share a call does not change their bytes.
        encoding = {name: value for name, value in asdict(self.transcode).items() if name != "clips_per_call"}
        settings = [VERSION, encoding, columns.get("letterbox")]
        groups = []
        for at in range(0, len(spans), self.transcode.clips_per_call):
            named = [
                {**asdict(span), "clip_id": clip_id(item.id, span, settings)}
                for span in spans[at : at + self.transcode.clips_per_call]
            ]
            identity = hashlib.sha256("".join(span["clip_id"] for span in named).encode()).hexdigest()
            # The group's own length, or its measures would count the whole video's for each group.
            length_s = sum(span["end_s"] - span["start_s"] for span in named)
            about = {**columns, "duration_s": length_s, "source": item.path, "source_sha256": item.id, SPANS: named}
            groups.append(replace(item, id=identity, columns=about))
        measure = Measure(stage=NAME, video_s=sum(span.end_s - span.start_s for span in spans))
        return StepResult(items=tuple(groups), measures=(measure,))


def clip_id(source: str, span: Span, settings: Sequence[Any] | Mapping[str, Any]) -> str:
    """Return a clip's id: 32 hexadecimal digits."""
    text = json.dumps([source, asdict(span), settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def clip_name(identity: str) -> str:
    """Return the name of a clip's file in the output folder."""
    return f"clips/{identity[:2]}/{identity}.mp4"
