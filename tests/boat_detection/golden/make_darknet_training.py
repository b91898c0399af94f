"""Train a tiny network for six iterations in Darknet itself and keep what it computed; see darknet_training.md.

As a script: LIBDARKNET_SO OUTPUT_NPZ. Imported, it gives the same inputs to the test that repeats the training in Keras.
"""

import ctypes
import os
import re
import sys
import tempfile
from pathlib import Path

import numpy as np

BATCH, SUBDIVISIONS, ITERATIONS = 2, 2, 6  # images of a mini-batch, mini-batches of an update, updates
HEIGHT, WIDTH, CLASSES, MAX_BOXES = 64, 96, 3, 90
LEARNING_RATE, MOMENTUM, DECAY, BURN_IN, STEPS, SCALES = 0.004, 0.9, 0.02, 3, (5,), (0.1,)
IGNORE_THRESH = 0.3
ANCHORS = ((8, 10), (14, 9), (18, 20), (30, 16), (28, 40), (70, 44))
MASKS = ((3, 4, 5), (0, 1, 2))  # strides 32 and 16
# Filters, size, stride of the convolutions in file order: trunk, neck, head, side branch, second head. The neck is there because
# on a CPU a 1x1 convolution overwrites the gradient that a route has left at its input, and a 3x3 one adds to it.
HEAD = (3 * (5 + CLASSES), 1, 1)
CONVOLUTIONS = ((6, 3, 2), (8, 3, 2), (8, 3, 2), (10, 3, 2), (12, 3, 2), (9, 3, 1), HEAD, (6, 1, 1), HEAD)
INPUTS = (3, 6, 8, 8, 10, 12, 9, 12, 6 + 10)
AFTER = {  # sections after a convolution, by its place in CONVOLUTIONS
    6: (("yolo", {"mask": "3,4,5"}), ("route", {"layers": "-4"})),
    7: (("upsample", {"stride": 2}), ("route", {"layers": "-1,3"})),
    8: (("yolo", {"mask": "0,1,2"}),),
}
REGION = re.compile(
    r"Region (\d+) Avg IOU: (\S+), Class: (\S+), Obj: (\S+), No Obj: (\S+), .5R: \S+, .75R: \S+,  count: (\d+)"
)


def kernels_and_biases():
    """First weights: kernels (filters, channels, size, size) and biases, float32, in file order."""
    rng = np.random.Generator(np.random.PCG64(11))
    result = []
    for (filters, size, _), channels in zip(CONVOLUTIONS, INPUTS, strict=True):
        scale = 1.5 * np.sqrt(2 / (size * size * channels))
        kernel = rng.uniform(-scale, scale, (filters, channels, size, size))
        result.append((kernel.astype("float32"), rng.uniform(-0.5, 0.5, filters).astype("float32")))
    return result


def images_of(step):
    """(BATCH, 3, HEIGHT, WIDTH) float32 of mini-batch `step`, counted from 0."""
    rng = np.random.Generator(np.random.PCG64([step, 12]))
    return rng.random((BATCH, 3, HEIGHT, WIDTH)).astype("float32")


def truths_of(step):
    """Per image of the mini-batch an (n, 5) float32 array: centre x, centre y, width, height, class; relative."""
    rng = np.random.Generator(np.random.PCG64([step, 13]))
    result = []
    for image in range(BATCH):
        count = (step + image) % 4 * 3  # so some images are empty
        sizes = np.array(ANCHORS)[rng.integers(0, len(ANCHORS), count)] * rng.uniform(0.7, 1.4, (count, 2))
        rows = np.column_stack(
            [rng.uniform(0.02, 0.98, (count, 2)), sizes / (WIDTH, HEIGHT), rng.integers(0, CLASSES, count)]
        )
        if count > 3:  # two truths in one slot: of one class, and of two
            rows[1] = rows[0] + [0.001, -0.001, 0.01, -0.01, 0]
            rows[3] = rows[2] + [0.001, 0.001, -0.01, 0.01, 0]
            rows[3, 4] = (rows[2, 4] + 1) % CLASSES
        result.append(rows.astype("float32"))
    return result


def cfg_text():
    """The network as Darknet reads it."""
    lines = [
        *(
            "[net]",
            f"batch={BATCH * SUBDIVISIONS}",
            f"subdivisions={SUBDIVISIONS}",
            f"height={HEIGHT}",
            f"width={WIDTH}",
        ),
        *("channels=3", f"momentum={MOMENTUM}", f"decay={DECAY}", f"learning_rate={LEARNING_RATE}", "max_batches=100"),
        *(f"burn_in={BURN_IN}", "policy=steps", f"steps={STEPS[0]}", f"scales={SCALES[0]}", "angle=0", "hue=0"),
    ]
    yolo = {"anchors": ", ".join(f"{w},{h}" for w, h in ANCHORS), "num": len(ANCHORS), "classes": CLASSES}
    yolo |= {"ignore_thresh": IGNORE_THRESH, "truth_thresh": 1, "jitter": 0, "random": 0}
    for index, (filters, size, stride) in enumerate(CONVOLUTIONS):
        activation = "linear" if CONVOLUTIONS[index] == HEAD else "leaky"
        options = {"filters": filters, "size": size, "stride": stride, "pad": 1, "activation": activation}
        for name, values in (("convolutional", options), *AFTER.get(index, ())):
            values = values | yolo if name == "yolo" else values
            lines += [f"[{name}]", *(f"{key}={value}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def write_weights(path):
    """Header of version 0.2.0 and the first weights."""
    with path.open("wb") as file:
        file.write(np.array([0, 2, 0, 0, 0], "<i4").tobytes())
        for kernel, bias in kernels_and_biases():
            file.write(bias.astype("<f4").tobytes() + kernel.astype("<f4").tobytes())


class Matrix(ctypes.Structure):  # as in darknet.h
    _fields_ = (("rows", ctypes.c_int), ("cols", ctypes.c_int), ("vals", ctypes.POINTER(ctypes.c_void_p)))


class Data(ctypes.Structure):
    _fields_ = (
        *(("w", ctypes.c_int), ("h", ctypes.c_int), ("X", Matrix), ("y", Matrix)),
        *(("shallow", ctypes.c_int), ("num_boxes", ctypes.c_void_p), ("boxes", ctypes.c_void_p)),
    )


def matrix(array):
    """A Matrix over the rows of a contiguous float32 array, which the caller keeps alive."""
    rows, cols = array.shape
    addresses = (ctypes.c_void_p * rows)(*[array[i].ctypes.data for i in range(rows)])
    return Matrix(rows, cols, addresses)


def batch_of(iteration):
    """Images and truths of one update as rows, as Darknet's loader leaves them."""
    steps = range(iteration * SUBDIVISIONS, (iteration + 1) * SUBDIVISIONS)
    images = np.concatenate([images_of(step) for step in steps]).reshape(BATCH * SUBDIVISIONS, -1)
    truths = np.zeros((BATCH * SUBDIVISIONS, MAX_BOXES, 5), "float32")
    for row, found in zip(truths, [rows for step in steps for rows in truths_of(step)], strict=True):
        row[: len(found)] = found
    return np.ascontiguousarray(images), truths.reshape(len(truths), -1)


def train(library, folder):
    """Loss, rate and number of weights per iteration; Darknet prints the Region lines."""
    darknet = ctypes.CDLL(library)
    darknet.parse_network_cfg.restype = ctypes.c_void_p
    darknet.train_network.restype = darknet.get_current_rate.restype = ctypes.c_float
    darknet.train_network.argtypes = [ctypes.c_void_p, Data]
    darknet.load_weights.argtypes = darknet.save_weights.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    darknet.get_current_rate.argtypes = [ctypes.c_void_p]
    network = darknet.parse_network_cfg(str(folder / "tiny.cfg").encode())
    darknet.load_weights(network, str(folder / "first.weights").encode())
    result = []
    for iteration in range(ITERATIONS):
        images, truths = batch_of(iteration)
        loss = darknet.train_network(network, Data(WIDTH, HEIGHT, matrix(images), matrix(truths)))
        result.append((loss, darknet.get_current_rate(network)))
    darknet.save_weights(network, str(folder / "last.weights").encode())
    ctypes.CDLL(None).fflush(None)
    return result


def main(library, output):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tiny.cfg").write_text(cfg_text())
        write_weights(folder / "first.weights")
        saved, printed = os.dup(1), folder / "printed.txt"
        with printed.open("wb") as file:
            os.dup2(file.fileno(), 1)
            result = train(library, folder)
            os.dup2(saved, 1)
        regions = [[float(value) for value in found] for found in REGION.findall(printed.read_text())]
        content = np.frombuffer((folder / "last.weights").read_bytes(), np.uint8)
        np.savez_compressed(
            output,
            loss=np.array([loss for loss, _ in result], "float32"),
            rate=np.array([rate for _, rate in result], "float32"),
            regions=np.array(regions).reshape(ITERATIONS * SUBDIVISIONS, len(MASKS), 6),
            seen=content[12:20].view("<u8"),
            weights=content[20:].view("<f4"),
        )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
