"""A head: a small network from a clip's embedding to the probability of each label (arXiv 2501.03575, section 3.3).

The paper trains two of them on labels of a vision-language model: text laid over the picture, and type of video.
"""

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from cosmos_curate.errors import InputError

FORMAT = "cosmos-curate head 1"


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """One hidden layer with ReLU over a normalised embedding, then softmax.

    Args:
        labels: what the K outputs stand for.
        mean: subtracted from an embedding.
        scale: by which the rest is divided, above 0.
        hidden_weight: from D numbers to H.
        provenance: what it was trained on, as JSON takes it.
    """

    labels: tuple[str, ...]
    mean: Float32[np.ndarray, "D"]
    scale: Float32[np.ndarray, "D"]
    hidden_weight: Float32[np.ndarray, "D H"]
    hidden_bias: Float32[np.ndarray, "H"]
    output_weight: Float32[np.ndarray, "H K"]
    output_bias: Float32[np.ndarray, "K"]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        dims, hidden, count = len(self.mean), len(self.hidden_bias), len(self.labels)
        shapes = {
            "mean": (dims,),
            "scale": (dims,),
            "hidden_weight": (dims, hidden),
            "hidden_bias": (hidden,),
            "output_weight": (hidden, count),
            "output_bias": (count,),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape or not np.isfinite(array).all():
                raise InputError(f"{name} of a head must be finite and {shape}, not {array.shape}")
        if count < 2 or len(set(self.labels)) != count:
            raise InputError(f"a head needs two labels or more, each once, not {list(self.labels)}")
        if not (self.scale > 0).all():
            raise InputError("scale of a head must be above 0")

    def probabilities(self, embeddings: Float32[np.ndarray, "N D"]) -> Float32[np.ndarray, "N K"]:
        """Return the probability of each label, rows of sum 1.

        Raises:
            InputError: the embeddings have another length than those it was trained on.
        """
        if embeddings.shape[1] != len(self.mean):
            raise InputError(
                f"this head takes embeddings of {len(self.mean)} numbers, not {embeddings.shape[1]}: train it anew"
            )
        hidden = np.maximum((embeddings - self.mean) / self.scale @ self.hidden_weight + self.hidden_bias, 0)
        logits = hidden @ self.output_weight + self.output_bias
        odds = np.exp(logits - logits.max(1, keepdims=True))
        return odds / odds.sum(1, keepdims=True)

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of labels and weights; where they came from does not enter."""
        digest = hashlib.sha256(json.dumps([FORMAT, list(self.labels)]).encode())
        for name in WEIGHTS:
            digest.update(np.ascontiguousarray(getattr(self, name), "<f4").tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write it as an npz file, whole or not at all; equal heads give equal bytes."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".head-") as folder:
            beside = Path(folder) / "head.npz"
            np.savez(
                beside,
                format=np.array(FORMAT),
                labels=np.array(self.labels),
                provenance=np.array(json.dumps(dict(self.provenance), sort_keys=True)),
                **{name: getattr(self, name) for name in WEIGHTS},
            )
            os.replace(beside, path)


WEIGHTS = ("mean", "scale", "hidden_weight", "hidden_bias", "output_weight", "output_bias")
BROKEN = (InputError, OSError, EOFError, KeyError, ValueError, TypeError, AttributeError, zipfile.BadZipFile)
"""What numpy raises for a file that is not what it should be, and what a head says of its own contents."""


def load_head(path: str | Path) -> Head:
    """Read a head that `Head.save` wrote.

    Raises:
        InputError: there is no such file, or it is no head.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no head at {path}: train one with `cosmos-curate models train`")
    try:
        # Numpy leaves a file open that it cannot read, unless it is given one.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            if str(stored["format"]) != FORMAT:
                raise InputError(f"its format is {str(stored['format'])!r}, not {FORMAT!r}")
            return Head(
                labels=tuple(str(label) for label in stored["labels"]),
                provenance=json.loads(str(stored["provenance"])),
                **{name: stored[name].astype(np.float32) for name in WEIGHTS},
            )
    except BROKEN as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is no head ({reason}): train one with `cosmos-curate models train`") from None
