"""``python -m jaxkd.cli``."""

import sys

from jaxkd.cli import main

sys.exit(main())
