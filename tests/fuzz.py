"""Every reader of foreign files against spoiled files: each is read, or refused by an error that names the file.

python -m tests.fuzz NAME... --count N --seed S     (all names without NAME)

A case is made from (name, seed, number) alone. What counts as a finding: an error of another kind than those in `ALLOWED`, one that
does not name the file, more than `SECONDS`, more than `BYTES` of memory, a file outside the case's folder. `test_fuzz.py` runs
50 cases of each.
"""

import argparse
import collections
import contextlib
import dataclasses
import io
import os
import pickle
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from helpers import runtime

runtime.quiet_start()

ALLOWED = (ValueError, FileNotFoundError)
SECONDS = 5
BYTES = 1 << 30  # beyond what the process has before the first case
NUMBERS = [b"0", b"-1", b"1e999", b"nan", b"-nan(ind)", b"inf", b"1.#IND00", b"9" * 30, b"9" * 5000, b"4294967296", b"0x10",
           b"1_0", "²".encode(), "٣".encode(), b"", b"-0", b"1e-400", b".5", b"5."]  # fmt: skip
TEXTS = [b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\n\n", b"=", b",", b'"', b"[", b"]", b":", b"%", b"..", b"/", b"\\", b"#",
         b"\x1b[0m", "é".encode(), "\u2028".encode(), b"\xed\xa0\x80", b"{", b"}", b"&a", b"*a", b"<<", b"~", b"- ",
         b"!!python/object:os.system", b"[" * 3000, b"{a: " * 2000]  # fmt: skip
WORDS = [
    b"\0" * 4,
    b"\xff" * 4,
    b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x80",
    b"\xff" * 8,
    b"\0" * 8,
    b"\xff" * 7 + b"\x7f",
]


@dataclasses.dataclass
class Target:
    """A reader and the files that it is spoiled with.

    Attributes:
        suffix: of the file's name.
        samples: sound files, or what `wrap` makes files of.
        read: calls the public reader.
        wrap: makes a file of a spoiled sample with checksums that fit, so that not every case ends there.
        tokens: more pieces to put in.
    """

    suffix: str
    samples: list[bytes]
    read: Callable[[Path], object]
    wrap: Callable[[bytes], bytes] | None = None
    tokens: list[bytes] = dataclasses.field(default_factory=list)
    allowed: tuple[type[Exception], ...] = ALLOWED


def spoil(data: bytes, chance: random.Random, others: list[bytes], tokens: list[bytes]) -> bytes:
    """One to four changes of a file."""
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 4))):
        place = chance.randrange(len(data) + 1)
        length = chance.choice((1, 1, 2, 4, 8, chance.randrange(1, 200)))
        part = data[place : place + length]
        kind = chance.randrange(10)
        if kind == 0:
            data = data[:place]
        elif kind == 1:
            data = data[:place] + data[place + length :]
        elif kind == 2:
            data = data[:place] + part * chance.choice((2, 3, 50)) + data[place + length :]
        elif kind == 3:
            data = data[:place] + chance.randbytes(length) + data[place + length :]
        elif kind == 4:
            data = data[:place] + bytes([byte ^ 1 << chance.randrange(8) for byte in part[:1]]) + data[place + 1 :]
        elif kind == 5:
            other = chance.choice(others)
            data = data[:place] + other[chance.randrange(len(other) + 1) :]
        elif kind == 6:
            found = list(re.finditer(rb"-?\d+(?:\.\d+)?", data[:20000]))
            at = chance.choice(found).span() if found else (place, place)
            data = data[: at[0]] + chance.choice(NUMBERS) + data[at[1] :]
        elif kind == 7:
            lines = data.split(b"\n")
            lines[chance.randrange(len(lines))] = chance.choice(lines)
            data = b"\n".join(lines)
        elif kind == 8:
            data = data[:place] + chance.choice(WORDS) + data[place + chance.choice((0, 4, 8)) :]
        else:
            data = data[:place] + chance.choice(tokens) + data[place + chance.choice((0, 0, 1, length)) :]
    return data


def case(name: str, target: Target, seed: int, number: int) -> bytes:
    """The file of one case."""
    chance = random.Random(f"{name} {seed} {number}")
    wrap = target.wrap if target.wrap and chance.random() < 0.7 else None
    plain = target.samples if target.wrap is None or wrap else [target.wrap(sample) for sample in target.samples]
    data = spoil(chance.choice(plain), chance, plain, [*TEXTS, *NUMBERS, *target.tokens])
    return wrap(data) if wrap else data


# --- the readers ---


def text_targets() -> dict[str, Target]:
    """Darknet's text files, Open Images' tables, GRID's alignments, the configs."""
    from helpers import config, intake
    from helpers.boat_detection.formats.darknet import cfg_files, logs, networks, text_files
    from helpers.boat_detection.sources import open_images
    from helpers.circulant_video.sources import vocabulary
    from helpers.course.notebooks import PROJECTS
    from helpers.face_animation.sources import voxceleb
    from helpers.lip_reading.sources import grid

    cfgs = [networks.yolov3_tiny_cfg(1), networks.yolov3_spp_cfg(2, width=0.1)[-3000:], CFG]
    log = (
        "".join(logs.format_region(head, [0.5, 2, 0, 0, 1, 2, 3]) + "\n" for head in (82, 94))
        + logs.format_iteration(7, 1.0, 2.0, 0.1, 1.0, 64)
        + "\n"
    )
    projects = sorted(PROJECTS)
    schemas = {project: config.schema_of(project) for project in projects}
    notebooks = runtime.repo_root() / "notebooks"
    yamls = {project: [path.read_bytes() for path in (notebooks / project).glob("*.yaml")] for project in projects}
    found = {
        "cfg": Target(".cfg", [text.encode() for text in cfgs], cfg_files.read_cfg),
        "labels": Target(".txt", [b"0 0.5 0.5 0.1 0.2\n1 0.25 0.75 1 1\n"], lambda path: text_files.read_labels(path, classes=2)),
        "list": Target(".txt", [b"a/b.jpg\nimages/c d.png\n"], text_files.read_list),
        "names": Target(".names", [b"boat\njet ski\n"], text_files.read_names),
        "logs": Target(".log", [(log * 3).encode(), HANK_AI, (log * 2).encode("utf-16")], logs.parse_log),
        "maps": Target(".log", [MAPS, HANK_AI], logs.parse_map),
        "boxes": Target(".csv", [BOXES], lambda path: open_images.filter_boxes(path, ["/m/019jd"])),
        "images": Target(".csv", [IMAGES], lambda path: open_images.filter_images(path, ["000a1249af2bc5f0"])),
        "classes": Target(".csv", [b"LabelName,DisplayName\n/m/019jd,Boat\n/m/01,\"a, b\"\n"], open_images.read_class_names),
        "tree": Target(".json", [TREE], lambda path: open_images.subclasses(path, "/m/019jd")),
        "alignments": Target(".align", [ALIGNMENT], grid.read_align),
        "vocabulary": Target(".csv", [b"Index,KnowledgeGraphId,Name\n1,/m/1,\n0,/m/0,Game\n"], vocabulary.read_vocabulary),
        "metadata": Target(".csv", [METADATA], voxceleb.read_metadata),
        "sniff": Target(".bin", [METADATA, b"\x1f\x8b", b"RIFF\0\0\0\0WEBPVP8X", b"PK\3\4", b"GIF89a"], intake.describe),
    }  # fmt: skip
    for project in projects:
        found[f"config {project}"] = Target(
            ".yaml", yamls[project], lambda path, schema=schemas[project]: config.load(path, schema)
        )
    return found


def binary_targets() -> dict[str, Target]:
    """Weights, checkpoints, records, archives."""
    import test_archives

    from helpers.boat_detection import darknet
    from helpers.boat_detection.formats.darknet import cfg_files, weights_file
    from helpers.circulant_video import data
    from helpers.circulant_video.formats import examples
    from helpers.face_animation import checkpoint

    cfg = cfg_files.parse_cfg(CFG)
    network = darknet.build_from_cfg(cfg)
    values = np.random.default_rng(0).uniform(0.1, 1, cfg.floats).astype("<f4").tobytes()
    weights = [weights_file.make_header(3) + values, np.array([0, 1, 0, 3], "<i4").tobytes() + values]
    frames = {"rgb": np.arange(12, dtype=np.uint8).reshape(3, 4), "audio": np.ones((3, 2), np.uint8)}
    records = [examples.encode_frame_level("ab", [1, 2], frames, segment_labels=[1], segment_scores=[0.5])]
    records += [examples.encode_video_level("cd", [0], {"rgb": np.ones(4), "audio": np.ones(2)})]
    layout = {"feature_names": ("rgb", "audio"), "feature_sizes": (4, 2), "classes": 3}

    def read_weights(path: Path) -> None:
        darknet.load_weights(network, path, "drop" if path.stat().st_size % 2 else "strict")

    def read_records(path: Path) -> None:
        list(data.read_frame_level(path, problems=[], **layout))
        list(data.read_video_level(path, problems=[], **layout))

    found = {
        "weights": Target(".weights", weights, read_weights),
        "cut weights": Target(".weights", weights, lambda path: darknet.load_weights(network, path, layers=3)),
        "records": Target(".tfrecord", records, read_records, wrap=record_of),
        **torch_targets(checkpoint.load_torch),
    }
    kinds = ("zip", "tar", "tar.gz", "rar")
    for kind in kinds:
        found[kind] = Target(
            f".{kind}",
            archives_of(kind, test_archives),
            extract,
            allowed=(*ALLOWED, *([RuntimeError] if kind == "rar" else [])),
        )
    return found


def record_of(payload: bytes) -> bytes:
    """A TFRecord file of one record."""
    from helpers.circulant_video.formats import tfrecord

    length = len(payload).to_bytes(8, "little")
    sums = [tfrecord.checksum(part).to_bytes(4, "little") for part in (length, payload)]
    return length + sums[0] + payload + sums[1]


def torch_targets(load: Callable[[Path], object]) -> dict[str, Target]:
    """PyTorch's two containers, whose pickles are spoiled by themselves."""
    import torch_writers

    tensor = torch_writers.FakeTensor(np.arange(6, dtype="<f4").reshape(2, 3), 1)
    state = {
        "net": collections.OrderedDict({"module.w": tensor, "module.b": torch_writers.FakeTensor(np.ones(2, "<u2"), 2)})
    }
    state |= {
        "epoch": np.int64(3),
        "args": argparse.Namespace(a=[1, (2.5, None)]),
        "h": np.arange(3),
        "d": {1: {2}, "x": b"y"},
    }
    with torch_writers.torch_names():
        pickles = [torch_writers.pickled(state, protocol=protocol)[0] for protocol in (2, 3, 4, 5)]
        old = [torch_writers.pickled(state, extra=(None,), protocol=protocol)[0] for protocol in (2, 4)]
        storages = torch_writers.pickled(state)[1]

    def zipped(stream: bytes) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("x/data.pkl", stream)
            for key, array in storages.items():
                archive.writestr(f"x/data/{key}", array.tobytes())
        return file.getvalue()

    def row(stream: bytes) -> bytes:
        parts = [torch_writers.containers.MAGIC, 1001, {"little_endian": True}]
        content = b"".join(pickle.dumps(part, protocol=2) for part in parts) + stream
        content += pickle.dumps(list(storages), protocol=2)
        return content + b"".join(array.size.to_bytes(8, "little") + array.tobytes() for array in storages.values())

    return {
        "torch zip": Target(".pth", pickles, load, zipped, PICKLES),
        "torch row": Target(".pth", old, load, row, PICKLES),
    }


def archives_of(kind: str, writers) -> list[bytes]:
    """A sound archive and one that wants out of its folder."""
    folder = Path(tempfile.mkdtemp())
    found = []
    for number, first in enumerate(("a.txt", "../a.txt")):
        path, members = folder / f"{number}.{kind}", [(first, b"alpha" * 40), ("sub/b.txt", b"beta")]
        if kind == "rar":
            writers.rar_of(path, members)
        elif kind == "zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if number else zipfile.ZIP_STORED) as archive:
                for name, content in members:
                    archive.writestr(name, content)
        else:
            with writers.tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as archive:
                for name, content in members:
                    info = writers.tarfile.TarInfo(name)
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
        found.append(path.read_bytes())
    shutil.rmtree(folder)
    return found


def extract(path: Path) -> None:
    from helpers.fetch import archives

    archives.extract(path, path.with_name("cut"), max_bytes=1 << 20)


def targets() -> dict[str, Target]:
    """All readers by name."""
    return {**text_targets(), **binary_targets()}


# --- running ---


class TooLong(BaseException):
    """The time of one case is up."""


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """So much memory more than now, and an alarm that ends what takes too long."""

    def stop(*_: object) -> None:
        raise TooLong

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def judge(target: Target, path: Path) -> str | None:
    """What is wrong with how a file was read; None if nothing is."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        target.read(path)
    except TooLong:
        return f"more than {SECONDS} s\n{traceback.format_exc()}"
    except target.allowed as error:
        if path.name not in str(error) and not isinstance(error, RuntimeError):
            return f"does not name the file: {traceback.format_exc()}"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return None


def run(name: str, target: Target, *, count: int, seed: int = 0, first: int = 0) -> list[tuple[int, str]]:
    """Numbers of the cases that are findings, and what was found."""
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    findings = []
    here = Path.cwd()
    with (
        tempfile.TemporaryDirectory(dir=shared) as root,
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        (Path(root) / "case" / "work").mkdir(parents=True)
        path = Path(root) / "case" / f"some file{target.suffix}"
        os.chdir(path.with_name("work"))
        try:
            path.write_bytes(target.wrap(target.samples[0]) if target.wrap else target.samples[0])
            with contextlib.suppress(RuntimeError):  # a machine without a program for rar
                target.read(path)  # a sound file is read; and what is imported late does not count
            with bounded():
                for number in range(first, first + count):
                    shutil.rmtree(path.with_name("cut"), ignore_errors=True) if path.with_name("cut").is_dir() else None
                    path.write_bytes(case(name, target, seed, number))
                    problem = judge(target, path) or _strays(Path(root), path)
                    if problem:
                        findings.append((number, problem))
        finally:
            os.chdir(here)
    return findings


def _strays(root: Path, path: Path) -> str | None:
    found = {place.name for folder in (root, path.parent, path.with_name("work")) for place in folder.iterdir()}
    extra = found - {"case", "work", "cut", path.name}
    return f"left outside its folder: {sorted(extra)}" if extra else None


def _kind(problem: str) -> tuple:
    """Findings with the same last line of ours and the same type are one kind."""
    places = re.findall(r'File ".*?(helpers/.*?)", line (\d+)', problem)
    return problem.split(":")[0][:40], *places[-1:], problem.strip().splitlines()[-1].split(":")[0][:60]


def main() -> None:
    """Run targets and print a line for each, then the first finding of each kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument(
        "--seconds", type=float, default=1e9, help="begin no other round of 500 cases each after so long"
    )
    options = parser.parse_args()
    every = targets()
    if unknown := set(options.names) - set(every):
        parser.error(f"no {', '.join(unknown)}; there are: {', '.join(every)}")
    names = options.names or list(every)
    began, done, spent = time.monotonic(), dict.fromkeys(names, 0), dict.fromkeys(names, 0.0)
    kinds: dict[str, dict] = {name: {} for name in names}
    while time.monotonic() - began < options.seconds and min(done.values()) < options.count:
        for name in names:  # in turn, so that a run that is stopped has tried all
            start, some = time.monotonic(), min(500, options.count - done[name])
            for number, problem in run(
                name, every[name], count=some, seed=options.seed, first=options.first + done[name]
            ):
                kinds[name].setdefault(_kind(problem), (number, problem))
            done[name] += some
            spent[name] += time.monotonic() - start
    for name in names:
        print(f"{name}: {done[name]} cases in {spent[name]:.0f} s, {len(kinds[name])} kinds of findings")
        for number, problem in kinds[name].values():
            print(f"--- {name}, case {number}\n{problem[-1500:]}")
    print(f"{sum(done.values())} cases in all")


CFG = """[net]
width=32
height=32
channels=3
[convolutional]
batch_normalize=1
filters=4
size=3
stride=2
pad=1
activation=leaky
[maxpool]
size=2
stride=2
[shortcut]
from=-2
activation=linear
[upsample]
stride=2
[route]
layers=-1,-4
groups=2
group_id=1
[dropout]
probability=.5
[convolutional]
filters=12
size=1
activation=logistic
[yolo]
mask=0,1
anchors=4,5, 9,7, 12,16
classes=1
num=3
scale_x_y=1.05
new_coords=1
"""
CFG = CFG.replace("[shortcut]\nfrom=-2\nactivation=linear\n", "").replace("layers=-1,-4", "layers=-1,-3")
HANK_AI = (
    b"v3 ciou loss, Normalizer: (iou: 0.07, obj: 1.00, cls: 1.00) Region 30 Avg (IOU: 0.6331), count: 7, class_loss: 0.4\n"
    b"1200: loss=0.444, avg loss=0.329, last=61.20%, best=63.10%, mAP=1300, rate=0.00002600, load 64=12.3 milliseconds, "
    b"train=64.4 milliseconds, 76800 images, time remaining=7 seconds\n"
    b"-> mean average precision (mAP@0.50)=61.20%\n"
)
MAPS = (
    b"class_id = 0, name = Boat, ap = 71.20%   \t (TP = 812, FP = 143) \n"
    b" for conf_thresh = 0.25, precision = 0.85, recall = 0.74, F1-score = 0.79 \n"
    b" for conf_thresh = 0.25, TP = 813, FP = 143, FN = 285, average IoU = 66.10 % \n"
    b" mean average precision (mAP@0.50) = 0.612000, or 61.20 % \n"
)
BOXES = (
    b"ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
    b"000a1249af2bc5f0,xclick,/m/019jd,1,0.1,0.5,0.2,0.6,0,0,0,0,0\n"
    b"000a1249af2bc5f0,xclick,/m/01,1,0.1,0.5,0.2,0.6,-1,0,1,0,0\n"
)
IMAGES = (
    b"ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,Title,OriginalSize,OriginalMD5,"
    b"Thumbnail300KURL,Rotation\n"
    b'000a1249af2bc5f0,train,https://a/b.jpg,https://a,https://c,https://d,"A, B",T,12345,0123456789012345678901==,,90.0\n'
)
TREE = b'{"LabelName": "/m/0", "Subcategory": [{"LabelName": "/m/019jd", "Subcategory": [{"LabelName": "/m/1"}], "Part": []}]}'
METADATA = (
    b"video_id,start,end,bbox,fps,width,height,partition,person_id\n"
    b"WMh3ye5tBsE,3657,3994,624-48-1018-553,25,1280,720,train,id10005\n"
)
ALIGNMENT = (
    b"0 12500 sil\n12500 18000 bin\n18000 24000 blue\n24000 30000 at\n30000 36000 f\n36000 42000 two\n42000 50000 now\n"
    b"50000 74500 sp\n"
)
PICKLES = [
    b"cos\nsystem\n", b"c__builtin__\neval\n", b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b")R",
    b"\x85R", b"\x81", b"b", b"Q", b"(", b"t", b"0", b"2", b"u", b"s", b"e", b"a", b"]", b"}", b")", b"\x94", b"h\0", b"q\0",
    b"cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR", b"cnumpy.core.multiarray\nscalar\n", b"I" + b"9" * 5000 + b"\n", b"\x8b\xff\xff\xff\x7f",
    b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f", b"X\xff\xff\xff\x7f", b"\x96" + b"\xff" * 8, b")" + b"\x85" * 5000, b"o",
    b"]" * 3000 + b"a" * 2999, b"ia\nb\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"\x8f", b"\x90", b"\x91", b"\x92", b"\x97",
    b"\x98", b"\x82\x01", b"P1\n", b"\x93",
]  # fmt: skip


if __name__ == "__main__":
    main()
