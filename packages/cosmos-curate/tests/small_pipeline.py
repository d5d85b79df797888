"""A small pipeline of cheap stages for test_engine_resume, a program that can be killed: FOLDER OUT LOG EXECUTOR.

It appends to LOG a line for each result that the ledger has when it starts, and for each that it begins to make.
"""

import hashlib
import os
import sys
import time
from dataclasses import dataclass
from functools import partial

import numpy as np

from cosmos_curate.engine.executor import open_executor
from cosmos_curate.engine.keys import keys_of, result_key
from cosmos_curate.engine.ledger import Ledger, dumps
from cosmos_curate.engine.lock import locked
from cosmos_curate.engine.plan import steps_of
from cosmos_curate.engine.steps import StepResult, put_aside, remember
from cosmos_curate.engine.storage import Store
from cosmos_curate.engine.videos import find_videos
from cosmos_curate.engine.workshop import workshop
from cosmos_curate.errors import Unusable
from cosmos_curate.stage import Item, Resources, Stage

CLIPS = 7


def note(log, *words):
    """Append a line in one write, which no other process can cut in two."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, (" ".join(words) + "\n").encode())
    os.close(file)


def digest(*parts):
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()


def open_score(log, name):
    return partial(score, log, name)


def score(log, name, item, frames):
    note(log, "made", name, item.id)
    time.sleep(0.002)
    text = digest(name, item.id)
    if name == "quality" and text[0] in "01":
        raise RuntimeError(f"poison in {os.path.basename(item.path)}")
    if name == "motion" and text[0] in "23":
        raise Unusable("nothing moves")
    if name == "content":
        return {"embedding": np.frombuffer(bytes.fromhex(text), np.uint8).astype(np.float16), "tags": [text[:3]]}
    if name == "caption":
        return {"caption": f"{item.columns['tags']} {float(item.columns['embedding'].sum())} {item.columns['motion']}"}
    return {name: int(text[:8], 16) / 7}


def stages(log):
    written = {name: (name,) for name in ("motion", "quality", "content", "caption")}
    written["content"] = ("embedding", "tags")
    return [
        Stage(
            name=name,
            version=1,
            over="clip",
            open=partial(open_score, log, name),
            reads=("tags", "embedding", "motion") if name == "caption" else (),
            writes=writes,
            resources=Resources(cpus=0, network=1) if name == "caption" else Resources(),
        )
        for name, writes in written.items()
    ]


@dataclass(frozen=True)
class Cut:
    """Each source becomes files of its own, data first."""

    folder: str
    out: str
    log: str
    name: str = "cut"
    resources: Resources = Resources()
    workers: int | None = None

    def open(self):
        return partial(self.run, Store(self.folder), Store(self.out))

    def run(self, source, store, item):
        def cut():
            note(self.log, "made", "cut", item.id)
            data = source.read_bytes(item.path)
            if not data:
                raise Unusable("no frames")
            clips = [digest(item.id, number)[:32] for number in range(CLIPS)]
            for clip in clips:
                time.sleep(0.001)
                store.write_whole(f"clips/{clip[:2]}/{clip}.mp4", data + clip.encode())
            return {"clips": clips}

        record, measure = remember(Ledger(store), item, "cut", "cut-1", cut)
        if record.quarantine:
            return StepResult(items=(put_aside(item, record.quarantine),), measures=(measure,))
        clips = [Item(id=clip, path=f"clips/{clip[:2]}/{clip}.mp4") for clip in record.columns["clips"]]
        return StepResult(items=tuple(clips), measures=(measure,))


def known(log, store, scoring):
    """Note what the ledger has."""
    keys = keys_of(scoring)
    for name in store.list("ledger"):
        item = os.path.basename(name)[:-5]
        records = Ledger(store).read(item)
        for stage, key in keys.items():
            if result_key(item, key) in records:
                note(log, "known", stage, item)
        if "cut-1" in records:
            note(log, "known", "cut", item)


def main(folder, out, log, name):
    store, scoring = Store(out), stages(log)
    with locked(store), workshop(store) as work:
        note(log, "run", "begins", "-")
        known(log, store, scoring)
        videos = find_videos(Store(folder)).videos
        items = [Item(id=hashlib.sha256(video.encode()).hexdigest(), path=video) for video in videos]
        steps = (Cut(folder, out, log), *steps_of(scoring, inputs=out, output=out, work=work))
        executor = open_executor(name, cpus=2)
        try:
            found = [item for result in executor.stream(items, steps) for item in result.items]
        finally:
            executor.close()
        rows = [{"id": item.id, "path": item.path, **item.columns} for item in sorted(found, key=lambda item: item.id)]
        store.write_whole("manifest.json", dumps(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
