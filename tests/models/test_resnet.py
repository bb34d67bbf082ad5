"""Residual networks, MobileNetV2 and EfficientNet-Lite0: sizes, maps, features."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxkd import compress, models, trees


def like(network, size=32):
    batch = {"image": jnp.zeros((2, size, size, 3))}
    model = models.from_linen(network)
    return jax.eval_shape(model.init, jax.random.key(0), batch)


def resnet50(classes):
    widths = (256, 512, 1024, 2048)
    return models.ResNet(classes, (3, 4, 6, 3), widths, 64, bottleneck=True)


def wide(classes, blocks):
    return models.ResNet(classes, (blocks,) * 3, (64, 128, 256), 32)


@pytest.mark.parametrize(
    ("network", "count"),
    [
        (models.ResNet(10, (3, 3, 3), shortcut="pad"), 269_722),
        (models.ResNet(10, (9, 9, 9), shortcut="pad"), 853_018),
        (wide(100, 1), 1_233_540),
        (wide(100, 5), 7_433_860),
        (resnet50(10), 23_520_842),
        (models.MobileNetV2(1000), 3_504_872),
        (models.EfficientNetLite0(1000), 4_652_008),
    ],
)
def test_parameters_are_as_many_as_published(network, count):
    assert trees.count(like(network).params) == count


def test_features_and_sizes_of_maps():
    shapes = models.list_features(
        models.from_linen(resnet50(10)), {"image": jnp.zeros((2, 32, 32, 3))}
    )
    sizes = [shapes[f"stage{i}"].shape for i in range(1, 5)]
    assert sizes == [
        (2, s, s, w) for s, w in ((32, 256), (16, 512), (8, 1024), (4, 2048))
    ]
    assert shapes["pool"].shape == (2, 2048)
    assert shapes["head"].shape == (2, 10)


@pytest.mark.parametrize(("small", "sizes"), [(True, (32, 32, 4)), (False, (16, 8, 1))])
def test_small_images_are_halved_later(small, sizes):
    network = models.MobileNetV2(10, width=0.25, small_images=small)
    shapes = models.list_features(
        models.from_linen(network), {"image": jnp.zeros((1, 32, 32, 3))}
    )
    names = ("stem", "block3", "block17")
    assert tuple(shapes[name].shape[1] for name in names) == sizes
    assert shapes["pool"].shape == (1, 1280)
    assert shapes["block17"].shape[-1] == 80


def test_padded_shortcut_takes_every_second_pixel_and_adds_channels_on_both_sides():
    block = models.ResidualBlock(6, stride=2, shortcut="pad")
    x = jax.random.uniform(jax.random.key(0), (1, 4, 4, 4))
    variables = jax.tree.map(jnp.zeros_like, jax.jit(block.init)(jax.random.key(0), x))
    found = block.apply(variables, x)
    np.testing.assert_array_equal(found[..., 1:5], x[:, ::2, ::2])
    np.testing.assert_array_equal(found[..., jnp.array([0, 5])], 0)


def test_a_block_adds_its_input_where_the_shape_stays():
    block = models.InvertedResidual(4, expansion=2)
    x = jax.random.normal(jax.random.key(0), (1, 4, 4, 4))
    variables = jax.tree.map(jnp.zeros_like, jax.jit(block.init)(jax.random.key(0), x))
    np.testing.assert_array_equal(block.apply(variables, x), x)
    narrower = models.InvertedResidual(3, expansion=2)
    variables = jax.tree.map(
        jnp.zeros_like, jax.jit(narrower.init)(jax.random.key(0), x)
    )
    np.testing.assert_array_equal(narrower.apply(variables, x), jnp.zeros((1, 4, 4, 3)))


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (models.ResNet(10, (1, 1)), "`blocks` has 2 stages"),
        (models.ResNet(10, (1, 1, 1), shortcut="pads"), "`shortcut` must be"),
        (models.ResNet(10, (1,), (8,), stem=16, shortcut="pad"), "16 channels to 8"),
        (models.ResNet(10, (1,), (8,), mean=(0.5, 0.5)), "`mean` has 2 values"),
    ],
)
def test_bad_networks_are_refused(network, words):
    with pytest.raises(ValueError, match=words):
        like(network)


@pytest.mark.parametrize("bottleneck", [False, True])
def test_a_shrunk_network_equals_the_masked_one(bottleneck):
    whole, half = (
        models.from_linen(
            models.ResNet(3, (2, 1), (8 * k, 16 * k), 4 * k, bottleneck=bottleneck)
        )
        for k in (2, 1)
    )
    batch = {"image": jax.random.uniform(jax.random.key(0), (2, 8, 8, 3))}
    variables = jax.jit(whole.init)(jax.random.key(1), batch)
    apply = jax.jit(lambda v, image: whole.apply(*v, {"image": image}).logits)
    groups = compress.dependency_groups(apply, variables, batch["image"])
    kept = {group.name: np.arange(group.size) % 2 == 0 for group in groups}
    smaller = compress.take_units(variables, groups, kept)
    like = jax.eval_shape(half.init, jax.random.key(1), batch)
    assert jax.tree.map(jnp.shape, smaller) == jax.tree.map(jnp.shape, like)
    masked = apply(compress.zero_units(variables, groups, kept), batch["image"])
    found = jax.jit(half.apply)(*smaller, batch).logits
    np.testing.assert_allclose(found, masked, rtol=1e-4, atol=1e-6)


def test_every_depthwise_convolution_can_shrink():
    model = models.from_linen(models.MobileNetV2(5, width=0.25, small_images=True))
    batch = {"image": jnp.zeros((1, 8, 8, 3))}
    variables = jax.eval_shape(model.init, jax.random.key(0), batch)
    apply = lambda v, image: model.apply(*v, {"image": image}).logits
    groups = compress.dependency_groups(apply, variables, batch["image"])
    paths = {member.path for group in groups for member in group.members}
    filters = [path for path in paths if "depthwise/conv/kernel" in path]
    assert len(filters) == 17
