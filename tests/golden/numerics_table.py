"""Which library computes what, and how to get that number from jaxkd.

Every row is a jaxkd expression which a test evaluates and compares with the values of
the original, loss and gradient; `docs/numerics.md` prints the same rows.
"""

from numerics_defects import DEFECTS as LOGIT_DEFECTS
from numerics_elsewhere import NOT_HERE_LLM, NOT_HERE_METHODS
from numerics_features import FEATURE_DEFECTS, FEATURES
from numerics_frameworks import FRAMEWORKS
from numerics_methods import METHODS
from numerics_relations import RELATION_DEFECTS, RELATIONS
from numerics_research import RESEARCH
from numerics_transformers import LLM_TRANSFORMERS, METHODS_TRANSFORMERS
from numerics_trl import TRL

FILES = {
    "methods": (
        [*METHODS, *FEATURES, *RELATIONS, *METHODS_TRANSFORMERS],
        NOT_HERE_METHODS,
    ),
    "llm": ([*TRL, *RESEARCH, *FRAMEWORKS, *LLM_TRANSFORMERS], NOT_HERE_LLM),
}

DEFECTS = [*LOGIT_DEFECTS, *FEATURE_DEFECTS, *RELATION_DEFECTS]

__all__ = ["DEFECTS", "FILES"]
