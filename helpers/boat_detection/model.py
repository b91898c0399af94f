"""Networks: YOLOv3 by number of classes, its form for inference alone, and the `Detector` that training takes.

What a .cfg file says is built in `formats.darknet.builder`.
"""

import os
from typing import Any

import keras
from keras import ops

from helpers.boat_detection import losses
from helpers.boat_detection.formats.darknet import networks
from helpers.boat_detection.formats.darknet.builder import build_from_cfg, decode
from helpers.boat_detection.formats.darknet.cfg_files import Cfg, parse_cfg
from helpers.boat_detection.layers import Tensor


def build_yolov3(num_classes: int, *, epsilon: float = 1e-5, momentum: float = 0.99, **options: Any) -> keras.Model:
    """YOLOv3 with Darknet-53: Redmon and Farhadi, 2018, arXiv 1804.02767.

    Args:
        epsilon, momentum: of the batch normalisations.
        **options: of `networks.yolov3_cfg`: `width`, `anchors`, `size`.

    Returns:
        A model from RGB in [0, 1], (B, H, W, 3), H and W multiples of 32, to three raw heads (B, h, w, 3 (5 + num_classes)) at
        strides 32, 16 and 8; 61 576 342 values in its .weights file for one class.
    """
    cfg = parse_cfg(networks.yolov3_cfg(num_classes, **options), "yolov3.cfg")
    return build_from_cfg(cfg, epsilon, momentum=momentum)


def build_inference_model(
    network: keras.Model, cfg: str | os.PathLike | Cfg, input_size: int | tuple[int, int] | None = None
) -> keras.Model:
    """A model for inference alone: network and decoding in one graph at a fixed input size, compiled by XLA.

    Call its `predict_on_batch`; the first call of each batch size compiles.

    Args:
        network, cfg: see `build_from_cfg`; the weights are shared.
        input_size: side of the input in pixels, or (height, width); None is what a parsed file says.

    Returns:
        A model from RGB in [0, 1], (B, height, width, 3), to boxes (B, N, 4), objectness (B, N) and class probabilities
        (B, N, C), as `decode`.
    """
    input_size = input_size or (cfg.net["height"], cfg.net["width"])
    height, width = (input_size, input_size) if isinstance(input_size, int) else input_size
    images = keras.Input((height, width, network.input_shape[-1]), name="image")
    model = keras.Model(images, decode(network(images), cfg, (height, width)), name=f"{network.name}_detector")
    model.compile(jit_compile=True)
    return model


@keras.saving.register_keras_serializable("helpers")
class Detector(keras.Model):
    """A network with several raw heads and the one loss over all of them, which Keras's `compile` cannot express.

    Compile it with an optimiser alone. Beside `loss` its log has `darknet_loss`, the number that Darknet prints (squared deltas,
    mean over heads), and `iou`, the mean IoU of the predictions that have an object to find.

    Args:
        network: from (B, H, W, 3) to one raw head or a list of them.
        yolo_loss: a `losses.YoloLoss` that fits the heads.

    Attributes:
        seen: images seen in training, a variable, as Darknet has it in its .weights files.
    """

    def __init__(
        self, network: keras.Model, yolo_loss: losses.YoloLoss, *, name: str = "detector", **options: Any
    ) -> None:
        super().__init__(name=name, **options)
        self.network, self.yolo_loss = network, yolo_loss
        self.reduce = _Reduce("images", yolo_loss.reduction)
        self.region_report = RegionReport(len(yolo_loss.masks))
        options = {"shape": (), "initializer": "zeros", "trainable": False, "aggregation": "only_first_replica"}
        self.seen = self.add_weight(**options, dtype="int32", name="seen")  # of the model, so that checkpoints hold it
        self.built = True  # as the network is

    @property
    def input_shape(self) -> tuple | None:
        """That of the network; None where images may have any size."""
        return self.network.input_shape

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        return self.network(inputs, training=training)

    def compute_loss(
        self,
        x: Tensor = None,
        y: Tensor = None,
        y_pred: Tensor = None,
        sample_weight: Tensor | None = None,
        training: bool = True,
    ) -> Tensor:
        heads = keras.tree.flatten(y_pred)
        if training:
            strategy = getattr(self, "distribute_strategy", None)  # TensorFlow's; each replica sees its own share
            replicas = strategy.num_replicas_in_sync if strategy else 1
            self.seen.assign_add(ops.cast(ops.shape(y)[0] * replicas, "int32"))
        values, sums = self.yolo_loss.call_with_sums(y, heads)
        self.region_report.update_state(sums)
        loss = self.reduce(values, values, sample_weight)
        for extra in self.losses:  # regularisers
            loss = loss + self._aggregate_additional_loss(extra)
        return loss

    def get_config(self) -> dict[str, Any]:
        parts = {"network": self.network, "yolo_loss": self.yolo_loss}
        config = {key: keras.saving.serialize_keras_object(part) for key, part in parts.items()}
        return {"name": self.name, "dtype": keras.saving.serialize_keras_object(self.dtype_policy), **config}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict | None = None) -> "Detector":
        return cls(**{key: keras.saving.deserialize_keras_object(value) for key, value in config.items()})


class _Reduce(keras.losses.Loss):
    """Passes values (B,) on, to be averaged as Keras averages those of any loss, over several replicas too."""

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return y_pred


@keras.saving.register_keras_serializable("helpers")
class RegionReport(keras.metrics.Metric):
    """Keeps the sums of `YoloLoss.call_with_sums` of the last step, for `TrainLog`, and of the epoch, for the log of Keras."""

    def __init__(self, num_heads: int, name: str = "region_report", dtype: Any = "float32") -> None:
        super().__init__(name=name, dtype=dtype)
        self.num_heads = num_heads
        shape = (num_heads, len(losses.SUM_COLUMNS))
        self.step = self.add_variable(shape, "zeros", name="step")
        self.epoch = self.add_variable(shape, "zeros", name="epoch")

    def update_state(self, sums: Tensor, sample_weight: Tensor | None = None) -> None:
        self.step.assign(sums)
        self.epoch.assign_add(sums)

    def result(self) -> dict[str, Tensor]:
        column = dict(zip(losses.SUM_COLUMNS, ops.unstack(ops.convert_to_tensor(self.epoch), axis=1), strict=True))
        squares = (column["class_loss"] + column["iou_loss"]) / ops.maximum(column["images"], 1.0)
        iou = ops.sum(column["iou"]) / ops.maximum(ops.sum(column["truths"]), 1.0)
        return {"darknet_loss": ops.mean(squares), "iou": iou}

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype, "num_heads": self.num_heads}


def build_loss(cfg: Cfg, dialect: str, **options: Any) -> losses.YoloLoss:
    """The loss of the heads of a .cfg file, with its `ignore_thresh`, `scale_x_y` and, if it has one, `iou_normalizer`.

    `options` are those of `YoloLoss`; they win over the file.

    Raises:
        ValueError: a head has `new_coords`: such networks can be used, not trained.
    """
    first = cfg.yolo[0]
    if any(head.new_coords for head in cfg.yolo):
        raise ValueError(f"{cfg.source}: new_coords=1 is read to find boats, not to train; expected new_coords=0")
    values = {
        "ignore_thresh": first.ignore_thresh,
        "iou_normalizer": first.options.get("iou_normalizer"),
        "strides": [head.stride for head in cfg.yolo] if all(head.stride for head in cfg.yolo) else None,
        "scale_x_y": [head.scale_x_y for head in cfg.yolo],
    }
    return losses.YoloLoss(
        first.anchors, [head.mask for head in cfg.yolo], first.classes, dialect, **{**values, **options}
    )
