"""What OpenAV's command prints before it works: what this program is, and the versions of the libraries, unless hidden."""

import os
import tomllib

from helpers import config, runtime
from helpers.lip_reading.config import LipReadingConfig


def greeting(path: str | os.PathLike) -> str:
    """The lines for a config file; `hide_metadata` and `hide_libs_vers` leave their part out.

    Raises:
        ValueError: one error with all problems of the file.
    """
    return describe(config.load(path, LipReadingConfig))


def describe(settings: LipReadingConfig) -> str:
    """The lines for a config: a name, a line about it, its licence; then one line a library."""
    parts = []
    if not settings.hide_metadata:
        told = tomllib.loads((runtime.repo_root() / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        parts.append(f"{told['name']} {told['version']}: {told['description']}\nlicence: {told['license']}")
    if not settings.hide_libs_vers:
        parts.append("\n".join(f"{name:<24} {version}" for name, version in runtime.versions().items()))
    return "\n\n".join(parts)
