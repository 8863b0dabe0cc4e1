"""``python -m catalog_sync``."""

import sys

from catalog_sync.cli.main import main

sys.exit(main())
