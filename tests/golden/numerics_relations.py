"""What libraries compute of the relations of examples, and in contrast."""

from numerics_rows import Defect, Row

DISTANCE = "losses.relational_distance({})"
ANGLE = "losses.relational_angle({})"
BOTH = f"25 * {DISTANCE} + 50 * {ANGLE}"
PAIR = "student, teacher"
UNIT = "*(x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (student, teacher))"
DIST = (
    "2 * losses.inter_class_relation(student_1, teacher_1).mean()"
    " + 2 * losses.intra_class_relation(student_1, teacher_1)"
)
ROOT = "The root of the sum over all pairs, and not the sum, over the pairs' number."

RELATIONS = [
    Row("RepDistiller", "RKDLoss", {"RKD": {}}, BOTH.format(PAIR, PAIR)),
    Row(
        "RepDistiller",
        "RKDLoss, distances",
        {"RKD_distance": {}},
        DISTANCE.format(PAIR),
    ),
    Row("RepDistiller", "RKDLoss, angles", {"RKD_angle": {}}, ANGLE.format(PAIR)),
    Row(
        "MMRazor",
        "DistanceWiseRKD and AngleWiseRKD",
        {"RKD_mmrazor": {}},
        BOTH.format(UNIT, UNIT),
        why="Scales the embeddings to length 1 first.",
    ),
    Row(
        "RepDistiller",
        "PKT",
        {"PKT": {}},
        "losses.probabilistic_knowledge_transfer(student, teacher)",
        why="A mean over all pairs, hence its weight of 30000.",
    ),
    Row(
        "RepDistiller",
        "Correlation (CC), after the embeddings",
        {"CC": {}},
        "losses.neighbour_correlation(student, teacher)",
    ),
    Row(
        "torchdistill",
        "CCKDLoss, bilinear",
        {"CCKD_bilinear": {}},
        "losses.bilinear_congruence(student, teacher) ** 0.5",
        "1 / B",
        ROOT,
    ),
    Row(
        "torchdistill",
        "CCKDLoss, gaussian",
        {"CCKD_gaussian": {}},
        "losses.gaussian_congruence(student, teacher, gamma=0.4, order=2) ** 0.5",
        "1 / B",
        ROOT,
    ),
    Row(
        "torchdistill",
        "SKDDirectionLoss",
        {"SKD_direction": {}},
        "losses.similarity_mahalanobis(student, teacher)",
    ),
    Row(
        "RepDistiller",
        "CRDLoss",
        {"CRD": {}},
        "losses.contrastive_representation(*batch, memory).mean()",
        why="After its embeddings, whose gradients are compared as well; a second "
        "step and the memories are compared in a test.",
    ),
]

RELATION_DEFECTS = [
    Defect(
        "RepDistiller",
        "RKD_duplicate_rows",
        "The value is right; the gradient of two rows that are the same is 1e10.",
        BOTH.format(PAIR, PAIR),
    ),
    Defect(
        "torchdistill",
        "DISTPlus_as_coded",
        "The channels' term is the correlation, and not one minus it: a perfect match "
        "is the worst.",
        f"{DIST} + losses.channel_relation(student_0, teacher_0).mean()"
        " + losses.spatial_relation(student_0, teacher_0)",
    ),
]
