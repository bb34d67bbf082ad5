"""Cases which are not losses on logits, and why each is not here."""

POLICY = "policy gradient on sampled tokens: on-policy training"
ALIGNMENT = (
    "before the loss, probabilities of the tokens that spell the same bytes are merged "
    "(extended), or tokens of both vocabularies are matched by id and only the others "
    "sorted (hybrid): the alignment of two tokenizers, which is no loss"
)
CODEC = "storage of a teacher, no loss: the teacher cache"
SCHEDULE = "no loss: a schedule of weights"
POOLING = "no loss: a teacher averaged to fewer layers and channels"


def _named(prefix, names, reason):
    return {prefix + name: reason for name in names.split()}


NOT_HERE_METHODS = {
    "ReviewKD_ABF": "a trained fusion of features, no loss",
    "SSKD": "selects among transformed images and their originals: a relational loss",
    "DAFL_activation": "the size of a generator's features: data-free training",
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
    **_named("distillkit_bitpack/", "d61 d50257 d128256 d151936 d262144", CODEC),
    **_named("distillkit_codec/", "recommended budget readme_offline residual8", CODEC),
    **_named("tunix_pool/", "4x2x6x5 2x2x6x10 3x2x6x7", POOLING),
    **_named("maxtext_schedule/", "linear cosine", SCHEDULE),
    "layer_map": "no loss: compared with `losses.layer_maps` in a test of its own",
}
