"""scripts/release.py on small git repositories, and on a copy of this one's own packages."""

import datetime
import importlib.util
import random
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

TODAY = datetime.date(2031, 2, 9)
CHANGELOG = "# Changelog\n\nWhat changed for users.\n\n## [Unreleased]\n\n- A new thing.\n"
PYPROJECT = '[project]\nname = "{name}"\ndependencies = [{needs}]\n'


def git(folder, *arguments):
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def release():
    """scripts/release.py as a module."""
    path = Path(__file__).resolve().parents[1] / "scripts" / "release.py"
    spec = importlib.util.spec_from_file_location("release_script", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def own_identity(monkeypatch):
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "test")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "test@example.invalid")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")


def committed(folder):
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "start")
    return folder


@pytest.fixture
def tree(tmp_path):
    """Two packages, cosmos-above on cosmos-below, at 0.3.1.dev0."""
    window = '"cosmos-below[hub]>=0.3,<0.4", "torch>=2.11,<3"'
    for name, needs in (("cosmos-above", window), ("cosmos-below", "")):
        folder = tmp_path / "packages" / name
        source = folder / "src" / name.replace("-", "_")
        source.mkdir(parents=True)
        (folder / "pyproject.toml").write_text(PYPROJECT.format(name=name, needs=needs))
        (folder / "CHANGELOG.md").write_text(CHANGELOG)
        (source / "_version.py").write_text('"""The version."""\n\n__version__ = "0.3.1.dev0"\n')
    (tmp_path / "scripts").mkdir()
    for name in ("release.py", "check_dist.py"):
        shutil.copy(Path(__file__).resolve().parents[1] / "scripts" / name, tmp_path / "scripts")
    return committed(tmp_path)


def at(folder, revision, path):
    return git(folder, "show", f"{revision}:{path}")


def made(release, tree, bump, package="cosmos-below"):
    return release.release(tree, package, bump, TODAY, lambda folder: None)


@pytest.mark.parametrize(
    ("current", "bump", "expected"),
    [
        ("0.3.1.dev0", "patch", (0, 3, 1)),
        ("0.3.1.dev0", "minor", (0, 4, 0)),
        ("0.3.1.dev0", "major", (1, 0, 0)),
        ("0.3.0.dev0", "patch", (0, 3, 0)),
        ("0.3.0.dev0", "minor", (0, 3, 0)),
        ("0.3.0.dev0", "major", (1, 0, 0)),
        ("2.0.0.dev0", "major", (2, 0, 0)),
        ("1.12.9.dev0", "minor", (1, 13, 0)),
    ],
)
def test_bump_counts_from_the_version_that_the_tree_stands_before(release, current, bump, expected):
    assert release.bumped(current, bump) == expected


def test_tag_holds_the_released_version_and_the_tree_goes_back_to_development(release, tree):
    assert made(release, tree, "patch") == "cosmos-below-v0.3.1"
    path = "packages/cosmos-below/src/cosmos_below/_version.py"
    assert '__version__ = "0.3.1"\n' in at(tree, "cosmos-below-v0.3.1", path)
    assert at(tree, "HEAD", path) == '"""The version."""\n\n__version__ = "0.3.2.dev0"\n'
    assert git(tree, "status", "--porcelain") == ""
    assert git(tree, "tag").split() == ["cosmos-below-v0.3.1"]
    assert "0.3.1.dev0" in at(tree, "HEAD", "packages/cosmos-above/src/cosmos_above/_version.py")


def test_changelog_dates_what_was_unreleased_and_keeps_the_rest(release, tree):
    notes = [f"- Change {random.randrange(10**6)}." for _ in range(3)]
    path = tree / "packages/cosmos-below/CHANGELOG.md"
    older = "## [0.3.0] - 2030-12-31\n\n- Older.\n"
    path.write_text(CHANGELOG.replace("- A new thing.", "\n".join(notes)) + "\n" + older)
    git(tree, "commit", "--all", "--quiet", "--message", "notes")
    made(release, tree, "minor")
    listed = "\n".join(notes)
    dated = f"## [Unreleased]\n\n## [0.4.0] - 2031-02-09\n\n{listed}\n\n{older}"
    assert path.read_text() == f"# Changelog\n\nWhat changed for users.\n\n{dated}"


def test_patch_leaves_dependents_windows_alone(release, tree):
    before = (tree / "packages/cosmos-above/pyproject.toml").read_text()
    made(release, tree, "patch")
    assert (tree / "packages/cosmos-above/pyproject.toml").read_text() == before


@pytest.mark.parametrize(("bump", "window"), [("minor", ">=0.4,<0.5"), ("major", ">=1.0,<1.1")])
def test_leaving_a_dependents_window_moves_it_in_the_same_commit_and_notes_it(release, tree, bump, window):
    tag = made(release, tree, bump)
    pyproject = at(tree, tag, "packages/cosmos-above/pyproject.toml")
    needs = tomllib.loads(pyproject)["project"]["dependencies"]
    assert needs == [f"cosmos-below[hub]{window}", "torch>=2.11,<3"]
    assert Requirement(needs[0]).specifier.contains("0.4.1.dev0", prereleases=True) == (bump == "minor")
    notes = at(tree, tag, "packages/cosmos-above/CHANGELOG.md")
    assert f"## [Unreleased]\n\n- Needs cosmos-below {window[2:5]}.\n" in notes


def test_failed_build_changes_nothing(release, tree):
    head = git(tree, "rev-parse", "HEAD")

    def fail(folder):
        assert '"0.4.0"' in (folder / "src/cosmos_below/_version.py").read_text()
        raise release.ReleaseError("does not build")

    with pytest.raises(release.ReleaseError, match="does not build"):
        release.release(tree, "cosmos-below", "minor", TODAY, fail)
    assert git(tree, "rev-parse", "HEAD") == head
    assert git(tree, "status", "--porcelain") == ""
    assert git(tree, "tag") == ""


def untracked(tree):
    (tree / "stray.txt").write_text("x")


def tagged(tree):
    git(tree, "tag", "cosmos-below-v0.4.0")


def nothing_to_say(tree):
    (tree / "packages/cosmos-below/CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n")
    git(tree, "commit", "--all", "--quiet", "--message", "empty")


def released_version(tree):
    (tree / "packages/cosmos-below/src/cosmos_below/_version.py").write_text('__version__ = "0.3.1"\n')
    git(tree, "commit", "--all", "--quiet", "--message", "not in development")


@pytest.mark.parametrize(
    ("spoil", "arguments", "complaint"),
    [
        (untracked, ("cosmos-below", "minor"), "stray.txt"),
        (tagged, ("cosmos-below", "minor"), "cosmos-below-v0.4.0 exists"),
        (nothing_to_say, ("cosmos-below", "minor"), "nothing under Unreleased"),
        (released_version, ("cosmos-below", "minor"), "0.3.1, not at X.Y.Z.dev0"),
        (None, ("cosmos-elsewhere", "minor"), "'cosmos-elsewhere'; there are cosmos-above, cosmos-below"),
        (None, ("cosmos-below", "huge"), "'huge'; say major, minor, patch"),
    ],
)
def test_what_cannot_be_released_is_refused_in_one_line_and_changes_nothing(tree, spoil, arguments, complaint):
    if spoil:
        spoil(tree)
    before = git(tree, "rev-parse", "HEAD") + git(tree, "status", "--porcelain") + git(tree, "tag")
    command = [sys.executable, "scripts/release.py", *arguments]
    result = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: ")
    assert complaint in result.stderr
    assert result.stderr.count("\n") == 1
    assert git(tree, "rev-parse", "HEAD") + git(tree, "status", "--porcelain") + git(tree, "tag") == before


@pytest.mark.parametrize("bump", ["patch", "minor", "major"])
def test_this_repositorys_own_package_can_be_released(release, package, packages, tmp_path, bump):
    for folder in packages:
        flat = folder.name.replace("-", "_")
        copy = tmp_path / "packages" / folder.name
        (copy / "src" / flat).mkdir(parents=True)
        for name in ("pyproject.toml", "CHANGELOG.md", f"src/{flat}/_version.py"):
            shutil.copy(folder / name, copy / name)
    changelog = tmp_path / "packages" / package.name / "CHANGELOG.md"
    changelog.write_text(release.noted(changelog.read_text(), "Something."))
    tag = made(release, committed(tmp_path), bump, package.name)
    version = tag.removeprefix(f"{package.name}-v")
    assert f"## [{version}] - 2031-02-09" in changelog.read_text()
    for folder in packages:
        copy = tomllib.loads((tmp_path / "packages" / folder.name / "pyproject.toml").read_text())["project"]
        for need in map(Requirement, copy["dependencies"]):
            assert need.name != package.name or need.specifier.contains(version, prereleases=True), need
