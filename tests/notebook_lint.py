"""What every notebook of the course must keep to; `problems` returns one line for each rule that a notebook breaks."""

import base64
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from PIL import Image

from helpers.course import notebooks
from helpers.workspace import NOTEBOOKS

MAX_BYTES = 600_000
MAX_CLIP_BYTES = 60_000
MAX_WIDTH = 900  # pixels that GitHub gives an output
MIN_FONT = 9
CLIP = re.compile(r"data:video/[\w.+-]+(?:;[^,\"']*)?,([A-Za-z0-9+/=]+)")


def problems(notebook: NotebookNode, path: Path) -> list[str]:
    """Broken rules of the notebook that stands (or would stand) at `path` inside the repository."""
    return [problem for rule in RULES for problem in rule(notebook, path)]


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _markdown(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "markdown"]


def _outputs(notebook: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    for number, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", []):
            yield number, output


def _prose(text: str) -> str:
    """Markdown without code, formulas, addresses and tags, so that its words can be counted."""
    return re.sub(r"```.*?```|\$\$.*?\$\$|`[^`\n]*`|\$[^$\n]+\$|\]\([^)]*\)|<[^>]*>", " ", text, flags=re.DOTALL)


def unanswered(folder: Path) -> list[str]:
    """Exercises of a project's notebooks, such as "03.2", that `solutions.ipynb` does not answer by executed code."""
    asked, answered = [], set()
    for path in sorted(folder.glob("[0-9][0-9]_*.ipynb")):
        text = "\n".join(cell.source for cell in _markdown(notebooks.read(path)))
        exercises = re.search(r"^#+ Exercises$(.*?)(?=^#|^\*\*Next|\Z)", text, re.MULTILINE | re.DOTALL)
        asked += [f"{path.stem[:2]}.{number}" for number in re.findall(r"^(\d+)\. ", exercises[1], re.MULTILINE)]
    open_question = None
    for cell in notebooks.read(folder / f"{notebooks.SOLUTIONS}.ipynb").cells:
        if cell.cell_type == "markdown":
            names = re.findall(r"^(?:#+ |\*\*)(\d\d\.\d+)\b", cell.source, re.MULTILINE)
            open_question = names[-1] if names else open_question
        elif open_question:
            answered.add(open_question)
    return [name for name in asked if name not in answered]


def executed(notebook: NotebookNode, path: Path) -> Iterator[str]:
    counts = [cell.execution_count for cell in _code(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"cells are not executed in order 1..{len(counts)}: {counts}"
    if not any(cell.outputs for cell in _code(notebook)):
        yield "outputs are stripped"


def clean_outputs(notebook: NotebookNode, path: Path) -> Iterator[str]:
    for number, output in _outputs(notebook):
        if output.output_type == "error":
            yield f"cell {number} ends in an error"
        if output.get("name") == "stderr":
            yield f"cell {number} writes to stderr"
        if paths := notebooks.absolute_paths(notebooks.output_text(output)):
            yield f"cell {number} shows the absolute path {paths[0]}"


def clean_sources(notebook: NotebookNode, path: Path) -> Iterator[str]:
    for number, cell in enumerate(notebook.cells, 1):
        if paths := notebooks.absolute_paths(cell.source):
            yield f"cell {number} names the absolute path {paths[0]}"
        if cell.cell_type == "code" and re.search(r"^\s*[!%]", cell.source, re.MULTILINE):
            yield f"cell {number} has a line that begins with ! or %"


def any_backend(notebook: NotebookNode, path: Path) -> Iterator[str]:
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == "code" and re.search(r"\b(import|from) (tensorflow|jax)\b", cell.source):
            yield f"cell {number} imports a backend of Keras: notebooks run on TensorFlow and on JAX"


def size(notebook: NotebookNode, path: Path) -> Iterator[str]:
    if (received := len(nbformat.writes(notebook).encode())) > MAX_BYTES:
        yield f"the file has {received} bytes, allowed are {MAX_BYTES}"


def title(notebook: NotebookNode, path: Path) -> Iterator[str]:
    first = notebook.cells[0]
    if first.cell_type != "markdown" or not first.source.startswith("# "):
        yield "the first cell is no title"
    if notebooks.badge(path) not in first.source:
        yield "the first cell lacks the Colab badge of this file: run python -m helpers badges"


def setup(notebook: NotebookNode, path: Path) -> Iterator[str]:
    if [cell.source for cell in _code(notebook) if "setup" in notebooks.tags(cell)] != [notebooks.setup_cell()]:
        yield "there is not exactly one setup cell as in the template: run python -m helpers badges"


def shape(notebook: NotebookNode, path: Path) -> Iterator[str]:
    kinds = "".join("c" if cell.cell_type == "code" else "." for cell in notebook.cells)
    if path.stem != notebooks.SOLUTIONS and not 25 <= len(kinds) <= 45:
        yield f"has {len(kinds)} cells, allowed are 25 to 45"
    if "ccc" in kinds:
        yield f"has more than two code cells in a row at cell {kinds.index('ccc') + 1}"
    for number, cell in enumerate(notebook.cells, 1):
        limit = 30 if "model" in notebooks.tags(cell) else 20
        if cell.cell_type == "code" and len(cell.source.splitlines()) > limit:
            yield f"cell {number} has {len(cell.source.splitlines())} lines of code, allowed are {limit}"


def length(notebook: NotebookNode, path: Path) -> Iterator[str]:
    if path.stem == notebooks.SOLUTIONS:
        return
    words = sum(len(re.findall(r"\w[\w'’-]*", _prose(cell.source))) for cell in _markdown(notebook))
    most = (
        1600 if path.stem == NOTEBOOKS[-1] else 1400
    )  # the last one also has weights, a look inside, a file of one's own
    if not 500 <= words <= most:
        yield f"has {words} words of text, allowed are 500 to {most}"
    lines = sum(bool(line.strip()) for cell in _code(notebook) for line in cell.source.splitlines())
    if not 80 <= lines <= 231:
        yield f"has {lines} lines of code, allowed are 80 to 231"


def forms(notebook: NotebookNode, path: Path) -> Iterator[str]:
    count = sum(len(re.findall(r"#\s*@param", cell.source)) for cell in _code(notebook))
    if count > 5:
        yield f"has {count} form fields, allowed are 5"


def ending(notebook: NotebookNode, path: Path) -> Iterator[str]:
    text = "\n".join(cell.source for cell in _markdown(notebook))
    if path.stem == notebooks.SOLUTIONS:
        return
    for heading in ("Recap", "Exercises"):
        if not re.search(rf"^#+ .*\b{heading}\b", text, re.MULTILINE):
            yield f"has no heading {heading}"
    if path.stem not in NOTEBOOKS:
        yield f"is not named as one of {', '.join(NOTEBOOKS)}"
    elif path.stem != NOTEBOOKS[-1]:
        following = NOTEBOOKS[NOTEBOOKS.index(path.stem) + 1]
        if f"{following}.ipynb)" not in notebook.cells[-1].source:
            yield f"does not end with a link to {following}.ipynb"


def ignored_outputs(notebook: NotebookNode, path: Path) -> Iterator[str]:
    code = _code(notebook)
    for cell, following in zip(code, [*code[1:], None], strict=True):
        sources = [cell.source, following.source if following else ""]
        asserted = any(re.search(r"^\s*assert\b", source, re.MULTILINE) for source in sources)
        if "nbval-ignore-output" in notebooks.tags(cell) and not asserted:
            yield f"code cell {code.index(cell) + 1} is tagged nbval-ignore-output without an assert in it or the next"


def pictures(notebook: NotebookNode, path: Path) -> Iterator[str]:
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == "markdown" and re.search(r"!\[\s*\]\(|<img(?![^>]*\balt=[\"'][^\"']).*?>", cell.source):
            yield f"cell {number} has a picture without alternative text"


def clips(notebook: NotebookNode, path: Path) -> Iterator[str]:
    pages = [output.get("data", {}).get("text/html", "") for _, output in _outputs(notebook)]
    count = sum(page.count("<video") for page in pages)
    if count > 2:
        yield f"has {count} clips, allowed are 2"
    for clip in CLIP.findall("\n".join(pages)):
        if (received := len(base64.b64decode(clip))) > MAX_CLIP_BYTES:
            yield f"has a clip of {received} bytes, allowed are {MAX_CLIP_BYTES}"


def readable(notebook: NotebookNode, path: Path) -> Iterator[str]:
    for number, cell in enumerate(notebook.cells, 1):
        sizes = re.findall(r"(?:fontsize|labelsize)=(\d+(?:\.\d+)?)", cell.source) if cell.cell_type == "code" else []
        if small := [size for size in sizes if float(size) < MIN_FONT]:
            yield f"cell {number} writes in {small[0]} pt, allowed are {MIN_FONT} and more"
    for number, output in _outputs(notebook):
        for kind in ("image/png", "image/jpeg"):
            if encoded := output.get("data", {}).get(kind):
                width = Image.open(io.BytesIO(base64.b64decode(encoded))).width
                if width > MAX_WIDTH:
                    yield f"cell {number} shows a picture {width} pixels wide, which GitHub shrinks; allowed are {MAX_WIDTH}"


RULES: tuple[Callable[[NotebookNode, Path], Iterator[str]], ...] = (
    executed,
    clean_outputs,
    clean_sources,
    any_backend,
    size,
    title,
    setup,
    shape,
    length,
    forms,
    ending,
    ignored_outputs,
    pictures,
    clips,
    readable,
)
