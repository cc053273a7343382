"""Small data sets in the exact shape of the published ones, traps included, with what is true of them."""

import csv
import io
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import openpyxl
import pydicom
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

PATIENTS = 40
"""Of these every second has cancer, in the left breast."""


class Truth(NamedTuple):
    """What is true of an image."""

    label: int
    patient: str
    laterality: str
    view: str


Made = dict[str, Truth]
"""The images that a set should be understood as, by path."""


def pixels(seed: str, cancer: bool, side: str = "L", size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """A half ellipse of noise at one border, 12 bits; brighter with cancer, which a few epochs learn."""
    random = np.random.default_rng(zlib.crc32(seed.encode()))
    rows, columns = np.mgrid[: size[0], : size[1]]
    inside = ((rows / size[0] - 0.5) / 0.45) ** 2 + (columns / size[1] / 0.8) ** 2 < 1
    values = np.where(inside, 1200 + 1500 * cancer + random.normal(0, 250, size), 20)
    image = values.clip(0, 4095).astype(np.uint16)
    return image if side == "L" else image[:, ::-1]


def write_dicom(path: Path, image: np.ndarray, **attributes: Any) -> None:
    """Write an uncompressed mammogram for presentation, 12 bits, with a name and a date of birth in its header."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.2"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    dataset.Modality, dataset.PresentationIntentType = "MG", "FOR PRESENTATION"
    dataset.PatientName, dataset.PatientBirthDate = "Roe^Jane", "19600102"
    dataset.Rows, dataset.Columns = image.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    for name, value in attributes.items():
        setattr(dataset, name, value)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        image = 4095 - image
    dataset.PixelData = image.astype("<u2").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]], separator: str = ",") -> None:
    """Write a table with the line ends of a spreadsheet."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, lineterminator="\r\n")
    writer.writerows([columns, *rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.getvalue(), encoding="utf-8", newline="")


def views(patients: int = PATIENTS) -> Iterable[tuple[int, str, str, bool]]:
    """Number, side and view of four images a patient, and whether they show cancer."""
    for number in range(1, patients + 1):
        for side in "LR":
            for view in ("CC", "MLO"):
                yield number, side, view, number % 2 == 1 and side == "L"


def rsna(folder: Path) -> Made:
    """MONOCHROME1 with several windows and a sigmoid; empty ages and densities."""
    columns = "site_id,patient_id,image_id,laterality,view,age,cancer,biopsy,invasive,BIRADS,implant,density"
    made, rows = {}, []
    for number, side, view, cancer in views():
        patient, image = f"{10000 + number}", f"{zlib.crc32(f'{number}{side}{view}'.encode())}"
        path = f"train_images/{patient}/{image}.dcm"
        age, density = ("", "") if number == 7 else (f"{40 + number}.0", "ABCD"[number % 4])
        rows.append([1 + number % 2, patient, image, side, view, age, int(cancer), 0, 0, "", 0, density, 49, False])
        more = {"WindowCenter": [2048, 1500], "WindowWidth": [4096, 800], "VOILUTFunction": "SIGMOID"}
        how = "MONOCHROME1" if number % 3 == 0 else "MONOCHROME2"
        image_of = pixels(path, cancer, side)
        write_dicom(folder / path, image_of, PhotometricInterpretation=how, PatientID=patient, **more)
        made[path] = Truth(int(cancer), patient, side, view)
    write_table(folder / "train.csv", [*columns.split(","), "machine_id", "difficult_negative_case"], rows)
    return made


def vindr_mammo(folder: Path) -> Made:
    """Values such as `BI-RADS 5` and `DENSITY C`; the study stands for the patient; ages as `053Y`."""
    columns = "study_id,series_id,image_id,laterality,view_position,height,width,breast_birads,breast_density,split"
    made, rows, about = {}, [], []
    for number, side, view, cancer in views():
        study, image = (f"{zlib.crc32(f'{number}{part}'.encode()):032x}" for part in ("", side + view))
        path = f"images/{study}/{image}.dicom"
        birads = 3 if number == 4 else 5 if cancer else 1 + number % 2
        split = "test" if number > PATIENTS * 0.8 else "training"
        row = [study, "f0", image, side, view, 64, 48, f"BI-RADS {birads}", f"DENSITY {'ABCD'[number % 4]}", split]
        rows.append(row)
        about.append([image, f"{40 + number:03}Y", "SIEMENS" if number % 2 else "IMS s.r.l."])
        write_dicom(folder / path, pixels(path, cancer, side), PatientID="", ImageLaterality=side, ViewPosition=view)
        if birads != 3:
            made[path] = Truth(int(cancer), study, side, view)
    write_table(folder / "breast-level_annotations.csv", columns.split(","), rows)
    write_table(folder / "metadata.csv", ["SOP Instance UID", "Patient's Age", "Manufacturer"], about)
    return made


CBIS = "{}_case_description_{}_set.csv"
CBIS_COLUMNS = (
    "patient_id,breast_density,left or right breast,image view,abnormality id,abnormality type,mass shape,mass margins,"
    "assessment,pathology,subtlety,image file path,cropped image file path,ROI mask file path"
)


def cbis_ddsm(folder: Path) -> Made:
    """Density named in two ways, newlines in paths, mixed pathology, patients in both splits, PatientID per view."""
    tables: dict[tuple[str, str], list[list[Any]]] = {(kind, split): [] for kind in ("calc", "mass") for split in
                                                     ("train", "test")}  # fmt: skip
    made: Made = {}
    for number, side, view, cancer in views():
        kind, split = ("calc", "mass")[number % 2], "test" if number > 32 or (number == 1 and side == "R") else "train"
        patient, long = f"P_{number:05}", {"L": "LEFT", "R": "RIGHT"}[side]
        name = f"{kind.capitalize()}-{'Test' if split == 'test' else 'Training'}_{patient}_{long}_{view}"
        study, series, crop = (generate_uid(entropy_srcs=[name, part]) for part in ("study", "series", "crop"))
        pathologies = ["MALIGNANT"] if cancer else ["BENIGN" if number % 3 else "BENIGN_WITHOUT_CALLBACK"]
        if cancer and number == 3:
            pathologies = ["BENIGN", "MALIGNANT"]
        for place, pathology in enumerate(pathologies, 1):
            full, cut = f"{name}/{study}/{series}/000000.dcm", f"{name}_{place}/{study}/{crop}/000001.dcm\n"
            row = [patient, 1 + number % 4, long, view, place, kind, "", "", 4, pathology, 3, full, cut, cut.strip()]
            tables[kind, split].append(row)
        at = folder / "CBIS-DDSM" / name / "07-20-2016-DDSM-NA-24486"
        header = {"PatientID": name, "StudyInstanceUID": study, "Laterality": side, "PatientOrientation": view}
        path = at / "1.000000-full mammogram images-24515/1-1.dcm"
        described = {"SeriesInstanceUID": series, "SeriesDescription": "full mammogram images"}
        write_dicom(path, pixels(name, cancer, side), **header, **described)
        if number < 4:
            header |= {"PatientID": f"{name}_1", "SeriesInstanceUID": crop, "SeriesDescription": "cropped images"}
            write_dicom(at / "1.000000-cropped images-1/1-1.dcm", pixels(name + "crop", cancer), **header)
        made[path.relative_to(folder).as_posix()] = Truth(int(cancer), patient, side, view)
    for (kind, split), rows in tables.items():
        columns = [
            name.replace("_", " ") if kind == "calc" and "density" in name else name for name in CBIS_COLUMNS.split(",")
        ]
        write_table(folder / CBIS.format(kind, split), columns, rows)
    return made


def cmmd(folder: Path) -> Made:
    """An xlsx with a row per breast; only the header says which side a file shows."""
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["ID1", "LeftRight", "Age", "number", "abnormality", "classification", "subtype"])
    made: Made = {}
    for number in range(1, PATIENTS + 1):
        patient, side = f"D1-{number:04}", "LR"[number % 3 == 0]
        cancer = number % 2 == 1
        kind = "Malignant" if cancer else "Benign"
        sheet.append([patient, side, 40 + number, 2, "mass", kind, "Luminal A" if cancer else None])
        at = folder / f"CMMD/{patient}/07-18-2010-NA-NA-79377/1.000000-NA-70244"
        for place, (shown, view) in enumerate(
            [(side, "CC"), (side, "MLO"), *([("R", "CC")] if number == 1 else [])], 1
        ):
            path = at / f"1-{place}.dcm"
            header = {"PatientID": patient, "ImageLaterality": shown, "ViewPosition": view}
            write_dicom(path, pixels(str(path.relative_to(folder)), cancer, shown), **header, Manufacturer="GE")
            if shown == side:  # the other breast has no row
                made[path.relative_to(folder).as_posix()] = Truth(int(cancer), patient, side, view)
    book.save(folder / "CMMD_clinicaldata_revision.xlsx")
    return made


ONE_SIDED = 5  # of EMBED's women


def embed(folder: Path) -> Made:
    """A table of files and one of findings; side B is both; decimal points in whole numbers; tomosynthesis, spots.

    Of a woman with findings in one breast there is no row for the other.
    """
    files = "empi_anon,acc_anon,anon_dicom_path,FinalImageType,ImageLateralityFinal,ViewPosition,spot_mag,Manufacturer"
    findings = "empi_anon,acc_anon,side,numfind,asses,tissueden,path_severity,age_at_study,"
    findings += "ETHNICITY_DESC,ETHNIC_GROUP_DESC"
    about = ["African American  or Black", "Non-Hispanic or Latino"]
    made, images, found = {}, [], []
    for number, side, view, cancer in views():
        patient, exam = f"{60000000 + number}", f"{9000000000000000 + number}"
        path = f"cohort_1/{patient}/{exam}/{side}{view}.dcm"
        images.append([patient, exam, f"/mnt/NAS2/mammo/anon_dicom/{path}", "2D", side, view, "", "HOLOGIC, Inc."])
        write_dicom(folder / "images" / path, pixels(path, cancer, side), PatientID=patient)
        if number != ONE_SIDED or side == "L":
            made[f"images/{path}"] = Truth(int(cancer), patient, side, view)
    for number in range(1, PATIENTS + 1):
        patient, exam, rest = f"{60000000 + number}", f"{9000000000000000 + number}", [2.0, "", 50.0 + number, *about]
        if number % 2:
            found.append([patient, exam, "L", 1, "M", 2.0, 0.0, 50.0 + number, *about])
            found.append([patient, exam, "L", 2, "B", 2.0, 4.0, 50.0 + number, *about])
            if number != ONE_SIDED:
                found.append([patient, exam, "R", 3, "N", *rest])
        else:
            found.append([patient, exam, "" if number % 4 else "B", 1, "N", *rest])
    images.append(["60000001", "9000000000000001", "cohort_1/x.dcm", "3D", "L", "CC", "", "HOLOGIC, Inc."])
    images.append(["60000001", "9000000000000001", "cohort_1/y.dcm", "2D", "L", "CC", "1.0", "HOLOGIC, Inc."])
    write_table(folder / "tables/EMBED_OpenData_metadata.csv", files.split(","), images)
    write_table(folder / "tables/EMBED_OpenData_clinical.csv", findings.split(","), found)
    return made


def inbreast(folder: Path) -> Made:
    """`;`, cells padded with blanks, `removed` for every patient, whose hash is in the file name; BI-RADS 4a."""
    made, rows = {}, []
    for place, (number, side, view, cancer) in enumerate(views()):
        file, who = 20586908 + place, f"{zlib.crc32(str(number).encode()):016x}"
        path = f"AllDICOMs/{file}_{who}_MG_{side}_{view}_ANON.dcm"
        birads = "3" if number == 4 else "4a" if cancer and number == 5 else "5" if cancer else "1"
        rows.append(["removed", "removed", side, f"{view} ", 201001, f"{file}  ", f"  {1 + number % 4}", f" {birads}"])
        write_dicom(folder / path, pixels(path, cancer, side), PatientID="removed")
        if birads != "3":
            made[path] = Truth(int(cancer), who, side, view)
    columns = ["Patient ID", "Patient age", "Laterality", "View", "Acquisition date", "File Name", "ACR", "Bi-Rads"]
    write_table(folder / "INbreast.csv", columns, rows, ";")
    return made


def mini_mias(folder: Path) -> Made:
    """A text without header, several rows of an image, two consecutive numbers for a woman, and PGM files."""
    made, lines = {}, ["INFORMATION ABOUT THE FILMS", ""]
    for number in range(1, 2 * PATIENTS + 1):
        name, side, cancer = f"mdb{number:03}", "RL"[number % 2 == 0], number % 4 == 1
        if cancer:
            lines += [f"{name} G CIRC M 535 425 197"] + ([f"{name} G CALC B 300 200 20"] if number == 1 else [])
        else:
            lines.append(f"{name} {'FGD'[number % 3]} " + ("CIRC B *NOTE 3*" if number == 2 else "NORM"))
        image = (pixels(name, cancer, side) // 16).astype(np.uint8)
        cv2.imwrite(str(folder / f"{name}.pgm"), image)
        made[f"{name}.pgm"] = Truth(int(cancer), str((number + 1) // 2), side, "MLO")
    (folder / "Info.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return made


MAKERS: dict[str, Callable[[Path], Made]] = {
    "rsna": rsna,
    "vindr-mammo": vindr_mammo,
    "cbis-ddsm": cbis_ddsm,
    "cmmd": cmmd,
    "embed": embed,
    "inbreast": inbreast,
    "mini-mias": mini_mias,
}


def make(name: str, folder: Path) -> Made:
    """Write the set `name` into a new folder and return what is true of it."""
    folder.mkdir(parents=True)
    return MAKERS[name](folder)
