"""What files are, held against files that other programs wrote: Pillow, FFmpeg, h5py, NumPy, the standard library."""

import bz2
import gzip
import io
import lzma
import os
import pickle
import tarfile
import zipfile
import zlib

import av
import h5py
import numpy as np
import pytest
from PIL import Image, features

from helpers import intake
from helpers.circulant_video.formats import tfrecord


def picture(kind, **options):
    content = io.BytesIO()
    Image.fromarray(np.arange(48 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(48, 64, 3)).save(
        content, kind, **options
    )
    return content.getvalue()


def moving(kind):
    frames = [Image.new("RGB", (32, 32), (shade, 0, 0)) for shade in (0, 90, 180)]
    content = io.BytesIO()
    frames[0].save(content, kind, save_all=True, append_images=frames[1:])
    return content.getvalue()


def film(container, codec, size=64):
    content = io.BytesIO()
    with av.open(content, "w", format=container) as target:
        stream = target.add_stream(codec, rate=25)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for shade in range(0, 200, 20):
            frame = av.VideoFrame.from_ndarray(np.full((size, size, 3), shade, np.uint8), format="rgb24")
            target.mux(stream.encode(frame))
        target.mux(stream.encode())
    return content.getvalue()


def archive(kind):
    content = io.BytesIO()
    if kind == "tar":
        with tarfile.open(fileobj=content, mode="w") as target:
            target.addfile(tarfile.TarInfo("a.txt"))
    else:
        with zipfile.ZipFile(content, "w") as target:
            target.writestr(kind, b"some bytes")
    return content.getvalue()


def hdf5():
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["a"] = 1
    return content.getvalue()


def records(tmp_path):
    tfrecord.write_records(tmp_path / "r", [b"payload"])
    return (tmp_path / "r").read_bytes()


def numpy_file():
    content = io.BytesIO()
    np.save(content, np.zeros(3))
    return content.getvalue()


PICTURES = {"JPEG": {}, "PNG": {}, "BMP": {}, "TIFF": {}, "WEBP": {}, "PPM": {}, "JPEG2000": {}}
FILMS = {
    "mp4": "mpeg4", "mov": "mpeg4", "3gp": "mpeg4", "matroska": "mpeg4", "webm": "libvpx", "avi": "mpeg4", "mpeg": "mpeg2video",
    "mpegts": "mpeg2video",
    "flv": "flv", "asf": "wmv2", "ogg": "libvpx", "mpeg2video": "mpeg2video", "yuv4mpegpipe": "wrapped_avframe",
}  # fmt: skip
SENTENCE = "every frame of the video"


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_of_pillow(tmp_path, kind):
    (tmp_path / "a.txt").write_bytes(picture(kind))
    assert intake.sniff(tmp_path / "a.txt") == "picture"


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow writes no AVIF")
def test_avif(tmp_path):
    (tmp_path / "a").write_bytes(picture("AVIF"))
    assert intake.sniff(tmp_path / "a") == "picture"


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_a_picture_that_moves_is_a_video(tmp_path, kind):
    (tmp_path / "a.png").write_bytes(moving(kind))
    assert intake.sniff(tmp_path / "a.png") == "video"


def test_a_webp_that_ends_in_its_header_is_named(tmp_path):
    (tmp_path / "a").write_bytes(b"RIFF\x10\0\0\0WEBPVP8X")
    assert intake.sniff(tmp_path / "a") == "picture"


@pytest.mark.parametrize("container", FILMS)
def test_films_of_ffmpeg(tmp_path, container):
    (tmp_path / "a.jpg").write_bytes(film(container, FILMS[container]))
    assert intake.sniff(tmp_path / "a.jpg") == "video"


OTHERS = {
    "gzip file": gzip.compress(b"x" * 99), "zlib stream": zlib.compress(b"x" * 99), "bzip2 file": bz2.compress(b"x" * 99),
    "xz file": lzma.compress(b"x" * 99), "zip archive": archive("a.txt"), "torch checkpoint": archive("archive/data.pkl"),
    "tar archive": archive("tar"), "HDF5 file": hdf5(), "NumPy array": numpy_file(), "empty file": b"",
    "git-LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "web page": b"\xef\xbb\xbf \n<!DOCTYPE html><html><body>Sign in</body></html>",
    "text": SENTENCE.encode(),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_neither_picture_nor_film(tmp_path, kind):
    (tmp_path / "a.mp4").write_bytes(OTHERS[kind])
    assert intake.sniff(tmp_path / "a.mp4") == kind
    with pytest.raises(ValueError, match=r"a.mp4.*expected a film"):
        raise intake.refuse(tmp_path / "a.mp4", "a film")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles(tmp_path, protocol):
    (tmp_path / "a.pth").write_bytes(pickle.dumps({"a": [1, 2, "b"]}, protocol))
    assert intake.sniff(tmp_path / "a.pth") == "pickle"


def test_records(tmp_path):
    (tmp_path / "a.bin").write_bytes(records(tmp_path))
    assert intake.sniff(tmp_path / "a.bin") == "TFRecord file"


def test_the_suffix_decides_where_the_content_does_not(tmp_path):
    noise = b"\x01\x02\xfe" * 50
    for name, kind in {"a.mpg": "video", "a.JPG": "picture", "a.tfrecord": "TFRecord file", "a.xyz": "unknown"}.items():
        (tmp_path / name).write_bytes(noise)
        assert intake.sniff(tmp_path / name) == kind, name


TEXT = "0 0.5 0.5\nKähne, boats\n日本\n"
WRITTEN = {
    "UTF-8": TEXT.encode(), "UTF-8 with its mark": TEXT.encode("utf-8-sig"), "PowerShell": TEXT.encode("utf-16"),
    "UTF-16, big": b"\xfe\xff" + TEXT.encode("utf-16-be"), "UTF-32": TEXT.encode("utf-32"),
    "Windows": TEXT.replace("\n", "\r\n").encode(), "old Mac": TEXT.replace("\n", "\r").encode(),
    "PowerShell, Windows": TEXT.replace("\n", "\r\n").encode("utf-16"),
}  # fmt: skip


@pytest.mark.parametrize("how", WRITTEN)
def test_text_is_read_whoever_wrote_it(tmp_path, how):
    (tmp_path / "a.names").write_bytes(WRITTEN[how])
    assert intake.read_text(tmp_path / "a.names") == TEXT


@pytest.mark.parametrize("big", [False, True])
def test_text_in_utf16_without_its_mark(tmp_path, big):
    (tmp_path / "a").write_bytes("0 0.5 0.5 0.25 0.75\n".encode("utf-16-be" if big else "utf-16-le"))
    assert intake.read_text(tmp_path / "a") == "0 0.5 0.5 0.25 0.75\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("boat\nKähne\n".encode("cp1252"), ["a.names", "line 2", "0xe4", "UTF-8"]),
        (b"boat\n" * 1000 + b"\xff\n", ["a.names", "line 1001", "0xff"]),
        (OTHERS["git-LFS pointer"], ["git-LFS pointer", "git lfs pull", "expected names of classes"]),
        (OTHERS["gzip file"], ["gzip file", "unpack"]),
        (OTHERS["web page"], ["web page", "download it again"]),
        (OTHERS["HDF5 file"], ["an HDF5 file"]),
        (b"\x01\x02\x03\xfe", ["is none", "expected names of classes"]),
    ],
    ids=["Windows", "a late byte", "git-LFS", "gzip", "HTML", "HDF5", "noise"],
)
def test_what_is_no_text_is_named(tmp_path, content, words):
    (tmp_path / "a.names").write_bytes(content)
    with pytest.raises(ValueError) as caught:
        intake.read_text(tmp_path / "a.names", expected="names of classes")
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_walk_leaves_nothing_out_without_a_word(tmp_path):
    films = ["b/c/deep.m4v", "a.avi", "train/x.MPG"]
    for name in [
        *films,
        "b/notes.txt",
        ".git/objects/a.avi",
        "__MACOSX/a.avi",
        "b/.hidden.avi",
        "Thumbs.db",
        "b/a.mp4.part",
    ]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(film("avi", "mpeg4") if name in films else b"text")
    (tmp_path / "b/again").symlink_to(tmp_path)
    (tmp_path / "gone.avi").symlink_to(tmp_path / "nothing")
    found = intake.walk(tmp_path, {"video"})
    assert [path.as_posix() for path in found.files] == ["a.avi", "b/c/deep.m4v", "train/x.MPG"]
    reasons = dict(found.left_out.itertuples(index=False))
    assert set(reasons) == {
        "b/notes.txt", ".git/", "__MACOSX/", "b/.hidden.avi", "Thumbs.db", "b/a.mp4.part", "b/again/", "gone.avi",
    }  # fmt: skip
    assert "a text" in reasons["b/notes.txt"] and "unfinished" in reasons["b/a.mp4.part"]
    assert "link" in reasons["b/again/"] and "cannot be read" in reasons["gone.avi"]


def test_a_folder_behind_a_link_is_entered(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.avi").write_bytes(film("avi", "mpeg4"))
    (tmp_path / "root").mkdir()
    (tmp_path / "root/linked").symlink_to(tmp_path / "elsewhere")
    assert [path.as_posix() for path in intake.walk(tmp_path / "root", {"video"}).files] == ["linked/a.avi"]


def test_a_name_that_is_no_text_is_named_and_left_out(tmp_path):
    name = os.fsdecode(b"clip\x8c.avi")
    try:
        (tmp_path / name).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes no such name")
    found = intake.walk(tmp_path, {"video"})
    assert not found.files
    assert found.left_out.to_numpy().tolist() == [["clip\\x8c.avi", "its name is not UTF-8: rename it"]]
    found.left_out.to_csv(tmp_path / "left_out.csv", index=False)


def test_files_that_belong_to_others_are_neither_found_nor_left_out(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("0 1")
    found = intake.walk(tmp_path, {"picture"})
    found.use(["a.txt"])
    assert found.left_out["file"].tolist() == ["b.txt"]


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        intake.walk(tmp_path / "nowhere", {"video"})


def test_what_is_told(tmp_path, capsys):
    found = intake.walk(tmp_path, {"video"})
    found.leave_out("a.avi", "not one frame decodes")
    table = intake.tell(3, found.left_out, what="clips")
    assert capsys.readouterr().out == "3 clips used, 1 left out\n"
    assert table.to_numpy().tolist() == [["a.avi", "not one frame decodes"]]
