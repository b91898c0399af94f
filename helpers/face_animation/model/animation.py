"""Training of the first-order motion model: all its losses in one `compute_loss`, so that any Keras backend trains it."""

import dataclasses
import functools
from collections.abc import Callable

import keras
from keras import ops

from helpers.face_animation import losses
from helpers.face_animation.config import FaceAnimationConfig as Defaults
from helpers.face_animation.model import hourglass, transform

POINTS = ("value", "jacobian")


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """What each term of the loss counts; the defaults are the original's. The last three are a discriminator's.

    Attributes:
        perceptual: of every level of the features at every scale.
        warped: the same for the source as the motion alone moves it; of a generator with `skip`, not in the paper.
        feature_matching: of every block of the discriminator.
    """

    perceptual: float = Defaults.perceptual_weight
    warped: float = Defaults.warped_weight
    equivariance_value: float = Defaults.equivariance_value
    equivariance_jacobian: float = Defaults.equivariance_jacobian
    generator_gan: float = Defaults.generator_gan
    feature_matching: float = Defaults.feature_matching
    discriminator_gan: float = 1.0

    def by_term(self) -> dict[str, float]:
        """The weights under the names that the original's log has."""
        names = {"generator_gan": "gen_gan", "discriminator_gan": "disc_gan"}
        return {names.get(name, name): value for name, value in dataclasses.asdict(self).items()}


class AnimationModel(keras.Model):
    """Keypoint detector, generator and, if wanted, discriminator, trained together on pairs of frames of one clip.

    Compile it with an optimiser alone; the original's is Adam(2e-4, beta_1=0.5, beta_2=0.999, epsilon=1e-8). One for all
    networks equals one for each: the loss of the discriminator moves the discriminator only, all others move the rest only.
    Its log has every term times its weight, under the original's names; `loss` is their sum, so with a discriminator it need
    not fall.

    Args:
        kp_detector: of `build_keypoint_detector`.
        generator: of `build_generator`, with the same number of keypoints.
        discriminator: of `build_discriminator`; None trains without one. All networks have one size and number of keypoints.
        compare: the distance of two batches of pictures in [0, 1], (prediction, driving) -> a scalar; None: of their pixels at
            several scales. A function, such as a partial, whose network Keras neither trains nor saves with this model.
        weights: of the terms of the loss.
        seed: of the random transforms.

    Call arguments:
        inputs: dict with source and driving, (B, H, W, 3) in [0, 1].

    Returns:
        dict with the generator's outputs, kp_source_value, kp_source_jacobian, kp_driving_value, kp_driving_jacobian; in training
        also the parameters of a random `transform` and kp_transformed_... of the driving frames that it has bent.
    """

    def __init__(
        self, kp_detector: keras.Model, generator: keras.Model, discriminator: keras.Model | None = None, *,
        compare: Callable | None = None, weights: LossWeights | None = None, seed: int = 0, **options,
    ) -> None:  # fmt: skip
        super().__init__(name="animation_model", **options)
        self.loss_weights = weights or LossWeights()
        self.bends = bool(self.loss_weights.equivariance_value or self.loss_weights.equivariance_jacobian)
        self.kp_detector, self.generator, self.discriminator = kp_detector, generator, discriminator
        self.compare = compare or functools.partial(losses.perceptual, losses.pixels)
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.term_means = [keras.metrics.Mean(name) for name in self.term_names()]
        self.scale_for_replicas = _Total(name="total")
        self.built = True  # as its networks are

    def term_names(self) -> list[str]:
        """The terms of the loss that are computed, in the order of the log."""
        names = ["perceptual", "warped", "equivariance_value", "equivariance_jacobian"]
        if self.discriminator is not None:
            names += ["gen_gan", "feature_matching", "disc_gan"]
        return [name for name in names if self.loss_weights.by_term()[name]]

    def call(self, inputs, training=None):
        frames, bend = {who: inputs[who] for who in ("source", "driving")}, {}
        if training and self.bends:
            frames["transformed"], bend = self._transform(inputs["driving"])
        # At once is quicker; each has statistics of its own, as in the original's calls one after the other.
        with hourglass.together(len(frames)):
            found = self.kp_detector(ops.concatenate(list(frames.values())), training=training)
        parts = dict(zip(frames, _parts(found, len(frames)), strict=True))
        points = {f"kp_{who}_{what}": part[what] for who, part in parts.items() for what in POINTS}
        wanted = {name: points[name] for name in self.generator.input if name != "source"}
        return {**self.generator({"source": inputs["source"], **wanted}, training=training), **points, **bend}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The sum of all weighted terms; `x` and `y_pred` are the call's, `y` (such as zeros (B,)) is not looked at."""
        terms = self.compute_terms(x["driving"], y_pred, training=training)
        weights, total = self.loss_weights.by_term(), 0.0
        for mean in self.term_means:
            weighted = weights[mean.name] * terms[mean.name]
            mean.update_state(weighted)
            total = total + weighted
        return self.scale_for_replicas(total, total)

    def compute_terms(self, driving, outputs: dict, *, training: bool = False) -> dict:
        """All terms of the loss, unweighted scalars by name; see `helpers.face_animation.losses`."""
        prediction = outputs["prediction"]
        terms = {}
        if self.loss_weights.perceptual:
            terms["perceptual"] = self.compare(prediction, driving)
        if self.loss_weights.warped:
            terms["warped"] = self.compare(outputs["warped"], driving)
        if self.bends:
            terms |= self._equivariance(driving, outputs, training)
        if self.discriminator is not None:
            points = ops.stop_gradient(outputs["kp_driving_value"])
            terms |= self._adversarial(driving, prediction, points, training)
        return terms

    def _equivariance(self, driving, outputs, training):
        """A known transform of the frame must do to its keypoints what it does to all points."""
        if "kp_transformed_value" in outputs:
            bend, found = outputs, {what: outputs[f"kp_transformed_{what}"] for what in POINTS}
        else:
            frame, bend = self._transform(driving)
            found = self.kp_detector(frame, training=training)
        slopes = transform.jacobian(found["value"], bend), found["jacobian"]
        moved = transform.warp_points(found["value"], bend)
        return {
            "equivariance_value": losses.equivariance_value(outputs["kp_driving_value"], moved),
            "equivariance_jacobian": losses.equivariance_jacobian(outputs["kp_driving_jacobian"], *slopes),
        }

    def _transform(self, frames):
        """Frames bent at random, and how: see `transform.draw`."""
        drawn = transform.draw(ops.shape(frames)[0], self.seed_generator)
        corners = self.generator.get_layer("warp").align_corners
        return transform.warp_images(frames, drawn, align_corners=corners), drawn

    def _adversarial(self, driving, prediction, points, training):
        """The discriminator twice: to train it on a prediction that stands still, then to judge a moving one, standing still."""
        both = ops.concatenate([driving, ops.stop_gradient(prediction)])  # it has no statistics over the batch
        real, old = _parts(self._judge(both, ops.concatenate([points, points]), training), 2)
        frozen = [(variable, ops.stop_gradient(variable.value)) for variable in self.discriminator.variables]
        with keras.StatelessScope(state_mapping=frozen):
            new = self._judge(prediction, points, False)
        return {
            "gen_gan": losses.generator_gan(new["prediction"]),
            "feature_matching": losses.feature_matching(real["features"], new["features"]),
            "disc_gan": losses.discriminator_gan(real["prediction"], old["prediction"]),
        }

    def _judge(self, images, points, training):
        inputs = {"image": images, "kp_value": points}
        return self.discriminator({name: inputs[name] for name in self.discriminator.input}, training=training)


class _Total(keras.losses.Loss):
    """Passes a scalar on, scaled as Keras scales a loss when several replicas add up their gradients."""

    def call(self, y_true, y_pred):
        return y_pred


def _parts(outputs, count: int) -> list:
    """Outputs for several batches in one, taken apart."""
    parts = keras.tree.map_structure(lambda x: ops.split(x, count), outputs)
    return [keras.tree.map_structure_up_to(outputs, lambda part, i=i: part[i], parts) for i in range(count)]
