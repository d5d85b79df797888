"""Release one package: version, dated changelog, build, commit, tag, then back to development.

    python scripts/release.py cosmos-tokenizer minor

Between releases the tree carries the next patch's `.dev0`: `0.3.1.dev0` satisfies a sibling's `>=0.3,<0.4`, while
`0.4.0.dev0` would satisfy neither that nor `>=0.4`. Nothing is pushed.
"""

import argparse
import datetime
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

BUMPS = ("major", "minor", "patch")
UNRELEASED = re.compile(r"^## \[Unreleased\]\n(?P<notes>.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
VERSION = re.compile(r'^__version__ = "(?P<version>[^"]+)"$', re.MULTILINE)
Version = tuple[int, int, int]


class ReleaseError(Exception):
    """The release cannot be made; the message is one line that says why and what to do."""


def text(version: Version) -> str:
    """X.Y.Z."""
    return ".".join(map(str, version))


def bumped(current: str, bump: str) -> Version:
    """The version to release from a tree at `current`, which is X.Y.Z.dev0.

    The tree stands before X.Y.Z already, so a patch is X.Y.Z itself, and a minor or major that X.Y.Z already is stays.
    """
    match = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)\.dev0", current)
    if not match:
        raise ReleaseError(f"the tree is at version {current}, not at X.Y.Z.dev0; set _version.py to the next one")
    major, minor, patch = map(int, match.groups())
    if bump == "major" and (minor or patch):
        return major + 1, 0, 0
    if bump == "minor" and patch:
        return major, minor + 1, 0
    return major, minor, patch


def git(root: Path, *arguments: str) -> str:
    """What git prints; a failure is a ReleaseError with git's own words."""
    result = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
    if result.returncode:
        raise ReleaseError(f"git {arguments[0]} failed: {' '.join(result.stderr.split())}")
    return result.stdout


def dated(changelog: str, version: Version, today: datetime.date, where: Path) -> str:
    """The changelog with what is unreleased under the version's own heading, and an empty Unreleased above it."""
    match = UNRELEASED.search(changelog)
    if not match:
        raise ReleaseError(f"{where}: has no '## [Unreleased]' heading; add one above the newest version")
    notes = match["notes"].strip()
    if not notes:
        raise ReleaseError(f"{where}: says nothing under Unreleased; write what changed for users")
    section = f"## [Unreleased]\n\n## [{text(version)}] - {today.isoformat()}\n\n{notes}\n\n"
    return (changelog[: match.start()] + section + changelog[match.end() :]).rstrip() + "\n"


def moved_window(pyproject: str, package: str, version: Version) -> str:
    """A dependent's pyproject, its window on the package moved to the version's minor where that lies outside it."""

    def window(match: re.Match[str]) -> str:
        below = tuple(map(int, match["below"].split(".")))
        admitted = (*map(int, match["floor"].split(".")[:2]),) <= version[:2] and version < below
        major, minor = version[:2]
        return match[0] if admitted else f'"{package}{match["extras"]}>={major}.{minor},<{major}.{minor + 1}"'

    pattern = rf'"{package}(?P<extras>(?:\[[^\]]*\])?)>=(?P<floor>[0-9][^,"]*),<(?P<below>[0-9.]+)"'
    return re.sub(pattern, window, pyproject)


def noted(changelog: str, line: str) -> str:
    """The changelog with the line as the first thing unreleased."""
    return changelog.replace("## [Unreleased]\n", f"## [Unreleased]\n\n- {line}\n", 1)


def plan(root: Path, package: str, bump: str, today: datetime.date) -> tuple[Version, dict[Path, str]]:
    """The version, and what each file that the release commit touches will hold. Writes nothing."""
    packages = sorted(path.parent.name for path in root.glob("packages/*/pyproject.toml"))
    if package not in packages:
        raise ReleaseError(f"unknown package {package!r}; there are {', '.join(packages)}")
    if bump not in BUMPS:
        raise ReleaseError(f"unknown bump {bump!r}; say {', '.join(BUMPS)}")
    if dirty := git(root, "status", "--porcelain").splitlines():
        raise ReleaseError(f"{len(dirty)} uncommitted change(s), such as {dirty[0][3:]}; commit them first")
    folder = root / "packages" / package
    module = folder / "src" / package.replace("-", "_") / "_version.py"
    version = bumped(current_version(module), bump)
    if git(root, "tag", "--list", f"{package}-v{text(version)}").strip():
        raise ReleaseError(f"the tag {package}-v{text(version)} exists already; _version.py is behind it")
    changelog = folder / "CHANGELOG.md"
    files = {
        module: with_version(module.read_text("utf-8"), text(version)),
        changelog: dated(changelog.read_text("utf-8"), version, today, changelog.relative_to(root)),
    }
    for other in packages:
        pyproject = root / "packages" / other / "pyproject.toml"
        moved = moved_window(before := pyproject.read_text("utf-8"), package, version)
        if moved != before:
            notes = pyproject.with_name("CHANGELOG.md")
            files[pyproject] = moved
            files[notes] = noted(notes.read_text("utf-8"), f"Needs {package} {version[0]}.{version[1]}.")
    return version, files


def current_version(module: Path) -> str:
    """The version that a `_version.py` states."""
    match = VERSION.search(module.read_text("utf-8"))
    if not match:
        raise ReleaseError(f'{module}: has no line __version__ = "X.Y.Z.dev0"')
    return match["version"]


def with_version(source: str, version: str) -> str:
    """The text of a `_version.py` with another version."""
    return VERSION.sub(f'__version__ = "{version}"', source)


def release(root: Path, package: str, bump: str, today: datetime.date, build: Callable[[Path], None]) -> str:
    """Make the release and return its tag. `build` gets the package's folder; where it fails, nothing has changed."""
    version, files = plan(root, package, bump, today)
    tag = f"{package}-v{text(version)}"
    before = {path: path.read_text("utf-8") for path in files}
    for path, content in files.items():
        path.write_text(content, "utf-8")
    try:
        build(root / "packages" / package)
    except BaseException:
        for path, content in before.items():
            path.write_text(content, "utf-8")
        raise
    commit(root, list(files), f"Release {package} {text(version)}")
    git(root, "tag", "--annotate", tag, "--message", f"{package} {text(version)}")
    module = root / "packages" / package / "src" / package.replace("-", "_") / "_version.py"
    following = f"{version[0]}.{version[1]}.{version[2] + 1}.dev0"
    module.write_text(with_version(module.read_text("utf-8"), following), "utf-8")
    commit(root, [module], f"Open {package} {following}")
    return tag


def commit(root: Path, paths: list[Path], message: str) -> None:
    """Commit these paths and nothing else that may be staged."""
    names = [str(path.relative_to(root)) for path in paths]
    git(root, "commit", "--message", message, "--", *names)


def build_dist(folder: Path) -> None:
    """sdist and wheel into dist/PACKAGE, checked."""
    dist = folder.parents[1] / "dist" / folder.name
    shutil.rmtree(dist, ignore_errors=True)
    python = [sys.executable, "-m"]
    for command in (
        [*python, "build", "--outdir", str(dist), str(folder)],
        [*python, "twine", "check", "--strict", *(str(dist / f"*{end}") for end in (".whl", ".tar.gz"))],
        [sys.executable, str(Path(__file__).with_name("check_dist.py")), str(dist), folder.name],
    ):
        if subprocess.run(command).returncode:
            raise ReleaseError(f"{folder.name} does not build: {' '.join(command[1:4])} failed; nothing has changed")


def main() -> int:
    """Make the release; returns 2, after one line, where it cannot be made, else 0."""
    parser = argparse.ArgumentParser(description="Release one package: changelog, build, commit, tag.")
    parser.add_argument("package")
    parser.add_argument("bump", help="major, minor or patch")
    arguments = parser.parse_args()
    root = Path(__file__).resolve().parents[1]
    try:
        tag = release(root, arguments.package, arguments.bump, datetime.date.today(), build_dist)
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"made {tag}; publish it with: git push origin HEAD {tag}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
