"""The course as a site: READMEs and committed notebooks become pages (Sphinx, MyST-NB, Furo), and nothing is run.

Settings and looks stand in `notebooks/_site`. The sources of the pages are written into a folder of their own first: README.md
is cut into pages, links lead to pages or into the public repository, answers to exercises are folded.
"""

import posixpath
import re
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from helpers import runtime
from helpers.course import notebooks

NEEDED = ("sphinx", "myst_nb", "furo")
PAGES = {
    "results": "What you will learn",
    "glossary": "Glossary",
    "credit": "Licence and credit",
}  # sections of README.md
REST = "guide"  # the page of all its other sections
PICTURES = (".gif", ".jpg", ".png", ".svg", ".webp")
LINK = re.compile(r"```.*?```|`[^`\n]*`|(?<=\]\()([^)\s]+)(?=\))", re.DOTALL)  # in code nothing is a link
WORD = re.compile(r"^\| (.+?) \| (.+?) \| \[(\w+)\]\((\w+\.ipynb)\) \|$", re.MULTILINE)
TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
PROJECT = re.compile(
    r"^\| <a .+</a> \| \*\*\[(.+?)\]\((notebooks/\w+)/README\.md\)\*\*: (.+?)<br>(.+?) \|$", re.MULTILINE
)
START = re.compile(r"^(?:#+ (?:\d\d\.\d+)?|\*\*\d\d\.\d+)", re.MULTILINE)  # of a heading or of an exercise


def build(out: Path | None) -> int:
    """Build the site into the folder `out`, in place of an older one; returns 1 after a warning, such as a link that leads nowhere.

    ValueError: a package is missing, `out` holds something else, or a link names no file.

    Args:
        out: None: no page is kept, but every address of others that the pages name is asked.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise ValueError(f"the site needs {', '.join(missing)}: type  pip install -r tests/requirements.txt")
    from sphinx.cmd.build import main

    if out and out.is_dir() and any(out.iterdir()) and not (out / ".buildinfo").is_file():
        raise ValueError(f"{out} holds other files than a site; give --out a new or empty folder")
    with tempfile.TemporaryDirectory(prefix="site-") as scratch:
        pages, made = Path(scratch) / "pages", Path(scratch) / "made"
        Sources(pages).write()
        options = f"-q -W --keep-going -b {'html' if out else 'linkcheck'} -c".split()
        code = main([*options, str(runtime.repo_root() / "notebooks" / "_site"), str(pages), str(made)])
        if out and not code:
            _replace(out, made)
    done = f"site: {out / 'index.html'}" if out else "all addresses answer"
    print("the pages have the faults named above" if code else done, flush=True)
    return int(code != 0)


def _replace(out: Path, made: Path) -> None:
    """Put the finished site in the place of an older one; a kill leaves one of them, or what is left is named `.old`."""
    new, old = (out.with_name(f"{out.name}.{word}") for word in ("new", "old"))
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    shutil.copytree(made, new, ignore=shutil.ignore_patterns(".doctrees", "_sources"))
    if out.exists():
        out.rename(old)
    new.rename(out)
    shutil.rmtree(old, ignore_errors=True)


class Sources:
    """The sources of the pages, written into `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root, self.url = folder, runtime.repo_root(), notebooks.address()[0]
        self.top = cut((self.root / "README.md").read_text(encoding="utf-8"))
        headings = {name: re.findall(r"^#+ (.+)", text, re.MULTILINE) for name, text in self.top.items()}
        self.anchors = {slug(title): f"{name}.md" for name, titles in headings.items() for title in titles}

    def write(self) -> None:
        """Write the sources of all pages."""
        places = {project: self.root / "notebooks" / project / "README.md" for project in notebooks.PROJECTS}
        readmes = {project: path.read_text(encoding="utf-8") for project, path in places.items()}
        self.top["index"] = TABLE.sub(lambda table: _cards(table[0], readmes), self.top["index"], count=1)
        self.top["glossary"] = _glossary(readmes)
        for name, text in self.top.items():
            self._write(f"{name}.md", self.text(text, "README.md"))
        more = [path.relative_to(self.root).as_posix() for path in sorted((self.root / "notebooks").glob("*.md"))]
        for place in more:
            self._write(_page(place), self.text((self.root / place).read_text(encoding="utf-8"), place))
        titles = [f"{_title(text).partition(':')[0]} <{project}/index>" for project, text in readmes.items()]
        with (self.folder / "index.md").open("a", encoding="utf-8") as file:
            names = [*self.top, *(_page(place).removesuffix(".md") for place in more)]
            file.write(_contents([name for name in names if name != "index"]) + _contents(titles, "Projects"))
        for project, text in readmes.items():
            self._write_project(project, text)

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text, encoding="utf-8")

    def _write_project(self, project: str, readme: str) -> None:
        """README, notebooks and other Markdown files of a project, with the list of them."""
        home, name, entries = self.root / "notebooks" / project, _title(readme).partition(":")[0], []
        for path in sorted(home.rglob("*.ipynb")) + sorted(home.rglob("*.md")):
            place = path.relative_to(self.root).as_posix()
            text = path.read_text(encoding="utf-8")
            if path.suffix == ".ipynb":
                notebook = self.notebook(path)
                text, title = notebooks.nbformat.writes(notebook), _title(notebook.cells[0].source)
            else:
                text, title = self.text(text, place), _title(text)
            if path != home / "README.md":
                short = title.removeprefix(name).lstrip(": ")
                entries.append(f"{short[0].upper()}{short[1:]} <{path.relative_to(home).with_suffix('').as_posix()}>")
                self._write(_page(place), text)
        self._write(f"{project}/index.md", self.text(readme, f"notebooks/{project}/README.md") + _contents(entries))

    def notebook(self, path: Path) -> NotebookNode:
        """A notebook whose links, alternative texts and folded cells are those of its page."""
        notebook, place = notebooks.read(path), path.relative_to(self.root).as_posix()
        notebooks.describe_outputs(notebook)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = self.text(cell.source, place)
                continue
            cell.metadata["mystnb"] = {"image": {"alt": cell.metadata["alt"]}}
            if found := re.match(r"# @title (.+)", cell.source):
                cell.metadata["mystnb"] |= {"code_prompt_show": found[1], "code_prompt_hide": found[1]}
                cell.metadata["tags"] = [*notebooks.tags(cell), "hide-input"]
        if path.stem == notebooks.SOLUTIONS:
            fold(notebook)
        return notebook

    def text(self, text: str, place: str) -> str:
        """Markdown of the file at `place` in the repository with the links of its page; the badge becomes two links."""
        here = f" · [This page on GitHub]({self.url}/blob/main/{place})" if place.endswith(".ipynb") else ""
        text = notebooks.BADGE.sub(lambda badge: "[Open in Colab](" + badge[0].rsplit("](")[-1] + here, text)
        return LINK.sub(lambda found: self.link(found[1], place) if found[1] else found[0], text)

    def link(self, link: str, place: str) -> str:
        """Where a link of the file at `place` leads on the site, pictures brought along; ValueError where there is no such file."""
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link) or (not path and place != "README.md"):
            return link
        target = posixpath.normpath(posixpath.join(posixpath.dirname(place), path)) if path else place
        page = self.anchors.get(anchor) if target == "README.md" and anchor else _page(target)
        if target.startswith("..") or not (self.root / target).exists() or (target == "README.md" and not page):
            raise ValueError(f"{place} links to {link}, which is not in the repository: correct the link")
        if page is None:
            return f"{self.url}/{'tree' if (self.root / target).is_dir() else 'blob'}/main/{target}"
        if target.endswith(PICTURES):
            (self.folder / page).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.root / target, self.folder / page)
        return posixpath.relpath(page, posixpath.dirname(_page(place)) or ".") + f"#{anchor}" * bool(anchor)


def cut(readme: str) -> dict[str, str]:
    """README.md as pages by name: `index` has what stands before its sections, `guide` the sections that are no page."""
    head, *sections = re.split(r"^## ", readme, flags=re.MULTILINE)
    names = {title: name for name, title in PAGES.items()}
    pages = {"index": head, "results": "", REST: "# Run and use the course\n\n", "glossary": "", "credit": ""}
    for section in sections:
        name = names.get(section.partition("\n")[0], REST)
        section = f"## {section}"
        pages[name] += section if name == REST else re.sub(r"^#(#+ )", r"\1", section, flags=re.MULTILINE)
    return pages


def slug(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def fold(notebook: NotebookNode) -> None:
    """Fold what follows each exercise of a notebook of solutions, up to the next exercise or heading."""
    is_open = False
    for cell in notebook.cells:
        starts = list(START.finditer(cell.source)) if cell.cell_type == "markdown" else []
        if starts:
            first, exercise = starts[0].start(), starts[-1][0][-1].isdigit()
            end = "</details>\n\n" if is_open else ""
            begin = '\n\n<details class="answer"><summary>Answer</summary>\n' if exercise else ""
            cell.source = cell.source[:first] + end + cell.source[first:] + begin
            is_open = exercise
    if is_open:
        notebook.cells.append(new_markdown_cell("</details>"))


def _page(place: str) -> str | None:
    """Name of the page, or of the picture, that a file of the repository becomes; None if it becomes none."""
    if place == "README.md":
        return "index.md"
    if not place.startswith("notebooks/") or not place.endswith((".md", ".ipynb", *PICTURES)):
        return None
    return re.sub(r"README\.md$", "index.md", place.removeprefix("notebooks/"))


def _title(text: str) -> str:
    return re.search(r"^# (.+)", text, re.MULTILINE)[1]


def _contents(entries: list[str], caption: str = "") -> str:
    """A hidden list of pages, which the navigation shows."""
    options = ":hidden:\n" + f":caption: {caption}\n" * bool(caption)
    return f"\n\n```{{toctree}}\n{options}\n" + "\n".join(entries) + "\n```\n"


def _cards(table: str, readmes: dict[str, str]) -> str:
    """README's table of projects as cards with a moving picture each."""
    cards = []
    for title, folder, what, links in PROJECT.findall(table):
        alt, picture = re.search(r"!\[(.+?)\]\((\S+?)\)", readmes[posixpath.basename(folder)]).groups()
        image, name = f"[![{alt}]({folder}/{picture})]({folder}/README.md)", f"[{title}]({folder}/README.md)"
        cards.append(f'<div class="card">\n\n{image}\n\n**{name}**: {what}.\n\n{links}\n\n</div>\n')
    return '<div class="cards">\n\n' + "\n".join(cards) + "\n</div>\n"


def _glossary(readmes: dict[str, str]) -> str:
    """The words of all projects in one table, each with its line and the notebook that shows it."""
    rows = []
    for project, readme in readmes.items():
        place = f"[{_title(readme).partition(':')[0]}, {{}}](notebooks/{project}/{{}})"
        rows += [f"| {word} | {line} | {place.format(*shown)} |" for word, line, *shown in WORD.findall(readme)]
    rows.sort(key=lambda row: re.sub(r"\W", "", row.split("|")[1]).lower())
    return "\n".join(["# Glossary", "", "| word | in a line | shown in |", "|---|---|---|", *rows]) + "\n"
