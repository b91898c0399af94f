"""Hostile, lying and broken archives; the good ones are written by zipfile, tarfile, and bytes of the RAR 4 format."""

import io
import os
import random
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from types import SimpleNamespace

import pytest
import urllib3
from download_server import BODY, FAST, file_at, names, sent, serve

from helpers.fetch import archives, manifests
from helpers.runtime import repo_root

GOOD = {"a.txt": b"alpha", "sub/b.txt": b"beta" * 1000, "sub/deep/c.bin": bytes(range(256))}


def zip_of(path, members, kinds=None):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = ((kinds or {}).get(name, stat.S_IFREG) | 0o644) << 16
            opened.writestr(info, data)
    return path


def tar_of(path, members, mode="w"):
    """Members are (name, data) or (name, tar type, link target)."""
    with tarfile.open(path, mode) as opened:
        for name, *rest in members:
            info = tarfile.TarInfo(name)
            if len(rest) == 1:
                info.size = len(rest[0])
                opened.addfile(info, io.BytesIO(rest[0]))
            else:
                info.type, info.linkname = rest
                opened.addfile(info)
    return path


def rar_of(path, members):
    """A RAR 4 archive of stored members, after the public description of the format; a str as data makes a link."""

    def block(kind, flags, body, packed=b""):
        head = struct.pack("<BHH", kind, flags, 7 + len(body)) + body
        return struct.pack("<H", zlib.crc32(head) & 0xFFFF) + head + packed

    out = b"Rar!\x1a\x07\x00" + block(0x73, 0, bytes(6))
    for name, data in members:
        mode = stat.S_IFLNK | 0o777 if isinstance(data, str) else stat.S_IFREG | 0o644
        data, name = data.encode() if isinstance(data, str) else data, name.replace("/", "\\").encode()
        sizes = struct.pack("<IIBIIBBHI", len(data), len(data), 3, zlib.crc32(data), 0, 20, 0x30, len(name), mode)
        out += block(0x74, 0x8000, sizes + name, data)
    path.write_bytes(out + block(0x7B, 0x4000, b""))
    return path


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def nothing_left(tmp_path, archive):
    return [path.name for path in tmp_path.iterdir()] == [archive.name]


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz"])
@pytest.mark.parametrize("wanted", [None, ["sub/b.txt"], lambda name: name.startswith("sub/")])
def test_extract_gives_back_what_went_in(tmp_path, kind, wanted):
    path = tmp_path / f"data.{kind}"
    mode = "w" if kind == "tar" else f"w:{kind[4:]}"
    archive = zip_of(path, GOOD.items()) if kind == "zip" else tar_of(path, GOOD.items(), mode)
    expected = {n: d for n, d in GOOD.items() if wanted is None or (wanted(n) if callable(wanted) else n in wanted)}
    files = archives.extract(archive, tmp_path / "out", members=wanted, max_bytes=10_000)
    assert tree(tmp_path / "out") == expected
    assert [file.relative_to(tmp_path / "out").as_posix() for file in files] == list(expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([archive.name, "out"])


def moved_directory(content):
    """A zip that says its directory begins 5 bytes later, so that its first member begins before the file."""
    place = int.from_bytes(content[-6:-2], "little")
    return content[:-6] + (place + 5).to_bytes(4, "little") + content[-2:]


BAD_NAMES = ["../evil", "a/../../evil", "/tmp/evil", "C:/evil", "..\\evil", "a\nb"]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("make", [zip_of, tar_of])
def test_no_member_leaves_the_folder(tmp_path, make, name):
    archive = make(tmp_path / "data.bin", [("good", b"good"), (name, b"evil")])
    with pytest.raises(archives.ArchiveError, match="refused a member"):
        archives.extract(archive, tmp_path / "out", max_bytes=1000)
    assert nothing_left(tmp_path, archive)


def test_an_archive_that_asks_for_all_memory_is_refused(tmp_path):
    """The first bytes of the old form of xz with a dictionary of 4 GB, read where less than that can be had."""
    (tmp_path / "greedy.zip").write_bytes(b"\x5d" + struct.pack("<Iq", 0xFFFFFFFF, -1) + bytes(64))
    code = (
        "import resource, sys; from helpers.fetch import archives; resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "try: archives.extract(sys.argv[1] + '/greedy.zip', sys.argv[1] + '/out', max_bytes=100)\n"
        "except archives.ArchiveError as error: print(error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=repo_root(), capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("greedy.zip asks for more memory than there is")
    assert [path.name for path in tmp_path.iterdir()] == ["greedy.zip"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: zip_of(p, [("a", b"/etc/passwd")], {"a": stat.S_IFLNK}), "link"),
        (lambda p: tar_of(p, [("a", tarfile.SYMTYPE, "/etc"), ("a/b", b"x")]), "link"),
        (lambda p: tar_of(p, [("a", b"x"), ("b", tarfile.LNKTYPE, "a")]), "link"),
        (lambda p: tar_of(p, [("a", tarfile.LNKTYPE, "../secret")]), "link"),
        (lambda p: tar_of(p, [("a", tarfile.CHRTYPE, "")]), "device"),
        (lambda p: tar_of(p, [("a", tarfile.FIFOTYPE, "")]), "device"),
        (lambda p: zip_of(p, [("A/x", b"1"), ("a/X", b"2")]), "one name"),
        (lambda p: tar_of(p, [("a", b"1"), ("a", b"2")]), "two members"),
        (lambda p: tar_of(p, [("a", b"1"), ("a/b", b"2")]), "two members"),
        (lambda p: zip_of(p, [("a", b"0" * 10_001)]), "10000 bytes allowed"),
        (lambda p: tar_of(p, [("a", bytes(6000)), ("b", bytes(6000))], "w:gz"), "10000 bytes allowed"),
        (lambda p: p.write_bytes(b"no archive at all") and p, "no zip, tar or rar"),
        (lambda p: p.write_bytes(zip_of(p, GOOD.items()).read_bytes()[:-30]) and p, "no zip"),
        (lambda p: p.write_bytes(tar_of(p, GOOD.items(), "w:gz").read_bytes()[:-60]) and p, "broken"),
        (lambda p: p.write_bytes(tar_of(p, GOOD.items()).read_bytes()[:3000]) and p, "broken"),
        (lambda p: p.write_bytes(moved_directory(zip_of(p, GOOD.items()).read_bytes())) and p, "outside the archive"),
        (lambda p: zip_of(p, [("", b"x")]), "broken|refused"),
    ],
)
def test_hostile_and_broken_archives_leave_nothing(tmp_path, make, words):
    archive = make(tmp_path / "data.bin")
    with pytest.raises(archives.ArchiveError, match=words) as caught:
        archives.extract(archive, tmp_path / "out", max_bytes=10_000)
    assert archive.name in str(caught.value)
    assert nothing_left(tmp_path, archive)


def test_a_bomb_whose_header_lies_is_stopped(tmp_path):
    """A million zeros that both headers call 10 bytes: no more than allowed may ever be written."""
    archive = zip_of(tmp_path / "bomb.zip", [("a", bytes(1_000_000))])
    data = archive.read_bytes()
    assert data.count(struct.pack("<I", 1_000_000)) == 2
    archive.write_bytes(data.replace(struct.pack("<I", 1_000_000), struct.pack("<I", 10)))
    with pytest.raises(archives.ArchiveError):
        archives.extract(archive, tmp_path / "out", max_bytes=1000)
    assert nothing_left(tmp_path, archive)


def test_an_encrypted_member_is_refused(tmp_path):
    archive = zip_of(tmp_path / "data.zip", [("a", b"x")])
    data = bytearray(archive.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    with pytest.raises(archives.ArchiveError, match="'a': it is encrypted"):
        archives.extract(archive, tmp_path / "out", max_bytes=1000)


def test_bytes_are_counted_not_believed(tmp_path, monkeypatch):
    """Even if zipfile gave out more than the header says, the count stops it, and early."""
    archive = zip_of(tmp_path / "bomb.zip", [("a", b"x")])
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: io.BytesIO(bytes(50_000_000)))
    written = []
    monkeypatch.setattr(
        archives._Budget, "spend", lambda b, n, real=archives._Budget.spend: (real(b, n), written.append(n))
    )
    with pytest.raises(archives.ArchiveError, match="allowed"):
        archives.extract(archive, tmp_path / "out", max_bytes=3_000_000)
    assert sum(written) <= 3_000_000
    assert nothing_left(tmp_path, archive)


def test_a_tar_that_ends_in_a_zip_is_read_as_a_tar(tmp_path):
    inner = zip_of(tmp_path / "inner.zip", [("x", b"x")]).read_bytes()
    archive = tar_of(tmp_path / "data.tar", [("inner.zip", inner)])
    archives.extract(archive, tmp_path / "out", max_bytes=1000)
    assert tree(tmp_path / "out") == {"inner.zip": inner}


def test_folders_of_an_archive_are_no_members(tmp_path):
    archive = tar_of(tmp_path / "data.tar", [("sub", tarfile.DIRTYPE, ""), ("sub/a", b"x")])
    assert archives.extract(archive, tmp_path / "tar", max_bytes=10) == [tmp_path / "tar" / "sub" / "a"]
    archive = zip_of(tmp_path / "data.zip", [("sub/", b""), ("sub/a", b"x")])
    assert archives.extract(archive, tmp_path / "zip", max_bytes=10) == [tmp_path / "zip" / "sub" / "a"]


def test_a_missing_member_is_named(tmp_path):
    for make in (zip_of, tar_of):
        archive = make(tmp_path / "data.bin", GOOD.items())
        with pytest.raises(archives.ArchiveError, match=r"lacks 1 .* 'nope'"):
            archives.extract(archive, tmp_path / "out", members=["a.txt", "nope"], max_bytes=10_000)
        assert nothing_left(tmp_path, archive)


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    archive = zip_of(tmp_path / "data.zip", GOOD.items())
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "out.unpacking").mkdir()
    (tmp_path / "out.unpacking" / "left by a kill").touch()
    assert archives.extract(archive, out, max_bytes=10_000)  # an empty folder is fine
    assert tree(out) == GOOD
    with pytest.raises(FileExistsError, match="not an empty folder"):
        archives.extract(archive, out, max_bytes=10_000)
    assert tree(out) == GOOD


def test_directory_digest_tells_archives_apart(tmp_path):
    digests = set()
    for number, data in enumerate([b"same size 1", b"same size 2"]):
        with zipfile.ZipFile(zip_of(tmp_path / f"{number}.zip", [("a", data)])) as opened:
            digests.add(archives.directory_digest(opened))
            assert archives.directory_digest(opened) in digests
    assert len(digests) == 2


TOOLS = [tool for tool in archives.RAR_TOOLS if shutil.which(tool)]


@pytest.fixture(params=TOOLS or [pytest.param(None, marks=pytest.mark.skip(reason="no program for rar here"))])
def only_tool(request, monkeypatch):
    """The machine has this one program for rar."""
    if (
        request.param in ("7z", "7zz")
        and b" Rar " not in subprocess.run([request.param, "i"], capture_output=True).stdout
    ):
        pytest.skip("this 7z was built without rar")
    real = shutil.which
    known = {*archives.RAR_TOOLS} - {request.param}
    monkeypatch.setattr(shutil, "which", lambda name: None if name in known else real(name))
    return request.param


def test_rar_gives_back_what_went_in(tmp_path, only_tool):
    archive = rar_of(tmp_path / "data.rar", GOOD.items())
    archives.extract(archive, tmp_path / "all", max_bytes=10_000)
    assert tree(tmp_path / "all") == GOOD
    files = archives.extract(archive, tmp_path / "one", members=["sub/b.txt"], max_bytes=10_000)
    assert files == [tmp_path / "one" / "sub" / "b.txt"]
    assert tree(tmp_path / "one") == {"sub/b.txt": GOOD["sub/b.txt"]}


@pytest.mark.parametrize(
    ("members", "limit"),
    [
        ([("../evil", b"x")], 1000),
        ([("/tmp/evil", b"x")], 1000),
        ([("a", "/etc/passwd")], 1000),
        ([("a", b"x"), ("b", "a")], 1000),
        ([("a", b"x" * 5000)], 1000),
    ],
    ids=["climbs", "absolute", "link out", "link inside", "too large"],
)
def test_hostile_rar_leaves_nothing(tmp_path, only_tool, members, limit):
    archive = rar_of(tmp_path / "data.rar", members)
    with pytest.raises(archives.ArchiveError):
        archives.extract(archive, tmp_path / "out", max_bytes=limit)
    assert nothing_left(tmp_path, archive)


def test_rar_without_a_program_names_the_packages(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    archive = rar_of(tmp_path / "data.rar", GOOD.items())
    with pytest.raises(RuntimeError, match=r"needs one of the programs unrar.*apt-get install unar"):
        archives.extract(archive, tmp_path / "out", max_bytes=1000)
    assert nothing_left(tmp_path, archive)


def test_a_rar_whose_bytes_changed_is_refused_by_its_checksums(tmp_path, only_tool):
    archive = rar_of(tmp_path / "data.rar", GOOD.items())
    archive.write_bytes(archive.read_bytes().replace(b"betabeta", b"betaBeta", 1))
    with pytest.raises(archives.ArchiveError, match=f"cannot be unpacked .{only_tool}: "):
        archives.extract(archive, tmp_path / "out", max_bytes=10_000)
    assert nothing_left(tmp_path, archive)


@pytest.mark.parametrize(
    ("members", "limit", "words"),
    [
        ([("../evil", b"x")], 1000, "refused a member"),
        ([("/tmp/evil", b"x")], 1000, "refused a member"),
        ([("a", "/etc/passwd")], 1000, "link"),
        ([("a", b"x"), ("b", "a")], 1000, "link"),
        ([("A/x", b"1"), ("a/X", b"2")], 1000, "one name"),
        ([("b", b"x")], 1000, r"lacks 1 .* 'a'"),
    ],
)
def test_a_rar_is_judged_before_any_program_sees_it(tmp_path, monkeypatch, members, limit, words):
    monkeypatch.setattr(shutil, "which", lambda name: pytest.fail("a program was looked for"))
    archive = rar_of(tmp_path / "data.rar", members)
    with pytest.raises(archives.ArchiveError, match=words):
        archives.extract(archive, tmp_path / "out", members=["a"] if "lacks" in words else None, max_bytes=limit)
    assert nothing_left(tmp_path, archive)


def test_a_rar_that_is_cut_off_or_encrypted_is_told(tmp_path):
    archive = rar_of(tmp_path / "data.rar", GOOD.items())
    archive.write_bytes(archive.read_bytes()[:25])
    with pytest.raises(archives.ArchiveError, match="is broken"):
        archives.extract(archive, tmp_path / "out", max_bytes=1000)
    head = struct.pack("<BHH", 0x73, 0x80, 13) + bytes(6)  # an archive header with the flag "names encrypted"
    archive.write_bytes(b"Rar!\x1a\x07\x00" + struct.pack("<H", zlib.crc32(head) & 0xFFFF) + head)
    with pytest.raises(archives.ArchiveError, match="is encrypted"):
        archives.extract(archive, tmp_path / "out", max_bytes=1000)
    assert nothing_left(tmp_path, archive)


@pytest.mark.skipif(os.name == "nt", reason="programs for the shell of POSIX")
def test_the_output_of_a_rar_program_is_checked_and_bounded_and_the_next_one_tried(tmp_path, monkeypatch):
    """Stand-ins for programs: one that works, and ones that give too little, too much, other bytes, and fail at the end."""
    archive = rar_of(tmp_path / "data.rar", [("a", b"alpha"), ("b", b"beta")])
    (tmp_path / "bin").mkdir()
    programs = {"good": "printf alphabeta", "short": "printf alphabe", "other": "printf alphaBeta", "none": "exit 3",
                "long": "printf alphabeta; cat /dev/zero", "late": "printf alphabeta; exit 3"}  # fmt: skip
    for name, action in programs.items():
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\nfor to; do :; done; [ "$to" = "{archive}" ] || exit 1\n{action}\n')
        program.chmod(0o755)

    def extract(out, *found, **options):
        tools = dict(zip(["unrar", "unar", "bsdtar"], found, strict=False))
        monkeypatch.setattr(
            shutil, "which", lambda name: str(tmp_path / "bin" / tools[name]) if name in tools else None
        )
        return archives.extract(archive, tmp_path / out, **{"max_bytes": 9, **options})

    for index, bad in enumerate(["short", "other", "none", "long", "late"]):
        extract(f"out{index}", bad, "good")
        assert tree(tmp_path / f"out{index}") == {"a": b"alpha", "b": b"beta"}
        with pytest.raises(archives.ArchiveError, match=r"cannot be unpacked \(unrar: .*; unar: .*\): install unrar"):
            extract("none", bad, bad)
    with pytest.raises(archives.ArchiveError, match="8 bytes allowed"):
        extract("none", "good", max_bytes=8)
    assert extract("one", "good", members=["b"], max_bytes=4) == [tmp_path / "one" / "b"]  # the others do not count
    assert tree(tmp_path / "one") == {"b": b"beta"}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("none")]
    info = SimpleNamespace(filename="a", file_size=10, CRC=None)  # RAR 5 may have another sum than a CRC
    said = archives._pour([tmp_path / "bin" / "good", archive], [(info, None)], tmp_path, archives._Budget(archive, 99))
    assert said.startswith("does not give a")


MEMBERS = {f"clips/v_{n:02d}.avi": random.Random(n).randbytes(30_000) for n in range(50)}
WANTED = ["clips/v_07.avi", "clips/v_08.avi", "clips/v_31.avi"]


def zip_bytes(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as opened:
        for name, data in members.items():
            opened.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()


@pytest.fixture
def zipped(monkeypatch):
    with serve(monkeypatch) as state:
        state.body = zip_bytes(MEMBERS)
        yield state


def partial_file(state, **changes):
    return file_at(state.url, body=state.body, **{"kind": "zip", **changes})


def test_members_come_without_the_rest(zipped, tmp_path):
    table = archives.fetch_members(partial_file(zipped), tmp_path, wanted=WANTED, jobs=2, **FAST)
    assert table["member"].tolist() == WANTED
    assert table["error"].tolist() == [""] * 3
    assert table["bytes"].tolist() == [30_000] * 3
    for path, name in zip(table["path"], WANTED, strict=True):
        assert (tmp_path / name).read_bytes() == MEMBERS[name]
        assert path == str(tmp_path / name)
    assert sent(zipped) < len(zipped.body) / 4
    before, first = sent(zipped), tmp_path / WANTED[0]
    first.write_bytes(bytes(30_000))  # the right size, not the right content
    wanted = [*WANTED, "clips/v_40.avi"]
    table = archives.fetch_members(partial_file(zipped), tmp_path, wanted=lambda n: n in wanted, jobs=1, **FAST)
    assert first.read_bytes() == MEMBERS[WANTED[0]]
    assert len(table) == 4
    assert sent(zipped) - before < 64 * 1024 * 2 + 2 * 31_000  # two directories, two members: the others were kept
    assert names(tmp_path / "clips") == [name.split("/")[1] for name in wanted]


def test_a_corrupt_member_is_recorded_and_stops_no_other(zipped, tmp_path):
    spot = zipped.body.index(MEMBERS[WANTED[1]]) + 100
    zipped.body = zipped.body[:spot] + b"12345" + zipped.body[spot + 5 :]
    table = archives.fetch_members(partial_file(zipped), tmp_path, wanted=WANTED, **FAST)
    assert table["error"].astype(bool).tolist() == [False, True, False]
    assert "CRC" in table["error"][1]
    assert names(tmp_path / "clips") == ["v_07.avi", "v_31.avi"]


@pytest.mark.parametrize(
    "plan", [["truncate"], ["stall"], ["silent"], ["status 500"], ["status 429", "truncate", "", "status 503"]]
)
def test_members_survive_a_bad_line(zipped, tmp_path, plan):
    # "" opens the zip, once in the caller and once in the thread; the next ones meet a member or a new opening.
    zipped.plan = ["status 503", "", "", *plan]
    table = archives.fetch_members(partial_file(zipped), tmp_path, wanted=WANTED, jobs=1, **FAST)
    assert zipped.plan == []
    assert table["error"].tolist() == [""] * 3
    assert all((tmp_path / name).read_bytes() == MEMBERS[name] for name in WANTED)
    zipped.plan = [""] + ["status 404"] * 9
    table = archives.fetch_members(partial_file(zipped), tmp_path, wanted=["clips/v_20.avi"], jobs=1, **FAST)
    assert "HTTP 404" in table["error"][0]


def test_a_member_that_ends_early_in_silence_is_asked_for_again(zipped, tmp_path, monkeypatch):
    loud = urllib3.HTTPResponse.read

    def silent(self, *arguments, **options):
        try:
            return loud(self, *arguments, **options)
        except urllib3.exceptions.ProtocolError:
            return b""

    monkeypatch.setattr(urllib3.HTTPResponse, "read", silent)
    zipped.plan = ["", "", "truncate"]
    table = archives.fetch_members(partial_file(zipped), tmp_path, wanted=WANTED, jobs=1, **FAST)
    assert zipped.plan == [] and table["error"].tolist() == [""] * 3
    zipped.plan = ["", "", "truncate", "truncate"]
    table = archives.fetch_members(partial_file(zipped), tmp_path, wanted=["clips/v_20.avi"], retries=0, jobs=1, **FAST)
    assert table["error"][0] == "EOFError:  (tried 1 times)"


def test_a_zip_that_changed_between_two_fetches_is_refused(zipped, tmp_path):
    archives.fetch_members(partial_file(zipped), tmp_path, wanted=WANTED[:1], **FAST)
    zipped.body = zip_bytes({**MEMBERS, WANTED[1]: bytes(30_000)})
    with pytest.raises(manifests.DownloadError, match="directory of sha256") as caught:
        archives.fetch_members(partial_file(zipped), tmp_path, wanted=WANTED, **FAST)
    assert "data.bin.directory.json" in str(caught.value)
    assert names(tmp_path / "clips") == ["v_07.avi"]


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"no_ranges": True}, archives.RangesNotSupported, "whole files only"),
        ({"plan": ["html"]}, manifests.DownloadError, "web page"),
        ({"plan": ["status 404"]}, manifests.DownloadError, "HTTP 404"),
        ({"body": BODY}, manifests.DownloadError, "not a sound zip"),
        ({"body": zip_bytes({"../evil": b"x"})}, archives.ArchiveError, "refused a member"),
        ({"body": zip_bytes({"other": b"x"})}, archives.ArchiveError, "lacks 3"),
    ],
)
def test_partial_fetch_refuses(zipped, tmp_path, change, kind, words):
    vars(zipped).update(change)
    with pytest.raises(kind, match=words):
        archives.fetch_members(partial_file(zipped), tmp_path / "out", wanted=WANTED, retries=1, **FAST)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".json"] == []


def test_partial_fetch_needs_a_verified_certificate(tmp_path):
    sources = (manifests.Source(url="https://a.org/x", tls="pinned"), manifests.Source(gdrive="abcdefgh"))
    with pytest.raises(manifests.DownloadError, match=r"(?s)a.org/x: parts .*verified.*abcdefgh: parts"):
        archives.fetch_members(file_at(sources=sources), tmp_path, wanted=WANTED, **FAST)


def test_partial_fetch_wants_the_manifest_size_and_bound(zipped, tmp_path):
    with pytest.raises(manifests.DownloadError, match=f"found {len(zipped.body)} bytes, expected 5"):
        archives.fetch_members(partial_file(zipped, size=5), tmp_path, wanted=WANTED, **FAST)
    with pytest.raises(archives.ArchiveError, match="hold 90000 bytes, allowed are 80000"):
        archives.fetch_members(partial_file(zipped, unpacked_size=80_000), tmp_path, wanted=WANTED, **FAST)
