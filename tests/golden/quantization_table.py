"""Quantization: each case of the original implementations, and jaxkd's call for it."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from jaxkd import compress
from jaxkd.compress import Format, Scheme


class Row(NamedTuple):
    cases: str  # a pattern
    ours: Callable[[dict, dict], dict[str, Any]]  # (input, meta) -> outputs
    rtol: float = 0.0  # of the largest; 0: equal


# The symmetric formats of qwix map the largest weight on half an integer more.
QWIX = {
    "int8": Format(8, -128, 127, 127.5),
    "int4": Format(4, -8, 7, 7.5),
    "int3": Format(3, -4, 3, 3.5),
    "int2": Format(2, -2, 1, 1.5),
    "nf4": compress.NF4,
}
TORCH_SYMMETRIC = QWIX["int8"]
UINT8 = Format(8, 0, 255, 255.0, affine=True)


def scaled(factor, of=compress.absmax):
    return lambda x, format: tuple(factor * end for end in of(x, format))


def rms(x, format):
    high = 3 * jnp.sqrt(jnp.mean(x**2, axis=-1))
    return -high, high


def fixed(x, format):
    high = jnp.full(x.shape[:-1], 2.0)
    return -high, high


QWIX_RANGES = {"absmax0.8": scaled(0.8), "rms3": rms, "fixed": fixed}


def record(small, value="qvalue"):
    found = {value: small.integers(), "scale": small.scale}
    if small.zero_point is not None:
        found["zero_point"] = small.zero_point
    return found | {"dequant": compress.dequantize(small)}


def qwix_quantize(given, meta):
    name = meta["case"].split("/")[1]
    kind, _, rest = name.partition("_")
    axis: Any = -1
    if "per_tensor" in rest or rest == "fixed":
        axis = ()
    elif rest.endswith("_in"):
        axis = 0
    tile = int(rest.removeprefix("subchannel")) if "subchannel" in rest else None
    format = compress.AFFINE8 if "minmax" in rest else QWIX[kind]
    scheme = Scheme(format, axis, tile, QWIX_RANGES.get(rest))
    return record(compress.quantize_array(jnp.asarray(given[""]), scheme))


def qwix_gptq(given, meta):
    kind = meta["case"].split("/")[1].split("_")[0]
    x = jnp.asarray(given["X"]).T
    kernel = jnp.asarray(given["W"]).T  # there [outputs, inputs]
    small = compress.gptq(kernel, compress.gram(x), format=QWIX[kind])
    return {name: value.T for name, value in record(small).items()}


def qwix_smooth(given, meta):
    inputs, weights = (
        jnp.asarray(given[name]) for name in ("act_absmax", "weight_absmax")
    )
    return {"": compress.smooth_scales(inputs, weights, strength=meta["alpha"])}


def qwix_qat_dot(given, meta):
    def rounded(x, axis):
        small = compress.quantize_array(x, Scheme(QWIX["int8"], axis))
        # Theirs lets all of the gradient through where nothing is clipped on purpose;
        # by 127.5 the largest of each channel just is, and ours would stop it there.
        return x + jax.lax.stop_gradient(compress.dequantize(small) - x)

    dot = lambda lhs, rhs: rounded(lhs, 0) @ rounded(rhs, 1)
    lhs, rhs = jnp.asarray(given["lhs"]), jnp.asarray(given["rhs"])
    out, vjp = jax.vjp(dot, lhs, rhs)
    grad_lhs, grad_rhs = vjp(jnp.ones_like(out))
    return {"out": out, "grad_lhs": grad_lhs, "grad_rhs": grad_rhs}


def aqt(given, meta):
    upper = 2 ** (meta["bits"] - 1) - 1
    bound = upper + (0.0 if meta["preserve_max_val"] else 0.5)
    format = Format(meta["bits"], -upper, upper, bound)
    small = compress.quantize_array(jnp.asarray(given[""]), Scheme(format))
    zeros = jnp.all(jnp.asarray(given[""]) == 0, axis=0, keepdims=True)
    # Of a channel of zeros they take the largest value for 1, here the scale is 1.
    return record(small) | {"scale": jnp.where(zeros, 1 / bound, small.scale)}


def entropy(given, meta):
    limit = jnp.float32(given["edges"][-1])
    return {"": compress.histogram_entropy(jnp.asarray(given["hist"]), limit)}


def percentile(given, meta):
    # Theirs is the lower edge of the bin that holds the percentile, ours the upper; of
    # 20,000 values 99.99 % are a whole number, which their rounding puts one bin on.
    whole = given["hist"].sum() == 20_000
    wanted = meta["percentile"] * (1 + 1e-7 * whole)
    limit = jnp.float32(given["edges"][-1])
    high = compress.histogram_percentile(
        jnp.asarray(given["hist"]), limit, percentile=wanted
    )
    return {"": high - limit / len(given["hist"])}


STREAMS = {
    "minmax_affine_uint8": (compress.stream_minmax(), UINT8),
    "minmax_symmetric_int8": (compress.stream_minmax(), TORCH_SYMMETRIC),
    "perchannel_symmetric_int8": (
        compress.stream_minmax(channels=16),
        TORCH_SYMMETRIC,
    ),
    "moving_average_affine_uint8": (compress.stream_average(rate=0.01), UINT8),
}


def observer(given, meta):
    calibration, format = STREAMS[meta["case"].split("/")[1]]
    state = calibration.init()
    for batch in given[""]:
        state = calibration.update(state, jnp.asarray(batch))
    low, high = calibration.finish(state)
    scale, zero_point = compress.scale_of(low, high, format)
    zero_point = jnp.zeros_like(scale) if zero_point is None else zero_point
    flat = {"scale": scale.reshape(-1), "zero_point": zero_point.reshape(-1)}
    return flat | {"min": low, "max": high}


def fake_quant(given, meta):
    fake = lambda x: compress.fake_quantize_array(
        x, jnp.float32(meta["scale"]), jnp.int32(meta["zero_point"]), format=UINT8
    )
    out, vjp = jax.vjp(fake, jnp.asarray(given[""]))
    return {"out": out, "grad": vjp(jnp.ones_like(out))[0]}


def lsq(given, meta):
    format = Format(8, meta["qmin"], meta["qmax"], 127.5)
    round_to = lambda x, scale: compress.learned_step(x, scale, format=format)
    scale = jnp.full((1, 1), meta["scale"])
    out, vjp = jax.vjp(round_to, jnp.asarray(given["x"]), scale)
    grad_x, grad_scale = vjp(jnp.asarray(given["cotangent"]))
    return {"out": out, "grad_x": grad_x, "grad_scale": grad_scale.reshape(-1)}


ROWS = [
    Row(r"qwix\.quantize/(int|nf).*", qwix_quantize, 1e-6),
    Row(r"qwix\.gptq/int._per_channel", qwix_gptq, 1e-5),
    Row(r"qwix\.smoothquant_scale/.*", qwix_smooth, 1e-6),
    Row(r"qwix\.qat_dot/.*", qwix_qat_dot, 1e-2),  # largest weights are on the edge
    Row(r"aqt\.quantize/.*", aqt, 1e-6),
    Row(r"modelopt\.calib_entropy/.*", entropy, 1e-6),
    Row(r"modelopt\.calib_percentile/.*", percentile, 1e-6),
    Row(r"torch\.observer/(minmax|perchannel|moving).*", observer, 1e-6),
    Row(r"torch\.fake_quant/.*", fake_quant, 1e-6),
    Row(r"torch\.lsq/.*", lsq, 1e-5),
]

#: Outputs which are not compared, and why.
WITHOUT = {"losses": "the errors on the way, which jaxkd does not return"}

#: Cases where a value lies exactly between two integers, and their rounding of the
#: division decides: so many integers may be one apart, where |x| / scale ends in .5.
ON_THE_EDGE = r"qwix\.quantize/int[84]_(per_channel.*|subchannel.*)"

#: Cases which show a defect of the original: jaxkd does something else on purpose.
DEFECTS = {
    r"qwix\.gptq/int4_group8": "the scale of a group is that of weights which are "
    "corrected up to the last block of columns only, so it depends on the size of the "
    "blocks; here they are corrected up to the group, as the paper has it",
}

#: Cases which jaxkd does not reproduce, and why.
ELSEWHERE = {
    r"qwix\.quantize/fp8.*": "8-bit floats, a dtype of jax: no record is needed",
    r"qwix\.awq/.*": "AWQ: the search for scales is left to qwix",
    r"torch\.observer/histogram.*": "the histogram of signed values, rebinned by "
    "interpolation, and another search; here histograms are of magnitudes",
    r"qwix\.(nm_mask|unstructured_mask)/.*": "masks: pruning",
    r"torch\.(l1_|ln_|global_l1_)?(un)?structured/.*": "masks: pruning",
    r"(jaxpruner|tfmot|llmcompressor|torch_pruning)\..*": "pruning",
    r"modelopt\.sparsegpt_mask/.*": "pruning",
}


def places_of(case):
    rows = [row for row in ROWS if re.fullmatch(row.cases, case)]
    reasons = [
        why for cases, why in (DEFECTS | ELSEWHERE).items() if re.fullmatch(cases, case)
    ]
    return [*rows, *reasons]


def error_of_group8(case):
    """Squared errors of the outputs: theirs, and ours."""
    given, output = case["input"], case["output"]
    kernel, x = jnp.asarray(given["W"]).T, jnp.asarray(given["X"]).T
    small = compress.gptq(kernel, compress.gram(x), format=QWIX["int4"], tile=8)
    restored = [np.asarray(output["dequant"]).T, compress.dequantize(small)]
    return [float(jnp.sum((x @ (w - kernel)) ** 2)) for w in restored], small
