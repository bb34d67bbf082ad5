"""What libraries compute of features, maps and dense predictions."""

from numerics_rows import KL, Defect, Row

STAGES = "((student_0, teacher_0), (student_1, teacher_1), (student_2, teacher_2))"
FLOWS = (
    "(losses.flow_of_solution(student_0, student_1, teacher_0, teacher_1)"
    " + losses.flow_of_solution(student_1, student_2, teacher_1, teacher_2)).mean()"
)
HALVING = (
    "sum(w * losses.activation_boundary(s, t, margin=1.0).mean()"
    f" for w, (s, t) in zip((0.25, 0.5, 1.0), {STAGES}))"
)
ENERGIES = "*((x**2).mean(-1, keepdims=True) for x in (student, teacher))"
VECTORS = "losses.singular_vector_relation(student_0, student_1, {}, {}).mean()"
MARGIN = (
    "losses.batchnorm_margin(bn_weight, bn_bias)"
    ".astype('float32').astype(student.dtype)"
)


def over_stages(fn):
    return f"sum(losses.{fn}(s, t).mean() for s, t in {STAGES})"


FEATURES = [
    Row(
        "RepDistiller",
        "HintLoss (FitNets), after the regressor",
        {"FitNet": {}},
        "losses.feature_mse(student, teacher).mean()",
    ),
    Row(
        "RepDistiller",
        "Attention",
        {"AT": {}},
        over_stages("attention_transfer"),
        why="Summed over the stages.",
    ),
    Row(
        "RepDistiller",
        "Attention, maps of two sizes",
        {"AT_resize": {}},
        "losses.attention_transfer(student, teacher).mean()",
        why="The larger map is averaged to the smaller one.",
    ),
    Row(
        "torchdistill",
        "ATLoss, mode 'paper'",
        {"AT_paper_torchdistill": {}},
        "losses.attention_distance(student, teacher).mean()",
        why="The norm, not its square over the positions: 41 times the other mode.",
    ),
    Row(
        "RepDistiller",
        "Similarity (SP)",
        {"SP": {}},
        "losses.similarity_preserving(student, teacher)",
    ),
    Row(
        "RepDistiller",
        "NSTLoss",
        {"NST": {}},
        over_stages("neuron_selectivity"),
        why="Summed over the stages; the value includes the teacher's own term.",
    ),
    Row("RepDistiller", "FSP", {"FSP": {}}, FLOWS, why="Summed over pairs of layers."),
    Row(
        "RepDistiller",
        "ABLoss",
        {"AB": {}},
        HALVING,
        "3 / 1000",
        "Summed over the stages, each with half the weight of the next.",
    ),
    Row(
        "torchdistill",
        "AltActTransferLoss (AB)",
        {"AB_torchdistill": {}},
        "losses.activation_boundary(student, teacher, margin=1.0).mean()",
        why="667 times RepDistiller's value for one stage.",
    ),
    Row(
        "RepDistiller",
        "FactorTransfer",
        {"FT_factor": {}},
        f"losses.factor_transfer({ENERGIES}).mean()",
        why="Takes the mean square over the channels first, which the paper does not.",
    ),
    Row(
        "torchdistill",
        "FTLoss; KTALoss",
        {"FT_torchdistill": {}, "KTA": {}},
        "losses.factor_transfer(student, teacher).mean()",
    ),
    Row(
        "RepDistiller",
        "VIDLoss",
        {"VID": {}},
        "losses.variational_information(predicted, teacher, "
        "jax.nn.softplus(log_scale) + 1e-5).mean()",
        why="The mean is predicted by three 1 by 1 convolutions; the gradient of "
        "the variance's parameter is compared as well.",
    ),
    Row(
        "RepDistiller",
        "KDSVD",
        {"KDSVD": {}},
        VECTORS.format(*(f"turned(teacher_{i}, aux_vt{i})" for i in (0, 1))),
        why="With the sign of the singular vectors that the original happened to have.",
    ),
    Row(
        "mdistiller",
        "hcl_loss (ReviewKD)",
        {"ReviewKD_hcl": {}},
        over_stages("hierarchical_context"),
        why="Summed over the stages.",
    ),
    Row(
        "mdistiller",
        "OFD",
        {"OFD_featloss": {}},
        f"losses.overhaul_distance(student, teacher, {MARGIN}).mean()",
        why="A sum over positions and channels, hence the weight of 0.001. The "
        "original keeps the margins in float32.",
    ),
    Row(
        "MMRazor",
        "OFDLoss",
        {"OFD_mmrazor": {}},
        "losses.overhaul_distance(student, teacher, margin.reshape(-1)).mean()",
        "1 / 1000",
    ),
    Row(
        "MMRazor",
        "ChannelWiseDivergence (CWD)",
        {"CWD": {"T": 4.0}},
        "losses.channel_wise_kl(student, teacher, temperature=T).mean()",
        "3",
        "The factor is its weight in the recorded case.",
    ),
    Row(
        "MMRazor",
        "PKDLoss",
        {"PKD": {}},
        "losses.standardized_feature_mse(student, teacher)",
    ),
    Row(
        "MMRazor",
        "L2Loss, normalized",
        {"L2_normalized_mmrazor": {}},
        "losses.unit_feature_distance(student, teacher).mean()",
        "4**2",
        "Scales to length 4.",
    ),
    Row(
        "MMRazor",
        "L2Loss, dist (BYOT)",
        {"L2_dist_BYOT_mmrazor": {}},
        "losses.feature_squared_distance(student, teacher).sum() ** 0.5",
        "0.03",
        "The root of the sum over the whole batch: grows with the batch.",
    ),
    Row(
        "MMRazor",
        "MGDLoss, after the generation",
        {"MGD_loss_mmrazor": {}},
        "losses.feature_squared_distance(student, teacher).mean()",
        "2e-5",
    ),
    Row(
        "cls_KD",
        "MGDLoss",
        {"MGD_clsKD": {"ratio": 0.15}},
        "losses.feature_squared_distance(generated, teacher).mean()",
        "7e-5",
        "With the mask of its uniform draws.",
    ),
    Row(
        "cls_KD",
        "SRRLLoss",
        {"SRRL": {}},
        "(losses.feature_mse(*(x.mean((1, 2)) for x in (student_0, teacher_0)))"
        " + 5 * losses.logit_mse(student_1, teacher_1)).mean()",
        why="Means over the positions, and logits of the teacher's head.",
    ),
    Row(
        "torchdistill",
        "ChSimLoss (ICKD)",
        {"ICKD": {}},
        "losses.inter_channel_correlation(student, teacher).mean()",
        "1 / B",
        "Divides by the batch twice.",
    ),
    Row(
        "torchdistill",
        "SRDLoss",
        {"SRD": {"T": 1.0}},
        "2 * losses.log_power_distance(student_0, teacher_0) + "
        + KL.replace("student", "student_1").replace("teacher", "teacher_1")
        + ".mean()",
    ),
    Row(
        "TTM",
        "ITLoss, correlation",
        {"ITRD_correlation": {}},
        "losses.representation_correlation(student @ w.T + b, teacher)",
    ),
    Row(
        "TTM",
        "ITLoss, mutual information",
        {"ITRD_mutual": {}},
        "losses.representation_information(student @ w.T + b, teacher)",
    ),
    Row(
        "torchdistill",
        "PADL2Loss",
        {"PAD_L2": {}},
        "losses.uncertainty_weighted_mse(student_0, teacher, student_1).mean()",
    ),
    Row(
        "torchdistill",
        "AffinityLoss",
        {"Affinity": {}},
        "losses.channel_affinity(student, teacher).mean()",
    ),
    Row(
        "TextBrewer",
        "fsp_loss",
        {"TB_fsp_gram": {}},
        "losses.flow_of_solution(student_0, student_1, teacher_0, teacher_1).mean()",
        why="Of tokens.",
    ),
]

FEATURE_DEFECTS = [
    Defect(
        "torchdistill",
        "SPKD_torchdistill",
        "Divides the rows by their sum of sizes, where the paper has their length.",
        "losses.similarity_preserving(student, teacher)",
    ),
    Defect(
        "torchdistill",
        "FSP_torchdistill",
        "Sums the lengths of the columns, where the paper has the squared norm.",
        "losses.flow_of_solution(student_0, student_1, teacher_0, teacher_1).mean()",
    ),
    Defect(
        "mdistiller",
        "KDSVD_mdistiller",
        "Reads channels-first arrays as channels-last ones: the vectors lie along the "
        "width, and any two channels fit. The right value is of as many of the "
        "teacher's channels as the student has.",
        VECTORS.format("teacher_0[..., :6]", "teacher_1[..., :8]"),
    ),
]
