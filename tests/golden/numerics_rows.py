"""The form of the rows, and what their expressions share."""

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


#: DistillKit gives float64, but rounds to float32 inside: the gradients, which have no
#: other error than that, differ from ours by 1e-7 to 4e-7 of their largest entry.
ROUNDED = 1e-6

TOKENS = "losses.masked_mean({}, mask).value"
KL = "losses.soft_target_kl(student, teacher, temperature=T)"
CE = "losses.cross_entropy(student, labels)"


def tokens(call):
    return TOKENS.format(call)


def sequences(call):
    return f"losses.sequence_mean({call}, mask[:, 1:]).value"


JSD = "losses.generalized_jsd(student, teacher, beta=beta, temperature=T)"
FORWARD = "losses.forward_kl(student, teacher, temperature=T)"
REVERSE = "losses.reverse_kl(student, teacher, temperature=T)"
TOP_K = "losses.top_k_buckets(student, ids, values, total)"


def by_divergence(library, name, temperatures, wrap, factor="1", why="", suffix=""):
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
