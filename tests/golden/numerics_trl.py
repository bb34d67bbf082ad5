"""What TRL computes."""

from numerics_rows import JSD, REVERSE, TOP_K, Row, by_divergence, tokens

TRL = [
    *by_divergence(
        "TRL",
        "trl_gkd/beta{beta}_T{T}_mask",
        (1, 2),
        tokens,
        why="No τ². β = 0 and 1 are the two Kullback-Leibler divergences, not limits.",
        suffix="GKD, with labels, ",
    ),
    *by_divergence(
        "TRL",
        "trl_gkd/beta{beta}_T{T}_nomask",
        (1, 2),
        lambda call: f"{call}.sum()",
        "1 / B",
        "Without labels it divides by the sequences, not by the tokens.",
        suffix="GKD, without labels, ",
    ),
    Row(
        "TRL",
        "GKD, num_items_in_batch",
        {"trl_gkd/beta0.5_num_items": {"beta": 0.5, "T": 1.0}},
        f"losses.masked_mean({JSD}, mask).total",
        "1 / 40",
        "The count is that of the accumulated batch.",
    ),
    Row(
        "TRL",
        "GKD, reduction 'sum'",
        {"trl_gkd/beta0.5_sum": {"beta": 0.5, "T": 1.0}},
        f"losses.masked_mean({JSD}, mask).total",
    ),
    Row(
        "TRL",
        "GKD, reduction 'mean'",
        {"trl_gkd/beta0.5_mean": {"beta": 0.5, "T": 1.0}},
        tokens(JSD),
        "1 / V",
        "The mean is over the vocabulary as well.",
    ),
    Row(
        "TRL",
        "GKD, nothing counts",
        {"trl_gkd/all_masked": {"beta": 0.5, "T": 1.0}},
        tokens(JSD),
    ),
    Row(
        "TRL",
        "teacher server, forward, tail",
        {f"trl_server_fkl/k{k}_tail": {"k": k} for k in (1, 5)},
        tokens("losses.top_k_kl(student, ids, values, total)"),
        why="values, ids = jax.lax.top_k(teacher, k); total = logsumexp(teacher).",
    ),
    Row(
        "TRL",
        "teacher server, forward, no tail",
        {f"trl_server_fkl/k{k}_renorm": {"k": k} for k in (1, 5)},
        tokens("losses.renormalized_top_k_kl(student, ids, values)"),
        why="With k = 1 it is 0 for every student.",
    ),
    Row(
        "TRL",
        "SDFT, α = 0, tail",
        {"trl_sdft_topk/alpha0_tail": {"k": 8, "support": "student"}},
        tokens("losses.top_k_kl(student, ids, values, total)"),
        why="The classes are the *student's* top 8.",
    ),
    Row(
        "TRL",
        "SDFT, α = 0, no tail",
        {"trl_sdft_topk/alpha0_renorm": {"k": 8, "support": "student"}},
        tokens("losses.renormalized_top_k_kl(student, ids, values)"),
    ),
    Row(
        "TRL",
        "SDFT, α = 0.5, tail",
        {"trl_sdft_topk/alpha0.5_tail": {"k": 8, "support": "student"}},
        tokens(f"losses.generalized_jsd(*{TOP_K})"),
        why="Any divergence of the buckets.",
    ),
    Row(
        "TRL",
        "SDFT, α = 0.5, no tail",
        {"trl_sdft_topk/alpha0.5_renorm": {"k": 8, "support": "student"}},
        tokens("losses.generalized_jsd(picked, values)"),
        why="picked = student at ids: softmax renormalizes.",
    ),
    Row(
        "TRL",
        "SDFT, α = 1, tail",
        {"trl_sdft_topk/alpha1_tail": {"k": 8, "support": "student"}},
        tokens(f"losses.reverse_kl(*{TOP_K})"),
    ),
    Row(
        "TRL",
        "SDFT, α = 1, no tail",
        {"trl_sdft_topk/alpha1_renorm": {"k": 8, "support": "student"}},
        tokens("losses.reverse_kl(picked, values)"),
    ),
    Row(
        "TRL, LMOps",
        "MiniLLM, single-step regularizer",
        {"trl_minillm/single_step": {"T": 1.0}, "minillm_reg": {"T": 1.0}},
        tokens(REVERSE),
    ),
    Row(
        "TRL",
        "teacher server, β = 0.5, tail",
        {"trl_server_top1/beta0.5_tail": {}},
        tokens(
            "jnp.where(labels == top, "
            "losses.generalized_jsd(*buckets(top[..., None])), "
            "losses.generalized_jsd(*buckets(top_and_label)))"
        ),
        why="The classes are the teacher's first and the sampled one, if they differ. "
        "buckets = `top_k_buckets` of these.",
    ),
    Row(
        "TRL",
        "teacher server, β = 0.5, no tail",
        {"trl_server_top1/beta0.5_renorm": {}},
        tokens("losses.generalized_jsd(at(student), at(teacher))"),
        why="at = logits at top_and_label.",
    ),
    Row(
        "TRL",
        "teacher server, β = 1, tail",
        {"trl_server_top1/beta1_tail": {}},
        tokens("losses.reverse_kl(*buckets(labels[..., None]))"),
        why="Only the sampled class and the rest.",
    ),
    Row(
        "TRL",
        "GOLD ULD, positional, bayesian",
        {
            "trl_gold_uld/bayesian_positional": {
                "shift": 1,
                "drop": 1,
                "teacher_T": 1.5,
            }
        },
        "losses.sequence_mean(losses.sorted_probability_distance(*answers), both)"
        ".value",
        why="Causal shift, without the end token; teacher's logits divided by 1.5.",
    ),
]
