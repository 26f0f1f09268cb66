"""Native kernels under the sanitizers: builds of ``kernels.cpp`` and runs of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np

import fastseg
from fastseg.artifacts import safetensors
from tools.attack.campaign import BrokenPromiseError, Campaign, Case, Counts

ROOT = Path(__file__).parents[2]

ADDRESSES = "address,undefined"
THREADS = "thread"

_WEIGHTS = Path(fastseg.__file__).parent / "models" / "sam-nano" / "decoder.safetensors"
_COMPILES = "left out of the short form, because it compiles the kernels"
_BUILD_SECONDS = 600.0


class _Sanitized(Campaign):
    """Chunks of cases of one mode of the program."""

    mode = ""
    sanitizer = ADDRESSES
    per_case = 500
    left_out = _COMPILES
    start_seconds = _BUILD_SECONDS
    case_seconds = 120.0
    memory_bound = None
    workers = 1

    def missing(self) -> str:
        """Name the tools and the sanitizer that are not here."""
        absent = [tool for tool in ("cmake", "c++") if shutil.which(tool) is None]
        if not (ROOT / "CMakeLists.txt").is_file():
            return "needs the sources of the kernels"
        if absent:
            return f"needs {' and '.join(absent)}"
        return "" if _supported(self.sanitizer) else f"no -fsanitize={self.sanitizer} here"

    def prepare(self, folder: Path) -> None:
        """Build the program, if a campaign before has not, and write the weights."""
        builds = folder.parents[2] / "builds"
        self.program = _build(builds / self.sanitizer.partition(",")[0], self.sanitizer)
        self.weights = folder / "weights.bin"
        _write_weights(self.weights)

    def attack(self, case: Case) -> Counts:
        """Run a chunk of cases; a report of a sanitizer ends the program."""
        first = case.index * self.per_case
        seed = case.random.getrandbits(31)
        command = [self.program, self.mode, str(seed), str(first), str(self.per_case)]
        if self.mode in ("decoder", "threads"):
            command.append(str(self.weights))
        (case.folder / "command.txt").write_text(" ".join(map(str, command[1:])))
        done = _run([str(word) for word in command])
        if done.returncode:
            (case.folder / "report.txt").write_text(done.stderr)
            raise BrokenPromiseError(_summary(done.stderr) or f"exit code {done.returncode}")
        return Counts(self.per_case, int(done.stdout))


class Kernels(_Sanitized):
    """Images, masks, boxes and chambers of odd shapes and numbers.

    The first case calls the kernels of devices too, in plain loops, by ``kernel_digests``.
    """

    name = "kernels, address and undefined-behaviour sanitizers"
    mode = "kernels"
    cases = 80
    budget = 40.0

    def attack(self, case: Case) -> Counts:
        """Run a chunk of cases, and the digests once."""
        if case.index == 0:
            done = _run([str(self.program.with_name("kernel_digests"))])
            if done.returncode:
                raise BrokenPromiseError(_summary(done.stderr))
        return super().attack(case)


class SanitizedRunLengths(_Sanitized):
    """Strings and counts."""

    name = "run lengths, address and undefined-behaviour sanitizers"
    mode = "runs"
    cases = 300
    budget = 20.0


class DecoderKernel(_Sanitized):
    """The decoder in every instruction set of this processor."""

    name = "native decoder, address and undefined-behaviour sanitizers"
    mode = "decoder"
    per_case = 20
    cases = 30
    budget = 30.0


class KernelThreads(_Sanitized):
    """All of them from three threads at once, each with a team of its own."""

    name = "kernels, thread sanitizer"
    mode = "threads"
    sanitizer = THREADS
    per_case = 60
    cases = 30
    budget = 50.0


def _supported(sanitizer: str) -> bool:
    """Tell whether a program that is built with the sanitizer can run here."""
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"fastseg-probe-{os.getpid()}"  # noqa: S108
    folder.mkdir()
    try:
        (folder / "a.cpp").write_text("int main() {}\n")
        built = _run(["c++", f"-fsanitize={sanitizer}", f"{folder}/a.cpp", "-o", f"{folder}/a"])
        return built.returncode == 0 and _run([f"{folder}/a"]).returncode == 0
    finally:
        shutil.rmtree(folder)


def _build(folder: Path, sanitizer: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    flags = f"-fsanitize={sanitizer} -fno-sanitize-recover=all -fno-omit-frame-pointer -g1"
    ninja = ["-G", "Ninja"] if shutil.which("ninja") else []
    options = ["-DFASTSEG_PYTHON=OFF", "-DFASTSEG_CUDA=OFF", f"-DCMAKE_CXX_FLAGS={flags}"]
    target = ["--target", "kernel_attack", "kernel_digests", "--parallel", "2"]
    for command in (
        ["cmake", "-S", str(ROOT), "-B", str(folder), *ninja, *options],
        ["cmake", "--build", str(folder), *target],
    ):
        done = _run(command)
        if done.returncode:
            raise BrokenPromiseError(f"the kernels cannot be built: {(done.stdout + done.stderr)}")
    return folder / "kernel_attack"


def _write_weights(path: Path) -> None:
    """Write the weights of the decoder in the form that ``kernels.cpp`` reads."""
    weights = safetensors.read(_WEIGHTS)
    with path.open("wb") as file:
        for name, array in weights.items():
            shape = " ".join(map(str, array.shape))
            file.write(f"{name} {array.ndim} {shape}\n".encode())
        file.write(b"end \n")
        for array in weights.values():
            file.write(np.ascontiguousarray(array, "<f4").tobytes())


def _summary(report: str) -> str:
    """Return the line of a report that says what was found."""
    lines = [line for line in report.splitlines() if "ERROR" in line or "WARNING" in line]
    lines += [line for line in report.splitlines() if "runtime error" in line]
    return lines[0] if lines else report.strip().rpartition("\n")[2]


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        command, check=False, capture_output=True, text=True, errors="replace"
    )
