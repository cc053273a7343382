"""What decides rounding: sets of instructions, and reciprocals that processors approximate."""

import json
import os
import subprocess
import sys

from mammo.core import processor
from mammo.learning import backbones, networks, rounding

import numpy as np
import pytest
import tensorflow as tf
from keras import layers

WITH_AVX2 = pytest.mark.skipif(
    "avx2" not in processor._flags(), reason="nothing is limited on a processor without AVX2"
)
SHOWN = (
    "from mammo.core import processor; import json, numpy, os; print(json.dumps([numpy.show_config(mode='dicts')"
    "['SIMD Extensions'].get('found', []), {name: os.environ.get(name) for name in processor.LIMITS}]))"
)


def shown(**own: str) -> tuple[list[str], dict[str, str | None]]:
    """Instructions that NumPy uses in a process of this project, and the variables that limit it."""
    environment = {name: value for name, value in os.environ.items() if name not in processor.LIMITS}
    command = [sys.executable, "-W", "error", "-c", SHOWN]
    done = subprocess.run(command, env=environment | own, capture_output=True, text=True, check=True)
    used, variables = json.loads(done.stdout)
    return used, variables


@WITH_AVX2
def test_numpy_computes_with_avx2_and_nothing_wider() -> None:
    used, variables = shown()
    assert used == ["X86_V3"]
    assert variables == processor.LIMITS


@WITH_AVX2
def test_a_variable_that_the_user_has_set_stays() -> None:
    assert shown(ONEDNN_MAX_CPU_ISA="ALL", OPENBLAS_CORETYPE="Zen")[1] == {
        **processor.LIMITS,
        "ONEDNN_MAX_CPU_ISA": "ALL",
        "OPENBLAS_CORETYPE": "Zen",
    }


@pytest.mark.parametrize(
    ("flags", "own", "float32", "bfloat16"),
    [
        ("avx avx2 avx512f avx512_bf16", {}, "avx2", "avx512_bf16"),
        ("avx avx2 avx512f avx512_bf16", {"ONEDNN_MAX_CPU_ISA": "ALL"}, "avx512_bf16", "avx512_bf16"),
        ("avx avx2 avx512f", {"OPENBLAS_CORETYPE": "SkylakeX"}, "avx512f", "avx512f"),
        ("avx avx2 avx512f", {"NPY_DISABLE_CPU_FEATURES": ""}, "avx512f", "avx512f"),
        ("avx avx2", {}, "avx2", "avx2"),
        ("avx", {}, "avx", "avx"),
        ("asimd", {}, os.uname().machine, os.uname().machine),
    ],
)
def test_the_instructions_that_are_used_are_named(
    flags: str, own: dict[str, str], float32: str, bfloat16: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "_flags", lambda: set(flags.split()))
    for name, value in (processor.LIMITS | own).items():
        monkeypatch.setenv(name, value)
    assert (processor.instructions(), processor.instructions("bfloat16")) == (float32, bfloat16)


@pytest.mark.parametrize("flags", ["avx", "asimd"])
def test_a_processor_without_avx2_is_told_nothing(flags: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "_flags", lambda: set(flags.split()))
    for name in processor.LIMITS:
        monkeypatch.delenv(name, raising=False)
    processor.limit()
    assert not [name for name in processor.LIMITS if name in os.environ]


def test_bfloat16_lifts_the_limit_but_not_the_user_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(processor.ONEDNN, "AVX")
    processor.allow("bfloat16")
    assert os.environ[processor.ONEDNN] == "AVX"
    monkeypatch.setenv(processor.ONEDNN, "AVX2")
    processor.allow("float32")
    assert os.environ[processor.ONEDNN] == "AVX2"
    processor.allow("bfloat16")
    assert processor.ONEDNN not in os.environ


def test_batch_normalisation_divides_by_the_square_root() -> None:
    """In the last bit; `tf.math.rsqrt` has another one for some of so many values on every processor tried."""
    random = np.random.default_rng(4)
    gamma, beta, mean, variance = random.uniform(0.5, 2, (4, 4096)).astype(np.float32)
    layer = layers.BatchNormalization(epsilon=1e-3)
    layer.build((None, 4096))
    layer.set_weights([gamma, beta, mean, variance])
    images = random.standard_normal((3, 4096)).astype(np.float32)
    factor = gamma / np.sqrt(variance + np.float32(1e-3))
    expected = images * factor + (beta - mean * factor)
    assert (layer(images).numpy() == expected).all()
    assert (tf.function(layer, jit_compile=False)(images).numpy() == expected).all()


def test_the_optimiser_of_graphs_leaves_divisions_alone() -> None:
    """It would multiply by the reciprocal of a constant divisor, and by that of a square root."""
    random = np.random.default_rng(4)
    values = random.uniform(1, 2, 4096).astype(np.float32)
    divisors = tf.constant(random.uniform(1, 2, 4096).astype(np.float32))
    divided = tf.function(lambda x: (x / divisors, x / tf.sqrt(x)), jit_compile=False)
    by_constant, by_root = (each.numpy() for each in divided(values))
    assert (by_constant == values / divisors.numpy()).all()
    assert (by_root == values / np.sqrt(values)).all()


@pytest.mark.parametrize("name", ["baseline", "compact", backbones.LITE])
def test_a_network_without_normalisation_is_the_same_function(name: str) -> None:
    size = (64, 64)
    network = networks.build(name, size, 0.2, 0.3, seed=1) if name != "baseline" else networks.baseline(size, 0.2, 0.3)
    random = np.random.default_rng(4)
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    classes = network.layers[-1]
    classes.set_weights([random.normal(0, 0.1, weight.shape) for weight in classes.get_weights()])
    constant = rounding.without_normalisation(network)
    assert not [layer for layer in constant.layers if isinstance(layer, layers.BatchNormalization)]
    images = (random.uniform(0, 255, (4, *size, 1)) * (np.arange(4) / 3).reshape(4, 1, 1, 1)).astype(np.float32)
    expected = network.predict(images, verbose=0)
    assert np.ptp(expected[:, 1]) > 1e-6, "images told apart, so that the comparison means something"
    assert constant.predict(images, verbose=0) == pytest.approx(expected, abs=1e-5)
