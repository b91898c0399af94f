"""Notebook files: the cells derived from the public address, the form that is committed, and HTML pages."""

import copy
import html
import os
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from helpers import runtime
from helpers.workspace import disk

PROJECTS = ("temporal_coherence", "circulant_video", "boat_detection", "lip_reading", "face_animation")
SOLUTIONS = "solutions"  # the notebook of a project that answers the exercises of its five
COLAB = "https://colab.research.google.com"
BADGE = re.compile(r"\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)")
DATA_URL = re.compile(r"data:[\w.+/-]+(?:;[\w=.+-]+)*,[A-Za-z0-9+/=%]*")
MACHINE_PATH = re.compile(
    r"(?<![\w.~+-])(?<!\w/)(?:file://)?"
    r"(?:/(?:home|root|tmp|Users|content|work|workspace|mnt|media|opt|private|srv|usr|var)(?![\w.-])|[A-Z]:\\\w)[^\s\"'<>]*"
)
KEPT_CELL_METADATA = ("tags", "cellView", "alt")
KEPT_METADATA = ("accelerator", "colab")  # "T4 preselected" in Colab
MATHJAX = "https://cdnjs.cloudflare.com/ajax/libs/mathjax/2.7.7/latest.js?config=TeX-AMS_CHTML-full,Safe"
CODE_STYLES = ("default", "github-dark")  # of Pygments, on light and on dark
HELD = re.compile(  # code, of which nothing is held; folds; formulas
    r"```(?s:.*?)```|`[^`\n]*`|^(</?details.*)$|\$\$((?s:.+?))\$\$|\$([^\s$][^$\n]*)\$", re.MULTILINE
)
FORMULA = re.compile(r"\$\$|\$[^\s$][^$\n]*\$|\\begin\{|\\\(|\\\[")

# The one copy of the setup cell; whatever the length of the address, ruff format leaves the layout alone.
SETUP = """\
# @title Setup: find the course (in Colab: fetch it first)
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

url = "{url}"
here, name, way = Path.cwd(), url.rsplit("/", 1)[-1], f"open the notebook inside a clone of it: git clone {{url}}"
if "google.colab" in sys.modules and not Path(name).exists():
    done = subprocess.call(f"pip install -q --no-deps remotezip rarfile av; git clone -q --depth 1 {{url}}", shell=True)
    way = f"{{'install git' if done == 127 else f'see that {{url}} opens in a browser'}}, then run this cell again"
root = next((p for p in [here / name, here, *here.parents] if (p / "helpers" / "runtime.py").is_file()), None)
if root is None and ("google.colab" in sys.modules or not (find_spec("helpers") and find_spec("helpers.runtime"))):
    raise FileNotFoundError(f"the course is not here: {{way}}{note}")
sys.path.insert(0, str(root or here))  # no root: it is installed, and found without

from helpers import runtime

runtime.quiet_start()"""
# What the setup cell says besides, while the address is not set.
PLACEHOLDER = "; first put its GitHub account in place of OWNER above"

PAGE = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"><title>{title}</title>
<style>
{css}
body {{ max-width: 46rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 var(--font-stack); overflow-wrap: break-word }}
body {{ color: var(--color-foreground-primary); background: var(--color-background-primary) }}
a {{ color: var(--color-brand-content) }} .note {{ color: var(--color-foreground-secondary) }} .prompt {{ display: none }}
pre, code {{ font: 13px/1.5 var(--font-stack--monospace) }} pre {{ overflow-x: auto; white-space: pre-wrap; margin: .4rem 0 }}
.input_area {{ background: var(--color-background-secondary); border-radius: 6px; padding: .3rem .8rem; margin: .5rem 0 }}
.failed, .output_error {{ color: light-dark(#a00, #ff7575) }} td, th {{ padding: .2rem .7rem }}
</style>{script}</head><body>
{body}
</body></html>
"""


def address() -> tuple[str, str]:
    """The public address of the repository, and its `owner/name`; ValueError unless it is on GitHub, for Colab."""
    url = runtime.repo_url().removesuffix(".git")
    found = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+)", url)
    if not found:
        allowed = "https://github.com/<owner>/<name>"
        raise ValueError(f"pyproject.toml, [project.urls] Repository must be {allowed}. Received: {url!r}")
    return url, found[1]


def take_address() -> str:
    """Write git's remote `origin` into pyproject.toml, from which all addresses are derived; ValueError unless it is on GitHub."""
    root = runtime.repo_root()
    try:
        done = subprocess.run(["git", "remote", "get-url", "origin"], cwd=root, capture_output=True, text=True)
        received = done.stdout.strip() or done.stderr.strip()
    except FileNotFoundError:
        received = "no git"
    found = re.fullmatch(r"(?:https://|ssh://|git@)(?:[^@/]+@)?github\.com[/:]([\w.-]+/[\w.-]+?)(?:\.git)?/?", received)
    if not found:
        raise ValueError(
            f"git remote get-url origin must give an address on GitHub. Received: {received!r}; "
            "type  git remote add origin https://github.com/<owner>/<name>"
        )
    url, path = f"https://github.com/{found[1]}", root / "pyproject.toml"
    text = path.read_text(encoding="utf-8")
    disk.write(path, re.sub(r'^Repository = ".*"$', f'Repository = "{url}"', text, flags=re.MULTILINE))
    return url


def setup_cell(url: str | None = None) -> str:
    """Source of the first code cell of every notebook; `url` is what it clones in Colab, default the public address."""
    url = url or address()[0]
    return SETUP.format(url=url, note=PLACEHOLDER if "/OWNER/" in url else "")


def badge(path: str | os.PathLike) -> str:
    """Markdown of the Colab badge of the notebook at `path`, inside the repository."""
    place = Path(path).resolve().relative_to(runtime.repo_root().resolve()).as_posix()
    return f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({COLAB}/github/{address()[1]}/blob/main/{place})"


def read(path: str | os.PathLike) -> NotebookNode:
    """Read a notebook in format 4."""
    return nbformat.read(path, as_version=4)


def write(notebook: NotebookNode, path: str | os.PathLike) -> None:
    """Write a notebook atomically, with sorted keys, one space of indent and a newline at the end."""
    nbformat.validate(notebook)
    disk.write(path, nbformat.writes(notebook).rstrip("\n") + "\n")


def tags(cell: NotebookNode) -> list[str]:
    """Tags of a cell."""
    return cell.metadata.get("tags", [])


def rewrite_addresses(*, check: bool = False) -> list[str]:
    """Bring badges, links and setup cells of all notebooks, READMEs and CITATION.cff in line with the public address.

    An address that a Colab link still carries is an old one: it is replaced where READMEs and markdown cells name it.
    ValueError: a notebook has no title cell or no cell tagged `setup`.
    Returns the files that differ, relative to the repository's root; with `check` nothing is written.
    """
    root = runtime.repo_root()
    files = [root / name for name in ("README.md", "CITATION.cff", "data_manifests/weights.yaml")]
    files += sorted(root.glob("notebooks/*/README.md"))
    texts = {path: path.read_text(encoding="utf-8") for path in files if path.is_file()}
    notebooks = {path: read(path) for path in sorted(root.glob("notebooks/*/*.ipynb"))}
    cells = [cell.source for notebook in notebooks.values() for cell in notebook.cells if cell.cell_type == "markdown"]
    links = re.findall(rf"{COLAB}/github/([\w.-]+/[\w.-]+)/blob/", "\n".join([*texts.values(), *cells]))
    old = sorted(set(links) - {address()[1]})
    new = {path: made for path, text in texts.items() if (made := _readdress(text, old)) != text}
    changed = {path: notebook for path, notebook in notebooks.items() if _rewrite_notebook(notebook, path, old)}
    if not check:
        for path, text in new.items():
            disk.write(path, text)
        for path, notebook in changed.items():
            write(notebook, path)
    return [path.relative_to(root).as_posix() for path in (*new, *changed)]


def _readdress(text: str, old: list[str]) -> str:
    new = address()[1]
    for name in old:
        text = text.replace(*("https://{}.github.io/{}/".format(*one.split("/")) for one in (name, new)))  # the site
        text = re.sub(rf"(github(?:usercontent)?(?:\.com)?/){re.escape(name)}(?![\w-])", rf"\g<1>{new}", text)
        text = re.sub(rf"\bcd {re.escape(name.split('/')[1])}(?![\w-])", f"cd {new.split('/')[1]}", text)
    return text


def _rewrite_notebook(notebook: NotebookNode, path: Path, old: list[str]) -> bool:
    """Rewrite title and setup cell of a notebook in memory; whether anything changed."""
    before = [cell.source for cell in notebook.cells]
    setups = [cell for cell in notebook.cells if cell.cell_type == "code" and "setup" in tags(cell)]
    if len(setups) != 1 or notebook.cells[0].cell_type != "markdown":
        raise ValueError(
            f"{path.parent.name}/{path.name} has {len(setups)} code cells tagged setup and begins with a "
            f"{notebook.cells[0].cell_type} cell; expected one, and a markdown cell with the title first"
        )
    setups[0].source = setup_cell()
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _readdress(cell.source, old)
    title = notebook.cells[0]
    if BADGE.search(title.source):
        title.source = BADGE.sub(lambda _: badge(path), title.source, count=1)
    else:
        heading, _, rest = title.source.partition("\n")
        title.source = f"{heading}\n\n{badge(path)}\n{rest}".rstrip("\n")
    return before != [cell.source for cell in notebook.cells]


def normalise(notebook: NotebookNode) -> NotebookNode:
    """A copy of an executed notebook in the form that is committed: no times, no versions; ids and outputs kept."""
    notebook = copy.deepcopy(notebook)
    kept = {key: notebook.metadata[key] for key in KEPT_METADATA if key in notebook.metadata}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = NotebookNode(kept, kernelspec=NotebookNode(kernel), language_info=NotebookNode(name="python"))
    for cell in notebook.cells:
        cell.metadata = NotebookNode({key: cell.metadata[key] for key in KEPT_CELL_METADATA if key in cell.metadata})
    return notebook


def absolute_paths(text: str) -> list[str]:
    """Absolute paths of some machine found in `text`, whose data URLs are left aside."""
    return MACHINE_PATH.findall(DATA_URL.sub("", text))


def output_text(output: NotebookNode) -> str:
    """What a reader can read in an output: stream, text forms of data, or traceback; pictures left out."""
    texts = [text for kind, text in output.get("data", {}).items() if not kind.startswith("image/")]
    texts += [output.get("text", ""), *output.get("traceback", [])]
    return "\n".join(str(text) for text in texts)


def refusals(notebook: NotebookNode, folders: tuple[Path, ...] = ()) -> list[str]:
    """Why a notebook cannot be committed: a line for each output with stderr, an error, or a path here or in `folders`."""
    known = [str(folder) for folder in (runtime.repo_root(), Path.home(), *folders) if len(folder.parts) > 1]
    found = []
    for number, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", []):
            text = output_text(output)
            paths = absolute_paths(text) + [folder for folder in known if folder in text]
            if output.output_type == "error":
                found.append(f"cell {number}: ends in {output.ename}")
            elif output.get("name") == "stderr":
                found.append(f"cell {number}: writes to stderr: {text.strip()[:200]}")
            elif paths:
                found.append(f"cell {number}: shows an absolute path: {paths[0]}")
    return found


def save(notebook: NotebookNode, path: str | os.PathLike, folders: tuple[Path, ...] = ()) -> None:
    """Write an executed notebook in place, normalised for committing; or ValueError names its `refusals`, and the file stays."""
    if problems := refusals(notebook, folders):
        raise ValueError("\n  ".join([f"{Path(path).name} is not saved:", *problems]))
    write(normalise(notebook), path)


def describe_outputs(notebook: NotebookNode) -> None:
    """Give every cell that has none a text in place of its pictures, `alt` in its metadata: the heading above it."""
    heading = "the title"
    for cell in notebook.cells:
        headings = re.findall(r"^#+\s+(.+)", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else []
        heading = headings[-1] if headings else heading
        cell.metadata.setdefault("alt", f"output below the heading {heading}")


def mathml(tex: str, *, block: bool = False) -> str:
    """A formula as MathML, which a browser sets without any script; needs docutils."""
    from docutils.utils.math.latex2mathml import tex2mathml

    tex = re.sub(r"(\\[dt]?frac)\s*(\d)\s*(\d)", r"\1{\2}{\3}", tex)  # docutils would take 12 for the first argument
    return re.sub(r"\s*\n\s*", "", tex2mathml(tex, as_block=block))


def _hold(text: str, held: list[str]) -> str:
    """Markdown with a word in place of every fold and formula, since nbconvert closes a tag at once; `held` gets their HTML."""

    def hold(found: re.Match) -> str:
        fold, block, line = found.groups()
        if not fold and not (find_spec("docutils") and (block or line)):
            return found[0]
        held.append(fold or mathml(block or line, block=bool(block)))
        return f"HELD{len(held) - 1}X"

    return HELD.sub(hold, text)


def render(notebook: NotebookNode, *, folder: Path, tag: str | None = None) -> str:
    """HTML of a notebook's cells, readable offline: pictures, from `folder`, embedded, those of the network replaced by their text.

    With a `tag` only the outputs of the cells that have it, without their code.
    """
    import bs4
    from nbconvert import HTMLExporter

    notebook = normalise(notebook)
    describe_outputs(notebook)
    held: list[str] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _hold(cell.source, held)
    notebook.cells = [cell for cell in notebook.cells if tag is None or (tag in tags(cell) and "outputs" in cell)]
    if not notebook.cells:
        return ""
    options = {"template_name": "basic", "embed_images": True, "exclude_anchor_links": True, "exclude_input": bool(tag)}
    text, _ = HTMLExporter(**options).from_notebook_node(notebook, resources={"metadata": {"path": str(folder)}})
    text = re.sub(r"<p>HELD(\d+)X</p>|HELD(\d+)X", lambda found: held[int(found[1] or found[2])], text)
    soup = bs4.BeautifulSoup(text, "html.parser")
    for picture in soup.find_all("img", src=lambda src: not str(src).startswith("data:")):
        picture.replace_with(picture.get("alt") or "picture")
    for outside in soup.find_all(["script", "iframe", "link"]):
        if str(outside.get("src", outside.get("href", ""))).startswith(("http", "//")):
            outside.decompose()
    for style in soup.find_all("style", string=re.compile(r"^pre \{")):  # IPython's colours, for white paper only
        style.decompose()
    for link in soup.find_all("a", href=re.compile(r"^[\w-]+\.ipynb$")):
        link["href"] = link["href"].replace(".ipynb", ".html")
    return str(soup)


def page(title: str, body: str, *, formulas: bool = False) -> str:
    """A whole HTML page around `body`; only one with formulas names a script of the network, and says so."""
    from pygments.formatters import HtmlFormatter

    script = ""
    if formulas and not find_spec("docutils"):
        settings = 'MathJax.Hub.Config({tex2jax: {inlineMath: [["$", "$"]]}})'
        script = f'<script type="text/x-mathjax-config">{settings}</script><script async src="{MATHJAX}"></script>'
        body = f'<p class="note">Formulas are typeset over the network; offline they read as LaTeX.</p>\n{body}'
    light, dark = (HtmlFormatter(style=style).get_style_defs(".highlight") for style in CODE_STYLES)
    look = (Path(__file__).resolve().parents[2] / "notebooks" / "_site" / "look.css").read_text(encoding="utf-8")
    css = (
        f"{look}{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n.highlight {{ background: none !important }}"
    )
    return PAGE.format(title=html.escape(title), css=css, script=script, body=body)


def has_formulas(notebook: NotebookNode) -> bool:
    """Whether a markdown cell or an output holds LaTeX; what stands in backticks does not count."""
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    texts = [re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL) for text in texts]
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return any(FORMULA.search(text) for text in texts) or any("text/latex" in o.get("data", {}) for o in outputs)
