"""The generator made ready for playing: what comes from the source alone apart from what comes with every driving frame."""

import keras


def build_source_encoder(generator: keras.Model) -> keras.Model:
    """The part of a generator that depends on the source image only: once per clip instead of once per frame.

    Returns:
        A model from source (B, H, W, 3) to a dict with features and small, and with a skip still, the source itself, for
        `build_driver`; shares the generator's weights.
    """
    return keras.Model(generator.input["source"], _cut(generator), name="source_encoder")


def build_driver(generator: keras.Model) -> keras.Model:
    """The rest of a generator, which shares its weights: one source, many driving frames at a time.

    Returns:
        A model from a dict with the parts of `build_source_encoder` and the four kp_... of the generator to the generator's
        outputs. The source's parts may have batch size 1 whatever that of the driving keypoints.
    """
    old = {**_cut(generator), **generator.input}
    del old["source"]
    inputs = {name: keras.Input(part.shape[1:], dtype=part.dtype, name=name) for name, part in old.items()}
    known = {id(part): inputs[name] for name, part in old.items()}
    for layer in generator.layers:  # in the order of computation
        parts, results = keras.tree.flatten(layer.input), keras.tree.flatten(layer.output)
        if not parts or any(id(part) not in known for part in parts) or id(results[0]) in known:
            continue  # an input, of the source only, or done
        parts = [known[id(part)] for part in parts]
        joins = isinstance(layer, keras.layers.Add | keras.layers.Concatenate)
        found = layer(parts) if joins else layer(*parts)
        known |= dict(zip(map(id, results), keras.tree.flatten(found), strict=True))
    outputs = {name: known[id(part)] for name, part in generator.output.items()}
    return keras.Model(inputs, outputs, name="driver")


def _cut(generator):
    """The tensors through which all that comes from the source image goes."""
    parts = {"still": generator.input["source"]} if "warped" in generator.output else {}
    small = generator.get_layer("dense_motion_network_down").output
    return {"features": generator.get_layer("warp").input[0], "small": small, **parts}
