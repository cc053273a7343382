"""`mammo predict`: the scores of evaluate for the same files, DICOM as a screen shows it, and what it warns of."""

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from mammo import commands
from mammo.core import dataset, files, model_info
from mammo.core.errors import UserError
from mammo.core.model_info import Input, ModelInfo
from mammo.core.rules import ThresholdRule
from mammo.core.settings import Canonical
from mammo.imaging import dicom, images
from mammo.learning import archives, export, exported, model_folder, networks
from mammo.predicting import answers, request, scans

import cv2
import imagecodecs
import numpy as np
import pydicom
import pytest
from conftest import ROOT, run_stage, write_params, write_shortcut
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

# Outside of pytest these remarks on odd files go nowhere; here they would be errors.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

SIZE = (56, 40)
PATIENT = "Curie^Marie"
HANGS = 400  # seconds after which a command is taken to hang


def breast(bits: int = 12, height: int = 336, width: int = 240) -> np.ndarray:
    """A bright half disc with structure, on black, that uses all of `bits` bits."""
    y, x = np.mgrid[:height, :width]
    disc = np.clip(1.1 - np.hypot(x / width, (y / height - 0.5) * 2), 0, 1)
    values = (disc * (1 + 0.1 * np.sin(x / 9) * np.sin(y / 7))).clip(0)
    return np.rint(values / values.max() * (2**bits - 1)).astype(np.uint16 if bits > 8 else np.uint8)


def mammogram(
    pixels: np.ndarray,
    bits: int = 12,
    syntax: UID = ExplicitVRLittleEndian,
    frame: bytes | None = None,
    **elements: object,
) -> bytes:
    """A digital mammography file of these stored values, or of a compressed `frame` of them."""
    ds = Dataset()
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = PATIENT, "18671107", "18671107"
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.2", "1.2.3.4"
    ds.Modality, ds.PresentationIntentType = "MG", "FOR PRESENTATION"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = pixels.dtype.itemsize * 8, bits, bits - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    for name, value in elements.items():
        setattr(ds, name, value)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    ds.PixelData = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    ds["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == RLELossless else syntax
    if frame is not None:
        ds.PixelData = encapsulate([frame])
        ds["PixelData"].VR = "OB"
    if syntax == RLELossless:
        ds.compress(RLELossless)
    file = io.BytesIO()
    pydicom.dcmwrite(file, ds, enforce_file_format=True)
    return file.getvalue()


def table(first: int, bits: int, data: list[int]) -> Sequence:
    """A lookup table whose first entry belongs to the value `first`."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(data), first, bits])
    item.add_new("LUTData", "US", data)
    return Sequence([item])


def shown(folder: Path, content: bytes) -> np.ndarray:
    path = folder / "scan.dcm"
    path.write_bytes(content)
    return dicom.read(path, SIZE)[0].astype(int)


def expected(values: np.ndarray) -> np.ndarray:
    """`values` stretched to 0 to 255 and averaged over areas, without any code of this project."""
    values = values.astype(np.float64)
    stretched = (values - values.min()) / (values.max() - values.min()) * 255
    return cv2.resize(stretched, SIZE[::-1], interpolation=cv2.INTER_AREA)


CURVE = [min(value**2 // 4095, 4095) for value in range(4096)]
TWELVE, EIGHT = breast(12), breast(8)
SIGNED = TWELVE.astype(np.int16) - 2048
PADDED = np.where(TWELVE == 0, 4095, TWELVE).astype(np.uint16)

KINDS: dict[str, tuple[bytes, np.ndarray]] = {
    "12 bits": (mammogram(TWELVE), TWELVE),
    "10 bits": (mammogram(breast(10), 10), breast(10)),
    "14 bits": (mammogram(breast(14), 14), breast(14)),
    "16 bits": (mammogram(breast(16), 16), breast(16)),
    "8 bits": (mammogram(EIGHT, 8), EIGHT),
    "signed": (mammogram(SIGNED), SIGNED),
    "implicit VR": (mammogram(TWELVE, syntax=ImplicitVRLittleEndian), TWELVE),
    "big endian": (mammogram(TWELVE, syntax=ExplicitVRBigEndian), TWELVE),
    "MONOCHROME1": (mammogram(4095 - TWELVE, PhotometricInterpretation="MONOCHROME1"), TWELVE),
    "one frame, said so": (mammogram(TWELVE, NumberOfFrames=1), TWELVE),
    "rescale": (mammogram(TWELVE, RescaleSlope=0.5, RescaleIntercept=-1000), TWELVE),
    "rescale that turns": (mammogram(TWELVE, RescaleSlope=-1, RescaleIntercept=4095), 4095 - TWELVE.astype(int)),
    "window": (mammogram(TWELVE, WindowCenter=1024, WindowWidth=1024), TWELVE.clip(512, 1535)),
    "first of two windows": (
        mammogram(TWELVE, WindowCenter=[1024, 3000], WindowWidth=[1024, 50]),
        TWELVE.clip(512, 1535),
    ),
    "window after rescale": (
        mammogram(TWELVE, RescaleSlope=2, RescaleIntercept=-100, WindowCenter=1948, WindowWidth=2048),
        (2.0 * TWELVE - 100).clip(924, 2971),
    ),
    "sigmoid window": (
        mammogram(TWELVE, WindowCenter=2000, WindowWidth=1500, VOILUTFunction="SIGMOID"),
        1 / (1 + np.exp(-4 * (TWELVE - 2000.0) / 1500)),
    ),
    "VOI LUT": (mammogram(TWELVE, VOILUTSequence=table(0, 12, CURVE)), np.array(CURVE)[TWELVE]),
    "VOI LUT of 8 bits": (
        mammogram(TWELVE, VOILUTSequence=table(0, 8, [value // 16 for value in CURVE])),
        np.array(CURVE)[TWELVE] // 16,
    ),
    "VOI LUT before window": (
        mammogram(TWELVE, VOILUTSequence=table(0, 12, CURVE), WindowCenter=1, WindowWidth=2),
        np.array(CURVE)[TWELVE],
    ),
    "VOI LUT that begins late": (
        mammogram(TWELVE, VOILUTSequence=table(1000, 12, list(range(0, 2000, 2)))),
        (TWELVE.astype(int) - 1000).clip(0, 999),
    ),
    "modality LUT": (mammogram(TWELVE, ModalityLUTSequence=table(0, 12, CURVE[::-1])), np.array(CURVE[::-1])[TWELVE]),
    "padding": (mammogram(PADDED, PixelPaddingValue=4095), np.where(PADDED == 4095, TWELVE[TWELVE > 0].min(), TWELVE)),
    "RLE": (mammogram(TWELVE, syntax=RLELossless), TWELVE),
    "JPEG lossless": (
        mammogram(TWELVE, syntax=JPEGLosslessSV1, frame=imagecodecs.ljpeg_encode(TWELVE, bitspersample=12)),
        TWELVE,
    ),
    "JPEG lossless, other predictor": (
        mammogram(TWELVE, syntax=JPEGLossless, frame=imagecodecs.jpeg8_encode(TWELVE, lossless=True, predictor=4)),
        TWELVE,
    ),
    "JPEG-LS": (mammogram(TWELVE, syntax=JPEGLSLossless, frame=imagecodecs.jpegls_encode(TWELVE)), TWELVE),
}
# JPEG 2000 is decoded at a smaller resolution level.
LOSSY: dict[str, tuple[bytes, np.ndarray]] = {
    "JPEG 2000": (
        mammogram(TWELVE, syntax=JPEG2000Lossless, frame=imagecodecs.jpeg2k_encode(TWELVE, codecformat="j2k")),
        TWELVE,
    ),
    "JPEG 2000, signed": (
        mammogram(SIGNED, syntax=JPEG2000Lossless, frame=imagecodecs.jpeg2k_encode(SIGNED, codecformat="j2k")),
        SIGNED,
    ),
    "JPEG baseline": (
        mammogram(EIGHT, 8, JPEGBaseline8Bit, cv2.imencode(".jpg", EIGHT, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()),
        EIGHT,
    ),
    "JPEG extended, 12 bits": (
        mammogram(TWELVE, 12, JPEGExtended12Bit, imagecodecs.jpeg8_encode(TWELVE, level=98, bitspersample=12)),
        TWELVE,
    ),
    "JPEG-LS, near lossless": (
        mammogram(TWELVE, 12, JPEGLSNearLossless, imagecodecs.jpegls_encode(TWELVE, level=3)),
        TWELVE,
    ),
    "JPEG 2000, lossy": (
        mammogram(TWELVE, 12, JPEG2000, imagecodecs.jpeg2k_encode(TWELVE, level=80, codecformat="j2k")),
        TWELVE,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_dicom_file_is_read_as_a_screen_shows_it(kind: str, tmp_path: Path) -> None:
    content, values = KINDS[kind]
    assert np.abs(shown(tmp_path, content) - expected(values)).max() <= 1


@pytest.mark.parametrize("kind", LOSSY)
def test_a_lossy_dicom_file_is_read_within_its_loss(kind: str, tmp_path: Path) -> None:
    content, values = LOSSY[kind]
    difference = np.abs(shown(tmp_path, content) - expected(values))
    assert difference.mean() < 1
    assert difference.max() < 6


def test_a_dicom_file_and_a_png_of_its_pixels_give_the_same_image(tmp_path: Path) -> None:
    Image.fromarray(breast(16)).save(tmp_path / "scan.png")
    assert (shown(tmp_path, mammogram(breast(16), 16)) == images.read(tmp_path / "scan.png", SIZE)).all()


def without_pixels() -> bytes:
    ds = pydicom.dcmread(io.BytesIO(mammogram(TWELVE)))
    del ds.PixelData
    file = io.BytesIO()
    ds.save_as(file)
    return file.getvalue()


def with_name_as_window() -> bytes:
    content = mammogram(TWELVE, WindowCenter="1234567890", WindowWidth="100")
    return content.replace(b"1234567890", b"Curie^Mari")


WRONG_SIZE = imagecodecs.jpeg2k_encode(breast(12, 400, 400), codecformat="j2k")
LOSSLESS = imagecodecs.jpegls_encode(TWELVE)
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "several frames": (lambda: mammogram(TWELVE, NumberOfFrames=30), "holds 30 frames"),
    "colour": (lambda: mammogram(TWELVE, PhotometricInterpretation="RGB", SamplesPerPixel=3), "is in colour"),
    "palette": (lambda: mammogram(EIGHT, 8, PhotometricInterpretation="PALETTE COLOR"), "is in colour"),
    "no pixels": (without_pixels, "holds no pixels"),
    "cut": (lambda: mammogram(TWELVE)[:-5000], "is truncated: 156,280 of 161,280 bytes"),
    "cut while compressed": (
        lambda: mammogram(TWELVE, syntax=JPEGLSLossless, frame=LOSSLESS[: len(LOSSLESS) // 2]),
        "is truncated: the end of the compressed pixels is missing",
    ),
    "other size inside": (lambda: mammogram(TWELVE, syntax=JPEG2000Lossless, frame=WRONG_SIZE), "240×336, 400×400"),
    "huge": (lambda: mammogram(TWELVE, Rows=60000, Columns=60000), "declares 60000×60000 pixels"),
    "1×1": (lambda: mammogram(TWELVE[:1, :1]), "is 1×1 pixels"),
    "one grey": (lambda: mammogram(np.full((64, 64), 7, np.uint16)), "has no contrast"),
    "empty window": (lambda: mammogram(TWELVE, WindowCenter=9000, WindowWidth=10), "has no contrast"),
    "no mark": (lambda: mammogram(TWELVE)[132:], "the prefix DICM is missing"),
    "a name as window": (with_name_as_window, "is damaged"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_single_grey_image_is_refused_with_the_reason(kind: str, tmp_path: Path) -> None:
    make, reason = REFUSED[kind]
    with pytest.raises(images.UnreadableError) as caught:
        shown(tmp_path, make())
    assert reason in str(caught.value)
    assert "Curie" not in str(caught.value)


SHIPPED = Path(pydicom.__file__).parent / "data/test_files"
# Every file of pydicom's own that comes with the package and holds a grey image of at least 32 × 32 pixels.
READ = [
    "693_J2KI.dcm",
    "CT_small.dcm",
    "J2K_pixelrep_mismatch.dcm",
    "JPEG-lossy.dcm",
    "JPEG2000.dcm",
    "JPGExtended.dcm",
    "MR_small.dcm",
    "MR_small_RLE.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_expb.dcm",
    "MR_small_implicit.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_padded.dcm",
    "examples_overlay.dcm",
    "image_dfl.dcm",
]


def reading_of(path: Path) -> str:
    try:
        image, remarks, _ = dicom.read(path, SIZE)
    except images.UnreadableError as error:
        return str(error)
    return f"read, mean {image.mean():.1f}" + "".join(f"; {remark.text}" for remark in remarks)


def test_each_of_pydicoms_own_files_is_read_or_clearly_refused() -> None:
    readings = {
        str(path.relative_to(SHIPPED)): reading_of(path) for path in sorted(SHIPPED.rglob("*")) if path.is_file()
    }
    for name, reading in readings.items():
        print(f"{name:<50} {reading}")  # the table, with pytest -s
    assert sorted(name for name, reading in readings.items() if reading.startswith("read")) == sorted(READ)
    assert all("not a mammogram by its header" in readings[name] for name in READ)
    assert "30 frames" in readings["examples_ybr_color.dcm"]
    assert "in colour" in readings["SC_rgb_jpeg.dcm"]
    assert "no pixels" in readings["test-SR.dcm"]
    assert "8,130 of 8,192 bytes" in readings["MR_truncated.dcm"]
    assert "16×16" in readings["dicomdirtests/77654033/CR1/6154"]
    assert "prefix DICM" in readings["README.txt"]


def test_one_picture_in_every_coding_that_pydicom_ships_is_one_picture() -> None:
    plain = dicom.read(SHIPPED / "MR_small.dcm", SIZE)[0]
    for name in READ:
        if name.startswith("MR_small_") and "padded" not in name:
            assert (dicom.read(SHIPPED / name, SIZE)[0] == plain).all(), name


def mammo(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    command = [sys.executable, "-c", "import sys; from mammo.commands import main; sys.exit(main())", "predict"]
    command += map(str, arguments)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "stages")}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=HANGS, check=False
    )


def deliver(raw: Path) -> None:
    """60 delivered files in several formats, sizes and depths, as the stage download leaves them."""
    random = np.random.default_rng(3)
    entries = []
    for number in range(60):
        label = number % 2
        image = cv2.resize(random.normal(90, 20, (40, 40)), (97, 131))
        image[45:65, 35:50] += 60 * label
        split = ("train", "valid", "test")[number // 2 % 3]
        suffix = (".jpg", ".png", ".tif", ".pgm", ".dcm")[number // 6 % 5]
        name = f"{split}/{label}/{number:04d}_CC{suffix}"
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        deep = suffix != ".jpg" and number % 4 == 1
        grey = image.clip(0, 255) * 257 if deep else image.clip(0, 255)
        pixels = grey.astype(np.uint16 if deep else np.uint8)
        if suffix == ".dcm":
            (raw / name).write_bytes(mammogram(pixels, 16 if deep else 8))
        else:
            Image.fromarray(pixels).save(raw / name)
        entries.append(dataset.Entry(name, label, split, f"{number:04d}", ""))
    dataset.write_index(raw, sorted(entries, key=lambda entry: entry.image))


@pytest.fixture(scope="module")
def evaluated(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files delivered, prepared by the real stage, and their test split scored by the real stage."""
    folder = tmp_path_factory.mktemp("predicted")
    (folder / "trained").symlink_to(trained / "data")
    deliver(folder / "data/raw")
    sections = {
        "split": {"by": "folder", "seed": 1, "valid": 0.2, "test": 0.2},
        "preprocess": {"size": [40, 40], "on_unreadable": "stop"},
    }
    write_params(folder, **sections)
    (folder / "plots").mkdir()
    (folder / "plots/history.csv").write_bytes((trained / "plots/history.csv").read_bytes())
    done = run_stage("preprocess", "data/raw", "data/prepared", "metrics/preprocess.json", folder=folder)
    assert done.returncode == 0, done.stderr
    write_shortcut(folder)
    paths = ("data/prepared", "trained/model", "plots/shortcut.csv", "plots/history.csv", "metrics", "plots")
    done = run_stage("evaluate", *paths, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def predicted(evaluated: Path) -> Path:
    """The folder after `mammo predict --csv` of the test split's files, two bad files and a DICOM file among them."""
    test = evaluated / "data/raw/test"
    (test / "0/cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    (test / "1/1.2.840.3").write_bytes(mammogram(TWELVE))
    (test / "1/notes.txt").write_text("not an image")
    done = mammo("--model", "trained/model", "--csv", "out.csv", "data/raw/test", folder=evaluated)
    assert done.returncode == 3, done.stderr
    (evaluated / "said.txt").write_text(done.stdout + done.stderr)
    return evaluated


def test_predict_gives_the_scores_of_evaluate_to_the_last_digit(predicted: Path) -> None:
    rows = {row["file"]: row for row in files.read_csv(predicted / "out.csv", answers.COLUMNS)}
    scored = files.read_csv(predicted / "plots/predictions.csv", ("image", "probability", "predicted", "calibrated"))
    assert len(scored) == 20
    assert {Path(row["image"]).suffix for row in scored} == {".jpg", ".png", ".tif", ".pgm", ".dcm"}
    assert len({row["probability"] for row in scored}) > 10, "the same score for all would prove nothing"
    for row in scored:
        answer = rows[f"data/raw/{row['image']}"]
        assert (answer["probability"], answer["calibrated"]) == (row["probability"], row["calibrated"])
        assert float(answer["calibrated"]) != float(answer["probability"])
        assert answer["reading"] == ("cancer suspected" if row["predicted"] == "1" else "no suspicion")


def test_a_bad_file_is_named_and_the_rest_go_on(predicted: Path) -> None:
    rows = files.read_csv(predicted / "out.csv", answers.COLUMNS)
    bad = [row for row in rows if row["reading"] == "unreadable"]
    assert [(row["file"], row["probability"]) for row in bad] == [("data/raw/test/0/cut.jpg", "")]
    assert len(rows) == 22, "20 scored files, one bad, one DICOM file without an extension"
    assert [row["file"] for row in rows] == sorted(row["file"] for row in rows)
    said = (predicted / "said.txt").read_text()
    assert "data/raw/test/0/cut.jpg is" in said
    assert "1 file skipped: no image suffix" in said
    assert said.count("research only") == 1


def test_nothing_about_the_patient_is_written(predicted: Path) -> None:
    written = (predicted / "out.csv").read_text() + (predicted / "said.txt").read_text()
    assert "1.2.840.3" in written, "the file itself is there"
    assert "Curie" not in written
    assert "18671107" not in written


def phantom_model(folder: Path) -> Path:
    """The trained model, its model info saying that it saw phantoms and that the splits leaked."""
    model = folder / "phantom"
    if not model.exists():
        model.mkdir()
        card = files.read_json(folder / "trained/model/model.json")
        for name in ("model.keras", "model.tflite"):
            (model / name).symlink_to(folder / "trained/model" / name)
        leak = {"leaking": True, "sentence": "LEAKING: 3 patients are in two splits."}
        trained_on = {**card["trained_on"], "source": "phantom"}
        files.write_json(model / "model.json", {**card, "trained_on": trained_on, "audit": leak})
    return model


def test_a_score_does_not_depend_on_its_neighbours_nor_on_the_form_of_the_answer(predicted: Path) -> None:
    rows = {row["file"]: row for row in files.read_csv(predicted / "out.csv", answers.COLUMNS)}
    chosen = sorted(name for name in rows if name.endswith(".png"))[-2:]
    model = phantom_model(predicted)
    how = ("--model", model, "--despite-phantoms", "--json")
    done = mammo(*how, *reversed(chosen), "data/raw/test/1/*.3", folder=predicted)
    assert done.returncode == 0, done.stderr
    assert "LEAKING" in done.stderr
    content = json.loads(done.stdout)
    assert [image["file"] for image in content["images"]] == [*reversed(chosen), "data/raw/test/1/1.2.840.3"]
    for image in content["images"]:
        assert image["probability"] == float(rows[image["file"]]["probability"])
        assert image["calibrated"] == float(rows[image["file"]]["calibrated"])
    assert "research only" in content["notice"]
    assert "phantoms (synthetic images)" in content["model"]


def test_a_model_of_phantoms_refuses_until_told_otherwise(predicted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["predict", "--model", str(phantom_model(predicted)), str(predicted / "data/raw/test")]) == 1
    refusal = capsys.readouterr()
    assert refusal.out == ""
    assert len(refusal.err.splitlines()) == 1
    assert "phantoms" in refusal.err
    assert "--despite-phantoms" in refusal.err


def test_the_table_has_a_line_for_every_file_with_both_probabilities(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        answers.Answer(Path("a.png"), 0.25, answers.UNSUSPECTED, ("black on white",), "", calibrated=0.125),
        answers.Answer(Path("old.png"), 0.75, answers.SUSPECTED, (), ""),  # by a model without a recalibration
        answers.Answer(Path("longer.png"), None, answers.UNREADABLE, (), "is empty (0 bytes)"),
    ]
    answers.print_table(rows, "Model.", [row.path for row in rows])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-4:] == [
        "file        calibrated  probability  reading           warnings",
        "a.png         0.125000     0.250000  no suspicion      black on white",
        "old.png              –     0.750000  cancer suspected",
        "longer.png           –            –  unreadable        is empty (0 bytes)",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png"], "nowhere.png does not exist"),
        (["none*.png"], "does not exist"),
        (["empty"], "no image or DICOM file in empty"),
        (["--threshold", "best", "empty"], f"the model has {', '.join(get_args(ThresholdRule))}"),
        (["--model", "empty", "empty"], "empty/model.json does not exist"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    arguments: list[str],
    message: str,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert commands.main(["predict", "--model", str(trained / "data/model"), *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


INFO = ModelInfo.model_construct(
    preprocess=Input(size=(224, 224), canonical=Canonical()),
    training_intensity={"percentile_0": 20.0, "percentile_100": 100.0},
)


def warnings_for(image: np.ndarray, folder: Path) -> str:
    Image.fromarray(image).save(folder / "image.png")
    return "; ".join(scans.read(folder / "image.png", INFO).warnings)


def test_an_image_unlike_the_training_images_is_warned_of(tmp_path: Path) -> None:
    scan = breast(8, 400, 400)
    assert warnings_for(scan, tmp_path) == ""
    assert "black on white" in warnings_for(255 - scan, tmp_path)
    assert "brighter than every training image" in warnings_for(scan // 3 + 170, tmp_path)
    assert "darker than every training image" in warnings_for(scan // 8, tmp_path)
    speck = np.zeros((400, 400), np.uint8)
    speck[200:206, 200:206] = 255
    assert "no breast" in warnings_for(speck, tmp_path)


def test_what_the_network_never_saw_is_warned_of_though_its_brightness_is_usual(trained: Path, tmp_path: Path) -> None:
    data = dataset.load(trained / "data/prepared")
    usual = data.images[data.part("valid")]
    stripes = np.where(np.arange(40) % 4 < 2, 60, 120).astype(np.uint8) * np.ones((40, 1), np.uint8)
    for number, image in enumerate([*usual, stripes]):
        Image.fromarray(image).save(tmp_path / f"{number:02d}.png")
    done = mammo(".", "--model", trained / "data/model", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    warned = [answers.STRANGE in answer["warnings"] for answer in json.loads(done.stdout)["images"]]
    assert warned == [False] * len(usual) + [True]


def test_files_are_found_in_a_fixed_order_and_nothing_else_is_opened(tmp_path: Path) -> None:
    for name in ("b/2.PNG", "b/10.jpg", "a.png", ".hidden.png", ".git/x.png", "list.csv", "README"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "series").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "9.1.2").write_bytes(bytes(128) + b"DICM")
    os.mkfifo(tmp_path / "pipe")
    found = scans.find([str(tmp_path)])
    names = [str(path.relative_to(tmp_path)) for path in found.paths]
    assert names == ["9.1.2", "a.png", "series", "b/10.jpg", "b/2.PNG"]
    assert len(found.others) == 3
    assert not found.missed and not found.repeated
    assert scans.find([str(tmp_path / "**/*.jpg")]).paths == [tmp_path / "b/10.jpg"]


def test_a_folder_that_cannot_be_entered_is_named_with_code_3_and_a_linked_one_is_read(
    trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "scans/2024").mkdir(parents=True)
    (tmp_path / "archive").mkdir()
    cv2.imwrite(str(tmp_path / "archive/x.png"), np.random.default_rng(1).integers(0, 255, (64, 64), np.uint8))
    (tmp_path / "scans/linked").symlink_to("../archive")
    (tmp_path / "scans/twice").symlink_to("../archive")
    model = ("--model", trained / "data/model", "--threshold", "half")
    fine = mammo("scans", *model, "--json", folder=tmp_path)
    assert (fine.returncode, len(json.loads(fine.stdout)["images"])) == (0, 1), fine.stderr
    assert "mammo predict: scans/twice is the same folder as scans/linked; its files are read once" in fine.stderr
    (tmp_path / "scans/around").symlink_to(".")
    (tmp_path / "scans/2023").symlink_to("/mnt/unmounted/2023")
    reasons = {
        "scans/2023": "leads nowhere (a broken link)",
        "scans/around": "is a link to a folder around it",
    }
    for pattern in ("scans", "scans/**"):
        done = mammo(pattern, *model, "--json", folder=tmp_path)
        assert done.returncode == 3, done.stderr
        rows = json.loads(done.stdout)["images"]
        assert {row["file"]: row["reason"] for row in rows} == {**reasons, "scans/linked/x.png": ""}
        assert {row["file"] for row in rows if row["reading"] == "unreadable"} == set(reasons)
        for name, reason in reasons.items():
            assert f"mammo predict: {name} {reason}\n" in done.stderr
    done = mammo("scans/2023", *model, folder=tmp_path)
    assert done.returncode == 3 and "scans/2023" in done.stdout and "Traceback" not in done.stderr
    sheet = contact_sheet(tmp_path, "scans")
    assert sheet.returncode == 3 and "mammo canonical: scans/2023 leads nowhere (a broken link)\n" in sheet.stderr
    assert sheet.stdout.startswith("1 of 1 image read")


def contact_sheet(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `mammo canonical sheet.png …`."""
    code = "import sys; from mammo.commands import main; sys.exit(main())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "stages")}
    command = [sys.executable, "-c", code, "canonical", "sheet.png", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_pipe_or_a_folder_named_like_an_image_holds_nothing_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert scans.read(tmp_path / "pipe.png", INFO).reason == "is not a regular file"
    assert scans.read(tmp_path / "gone.png", INFO).reason == "cannot be opened: No such file or directory"


def test_a_name_cannot_write_to_the_terminal() -> None:
    assert scans.shown(Path("a\x1b[2J\n\udcff é.png")) == "a\\x1b[2J\\n\\udcff é.png"


DEEP = "[" * 100_000
DAMAGED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "NaN": (
        lambda info: info["thresholds"].update(half=float("nan")),
        "thresholds.half: Input should be a finite number",
    ),
    "infinite": (
        lambda info: info["thresholds"].update(balanced_accuracy=1e999),
        "thresholds.balanced_accuracy: Input",
    ),
    "above 1": (
        lambda info: info["thresholds"].update(half=7.0),
        "thresholds.half: Input should be less than or equal",
    ),
    "no threshold": (lambda info: info["thresholds"].clear(), "--threshold balanced_accuracy: the model has"),
    "another size": (lambda info: info["preprocess"].update(size=[48, 40]), "the two files are not of one model"),
    "no size": (lambda info: info["preprocess"].update(size=[-1, 40]), "preprocess.size.0: Input should be greater"),
    "short mean": (lambda info: info["training_features"]["mean"].pop(), "mean and covariance differ in length"),
    "short features": (
        lambda info: info.update(training_features={"mean": [0.0], "covariance": [[1.0]], "limit": 1.0}),
        "training_features are of 1 feature maps, the network has 32",
    ),
    "no covariance": (
        lambda info: info["training_features"]["covariance"][0].__setitem__(0, -1.0),
        "covariance is not symmetric and positive definite",
    ),
    "flip": (lambda info: info.update(flip_at_test="diagonal"), "flip_at_test: Input should be 'none', 'horizontal'"),
    "source": (lambda info: info["trained_on"].update(source="web"), "trained_on.source: Input should be 'phantom'"),
    "precision": (lambda info: info["arithmetic"].update(precision="float8"), "arithmetic.precision: Input should be"),
    "threads": (lambda info: info["arithmetic"].update(threads=-2), "arithmetic.threads: Input should be greater"),
    "intensity": (lambda info: info["training_intensity"].clear(), "training_intensity lacks percentile_0"),
    "newer": (lambda info: info.update(schema=2), "schema: Input should be 1"),
    "verdict": (lambda info: info.update(audit={"leaking": "no"}), "audit.leaking: Input should be a valid boolean"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_model_json_gives_one_line_and_no_answer(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    spoil, message = DAMAGED[damage]
    model = Path(shutil.copytree(trained / "data/model", tmp_path / "model"))
    info = files.read_json(model / "model.json")
    spoil(info)
    (model / "model.json").write_text(json.dumps(info))
    assert message in no_answer(model, capsys)


def no_answer(model: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that `mammo predict` prints where it refuses a model."""
    scan = model.parent / "scan.png"
    Image.fromarray(breast(8)).save(scan)
    assert commands.main(["predict", "--model", str(model), str(scan)]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("mammo predict: ") and said.err.count("\n") == 1
    return said.err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.json", b"\xff\xfe{}", "model.json is not JSON: 'utf-8' codec can't decode"),
        ("model.json", DEEP.encode(), "model.json is nested too deeply"),
        ("model.json", f'{{"a": {DEEP}'.encode(), "model.json is nested too deeply"),
        ("model.json", b"[]", "model.json is not a JSON object"),
        ("model.json", b'{"weights": ' + b"9" * 5000 + b"}", "model.json is not JSON: Exceeds the limit"),
        ("model.json", b"", "model.json is not JSON"),
        ("model.json", None, "model.json does not exist"),
        ("model.tflite", None, "model.tflite does not exist, but"),
        ("model.tflite", b"", "model.tflite is not the file that"),
        ("model.tflite", b"half", "model.tflite is not the file that"),
    ],
)
def test_a_damaged_file_of_a_model_gives_one_line_and_no_answer(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, message: str
) -> None:
    model = Path(shutil.copytree(trained / "data/model", tmp_path / "model"))
    whole = (model / name).read_bytes()
    (model / name).unlink()
    if content is not None:
        (model / name).write_bytes(whole[: len(whole) // 2] if content == b"half" else content)
    assert message in no_answer(model, capsys)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras
def test_weights_that_are_not_numbers_give_no_answer(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "use_threads", lambda _: None)  # TensorFlow runs already, with the threads it has
    model = Path(shutil.copytree(trained / "data/model", tmp_path / "model"))
    network = networks.load(model / "model.keras")
    network.layers[-1].set_weights([weight * np.nan for weight in network.layers[-1].get_weights()])
    (model / exported.NAME).write_bytes(export.litert(network, "none"))
    info = files.read_json(model / "model.json")
    files.write_json(model / "model.json", {**info, "exported": files.sha256(model / exported.NAME)})
    assert "model.tflite gives probabilities or features that are not numbers" in no_answer(model, capsys)
    networks.save(network, model / "model.keras")
    with pytest.raises(UserError, match=r"model\.keras is damaged: it holds weights that are not numbers"):
        model_folder.load(model, model_info.read(model))


def test_a_model_json_that_lacks_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"")
    (tmp_path / "model.json").write_text('{"preprocess": {"size": [224, 224]}}')
    with pytest.raises(UserError, match=r"does not describe a model of this project: network: Field required"):
        request.read_model(tmp_path, "half", despite_phantoms=False)


LAMBDA = {"class_name": "Lambda", "module": "keras.layers", "config": {"name": "x", "function": "open('ran', 'w')"}}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda config: config["layers"].append(LAMBDA), "it holds 'Lambda' of 'keras.layers', which no network"),
        (
            lambda config: config["layers"].append({"class_name": "Dense", "module": "os"}),
            "it holds 'Dense' of 'os', which no network here has",
        ),
        (lambda config: config["layers"].append({"class_name": ["Dense"]}), "it holds ['Dense'] of None"),
        (lambda config: config["layers"].append({"units": 10**9}), "it has a layer of 1,000,000,000 units"),
        (lambda config: config.update(more="[" * 2000), ""),
    ],
    ids=["Lambda", "other module", "no text", "wide", "whole"],
)
def test_a_foreign_network_is_refused_before_keras_reads_it(
    trained: Path, tmp_path: Path, spoil: Callable[[dict[str, Any]], object], message: str
) -> None:
    with zipfile.ZipFile(trained / "data/model/model.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    spoil(config["config"])
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    reason = archives.foreign(tmp_path / "model.keras")
    assert reason.startswith(message) and bool(reason) == bool(message)


@pytest.mark.parametrize(
    ("parts", "compression", "message"),
    [
        ({"../../x": b""}, zipfile.ZIP_STORED, "it holds '../../x', which no network here has"),
        ({"config.json": bytes(10**7)}, zipfile.ZIP_DEFLATED, "config.json is compressed or has more than"),
        ({"config.json": bytes(2**24 + 1)}, zipfile.ZIP_STORED, "config.json is compressed or has more than"),
        ({"config.json": b"{}"}, zipfile.ZIP_STORED, "it must hold config.json, metadata.json, model.weights.h5"),
        (
            {"config.json": b"[" * 100_000, "metadata.json": b"", "model.weights.h5": b""},
            zipfile.ZIP_STORED,
            "its description is nested too deeply",
        ),
    ],
)
def test_an_archive_that_is_no_network_is_refused(
    tmp_path: Path, parts: dict[str, bytes], compression: int, message: str
) -> None:
    with zipfile.ZipFile(tmp_path / "model.keras", "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    assert archives.foreign(tmp_path / "model.keras").startswith(message)
