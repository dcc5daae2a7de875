"""``python -m course_utils``: see cli.py."""

import sys

from course_utils.cli.parser import main

sys.exit(main())
