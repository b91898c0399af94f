"""How fast the full YOLOv3 runs on a CPU beside OpenCV 4's DNN module, same weights, decoding included on both sides.

Usage: python tests/benchmarks/darknet_inference.py --opencv4 PYTHON [--size 416] [--network yolov3|tiny] [--rounds 40]
PYTHON is the interpreter of an environment of its own: python -m venv cv4 && cv4/bin/pip install "opencv-python-headless<5"
Both stand ready in processes of their own and take turns, so load that comes and goes meets both. Random weights.
"""

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:] = [
    str(Path(__file__).resolve().parents[2]),
    *(path for path in sys.path if Path(path) != Path(__file__).parent),
]

import numpy as np

OPENCV = """
import sys, time, cv2, numpy as np
cfg, weights, image, output = sys.argv[1:]
net = cv2.dnn.readNetFromDarknet(cfg, weights)
blob = np.ascontiguousarray(np.load(image).transpose(0, 3, 1, 2))
names = net.getUnconnectedOutLayersNames()
for line in sys.stdin:
    began = time.perf_counter()
    net.setInput(blob)
    rows = net.forward(names)
    taken = time.perf_counter() - began
    np.save(output, np.concatenate(rows))
    print(taken, flush=True)
"""


def recipe():
    """The script that makes the golden numbers, for its weights and images."""
    path = Path(__file__).parents[1] / "boat_detection" / "golden" / "make_darknet.py"
    spec = importlib.util.spec_from_file_location("make_darknet", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class OpenCV:
    """OpenCV 4 in its own environment and process; `seconds()` times one forward pass."""

    def __init__(self, python, folder):
        files = [str(folder / name) for name in ("net.cfg", "net.weights", "image.npy", "rows.npy")]
        self.rows = folder / "rows.npy"
        self.process = subprocess.Popen(
            [python, "-c", OPENCV, *files], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def seconds(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


class Ours:
    """The detector of this package; `seconds()` times one `predict_on_batch`."""

    def __init__(self, folder, size):
        from helpers import runtime

        runtime.quiet_start()
        from helpers.boat_detection import darknet, model

        cfg = darknet.read_cfg(folder / "net.cfg")
        network = darknet.build_from_cfg(cfg, epsilon=1e-6)
        darknet.load_weights(network, folder / "net.weights")
        self.detector = model.build_inference_model(network, cfg, size)
        self.image = np.load(folder / "image.npy")

    def seconds(self):
        began = time.perf_counter()
        self.found = self.detector.predict_on_batch(self.image)
        return time.perf_counter() - began


def difference(found, rows):
    """Largest difference between our boxes and OpenCV's rows."""
    boxes, objectness, classes = (part[0] for part in found)
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    ours = np.concatenate([centre, size, objectness[:, None], objectness[:, None] * classes], axis=1)
    return float(np.abs(ours - rows).max())


def main() -> None:
    """Measure, and print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--opencv4", required=True, help="Python of an environment with OpenCV 4")
    parser.add_argument("--size", type=int, default=416)
    parser.add_argument("--network", default="yolov3", choices=("yolov3", "tiny"))
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    make = recipe()
    from helpers.boat_detection.formats.darknet import networks
    from helpers.boat_detection.formats.darknet.cfg_files import parse_cfg

    text = {"yolov3": networks.yolov3_cfg, "tiny": networks.yolov3_tiny_cfg}[options.network](80)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "net.cfg").write_text(text.replace("[yolo]\n", "[yolo]\nthresh=0\n"))
        make.write_weights(folder / "net.weights", make.make_weights(parse_cfg(text), seed=0))
        np.save(folder / "image.npy", make.make_image(options.size, options.size))
        sides = {"OpenCV 4": OpenCV(options.opencv4, folder), "ours": Ours(folder, options.size)}
        for side in sides.values():  # compile, allocate, fill caches
            for _ in range(3):
                side.seconds()
        print(f"largest difference of outputs: {difference(sides['ours'].found, np.load(sides['OpenCV 4'].rows)):.1e}")
        times = {key: [] for key in sides}
        for _ in range(options.rounds):
            for key, side in sides.items():
                times[key].append(side.seconds())
        sides["OpenCV 4"].process.communicate()
    print(
        f"{options.network}, {options.size} x {options.size}, batch 1, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    for key, taken in times.items():
        print(f"{key:9} median {1000 * statistics.median(taken):6.1f} ms   fastest {1000 * min(taken):6.1f} ms")
    ratios = [a / b for a, b in zip(times["OpenCV 4"], times["ours"], strict=True)]
    fastest = min(times["OpenCV 4"]) / min(times["ours"])
    print(f"OpenCV 4 / ours: median {statistics.median(ratios):.2f}   of the fastest {fastest:.2f}")


if __name__ == "__main__":
    main()
