"""What libraries compute of attention, hidden states and relations of tokens."""

from numerics_rows import Row

SEEN = "*(jnp.where(x <= {least}, 0.0, x) for x in ({}, {}))"
KEYS = "losses.sampled_soft_cross_entropy({}, {}, softmax({}) * {})"
THRESHOLD = "Scores below a threshold, meant for masks, count as 0."
DROPPED = (
    "Keys below a threshold, meant for masks, or of padding, are left out of the sum "
    "but not of the softmax; `attention_map_cross_entropy` leaves them out of both."
)
BY_LENGTH = "Padding counts by the batch: long sequences weigh more."
SCORES = "losses.attention_score_mse({})"
ALL_QUERIES = "jnp.broadcast_to(mask[:, None] > 0, student.shape[:3])"
MEANS = ("student.mean(1)", "mean_keys", "teacher.mean(1)")
GRAMS = "losses.token_similarity_mse({})"


def weighted(call, weights="lengths"):
    return f"losses.weighted_mean({call}, {weights}).value"


def attention_calls():
    """TextBrewer's losses on attention, of its heads or of their sum or mean."""
    sums = ("student.sum(1, keepdims=True)", "teacher.sum(1, keepdims=True)")
    for name, both in (("att_mse", ("student", "teacher")), ("att_mse_sum", sums)):
        call = SCORES.format(SEEN.format(*both, least=-1e-3))
        yield name, f"{call}.mean()", THRESHOLD
        call = SCORES.format(", ".join([*both, "where=mask"]))
        yield f"{name}_mask", weighted(call, "lengths**2"), BY_LENGTH
    for name, s, ids, t, of_keys, of_queries in (
        ("att_ce", "student", "keys", "teacher", "mask[:, None, None]", ALL_QUERIES),
        ("att_ce_mean", *MEANS, "mask[:, None]", "mask > 0"),
    ):
        call = KEYS.format(s, ids, t, f"({t} > -1e-3)")
        yield name, f"{call}.mean()", DROPPED
        call = KEYS.format(s, ids, t, of_keys)
        yield f"{name}_mask", f"losses.masked_mean({call}, {of_queries}).value", DROPPED


def attention(named):
    """TextBrewer's rows on attention, for cases of these names."""
    for name, call, why in attention_calls():
        yield Row("TextBrewer", name, {named(name): {}}, call, why=why)


def hidden(named):
    """TextBrewer's rows on hidden states."""
    for name, fn in (("hid_mse", "feature_mse"), ("cos", "feature_cosine_distance")):
        call = f"losses.{fn}(student, teacher)"
        yield Row("TextBrewer", name, {named(name): {}}, f"{call}.mean()")
        call = weighted(f"losses.{fn}(student, teacher, where=mask)")
        name += "_mask"
        yield Row("TextBrewer", name, {named(name): {}}, call, why=BY_LENGTH)
    yield Row(
        "TextBrewer",
        "pkd",
        {named("pkd"): {}},
        "losses.patient_distance(student[:, :1], teacher[:, :1]).mean()",
        why="Of the first token.",
    )


METHODS_TRANSFORMERS = [
    *attention("TB_{}".format),
    *hidden("TB_{}".format),
    Row(
        "TextBrewer",
        "mmd, nst",
        {"TB_mmd_nst": {}},
        GRAMS.format("student_0, student_1, teacher_0, teacher_1") + ".mean()",
    ),
]


def loss_named(name):
    stem, mask = name.removesuffix("_mask"), name.endswith("_mask")
    return f"textbrewer/{stem}_loss" + "_mask" * mask


LAYERS = "student[0], student[1], teacher[0], teacher[1]"
FLOWS = (
    "(losses.flow_of_solution(mask[..., None] * student[0], student[1], "
    "mask[..., None] * teacher[0], teacher[1])"
    " * (mask.shape[1] / lengths) ** 2).mean()"
)
RELATION = "losses.token_relation_kl({}, heads=4, where=mask).mean()"
OVER_LAYERS = "where=jnp.broadcast_to(mask, student.shape[:3])"


def relations(*pairs):
    """The sum over MiniLM's pairs of queries, keys and values."""
    sides = (f"s_{a}, s_{b}, t_{a}, t_{b}" for a, b in pairs)
    return "(" + " + ".join(map(RELATION.format, sides)) + ")"


LLM_TRANSFORMERS = [
    *attention(loss_named),
    *hidden(loss_named),
    Row("TextBrewer", "mmd", {loss_named("mmd"): {}}, GRAMS.format(LAYERS) + ".mean()"),
    Row(
        "TextBrewer",
        "mmd_mask",
        {loss_named("mmd_mask"): {}},
        weighted(GRAMS.format(f"{LAYERS}, where=mask"), "lengths**2"),
        why=BY_LENGTH,
    ),
    Row(
        "TextBrewer",
        "fsp",
        {loss_named("fsp"): {}},
        f"losses.flow_of_solution({LAYERS}).mean()",
    ),
    Row(
        "TextBrewer",
        "fsp_mask",
        {loss_named("fsp_mask"): {}},
        FLOWS,
        why="Padding is set to 0, and the mean is over the rest.",
    ),
    Row(
        "TinyBERT",
        "attention scores",
        {"tinybert/att_mse": {}},
        f"losses.attention_score_mse({SEEN.format('student', 'teacher', least=-100)})"
        ".mean()",
        why=THRESHOLD,
    ),
    Row(
        "minilmv2.bb",
        "MiniLM v2",
        {"minilm_relation/v2_qq_kk_vv": {}},
        relations("qq", "kk", "vv"),
        "1 / 3",
        "Queries, keys and values of the recorded layer; its gradient is compared too.",
    ),
    Row(
        "minilmv2.bb",
        "MiniLM v1",
        {"minilm_relation/v1_qk_vv": {}},
        relations("qk", "vv"),
    ),
    Row(
        "DistillKit",
        "hidden states, mse",
        {"distillkit_hidden/mse": {}},
        weighted("losses.feature_mse(student, teacher, where=mask)"),
    ),
    Row(
        "DistillKit",
        "hidden states, cosine",
        {"distillkit_hidden/cosine": {}},
        weighted("losses.feature_cosine_distance(student, teacher, where=mask)"),
    ),
    Row(
        "MaxText",
        "features, l2",
        {"maxtext_feature/l2": {}},
        f"losses.feature_mse(student, teacher, {OVER_LAYERS}).mean()",
        why="Of layers, sequences and tokens.",
    ),
    Row(
        "MaxText",
        "features, cosine",
        {"maxtext_feature/cosine": {}},
        f"losses.feature_cosine_distance(student, teacher, {OVER_LAYERS}).mean()",
    ),
    Row(
        "Tunix",
        "pooled features",
        {"tunix_feature/cosine_default": {}},
        "losses.feature_cosine_distance(student, teacher).mean()",
        why="Knows no mask.",
    ),
]
