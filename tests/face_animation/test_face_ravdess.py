"""RAVDESS's names, and its archives from a server on this machine, with drawn heads, through the first three steps."""

from helpers import runtime

runtime.quiet_start()

import dataclasses
import hashlib
import io
import zipfile

import cv2
import download_server
import numpy as np
import pytest

from helpers import video
from helpers.face_animation import data, steps
from helpers.face_animation.config import FaceAnimationConfig
from helpers.face_animation.mini import dataset
from helpers.face_animation.sources import local, ravdess
from helpers.fetch import archives, manifests

CONFIG = FaceAnimationConfig(source="ravdess", actors=(3, 5, 8), test_actors=1, size=32, n_groups=1, pairs=4)
SILENT, SOUND, ONLY_SOUND = "02-01-05-01-01-01", "01-01-05-01-01-01", "01-01-03-02-02-01"
BROKEN, TALL, SINGLE = "02-01-04-01-01-01-03.mp4", "02-01-07-01-01-01-03.mp4", "02-01-08-01-01-01-03.mp4"


def head(folder, seed, frames=4, margin=16):
    """A clip of a drawn head, 48 high, between white margins; tall with a negative one. Its bytes."""
    pictures = dataset.make_pair(seed, seed, size=48, frames=max(2, frames)).driving[:frames]
    if margin < 0:
        pictures = pictures[:, :, -margin:margin]
    sides = ((0, 0), (0, 0), (max(0, margin), max(0, margin)), (0, 0))
    path = folder / "drawn.mp4"
    video.write_video(path, np.pad(pictures, sides, constant_values=255), 30)
    return path.read_bytes()


def members(folder, actor):
    """What an actor's archive holds: a clip with sound and without, one with sound only; of actor 3 what goes wrong, too."""
    clips = {SILENT: head(folder, actor), SOUND: head(folder, actor, frames=7), ONLY_SOUND: head(folder, actor + 9, 5)}
    clips = {f"Actor_{actor:02d}/{name}-{actor:02d}.mp4": content for name, content in clips.items()}
    if actor == 3:
        clips |= {f"Actor_03/{BROKEN}": b"no video", f"Actor_03/{TALL}": head(folder, 1, margin=-4)}
        clips |= {f"Actor_03/{SINGLE}": head(folder, 2, frames=1), "Actor_03/holiday.mp4": head(folder, 2)}
        clips |= {
            "Actor_03/02-01-05-01-01-01-08.mp4": head(folder, 2),
            "__MACOSX/Actor_03/._x.mp4": b"",
            "Actor_03/": b"",
        }
    return clips


def zipped(contents):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in contents.items():
            opened.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def bodies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    return {f"Video_Speech_Actor_{actor:02d}.zip": zipped(members(folder, actor)) for actor in CONFIG.actors}


@pytest.fixture
def zenodo(bodies, monkeypatch):
    """The record with three actors; the manifest is the genuine one but for address, size and MD5 of these."""

    class Handler(download_server.Handler):
        def do_GET(self):
            self.server.state.body = bodies[self.path.rsplit("/", 1)[-1]]
            super().do_GET()

    monkeypatch.setattr(download_server, "Handler", Handler)
    manifest = manifests.load_manifest("ravdess")
    with download_server.serve(monkeypatch) as state:
        state.md5 = {name: hashlib.md5(body).hexdigest() for name, body in bodies.items()}
        site = state.url.rsplit("/", 1)[0]

        def load(name):
            assert name == "ravdess"
            files = [
                dataclasses.replace(
                    manifest.file(key), size=len(body), md5=state.md5[key], sources=(manifests.Source(f"{site}/{key}"),)
                )
                for key, body in bodies.items()
            ]
            return dataclasses.replace(manifest, files=tuple(files))

        monkeypatch.setattr(manifests, "load_manifest", load)
        yield state


def asked(state):
    return [request["path"].rsplit("_", 1)[-1] for request in state.requests]


@pytest.fixture
def built(zenodo, tmp_path):
    return {step.name: step(CONFIG, tmp_path) for step in steps.STEPS[:3]}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("02-01-06-01-02-01-12.mp4", "video only, speech, fearful, normal, Dogs are sitting by the door, first, 12"),
        ("01-02-01-01-01-02-24.mp4", "with sound, song, neutral, normal, Kids are talking by the door, second, 24"),
        ("02-01-06-01-02-01-25.mp4", None),
        ("02-01-06-01-02-01-00.mp4", None),
        ("02-01-09-01-02-01-12.mp4", None),
        ("02-01-06-01-02-12.mp4", None),
        ("02-01-06-01-02-01-12-01.mp4", None),
        ("02-01-06-01-02-01-12.wav", None),
        ("holiday.mp4", None),
    ],
)
def test_names_tell_what_is_seen(name, words):
    if words is None:
        with pytest.raises(ValueError, match=f"received '{name}'; allowed: seven numbers such as 02-01"):
            ravdess.parse_name(name)
    else:
        assert ", ".join(ravdess.parse_name(name).values()) == words


def test_each_clip_is_taken_once_and_without_sound_where_it_can_be():
    names = [f"Actor_01/{modality}-01-05-01-01-0{take}-01.mp4" for modality in ("01", "02") for take in (1, 2)]
    names += ["Actor_01/01-01-02-01-01-01-01.mp4", "Actor_01/holiday.mp4", "Actor_01/", "__MACOSX/Actor_01/._a.mp4"]
    names += ["Actor_01/.DS_Store", "Actor_01/notes.txt"]
    kept = [*names[2:6], "Actor_01/notes.txt"]
    assert ravdess.choose(names) == ravdess.choose(reversed(names)) == sorted(kept)


def test_from_archives_to_sides(built, zenodo):
    assert asked(zenodo) == ["03.zip", "05.zip", "08.zip"]
    found, clips = built["build_dataset"], built["build_dataset"].table("clips").set_index("path")
    assert found["clips"] == {"train": 5, "test": 2} and (found["persons"], found["left_out"]) == (3, 4)
    assert list(clips.reset_index()[ravdess.COLUMNS]) == [*data.COLUMNS, *ravdess.TOLD]
    good = clips[clips["error"] == ""]
    assert set(good["frames"]) == {4, 5}, "the clip with sound has 7 frames and stays packed"
    assert set(clips.loc[clips["partition"] == "test", "person"]) == {"Actor_08"}
    only = clips.loc["Actor_05/Actor_05/01-01-03-02-02-01-05.mp4"]
    assert only[ravdess.TOLD].tolist() == ["happy", "strong", "Dogs are sitting by the door", "first"]
    assert (only["clip"], only["person"], only["frames"]) == ("Actor_05#01-01-03-02-02-01-05.mp4", "Actor_05", 5)
    train = good[good["partition"] == "train"]
    assert train["person"].tolist()[:4] == ["Actor_03", "Actor_05"] * 2, "actors take turns"
    split = built["split"].table("clips")
    assert (len(built["split"].table("pairs")), built["split"]["groups"], built["split"]["test"]) == (4, [4], 2)
    assert split.groupby("side")["person"].agg(set).to_dict() == {
        "train": {"Actor_05"},
        "validation": {"Actor_03"},
        "test": {"Actor_08"},
    }
    assert set(split["emotion"]) == {"angry", "happy"}


def test_what_cannot_be_used_is_told(built):
    clips = built["build_dataset"].table("clips")
    errors = clips[clips["error"] != ""].set_index("video")["error"].to_dict()
    assert set(errors) == {"holiday", BROKEN[:-4], SINGLE[:-4], "02-01-05-01-01-01-08"}
    assert errors["holiday"].startswith("name: received 'holiday.mp4'; allowed: seven numbers")
    assert errors["02-01-05-01-01-01-08"] == "the name says actor 08, the archive is that of Actor_03"
    assert BROKEN in errors[BROKEN[:-4]] and "a single frame" in errors[SINGLE[:-4]]
    (failed,) = built["preprocess"].table("clips").query("error != ''").to_dict("records")
    assert (
        failed["error"]
        == f"ValueError: {TALL}: its frames are 40 wide and 48 tall; expected wide ones, such as 1280 x 720"
    )


def test_the_square_in_the_middle_is_cut_out(built):
    frame = np.arange(5 * 12 * 3, dtype=np.uint8).reshape(5, 12, 3)
    assert (ravdess.centre_square(frame) == frame[:, 3:8]).all()
    assert (ravdess.centre_square(frame[:, :5]) == frame[:, :5]).all()
    result = built["preprocess"]
    for row in result.table("clips").query("error == ''").itertuples():
        made = data.read_clip(result.source_root / row.path)
        wide = np.stack(list(video.read_frames(built["build_dataset"].source_root / row.path)))
        assert wide.shape == (row.frames, 48, 80, 3) and wide[:, :, :12].min() > 200 and wide[:, :, -12:].min() > 200
        shrunk = np.stack([cv2.resize(f[:, 16:64], (32, 32), interpolation=cv2.INTER_AREA) for f in wide])
        assert made.shape == (row.frames, 32, 32, 3) and np.abs(made.astype(float) - shrunk).mean() < 6
        stretched = np.stack([cv2.resize(f, (32, 32), interpolation=cv2.INTER_AREA) for f in wide])
        assert np.abs(made.astype(float) - stretched).mean() > 20
        assert (made == [data.resize(f[:, 16:64], (32, 32)) for f in wide]).all()


def test_a_wrong_archive_is_refused(zenodo, tmp_path):
    zenodo.md5["Video_Speech_Actor_05.zip"] = "0" * 32
    with pytest.raises(manifests.DownloadError, match=r"Video_Speech_Actor_05.zip .*\n.*MD5"):
        ravdess.fetch(tmp_path / "clips", [3, 5], cache=tmp_path / "cache", **download_server.FAST)
    assert [path.name for path in (tmp_path / "clips").iterdir()] == ["Actor_03"]
    assert [path.name for path in (tmp_path / "cache").glob("*.zip")] == ["Video_Speech_Actor_03.zip"]


def test_a_killed_fetch_goes_on(zenodo, tmp_path, monkeypatch):
    genuine, seen = archives.extract, []

    def fragile(archive, *arguments, **options):
        seen.append(archive.name[-6:])
        if seen == ["03.zip", "05.zip"]:
            raise KeyboardInterrupt
        return genuine(archive, *arguments, **options)

    monkeypatch.setattr(archives, "extract", fragile)
    with pytest.raises(KeyboardInterrupt):
        steps.build_dataset(CONFIG, tmp_path)
    assert not steps.build_dataset.done(CONFIG, tmp_path)
    assert sum(steps.build_dataset(CONFIG, tmp_path)["clips"].values()) == 7
    assert seen == ["03.zip", "05.zip", "05.zip", "08.zip"], "what was unpacked stays"
    assert asked(zenodo) == ["03.zip", "05.zip", "08.zip"], "what was fetched stays"


def test_the_settings_that_decide_the_data_make_new_folders(tmp_path):
    folder = steps.build_dataset.folder(CONFIG, tmp_path)
    assert steps.build_dataset.folder(dataclasses.replace(CONFIG, actors=(3, 8, 5)), tmp_path) != folder
    assert steps.build_dataset.folder(dataclasses.replace(CONFIG, test_actors=2), tmp_path) != folder
    assert steps.build_dataset.folder(dataclasses.replace(CONFIG, size=64), tmp_path) == folder


def test_another_source_keeps_the_whole_frame(tmp_path):
    (tmp_path / "a.mp4").write_bytes(head(tmp_path, 1))
    local.prepare_clip("a.mp4", root=str(tmp_path), folder=str(tmp_path / "out"), size=(32, 32), form="png")
    assert data.read_clip(tmp_path / "out" / "a.mp4")[:, :, 0].min() > 150  # the margin is there
