"""One table of the losses on features: rows of several files, a name each.

A row is named by its function, and after a comma by what is special about the row.
"""

from rows_features import FEATURE_HELPERS, FEATURES
from rows_relations import RELATION_HELPERS, RELATIONS
from rows_transformers import TRANSFORMERS

ARRAY_ROWS = {**FEATURES, **RELATIONS, **TRANSFORMERS}
HELPERS = FEATURE_HELPERS | RELATION_HELPERS


def public_names(rows):
    return {name.partition(",")[0] for name in rows}


#: All that `jaxkd.losses` exports for features.
ARRAY_NAMES = public_names(ARRAY_ROWS) | HELPERS
