"""The configurations that come with vidkd: `configs/` of a checkout, the package `vidkd.configs` of an installation."""

from pathlib import Path

import vidkd
from vidkd.base.errors import ConfigError, nearest

SUFFIX = ".yaml"


def shipped_folder() -> Path:
    """The folder of all shipped configurations."""
    package = Path(vidkd.__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def shipped_names() -> list[str]:
    """Their names, as `attention/folder`, sorted."""
    folder = shipped_folder()
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob(f"*{SUFFIX}"))


def shipped_config(name: str) -> Path:
    """The file of a shipped configuration, named as `attention/folder` or `configs/attention/folder.yaml`. Raises ConfigError."""
    plain = name.removeprefix("configs/").removesuffix(SUFFIX)
    path = shipped_folder() / f"{plain}{SUFFIX}"
    if plain not in shipped_names():
        close = nearest(plain, shipped_names())
        raise ConfigError(f"no shipped config '{name}'", **({"did_you_mean": close} if close else {}), all_names="vidkd config ls")
    return path


def find_config(name: Path | str) -> Path:
    """The file of this name, or where there is none the shipped configuration of this name; otherwise the name, for whoever reads it."""
    plain = str(name).removeprefix("configs/").removesuffix(SUFFIX)
    if not Path(name).exists() and not Path(name).is_absolute() and plain in shipped_names():
        return shipped_config(plain)
    return Path(name)
