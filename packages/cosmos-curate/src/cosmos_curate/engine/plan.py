"""From a list of stages to steps: neighbours with equal resources share a worker."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from cosmos_curate.engine.keys import keys_of
from cosmos_curate.engine.steps import Read, StageStep, read_frames
from cosmos_curate.stage import Stage


def steps_of(
    stages: Sequence[Stage],
    *,
    inputs: str,
    output: str,
    work: str,
    given: Mapping[str, str] | None = None,
    carry: Sequence[str] = (),
    attempts: int = 3,
    retry: bool = False,
    read: Read = read_frames,
) -> tuple[StageStep, ...]:
    """Return the steps that run the stages in order; each carries the arrays that a later one reads.

    Args:
        stages: all over sources or all over clips.
        inputs: address of the folder in which an item's path is a name.
        output: address of the folder with the ledger.
        work: local folder for copies of remote files.
        given: columns that items come with, and the key of what wrote each; see `keys_of`.
        carry: further arrays that are to leave the last step.
        attempts: for each stage of each item, before quarantine.
        retry: whether to run again what the ledger has in quarantine.
        read: decodes; for tests.

    Raises:
        InputError: as `keys_of`.
    """
    keys = keys_of(stages, given)
    groups = [tuple(group) for _, group in groupby(stages, key=lambda stage: (stage.over, stage.resources))]
    steps = []
    for index, group in enumerate(groups):
        later = {name for after in groups[index + 1 :] for stage in after for name in stage.reads}
        steps.append(
            StageStep(
                name=group[0].name if len(group) == 1 else f"{group[0].name}..{group[-1].name}",
                stages=group,
                keys=tuple(keys[stage.name] for stage in group),
                inputs=inputs,
                output=output,
                work=work,
                carry=frozenset(later) | frozenset(carry),
                attempts=attempts,
                retry=retry,
                read=read,
            )
        )
    return tuple(steps)
