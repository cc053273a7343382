"""What the stages and the command `mammo` share."""

import importlib.util
import sys

# A stage depends on whole folders of this package: bytecode written into them would make it stale, in cv/ as well,
# whose .dvcignore does not reach here.
sys.dont_write_bytecode = True

from mammo.core import processor  # noqa: E402

processor.limit()  # before NumPy is loaded

if missing := [name for name in ("numpy", "pydantic", "cv2", "scipy") if importlib.util.find_spec(name) is None]:
    sys.exit(
        f"The environment is not active: {sys.executable} has no {missing[0]}. Run `make` once to set it up, then "
        "`source .venv/bin/activate` in every new terminal."
    )
