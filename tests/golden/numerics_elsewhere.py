"""Cases which are not losses on logits, and why each is not here."""

HIDDEN = "hidden states or attention, no logits: a feature loss"
RELATION = "relation of embeddings: a relational loss"
POLICY = "policy gradient on sampled tokens: on-policy training"
ALIGNMENT = "maps tokens of two tokenizers before the loss: cross-tokenizer training"
CODEC = "storage of a teacher, no loss: the teacher cache"
SCHEDULE = "no loss: schedules and layer maps"


def _named(prefix, names, reason):
    return {prefix + name: reason for name in names.split()}


NOT_HERE_METHODS = {
    **_named("", "RKD RKD_distance RKD_angle RKD_duplicate_rows RKD_mmrazor", RELATION),
    **_named("", "PKT CC CCKD_gaussian CCKD_bilinear", RELATION),
    "CRD": "contrast with a memory bank: a relational loss",
    "DISTPlus_as_coded": RELATION,
    "ReviewKD_ABF": "a trained fusion of features, no loss",
    "SSKD": "selects among transformed images and their originals: a relational loss",
    "DAFL_activation": "the size of a generator's features: data-free training",
    "SKD_direction": "Mahalanobis distance of Gram matrices: a relational loss",
    "DAFL_info_entropy": "entropy of a generator's mean prediction: data-free training",
    **_named(
        "TB_",
        "att_mse att_mse_mask att_ce att_ce_mask att_mse_sum att_mse_sum_mask "
        "att_ce_mean att_ce_mean_mask hid_mse hid_mse_mask cos cos_mask pkd mmd_nst",
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
