"""Make darknet.npz: outputs of OpenCV 4's reader of Darknet networks, which OpenCV 5 no longer has.

    python -m venv cv4 && cv4/bin/pip install "opencv-python-headless<5"
    cv4/bin/python tests/boat_detection/golden/make_darknet.py [FOLDER WITH yoloface-50k]

Weights and images come from a seed, by operations that every NumPy rounds the same way, so they are made anew in the tests and
only some rows of OpenCV's output are stored. OpenCV's batch normalisation has epsilon 1e-6; its Winograd form of the convolution is
off, it costs a digit. Of yoloface-50k (github.com/dog-qiuqiu/MobileNet-Yolo), with its genuine weights, eight rows are stored.
"""

import hashlib
import struct
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from helpers.boat_detection.formats.darknet import cfg_files, networks

GOLDEN = Path(__file__).with_name("darknet.npz")
STEP = 13  # every 13th row is stored: no multiple of the anchors per cell

CONV = "[convolutional]\nbatch_normalize=1\nfilters={}\nsize={}\nstride={}\npad=1\nactivation={}\n"
V4 = "\n".join(
    [
        "[net]\nwidth=64\nheight=64\nchannels=3\n",
        CONV.format(8, 3, 2, "mish"),  # 0
        CONV.format(8, 3, 1, "leaky") + "groups=2\n",  # 1
        "[route]\nlayers=-1\ngroups=2\ngroup_id=1\n",  # 2
        CONV.format(4, 3, 1, "swish") + "groups=4\n",  # 3
        CONV.format(8, 1, 1, "relu"),  # 4
        "[shortcut]\nfrom=-4\nactivation=leaky\n",  # 5
        "[maxpool]\nsize=3\nstride=2\n",  # 6
        CONV.format(12, 1, 1, "logistic"),  # 7
        "[shortcut]\nfrom=-2\nactivation=linear\n",  # 8: 12 channels and 8
        "[maxpool]\nstride=1\nsize=5\n",  # 9
        "[route]\nlayers=-2\n",  # 10
        "[maxpool]\nstride=1\nsize=9\n",  # 11
        "[route]\nlayers=-1,-3,-4\n",  # 12
        CONV.format(16, 3, 2, "mish"),  # 13
        "[dropout]\nprobability=.3\n",  # 14
        "[convolutional]\nsize=1\nstride=1\npad=1\nfilters=21\nactivation=linear\n",  # 15
        "[yolo]\nmask=3,4,5\nanchors=4,5, 9,7, 12,16, 20,18, 30,44, 60,52\nclasses=2\nnum=6\nscale_x_y=1.05\n",  # 16
        "[route]\nlayers=13\n",  # 17
        "[upsample]\nstride=2\n",  # 18
        "[route]\nlayers=-1,8\n",  # 19
        "[convolutional]\nsize=1\nstride=1\npad=1\nfilters=14\nactivation=linear\n",  # 20
        "[yolo]\nmask=0,2\nanchors=4,5, 9,7, 12,16, 20,18, 30,44, 60,52\nclasses=2\nnum=6\nscale_x_y=1.2\n",  # 21
    ]
)
NETWORKS = {  # name: text, seed
    "yolov3": (networks.yolov3_cfg(1, width=1 / 8), 3),
    "tiny": (networks.yolov3_tiny_cfg(3, width=1 / 8), 4),
    "v4": (V4, 5),
}
CASES = [("yolov3", 64, 64), ("yolov3", 64, 96), ("tiny", 96, 96), ("tiny", 96, 160), ("v4", 64, 64), ("v4", 96, 64)]
FACE = (56, 56)


def make_weights(cfg, seed):
    """Values for every layer: float32 (count,).

    Variances run from 1e-4, where the epsilon of the batch normalisation shows, to 1, and each kernel has the size that makes its
    channel's true variance about that; for it mean and mean square of every output are estimated along the way. Uniform numbers
    only, and no powers or logarithms, whose last bit differs between machines.
    """
    generator = np.random.default_rng(seed)
    moments, parts = {-1: np.array([0.5, 1 / 3])}, []

    def uniform(low, high, *shape):
        return low + (high - low) * generator.random(shape)

    for layer in cfg.layers:
        known = [moments[index] for index in layer.inputs]
        moments[layer.index] = sum(known) / len(known)
        if layer.kind == "shortcut":
            means, squares = zip(*known, strict=True)
            moments[layer.index] = np.array([sum(means), sum(squares) + sum(means) ** 2 - sum(m * m for m in means)])
        if layer.kind == "maxpool":
            moments[layer.index] = known[0] * 2
        if layer.kind != "convolutional":
            continue
        count, inputs = layer.channels, layer.in_channels // layer.values["groups"] * layer.values["size"] ** 2
        variance = np.ones(count)
        parts.append(uniform(-0.5, 0.5, count))  # beta, or the bias of a head
        if layer.values["batch_normalize"]:
            square = uniform(0, 1, count) * uniform(0, 1, count)
            variance = 1e-4 + square * square
            parts += [uniform(0.5, 1.5, count), uniform(-0.3, 0.3, count) * np.sqrt(variance), variance]
        size = np.sqrt(3 * variance / (inputs * known[0][1]))
        parts.append(uniform(-1, 1, count, inputs) * size[:, None])
        moments[layer.index] = np.array([0.4, 0.6])  # behind a leaky rectifier
    return np.concatenate([part.reshape(-1) for part in parts]).astype("<f4")


def make_image(height, width):
    """Random blocks of 8 x 8 pixels, which deep layers still tell apart: (1, height, width, 3) float32 in [0, 1]."""
    blocks = np.random.default_rng(height * width).random((1, height // 8, width // 8, 3)).astype("float32")
    return blocks.repeat(8, axis=1).repeat(8, axis=2)


def write_weights(path, values, *, version=(0, 2, 0), seen=0):
    """The file format, written apart from `helpers.boat_detection.formats.darknet.keras_weights`."""
    with Path(path).open("wb") as file:
        file.write(struct.pack("<3i", *version) + struct.pack("<Q" if version[:2] >= (0, 2) else "<I", seen))
        file.write(np.asarray(values, "<f4").tobytes())


def digest(*arrays):
    """A fingerprint of weights and images."""
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:16]


def forward(cfg_text, weights_path, image):
    """OpenCV's rows of all heads one after another: x, y, w, h, objectness, objectness x class."""
    import cv2

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.cfg")
        path.write_text(cfg_text.replace("[yolo]\n", "[yolo]\nthresh=0\n"))  # else classes below 0.2 are set to 0
        net = cv2.dnn.readNetFromDarknet(str(path), str(weights_path))
    net.enableWinograd(False)
    net.setInput(np.ascontiguousarray(image.transpose(0, 3, 1, 2)))
    return np.concatenate(net.forward(net.getUnconnectedOutLayersNames()))


def main():
    """Write the file anew."""
    golden = {}
    for name, height, width in CASES:
        text, seed = NETWORKS[name]
        values, image = make_weights(cfg_files.parse_cfg(text), seed), make_image(height, width)
        with tempfile.TemporaryDirectory() as folder:
            write_weights(path := Path(folder, "net.weights"), values)
            rows = forward(text, path, image)
        key = f"{name}-{height}x{width}"
        golden[key], golden[f"{key}-digest"] = rows[::STEP], digest(values, image)
        print(
            key,
            rows.shape,
            "sizes",
            np.percentile(rows[:, 2:4], [0, 50, 100]),
            "objectness",
            np.percentile(rows[:, 4], [0, 50, 100]),
        )
    if len(sys.argv) > 1:
        folder = Path(sys.argv[1])
        rows = forward((folder / "yoloface-50k.cfg").read_text(), folder / "yoloface-50k.weights", make_image(*FACE))
        place = np.linspace(0, len(rows) - 1, 8).astype(int)
        golden["yoloface"], golden["yoloface-place"] = rows[place], place
        print("yoloface", rows.shape, rows[place])
    np.savez_compressed(GOLDEN, **golden)
    print(f"{GOLDEN.name}: {GOLDEN.stat().st_size} bytes")


if __name__ == "__main__":
    main()
