"""Ensembles: networks of one input that are averaged, as one model; a single network is one of one member.

Of a mirrored ensemble each member answers the image and its mirror image, left for right.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from brain_ray.config import BackboneSpec
from brain_ray.models.outputs import grad_cam, with_maps

if TYPE_CHECKING:
    import keras

MEMBER = "member_"
"""Name of a member's layer in an ensemble, before its number from 0."""


PLAIN, MIRRORED = "ensemble", "mirrored_ensemble"
"""Names of the models of `join_networks`: a bundle's model.keras keeps them."""


def join_networks(networks: "Sequence[keras.Model]", *, mirrored: bool = False) -> "keras.Model":
    """Returns a model whose probabilities are the mean of those of some networks; of one, the network itself.

    Args:
        networks: of `build_network`, with inputs of the same size. They become layers, and are named anew.
        mirrored: whether each answers the image and its mirror image, and all these answers are averaged.
    """
    import keras

    if len(networks) == 1 and not mirrored:
        return networks[0]
    for number, network in enumerate(networks):
        network.name = f"{MEMBER}{number}"
    image = keras.Input(networks[0].input_shape[1:], name="image")
    views = [image, _mirror(image)] if mirrored else [image]
    answers = [network(view) for network in networks for view in views]
    mean = keras.layers.Average(name="mean")(answers)
    return keras.Model(image, mean, name=MIRRORED if mirrored else PLAIN)


def _mirror(image: Any) -> Any:
    """Returns images, (n, height, width, channels), with left and right exchanged."""
    import keras

    return keras.ops.flip(image, axis=2)


def networks_of(model: "keras.Model") -> "list[keras.Model]":
    """Returns the networks of a model of `join_networks`, in their order."""
    return [layer for layer in model.layers if layer.name.startswith(MEMBER)] or [model]


def served_model(model: "keras.Model", specs: Sequence[BackboneSpec]) -> "keras.Model":
    """Returns a model of `join_networks`, of networks with these backbones, with the outputs that are served.

    The mean of the members' probabilities; their feature maps, one after the other along the channels; and
    the statistics of the first member, by which a bundle's detector tells what is unlike the training images.
    Maps and statistics are those of the image itself, mirrored or not.

    Raises:
        RunError: as `with_maps`.
    """
    import keras

    members = networks_of(model)
    first, *others = [with_maps(member, spec) for member, spec in zip(members, specs, strict=True)]
    mirrored = model.name == MIRRORED
    if not others and not mirrored:
        return first
    image = keras.Input(model.input_shape[1:])
    found = [served(image) for served in (first, *others)]
    answers = [each[0] for each in found]
    if mirrored:
        answers += [member(_mirror(image)) for member in members]
    maps = [each[1] for each in found]
    feature_map = keras.layers.Concatenate()(maps) if others else maps[0]
    return keras.Model(image, [keras.layers.Average()(answers), feature_map, found[0][2]])


def heat_map(model: "keras.Model", feature_map: Any, label: Any) -> Any:
    """Returns the mean of the members' Grad-CAMs, each divided by its largest value; of one, its Grad-CAM.

    Args:
        model: of `join_networks`.
        feature_map: (n, rows, columns, the channels of all members), from `served_model`.
        label: (n,) indices of the classes to explain.

    Returns:
        (n, rows, columns), 0 or more.
    """
    import tensorflow as tf

    members = networks_of(model)
    channels = [member.get_layer("pool").input.shape[-1] for member in members]
    maps = tf.split(feature_map, channels, axis=-1)
    heat = [grad_cam(member, each, label) for member, each in zip(members, maps, strict=True)]
    if len(heat) == 1:
        return heat[0]
    largest = [tf.reduce_max(each, axis=(1, 2), keepdims=True) for each in heat]
    return tf.add_n([each / tf.maximum(top, 1e-12) for each, top in zip(heat, largest, strict=True)]) / len(
        heat
    )
