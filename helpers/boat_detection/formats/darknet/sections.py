"""The text of a Darknet .cfg file, cut into sections whose every option knows its line.

Darknet's own parser: white space means nothing, `#` and `;` begin a comment, the first of two equal keys wins.
What a kind of section means is in `layer_kinds`, its Keras layers in `builder`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

MARKERS = ("<<<<<<<", "|||||||", "=======", ">>>>>>>")  # git leaves them where a merge was not finished


@dataclass(frozen=True)
class Section:
    """One `[kind]` of a file."""

    kind: str  # what stands between the brackets, in lower case
    line: int  # line number of the bracket, from 1
    options: dict[str, str]  # key to text, without blanks
    lines: dict[str, int]  # key to line number
    source: str  # name of the file, for messages

    def error(self, message: str, key: str | None = None) -> ValueError:
        """An error that names file, line and section, and the option if there is one."""
        what = f" {key}={self.options[key]}" if key in self.options else ""
        return ValueError(f"{self.source}, line {self.lines.get(key, self.line)}, [{self.kind}]{what}: {message}")

    def integer(self, key: str, default: int | None = None, *, least: int = 0) -> int:
        """The value of `key` as an int of at least `least`; without a default the key is needed."""
        value = self._read(key, default, int, "an integer")
        if value < least:
            raise self.error(f"must be at least {least}", key)
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """The value of `key` as a float; without a default the key is needed."""
        return self._read(key, default, float, "a number")

    def numbers(self, key: str, default: tuple | None = None, *, kind: Callable = float) -> tuple:
        """The comma-separated values of `key`, each read by `kind`; without a default the key is needed."""
        return self._read(
            key, default, lambda text: tuple(kind(part) for part in text.strip(",").split(",")), "numbers with commas"
        )

    def _read(self, key: str, default: Any, convert: Callable[[str], Any], wanted: str) -> Any:
        if key not in self.options:
            if default is None:
                raise self.error(f"the option {key} is missing; expected {key}=<{wanted}>")
            return default
        try:
            return convert(self.options[key])
        except ValueError:
            raise self.error(f"expected {wanted}", key) from None


def parse_sections(text: str, source: str = "cfg") -> list[Section]:
    """Cut the text of a whole .cfg file into its sections; `source` is its name, for messages.

    Raises:
        ValueError: unresolved merge markers, or a line that is neither `[section]` nor `key=value`; names the line.
    """
    lines = text.split("\n")
    _refuse_markers(lines, source)
    sections: list[Section] = []
    for number, raw in enumerate(lines, 1):
        line = re.sub(r"\s", "", re.split("[#;]", raw)[0]).strip("\0\ufeff")
        key, equals, value = line.partition("=")
        if line.startswith("[") and line.endswith("]"):
            sections.append(Section(line[1:-1].lower(), number, {}, {}, source))
        elif equals and key and sections:
            sections[-1].options.setdefault(key, value)
            sections[-1].lines.setdefault(key, number)
        elif line:
            where = f" in [{sections[-1].kind}]" if sections else ""
            raise ValueError(
                f"{source}, line {number}{where}: expected [section] or key=value, received {raw.strip()!r}"
            )
    return sections


def _refuse_markers(lines: list[str], source: str) -> None:
    found = [number for number, line in enumerate(lines, 1) if line.startswith(MARKERS)]
    if found:
        raise ValueError(
            f"{source}, line {found[0]}: unresolved merge marker {lines[found[0] - 1].strip()!r} (markers stand in lines "
            f"{', '.join(map(str, found))}); keep one version of each part, delete the markers, and read the file again"
        )


def convert(text: str) -> int | float | str | tuple:
    """The text of an option as int, float or a tuple of them where it reads so, else as it is."""
    if "," in text:
        return tuple(convert(part) for part in text.strip(",").split(","))
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def format_sections(sections: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    """The text of a .cfg file, from pairs of kind and options; a tuple of values is written with commas."""

    def line(key: str, value: Any) -> str:
        return f"{key}={','.join(map(str, value)) if isinstance(value, tuple | list) else value}"

    blocks = [
        "\n".join([f"[{kind}]", *(line(*option) for option in options.items())]) + "\n" for kind, options in sections
    ]
    return "\n".join(blocks)
