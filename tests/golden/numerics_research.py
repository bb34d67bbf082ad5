"""What the code of papers on language models computes, and what kernels do."""

from numerics_rows import (
    CE,
    FORWARD,
    JSD,
    KL,
    REVERSE,
    ROUNDED,
    TOP_K,
    Row,
    by_divergence,
    sequences,
    tokens,
)

RESEARCH = [
    Row(
        "DistiLLM, LMOps",
        "forward_kl, kd",
        {"distillm/forward_kl": {"T": 1.0}, "minillm_kd_fkl": {"T": 1.0}},
        tokens("losses.soft_cross_entropy(student, teacher, temperature=T)"),
        why="Called a divergence, it is the cross-entropy; same gradient.",
    ),
    Row(
        "DistiLLM",
        "reverse_kl",
        {"distillm/reverse_kl": {"T": 1.0}},
        tokens(REVERSE),
    ),
    Row(
        "DistiLLM",
        "symmetric_kl, λ = 0.9",
        {"distillm/symmetric_kl_lam0.9": {}},
        tokens(
            "losses.symmetric_kl(student, teacher, reverse_weight=0.9)"
            " + 0.1 * losses.soft_cross_entropy(teacher, teacher)"
        ),
        why="Its forward part is a cross-entropy: add the teacher's entropy.",
    ),
    Row(
        "DistiLLM",
        "js_distance, λ",
        {
            "distillm/js_distance_lam0.9": {"beta": 0.1, "T": 1.0},
            "distillm/js_distance_lam0.5": {"beta": 0.5, "T": 1.0},
        },
        tokens(JSD),
        why="β = 1 - λ.",
    ),
    Row(
        "DistiLLM",
        "tv_distance",
        {"distillm/tv_distance": {"T": 1.0}},
        tokens("losses.total_variation(student, teacher, temperature=T)"),
    ),
    Row(
        "DistiLLM",
        "skewed_forward_kl",
        {f"distillm/skewed_forward_kl_lam{lam}": {"lam": lam} for lam in (0.1, 0.5)},
        tokens(
            "losses.skewed_forward_kl(student, teacher, skew=lam)"
            " + losses.soft_cross_entropy(teacher, teacher)"
        ),
        why="A cross-entropy as well: add the teacher's entropy.",
    ),
    Row(
        "DistiLLM",
        "skewed_reverse_kl",
        {f"distillm/skewed_reverse_kl_lam{lam}": {"lam": lam} for lam in (0.1, 0.5)},
        tokens("losses.skewed_reverse_kl(student, teacher, skew=lam)"),
    ),
    Row(
        "DSKD",
        "forward KL",
        {f"dskd/forward_kl_T{T}": {"T": float(T)} for T in (1, 2)},
        tokens(FORWARD),
        why="No τ².",
    ),
    Row(
        "DSKD",
        "reverse KL",
        {f"dskd/reverse_kl_T{T}": {"T": float(T)} for T in (1, 2)},
        tokens(REVERSE),
    ),
    Row(
        "DSKD",
        "adaptive KL",
        {f"dskd/adaptive_kl_T{T}": {"T": float(T)} for T in (1, 2)},
        tokens("losses.adaptive_kl(student, teacher, temperature=T)"),
    ),
    Row(
        "DSKD",
        "skewed forward KL",
        {f"dskd/skewed_forward_kl_T{T}": {"T": float(T)} for T in (1, 2)},
        tokens("losses.skewed_forward_kl(student, teacher, temperature=T)"),
        why="Unlike DistiLLM's, a divergence.",
    ),
    Row(
        "DSKD",
        "skewed reverse KL",
        {f"dskd/skewed_reverse_kl_T{T}": {"T": float(T)} for T in (1, 2)},
        tokens("losses.skewed_reverse_kl(student, teacher, temperature=T)"),
    ),
    Row(
        "DSKD",
        "js",
        {f"dskd/js_T{T}": {"T": float(T)} for T in (1, 2)},
        tokens("losses.generalized_jsd(student, teacher, temperature=T)"),
    ),
    Row(
        "DistillKit",
        "sparse KL, missing: zero",
        {
            f"distillkit_sparse_kl/{name}zero_T{T}": {"T": float(T), "k": 8}
            for T in (1, 2)
            for name in ("", "logits_")
        },
        tokens(
            "losses.teacher_renormalized_top_k_kl(student, ids, values, temperature=T)"
        ),
        why="With τ². values: log-probabilities or logits of the teacher's top 8.",
        rtol=ROUNDED,
    ),
    Row(
        "DistillKit",
        "sparse KL, symmetric_uniform, T = 1",
        {"distillkit_sparse_kl/symmetric_uniform_T1": {"T": 1.0, "k": 8}},
        tokens("losses.top_k_kl(student, ids, values, total)"),
        why="One bucket for the rest.",
        rtol=ROUNDED,
    ),
    Row(
        "DistillKit",
        "dense KL",
        {f"distillkit_dense_kl/T{T}": {"T": float(T)} for T in (1, 2)},
        tokens(KL),
        rtol=ROUNDED,
    ),
    Row(
        "DistillKit",
        "dense JSD",
        {f"distillkit_dense_jsd/T{T}": {"T": float(T)} for T in (1, 2)},
        tokens("losses.generalized_jsd(student, teacher, temperature=T)"),
        "T**2",
        "τ² on the bounded divergences too.",
        rtol=ROUNDED,
    ),
    Row(
        "DistillKit",
        "dense TVD",
        {f"distillkit_dense_tvd/T{T}": {"T": float(T)} for T in (1, 2)},
        tokens("losses.total_variation(student, teacher, temperature=T)"),
        "T**2",
    ),
    *[
        row
        for w in (1, 0.5)
        for row in by_divergence(
            "Liger",
            "liger_jsd_beta{beta}_T{T}_w" + str(w),
            (1, 2),
            lambda call, w=w: tokens(call if w == 1 else f"0.5 * {call} + 0.5 * {CE}"),
            why="Fused with the head: student = hidden @ weight.T. No τ².",
            suffix="fused linear JSD, " + ("with CE, " if w != 1 else ""),
        )
    ],
    *[
        Row(
            "DistillKit",
            f"sparse {name}, missing: zero",
            {
                f"distillkit_sparse_{key}/zero_T{T}": {"T": float(T), "k": 8}
                for T in (1, 2)
            },
            tokens(
                f"losses.{fn}(*losses.top_k_buckets(student, ids, values, "
                "jax.nn.logsumexp(values / T, axis=-1), temperature=T))"
            ),
            "T**2",
            "A teacher whose total is that of its top 8 has nothing in the rest.",
            rtol=ROUNDED,
        )
        for name, key, fn in (
            ("JSD", "jsd", "generalized_jsd"),
            ("TVD", "tvd", "total_variation"),
        )
    ],
    *[
        Row(
            "DistillKit",
            f"sparse {name}, symmetric_uniform, T = 1",
            {f"distillkit_sparse_{key}/symmetric_uniform_T1": {"k": 8}},
            tokens(f"losses.{fn}(*{TOP_K})"),
            rtol=ROUNDED,
        )
        for name, key, fn in (
            ("JSD", "jsd", "generalized_jsd"),
            ("TVD", "tvd", "total_variation"),
        )
    ],
    Row(
        "DistiLLM-2",
        "kd",
        {"distillm2/kd_tea": {}},
        sequences("losses.forward_kl(student[:, :-1], teacher[:, :-1])"),
        why="Mean over the tokens of a sequence, then over sequences.",
    ),
    Row(
        "DistiLLM-2",
        "gkd",
        {"distillm2/gkd_tea": {}},
        sequences("losses.generalized_jsd(student[:, :-1], teacher[:, :-1], beta=0.9)"),
        why="β = 1 - base_alpha.",
    ),
    Row(
        "DistiLLM-2",
        "distillm_v2, teacher's text",
        {"distillm2/distillm_v2_tea": {}},
        sequences(
            "losses.skewed_forward_kl(student[:, :-1], teacher[:, :-1], skew=0.1)"
        ),
    ),
    Row(
        "DistiLLM-2",
        "distillm_v1 and v2, student's text",
        {"distillm2/distillm_v1_ref": {}, "distillm2/distillm_v2_ref": {}},
        sequences(
            "losses.reverse_kl(student[:, :-1], jax.lax.stop_gradient(mixture)[:, :-1])"
        ),
        why="Value of `skewed_reverse_kl`, but the student in the mixture is held: "
        "mixture = log(0.9 softmax(teacher) + 0.1 softmax(student)).",
    ),
    Row(
        "DistiLLM-2",
        "distillm_v2, teacher's text, adaptive skew",
        {"distillm2/distillm_v2_tea_adaptive": {}},
        sequences(
            "jax.vmap(lambda s, t, a: losses.skewed_forward_kl(s, t, skew=a))"
            "(student[:, :-1], teacher[:, :-1], "
            "jnp.clip(1 - 0.018 / (lead + 1e-5), 0.01, 0.1))"
        ),
        why="A skew per sequence: lead is the difference of the geometric mean "
        "probabilities of its labels, teacher less student; 0.018 = (1 - base_alpha) "
        "· logp_logq, the running mean of the trainer.",
    ),
    Row(
        "DistiLLM-2",
        "distillm_v2, student's text, adaptive skew",
        {"distillm2/distillm_v2_ref_adaptive": {}},
        sequences(
            "(lambda a: losses.reverse_kl(student[:, :-1], jax.lax.stop_gradient("
            "jnp.log((1 - a) * jax.nn.softmax(teacher) + a * jax.nn.softmax(student))"
            ")[:, :-1]))(jnp.clip(1 + 0.018 / (lead - 1e-5), 0.01, 0.1)[:, None, None])"
        ),
        why="The same with student less teacher, and the student in the mixture held.",
    ),
    *[
        Row(
            "DistillKit",
            what,
            {f"distillkit_{name}": {"k": 8}},
            tokens(f"({call}).mean(axis=-1)"),
            why=why,
        )
        for what, name, call, why in (
            (
                "hinge, fixed margin",
                "hinge_margin",
                "jax.nn.relu(0.1 - pairs(jax.nn.softmax(student)))",
                "No loss of jaxkd's: pairs is by how much each of the teacher's top 8 "
                "leads those after it.",
            ),
            (
                "hinge, the teacher's gap as margin",
                "hinge_teachergap",
                "jax.nn.relu(pairs(jax.nn.softmax(teacher))"
                " - pairs(jax.nn.softmax(student)))",
                "The same.",
            ),
            (
                "logistic ranking",
                "logistic_ranking",
                "jax.nn.softplus(-pairs(student))",
                "The same, of logits.",
            ),
        )
    ],
    Row(
        "DSKD",
        "ULD",
        {"dskd/uld": {"shift": 0, "drop": 0, "teacher_T": 1.0}},
        "losses.masked_mean(losses.sorted_probability_distance(*answers), both).total",
        why="Summed over positions. answers = both logits from the answer's start.",
    ),
]
