"""Heat maps peak where a network looks, are tested against known lesions, and go with every answer that wants one."""

import csv
import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from mammo import commands
from mammo.core import dataset, files
from mammo.core.model_info import ModelInfo, TrainedOn, Verdict
from mammo.core.predictions import PredictedSplit
from mammo.reporting import figures, heat_map_pictures, heat_map_sheets
from mammo.reporting.heat_map_pictures import peak
from mammo.scoring import Bootstrap, Interval, share

import numpy as np
import pydicom
import pytest
from conftest import ROOT, run_stage, write_params, write_shortcut
from PIL import Image, ImageFont
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

SHEETS = ("true_positives", "false_negatives", "false_positives", "true_negatives")


@pytest.fixture(scope="module")
def heat_maps() -> ModuleType:
    """The module, which takes TensorFlow with it."""
    from mammo.predicting import heat_maps

    return heat_maps


@pytest.fixture(scope="module")
def checks() -> ModuleType:
    """The same of the tests of heat maps."""
    from mammo.predicting import heat_map_checks

    return heat_map_checks


def network(*layers: Any, size: int = 48) -> Any:
    import keras

    return keras.Sequential([keras.Input((size, size, 1)), keras.layers.Rescaling(1 / 255), *layers])


def flat_network(weight: np.ndarray) -> Any:
    """A network whose log-odds of cancer are the sum of the image in [0, 1] times `weight`."""
    import keras

    model = network(keras.layers.Flatten(), keras.layers.Dense(2, activation="softmax"), size=len(weight))
    model.layers[-1].set_weights([np.stack([0 * weight.ravel(), weight.ravel()], axis=1), np.zeros(2)])
    return model


def pooled_network() -> Any:
    """A network that finds bright spots of 5 × 5 pixels anywhere."""
    import keras

    model = network(
        keras.layers.Conv2D(1, 5, activation="relu"),
        keras.layers.GlobalMaxPooling2D(),
        keras.layers.Dense(2, activation="softmax"),
    )
    model.layers[1].set_weights([np.full((5, 5, 1, 1), 0.2), np.array([-0.4])])
    model.layers[-1].set_weights([np.array([[0.0, 9.0]]), np.zeros(2)])
    return model


def maps(heat_maps: ModuleType, model: Any, images: np.ndarray) -> np.ndarray:
    return np.stack(list(heat_maps.heat_maps(heat_maps.explainer(model), images, np.arange(len(images)))))


def noise(count: int, size: int = 48) -> np.ndarray:
    return np.random.default_rng(4).integers(20, 120, (count, size, size), dtype=np.uint8)


# The map


def test_the_peak_lies_in_the_region_that_speaks_for_cancer_and_what_speaks_against_is_cold(
    heat_maps: ModuleType,
) -> None:
    weight = np.zeros((48, 48))
    weight[30:37, 8:15], weight[5:20, 30:45] = 0.1, -0.5
    for image, heat in zip(noise(3), maps(heat_maps, flat_network(weight), noise(3)), strict=True):
        assert heat.shape == image.shape
        assert heat.min() == 0
        assert heat.max() == 1
        row, column = peak(heat)
        assert 30 <= row < 37 and 8 <= column < 15
        assert heat[8:17, 33:42].max() == 0


@pytest.mark.parametrize("place", [(3, 3), (20, 35), (40, 12)])
def test_behind_a_global_pooling_the_peak_follows_the_spot(heat_maps: ModuleType, place: tuple[int, int]) -> None:
    row, column = place
    image = noise(1)
    image[0, row : row + 5, column : column + 5] = 250
    (heat,) = maps(heat_maps, pooled_network(), image)
    assert peak(heat) == (row + 2, column + 2)


def test_the_shares_of_all_pixels_add_up_to_the_log_odds(heat_maps: ModuleType) -> None:
    """So they do in any network of ReLUs and maxima without biases."""
    import keras

    model = network(
        keras.layers.Conv2D(4, 3, activation="relu"),
        keras.layers.MaxPooling2D(2),
        keras.layers.Flatten(),
        keras.layers.Dense(8, activation="relu"),
        keras.layers.Dense(2, activation="softmax"),
    )
    random = np.random.default_rng(2)
    model.set_weights([random.normal(0, 0.1, array.shape) * (array.ndim > 1) for array in model.get_weights()])
    images = noise(32)[..., None].astype(np.float32)
    shares = np.asarray(heat_maps.explainer(model)(images))
    healthy, cancer = np.asarray(model(images)).T
    assert np.ptp(cancer) > 0.01
    assert shares.sum(axis=(1, 2)) == pytest.approx(np.log(cancer / healthy), abs=1e-4)


def test_a_probability_of_nearly_1_still_has_a_map(heat_maps: ModuleType) -> None:
    weight = np.zeros((48, 48))
    weight[30:37, 8:15] = 2.5
    model = flat_network(weight)
    assert float(np.asarray(model(noise(1)[..., None]))[0, 1]) > 1 - 1e-7
    (heat,) = maps(heat_maps, model, noise(1))
    assert heat[30:37, 8:15].min() > 0.1


def test_an_image_without_anything_that_speaks_for_cancer_has_an_empty_map_that_points_nowhere(
    heat_maps: ModuleType,
) -> None:
    (heat,) = maps(heat_maps, flat_network(np.full((48, 48), -0.1)), noise(1))
    assert not heat.any()
    assert peak(heat) == (-1, -1)


def test_of_equal_peaks_the_first_is_taken() -> None:
    heat = np.zeros((5, 5))
    heat[[1, 3], [2, 0]] = 1
    assert peak(heat) == (1, 2)


@pytest.fixture(scope="module")
def model(trained: Path) -> Any:
    from mammo.learning import networks  # noqa: F401 - it quietens TensorFlow

    # isort: split
    import keras

    return keras.models.load_model(trained / "data/model/model.keras")


def test_a_saved_network_gives_the_same_bytes_twice_whatever_stands_beside_an_image(
    heat_maps: ModuleType, model: Any, trained: Path
) -> None:
    images = dataset.load(trained / "data/prepared").images
    step = heat_maps.explainer(model)
    everything = list(heat_maps.heat_maps(step, images, np.arange(40)))
    again = list(heat_maps.heat_maps(heat_maps.explainer(model), images, np.array([39, 3])))
    assert [again[0].tobytes(), again[1].tobytes()] == [everything[39].tobytes(), everything[3].tobytes()]
    assert len({heat.tobytes() for heat in everything}) == 40


# What it is worth


def test_a_randomised_network_has_the_same_weights_in_other_places_and_another_map(
    heat_maps: ModuleType, checks: ModuleType, model: Any, trained: Path
) -> None:
    before = [array.copy() for array in model.get_weights()]
    blank = checks.randomised(model, seed=1)
    again, other = checks.randomised(model, seed=1), checks.randomised(model, seed=2)
    for old, kept, new, same, third in zip(
        before, model.get_weights(), blank.get_weights(), again.get_weights(), other.get_weights(), strict=True
    ):
        assert (old == kept).all(), "the trained network is left as it was"
        assert (np.sort(new, axis=None) == np.sort(old, axis=None)).all()
        assert (new == same).all()
        assert old.size < 20 or ((new != old).any() and (new != third).any())
    images = np.array(dataset.load(trained / "data/prepared").images[:32])
    everywhere = np.ones(images.shape[1:], bool)
    similar = [
        checks.rank_correlation(one, two, everywhere)
        for one, two in zip(maps(heat_maps, model, images), maps(heat_maps, blank, images), strict=True)
    ]
    assert abs(np.mean(similar)) < 0.3


def test_the_rank_correlation_is_1_of_a_map_with_itself_minus_1_with_its_reverse_and_0_with_a_blank_one(
    checks: ModuleType,
) -> None:
    heat, where = np.arange(12.0).reshape(3, 4), np.ones((3, 4), bool)
    assert checks.rank_correlation(heat, heat**3, where) == pytest.approx(1)
    assert checks.rank_correlation(heat, -heat, where) == pytest.approx(-1)
    assert checks.rank_correlation(heat, 0 * heat, where) == 0
    where[0] = False  # ranks of 4, 5, 6, 7, 8, 9, 10, 11 against 4, 5, 6, 7, 11, 10, 9, 8
    assert checks.rank_correlation(heat, np.vstack([heat[0] * 99, heat[1], heat[2, ::-1]]), where) == pytest.approx(
        1 - 6 * 20 / (8 * 63)
    )


def test_the_pointing_game_worked_by_hand(checks: ModuleType) -> None:
    """Breasts of the left 30 of 60 columns; lesions of one pixel reach 10 pixels: discs of 317."""
    images = np.zeros((4, 60, 60), np.uint8)
    images[:, :, :30] = 150
    lesions = np.zeros_like(images)
    for lesion, place in zip(lesions, [(30, 15), (30, 15), (30, 15), (12, 12)], strict=True):
        lesion[place] = 255
    peaks = np.array([(30, 25), (41, 15), (-1, -1), (18, 20)])  # exactly 10 away, 11 away, empty, 6 down and 8 across
    patients = np.array(["a", "a", "b", "c"])
    score = checks.pointing_game(peaks, images, lesions, np.arange(4), patients, Bootstrap(1, 500))
    assert score["pointing_game"].value == 0.5
    assert 0 <= score["pointing_game"].low < 0.5 < score["pointing_game"].high <= 1
    assert score["chance"]["value"] == pytest.approx(317 / 1800)
    # In a's two lesions lies no peak of b, who has none, nor of c, 13 away; in b's one of three, a's; in c's none.
    assert score["other_patients_peaks"]["value"] == pytest.approx((0 + 0 + 1 / 3 + 0) / 4)


def test_the_interval_of_a_share_respects_patients_and_not_the_order_of_images() -> None:
    random = np.random.default_rng(3)
    held = np.repeat(random.random(40) < 0.6, 5)
    patients = np.repeat([f"{number:03d}" for number in range(40)], 5)
    found = share(held, patients, Bootstrap(1))
    assert found.value == held.mean()
    order = random.permutation(200)
    assert share(held[order], patients[order], Bootstrap(1)) == found
    alone = share(held, np.arange(200).astype(str), Bootstrap(1))
    assert (found.high - found.low) / (alone.high - alone.low) == pytest.approx(5**0.5, rel=0.15)
    assert share(held[:5], patients[:5], Bootstrap(1)) == Interval(float(held[0]), 0.0, 1.0)
    sure = share(np.ones(8, bool), patients[::5][:8], Bootstrap(1))
    assert (sure.value, sure.low, sure.high) == (1.0, pytest.approx(8 / (8 + 1.959964**2)), 1.0)  # Wilson


@pytest.mark.proof
def test_it_points_at_the_lesion_itself_more_often_than_the_usual_methods(heat_maps: ModuleType) -> None:
    """On validation images of the committed run's phantoms, by which the method was chosen; `pytest -s` prints them."""
    from mammo.learning import networks

    import cv2
    import keras
    import tensorflow as tf

    prepared = ROOT / "data/prepared"
    if not (prepared / "masks.npy").is_file():
        pytest.skip("no phantoms are prepared here: run `dvc repro`")
    data, lesions = dataset.load(prepared), np.load(prepared / "masks.npy", mmap_mode="r")
    model = keras.models.load_model(ROOT / "data/model/model.keras")
    valid = data.part("valid")
    chances = networks.probabilities(networks.forward(model), data.images, valid)
    limit = files.read_json(ROOT / "data/model/model.json")["thresholds"]["balanced_accuracy"]
    found = valid[(chances >= limit) & (data.labels[valid] == 1)]
    images = np.array(data.images[found])[..., None].astype(np.float32)
    place = [layer.name for layer in model.layers].index("flatten")

    def slopes(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The last feature maps, and the slopes of the log-odds along them and along the image."""
        with tf.GradientTape(persistent=True) as tape:
            image = inner = tf.constant(images)
            tape.watch(image)
            for layer in model.layers[:place]:
                inner = layer(inner)
            outer = inner
            for layer in model.layers[place:]:
                outer = layer(outer)
            odds = tf.math.log(outer[:, 1]) - tf.math.log(outer[:, 0])
        return inner.numpy(), tape.gradient(odds, inner).numpy(), tape.gradient(odds, image).numpy()

    parts = [slopes(images[first : first + 16]) for first in range(0, len(images), 16)]
    features, along_features, along_image = (np.concatenate(part) for part in zip(*parts, strict=True))
    candidates = {
        "Grad-CAM": (features * along_features.mean(axis=(1, 2), keepdims=True)).sum(axis=-1),
        "HiResCAM": (features * along_features).sum(axis=-1),
        "gradient": np.abs(along_image[..., 0]),
    }
    size = data.images.shape[:0:-1]

    def in_lesion(heats: Any) -> float:
        """How many peaks lie in the lesion itself, not dilated."""
        return float(np.mean([lesions[at][peak(heat)] > 0 for at, heat in zip(found, heats, strict=True)]))

    hits = {"ours": in_lesion(heat_maps.heat_maps(heat_maps.explainer(model), data.images, found))}
    for name, raw in candidates.items():
        for blur in (0, 2, 4, 8):
            heats = (cv2.resize(heat, size) for heat in raw)
            hits[f"{name}, blurred by {blur}"] = in_lesion(
                cv2.GaussianBlur(heat, (0, 0), blur) if blur else heat for heat in heats
            )
    for name, hit in hits.items():
        print(f"{name:<24} {hit:.3f} of {len(found)}")
    best = max(hit for name, hit in hits.items() if name != "ours")
    assert len(found) > 50
    assert hits["ours"] > best


# What evaluate makes of it

PATHS = ("data/prepared", "data/model", "plots/shortcut.csv", "plots/history.csv", "metrics", "plots")


@pytest.fixture(scope="module")
def evaluated(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained network evaluated where the lesions are known: the bright squares of class 1."""
    folder = tmp_path_factory.mktemp("looked")
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    write_shortcut(folder)
    write_params(folder)
    data = dataset.load(folder / "data/prepared")
    masks = np.zeros_like(data.images)
    masks[data.labels == 1, 13:20, 13:20] = 255
    np.save(folder / "data/prepared/masks.npy", masks)
    done = run_stage("evaluate", *PATHS, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder


def outcomes(folder: Path) -> dict[str, int]:
    """How often each outcome occurs among the test images."""
    rows = files.read_csv(folder / "plots/predictions.csv", ("label", "predicted"))
    pairs = [(row["label"], row["predicted"]) for row in rows]
    return dict(
        zip(SHEETS, (pairs.count(pair) for pair in (("1", "1"), ("1", "0"), ("0", "1"), ("0", "0"))), strict=True)
    )


def test_true_positives_are_tested_against_their_lesions(evaluated: Path) -> None:
    content = files.read_json(evaluated / "metrics/explanation.json")
    assert list(content) == [
        "true_positives",
        "pointing_game",
        "chance",
        "other_patients_peaks",
        "randomised_network",
    ]
    assert content["true_positives"] == outcomes(evaluated)["true_positives"] > 5
    score = content["pointing_game"]
    assert 0.9 < score["value"] <= 1
    assert score["low"] < score["value"] <= score["high"] <= 1
    assert 0 < content["chance"]["value"] < 0.5
    assert content["randomised_network"]["images"] == 24
    assert abs(content["randomised_network"]["rank_correlation"]["value"]) < 0.3


def test_there_is_a_sheet_for_each_outcome_that_occurs(evaluated: Path) -> None:
    made = sorted(path.name for path in (evaluated / "plots/explanation").iterdir())
    assert made == sorted(f"{name}.png" for name, count in outcomes(evaluated).items() if count)
    assert {"true_positives.png", "true_negatives.png"} <= set(made)
    for name in made:
        with Image.open(evaluated / "plots/explanation" / name) as picture:
            assert picture.size[0] >= 1200
            assert np.asarray(picture.convert("L")).std() > 10
            assert "Software" not in picture.info
            colours = np.asarray(picture.convert("RGB")).astype(int)
        assert ((colours[..., 0] - colours[..., 2]) > 100).sum() > 500, "no heat"


def test_where_no_lesion_is_known_the_sanity_check_stands_alone_and_a_sheet_says_that_scores_leak(
    trained: Path, model: Any, heat_maps: ModuleType, checks: ModuleType, tmp_path: Path
) -> None:
    data = dataset.load(trained / "data/prepared")
    positions = data.part("test")
    explain = heat_maps.explainer(model)
    sentence = "LEAKING: 9 of 24 test images."
    for name, audit in (("clean", Verdict(leaking=False)), ("leaking", Verdict(leaking=True, sentence=sentence))):
        (tmp_path / name).mkdir()
        info = ModelInfo.model_construct(
            audit=audit, trained_on=TrainedOn(source="folder", images=1, patients=1, cancer=1)
        )
        chances = data.labels[positions].astype(float)  # every image is called what it is
        test = PredictedSplit(data, positions, chances, info, threshold=0.5)
        content = checks.check(model, explain, test, None, Bootstrap(1, 200))
        assert list(content) == ["randomised_network"]
        maps = partial(heat_maps.heat_maps, explain, data.images)
        heat_map_sheets.outcome_sheets(tmp_path / name, test, maps, None)
        made = {path.name for path in (tmp_path / name).iterdir()}
        assert made == {"true_positives.png", "true_negatives.png"}, "an outcome that never occurs has no sheet"
    for name in made:
        assert (tmp_path / "clean" / name).read_bytes() != (tmp_path / "leaking" / name).read_bytes()


def test_pictures_of_heat_maps_are_drawn_without_tensorflow() -> None:
    code = "import sys; from mammo.reporting import heat_map_pictures, heat_map_sheets; print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "stages")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert not {"tensorflow", "keras"} & set(done.stdout.split())


# What the commands make of it


def mammogram(path: Path) -> None:
    """A small DICOM file with a patient in it, called by her name."""
    ds = Dataset()
    ds.PatientName, ds.PatientID = "Curie^Marie", "18671107"
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.2", "1.2.3.4"
    ds.Modality, ds.PresentationIntentType = "MG", "FOR PRESENTATION"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows = ds.Columns = 64
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = np.random.default_rng(1).integers(0, 4096, (64, 64), dtype=np.uint16).tobytes()
    ds["PixelData"].VR = "OW"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    pydicom.dcmwrite(path, ds, enforce_file_format=True)


def mammo(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    command = [
        sys.executable,
        "-c",
        "import sys; from mammo.commands import main; sys.exit(main())",
        *map(str, arguments),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "stages")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def scans(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images of the same name in different folders, a DICOM file and a damaged one."""
    folder = tmp_path_factory.mktemp("scans")
    data = dataset.load(trained / "data/prepared")
    for name, image in zip("abc", data.images[:3], strict=True):
        (folder / "scans" / name).mkdir(parents=True)
        Image.fromarray(image).save(folder / "scans" / name / "CC.png")
    (folder / "scans/b/AAA.png").write_bytes(b"damaged")
    mammogram(folder / "scans/c/Curie_18671107.dcm")
    return folder


@pytest.fixture(scope="module")
def explained(scans: Path, trained: Path) -> subprocess.CompletedProcess[str]:
    model = trained / "data/model"
    return mammo("predict", "scans", "--model", model, "--heatmaps", "heat", "--csv", "out.csv", folder=scans)


def test_predict_writes_a_picture_a_file_with_its_name_and_nothing_of_the_patient(
    scans: Path, explained: subprocess.CompletedProcess[str]
) -> None:
    assert explained.returncode == 3, explained.stderr
    with (scans / "out.csv").open() as file:
        rows = {row["file"]: row["heatmap"] for row in csv.DictReader(file)}
    assert rows == {
        "scans/a/CC.png": "1_CC.png",
        "scans/b/AAA.png": "",
        "scans/b/CC.png": "3_CC.png",
        "scans/c/CC.png": "4_CC.png",
        "scans/c/Curie_18671107.dcm": "5.png",
    }
    pictures = sorted((scans / "heat").iterdir())
    assert [path.name for path in pictures] == ["1_CC.png", "3_CC.png", "4_CC.png", "5.png"]
    for path in pictures:
        assert b"Curie" not in path.read_bytes()
        with Image.open(path) as picture:
            assert picture.size[0] == 2 * 400 + 8
            assert not picture.info
            left = np.asarray(picture)[:400, :400]
            right = np.asarray(picture).astype(int)[:400, -400:]
        assert (left[..., 0] == left[..., 2]).all(), "the image itself, in grey"
        assert (right[..., 0] - right[..., 2] > 100).sum() > 100, "no heat"


@pytest.mark.parametrize(
    ("name", "picture"),
    [
        ("left.png", "7_left.png"),
        ("a b$c:d?.jpg", "7_a_b_c_d_.png"),
        ("Mu\u0308ller\n\u202egnp.tif", "7_M\u00fcller__gnp.png"),
        ("x" * 300 + ".png", f"7_{'x' * 50}.png"),
        ("-rf.png", "7_-rf.png"),
        ("Curie_18671107.dcm", "7.png"),
        ("1.2.840.3", "7.png"),
    ],
)
def test_a_picture_is_named_after_its_image_by_characters_that_every_system_allows(name: str, picture: str) -> None:
    from mammo.predicting.predict import picture_name

    assert picture_name(Path("scans") / name, "7") == picture
    assert len(picture_name(Path("\u4e7a" * 80 + ".png"), "00007").encode()) <= 255


def test_names_that_matplotlib_would_read_as_formulas_are_drawn_as_they_are(tmp_path: Path) -> None:
    assert figures.short_name("test/1/123_png.rf.jpg", 24) == "123"
    assert figures.short_name("test/1/" + "a" * 20 + "b" * 20 + ".png", 11) == "aaaaa\u2026bbbbb"
    panel = heat_map_sheets.Panel(
        figures.short_name("a$\\frac$\n.png", 24), np.zeros((8, 8), np.uint8), np.zeros((8, 8)), None
    )
    heat_map_sheets.contact_sheet(tmp_path / "sheet.png", "True positives", [panel], "")
    assert (tmp_path / "sheet.png").is_file()


def test_a_long_word_of_a_caption_is_broken_within_the_picture() -> None:
    font = ImageFont.load_default(14)
    lines = heat_map_pictures._wrapped(f"{'x' * 300}.png. Probability", font, 400)
    assert len(lines) > 3 and all(0 < font.getlength(line) <= 400 for line in lines)
    assert "".join(lines).replace(" ", "") == f"{'x' * 300}.png.Probability"


def test_explain_draws_the_same_pictures(
    scans: Path, explained: subprocess.CompletedProcess[str], trained: Path
) -> None:
    chosen = ("scans/c/CC.png", "scans/a/CC.png")
    done = mammo("explain", *chosen, "--model", trained / "data/model", "--out", "new/heat", folder=scans)
    assert done.returncode == 0, done.stderr
    table = [line.split() for line in done.stdout.splitlines()[-2:]]
    assert [(row[0], next(word for word in row if word.endswith(".png") and "/" not in word)) for row in table] == [
        ("scans/c/CC.png", "1_CC.png"),
        ("scans/a/CC.png", "2_CC.png"),
    ]
    for new, old in (("1_CC.png", "4_CC.png"), ("2_CC.png", "1_CC.png")):
        assert (scans / "new/heat" / new).read_bytes() == (scans / "heat" / old).read_bytes()


def test_explain_without_a_path_prints_the_figures_of_the_last_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert commands.main(["explain"]) == 1
    assert "metrics/explanation.json does not exist" in capsys.readouterr().err
    content = {
        "true_positives": 8,
        "pointing_game": {"value": 0.875, "low": 0.5, "high": 1.0},
        "chance": {"value": 0.16},
        "randomised_network": {"rank_correlation": {"value": -0.02}, "images": 9},
    }
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/explanation.json").write_text(json.dumps(content))
    assert commands.main(["explain"]) == 0
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    assert [[cell.strip() for cell in line if cell] for line in lines] == [
        ["true positives", "8"],
        ["true positives whose heat map peaks in the lesion", "0.875", "95 % 0.500 to 1.000"],
        ["points drawn in the breast that lie in the lesion", "0.160"],
        ["a network with randomised weights: rank correlation with its heat maps", "-0.020"],
        ["a network with randomised weights: images", "9"],
    ]


def test_a_folder_that_holds_something_is_refused_and_left_alone(
    scans: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "1.png").write_text("another scan's")
    (tmp_path / "file").write_text("")
    how = ["predict", str(scans / "scans"), "--model", str(trained / "data/model"), "--heatmaps"]
    for folder, reason in ((tmp_path, "is not empty"), (tmp_path / "file", "cannot be the folder for the heat maps")):
        assert commands.main([*how, str(folder)]) == 1
        error = capsys.readouterr().err
        assert reason in error
        assert len(error.splitlines()) == 1
    assert (tmp_path / "1.png").read_text() == "another scan's"


@pytest.mark.parametrize("arguments", [["explain", "scan.png"], ["explain", "--out", "heat"]])
def test_explain_wants_both_paths_and_a_folder_or_neither(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        commands.main(arguments)
    assert ended.value.code == 2
    assert "PATH and --out FOLDER go together" in capsys.readouterr().err
