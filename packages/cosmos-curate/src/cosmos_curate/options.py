"""From options of the command line to settings."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from cosmos_curate.config import FinishConfig, RunConfig, changed
from cosmos_curate.content.mix import MixConfig
from cosmos_curate.dedup.config import DedupConfig
from cosmos_curate.errors import InputError
from cosmos_curate.quality.dover import Dover
from cosmos_curate.rules import changed as changed_rules

C = TypeVar("C")
F = TypeVar("F", bound=FinishConfig)


def configured(config: RunConfig, args: argparse.Namespace) -> RunConfig:
    """Return settings with the options of `run` in them.

    Raises:
        InputError: an option that does not fit.
    """
    parts = {
        "": {
            "executor": args.executor,
            "cpus": args.cpus,
            "attempts": args.attempts,
            "max_quarantine": args.max_quarantine,
            "metrics_port": args.metrics_port,
            "retry": args.retry or None,
        },
        "shots": {"detector": args.detector, "weights": args.detector_weights},
        "caption": {
            "captioner": args.captioner,
            "model": args.caption_model,
            "base_url": args.caption_url,
            "window": args.caption_window,
        },
        "aesthetic": {"model": args.aesthetic_model},
        "quality": {"scorer": None if args.dover is None else Dover(path=args.dover)},
    }
    for part, values in parts.items():
        given = {name: value for name, value in values.items() if value is not None}
        if given:
            config = replace(config, **(given if not part else {part: replace(getattr(config, part), **given)}))
    return with_lines(config, args.set)


def with_lines(config: C, lines: Sequence[str]) -> C:
    """Return settings with those of `NAME=VALUE` lines in them.

    Raises:
        InputError: as `configured`.
    """
    for line in lines:
        config = changed(config, line)
    return config


def selected(config: F, args: argparse.Namespace) -> F:
    """Return settings with the options of `select` in them.

    Raises:
        InputError: as `configured`.
    """
    select = replace(config.select, rules=changed_rules(config.select.rules, args.rule))
    if args.no_dedup and args.eps is not None:
        raise InputError("--eps and --no-dedup exclude each other; give one of them")
    if args.no_dedup:
        select = replace(select, dedup=None)
    if args.eps is not None:
        select = replace(select, dedup=replace(select.dedup or DedupConfig(), eps=args.eps))
    if args.mix:
        select = replace(select, mix=select.mix or MixConfig())
    shards, text = config.shards, config.text_embedding
    if args.layout is not None:
        shards = replace(shards, layout=args.layout)
    if args.text_encoder is not None:
        if shards.layout != "cosmos":
            raise InputError("--text-encoder serves the Cosmos layout alone; give --layout cosmos too")
        text = replace(text, encoder=args.text_encoder)
    return replace(config, select=select, shards=shards, text_embedding=text, lance=config.lance or args.lance)
