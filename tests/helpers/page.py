"""Markdown pages as a reader uses them: their code blocks, headings, links and files."""

from __future__ import annotations

import re
import shlex
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers.dicom_files import slices, write
from tests.helpers.ultrasound_files import region, write_dicom

ROOT = Path(__file__).parents[2]

NEEDS = "# needs: "
"""The first line of a block that only some machines can run."""


@dataclass(frozen=True)
class Block:
    """A code block of a page."""

    page: str
    line: int
    language: str
    text: str

    @property
    def needs(self) -> str:
        """Requirements on the machine, in the page's words; empty if there are none."""
        first = self.text.partition("\n")[0]
        return first.removeprefix(NEEDS) if first.startswith(NEEDS) else ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> list[list[str]]:
        """The commands of a bash block, each as its words."""
        found: list[list[str]] = []
        if self.language != "bash":
            return found
        for line in self.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words:
                end = words.index("&&") if "&&" in words else len(words)
                found.append(words[:end])
                words = words[end + 1 :]
        return found


def pages() -> list[str]:
    """The pages whose blocks are run, relative to the root."""
    return ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """The python and bash blocks of a page."""
    text = read(page)
    found = re.finditer(r"^```(python|bash)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    return [
        Block(page, text.count("\n", 0, one.start()) + 1, one[1], one[2].rstrip("\n"))
        for one in found
    ]


def commands_by_title() -> dict[str, list[list[str]]]:
    """The commands of docs/models.md below the comment that names a network, by its title."""
    found: dict[str, list[list[str]]] = {}
    for block in blocks("docs/models.md"):
        titles: list[str] = []
        for line in block.text.splitlines() if block.language == "bash" else ():
            if line.startswith("#"):
                titles = line.removeprefix("#").strip().split("; ")
            for title in titles:
                found.setdefault(title, [])
                if not line.startswith("#"):
                    found[title].append(shlex.split(line))
    return found


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def links(text: str) -> list[str]:
    """The targets of a page's links to other files and headings."""
    prose = re.sub(r"`[^`\n]+`", "", without_blocks(text))
    return re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose)


def paths(text: str) -> set[str]:
    """The files and folders of the repository that a page names, but for patterns."""
    folders = "benchmarks|cmake|csrc|docs|examples|export|fastseg|tests|tools|training"
    found = re.findall(rf"`((?:{folders})/[\w./-]+)`", without_blocks(text))
    return {path for path in found if not re.search(r"NAME|VERB|/runs/", path)}


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as code forges make them."""
    headings = re.findall(r"^#+ +(.+)$", without_blocks(text), flags=re.MULTILINE)
    return {_anchor(heading) for heading in headings}


def _anchor(heading: str) -> str:
    kept = (
        letter
        for letter in heading.strip().lower()
        if letter in "-_ " or unicodedata.category(letter)[0] in "LN"
    )
    return "".join(kept).replace(" ", "-")


def write_files(folder: Path) -> None:
    """Write the files that the pages speak of: small ones, and real enough to be measured."""
    demo = ROOT / "fastseg" / "demo_data" / "coins.png"
    with Image.open(demo) as coins:
        coins.save(folder / "coins.png")
        (folder / "photographs").mkdir()
        coins.crop((150, 0, 384, 150)).save(folder / "photographs" / "some.png")
    for view in ("A2C", "A4C", "SAX"):
        np.save(folder / f"p7_{view}.npy", np.stack([heart(7), heart(8)]))
    Image.fromarray(heart(9)).save(folder / "frame.png")
    write_dicom_files(folder)
    write_mask_files(folder)
    write_datasets(folder)
    for number in range(24):
        patient = folder / "frames" / f"patient{number % 6}"
        patient.mkdir(parents=True, exist_ok=True)
        Image.fromarray(heart(number)).save(patient / f"{number}.png")


def write_datasets(folder: Path) -> None:
    """Write images with truth in two forms, and tables of measurements of six patients."""
    random = np.random.default_rng(0)
    lines = ["image,mask,class,value,domain"]
    for inside in ("images", "masks"):
        (folder / "scenes" / inside).mkdir(parents=True)
    for number in range(2):
        labels = np.zeros((96, 128), np.uint8)
        labels[20:60, 10 + 8 * number : 60], labels[50:90, 80:120] = 1, 2
        grey = random.integers(0, 40, labels.shape, np.uint8) + 90 * labels
        for inside, pixels in (("images", grey), ("masks", labels)):
            Image.fromarray(pixels).save(folder / "scenes" / inside / f"s{number}.png")
        files = f"scenes/images/s{number}.png,scenes/masks/s{number}.png"
        lines += [
            f"{files},{name},{value},site {number}" for value, name in ((1, "cup"), (2, "disc"))
        ]
    (folder / "pairs.csv").write_text("\n".join([*lines, ""]), encoding="utf-8")
    truth = random.uniform(40, 160, (6, 2))
    for name, values in (("clinical", truth), ("ours", truth + random.normal(0, 8, truth.shape))):
        rows = [f"p{place},{lvedv:.1f},{lvef:.1f}" for place, (lvedv, lvef) in enumerate(values)]
        text = "\n".join(["patient,LVEDV,LVEF", *rows, ""])
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")


def write_dicom_files(folder: Path) -> None:
    """Write a series of CT, one of its slices, a volume of MR, and an ultrasound clip."""
    body = np.stack([heart(number) for number in range(3)]).astype(np.int16) * 2 - 100
    window = {
        "WindowCenter": 40,
        "WindowWidth": 400,
        "StudyInstanceUID": "1.2.3",
        "FrameOfReferenceUID": "1.2.3.9",
        "SliceThickness": 2.5,
        "NumberOfFrames": None,
    }
    slices(folder / "ct-series", body + 1024, **window)
    place = {
        "ImagePositionPatient": [0, 0, 0],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [0.8, 0.5],
    }
    write(folder / "ct.dcm", body[:1], **window, **place)
    import nibabel

    images = np.stack([heart(7)] * 5).astype(np.int16) * 4
    nibabel.save(nibabel.Nifti1Image(images.T, np.diag((0.8, 0.8, 3.0, 1.0))), folder / "mr.nii.gz")
    frames = np.stack([heart(7), heart(8)])
    stated = [region((0, 0, 255, 255), PhysicalDeltaX=0.078, PhysicalDeltaY=0.078)]
    write_dicom(folder / "clip_A4C.dcm", frames, regions=stated, FrameTime="33.3")


def write_mask_files(folder: Path) -> None:
    """Write a label map of an atrium and a ventricle, and tracings of a ventricle in two frames."""
    rows, columns = np.indices((256, 256))
    labels = np.zeros((256, 256), np.uint8)
    labels[((rows - 178) / 26) ** 2 + ((columns - 128) / 25) ** 2 < 1] = 1
    labels[((rows - 95) / 52) ** 2 + ((columns - 128) / 27) ** 2 < 1] = 2
    Image.fromarray(labels).save(folder / "mask.png")
    lines = ["FileName,X1,Y1,X2,Y2,Frame"]
    for frame, half in ((46, 20.0), (61, 15.0)):
        lines.append(f"0X1.avi,56,20,56,90,{frame}")
        for place in np.linspace(-0.95, 0.95, 20).tolist():
            across, y = half * (1 - place**2) ** 0.5, 55 + 35 * place
            lines.append(f"0X1.avi,{56 - across},{y},{56 + across},{y},{frame}")
    (folder / "VolumeTracings.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def heart(seed: int) -> np.ndarray:
    """Draw a frame of grainy tissue with a dark ventricle above a dark atrium, uint8 (256, 256)."""
    random = np.random.default_rng(seed)
    rows, columns = np.indices((256, 256))

    def ellipse(row: float, column: float, height: float, width: float) -> np.ndarray:
        return ((rows - row) / height) ** 2 + ((columns - column) / width) ** 2 < 1

    middle = 128 + random.uniform(-15, 15)
    luma = np.where(ellipse(130, 128, 110, 100), 120.0, 60.0) + random.normal(0, 3, (256, 256))
    luma[ellipse(95, middle, 36, 20) | ellipse(178, middle, 26, 19)] = 5
    return luma.clip(0, 255).astype(np.uint8)
