"""Ranges: of weights, of histograms, and of streams of activations."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxkd import compress


def heavy(n=20_000, seed=0):
    return jax.random.laplace(jax.random.key(seed), (n,))


STREAMS = {
    "minmax": compress.stream_minmax(),
    "absmax": compress.stream_absmax(),
    "average": compress.stream_average(),
    "percentile": compress.stream_percentile(99.9),
    "entropy": compress.stream_entropy(),
    "mse": compress.stream_mse(),
}


def run(calibration, batches):
    state = calibration.init()
    for batch in batches:
        state = jax.jit(calibration.update)(state, batch)
    return calibration.finish(state)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_of_zeros_and_of_one_number(name):
    for value in (0.0, 2.0):
        low, high = run(STREAMS[name], [jnp.full((4, 3), value)] * 2)
        assert low <= 0
        np.testing.assert_allclose(high, value, rtol=1e-3)


@pytest.mark.parametrize("name", ["minmax", "absmax"])
def test_the_stream_is_the_whole(name):
    x = heavy()
    whole = run(STREAMS[name], [x])
    parts = run(STREAMS[name], jnp.split(x, 8))
    np.testing.assert_array_equal(parts, whole)


@pytest.mark.parametrize("name", ["percentile", "entropy", "mse"])
def test_a_histogram_grows_without_losing_a_count(name):
    x = jnp.sort(jnp.abs(heavy()))  # every batch is larger than all before
    calibration = STREAMS[name]
    state = calibration.init()
    for batch in jnp.split(x, 10):
        state = calibration.update(state, batch)
    assert state.counts.sum() == x.size
    assert x.max() <= state.limit <= 2 * x.max()
    _, high = calibration.finish(state)
    _, at_once = run(calibration, [x])
    np.testing.assert_allclose(high, at_once, rtol=0.15)


def test_a_percentile_of_a_stream_is_that_of_the_values():
    x = heavy()
    _, high = run(compress.stream_percentile(99.0), jnp.split(x, 4))
    want = jnp.percentile(jnp.abs(x), 99.0)
    np.testing.assert_allclose(high, want, rtol=0.01)


def test_a_moving_average_by_hand():
    batches = [jnp.array([-1.0, 4.0]), jnp.array([-3.0, 0.0])]
    low, high = run(compress.stream_average(rate=0.25), batches)
    assert (float(low), float(high)) == (-1.5, 3.0)


def test_channels_have_ranges_of_their_own():
    x = jnp.array([[1.0, -5.0], [2.0, 3.0]])
    low, high = run(compress.stream_minmax(channels=2), [x])
    np.testing.assert_array_equal(low, [0.0, -5.0])
    np.testing.assert_array_equal(high, [2.0, 3.0])


@pytest.mark.parametrize("name", ["percentile", "entropy"])
def test_one_outlier_is_clipped(name):
    x = jnp.append(heavy(), 40.0)
    _, high = run(STREAMS[name], [x])
    assert 4.0 < high < 20.0


def test_the_least_squared_error_of_a_histogram_is_least():
    x = jnp.abs(heavy())
    counts = jnp.histogram(x, bins=512, range=(0.0, float(x.max())))[0]
    counts = counts.astype(jnp.int32)
    best = compress.histogram_mse(counts, x.max(), levels=8)

    def error(high):
        scale = high / 7
        return jnp.mean((x - jnp.clip(jnp.round(x / scale), 0, 7) * scale) ** 2)

    assert error(best) <= 1.01 * min(error(best * f) for f in (0.8, 0.9, 1.1, 1.3))
    assert best < x.max()


@pytest.mark.parametrize(
    "range", [compress.least_squares, compress.make_percentile(99.0)]
)
def test_clipping_outliers_helps_four_bits(range):
    x = heavy().reshape(-1, 20).at[0].mul(4.0)
    error = lambda scheme: jnp.mean(
        jnp.abs(compress.dequantize(compress.quantize_array(x, scheme)) - x)
    )
    clipped = error(compress.Scheme(compress.INT4, range=range))
    assert clipped < error(compress.Scheme(compress.INT4))


def test_least_squares_is_never_worse_than_the_largest():
    for seed in range(5):
        x = heavy(640, seed).reshape(64, 10)
        squares = [
            jnp.mean((compress.dequantize(small) - x) ** 2, axis=0)
            for r in (compress.least_squares, compress.absmax)
            for small in [compress.quantize_array(x, compress.Scheme(range=r))]
        ]
        assert jnp.all(squares[0] <= squares[1] * (1 + 1e-5))


def test_least_divergence_of_weights_is_that_of_their_histogram():
    x = heavy(4000).reshape(2000, 2)
    low, high = compress.least_divergence(x.T, compress.INT8)
    calibration = compress.stream_entropy()
    for i in (0, 1):
        want = run(calibration, [x[:, i]])
        np.testing.assert_array_equal((low[i], high[i]), want)


def test_named_features_of_a_stream():
    features = lambda batch: {"double": 2 * batch, "square": batch**2}
    batches = [jnp.array([1.0, -3.0]), jnp.array([2.0, 0.0])]
    ranges = compress.calibrate(compress.stream_minmax(), features, batches)
    assert {n: tuple(map(float, r)) for n, r in ranges.items()} == {
        "double": (-6.0, 4.0),
        "square": (0.0, 9.0),
    }
    with pytest.raises(ValueError, match="nothing to calibrate on"):
        compress.calibrate(compress.stream_minmax(), features, [])


def test_a_batch_with_other_features_is_refused():
    features = lambda batch: {f"of_{len(batch)}": batch}
    with pytest.raises(ValueError, match=r"\['of_3'\], but those of the first"):
        compress.calibrate(
            compress.stream_minmax(), features, [jnp.ones(2), jnp.ones(3)]
        )


@pytest.mark.parametrize("percentile", [0, 101, float("nan")])
def test_a_percentage_outside_is_refused(percentile):
    for make in (compress.make_percentile, compress.stream_percentile):
        with pytest.raises(ValueError, match=r"must be in \(0, 100\]"):
            make(percentile)


def test_too_few_bins_are_refused():
    with pytest.raises(ValueError, match="64 bins cannot be coarsened to 128"):
        compress.histogram_entropy(jnp.ones(64), jnp.float32(1.0))
