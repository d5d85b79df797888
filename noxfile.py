"""Every check and chore of the repository; `python -m nox --list` names them. Packages are found, never listed.

All sessions share one environment, `.nox/shared`, but for `lowest`, `build` and `smoke`, which are about environments.
"""

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import nox
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_external_run = True

ROOT = Path(__file__).parent
PACKAGES = sorted(path.parent.name for path in ROOT.glob("packages/*/pyproject.toml"))
SHARED = ROOT / ".nox" / "shared"
BIN = SHARED / ("Scripts" if os.name == "nt" else "bin")
POSTTRAIN = str(BIN / "cosmos-posttrain")
CONSTRAINTS = ROOT / "constraints.txt"
DIST = ROOT / "dist"
HEADING = """\
# The versions that CI runs, on Linux without a GPU; the packages themselves declare ranges. Pinned so that a red run
# means a change of ours. `nox -s pins` writes this file anew; torch and triton, which go together, are moved by hand.
# Never torchvision: it is built against one exact build of torch, and breaks whatever finds it beside another.
"""


def flat(package: str) -> str:
    """The import name."""
    return package.replace("-", "_")


def project(package: str) -> dict[str, Any]:
    """The `project` table of its pyproject.toml."""
    return tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text("utf-8"))["project"]


def requirements(package: str, extra: str | None = None) -> list[Requirement]:
    """What the package asks for directly, an extra's needs and those of the extras that it names included."""
    table = project(package)
    lines = table["dependencies"] if extra is None else table["optional-dependencies"][extra]
    found = []
    for requirement in map(Requirement, lines):
        if requirement.name == package:
            found += [nested for name in sorted(requirement.extras) for nested in requirements(package, name)]
        else:
            found.append(requirement)
    return found


def closure(package: str) -> list[str]:
    """The package and the siblings that it needs, itself first."""
    found = [package]
    for name in found:
        found += [r.name for r in requirements(name) if r.name in PACKAGES and r.name not in found]
    return found


def editable(packages: list[str], extra_for: list[str]) -> list[str]:
    """Arguments for one pip command: siblings are on no index, so a command that lacks one cannot resolve."""
    return [
        argument
        for package in packages
        for argument in ("-e", f"packages/{package}{'[test]' if package in extra_for else ''}")
    ]


def tools() -> list[str]:
    """What the checks run with, the packages' own needs aside."""
    return list(nox.project.dependency_groups(nox.project.load_toml(ROOT / "pyproject.toml"), "dev"))


def pinned(name: str) -> str:
    """The `name==version` of constraints.txt."""
    return re.search(rf"^{name}==[^\s;]+", CONSTRAINTS.read_text("utf-8"), re.MULTILINE).group()


def pins_text(resolved: dict[str, str], direct: list[Requirement]) -> str:
    """constraints.txt for the versions that pip resolved to: what is asked for, then what that pulls in.

    A pin carries a marker where every requirement of that name carries the same one.
    """
    markers: dict[str, set[str]] = {}
    for requirement in direct:
        markers.setdefault(canonicalize_name(requirement.name), set()).add(str(requirement.marker or ""))
    groups: dict[bool, list[str]] = {True: [], False: []}
    for name, version in sorted((canonicalize_name(name), version) for name, version in resolved.items()):
        marker = "".join(markers.get(name, ())) if len(markers.get(name, ())) == 1 else ""
        pin = f"{name}=={Version(version).public}"  # an index may serve torch as 2.13.0+cpu, or as 2.13.0
        groups[name in markers].append(f"{pin}; {marker}" if marker else pin)
    return "\n".join([HEADING, "# asked for", *groups[True], "", "# what those pull in", *groups[False], ""])


def lowest_pin(requirement: Requirement) -> str:
    """The `name==version` of the requirement's floor."""
    floor = next(spec.version for spec in requirement.specifier if spec.operator in (">=", "==", "~="))
    return f"{requirement.name}=={floor}"


def share(session: nox.Session) -> None:
    """Put the shared environment on the session's PATH, filling it first where what it is made from has changed."""
    files = [ROOT / "pyproject.toml", CONSTRAINTS, *(ROOT / "packages" / name / "pyproject.toml" for name in PACKAGES)]
    key = hashlib.sha256(b"\0".join([sys.version.encode(), str(ROOT).encode(), *(f.read_bytes() for f in files)]))
    stamp = SHARED / "filled-from"
    if not stamp.exists() or stamp.read_text() != key.hexdigest():
        session.run(sys.executable, "-m", "virtualenv", "--clear", "--quiet", str(SHARED), external=True)
        python = str(BIN / "python")
        pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "-c", str(CONSTRAINTS)]
        session.run(*pip, *editable(PACKAGES, PACKAGES), *tools(), external=True)
        stamp.write_text(key.hexdigest())
    session.env["PATH"] = os.pathsep.join([str(BIN), os.environ["PATH"]])
    session.env["VIRTUAL_ENV"] = str(SHARED)


def folders(name: str) -> list[str]:
    """This folder of every package that has it."""
    return [f"packages/{package}/{name}" for package in PACKAGES if (ROOT / "packages" / package / name).is_dir()]


def python(session: nox.Session, *arguments: str) -> None:
    """Run the shared environment's Python."""
    session.run(str(BIN / "python"), *arguments, external=True)


def training_data(session: nox.Session, *, clips: int = 6000, frames: int = 17) -> str:
    """Footage, networks and a pool of clips in data/, as far as they are not there; returns the pool's folder."""
    python(session, "scripts/footage.py", "--out", "data/footage")
    python(session, "scripts/networks.py", "--out", "data/networks")
    pool = f"data/pool-{frames}"
    if not Path(pool).exists():
        size = ["--clips", str(clips), "--frames", str(frames)]
        session.run(POSTTRAIN, "pool", "data/footage", pool, *size, external=True)
    return pool


WORLDS = (("train/a", 1456, 1), ("train/b", 1064, 2), ("development", 64, 9002), ("held-out", 64, 9001))
"""Folder, clips and seed of what the world model is trained, watched and measured on."""
DISTRIBUTED = "packages/cosmos-posttrain/tests/test_distributed.py"
SHAPES = f"--jaxtyping-packages={','.join(map(flat, PACKAGES))},beartype.beartype"
"""The option that has pytest check shapes in signatures."""


@nox.session(venv_backend="none", default=False)
def demo(session: nox.Session) -> None:
    """A real clip to tokens, back and on to what happens next; videos to training clips; see out/demo/index.html."""
    share(session)
    python(session, "scripts/demo.py", "--out", "out/demo", *session.posargs)


@nox.session(venv_backend="none", default=False)
def nano(session: nox.Session) -> None:
    """Data, training and measures of a nano: `nox -s nano -- nano-cv4x8x8`. Resumes where it stopped.

    Arguments after the name go to `cosmos-posttrain train`: `nox -s nano -- nano-cv4x8x8 --threads 4`.
    """
    if not session.posargs or session.posargs[0].startswith("-"):
        session.error("name what to train first: nox -s nano -- nano-cv4x8x8 [arguments of cosmos-posttrain train]")
    share(session)
    name, *arguments = session.posargs
    run = f"runs/{name}"
    if "world" in name:
        for folder, count, seed in WORLDS:
            clips = ["--count", str(count), "--seed", str(seed), "--frames", "33", "--size", "96"]
            session.run(POSTTRAIN, "worlds", *clips, "--out", f"data/worlds/{folder}", external=True)
        line = ["train", name, "--data", "data/worlds/train", "--validation", "data/worlds/development", "--out", run]
        session.run(POSTTRAIN, *line, "--resume", *arguments, external=True)
        scored = ["evaluate", f"{run}/model.safetensors", "--worlds", "data/worlds/held-out"]
        session.run(POSTTRAIN, *scored, "--conditioning", "1", "9", external=True)
        return
    # As many frames in both pools; the longer clips are for nets that halve time once more.
    pool = training_data(session, clips=3000, frames=33) if "v8x" in name else training_data(session)
    networks = ["--networks", "data/networks"]
    line = ["train", name, "--data", pool, *networks, "--out", run, "--resume", *arguments]
    session.run(POSTTRAIN, *line, external=True)
    weights = f"{run}/model.safetensors"
    session.run(POSTTRAIN, "compare", weights, "--footage", "data/footage", "--data", pool, *networks, external=True)


@nox.session(venv_backend="none", default=False)
def ablation(session: nox.Session) -> None:
    """A table of what wavelet, causality and factors are worth: under an hour of CPU; `-- --quick` to see that it runs.

    Arguments go to the script: `nox -s ablation -- --threads 1`.
    """
    share(session)
    places = ["--data", training_data(session), "--footage", "data/footage", "--networks", "data/networks"]
    python(session, "packages/cosmos-posttrain/benchmarks/ablation.py", *places, *session.posargs)


@nox.session(venv_backend="none", tags=["checks"])
def lint(session: nox.Session) -> None:
    """ruff: lints, annotations on every function, format."""
    share(session)
    python(session, "-m", "ruff", "check", ".")
    python(session, "-m", "ruff", "format", "--check", ".")


@nox.session(venv_backend="none", tags=["checks"])
def types(session: nox.Session) -> None:
    """pyright over every package's src."""
    share(session)
    python(session, "-m", "pyright", "--pythonpath", str(BIN / "python"), *folders("src"))


@nox.session(venv_backend="none", tags=["checks"])
def imports(session: nox.Session) -> None:
    """import-linter: who may import whom."""
    share(session)
    session.run(str(BIN / "lint-imports"), "--no-cache", external=True)


@nox.session(venv_backend="none")
@nox.parametrize("part", [*PACKAGES, "root"], ids=[*PACKAGES, "root"])
def tests(session: nox.Session, part: str) -> None:
    """pytest on one package, or on what spans them, with shapes checked at run time; arguments go to pytest.

    Without arguments, training on several processes is left to `distributed`, which then follows by itself.
    """
    share(session)
    folder = "tests" if part == "root" else f"packages/{part}/tests"
    apart = DISTRIBUTED.startswith(f"{folder}/") and not session.posargs
    if apart:
        session.notify("distributed")
    python(session, "-m", "pytest", SHAPES, folder, *([f"--ignore={DISTRIBUTED}"] if apart else session.posargs))


@nox.session(venv_backend="none", tags=["checks"])
def interpret(session: nox.Session) -> None:
    """Triton kernels against their references in Triton's interpreter, which needs no GPU."""
    share(session)
    session.env["TRITON_INTERPRET"] = "1"
    python(session, "-m", "pytest", *folders("tests/interpret"), *session.posargs)


@nox.session(venv_backend="none", tags=["checks"])
def compile(session: nox.Session) -> None:
    """Triton kernels compiled ahead of time for sm_80, sm_90 and sm_100: PTX, cubin, registers, no spills."""
    share(session)
    python(session, "-m", "pytest", "-m", "compile", *folders("tests/compile"), *session.posargs)


@nox.session(venv_backend="none")
def distributed(session: nox.Session) -> None:
    """Training on several processes of this machine against one: DDP, FSDP2, hybrid meshes, resharded checkpoints.

    It belongs to `tests`, which brings it along, and so is no check of its own: CI runs it once.
    """
    share(session)
    python(session, "-m", "pytest", SHAPES, DISTRIBUTED, *session.posargs)


BIKES, FILM = "data/footage/bikes.mp4", "data/footage/big_buck_bunny.mp4"
GIVEN = {
    "bench_captions.py": [],
    "bench_dedup.py": ["planted", BIKES, "--every", "3"],
    "bench_media.py": [BIKES],
    "bench_motion.py": ["data/footage/photographs", "--count", "2"],
    "bench_ops.py": [],
    "bench_overlay.py": [BIKES],
    "bench_quality.py": [BIKES],
    "bench_shots.py": [BIKES],
}
"""What scripts of benchmarks/ are given in place of the session's own arguments."""


@nox.session(venv_backend="none", default=False)
def bench(session: nox.Session) -> None:
    """Tables of speed and memory beside the peers, and of what scorers get right; `-- --quick` to see that it runs."""
    share(session)
    python(session, "scripts/footage.py", "--out", "data/footage", "--only", "bikes")
    for script in sorted(path for folder in folders("benchmarks") for path in Path(folder).glob("bench*.py")):
        clip = ["--clip", BIKES] if script.name == "bench.py" else []
        arguments = GIVEN.get(script.name, [*clip, *session.posargs])
        lacking = [name for name in arguments if name.startswith("data/") and not Path(name).exists()]
        if lacking:
            session.warn(f"{script} is left out: there is no {lacking[0]}")
        else:
            python(session, str(script), *arguments)


@nox.session(venv_backend="none", default=False)
def film(session: nox.Session) -> None:
    """Curation of a whole film of ten minutes and of street footage, everything on; half an hour of two cores.

    Then a minute of the film on Ray beside the local executor, and how cost grows from 10 to 1,000 clips.
    """
    share(session)
    python(session, "scripts/footage.py", "--out", "data/footage", "--only", "film", "bikes")
    folder = "packages/cosmos-curate/benchmarks"
    python(session, f"{folder}/bench.py", "--clip", FILM, BIKES, "--executor", "local")
    python(session, f"{folder}/bench.py", "--clip", FILM, "--seconds", "60")
    python(session, f"{folder}/growth.py")


@nox.session(venv_backend="none", default=False)
def gpu(session: nox.Session) -> None:
    """The tests that need a CUDA device, marked `gpu`, of every package; skipped where torch sees none."""
    share(session)
    ask = "import torch; print(torch.cuda.is_available())"
    answer = session.run(str(BIN / "python"), "-c", ask, external=True, silent=True)
    if answer.split()[-1:] != ["True"]:
        session.skip("torch sees no CUDA device: these tests need an NVIDIA GPU, its driver and torch's CUDA build")
    python(session, "-m", "pytest", SHAPES, "-m", "gpu", *folders("tests"), *session.posargs)


@nox.session(tags=["checks"])
@nox.parametrize("package", PACKAGES, ids=PACKAGES)
def lowest(session: nox.Session, package: str) -> None:
    """The package's own tests on the lowest versions that it declares, torch excepted, but for those of minutes."""
    direct = [
        requirement
        for requirement in requirements(package) + requirements(package, "test")
        if requirement.name not in PACKAGES and (requirement.marker is None or requirement.marker.evaluate())
    ]
    pins = [pinned("torch") if r.name == "torch" else lowest_pin(r) for r in direct]
    session.install(*editable(closure(package), [package]), *sorted(set(pins)))
    session.run("python", "-m", "pytest", "-m", "not slow", f"packages/{package}/tests", *session.posargs)


@nox.session(tags=["checks"])
def build(session: nox.Session) -> None:
    """sdist and wheel of every package into dist/, and what their metadata must say."""
    session.install("-c", str(CONSTRAINTS), "build", "packaging", "twine")
    shutil.rmtree(DIST, ignore_errors=True)
    for package in PACKAGES:
        session.run("python", "-m", "build", "--outdir", str(DIST), f"packages/{package}")
    session.run("python", "-m", "twine", "check", "--strict", *map(str, sorted(DIST.iterdir())))
    session.run("python", "scripts/check_dist.py", str(DIST), *PACKAGES)


@nox.session(tags=["checks"], requires=["build"])
@nox.parametrize("package", PACKAGES, ids=PACKAGES)
def smoke(session: nox.Session, package: str) -> None:
    """The package's wheel in a bare environment, imported from outside the tree."""
    wheels = [str(next(DIST.glob(f"{flat(name)}-*.whl"))) for name in closure(package)]
    session.install("-c", str(CONSTRAINTS), *wheels)
    strangers = [flat(name) for name in PACKAGES if name not in closure(package)]
    session.cd(session.create_tmp())
    if package == "cosmos-tokenizer":
        shipped = "from cosmos_tokenizer import PRESETS, load; [load(name) for name in PRESETS if name[:4] == 'nano']"
        session.run("python", "-I", "-c", shipped)
    session.run("python", "-I", str(ROOT / "scripts" / "smoke.py"), str(ROOT), package, *strangers)


@nox.session(venv_backend="none", default=False)
def pins(session: nox.Session) -> None:
    """constraints.txt anew, with the newest versions that go together; torch and triton stay as they are pinned."""
    if sys.version_info[:2] != (3, 11):
        session.error("run it with Python 3.11, the oldest supported: newer ones need no package that it does not")
    with tempfile.TemporaryDirectory() as folder:
        report, empty = Path(folder) / "report.json", Path(folder) / "empty"
        session.run(sys.executable, "-m", "virtualenv", "--quiet", str(empty), external=True)
        python = empty / BIN.name / "python"  # its pip is virtualenv's, recent enough to find siblings in any order
        pip = [str(python), "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        wanted = [*editable(PACKAGES, PACKAGES), *tools(), pinned("torch"), pinned("triton")]
        session.run(*pip, "--report", str(report), *wanted, external=True)
        found = [item["metadata"] for item in json.loads(report.read_text("utf-8"))["install"]]
    resolved = {item["name"]: item["version"] for item in found if item["name"] not in PACKAGES}
    direct = [r for name in PACKAGES for r in requirements(name) + requirements(name, "test")]
    CONSTRAINTS.write_text(pins_text(resolved, direct + [Requirement(line) for line in tools()]), "utf-8")


@nox.session(venv_backend="none", default=False)
def release(session: nox.Session) -> None:
    """`nox -s release -- PACKAGE major|minor|patch`: version, changelog, build, commit, tag, next .dev0."""
    share(session)
    python(session, "scripts/release.py", *session.posargs)
