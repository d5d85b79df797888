"""The whole run (arXiv 2501.03575, section 3): split, transcode, score, decide, annotate, shard."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from cosmos_curate._version import __version__
from cosmos_curate.captions.stage import caption_stage
from cosmos_curate.clips.cut import NAME as CUT
from cosmos_curate.clips.cut import CutStep
from cosmos_curate.clips.encode import EncodeStep
from cosmos_curate.clips.identify import IdentifyStep, same, unknown
from cosmos_curate.config import RunConfig, to_json
from cosmos_curate.content.aesthetics import aesthetic_stage
from cosmos_curate.content.stage import content_stage
from cosmos_curate.dedup.fingerprint import fingerprint_stage
from cosmos_curate.engine.executor import Executor, open_executor
from cosmos_curate.engine.keys import keys_of
from cosmos_curate.engine.lock import locked
from cosmos_curate.engine.metrics import Metrics
from cosmos_curate.engine.plan import steps_of
from cosmos_curate.engine.progress import Progress
from cosmos_curate.engine.steps import Step, StepResult
from cosmos_curate.engine.storage import Store
from cosmos_curate.engine.videos import find_videos
from cosmos_curate.engine.workshop import workshop
from cosmos_curate.errors import InputError
from cosmos_curate.finish import collect, finish
from cosmos_curate.manifest import check_lance
from cosmos_curate.media.probe import probe_stage
from cosmos_curate.motion.stage import motion_stage
from cosmos_curate.overlay.stage import overlay_stage
from cosmos_curate.quality.stage import quality_stage
from cosmos_curate.schema import COLUMNS
from cosmos_curate.shots.stage import shots_stage
from cosmos_curate.stage import Item, Stage
from cosmos_curate.text_embeddings.t5 import check_text_encoder

CONFIG, REPORT = "config.json", "report.json"
CAPTION_KEY = "caption_key"
"""In the settings that an output keeps: which results of the ledger are its captions."""
Say = Callable[[str], None]


def run(config: RunConfig, *, say: Say = print) -> dict[str, Any]:
    """Curate a folder, or go on where an earlier run of the same output stopped; return the report.

    Args:
        config: what to do.
        say: takes a line on what is noteworthy, progress included.

    Raises:
        InputError: the folder is missing or holds no video; the output is the folder or inside it, or another run is
            at work on it; a setting or a model that cannot be used.
        OutputError: the output cannot be written. What was done is kept.
    """
    inputs, output = Store(config.folder), Store(config.out)
    _check_apart(inputs, output)
    listing = find_videos(inputs, output)
    if not listing.videos:
        raise InputError(f"{config.folder}: holds no video; name a folder with files such as .mp4, .mov or .mkv")
    for line in listing.notices:
        say(line)
    # What is needed at the end is looked for before hours of work.
    if config.lance:
        check_lance()
    if config.shards.layout == "cosmos":
        check_text_encoder(config.text_embedding)
    with locked(output), workshop(output) as work, ExitStack() as stack:
        metrics = Metrics()
        stack.enter_context(metrics.serving(config.metrics_port))
        executor = open_executor(config.executor, cpus=config.cpus)
        stack.callback(executor.close)

        identify = IdentifyStep(inputs=inputs.url, work=work)
        found = list(_drain(executor, map(unknown, listing.videos), [identify], metrics))
        originals, copies = _by_bytes(sorted(found, key=lambda item: item.path))
        steps, stages, given = _steps(config, inputs, output, work)
        annotate = steps_of(
            [caption_stage(config.caption)],
            inputs=output.url,
            output=output.url,
            work=work,
            given=given,
            attempts=config.attempts,
            retry=config.retry,
        )
        said = {**to_json(config), CAPTION_KEY: annotate[0].keys[0]}
        output.write_whole(CONFIG, (json.dumps(said, indent=1) + "\n").encode())
        with Progress() as progress:
            scored = _drain(executor, originals, steps, metrics, _Hours(progress, len(originals)))
            table, embeddings = collect(_rows(scored, copies))
        outcome = finish(
            output,
            table,
            embeddings,
            select=config.select,
            shards=config.shards,
            text_embedding=config.text_embedding,
            caption=lambda items: _drain(executor, items, annotate, metrics),
            models={name: digest for stage in stages for name, digest in stage.weights.items()},
            work=work,
            say=say,
            lance=config.lance,
        )
        for step in outcome["funnel"]:
            metrics.drop(step["step"], step.get("dropped", 0))
        report = {
            "version": __version__,
            "videos": len(listing.videos),
            "skipped": listing.skipped,
            **outcome,
            **metrics.to_json(),
            "config": to_json(config),
        }
        output.write_whole(REPORT, (json.dumps(report, indent=1) + "\n").encode())
    return report


def _check_apart(inputs: Store, output: Store) -> None:
    """Refuse an output that is the folder of videos, lies inside it, or has it inside."""
    if not inputs.is_local and not output.is_local:
        if type(inputs.fs) is not type(output.fs):
            return
        one, other = f"{inputs.root}/", f"{output.root}/"
    elif inputs.is_local and output.is_local:
        if not os.path.isdir(inputs.root):
            raise InputError(f"{inputs.url}: no such folder; name the one with the videos")
        one, other = (os.path.join(os.path.realpath(store.root), "") for store in (inputs, output))
    else:
        return
    if other.startswith(one):
        raise InputError(f"output {output.url} is {inputs.url} or inside it; name a folder somewhere else")
    if one.startswith(other):
        raise InputError(f"output {output.url} has the videos, {inputs.url}, inside it; name a folder somewhere else")


def _by_bytes(found: Sequence[Item]) -> tuple[list[Item], dict[str, list[str]]]:
    """Return one item for each content, and the further paths that have the same bytes."""
    originals: dict[str, Item] = {}
    copies: dict[str, list[str]] = {}
    for item in found:
        if item.id in originals:
            copies.setdefault(item.id, []).append(item.path)
        else:
            originals[item.id] = item
    return list(originals.values()), copies


def _steps(
    config: RunConfig, inputs: Store, output: Store, work: str
) -> tuple[list[Step], list[Stage], dict[str, str]]:
    """Return the steps from videos to scored clips, their stages, and which key wrote each column of a clip."""
    tries = {"attempts": config.attempts, "retry": config.retry}
    # Where pieces of fixed length meet there is no transition to guard against.
    cut = replace(config.cut, guard_s=0.0) if config.shots.detector == "stride" else config.cut
    sources = [same(probe_stage()), same(shots_stage(config.shots))]
    scorers = [
        motion_stage(config.motion),
        quality_stage(config.quality),
        content_stage(config.content),
        aesthetic_stage(config.aesthetic),
        overlay_stage(config.overlay),
        fingerprint_stage(),
    ]
    # A clip's id covers what it was before it was scored.
    given = {column.name: "" for column in COLUMNS}
    written = {name for stage in scorers for name in stage.writes}
    given = {name: "" for name in given if name not in written}
    keys = keys_of(scorers, given)
    steps: list[Step] = [
        *steps_of(sources, inputs=inputs.url, output=output.url, work=work, carry=["frame_times_s"], **tries),
        CutStep(cut=cut, transcode=config.transcode),
        EncodeStep(inputs=inputs.url, output=output.url, work=work, config=config.transcode, **tries),
        *steps_of(scorers, inputs=output.url, output=output.url, work=work, given=given, carry=["embedding"], **tries),
    ]
    for stage in scorers:
        given |= dict.fromkeys(stage.writes, keys[stage.name])
    return steps, [*sources, *scorers], given


class _Hours:
    """Feeds progress with seconds of clips; what the videos that are not cut yet will give is taken from the others."""

    def __init__(self, progress: Progress, videos: int) -> None:
        self.progress, self.videos, self.cut, self.seconds = progress, videos, 0, 0.0

    def count(self, result: StepResult) -> None:
        """Count what a result tells."""
        for measure in result.measures:
            if measure.stage == CUT:
                self.cut += 1
                self.seconds += measure.video_s
                self.progress.total_s = self.seconds * self.videos / self.cut
        reused = all(measure.reused for measure in result.measures)
        for item in result.items:
            length = item.columns.get("duration_s")
            self.progress.add(length if isinstance(length, float) else 0.0, reused=reused)


def _drain(
    executor: Executor,
    items: Iterable[Item],
    steps: Sequence[Step],
    metrics: Metrics,
    hours: _Hours | None = None,
) -> Iterator[Item]:
    for result in metrics.watch(executor.stream(items, steps), executor.depths):
        if hours is not None:
            hours.count(result)
        yield from result.items


def _rows(scored: Iterable[Item], copies: Mapping[str, Sequence[str]]) -> Iterator[dict[str, Any]]:
    """Yield a row a clip, and one for a video that gave none; those of a file with the same bytes again."""
    for item in scored:
        clip = "clip_id" in item.columns
        row = dict(item.columns) if clip else {**item.columns, "source": item.path, "source_sha256": item.id}
        row.setdefault("clip_id", item.id[:32])
        yield row
        for path in copies.get(str(row["source_sha256"]), ()):
            identity = hashlib.sha256(f"{row['clip_id']} {path}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
            yield {name: value for name, value in row.items() if name != "embedding"} | {
                "clip_id": identity,
                "source": path,
            }
