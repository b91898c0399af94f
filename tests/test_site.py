"""The site and the report: what notebooks and READMEs hold arrives, every link leads somewhere, and a browser shows it all."""

import base64
import hashlib
import posixpath
import re
import subprocess
import sys
import urllib.parse

import browser
import bs4
import notebook_lint
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from helpers import runtime
from helpers.course import notebooks, runner, site

ROOT = runtime.repo_root()
NOTEBOOKS = sorted(ROOT.glob("notebooks/*/*.ipynb"))
SOLUTIONS = sorted(ROOT.glob("notebooks/*/solutions.ipynb"))
KINDS = ["index.html", "results.html", "guide.html", "glossary.html", "boat_detection/index.html"]
KINDS += ["face_animation/04_evaluate.html", "lip_reading/solutions.html", "search.html?q=boat"]
HEADINGS = ["h1", "h2", "h3"]
OUTSIDE = re.compile(r"^(?:https?:)?//")
LOADS = {
    "img": "src",
    "script": "src",
    "iframe": "src",
    "video": "src",
    "source": "src",
    "object": "data",
    "link": "href",
}


def name(path):
    return f"{path.parent.name}/{path.stem}"


class Built:
    """The site, read by an HTML parser of others."""

    def __init__(self, folder, done):
        self.folder, self.done = folder, done
        self.pages = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.html")}
        self.parsed = {}

    def page(self, name):
        if name not in self.parsed:
            self.parsed[name] = bs4.BeautifulSoup(self.pages[name].read_text(encoding="utf-8"), "html.parser")
        return self.parsed[name]

    def of(self, path):
        return self.page(f"{path.parent.name}/{path.stem}.html").find("article")


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    for package in site.NEEDED:
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("site") / "out"
    command = [sys.executable, "-m", "helpers", "site", "--out", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    return Built(folder, done)


def words(text):
    return set(re.findall(r"\w{3,}", text))


# ---- what is built ----


def test_it_is_built_without_a_warning(built):
    assert (built.done.returncode, built.done.stderr) == (0, "")
    assert built.done.stdout == f"site: {built.folder / 'index.html'}\n"


def test_every_file_has_its_page(built):
    expected = {f"{name(path)}.html" for path in NOTEBOOKS} | {
        f"{project}/index.html" for project in notebooks.PROJECTS
    }
    expected |= {"index.html", "results.html", "guide.html", "glossary.html", "credit.html", "search.html"}
    assert expected <= set(built.pages)


def test_projects_stand_in_order_with_their_pictures(built):
    cards = built.page("index.html").select(".cards .card")
    links = [card.find("a")["href"] for card in cards]
    assert links == [f"{project}/index.html" for project in notebooks.PROJECTS]
    assert all((built.folder / card.find("img")["src"]).is_file() for card in cards)
    entries = [link["href"] for link in built.page("glossary.html").select(".sidebar-tree a.reference")]
    assert [entry for entry in entries if entry.endswith("/index.html")] == links


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_words_figures_and_clips_of_a_notebook_arrive(built, path):
    notebook, page = notebooks.read(path), built.of(path)
    text = page.get_text(" ")
    said = " ".join(
        notebook_lint._prose(notebooks.BADGE.sub("", cell.source)) for cell in notebook_lint._markdown(notebook)
    )
    assert words(said) - words(text) == set()
    data = [output.get("data", {}) for _, output in notebook_lint._outputs(notebook)]
    figures = [base64.b64decode(one[kind]) for one in data for kind in ("image/png", "image/jpeg") if kind in one]
    shown = [built.folder / path.parent.name / image["src"] for image in page.select(".cell_output img")]
    assert [hashlib.sha256(one.read_bytes()).digest() for one in shown] == [hashlib.sha256(o).digest() for o in figures]
    clips = [clip for one in data for clip in notebook_lint.CLIP.findall(one.get("text/html", ""))]
    assert [notebook_lint.CLIP.search(video["src"])[1] for video in page.find_all("video")] == clips
    printed = [output.text for _, output in notebook_lint._outputs(notebook) if output.get("name") == "stdout"]
    assert words(" ".join(printed)) - words(text) == set()
    assert len(page.select("table.dataframe")) == sum(
        one.get("text/html", "").count('class="dataframe') for one in data
    )


def test_every_section_of_the_readme_is_on_a_page(built):
    readme = (ROOT / "README.md").read_text(encoding="utf-8").split("## Glossary")[0]
    pages = [built.page(f"{name}.html").find("article") for name in ("index", "results", "guide")]
    shown = " ".join(
        [page.get_text(" ") for page in pages] + [one["alt"] for page in pages for one in page.find_all("img")]
    )
    assert words(notebook_lint._prose(notebooks.BADGE.sub("", readme))) - words(shown) == set()


def test_the_glossary_has_every_word_with_its_line(built):
    listed = (ROOT / "README.md").read_text(encoding="utf-8").split("## Glossary")[1].split("\n## ")[0]
    expected = sorted(word.replace("`", "") for word in re.findall(r"\[([^\]]+)\]\(notebooks/", listed))
    rows = [row.find_all("td") for row in built.page("glossary.html").select("tbody tr")]
    assert sorted(row[0].get_text() for row in rows) == expected
    assert all(row[1].get_text().strip() and row[2].find("a") for row in rows)


@pytest.mark.parametrize("path", SOLUTIONS, ids=name)
def test_answers_are_folded_and_exercises_are_not(built, path):
    page, exercises = built.of(path), []
    for cell in notebooks.read(path).cells:
        exercises += re.findall(r"^(?:#+ |\*\*)(\d\d\.\d)", cell.source, re.MULTILINE)
    answers = page.select("details.answer")
    assert len(answers) == len(exercises) > 10
    assert all([one.get_text() for one in answer.find_all("summary")] == ["Answer"] for answer in answers)  # no hint
    assert not any(answer.find(["h2", "h3"]) for answer in answers)
    first = answers[0]
    outside = [
        cell for cell in first.find_all_next("div", class_="cell_input") if not cell.find_parent(class_="answer")
    ]
    assert outside == [] and len(first.find_all_next("div", class_="cell_input")) >= len(answers)


def test_what_stands_between_exercises_belongs_to_the_answer():
    cells = [new_markdown_cell("# T\n\n## 00\n\n**00.1 Why?**"), new_code_cell("1")]
    cells += [new_markdown_cell("Because.\n\n## 01\n\n**01.1 How?**"), new_code_cell("2"), new_markdown_cell("So.")]
    notebook = new_notebook(cells=cells)
    site.fold(notebook)
    text = "\n\n".join(cell.source for cell in notebook.cells)
    parts = re.findall(r"<details class=\"answer\"><summary>Answer</summary>(.*?)</details>", text, re.DOTALL)
    assert [part.split() for part in parts] == [["1", "Because."], ["2", "So."]]
    assert text.index("</details>") < text.index("## 01")


# ---- links, and what is loaded ----


def test_every_link_and_anchor_leads_somewhere(built):
    public, lost, count = notebooks.address()[0], [], 0
    for page in built.pages:
        for link in built.page(page).find_all("a", href=True):
            address, anchor = urllib.parse.urldefrag(link["href"])
            place = re.match(rf"{re.escape(public)}/(?:blob|tree)/main/(.+)", address)
            if place and not (ROOT / place[1]).exists():
                lost.append((page, link["href"]))
            if re.match(r"[a-z]+:", address):
                continue
            count += 1
            target = (
                posixpath.normpath(posixpath.join(posixpath.dirname(page), urllib.parse.unquote(address)))
                if address
                else page
            )
            there = target in built.pages or (built.folder / target).is_file()
            if not there or (anchor and not built.page(target).find(id=urllib.parse.unquote(anchor))):
                lost.append((page, link["href"]))
    assert lost == [] and count > 1000


def outside(page):
    found = [tag[LOADS[tag.name]] for tag in page.find_all(LOADS) if OUTSIDE.match(tag.get(LOADS[tag.name], ""))]
    return found + [tag["srcset"] for tag in page.find_all(srcset=True)]


def test_nothing_is_loaded_from_elsewhere(built):
    assert [(page, found) for page in built.pages if (found := outside(built.page(page)))] == []
    styles = [path.read_text(encoding="utf-8") for path in built.folder.rglob("*.css")]
    styles += [tag.get_text() for page in built.pages for tag in built.page(page).find_all("style")]
    assert len(styles) > 5
    for style in styles:
        assert not re.search(r"url\(\s*[\"']?(?:https?:)?//|@import", style)


def test_pictures_and_clips_have_texts(built):
    pictures = [image for page in built.pages for image in built.page(page).find_all("img")]
    assert len(pictures) > 100 and all(image.get("alt", "").strip() for image in pictures)
    figures = [image for path in NOTEBOOKS for image in built.of(path).select(".cell_output img")]
    wordless = [one["alt"] for one in figures if not words(one.find_previous(HEADINGS).get_text()) <= words(one["alt"])]
    assert len(figures) > 90 and wordless == []
    clips = [clip for path in NOTEBOOKS for clip in built.of(path).find_all("video")]
    assert len(clips) > 9 and all(clip["aria-label"] for clip in clips)


BAD_LINKS = [
    ("nowhere.md", "README.md"),
    ("#nowhere", "README.md"),
    ("../../README.md#nowhere", "notebooks/lip_reading/README.md"),
    ("05_more.ipynb", "notebooks/lip_reading/04_evaluate.ipynb"),
    ("../../../../etc/passwd", "notebooks/lip_reading/README.md"),
]


@pytest.mark.parametrize(("link", "place"), BAD_LINKS)
def test_a_link_to_no_file_is_refused(tmp_path, link, place):
    with pytest.raises(
        ValueError, match=f"{re.escape(place)} links to {re.escape(link)}, which is not in the repository"
    ):
        site.Sources(tmp_path).link(link, place)


GOOD_LINKS = [
    ("#glossary", "README.md", "glossary.md#glossary"),
    ("#two-commands", "README.md", "guide.md#two-commands"),
    ("notebooks/lip_reading/README.md", "README.md", "lip_reading/index.md"),
    ("../../README.md", "notebooks/lip_reading/README.md", "../index.md"),
    ("../boat_detection/03_train.ipynb", "notebooks/lip_reading/04_evaluate.ipynb", "../boat_detection/03_train.ipynb"),
    ("README.md#words", "notebooks/lip_reading/04_evaluate.ipynb", "index.md#words"),
    ("https://example.org/a", "README.md", "https://example.org/a"),
]


@pytest.mark.parametrize(("link", "place", "expected"), GOOD_LINKS)
def test_links_lead_to_pages(tmp_path, link, place, expected):
    assert site.Sources(tmp_path).link(link, place) == expected


def test_other_files_are_linked_in_the_public_repository(tmp_path):
    text = site.Sources(tmp_path).text("[a](helpers/config.py) [b](tests) `[c](nowhere)`", "README.md")
    public = notebooks.address()[0]
    assert text == f"[a]({public}/blob/main/helpers/config.py) [b]({public}/tree/main/tests) `[c](nowhere)`"


def test_a_warning_is_an_error(tmp_path, monkeypatch, capsys):
    pytest.importorskip("furo")
    monkeypatch.setattr(site.Sources, "write", lambda self: self._write("index.md", "# A\n\n[b](#nowhere)\n"))
    assert site.build(tmp_path / "out") == 1
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "code"), [("there.html", 0), ("gone.html", 1)])
def test_addresses_of_others_are_asked(tmp_path, monkeypatch, capsys, name, code):
    pytest.importorskip("furo")
    (tmp_path / "there.html").touch()
    with browser.serve(tmp_path) as home:
        monkeypatch.setattr(site.Sources, "write", lambda self: self._write("index.md", f"# A\n\n[b]({home}{name})\n"))
        assert site.build(None) == code
    said = capsys.readouterr()
    assert (f"{home}{name}" in said.err and "404" in said.err) if code else said.out == "all addresses answer\n"


def test_a_folder_with_other_files_stays(tmp_path):
    pytest.importorskip("furo")
    (tmp_path / "thesis.doc").touch()
    with pytest.raises(ValueError, match="holds other files than a site; give --out a new or empty folder"):
        site.build(tmp_path)
    assert (tmp_path / "thesis.doc").is_file()


def test_an_older_site_is_replaced_by_a_sound_one_only(tmp_path, monkeypatch):
    pytest.importorskip("furo")
    for text, code, pages in (("# A", 0, "A"), ("# B\n\n[b](#nowhere)", 1, "A"), ("# C", 0, "C")):
        monkeypatch.setattr(site.Sources, "write", lambda self, text=text: self._write("index.md", text))
        assert site.build(tmp_path / "out") == code
        assert f"<h1>{pages}<a" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"sphinx, myst_nb, furo: type  pip install -r tests/requirements\.txt"):
        site.build(tmp_path)


def test_formulas_are_set(built):
    half = notebooks.mathml(r"\tfrac12 \left[ x \right]")
    assert re.search(r"<mfrac[^>]*><mn>1</mn><mn>2</mn></mfrac><mrow><mo>\[", half)
    page = built.of(ROOT / "notebooks" / "temporal_coherence" / "03_train.ipynb")
    assert len(page.find_all("math")) == 6 and "$" not in page.find("math").parent.get_text()


# ---- in a browser ----


@pytest.fixture(scope="module")
def window():
    with browser.chromium() as started:
        yield started


@pytest.fixture
def shown(built, window):
    with window.serving(built.folder):
        window.look(1280)
        yield window


def test_every_page_fits_a_phone_and_has_no_faults(built, shown):
    shown.look(390)
    faults = {}
    for page in sorted(built.pages):
        shown.open(page)
        faults[page] = shown.faults()
    assert {page: found for page, found in faults.items() if found} == {}


@pytest.mark.parametrize("page", KINDS)
def test_a_page_is_sound_on_a_desk(shown, page):
    shown.open(page)
    assert shown.faults() == []
    assert shown.run("return document.querySelector('h1, h2').innerText").strip()
    broken = (
        "return [...document.images].filter(image => image.complete && !image.naturalWidth).map(image => image.src)"
    )
    assert shown.run(broken) == []


def plays(window):
    """Every clip of the page that is open moves, from its beginning: a short one may have ended before anybody looks."""
    clips = "[...document.querySelectorAll('video')]"
    window.run(f"{clips}.forEach(clip => {{ clip.muted = true; clip.pause(); clip.currentTime = 0 }})")
    times = f"return {clips}.map(clip => clip.currentTime)"
    assert set(window.run(times)) == {0}
    window.run(f"{clips}.forEach(clip => clip.play())")
    window.wait(lambda: min(window.run(times)) > 0)


@pytest.mark.parametrize("page", ["face_animation/04_evaluate.html", "lip_reading/01_preprocess.html"])
def test_clips_play(shown, page):
    shown.open(page)
    plays(shown)


def test_search_finds_a_word(shown):
    shown.open("index.html")
    shown.run("const box = document.querySelector('.sidebar-search'); box.value = 'soft-argmax'; box.form.submit()")
    hits = "return [...document.querySelectorAll('ul.search a')].map(link => link.href)"
    shown.wait(lambda: any("/face_animation/01_preprocess.html" in link for link in shown.run(hits)))
    assert shown.faults() == []


def test_light_and_dark_follow_the_system_and_the_button(shown):
    shown.open("index.html")
    shown.run("localStorage.clear()")
    found = {}
    for scheme in ("light", "dark"):
        shown.look(1280, scheme)
        shown.open("glossary.html")
        found[scheme] = shown.paper()
    assert found["dark"] < 150 and found["light"] > 700
    chosen = set()
    for _ in range(3):
        shown.run("[...document.querySelectorAll('.theme-toggle')].find(button => button.offsetParent).click()")
        chosen.add(shown.paper() > 400)
    assert chosen == {True, False}
    shown.run("localStorage.clear()")


# ---- the runner's report, with the same look and the same tests ----

REPORTED = ("temporal_coherence/04_evaluate", "boat_detection/03_train", "face_animation/04_evaluate")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder, outcomes = tmp_path_factory.mktemp("report"), []
    for place in REPORTED:
        path = ROOT / "notebooks" / f"{place}.ipynb"
        outcomes.append(runner.Outcome(path, notebooks.read(path), seconds=1.0))
        runner._write_page(outcomes[-1], folder)
    runner._write_index(outcomes, "mini", folder)
    return folder


def test_the_report_loads_nothing_and_folds_answers(report):
    for path in report.rglob("*.html"):
        page = bs4.BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        assert outside(page) == [] and "HELD" not in page.get_text()
        assert all(fold.find("p") for fold in page.find_all("details"))
    page = bs4.BeautifulSoup((report / "boat_detection" / "03_train.html").read_text(encoding="utf-8"), "html.parser")
    assert len(page.find_all("details")) == 3
    if notebooks.find_spec("docutils"):
        assert page.find("mfrac") and "$" not in page.find("math").parent.get_text()


@pytest.mark.parametrize("place", ["index", *REPORTED])
def test_the_report_in_a_browser(report, window, place):
    with window.serving(report):
        for width, scheme, bright in ((390, "light", True), (1280, "dark", False)):
            window.look(width, scheme)
            window.open(f"{place}.html")
            assert window.faults() == []
            assert (window.paper() > 400) is bright
        if place.startswith("face"):
            plays(window)
