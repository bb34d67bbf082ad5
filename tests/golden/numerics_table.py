"""Which library computes what, and how to get that number from jaxkd.

Every row is a jaxkd expression which a test evaluates and compares with the values of
the original, loss and gradient; `docs/numerics.md` prints the same rows.
"""

from typing import Any, NamedTuple


class Row(NamedTuple):
    """Cases of one library which one expression reproduces."""

    library: str
    what: str
    cases: dict[str, dict[str, Any]]  # name in the file -> hyperparameters
    call: str  # an expression of `losses`, `jnp`, the arrays and hyperparameters
    factor: str = "1"
    why: str = ""
    rtol: float | None = None  # for float64, where the original needs a wider one


class Defect(NamedTuple):
    """A case which shows a defect of the original, and what is right instead."""

    library: str
    case: str
    reason: str
    right: str  # the jaxkd expression for what was meant
    params: dict[str, Any] = {}


TOKENS = "losses.masked_mean({}, mask).value"
KL = "losses.soft_target_kl(student, teacher, temperature=T)"
CE = "losses.cross_entropy(student, labels)"


def tokens(call):
    return TOKENS.format(call)


def sequences(call):
    return f"losses.sequence_mean({call}, mask[:, 1:]).value"


METHODS = [
    Row(
        "mdistiller, RepDistiller",
        "KD",
        {"KD": {"T": 4.0}, "KD_T1": {"T": 1.0}, "KD_rep": {"T": 4.0}},
        f"{KL}.mean()",
        why="The common convention: summed over classes, mean over the batch, τ².",
    ),
    Row(
        "MMRazor",
        "KD, reduction 'mean'",
        {"KD_mmrazor_mean": {"T": 4.0}},
        f"{KL}.mean()",
        "1 / C",
        "The mean is over the classes as well.",
    ),
    Row(
        "torchdistill",
        "KDLoss",
        {"KD_torchdistill": {"T": 4.0}},
        f"(0.5 * {CE} + 0.5 * {KL}).mean()",
        why="alpha weighs the cross-entropy, 1 - alpha the divergence.",
    ),
    Row(
        "torchdistill",
        "KDLoss, alpha = 0; SKD's instance loss",
        {"KD_torchdistill_alpha0": {"T": 4.0}, "SKD_instance": {"T": 4.0}},
        f"{KL}.mean()",
        "1 / T**2",
        "Without the factor τ²; `forward_kl` has none either.",
    ),
    Row(
        "TextBrewer",
        "kd_ce_loss",
        {"KD_ce_textbrewer": {"T": 8.0}},
        "losses.soft_cross_entropy(student, teacher, temperature=T).mean()",
        "1 / T**2",
        "Cross-entropy, so with the teacher's entropy, and without τ².",
    ),
    Row(
        "TextBrewer",
        "kd_mse_loss",
        {"KD_mse_textbrewer": {"T": 8.0}},
        "losses.logit_mse(student, teacher).mean()",
        "1 / T**2",
        "The logits are divided by the temperature, which only scales the loss.",
    ),
    Row(
        "cls_KD",
        "KDLoss",
        {"KD_ce_clsKD": {"T": 4.0}},
        "losses.soft_cross_entropy(student, teacher, temperature=T).mean()",
        "0.5",
        "Cross-entropy with τ², times alpha.",
    ),
    Row(
        "KD_Lib",
        "VirtualTeacher",
        {"TfKD_reg": {"T": 20.0}},
        f"(0.5 * {CE} + 0.5 * losses.virtual_teacher_kl(student, labels, "
        "temperature=T)).mean()",
        why="The student is not softened and there is no τ², as in the authors' code.",
    ),
    Row(
        "mdistiller, MMRazor",
        "DKD",
        {"DKD": {"T": 4.0}, "DKD_mmrazor": {"T": 4.0}},
        "losses.decoupled_kd(student, teacher, labels, beta=8.0, temperature=T).mean()",
        why="The warm-up factor is outside.",
    ),
    Row(
        "cls_KD",
        "NKD",
        {"NKD": {"T": 1.0}, "NKD_T2": {"T": 2.0}},
        "losses.normalized_kd(student, teacher, labels, gamma=1.5, "
        "temperature=T).mean()",
    ),
    Row(
        "cls_KD",
        "USKD",
        {"USKD": {}},
        "(losses.self_weighted_cross_entropy(student, labels)"
        " + 0.1 * losses.zipf_cross_entropy(student, scores, labels)"
        " + 0.005 * losses.smoothed_cross_entropy(weak, labels)).mean()",
        why="weak = fea_mid @ fc_w.T + fc_b; scores = log_softmax(student) / (1 - its "
        "label's) + softmax(weak) / (1 - its label's): the code ranks a logarithm "
        "where the paper has a probability.",
    ),
    Row(
        "MMRazor",
        "WSLD",
        {"WSLD": {"T": 2.0}},
        "losses.weighted_soft_cross_entropy(student, teacher, labels, "
        "temperature=T).mean()",
        "2.5",
        "loss_weight is inside.",
    ),
    Row(
        "image_classification_sota",
        "DIST",
        {"DIST": {"T": 1.0}, "DIST_tau4": {"T": 4.0}},
        "losses.inter_class_relation(student, teacher, temperature=T).mean()"
        " + losses.intra_class_relation(student, teacher, temperature=T)",
        "T**2",
        "τ² is in the code and not in the paper.",
    ),
    Row(
        "torchdistill",
        "DISTLoss",
        {"DIST_torchdistill": {"T": 4.0}},
        "losses.inter_class_relation(student, teacher, temperature=T).mean()"
        " + losses.intra_class_relation(student, teacher, temperature=T)",
        "T**2",
        "Bounds the norms from below where the authors add 1e-8 to their product.",
        rtol=1e-6,
    ),
    Row(
        "logit-standardization-KD",
        "KD with logit_stand",
        {"LSKD": {"T": 2.0}},
        "losses.standardized(losses.soft_target_kl)(student, teacher, "
        "temperature=T).mean()",
        why="The weight 9 is outside.",
    ),
    Row(
        "logit-standardization-KD",
        "DKD with logit_stand",
        {"LSDKD": {"T": 2.0}},
        "losses.standardized(losses.decoupled_kd)(student, teacher, labels, beta=8.0, "
        "temperature=T).mean()",
    ),
    Row(
        "torchdistill",
        "LogitStdKDLoss",
        {"LSKD_torchdistill": {"T": 2.0}},
        f"(0.5 * {CE} + 9.0 * losses.standardized(losses.soft_target_kl)"
        "(student, teacher, temperature=T)).mean()",
    ),
    Row(
        "TTM",
        "TTM",
        {"TTM": {}},
        "losses.transformed_teacher_kl(student, teacher, exponent=0.1).mean()",
        why="The weight 45 is outside.",
    ),
    Row(
        "TTM",
        "WTTM",
        {"WTTM": {}},
        "losses.weighted_transformed_teacher_kl(student, teacher, exponent=0.1).mean()",
    ),
    Row(
        "OFAKD",
        "ofa_loss",
        {"OFA": {}},
        "losses.target_enhanced_cross_entropy(student, teacher, labels, "
        "exponent=1.5).mean()",
    ),
    Row(
        "logit-standardization-KD",
        "MLKD, class correlation",
        {"MLKD_class_corr": {"T": 4.0}},
        "losses.class_correlation(student, teacher, temperature=T)",
    ),
    Row(
        "logit-standardization-KD",
        "MLKD, batch correlation",
        {"MLKD_batch_corr": {"T": 4.0}},
        "losses.batch_correlation(student, teacher, temperature=T)",
    ),
    Row(
        "CTKD",
        "global temperature",
        {"CTKD_global": {}},
        "losses.soft_target_kl(student, teacher, temperature=1 + 20 * jax.nn.sigmoid("
        "losses.reverse_gradient(global_T, scale=0.7))[0]).mean()",
        why="global_T is the learned parameter; its gradient is compared too.",
    ),
    Row(
        "MMRazor",
        "DAFL, one-hot-like loss",
        {"DAFL_onehot": {}},
        "losses.hard_target_cross_entropy(student, student).mean()",
        "0.05",
        "`student` are the teacher's logits on generated images.",
    ),
    Row(
        "TextBrewer",
        "kd_ce_loss with flsw",
        {
            "TB_flsw_temperature": {"T": 8.0},
        },
        "(losses.soft_cross_entropy(student, teacher, temperature=focal)"
        " / focal**2).mean()",
        why="focal = losses.focal_temperature(student, teacher, base=T)",
    ),
    Row(
        "TextBrewer",
        "kd_ce_loss with cwsm",
        {"TB_cwsm_temperature": {"T": 8.0}},
        "(losses.soft_cross_entropy(student, teacher, temperature=confidence)"
        " / confidence**2).mean()",
        why="confidence = losses.confidence_temperature(student, base=T)",
    ),
]

JSD = "losses.generalized_jsd(student, teacher, beta=beta, temperature=T)"
FORWARD = "losses.forward_kl(student, teacher, temperature=T)"
REVERSE = "losses.reverse_kl(student, teacher, temperature=T)"
TOP_K = "losses.top_k_buckets(student, ids, values, total)"


def _by_divergence(library, name, temperatures, wrap, factor="1", why="", suffix=""):
    """Rows for β = 0, 0 < β < 1 and β = 1."""
    for what, call, betas in (
        ("β = 0", FORWARD, (0,)),
        ("0 < β < 1", JSD, (0.1, 0.5, 0.9)),
        ("β = 1", REVERSE, (1,)),
    ):
        cases = {
            name.format(beta=beta, T=T): {"beta": beta, "T": float(T)}
            for beta in betas
            for T in temperatures
        }
        yield Row(library, f"{suffix}{what}", cases, wrap(call), factor, why)


LLM = [
    *_by_divergence(
        "TRL",
        "trl_gkd/beta{beta}_T{T}_mask",
        (1, 2),
        tokens,
        why="No τ². β = 0 and 1 are the two Kullback-Leibler divergences, not limits.",
        suffix="GKD, with labels, ",
    ),
    *_by_divergence(
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
        rtol=1e-6,
    ),
    Row(
        "DistillKit",
        "sparse KL, symmetric_uniform, T = 1",
        {"distillkit_sparse_kl/symmetric_uniform_T1": {"T": 1.0, "k": 8}},
        tokens("losses.top_k_kl(student, ids, values, total)"),
        why="One bucket for the rest.",
        rtol=1e-6,
    ),
    Row(
        "DistillKit",
        "dense KL",
        {f"distillkit_dense_kl/T{T}": {"T": float(T)} for T in (1, 2)},
        tokens(KL),
        rtol=1e-6,
    ),
    Row(
        "DistillKit",
        "dense JSD",
        {f"distillkit_dense_jsd/T{T}": {"T": float(T)} for T in (1, 2)},
        tokens("losses.generalized_jsd(student, teacher, temperature=T)"),
        "T**2",
        "τ² on the bounded divergences too.",
        rtol=1e-6,
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
        for row in _by_divergence(
            "Liger",
            "liger_jsd_beta{beta}_T{T}_w" + str(w),
            (1, 2),
            lambda call, w=w: tokens(call if w == 1 else f"0.5 * {call} + 0.5 * {CE}"),
            why="Fused with the head: student = hidden @ weight.T. No τ².",
            suffix="fused linear JSD, " + ("with CE, " if w != 1 else ""),
        )
    ],
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
            rtol=1e-6,
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
            rtol=1e-6,
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
        "DSKD",
        "ULD",
        {"dskd/uld": {"shift": 0, "drop": 0, "teacher_T": 1.0}},
        "losses.masked_mean(losses.sorted_probability_distance(*answers), both).total",
        why="Summed over positions. answers = both logits from the answer's start.",
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

HIDDEN = "hidden states or attention, no logits: a feature loss"
RELATION = "relation of embeddings: a relational loss"
POLICY = "policy gradient on sampled tokens: on-policy training"
ALIGNMENT = "maps tokens of two tokenizers before the loss: cross-tokenizer training"
CODEC = "storage of a teacher, no loss: the teacher cache"
SCHEDULE = "no loss: schedules and layer maps"

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
                "teacher_at_ids, jax.nn.logsumexp(teacher / T, axis=-1), temperature=T))"
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


def _named(prefix, names, reason):
    return {prefix + name: reason for name in names.split()}


NOT_HERE_METHODS = {
    **_named("", "RKD RKD_distance RKD_angle RKD_duplicate_rows RKD_mmrazor", RELATION),
    **_named("", "PKT CC CCKD_gaussian CCKD_bilinear", RELATION),
    **_named("", "ITRD_correlation ITRD_mutual SP SPKD_torchdistill CRD", RELATION),
    **_named("", "AT AT_resize AT_paper_torchdistill NST FSP FSP_torchdistill", HIDDEN),
    **_named("", "AB AB_torchdistill FT_factor FT_torchdistill FitNet VID", HIDDEN),
    **_named("", "KDSVD KDSVD_mdistiller ReviewKD_hcl ReviewKD_ABF", HIDDEN),
    **_named("", "OFD_featloss OFD_mmrazor CWD PKD L2_normalized_mmrazor", HIDDEN),
    **_named("", "L2_dist_BYOT_mmrazor MGD_loss_mmrazor MGD_clsKD SRRL ICKD", HIDDEN),
    **_named("", "SRD DISTPlus_as_coded PAD_L2 KTA Affinity SSKD", HIDDEN),
    **_named("", "DAFL_activation", HIDDEN),
    "SKD_direction": "Mahalanobis distance of Gram matrices: a relational loss",
    "DAFL_info_entropy": "entropy of a generator's mean prediction: data-free training",
    **_named(
        "TB_",
        "att_mse att_mse_mask att_ce att_ce_mask att_mse_sum att_mse_sum_mask "
        "att_ce_mean att_ce_mean_mask hid_mse hid_mse_mask cos cos_mask pkd fsp_gram "
        "mmd_nst",
        HIDDEN,
    ),
}

NOT_HERE_LLM = {
    **_named(
        "trl_gold_uld/",
        "observed_positional_hybrid observed_extended observed_extended_hybrid "
        "bayesian_positional_hybrid bayesian_extended bayesian_extended_hybrid",
        ALIGNMENT,
    ),
    "trl_gold_uld": ALIGNMENT,
    **_named(
        "trl_minillm/advantage_",
        "gamma0_len gamma0_nolen gamma0.9_len gamma0.9_nolen",
        POLICY,
    ),
    **_named("", "trl_iw_opd/gamma0.5 minillm_pg minillm_k3", POLICY),
    **_named(
        "distillm2/",
        "distillm_v2_tea_adaptive distillm_v2_ref_adaptive",
        "the skew is set per sequence from a reference model: the trainer's schedule",
    ),
    **_named(
        "distillkit_",
        "hinge_margin hinge_teachergap logistic_ranking",
        "ranking of the teacher's top-k pairs, not a divergence: not asked for",
    ),
    **_named("distillkit_hidden/", "mse cosine", HIDDEN),
    **_named("distillkit_bitpack/", "d61 d50257 d128256 d151936 d262144", CODEC),
    **_named("distillkit_codec/", "recommended budget readme_offline residual8", CODEC),
    **_named(
        "textbrewer/",
        "att_mse_loss att_mse_loss_mask att_mse_sum_loss att_mse_sum_loss_mask "
        "att_ce_loss att_ce_loss_mask att_ce_mean_loss att_ce_mean_loss_mask "
        "hid_mse_loss hid_mse_loss_mask cos_loss cos_loss_mask pkd_loss fsp_loss "
        "fsp_loss_mask mmd_loss mmd_loss_mask",
        HIDDEN,
    ),
    **_named("", "minilm_relation/v2_qq_kk_vv minilm_relation/v1_qk_vv", HIDDEN),
    **_named("", "tinybert/att_mse tunix_feature/cosine_default", HIDDEN),
    **_named("", "tunix_pool/4x2x6x5 tunix_pool/2x2x6x10 tunix_pool/3x2x6x7", HIDDEN),
    **_named("maxtext_feature/", "cosine l2", HIDDEN),
    **_named("", "maxtext_schedule/linear maxtext_schedule/cosine layer_map", SCHEDULE),
}

FILES = {"methods": (METHODS, NOT_HERE_METHODS), "llm": (LLM, NOT_HERE_LLM)}
