"""What a built sdist and wheel must say, beyond what twine checks.

python scripts/check_dist.py dist cosmos-tokenizer cosmos-posttrain
python scripts/check_dist.py dist --tag cosmos-tokenizer-v0.3.1
"""

import argparse
import re
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

from packaging.specifiers import SpecifierSet

RELATIVE_LINK = re.compile(r"\]\((?!https?://|#)[^)]+\)")


def wheel_problems(path: Path, package: str) -> list[str]:
    """One line for each thing that the wheel lacks; none for a good one."""
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        info = next(name for name in names if name.endswith(".dist-info/METADATA")).rpartition("/")[0]
        metadata = HeaderParser().parsestr(wheel.read(f"{info}/METADATA").decode())
    flat = package.replace("-", "_")
    strangers = sorted({name.split("/")[0] for name in names} - {flat, info})
    checks = {
        f"holds no {flat}/py.typed": f"{flat}/py.typed" in names,
        "holds no licence file": any(name.startswith(f"{info}/licenses/") for name in names),
        f"holds {strangers} beside {flat}": not strangers,
        f"has no console script named {package}": f"{info}/entry_points.txt" in names,
    }
    return [line for line, good in checks.items() if not good] + metadata_problems(metadata)


def metadata_problems(metadata: Message) -> list[str]:
    """One line for each thing that an index would show wrong; none for good metadata."""
    readme = str(metadata.get_payload())
    supported = SpecifierSet(metadata["Requires-Python"] or "")
    links = RELATIVE_LINK.findall(readme)
    checks = {
        f"licence is {metadata['License-Expression']}, not Apache-2.0": metadata["License-Expression"] == "Apache-2.0",
        f"Requires-Python is {supported}, not >=3.11": "3.11" in supported and "3.10" not in supported,
        "README is not Markdown": (metadata["Description-Content-Type"] or "").startswith("text/markdown"),
        "README is empty": bool(readme.strip()),
        f"README has links that lead nowhere on an index: {links}": not links,
    }
    return [line for line, good in checks.items() if not good]


def sdist_problems(path: Path, package: str) -> list[str]:
    """One line for each thing that the sdist lacks; none for a good one."""
    flat = package.replace("-", "_")
    wanted = ("LICENSE", "README.md", "CHANGELOG.md", "tests", f"src/{flat}/py.typed")
    with tarfile.open(path) as sdist:
        names = [name.partition("/")[2] for name in sdist.getnames()]
    return [f"holds no {want}" for want in wanted if not any(n == want or n.startswith(f"{want}/") for n in names)]


def check(dist: Path, package: str, version: str = "") -> list[str]:
    """Problems of one package's single wheel and single sdist in `dist`, of that version where one is given."""
    stem = f"{package.replace('-', '_')}-{version or '*'}"
    problems = []
    for pattern, find in ((f"{stem}-*.whl", wheel_problems), (f"{stem}.tar.gz", sdist_problems)):
        paths = list(dist.glob(pattern))
        if len(paths) != 1:
            problems.append(f"{dist}: expected one {pattern}, found {len(paths)}")
        problems += [f"{path.name}: {line}" for path in paths for line in find(path, package)]
    return problems


def main() -> int:
    """Print every problem; returns 1 where there is any, else 0."""
    parser = argparse.ArgumentParser(description="Check what sdists and wheels say.")
    parser.add_argument("dist", type=Path)
    parser.add_argument("packages", nargs="*")
    parser.add_argument("--tag", help="the folder must hold this release and nothing else")
    arguments = parser.parse_args()
    problems = [line for package in arguments.packages for line in check(arguments.dist, package)]
    if arguments.tag:
        package, _, version = arguments.tag.rpartition("-v")
        problems += check(arguments.dist, package, version)
        if len(list(arguments.dist.iterdir())) != 2:
            problems.append(f"{arguments.dist}: holds more than the release {arguments.tag}")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
