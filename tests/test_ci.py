"""What CI runs, and on which Pythons."""

import re
import shutil
import subprocess
import tomllib

import pytest


@pytest.fixture
def run(root, tmp_path):
    """Call a copy of .ci/run with a Python that only notes what it is asked for; the notes and the exit status."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(root / ".ci" / "run", tmp_path / ".ci")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "dirname"):
        (tools / name).symlink_to(shutil.which(name))
    for name in ("python", "python3"):
        (tools / name).write_text('#!/bin/sh\necho "$*"\ncase "$*" in *"$FAILS") exit 3;; esac\n')
        (tools / name).chmod(0o755)

    def call(*arguments, fails="nothing"):
        env = {"PATH": str(tools), "FAILS": fails}
        result = subprocess.run([tmp_path / ".ci/run", *arguments], env=env, capture_output=True, text=True)
        assert result.stderr == ""
        return result.stdout.splitlines(), result.returncode

    return call


def test_ci_is_the_readmes_tests_command_and_then_the_checks(run, root):
    assert "python -m pip install nox && python -m nox -s tests\n" in (root / "README.md").read_text("utf-8")
    tests = ["-m venv .nox/ci", "-m pip install nox", "-m nox -s tests"]
    assert run() == ([*tests, "-m nox -t checks"], 0)
    assert run("tests") == (tests, 0)


@pytest.mark.parametrize("fails", ["-m pip install nox", "-m nox -s tests", "-m nox -t checks"])
def test_ci_is_red_where_any_part_is_and_still_runs_the_checks(run, fails):
    commands, status = run(fails=fails)
    assert commands[-1] == "-m nox -t checks"
    assert status != 0
    assert run("tests", fails=fails)[1] == (0 if "checks" in fails else 1)


def test_oldest_python_runs_everything_and_newer_ones_the_tests(root, packages):
    legs = re.findall(r'- \{? ?python: "([\d.]+)"(.*)', (root / ".github/workflows/ci.yml").read_text("utf-8"))
    assert {python: "only: tests" in rest for python, rest in legs} == {"3.11": False, "3.12": True, "3.13": True}
    for package in packages:
        table = tomllib.loads((package / "pyproject.toml").read_text("utf-8"))["project"]
        assert table["requires-python"] == f">={legs[0][0]}"
