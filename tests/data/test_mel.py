import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxkd import data


def tone(pitch, rate=8000, seconds=0.5):
    return jnp.sin(2 * jnp.pi * pitch * jnp.arange(int(rate * seconds)) / rate)


def by_hand(audio, rate, mels, length, step):
    """The definition, frame by frame and frequency by frequency."""
    size = 1 << (length - 1).bit_length()
    corners = np.linspace(0, 2595 * np.log10(1 + rate / 1400), mels + 2)
    corners = 700 * (10 ** (corners / 2595) - 1)
    pitches = np.arange(size // 2 + 1) * rate / size
    rows = []
    for start in range(0, len(audio) - length + 1, step):
        n = np.arange(length)
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / length)
        piece = np.asarray(audio[start : start + length], np.float64) * hann
        waves = np.exp(-2j * np.pi * np.arange(size // 2 + 1)[:, None] * n / size)
        power = np.abs(waves @ piece) ** 2
        row = []
        for low, middle, high in zip(corners, corners[1:], corners[2:], strict=False):
            height = np.interp(pitches, [low, middle, high], [0, 1, 0])
            row.append(np.log(1e-6 + height @ power))
        rows.append(row)
    return np.array(rows)


def test_it_is_the_definition():
    audio = jax.random.normal(jax.random.key(0), (700,))
    got = data.log_mel(audio, rate=8000, mels=12)
    expected = by_hand(audio, 8000, 12, 200, 80)
    assert got.shape == expected.shape == (7, 12)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("pitch", [300, 1000, 2500])
def test_a_tone_is_loudest_in_its_band(pitch):
    loudest = data.log_mel(tone(pitch), rate=8000, mels=20).argmax(axis=-1)
    corners = np.linspace(0, 2595 * np.log10(1 + 8000 / 1400), 22)
    nearest = np.abs(corners[1:-1] - 2595 * np.log10(1 + pitch / 700)).argmin()
    assert set(np.asarray(loudest).tolist()) == {int(nearest)}


def test_batches_are_examples_and_silence_is_finite():
    audio = jnp.stack([tone(440), jnp.zeros(4000)])
    both = data.log_mel(audio, rate=8000)
    for one, x in zip(both, audio, strict=True):
        np.testing.assert_allclose(one, data.log_mel(x, rate=8000), rtol=1e-5)
    np.testing.assert_allclose(both[1], np.log(1e-6), rtol=1e-5)
    gradient = jax.grad(lambda x: data.log_mel(x, rate=8000).sum())(audio)
    assert bool(jnp.all(jnp.isfinite(gradient)))


def test_what_is_no_frame_is_said():
    with pytest.raises(ValueError, match="has 100 samples, fewer than a frame of 200"):
        data.log_mel(jnp.zeros(100), rate=8000)
    with pytest.raises(ValueError, match="with 0 bands"):
        data.log_mel(jnp.zeros(1000), rate=8000, mels=0)
