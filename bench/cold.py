"""What the process that decodes costs a single cold prediction: `mammo predict` of one file, with it and without it.

    python bench/cold.py [ROUNDS]

Needs data/model, so run `dvc repro` first. Without it the same code decodes in the process that predicts, unbounded.
Both ways run in turn; the difference of each round is reported.
"""

import statistics
import sys
import tempfile
from pathlib import Path

import cv2
import dicom
from against import COMMAND, cost
from measure import ROOT, heading

MODEL = ROOT / "data/model"
ROUNDS = 15
WITH = COMMAND
WITHOUT = f"""
import sys; sys.path.insert(0, sys.argv[1])
from mammo.imaging import decoder
decoder.start_early = lambda paths: None
decoder.start_for = lambda paths, *bounds: None
from mammo.imaging import readers
from mammo.imaging.readers import Readers
def here(self, path, size, how):
    from mammo.imaging import decoding
    steps = {{name: getattr(how.canonical, name) for name in readers.STEPS}}
    return decoding._decoded({{"path": path, "size": size, "steps": steps, "for_processing": how.for_processing}})
Readers._elsewhere = here
{COMMAND}
"""
CODINGS = ("uncompressed", "JPEG lossless", "JPEG 2000")


def files(work: Path) -> dict[str, Path]:
    """Write one file of each kind that is decoded in a process of its own."""
    pixels, _ = dicom.breast()
    dicom.write(work, pixels)
    found = {f"DICOM, {coding}": work / f"{coding}.dcm" for coding in CODINGS}
    tiff = work / "16 bit.tif"
    cv2.imwrite(str(tiff), pixels << (16 - dicom.BITS))
    return {**found, "TIFF, 16 bit": tiff}


def main(rounds: int) -> None:
    """Print a row per file."""
    if not MODEL.is_dir():
        sys.exit(f"{MODEL} does not exist: run `dvc repro`")
    with tempfile.TemporaryDirectory(prefix="cold_") as temporary:
        work = Path(temporary)
        print(heading(f"one image of {dicom.HEIGHT}×{dicom.WIDTH}, cold, {rounds} rounds: medians") + "\n")
        print("| file | with its process | in one process | more: median (quartiles) |\n|---|---:|---:|---:|")
        for name, path in files(work).items():
            seconds: dict[str, list[float]] = {WITH: [], WITHOUT: []}
            for number in range(rounds + 1):
                for code in (WITH, WITHOUT) if number % 2 == 0 else (WITHOUT, WITH):
                    how = ("predict", "--model", MODEL, "--despite-phantoms", "--csv", work / "out.csv", path)
                    took = cost((sys.executable, "-c", code, ROOT / "stages", *how), work).wall
                    if number:  # the first round reads from the disk
                        seconds[code].append(took)
            more = [with_it - without for with_it, without in zip(*seconds.values(), strict=True)]
            low, middle, high = (1000 * each for each in statistics.quantiles(more, n=4))
            both = " | ".join(f"{statistics.median(each):.3f} s" for each in seconds.values())
            print(f"| {name} | {both} | {middle:+.0f} ms ({low:+.0f} to {high:+.0f}) |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
