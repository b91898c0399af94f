"""A file of one's own: what is refused and how, what is shown and saved, and Colab's upload and camera behind a stand-in."""

import base64
import functools
import http.server
import shutil
import sys
import threading
import types

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import pictures, video
from helpers.__main__ import main
from helpers.course import tryout
from helpers.course.tryout import Answer
from helpers.fetch import manifests

PICTURE = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
FRAMES = np.stack([np.full((31, 41, 3), 40 * number, np.uint8) for number in range(5)])
ANSWERS = {
    "picture": Answer("picture", ["one boat"], picture=PICTURE),
    "clip": Answer("clip", ["five frames"], frames=FRAMES, fps=5),
    "table": Answer("table", ["two rows"], table=pd.DataFrame({"word": ["a", "b"], "probability": [0.7, 0.3]})),
}


def files(folder):
    """Files that people take for a picture or a clip."""
    Image.fromarray(PICTURE).save(folder / "good.jpg")
    Image.fromarray(PICTURE).save(folder / "good.png")
    for name in ("good.jpg", "good.png"):
        content = (folder / name).read_bytes()
        (folder / f"cut.{name[-3:]}").write_bytes(content[: len(content) // 2])
    (folder / "text.jpg").write_text("a shopping list\n" * 9)
    (folder / "empty.mp4").touch()
    video.write_video(folder / "good.webm", [PICTURE] * 4, 5)
    (folder / "cut.webm").write_bytes((folder / "good.webm").read_bytes()[:300])
    return folder


REFUSED = [
    ("none.jpg", FileNotFoundError, "none.jpg: check its name, expected a picture or a video"),
    ("", ValueError, "is a folder, expected a picture or a video: name one file in it"),
    ("text.jpg", ValueError, "text.jpg is a text; expected a picture or a video"),
    ("empty.mp4", ValueError, "empty.mp4 is an empty file"),
    (
        "cut.jpg",
        ValueError,
        "is cut off, damaged, or of a form that is not read here: get it again, or save it as a JPEG",
    ),
    ("cut.png", ValueError, "is cut off, damaged"),
    ("cut.webm", ValueError, "not one frame of"),
]


@pytest.mark.parametrize(("name", "error", "words"), REFUSED)
def test_what_is_neither_picture_nor_clip_is_refused_in_a_sentence(tmp_path, name, error, words):
    with pytest.raises(error) as refusal:
        tryout.kind_of(files(tmp_path) / name, "picture", "video")
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


def test_the_kind_is_told_and_only_what_is_allowed_passes(tmp_path):
    files(tmp_path)
    assert tryout.kind_of(tmp_path / "good.jpg", "picture", "video") == "picture"
    assert tryout.kind_of(tmp_path / "good.png", "picture") == "picture"
    assert tryout.kind_of(tmp_path / "good.webm", "video") == "video"
    with pytest.raises(ValueError, match=r"good.jpg is a picture; expected a video"):
        tryout.kind_of(tmp_path / "good.jpg", "video")


def test_an_answer_has_what_its_kind_says():
    with pytest.raises(ValueError, match=r"kind must be one of picture, clip, table and its field be set.*'clip'"):
        Answer("clip", [], picture=PICTURE)


@pytest.mark.parametrize("kind", ANSWERS)
def test_an_answer_is_saved_in_a_new_folder(tmp_path, kind):
    path = tryout.save(ANSWERS[kind], tmp_path / "new" / "folder", "harbour")
    if kind == "picture":
        assert path.name == "harbour.png" and np.array_equal(cv2.imread(str(path))[..., ::-1], PICTURE)
    elif kind == "clip":
        read = list(video.read_frames(path))  # odd sides get one more row and column
        assert path.name == "harbour.webm" and len(read) == 5 and read[0].shape == (32, 42, 3)
        assert [frame.mean() for frame in read] == pytest.approx([40 * number for number in range(5)], abs=6)
    else:
        assert path.read_text().splitlines()[1:] == ["a,0.7", "b,0.3"]


def test_an_answer_is_shown_with_its_text(capsys):
    shown = {kind: tryout.show(answer) for kind, answer in ANSWERS.items()}
    assert capsys.readouterr().out == "one boat\nfive frames\ntwo rows\n"
    assert cv2.imdecode(np.frombuffer(shown["picture"].data, np.uint8), cv2.IMREAD_COLOR).shape == PICTURE.shape
    wide = tryout.show(Answer("picture", [], picture=np.zeros((300, 1440, 3), np.uint8))).data
    assert cv2.imdecode(np.frombuffer(wide, np.uint8), cv2.IMREAD_COLOR).shape == (150, 720, 3)
    assert 'aria-label="five frames"' in shown["clip"].data and shown["table"] is ANSWERS["table"].table


@pytest.fixture
def project(monkeypatch):
    """A room `answer` of lip_reading that turns any picture round, with one option."""
    room = types.ModuleType("helpers.lip_reading.answer")

    def answer(path, network=None, *, mirrored="no"):
        tryout.kind_of(path, "picture")
        if mirrored == "far":
            raise manifests.DownloadError("the detector could not be had: put it there by hand")
        return Answer("picture", [f"turned, mirrored: {mirrored}"], picture=pictures.read_picture(path)[::-1].copy())

    room.answer = answer
    monkeypatch.setitem(sys.modules, "helpers.lip_reading.answer", room)


def test_the_command_prints_saves_and_refuses(tmp_path, capsys, project):
    files(tmp_path)
    assert main(["try", "lip_reading", str(tmp_path / "good.png"), "--out", str(tmp_path / "out")]) == 0
    saved = tmp_path / "out" / "good-lip_reading.png"
    assert capsys.readouterr().out == f"turned, mirrored: no\nsaved: {saved}\n"
    assert np.array_equal(cv2.imread(str(saved))[::-1, :, ::-1], PICTURE)
    assert main(["try", "lip_reading", str(tmp_path / "text.jpg"), "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "error: text.jpg is a text; expected a picture\n"
    assert main(["try", "lip_reading", str(tmp_path / "good.png"), "--weights", "coco"]) == 1
    assert capsys.readouterr().err == "error: lip_reading takes no --weights: leave it out\n"
    sys.modules["helpers.lip_reading.answer"].answer.__kwdefaults__["mirrored"] = "far"
    assert main(["try", "lip_reading", str(tmp_path / "good.png")]) == 1
    assert capsys.readouterr().err == "error: the detector could not be had: put it there by hand\n"


def test_the_command_prints_a_table(tmp_path, capsys, monkeypatch, project):
    monkeypatch.setattr(sys.modules["helpers.lip_reading.answer"], "answer", lambda path: ANSWERS["table"])
    assert main(["try", "lip_reading", str(tmp_path / "any"), "--out", str(tmp_path)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[:4]]
    assert rows == [["word", "probability"], ["a", "0.7"], ["b", "0.3"], ["two", "rows"]]


def test_the_command_names_the_projects(capsys):
    with pytest.raises(SystemExit):
        main(["try", "lip_readng", "a.mp4"])
    assert "'lip_readng' is no project (did you mean lip_reading?); allowed: temporal" in capsys.readouterr().err


def test_a_path_or_the_example_is_chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tryout.choose(' "~/my boat.jpg" ') == tmp_path / "my boat.jpg"  # as a file manager copies a path
    assert tryout.choose("", example="drawn.jpg").name == "drawn.jpg"
    for path in ("upload", "camera", ""):
        with pytest.raises(ValueError, match=r"needs a notebook in Colab: here, .*type the path of"):
            tryout.choose(path)


@pytest.fixture
def colab(tmp_path, monkeypatch):
    """A stand-in for google.colab: an upload is what `sent` holds, the camera's page answers `said` and keeps the script."""
    stand_in = types.ModuleType("google.colab")
    stand_in.sent, stand_in.said, stand_in.script = {}, "", ""

    def upload():
        for name, content in stand_in.sent.items():
            (tmp_path / name).write_bytes(content)
        return stand_in.sent

    def eval_js(script, ignore_result=False, timeout_sec=None):
        stand_in.script = script
        return stand_in.said

    stand_in.files, stand_in.output = types.SimpleNamespace(upload=upload), types.SimpleNamespace(eval_js=eval_js)
    monkeypatch.setitem(sys.modules, "google", sys.modules.get("google") or types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", stand_in)
    monkeypatch.setenv("COURSE_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.chdir(tmp_path)
    return stand_in


@pytest.mark.parametrize("path", ["upload", ""])
def test_an_upload_goes_into_the_workspace(tmp_path, colab, path):
    colab.sent = {"boat (1).jpg": b"content"}
    chosen = tryout.choose(path)
    assert chosen == tmp_path / "workspace" / "own_files" / "boat (1).jpg" and chosen.read_bytes() == b"content"
    assert not (tmp_path / "boat (1).jpg").exists()
    colab.sent = {}
    with pytest.raises(ValueError, match="nothing was uploaded: run the cell again"):
        tryout.choose(path)


def test_the_camera_gives_a_clip_or_says_why_not(tmp_path, colab):
    clip = files(tmp_path) / "good.webm"
    colab.said = "data:video/webm;codecs=vp8;base64," + base64.b64encode(clip.read_bytes()).decode()
    recorded = tryout.choose("camera")
    assert recorded.parent == tmp_path / "workspace" / "own_files" and recorded.suffix == ".webm"
    assert recorded.read_bytes() == clip.read_bytes() and colab.script.rstrip().endswith("(3)")
    colab.said = "data:video/mp4;base64,AAAA"  # Safari
    assert tryout.camera(1.5).suffix == ".mp4" and colab.script.rstrip().endswith("(1.5)")
    colab.said = "NotAllowedError: Permission denied"
    with pytest.raises(ValueError, match=r"no clip \(NotAllowedError: Permission denied\): allow the camera"):
        tryout.camera()


@pytest.mark.skipif(not shutil.which("chromedriver"), reason="no Chromium here")
def test_the_cameras_script_records_in_a_real_browser(tmp_path, colab):
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for flag in ("headless", "no-sandbox", "use-fake-device-for-media-stream", "use-fake-ui-for-media-stream"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path / 'profile'}")
    (tmp_path / "page.html").write_text("<body></body>")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver"))) as browser,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.set_script_timeout(60)
        browser.get(f"http://127.0.0.1:{server.server_port}/page.html")  # only this and https may use a camera

        def eval_js(script, timeout_sec):
            return browser.execute_async_script(f"({script.strip()}).then(arguments[arguments.length - 1])")

        colab.output.eval_js = eval_js
        clip = tryout.camera(2.0)
        frames, timing = list(video.read_frames(clip)), video.read_timing(clip)
        assert browser.find_elements("css selector", "video, p") == [], "the page is as it was"
        browser.execute_script(
            "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('no', 'NotFoundError') }"
        )
        with pytest.raises(ValueError, match=r"no clip \(NotFoundError: no\)"):
            tryout.camera(1.0)
        server.shutdown()
    assert len(frames) > 1 and frames[0].shape == (480, 640, 3)
    assert len(timing.times) == len(frames) and timing.fps < 70, "though the header tells no rate"
    assert frames[0].std() > 20 and np.abs(frames[-1].astype(int) - frames[0]).max() > 50, "a picture that moves"
