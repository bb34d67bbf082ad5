"""What training frameworks compute."""

from numerics_rows import CE, FORWARD, KL, REVERSE, Row, tokens

FRAMEWORKS = [
    Row(
        "Model Optimizer",
        "logits, 'mean'",
        {f"modelopt_logits/T{T}_mean": {"T": float(T)} for T in (1, 3)},
        f"{KL}.mean()",
        "1 / V",
        "The default: the mean is over the vocabulary as well.",
    ),
    Row(
        "Model Optimizer",
        "logits, 'batchmean'",
        {f"modelopt_logits/T{T}_batchmean": {"T": float(T)} for T in (1, 3)},
        f"{KL}.sum()",
        "1 / B",
        "Divides by the sequences, not by the tokens.",
    ),
    Row(
        "Model Optimizer",
        "logits, KDTrainer",
        {f"modelopt_logits/T{T}_none": {"T": float(T)} for T in (1, 3)},
        tokens(KL),
    ),
    Row(
        "Model Optimizer",
        "MFT",
        {"modelopt_mft/thr0.2": {}},
        "losses.soft_target_kl(student, losses.corrected_teacher_logits(teacher, "
        "labels, margin=0.2)).mean()",
    ),
    Row(
        "Model Optimizer",
        "Megatron, forward",
        {f"modelopt_megatron/kl_T{T}": {"T": float(T)} for T in (1, 2)},
        tokens(FORWARD),
        why="No τ², unlike the same library outside Megatron.",
    ),
    Row(
        "Model Optimizer",
        "Megatron, reverse",
        {"modelopt_megatron/rkl_T1": {"T": 1.0}},
        tokens(REVERSE),
    ),
    Row(
        "Model Optimizer, MaxText",
        "top-k",
        {
            "modelopt_megatron/topk8_T1": {"T": 1.0, "k": 8},
            "maxtext_topk8/T1_alpha1": {"T": 1.0, "k": 8},
            "maxtext_topk8/T2_alpha1": {"T": 2.0, "k": 8},
        },
        tokens("losses.renormalized_top_k_kl(student, ids, values, temperature=T)"),
        why="Both sides renormalized.",
    ),
    Row(
        "MaxText",
        "top-k, with CE",
        {f"maxtext_topk8/T{T}_alpha0.5": {"T": float(T), "k": 8} for T in (1, 2)},
        tokens(
            "0.5 * losses.renormalized_top_k_kl(student, ids, values, temperature=T)"
            f" + 0.5 * {CE}"
        ),
    ),
    Row(
        "MaxText",
        "dense",
        {f"maxtext_dense/T{T}_alpha1": {"T": float(T)} for T in (1, 2)},
        tokens(KL),
    ),
    Row(
        "MaxText",
        "dense, with CE",
        {f"maxtext_dense/T{T}_alpha0.5": {"T": float(T)} for T in (1, 2)},
        tokens(f"0.5 * {KL} + 0.5 * {CE}"),
    ),
    Row(
        "Tunix",
        "LogitStrategy",
        {f"tunix_logit/T{T}_alpha1_k0": {"T": float(T)} for T in (1, 2)},
        f"{KL}.mean()",
        why="No mask: padding counts.",
    ),
    Row(
        "Tunix",
        "LogitStrategy, with CE",
        {f"tunix_logit/T{T}_alpha0.5_k0": {"T": float(T)} for T in (1, 2)},
        f"(0.5 * {KL} + 0.5 * jnp.where(mask, {CE}, 0.0)).mean()",
        why="Masked rows have no cross-entropy, but are divided by.",
    ),
    Row(
        "Tunix",
        "LogitStrategy, top-k",
        {f"tunix_logit/T{T}_alpha1_k8": {"T": float(T), "k": 8} for T in (1, 2)},
        "losses.renormalized_top_k_kl(student, ids, values, temperature=T).mean()",
    ),
    Row(
        "Tunix",
        "LogitStrategy, top-k, with CE",
        {f"tunix_logit/T{T}_alpha0.5_k8": {"T": float(T), "k": 8} for T in (1, 2)},
        "(0.5 * losses.renormalized_top_k_kl(student, ids, values, temperature=T)"
        f" + 0.5 * jnp.where(mask, {CE}, 0.0)).mean()",
    ),
    Row(
        "distil-whisper",
        "Flax training step",
        {f"distil_whisper/T{T}_ce0.8_kl1": {"T": float(T)} for T in (1, 2)},
        tokens(f"0.8 * {CE} + {KL}"),
    ),
    Row(
        "TextBrewer",
        "kd_mse_loss, tokens",
        {f"textbrewer/kd_mse_loss_T{T}": {"T": float(T)} for T in (1, 4)},
        "losses.logit_mse(student, teacher).mean()",
        "1 / T**2",
    ),
    Row(
        "TextBrewer",
        "kd_ce_loss, tokens",
        {f"textbrewer/kd_ce_loss_T{T}": {"T": float(T)} for T in (1, 4)},
        "losses.soft_cross_entropy(student, teacher, temperature=T).mean()",
        "1 / T**2",
        "No mask, no τ².",
    ),
    Row(
        "TextBrewer",
        "kd_ce_loss with flsw, tokens",
        {"textbrewer/kd_ce_flsw_b1_g2": {"T": 4.0}},
        "(losses.soft_cross_entropy(student, teacher, temperature=focal)"
        " / focal**2).mean()",
        why="focal = losses.focal_temperature(student, teacher, base=T)",
    ),
    Row(
        "TextBrewer",
        "kd_ce_loss with cwsm, tokens",
        {"textbrewer/kd_ce_cwsm_b1": {"T": 4.0}},
        "(losses.soft_cross_entropy(student, teacher, temperature=confidence)"
        " / confidence**2).mean()",
        why="confidence = losses.confidence_temperature(student, base=T)",
    ),
    Row(
        "TinyBERT",
        "soft cross-entropy",
        {"tinybert/soft_ce_T1": {}},
        "losses.soft_cross_entropy(student, teacher).mean()",
        "1 / V",
        "The mean is over the classes as well.",
    ),
    Row(
        "transformers",
        "DistilBERT",
        {"distilbert/ce5_mlm2_T2": {"T": 2.0}},
        tokens(f"5 * {KL} + 2 * {CE}"),
    ),
]
