"""A network with its loss: what `helpers.training.fit` trains."""

from typing import Any

import keras
from keras import ops

from helpers.boat_detection import losses
from helpers.boat_detection.cfg import Cfg


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

    def __init__(self, network: keras.Model, yolo_loss: losses.YoloLoss, *, name: str = "detector", **options) -> None:
        super().__init__(name=name, **options)
        self.network, self.yolo_loss = network, yolo_loss
        self.reduce = _Reduce("images", yolo_loss.reduction)
        self.region_report = RegionReport(len(yolo_loss.masks))
        options = {"shape": (), "initializer": "zeros", "trainable": False, "aggregation": "only_first_replica"}
        self.seen = self.add_weight(**options, dtype="int32", name="seen")  # of the model, so that checkpoints hold it
        self.built = True  # as the network is

    @property
    def input_shape(self):
        """That of the network; None where images may have any size."""
        return self.network.input_shape

    def call(self, inputs, training=None):
        return self.network(inputs, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
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

    def get_config(self):
        parts = {"network": self.network, "yolo_loss": self.yolo_loss}
        config = {key: keras.saving.serialize_keras_object(part) for key, part in parts.items()}
        return {"name": self.name, "dtype": keras.saving.serialize_keras_object(self.dtype_policy), **config}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**{key: keras.saving.deserialize_keras_object(value) for key, value in config.items()})


class _Reduce(keras.losses.Loss):
    """Passes values (B,) on, to be averaged as Keras averages those of any loss, over several replicas too."""

    def call(self, y_true, y_pred):
        return y_pred


@keras.saving.register_keras_serializable("helpers")
class RegionReport(keras.metrics.Metric):
    """Keeps the sums of `YoloLoss.sums` of the last step, for `TrainLog`, and of the epoch, for the log of Keras.

    Args:
        num_heads: of the network.
    """

    def __init__(self, num_heads: int, name: str = "region_report", dtype: Any = "float32") -> None:
        super().__init__(name=name, dtype=dtype)
        self.num_heads = num_heads
        shape = (num_heads, len(losses.SUM_COLUMNS))
        self.step = self.add_variable(shape, "zeros", name="step")
        self.epoch = self.add_variable(shape, "zeros", name="epoch")

    def update_state(self, sums, sample_weight=None):
        self.step.assign(sums)
        self.epoch.assign_add(sums)

    def result(self):
        column = dict(zip(losses.SUM_COLUMNS, ops.unstack(ops.convert_to_tensor(self.epoch), axis=1), strict=True))
        squares = (column["class_loss"] + column["iou_loss"]) / ops.maximum(column["images"], 1.0)
        iou = ops.sum(column["iou"]) / ops.maximum(ops.sum(column["truths"]), 1.0)
        return {"darknet_loss": ops.mean(squares), "iou": iou}

    def get_config(self):
        return {"name": self.name, "dtype": self.dtype, "num_heads": self.num_heads}


def build_loss(cfg: Cfg, dialect: str = "alexeyab", **options: Any) -> losses.YoloLoss:
    """The loss of the heads of a .cfg file, with its `ignore_thresh`, `scale_x_y` and, if it has one, `iou_normalizer`.

    Args:
        cfg: parsed.
        dialect: as of `YoloLoss`.
        options: of `YoloLoss`; they win over the file.
    """
    first = cfg.yolo[0]
    values = {
        "ignore_thresh": first.ignore_thresh,
        "iou_normalizer": first.options.get("iou_normalizer"),
        "strides": [head.stride for head in cfg.yolo] if all(head.stride for head in cfg.yolo) else None,
        "scale_x_y": [head.scale_x_y for head in cfg.yolo],
    }
    return losses.YoloLoss(
        first.anchors, [head.mask for head in cfg.yolo], first.classes, dialect, **{**values, **options}
    )
