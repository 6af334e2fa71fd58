"""`python -m private_lora`."""

import sys

from private_lora.cli.main import main

sys.exit(main())
