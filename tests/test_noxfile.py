"""The noxfile finds packages by itself and works out what each needs."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement


@pytest.fixture(scope="module")
def noxfile(root):
    """noxfile.py as a module; nox complains of one that is loaded twice."""
    spec = importlib.util.spec_from_file_location("noxfile_under_test", root / "noxfile.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Refused(Exception):
    """A session ended early with one line."""


@pytest.fixture
def ran(noxfile, monkeypatch, tmp_path):
    """Call a session of the noxfile with arguments in an empty folder; the commands that it would run.

    `prints` is what each of them prints, `part` what the session is about.
    """

    def call(name, *arguments, prints="", part=None):
        def refuse(line):
            raise Refused(line)

        def run(*command, **_):
            commands.append(list(command))
            return prints

        commands = []
        session = SimpleNamespace(posargs=list(arguments), run=run, error=refuse, skip=refuse, warn=print, env={})
        session.notify = lambda name: commands.append(["then", name])
        getattr(noxfile, name)(session, *([] if part is None else [part]))
        return commands

    monkeypatch.setattr(noxfile, "share", lambda session: None)
    monkeypatch.chdir(tmp_path)
    return call


@pytest.fixture
def third(root, tmp_path):
    """A copy of the repository's bones with one package more."""
    shutil.copy(root / "noxfile.py", tmp_path)
    for folder in [*root.glob("packages/*/pyproject.toml")]:
        (tmp_path / "packages" / folder.parent.name).mkdir(parents=True)
        shutil.copy(folder, tmp_path / "packages" / folder.parent.name)
    new = tmp_path / "packages" / "cosmos-newcomer"
    new.mkdir()
    (new / "pyproject.toml").write_text('[project]\nname = "cosmos-newcomer"\n')
    return tmp_path


def test_new_package_is_tested_and_built_without_being_listed(third):
    command = [sys.executable, "-m", "nox", "-f", str(third / "noxfile.py"), "--list", "--json"]
    listed = json.loads(subprocess.run(command, cwd=third, check=True, capture_output=True, text=True).stdout)
    sessions = {row["session"] for row in listed}
    for name in ("tests", "lowest", "smoke"):
        assert f"{name}(cosmos-newcomer)" in sessions
    assert {"tests(root)", "lint", "types", "imports", "build"} <= sessions


def test_plain_nox_runs_every_check_but_neither_demo_training_nor_release(root):
    command = [sys.executable, "-m", "nox", "-f", str(root / "noxfile.py"), "--list"]
    text = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    default = {name.partition("(")[0] for name in re.findall(r"^\* (\S+)", text, re.MULTILINE)}
    assert default == {
        "lint",
        "types",
        "imports",
        "tests",
        "interpret",
        "compile",
        "distributed",
        "lowest",
        "build",
        "smoke",
    }


def test_closure_follows_siblings_and_one_command_installs_them_all(noxfile):
    assert noxfile.closure("cosmos-tokenizer") == ["cosmos-tokenizer"]
    assert noxfile.closure("cosmos-posttrain") == ["cosmos-posttrain", "cosmos-tokenizer", "cosmos-diffusion"]
    assert noxfile.editable(["cosmos-posttrain", "cosmos-tokenizer"], ["cosmos-posttrain"]) == [
        *("-e", "packages/cosmos-posttrain[test]"),
        *("-e", "packages/cosmos-tokenizer"),
    ]


def test_every_direct_requirement_has_a_floor_for_the_lowest_session(noxfile, package):
    direct = noxfile.requirements(package.name) + noxfile.requirements(package.name, "test")
    for requirement in direct:
        if requirement.name not in noxfile.PACKAGES:
            name, _, floor = noxfile.lowest_pin(requirement).partition("==")
            assert name == requirement.name
            assert requirement.specifier.contains(floor)


def test_extras_that_an_extra_names_are_followed(noxfile):
    names = [requirement.name for requirement in noxfile.requirements("cosmos-tokenizer", "test")]
    assert {"huggingface_hub", "pytest"} <= set(names)
    assert "cosmos-tokenizer" not in names


def test_lowest_pin_takes_the_floor_not_the_ceiling(noxfile):
    assert noxfile.lowest_pin(Requirement("some-thing<3,>=1.5.2,!=2.0")) == "some-thing==1.5.2"


def test_nano_hands_what_follows_the_name_to_training_alone(ran):
    commands = ran("nano", "nano-x", "--steps", "7", "--threads=1")
    [train] = [command for command in commands if "train" in command]
    assert train[1:3] == ["train", "nano-x"]
    assert train[-4:] == ["--resume", "--steps", "7", "--threads=1"]
    assert [command for command in commands if "7" in command] == [train]


@pytest.mark.parametrize("arguments", [(), ("--steps", "7")])
def test_nano_without_a_name_says_so_before_anything_runs(ran, arguments):
    with pytest.raises(Refused, match="name what to train"):
        ran("nano", *arguments)


@pytest.mark.parametrize("pooled", [False, True])
def test_ablation_makes_the_pool_where_it_is_missing_and_hands_on_its_arguments(ran, root, tmp_path, pooled):
    if pooled:
        (tmp_path / "data/pool-17").mkdir(parents=True)
    commands = ran("ablation", "--quick")
    names = [Path(command[1]).name for command in commands]
    assert names == ["footage.py", "networks.py", *([] if pooled else ["pool"]), "ablation.py"]
    assert (root / commands[-1][1]).is_file()
    assert commands[-1][2:4] == ["--data", "data/pool-17"]
    assert commands[-1][-1] == "--quick"


def test_pins_are_two_sorted_groups_without_builds_local_names(noxfile):
    resolved = {"torch": "2.13.0+cpu", "Jinja2": "3.1.6", "triton": "3.7.1", "huggingface_hub": "2.4.0", "anyio": "4.0"}
    direct = ["triton>=3; sys_platform == 'linux'", "torch>=2.11", "huggingface_hub>=0.34"]
    text = noxfile.pins_text(resolved, [Requirement(line) for line in direct])
    assert text.startswith(noxfile.HEADING)
    assert text.removeprefix(noxfile.HEADING).split("\n") == [
        *("", "# asked for", "huggingface-hub==2.4.0", "torch==2.13.0", 'triton==3.7.1; sys_platform == "linux"'),
        *("", "# what those pull in", "anyio==4.0", "jinja2==3.1.6", ""),
    ]


def test_marker_that_not_every_asker_has_is_no_part_of_the_pin(noxfile):
    direct = [Requirement("a>=1; python_version < '3.12'"), Requirement("a>=1"), Requirement("b; os_name == 'nt'")]
    lines = noxfile.pins_text({"a": "1.2", "b": "3"}, direct).splitlines()
    assert "a==1.2" in lines
    assert 'b==3; os_name == "nt"' in lines


def test_pin_is_read_without_its_marker(noxfile, monkeypatch, tmp_path):
    monkeypatch.setattr(noxfile, "CONSTRAINTS", tmp_path / "constraints.txt")
    noxfile.CONSTRAINTS.write_text("a-b==1\nb==2.5; os_name == 'nt'\nbb==3\n")
    assert noxfile.pinned("b") == "b==2.5"


def test_lowest_leaves_out_what_this_platform_cannot_have(noxfile, monkeypatch):
    monkeypatch.setattr(
        noxfile,
        "requirements",
        lambda package, extra=None: [
            Requirement(line)
            for line in (
                "torch>=2.11",
                "there>=1.5; python_version >= '3'",
                "elsewhere>=2; python_version < '3'",
            )
        ],
    )
    installed = []
    session = SimpleNamespace(posargs=[], install=lambda *lines: installed.extend(lines), run=lambda *command: None)
    noxfile.lowest(session, "cosmos-tokenizer")
    assert [line for line in installed if "==" in line] == ["there==1.5", "torch==2.13.0"]


def test_gpu_runs_the_marked_tests_of_every_package(ran, packages):
    [_, tests] = ran("gpu", "-k", "haar", prints="a warning of the driver's\nTrue\n")
    assert {f"packages/{package.name}/tests" for package in packages} <= set(tests)
    assert tests[tests.index("-m", 2) :][:2] == ["-m", "gpu"]
    assert tests[-2:] == ["-k", "haar"]


@pytest.mark.parametrize("prints", ["False\n", "UserWarning: True, a driver is here\nFalse\n", ""])
def test_gpu_without_a_device_is_skipped_with_one_line(ran, prints):
    with pytest.raises(Refused, match=r"^torch sees no CUDA device: .+$"):
        ran("gpu", prints=prints)


def test_training_on_several_processes_is_tested_once_and_after_the_other_tests(ran, root):
    [then, tests] = ran("tests", part="cosmos-posttrain")
    [file] = [argument.removeprefix("--ignore=") for argument in tests if argument.startswith("--ignore=")]
    assert (root / file).is_file()
    assert then == ["then", "distributed"]
    [distributed] = ran("distributed", "-x")
    assert distributed[-2:] == [file, "-x"]
    command = [sys.executable, "-m", "nox", "-f", str(root / "noxfile.py"), "--list", "--json", "-t", "checks"]
    listed = json.loads(subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout)
    assert "distributed" not in {row["name"] for row in listed}


@pytest.mark.parametrize(("part", "arguments"), [("cosmos-tokenizer", []), ("root", []), ("cosmos-posttrain", ["-x"])])
def test_other_tests_and_chosen_ones_leave_nothing_out(part, arguments, ran):
    [tests] = ran("tests", *arguments, part=part)
    assert not [argument for argument in tests if argument.startswith("--ignore")]
    assert tests[len(tests) - len(arguments) :] == arguments


def test_interpret_and_compile_run_the_kernels_of_every_package_that_has_some(ran, root):
    [interpreted] = ran("interpret")
    [compiled] = ran("compile", "-x")
    assert "packages/cosmos-tokenizer/tests/interpret" in interpreted
    assert "packages/cosmos-tokenizer/tests/compile" in compiled
    assert compiled[compiled.index("-m", 2) :][:2] == ["-m", "compile"]
    assert compiled[-1] == "-x"
    assert not [argument for argument in interpreted + compiled if "posttrain" in argument]


def test_bench_runs_every_benchmark_after_fetching_its_clip(ran, root, monkeypatch):
    monkeypatch.chdir(root)
    monkeypatch.setattr(Path, "exists", lambda path: True)  # footage that one may have
    fetch, *benches = ran("bench", "--quick")
    assert fetch[1:] == ["scripts/footage.py", "--out", "data/footage", "--only", "bikes"]
    names = {path.name for path in root.glob("packages/*/benchmarks/bench*.py")}
    assert {command[1].rsplit("/", 1)[1] for command in benches} == names
    tables = [command for command in benches if command[1].endswith("/bench.py")]
    assert {tuple(table[2:]) for table in tables} == {("--clip", "data/footage/bikes.mp4", "--quick")}
