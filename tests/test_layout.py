"""What every package must have, so that it can be read, installed and released alone."""

import ast
import fnmatch
import importlib
import re
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

STEP = re.compile(r"\d+\.\d+\.\d+(\.dev0)?")


def source(package):
    return package / "src" / package.name.replace("-", "_")


def version(package):
    return re.search(r'^__version__ = "(.+)"$', (source(package) / "_version.py").read_text(), re.MULTILINE)[1]


def project(package):
    return tomllib.loads((package / "pyproject.toml").read_text())["project"]


def declared(package):
    """Every requirement of the package, those of its extras included."""
    table = project(package)
    lines = [*table["dependencies"], *(line for extra in table["optional-dependencies"].values() for line in extra)]
    return [Requirement(line) for line in lines]


def test_package_has_what_a_reader_and_an_index_look_for(package, root):
    for name in ("README.md", "CHANGELOG.md", "pyproject.toml", "tests"):
        assert (package / name).exists(), name
    assert (package / "README.md").read_text().startswith(f"# {package.name}\n")
    assert (package / "LICENSE").read_bytes() == (root / "LICENSE").read_bytes()
    assert (source(package) / "py.typed").read_bytes() == b""


def test_folder_name_import_name_and_command_are_one_name(package):
    assert project(package)["name"] == package.name
    assert [path.name for path in (package / "src").iterdir() if path.is_dir()] == [source(package).name]
    assert project(package)["scripts"] == {package.name: f"{source(package).name}.cli:main"}


def test_version_stands_in_one_place_and_changelog_waits_for_the_next(package):
    assert STEP.fullmatch(version(package))
    assert "version" in project(package)["dynamic"]
    headings = re.findall(r"^## (.+)$", (package / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    for heading in headings[1:]:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", heading), heading


def test_release_workflow_takes_the_package_from_its_tag(package, root):
    workflow = (root / ".github/workflows/release.yml").read_text()
    [pattern] = re.search(r'tags: \["(.+)"\]', workflow).groups()
    assert fnmatch.fnmatchcase(f"{package.name}-v12.0.1", pattern)
    tag = subprocess.run(
        ["bash", "-c", 'echo "packages/${GITHUB_REF_NAME%-v*}"'],
        env={"GITHUB_REF_NAME": f"{package.name}-v12.0.1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert tag.stdout.strip() == f"packages/{package.name}"
    assert '"packages/${GITHUB_REF_NAME%-v*}"' in workflow


def test_every_tag_of_the_package_is_in_its_changelog(package, root):
    tags = subprocess.run(["git", "tag", "--list", f"{package.name}-v*"], cwd=root, capture_output=True, text=True)
    changelog = (package / "CHANGELOG.md").read_text()
    for tag in tags.stdout.split():
        assert f"## [{tag.removeprefix(f'{package.name}-v')}] - " in changelog, tag


def test_sibling_windows_admit_the_versions_in_the_tree(package, packages):
    siblings = {path.name: path for path in packages}
    for requirement in declared(package):
        if requirement.name in siblings and requirement.name != package.name:
            assert requirement.specifier.contains(version(siblings[requirement.name]), prereleases=True), requirement
            major, minor = Version(version(siblings[requirement.name])).release[:2]
            assert not requirement.specifier.contains(f"{major}.{minor + 1}.0"), f"{requirement} has no upper bound"


def test_public_face_is_an_explicit_list_of_what_the_init_imports(package):
    tree = ast.parse((source(package) / "__init__.py").read_text())
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    homes = {a.asname: (node.module, a.name) for node in froms for a in node.names if a.asname}
    face = importlib.import_module(source(package).name)
    assert "__version__" in face.__all__
    assert sorted(face.__all__) == sorted(homes)
    assert set(homes) <= set(dir(face))
    assert not set(homes) & {path.stem for path in source(package).iterdir()}, "a module would take the name's place"
    for name, (module, original) in homes.items():
        assert getattr(face, name) is getattr(importlib.import_module(module), original), name
    with pytest.raises(AttributeError, match="no_such_name"):
        face.no_such_name  # noqa: B018


def test_import_contracts_cover_every_package(root, packages):
    linter = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]
    names = {source(package).name for package in packages}
    assert set(linter["root_packages"]) == names
    [layers] = [contract["layers"] for contract in linter["contracts"] if contract["type"] == "layers"]
    flat = [name.strip() for layer in layers for name in layer.split("|")]
    assert names == {name for name in flat if not name.startswith("(")}
