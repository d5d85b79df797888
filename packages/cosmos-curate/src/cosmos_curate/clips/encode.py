"""Third step: a group of spans to one mp4 each, verified by decoding; files go before the ledger's record of them."""

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cosmos_curate.clips.cut import SPANS, VERSION, clip_name
from cosmos_curate.clips.identify import STATE, check_same
from cosmos_curate.engine.attempts import placeless
from cosmos_curate.engine.ledger import Ledger
from cosmos_curate.engine.steps import StepResult, Work, put_aside, remember
from cosmos_curate.engine.storage import Store
from cosmos_curate.errors import Unusable
from cosmos_curate.media.spans import Span
from cosmos_curate.media.transcode import TranscodeConfig, transcode
from cosmos_curate.stage import Columns, Item, Resources

NAME = "transcode"
CLIPS = "clips"
"""Column of a record: what became of each span."""


@dataclass(frozen=True, kw_only=True)
class EncodeStep:
    """Encodes groups; one bad span costs its own clip alone.

    Args:
        inputs: address of the folder of videos.
        output: address of the output folder.
        work: local folder for files on their way.
        config: the encoding; it is part of every clip's id.
        attempts: for a group, before its clips are put aside.
        retry: whether to try again what was put aside.
    """

    inputs: str
    output: str
    work: str
    config: TranscodeConfig
    attempts: int = 3
    retry: bool = False
    name: str = NAME
    resources: Resources = Resources(cpus=1)
    workers: int | None = None

    def open(self) -> Work:
        """Return the function over groups."""
        return _Encode(self).run


class _Encode:
    def __init__(self, step: EncodeStep) -> None:
        self.step = step
        self.inputs, self.output = Store(step.inputs), Store(step.output)
        self.ledger = Ledger(self.output)
        self.shown = partial(placeless, inputs=self.inputs.root, work=step.work)

    def run(self, item: Item) -> StepResult:
        spans: list[dict[str, Any]] = item.columns[SPANS]  # pyright: ignore
        about = {name: value for name, value in item.columns.items() if name != SPANS}
        record, measure = remember(
            self.ledger,
            item,
            NAME,
            f"{NAME} {VERSION}",
            lambda: self._encode(item, spans),
            resources=self.step.resources,
            attempts=self.step.attempts,
            retry=self.step.retry,
            valid=lambda columns: self._there(spans, columns),
            shown=self.shown,
        )
        found: list[dict[str, Any]] = [{}] * len(spans) if record.quarantine else record.columns[CLIPS]  # pyright: ignore
        clips = []
        for span, encoded in zip(spans, found, strict=True):
            times = {"start_s": span["start_s"], "end_s": span["end_s"], "duration_s": span["end_s"] - span["start_s"]}
            columns = {**about, "clip_id": span["clip_id"], **times, **encoded}
            clip = Item(id=span["clip_id"], path=clip_name(span["clip_id"]), columns=columns)
            clips.append(clip if record.quarantine is None else put_aside(clip, record.quarantine))
        return StepResult(items=tuple(clips), measures=(measure,))

    def _encode(self, item: Item, spans: list[dict[str, Any]]) -> Columns:
        found: list[dict[str, Any]] = []
        crop: list[int] | None = item.columns.get("letterbox")  # pyright: ignore
        names = ("first", "end", "start_s", "end_s")
        Path(self.step.work).mkdir(parents=True, exist_ok=True)
        with (
            self.inputs.local(item.path, self.step.work) as source,
            tempfile.TemporaryDirectory(dir=self.step.work) as folder,
        ):
            targets = [Path(folder, f"{span['clip_id']}.mp4") for span in spans]
            asked = [Span(**{name: span[name] for name in names}) for span in spans]
            done = transcode(source, asked, targets, self.step.config, crop)
            check_same(source, item.columns.get("source_sha256"), item.columns.get(STATE))
            for target, encoded in zip(targets, done, strict=True):
                if isinstance(encoded, Unusable):
                    found.append({"quarantine": f"{NAME}: {self.shown(str(encoded))}"})
                    continue
                self.output.put_whole(clip_name(target.stem), target)
                found.append(
                    {
                        "num_frames": encoded.num_frames,
                        "framerate": encoded.framerate,
                        "width": encoded.width,
                        "height": encoded.height,
                        "bytes": encoded.bytes,
                        "sha256": encoded.sha256,
                    }
                )
        return {CLIPS: found}

    def _there(self, spans: list[dict[str, Any]], columns: Columns) -> bool:
        """Whether the files of a record are there and have their sizes: someone may have removed some."""
        encoded: list[dict[str, Any]] = columns[CLIPS]  # pyright: ignore
        for span, one in zip(spans, encoded, strict=True):
            name = clip_name(span["clip_id"])
            if "quarantine" not in one and not (self.output.exists(name) and self.output.size(name) == one["bytes"]):
                return False
        return True
