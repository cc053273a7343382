"""One arithmetic on every x86 processor with AVX2, that is, since 2013: wider sets of instructions round otherwise."""

import os
from pathlib import Path

SETS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "avx")
"""Sets of instructions on which rounding depends, as /proc/cpuinfo names them, the widest first."""
COMMON = "avx2"
ONEDNN = "ONEDNN_MAX_CPU_ISA"
LIMITS = {
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Haswell",
    ONEDNN: "AVX2",
}
"""Environment variables that hold NumPy, the OpenBLAS of NumPy and of SciPy, and the oneDNN of TensorFlow to AVX2."""


def limit() -> None:
    """Set `LIMITS`, apart from variables that the user has set.

    NumPy and OpenBLAS look at theirs when they are loaded, oneDNN at its first computation.
    """
    if COMMON in _flags():  # where it is missing, the processor has nothing wider either, or is no x86
        for name, value in LIMITS.items():
            os.environ.setdefault(name, value)


def allow(precision: str) -> None:
    """Lift the limit of oneDNN for `bfloat16`, which it computes with wider instructions alone."""
    if precision == "bfloat16" and os.environ.get(ONEDNN) == LIMITS[ONEDNN]:
        del os.environ[ONEDNN]


def instructions(precision: str = "float32") -> str:
    """Return the set of instructions on which rounding depends in `float32` or `bfloat16`.

    Where the user has set one of the variables of `LIMITS` otherwise, it is the widest that the processor has.
    """
    limited = precision == "float32" and all(os.environ.get(name) == value for name, value in LIMITS.items())
    flags = _flags()
    return next((name for name in SETS[SETS.index(COMMON) if limited else 0 :] if name in flags), os.uname().machine)


def _flags() -> set[str]:
    cpuinfo = Path("/proc/cpuinfo")
    return set(cpuinfo.read_text().split()) if cpuinfo.is_file() else set()
