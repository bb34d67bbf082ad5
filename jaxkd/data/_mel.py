"""The front end of speech models."""

import functools

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float

_FLOOR = 1e-6


@functools.partial(jax.jit, static_argnames=("rate", "mels", "window", "hop"))
def log_mel(
    audio: Float[Array, "*batch samples"],
    *,
    rate: int,
    mels: int = 40,
    window: float = 0.025,
    hop: float = 0.010,
) -> Float[Array, "*batch frames mels"]:
    r"""Log-mel spectrogram: how loud each band of pitch is, frame by frame.

    .. math::
        x_{tm} = \log\big(10^{-6} + \textstyle\sum_k F_{mk} \, |\mathrm{FFT}(w \cdot
        a_{th : th + n})|_k^2\big), \qquad
        \mathrm{mel}(f) = 2595 \log_{10}(1 + f / 700)

    with a Hann window :math:`w` of :math:`n` samples every :math:`h` samples, and
    triangles :math:`F` whose corners lie evenly in mel from 0 to half the rate.

    Args:
        audio: samples in ``[-1, 1]``.
        rate: samples per second.
        mels: number of bands.
        window: length of a frame in seconds.
        hop: seconds from one frame to the next.

    Returns:
        Logarithms (natural) of power; ``1 + (samples - n) // h`` frames, none of them
        padded.

    Raises:
        ValueError: if the audio is shorter than a frame, or a number not positive.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import data
        >>> tone = jnp.sin(2 * jnp.pi * 1000 * jnp.arange(8000) / 8000)
        >>> print(data.log_mel(tone, rate=8000).shape)
        (98, 40)

    References:
        Davis, Mermelstein, Comparison of parametric representations for monosyllabic
        word recognition in continuously spoken sentences, 1980; the mel scale as in
        the Hidden Markov Model Toolkit.
    """
    length, step = round(window * rate), round(hop * rate)
    if min(length, step, mels) < 1:
        raise ValueError(
            f"a frame of {length} samples every {step}, with {mels} bands, is none."
        )
    samples = audio.shape[-1]
    if samples < length:
        raise ValueError(
            f"`audio` has {samples} samples, fewer than a frame of {length}."
        )
    frames = 1 + (samples - length) // step
    places = step * np.arange(frames)[:, None] + np.arange(length)
    size = 1 << (length - 1).bit_length()
    hann = np.hanning(length + 1)[:-1].astype(np.float32)
    spectrum = jnp.fft.rfft(audio[..., places] * hann, size)
    power = jnp.real(spectrum) ** 2 + jnp.imag(spectrum) ** 2
    return jnp.log(_FLOOR + power @ _filters(rate, size, mels).T)


@functools.cache
def _filters(rate: int, size: int, mels: int) -> np.ndarray:
    """Triangles, shape ``[mels, size // 2 + 1]``, each of height 1."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, mels + 2) / 2595) - 1)
    pitch = np.arange(size // 2 + 1) * rate / size
    low, middle, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising, falling = (pitch - low) / (middle - low), (high - pitch) / (high - middle)
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
