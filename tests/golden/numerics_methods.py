"""What libraries for classifiers compute."""

from numerics_rows import CE, KL, Row

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
        rtol=1e-6,  # the gradient, by where the small number stands
    ),
    Row(
        "MMRazor",
        "InformationEntropyLoss",
        {"DAFL_info_entropy": {}},
        "(lambda z: losses.soft_cross_entropy(z, z))"
        "(jnp.log(jax.nn.softmax(student).mean(axis=0)))",
        "-5 / jnp.log(10.0)",
        "Entropy of the mean prediction, by the logarithm to base 10; weight 5 inside.",
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
