"""`python -m mixgen`, which is the `mixgen` command."""

import sys

from mixgen.cli import main

sys.exit(main())
