"""Training a head on embeddings and labels, as the paper does (arXiv 2501.03575, 3.3)."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from cosmos_curate.content.heads import Head
from cosmos_curate.errors import InputError

TRAIN, STOP, HELD_OUT = 0, 1, 2
PARTS = {"train": TRAIN, "stop": STOP, "held_out": HELD_OUT}


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """How a head is trained.

    Args:
        hidden: width of the hidden layer.
        learning_rate: of AdamW.
        weight_decay: of AdamW, on weights and not on biases.
        batch: rows a step.
        epochs: at most so many times over the rows.
        patience: stop after so many epochs without a better loss on the rows kept for stopping.
        held_out: share of each label's groups that is only measured on.
        stop: share that decides when to stop.
        seed: of split, first weights and order.
    """

    hidden: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    batch: int = 64
    epochs: int = 200
    patience: int = 20
    held_out: float = 0.2
    stop: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("hidden", "batch", "epochs", "patience"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if not self.learning_rate > 0 or not self.weight_decay >= 0:
            raise InputError(
                f"learning_rate {self.learning_rate} must be above 0, weight_decay {self.weight_decay} 0 or more"
            )
        if not (self.held_out > 0 and self.stop > 0 and self.held_out + self.stop < 0.9):
            raise InputError(
                f"held_out and stop must be above 0 and below 0.9 together, not {self.held_out} and {self.stop}"
            )


def train_head(
    embeddings: Float32[np.ndarray, "N D"],
    labels: Sequence[str],
    config: HeadConfig | None = None,
    *,
    groups: Sequence[str] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> tuple[Head, dict[str, Any]]:
    """Train a head with AdamW, each label weighing the same, and measure it on rows that it never saw.

    Rows are split three ways: to train on, to say when to stop, to measure on. Equal input gives an equal head.

    Args:
        groups: of the rows; rows of one group, such as clips of one video, stay on one side of the split. Each row is
            a group of its own if None.
        provenance: kept in the head, beside config and report.

    Returns:
        The head, and a report as JSON takes it: rows of each part, epochs run, accuracy on the rows held out and
        `chance` (always the commonest label), recall of each label (None where no row of it was held out), and the
        confusion matrix: rows are true, columns are answers, both in the order of `labels`.

    Raises:
        InputError: no two labels, or no label with three groups.
    """
    config = HeadConfig() if config is None else config
    if len(embeddings) != len(labels):
        raise InputError(f"{len(embeddings)} embeddings and {len(labels)} labels: give one label for each embedding")
    if not np.isfinite(embeddings).all():
        raise InputError("embeddings must be finite")
    names = tuple(sorted(set(labels)))
    if len(names) < 2:
        raise InputError(f"a head needs two labels or more, not {list(names)}")
    targets = np.array([names.index(label) for label in labels], np.int64)
    parts = split(targets, [str(row) for row in range(len(labels))] if groups is None else groups, config)
    head, epochs = fit(embeddings, targets, parts, names, config)
    report: dict[str, Any] = {
        "labels": list(names),
        "rows": {name: int((parts == part).sum()) for name, part in PARTS.items()},
        "epochs": epochs,
        **measure(head, embeddings[parts == HELD_OUT], targets[parts == HELD_OUT]),
    }
    origin = {**(provenance or {}), "config": asdict(config), "report": report}
    return Head(**{**vars(head), "provenance": origin}), report


def split(targets: Int64[np.ndarray, "N"], groups: Sequence[str], config: HeadConfig) -> Int64[np.ndarray, "N"]:
    """Return the part of each row: of each label's groups, in hash order, a share is held out and one kept to stop."""
    votes: dict[str, list[int]] = {}
    for group, target in zip(groups, targets.tolist(), strict=True):
        votes.setdefault(group, []).append(target)
    by_label: dict[int, list[str]] = {}
    for group, seen in votes.items():
        # A group counts for its commonest label, the first of equals.
        by_label.setdefault(max(sorted(set(seen)), key=seen.count), []).append(group)
    part_of = dict.fromkeys(votes, TRAIN)
    for members in by_label.values():
        if len(members) < 3:
            continue
        members.sort(key=lambda group: hashlib.sha256(f"{config.seed}:{group}".encode()).digest())
        held_out = max(1, round(config.held_out * len(members)))
        stop = max(1, round(config.stop * len(members)))
        for group in members[:held_out]:
            part_of[group] = HELD_OUT
        for group in members[held_out : held_out + stop]:
            part_of[group] = STOP
    parts = np.array([part_of[group] for group in groups], np.int64)
    if not (parts == HELD_OUT).any():
        raise InputError("no label has three groups (videos, or rows) to train, stop and measure on: label more clips")
    return parts


def fit(
    embeddings: Float32[np.ndarray, "N D"],
    targets: Int64[np.ndarray, "N"],
    parts: Int64[np.ndarray, "N"],
    names: tuple[str, ...],
    config: HeadConfig,
) -> tuple[Head, int]:
    """Return the head of the best loss on the rows kept for stopping, and the epochs that were run."""
    import torch
    from torch import Tensor
    from torch.nn import functional

    rows = embeddings[parts == TRAIN]
    mean, scale = rows.mean(0), np.maximum(rows.std(0), np.float32(1e-6))
    source = torch.Generator().manual_seed(config.seed)

    def matrix(inputs: int, outputs: int) -> Tensor:
        return torch.empty(inputs, outputs).normal_(0, (2 / inputs) ** 0.5, generator=source).requires_grad_()

    weights = [matrix(rows.shape[1], config.hidden), matrix(config.hidden, len(names))]
    biases = [torch.zeros(width, requires_grad=True) for width in (config.hidden, len(names))]
    optimizer = torch.optim.AdamW(
        [{"params": weights, "weight_decay": config.weight_decay}, {"params": biases, "weight_decay": 0.0}],
        lr=config.learning_rate,
    )
    inputs = torch.from_numpy((embeddings - mean) / scale)
    answers = torch.from_numpy(targets)
    known = np.bincount(targets[parts == TRAIN], minlength=len(names))
    balance = torch.from_numpy(known.sum() / (len(names) * np.maximum(known, 1))).float()

    def loss_of(chosen: Tensor) -> Tensor:
        hidden = torch.relu(inputs[chosen] @ weights[0] + biases[0])
        return functional.cross_entropy(hidden @ weights[1] + biases[1], answers[chosen], balance)

    train, stop = (torch.from_numpy(np.flatnonzero(parts == part)) for part in (TRAIN, STOP))
    best, kept, since, epoch = float("inf"), [], 0, 0
    while epoch < config.epochs and since < config.patience:
        epoch += 1
        for batch in train[torch.randperm(len(train), generator=source)].split(config.batch):
            optimizer.zero_grad()
            loss_of(batch).backward()
            optimizer.step()
        with torch.no_grad():
            loss = loss_of(stop).item()
        since += 1
        if loss < best:
            best, since = loss, 0
            kept = [array.detach().numpy().copy() for array in (*weights, *biases)]
    if not kept:
        raise InputError(f"training diverged: learning_rate {config.learning_rate} is too high for these embeddings")
    head = Head(
        labels=names,
        mean=mean,
        scale=scale,
        hidden_weight=kept[0],
        output_weight=kept[1],
        hidden_bias=kept[2],
        output_bias=kept[3],
    )
    return head, epoch


def measure(head: Head, embeddings: Float32[np.ndarray, "M D"], targets: Int64[np.ndarray, "M"]) -> dict[str, Any]:
    """Return accuracy, chance, recall of each label and the confusion matrix of a head on these rows."""
    count = len(head.labels)
    answers = head.probabilities(embeddings).argmax(1)
    confusion = np.bincount(targets * count + answers, minlength=count * count).reshape(count, count)
    of_label = confusion.sum(1)
    return {
        "accuracy": float(np.trace(confusion) / len(targets)),
        "chance": float(of_label.max() / len(targets)),
        "recall": {
            name: float(confusion[row, row] / of_label[row]) if of_label[row] else None
            for row, name in enumerate(head.labels)
        },
        "confusion": confusion.tolist(),
    }
