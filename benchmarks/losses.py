"""Time and bytes of each loss with its gradient, against plain cross-entropy.

    python benchmarks/losses.py --classes 100 1000 32000 > benchmarks/RESULTS-losses.md

Each loss and its gradient for the student's logits are compiled into one program and
run in turn with softmax cross-entropy of the same shape, so that a busy machine slows
both; the ratio is the median over the pairs.
"""

import argparse
import functools
import os
import platform
import statistics
import time
from typing import Any

import jax
import jaxlib.version
from jax import numpy as jnp

from jaxkd import losses

BATCH, TOP = 4096, 64
LIMIT = 2.5

TEACHER = [
    "soft_target_kl",
    "soft_cross_entropy",
    "logit_mse",
    "binary_soft_cross_entropy",
    "hard_target_cross_entropy",
    "forward_kl",
    "reverse_kl",
    "symmetric_kl",
    "adaptive_kl",
    "generalized_jsd",
    "rescaled_jsd",
    "skewed_forward_kl",
    "skewed_reverse_kl",
    "total_variation",
    "sorted_probability_distance",
    "transformed_teacher_kl",
    "weighted_transformed_teacher_kl",
    "inter_class_relation",
    "intra_class_relation",
    "class_correlation",
    "batch_correlation",
    "logit_euclidean",
    "logit_cosine_distance",
    "log_probability_euclidean",
]
TEACHER_AND_LABELS = [
    "decoupled_kd",
    "normalized_kd",
    "weighted_soft_cross_entropy",
    "target_enhanced_cross_entropy",
    "zipf_cross_entropy",
]
LABELS = ["smoothed_cross_entropy", "virtual_teacher_kl", "self_weighted_cross_entropy"]
SPARSE = [
    "top_k_kl",
    "renormalized_top_k_kl",
    "teacher_renormalized_top_k_kl",
    "sampled_soft_cross_entropy",
]

TWO = "two softmaxes instead of one: twice the exponentials and twice the reading"
MIXTURE = f"{TWO}, and a logarithm per class of the mixture"
OTHERS = f"{TWO}, each computed again without the label rather than stored"
GRAMS = "multiplies matrices: batch · classes · (the smaller of both) operations"
SORT = "sorts the classes"
WHY = {
    "soft_target_kl": TWO,
    "soft_cross_entropy": TWO,
    "forward_kl": TWO,
    "hard_target_cross_entropy": "cross-entropy, and the largest of the teacher",
    "reverse_kl": TWO,
    "transformed_teacher_kl": TWO,
    "weighted_transformed_teacher_kl": f"{TWO}; the weight is a third",
    "weighted_soft_cross_entropy": f"{TWO}, and two cross-entropies for the weight",
    "target_enhanced_cross_entropy": f"{TWO}, and a power per class",
    "symmetric_kl": f"{TWO}, in both directions",
    "generalized_jsd": MIXTURE,
    "rescaled_jsd": MIXTURE,
    "skewed_forward_kl": MIXTURE,
    "skewed_reverse_kl": MIXTURE,
    "total_variation": TWO,
    "adaptive_kl": "two divergences, and 16 passes to find the tail",
    "sorted_probability_distance": f"{SORT} of both, and the gradient back",
    "zipf_cross_entropy": f"{SORT} twice, for the ranks",
    "decoupled_kd": OTHERS,
    "soft_label_decoupled_kd": (
        f"{TWO}, each computed again without its largest class rather than stored, "
        "and two logarithms per class"
    ),
    "normalized_kd": f"{OTHERS}, and the target's own softmax",
    "standardized": f"{TWO}, after mean and deviation of both",
    "inter_class_relation": f"{TWO}, and five sums for the correlation",
    "intra_class_relation": f"{TWO}, and sums over the batch of what must be stored",
    "class_correlation": GRAMS,
    "batch_correlation": GRAMS,
    "binary_soft_cross_entropy": "a logistic function and a softplus per class",
    "log_probability_euclidean": TWO,
    "logit_cosine_distance": "three sums, and the gradient reads both logits",
    "smoothed_cross_entropy": "cross-entropy, and the mean log-probability beside it",
    "virtual_teacher_kl": f"{TWO}; the teacher is built from the labels",
    "self_weighted_cross_entropy": "near the cost of cross-entropy",
    "top_k_kl": "copies the logits to take the top k out",
    "renormalized_top_k_kl": "scatters the gradient of the top k into zeros",
    "teacher_renormalized_top_k_kl": "cross-entropy, and a scatter of the top k",
    "sampled_soft_cross_entropy": "cross-entropy, and a scatter of the samples",
}


def cases(classes):
    """Loss names with a function of the student's logits and what follows them."""
    s, t = jax.random.split(jax.random.key(0))
    student = jax.random.normal(s, (BATCH, classes))
    teacher = jax.random.normal(t, (BATCH, classes))
    labels = jnp.arange(BATCH) % classes
    values, ids = jax.lax.top_k(teacher, TOP)
    total = jax.nn.logsumexp(teacher, axis=-1)
    table: dict[str, Any] = {"cross_entropy": (losses.cross_entropy, (labels,))}
    for name in TEACHER:
        table[name] = (getattr(losses, name), (teacher,))
    for name in TEACHER_AND_LABELS:
        table[name] = (getattr(losses, name), (teacher, labels))
    for name in LABELS:
        table[name] = (getattr(losses, name), (labels,))
    for name in SPARSE:
        more = (ids, values, total) if name == "top_k_kl" else (ids, values)
        table[name] = (getattr(losses, name), more)
    table["soft_label_decoupled_kd"] = (
        losses.soft_label_decoupled_kd,
        (teacher, jax.nn.one_hot(labels, classes)),
    )
    table["standardized"] = (losses.standardized(losses.soft_target_kl), (teacher,))
    if classes > 2000:  # the same products as batch_correlation's
        del table["class_correlation"]
    return student, table


def stored(program, logits):
    memory = program.memory_analysis()
    return memory.temp_size_in_bytes / logits.nbytes


def compiled(loss, student, arguments):
    mean = lambda s, *a: jnp.mean(loss(s, *a))
    program = jax.jit(jax.value_and_grad(mean)).lower(student, *arguments).compile()
    alone = jax.jit(loss).lower(student, *arguments).compile()
    return program, {
        "bytes": (program.cost_analysis() or {})["bytes accessed"],
        "value": stored(alone, student),
        "gradient": stored(program, student),
    }


def seconds(program):
    start = time.perf_counter()
    jax.block_until_ready(program())
    return time.perf_counter() - start


def rows(classes, pairs, only):
    student, table = cases(classes)
    loss, arguments = table.pop("cross_entropy")
    plain, plain_cost = compiled(loss, student, arguments)
    plain = functools.partial(plain, student, *arguments)
    seconds(plain)
    for name, (loss, arguments) in sorted(table.items()):
        if only and name not in only:
            continue
        program, cost = compiled(loss, student, arguments)
        program = functools.partial(program, student, *arguments)
        slow = seconds(program) > 4.0
        count = 1 if slow else pairs
        measured = [(seconds(plain), seconds(program)) for _ in range(count)]
        ratio = statistics.median(b / a for a, b in measured)
        milliseconds = 1e3 * statistics.median(b for _, b in measured)
        why = WHY.get(name, "") if ratio > LIMIT else ""
        yield (
            f"| `{name}` | {milliseconds:.1f} | {ratio:.2f} "
            f"| {cost['bytes'] / plain_cost['bytes']:.1f} | {cost['value']:.1f} "
            f"| {cost['gradient']:.1f} | {why} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, nargs="+", default=[100, 1000, 32000])
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--only", nargs="+", help="names of losses; all by default")
    options = parser.parse_args()
    classes = " ".join(map(str, options.classes))
    print("# Losses on logits: time and memory\n")
    print(
        f"`python benchmarks/losses.py --classes {classes} --pairs {options.pairs}`\n"
    )
    print(
        f"jax {jax.__version__}, jaxlib {jaxlib.version.__version__}, Python "
        f"{platform.python_version()}, {jax.devices()[0].platform} with "
        f"{os.cpu_count()} cores, float32, batch {BATCH}, top k {TOP}. Time is for the "
        "value and the gradient; the ratio is to cross-entropy of the same shape, run "
        f"in turn with it, median of {options.pairs} pairs (1 where a run takes more "
        "than 4 s). Bytes accessed are the compiler's estimate, relative to "
        "cross-entropy. Stored arrays are temporary buffers in units of the logits."
    )
    for count in options.classes:
        print(f"\n## {count} classes\n")
        print("| loss | ms | ratio | bytes | stored, value | stored, gradient | why |")
        print("|---|---|---|---|---|---|---|")
        for row in rows(count, options.pairs, options.only):
            print(row, flush=True)


if __name__ == "__main__":
    main()
