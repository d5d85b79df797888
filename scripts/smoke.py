"""Import one installed package from outside the tree and try its public face; run by `nox -s smoke`.

python -I scripts/smoke.py ROOT PACKAGE [MODULES THAT MUST NOT BE THERE ...]
"""

import importlib
import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path


def smoke(root: Path, package: str, strangers: list[str]) -> None:
    """Raise AssertionError, saying what is wrong with the installed package."""
    module = importlib.import_module(package.replace("-", "_"))
    where = Path(str(module.__file__)).resolve()
    assert "site-packages" in where.parts, f"{package} came from {where}, not from its wheel"
    assert not where.is_relative_to(root / "packages"), f"{package} came from the tree: {where}"
    assert (where.parent / "py.typed").is_file(), f"{where.parent} holds no py.typed"
    version = importlib.metadata.version(package)
    assert module.__version__ == version, f"__version__ is {module.__version__}, the metadata says {version}"
    missing = [name for name in module.__all__ if not hasattr(module, name)]
    assert not missing, f"{package}.__all__ promises {missing}, which are not there"
    for name in [*strangers, "torchvision"]:
        assert importlib.util.find_spec(name) is None, f"{name} came along, undeclared"
    command = shutil.which(package, path=str(Path(sys.executable).parent))
    assert command, f"no console script named {package} beside {sys.executable}"
    result = subprocess.run([command, "--help"], capture_output=True, text=True)
    assert result.returncode == 0, f"{package} --help left {result.returncode}: {result.stderr}"
    assert result.stdout.startswith("usage: "), f"{package} --help says {result.stdout[:80]!r}"
    print(f"{package} {version}: {len(module.__all__)} public names, command answers, nothing undeclared")


if __name__ == "__main__":
    smoke(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
