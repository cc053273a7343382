"""What the stages and the command `mammo` share."""

import sys

# A stage depends on whole folders of this package: bytecode written into them would make it stale, in cv/ as well,
# whose .dvcignore does not reach here.
sys.dont_write_bytecode = True
