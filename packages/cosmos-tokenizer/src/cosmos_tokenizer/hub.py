"""Checkpoints of the Hugging Face hub (extra ``hub``), and which network the released repositories hold."""

from collections.abc import Collection, Iterable, Sequence
from fnmatch import filter as matching
from pathlib import Path

from cosmos_tokenizer.config import TokenizerConfig
from cosmos_tokenizer.diffusers_layout import CONFIG_FILE
from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.native import STATISTICS_FILE
from cosmos_tokenizer.presets import PRESETS

Groups = Sequence[Sequence[str]]

_BESIDE = (STATISTICS_FILE, CONFIG_FILE)
_TIMEOUT = 10.0  # Seconds.

# Release (the suffix of a preset's name) to the repositories that hold it.
_REPOSITORIES = {
    "0.1": ("nvidia/Cosmos-0.1-Tokenizer-{}", "nvidia/Cosmos-Tokenizer-{}"),
    "360p": ("nvidia/Cosmos-Tokenize1-{}-360p",),
    "720p": ("nvidia/Cosmos-Tokenize1-{}-720p", "nvidia/Cosmos-1.0-Tokenizer-{}"),
}


def preset_of(repository: str) -> TokenizerConfig | None:
    """Config of a released repository; None for any other."""
    for name, config in PRESETS.items():
        net, _, release = name.rpartition("-")
        # cv8x8x8 is CV8x8x8 there: the crosses stay small.
        published = net[:2].upper() + net[2:]
        if repository in (pattern.format(published) for pattern in _REPOSITORIES.get(release, ())):
            return config
    return None


def download(
    repository: str,
    groups: Groups,
    *,
    subfolder: str = "vae/",
    beside: Sequence[str] = _BESIDE,
    package: str = "cosmos-tokenizer",
) -> Path:
    """Folder with the first of ``groups`` that a repository holds whole, and what lies beside it.

    Only these files are fetched, and of those none that the local cache has. Where the hub does not answer, the first
    group that the cache holds whole is taken.

    Args:
        repository: its id, ``org/name``.
        groups: names of the files of a checkpoint, best first. All but the first of a group may be patterns with
            ``*``, for as many files as there are, one at least.
        subfolder: of the repository, where they may lie too.
        beside: names of files that are fetched with them where they are there.
        package: whose extra ``hub`` is asked for where it is missing.

    Raises:
        InputError: the extra is not installed; there is no such repository, it cannot be reached, or it holds none of
            ``groups``.
    """
    try:
        from huggingface_hub import HfApi, snapshot_download
    except ImportError as error:
        raise InputError(
            f"there is no file or folder {repository}, and to fetch it from the hub huggingface_hub is needed: "
            f'pip install "{package}[hub]"'
        ) from error
    try:
        # One request: to list the tree takes several, each repeated for half a minute where there is no network.
        held = [file.rfilename for file in HfApi().model_info(repository, timeout=_TIMEOUT).siblings or ()]
        wanted = _first_group(held, groups, subfolder, beside)
        if wanted:
            return Path(snapshot_download(repository, allow_patterns=wanted))
    except Exception as error:  # Each version of huggingface_hub raises what another HTTP library does.
        cached = _cached(repository, groups, subfolder, beside)
        if cached is not None:
            return cached
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"there is no file or folder {repository}, and the hub did not give such a repository: {reason}"
        ) from error
    raise InputError(
        f"{repository} on the hub holds no checkpoint: looked for {', or '.join(' and '.join(g) for g in groups)}, "
        f"there and in its {subfolder}"
    )


def _first_group(held: Collection[str], groups: Groups, subfolder: str, beside: Sequence[str]) -> list[str]:
    """Whole paths only: a pipeline's repository also holds gigabytes of other safetensors."""
    for folder in ("", subfolder):
        for group in groups:
            found = [matching(held, folder + name) for name in group]
            if all(found):
                return [name for names in found for name in names] + [
                    folder + name for name in beside if folder + name in held
                ]
    return []


def _cached(repository: str, groups: Groups, subfolder: str, beside: Sequence[str]) -> Path | None:
    """Folder in the cache with the first whole group of those that it holds."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    wanted = [folder + name for folder in ("", subfolder) for group in (*groups, beside) for name in group]
    try:
        paths = {name: try_to_load_from_cache(repository, name) for name in wanted if "*" not in name}
    except HFValidationError:
        return None
    # What is known to be absent has a mark in place of a path.
    held = {name: Path(path) for name, path in paths.items() if isinstance(path, str)}
    held |= _matches(held, wanted)
    first = _first_group(held, groups, subfolder, beside)
    return held[first[0]].parent if first else None


def _matches(held: dict[str, Path], wanted: Iterable[str]) -> dict[str, Path]:
    """Files of the cache whose names match patterns: they lie beside the named ones of their group."""
    folders = {name.rpartition("/")[0]: path.parent for name, path in held.items()}
    found: dict[str, Path] = {}
    for pattern in wanted:
        folder, slash, name = pattern.rpartition("/")
        if "*" in name and folder in folders:
            found |= {f"{folder}{slash}{path.name}": path for path in folders[folder].glob(name)}
    return found
