"""`python -m private_lora`."""

import sys

from private_lora.cli import main

sys.exit(main())
