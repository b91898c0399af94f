"""Three networks from a clip of lips to a word: OpenAV's, the standard recipe of word-level lip reading, and a tiny one."""

import numbers

import keras
from keras import layers

from helpers.lip_reading.layers import Conv3D, Folded, MaxPooling3D, PerFrame, StandardizeClip

Size = int | tuple[int, int] | None
Tensor = keras.KerasTensor


def batch_relu(x: Tensor, *, momentum: float, name: str) -> Tensor:
    """ReLU(BatchNorm(x))."""
    x = layers.BatchNormalization(momentum=momentum, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def residual_block(x: Tensor, filters: int, stride: int, *, openav: bool, momentum: float, name: str) -> Tensor:
    """ReLU(shortcut(x) + BN(conv(ReLU(BN(conv(x)))))), He et al., "Deep residual learning for image recognition", 2016.

    With `openav` as OpenAV has it: convolutions with a bias, and one more ReLU before the sum.
    """

    def convolve(x: Tensor, size: int, stride: int, name: str) -> Tensor:
        x = layers.Conv2D(filters, size, stride, padding="same", use_bias=openav, name=name)(x)
        return layers.BatchNormalization(momentum=momentum, name=f"{name}_norm")(x)

    y = layers.ReLU(name=f"{name}_relu1")(convolve(x, 3, stride, f"{name}_conv1"))
    y = convolve(y, 3, 1, f"{name}_conv2")
    if openav:
        y = layers.ReLU(name=f"{name}_relu2")(y)
    if stride != 1 or x.shape[-1] != filters:
        x = convolve(x, 1, stride, f"{name}_shortcut")
    return layers.ReLU(name=name)(layers.Add(name=f"{name}_sum")([x, y]))


def residual_stages(x: Tensor, filters: int, *, openav: bool, momentum: float) -> Tensor:
    """The body of ResNet-18 and its mean over the picture: (N, H, W, C) -> (N, 8 filters)."""
    for stage in range(4):
        for block in range(2):
            stride = 2 if stage > 0 and block == 0 else 1
            name = f"stage{stage + 1}_block{block + 1}"
            x = residual_block(x, filters * 2**stage, stride, openav=openav, momentum=momentum, name=name)
    return layers.GlobalAveragePooling2D(name="pool")(x)


def build_frame_encoder(channels: int, size: Size, *, filters: int, momentum: float) -> keras.Model:
    """OpenAV's ResNet-18 for one frame: (N, H, W, C) -> (N, 8 filters)."""
    inputs = keras.Input((*_sides(size), channels), name="frame")
    x = layers.Conv2D(filters, 7, 2, padding="same", use_bias=False, name="conv1")(inputs)
    x = batch_relu(x, momentum=momentum, name="conv1")
    x = layers.MaxPooling2D(2, name="pool1")(x)
    return keras.Model(inputs, residual_stages(x, filters, openav=True, momentum=momentum), name="frame_encoder")


def build_openav(
    num_classes: int, channels: int = 1, size: Size = 112, frames: int | None = 29, *, filters: int = 64,
    units: int = 512, dropout: float = 0.2, momentum: float = 0.99, standardize: str = "clip",
) -> keras.Model:  # fmt: skip
    """Build OpenAV's visual network: a ResNet-18 for every frame, two LSTMs over the frames.

    OpenAV's ends in the 512 features; the last layer is ours. With the defaults and 26 classes it has 15 396 314 parameters.
    ValueError: a size, number or mode that is not possible.

    Args:
        channels: 1 for grey, 3 for colour.
        size: side in pixels, or (height, width); None for any.
        frames: frames per clip; None for any.
        filters: width of the first stage of the ResNet, 64 in the original.
        units: width of both LSTMs, 512 in the original.
        momentum: of BatchNorm; below about 500 training steps 0.9, or its averages never arrive.
        standardize: what the network does to a clip first, see `layers.StandardizeClip`.

    Returns:
        A model (B, T, H, W, C) float32 in [0, 1] -> logits (B, num_classes) float32.
    """
    inputs, x = _inputs(num_classes, channels, size, frames, standardize, smallest=3)
    x = PerFrame(build_frame_encoder(channels, size, filters=filters, momentum=momentum), name="per_frame")(x)
    x = layers.LSTM(units, return_sequences=True, name="lstm1")(x)  # (B, T, units)
    x = layers.Dropout(dropout, name="dropout1")(x)
    x = layers.LSTM(units, name="lstm2")(x)  # (B, units)
    x = layers.Dropout(dropout, name="dropout2")(x)
    x = layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, x, name="openav")


def build_conv3d_bigru(
    num_classes: int, channels: int = 1, size: Size = 88, frames: int | None = 29, *, filters: int = 64,
    units: int = 1024, recurrent_layers: int = 3, dropout: float = 0.5, recurrent_dropout: float = 0.2,
    momentum: float = 0.99, standardize: str = "clip",
) -> keras.Model:  # fmt: skip
    """Build the standard recipe for single words: one 3-D convolution, a ResNet-18 for every frame, bidirectional GRUs.

    The first layer already sees five frames at once. After Feng et al., "Learn an effective lip reading model without
    pains", 2020. Logits of all frames are averaged.

    Args:
        dropout: before the first GRU and after the last.
        recurrent_dropout: between two GRUs.
        For the others, the model and the errors see `build_openav`.
    """
    inputs, x = _inputs(num_classes, channels, size, frames, standardize)
    x = Conv3D(filters, (5, 7, 7), (1, 2, 2), padding="same", use_bias=False, name="conv1")(x)
    x = batch_relu(x, momentum=momentum, name="conv1")
    x = MaxPooling3D((1, 3, 3), (1, 2, 2), padding="same", name="pool1")(x)
    frame = keras.Input(x.shape[2:], name="frame")
    body = keras.Model(frame, residual_stages(frame, filters, openav=False, momentum=momentum), name="frame_encoder")
    x = PerFrame(body, name="per_frame")(x)
    x = layers.BatchNormalization(momentum=momentum, name="features_norm")(x)
    for number in range(recurrent_layers):
        x = layers.Dropout(recurrent_dropout if number else dropout, name=f"dropout{number + 1}")(x)
        x = layers.Bidirectional(layers.GRU(units, return_sequences=True), name=f"gru{number + 1}")(x)
    x = layers.Dropout(dropout, name="dropout_last")(x)
    x = layers.Dense(num_classes, dtype="float32", name="frame_logits")(x)  # (B, T, num_classes)
    x = layers.GlobalAveragePooling1D(dtype="float32", name="logits")(x)
    return keras.Model(inputs, x, name="conv3d_bigru")


def build_tiny(
    num_classes: int, channels: int = 1, size: Size = 32, frames: int | None = 16, *,
    filters: tuple[int, int, int] = (12, 24, 32), features: int = 48, units: int = 32, dropout: float = 0.2,
    momentum: float = 0.9, standardize: str = "motion",
) -> keras.Model:  # fmt: skip
    """Build a network that learns on two CPU cores within a minute: three convolutions, one bidirectional GRU.

    Args:
        size: side in pixels, or (height, width); not None, because where in the picture something is counts here.
        filters: of the three convolutions; the first one sees five frames at once, the others one.
        features: numbers per frame that the GRU gets.
        For the others and the errors see `build_openav`.

    Returns:
        A model (B, T, H, W, C) float32 in [0, 1] -> logits (B, num_classes); 33 732 parameters by default with 8 classes.
    """
    if None in _sides(size):
        raise ValueError(f"size must be an int or (height, width) for this network. Received: size={size!r}")
    inputs, x = _inputs(num_classes, channels, size, frames, standardize, smallest=3)
    for number, (width, span) in enumerate(zip(filters, (5, 3, 3), strict=True), start=1):
        kernel = (5 if number == 1 else 1, span, span)
        x = Conv3D(width, kernel, (1, 2, 2), padding="same", use_bias=False, name=f"conv{number}")(x)
        x = batch_relu(x, momentum=momentum, name=f"conv{number}")
        if number == 1:
            x = MaxPooling3D((1, 2, 2), name="pool1")(x)
    x = layers.Reshape((-1, x.shape[2] * x.shape[3] * x.shape[4]), name="flatten_frames")(x)  # (B, T, H W C)
    x = layers.Dense(features, activation="relu", name="features")(x)
    x = layers.Bidirectional(layers.GRU(units), name="gru")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    x = layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, x, name="tiny")


def build_inference_model(network: keras.Model) -> keras.Model:
    """A network's words as probabilities, (B, T, H, W, C) -> (B, num_classes), in a form that other programs can run; see `Folded`.

    The weights are shared; the network is one of logits.
    """
    x = Folded(network, dtype="float32", name="folded")(inputs := keras.Input(network.input_shape[1:], name="clip"))
    return keras.Model(inputs, layers.Softmax(dtype="float32", name="probabilities")(x), name=f"{network.name}_reader")


BUILDERS = {"openav": build_openav, "conv3d_bigru": build_conv3d_bigru, "tiny": build_tiny}


def _sides(size: Size) -> tuple[int | None, int | None]:
    return tuple(size) if isinstance(size, tuple | list) else (size, size)


def _inputs(
    num_classes: int, channels: int, size: Size, frames: int | None, standardize: str, *, smallest: int = 1
) -> tuple[Tensor, Tensor]:
    """The input and its standardised form, after a check of the numbers that would fail deep inside otherwise."""
    sides = _sides(size)
    given = {"num_classes": (num_classes, 1), "channels": (channels, 1), "frames": (frames, 1)}
    given |= {"height": (sides[0], smallest), "width": (sides[1], smallest)}
    for name, (number, least) in given.items():
        open_side = number is None and name in ("frames", "height", "width")
        if not open_side and (not isinstance(number, numbers.Integral) or number < least):
            raise ValueError(f"{name} must be an int of at least {least}. Received: {name}={number!r}")
    inputs = keras.Input((frames, *sides, channels), name="clip")
    return inputs, StandardizeClip(standardize, name="standardize")(inputs)
