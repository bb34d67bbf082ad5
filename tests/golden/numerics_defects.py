"""Cases which show a defect of the original, and what is right instead."""

from numerics_rows import CE, KL, Defect, tokens

DEFECTS = [
    Defect(
        "mdistiller",
        "DKD_extreme",
        "Takes the logarithm of a softmax that is 0: NaN for a saturated row.",
        "losses.decoupled_kd(student, teacher, labels, beta=8.0, temperature=T).mean()",
        {"T": 4.0},
    ),
    Defect(
        "KD_Lib",
        "KD_kdlib_vanilla",
        "Mean squared error of probabilities, called a divergence.",
        f"(0.5 * {CE} + 0.5 * {KL}).mean()",
        {"T": 20.0},
    ),
    Defect(
        "KD_Lib",
        "TAKD_kdlib",
        "Mean squared error of log-probabilities, called a divergence.",
        f"(0.6 * {CE} + 0.4 * {KL}).mean()",
        {"T": 20.0},
    ),
    Defect(
        "KD_Lib",
        "KA_LSR_kdlib",
        "The arguments of the divergence are swapped and no logarithm is taken: a "
        "negative 'divergence'.",
        f"(0.15 * {CE} + 0.85 * losses.virtual_teacher_kl(student, labels, "
        "correct_probability=0.9, temperature=T)).mean()",
        {"T": 20.0},
    ),
    Defect(
        "logit-standardization-KD",
        "MLKD_full_as_coded",
        "The confidence masks only rescale numbers, the strong view is distilled with "
        "the weak view's logits at two of five temperatures.",
        "0.1 * (losses.cross_entropy(student_0, labels)"
        " + losses.cross_entropy(student_1, labels)).mean()"
        " + sum(9 * losses.standardized(losses.soft_target_kl)(s, t, temperature=T)"
        ".mean() + losses.class_correlation(s, t, temperature=T)"
        " + losses.batch_correlation(s, t, temperature=T)"
        " for s, t in ((student_0, teacher_0), (student_1, teacher_1))"
        " for T in (2.0, 3.0, 4.0, 5.0, 6.0))",
    ),
    *[
        Defect(
            "DistillKit",
            f"distillkit_sparse_{key}/symmetric_uniform_T2",
            "Takes the rest at temperature T as leftover^(1/T); it is the sum of "
            "p_i^(1/T) over the rest, known only from a stored logsumexp.",
            "T**2 * "
            + tokens(
                f"losses.{fn}(*losses.top_k_buckets(student, ids, "
                "teacher_at_ids, jax.nn.logsumexp(teacher / T, axis=-1), "
                "temperature=T))"
            ),
            {"T": 2.0, "k": 8},
        )
        for key, fn in (
            ("kl", "forward_kl"),
            ("jsd", "generalized_jsd"),
            ("tvd", "total_variation"),
        )
    ],
    Defect(
        "TRL",
        "trl_gold_uld/observed_positional",
        "The default: slices the logits at the answer without the causal shift.",
        "losses.sequence_mean(losses.sorted_probability_distance(*answers), both)"
        ".value",
        {"shift": 1, "drop": 1, "teacher_T": 1.5},
    ),
    Defect(
        "Liger",
        "liger_cosine_w0.5",
        "The cosine distance of the logits also counts masked tokens, and divides by "
        "the others.",
        tokens(f"0.25 * losses.logit_cosine_distance(student, teacher) + 0.5 * {CE}"),
    ),
]
