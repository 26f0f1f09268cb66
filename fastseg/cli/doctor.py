"""``fastseg doctor``: the parts that are installed, and the remedy for each that is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click
from rich.console import RenderableType

from fastseg import diagnosis, environment
from fastseg.cli.arguments import json_option
from fastseg.cli.report import DONE, SOME_FAILED, Report, Table

_MACHINE_BYTES = ("memory", "memory_available", "memory_limit", "disk_free")


@click.command()
@json_option
def doctor() -> Report:
    """List what is installed and what can run, with a remedy for everything that cannot.

    The exit code is 1 if no model can run here.
    """
    found = diagnosis.doctor()
    conclusion = "\nfastseg can run here." if found["ok"] else "\nfastseg cannot run here."
    head = (environment.line(), _memory(found["machine"]), *_worth(found), "")
    text: tuple[RenderableType, ...] = (*head, _table(found), conclusion)
    return Report("doctor", found, text, DONE if found["ok"] else SOME_FAILED)


def _memory(machine: Mapping[str, Any]) -> str:
    known = {name: machine[name] for name in _MACHINE_BYTES if machine.get(name) is not None}
    return ", ".join(
        f"{name.replace('_', ' ')} {value / 2**30:.1f} GiB" for name, value in known.items()
    )


def _worth(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the line on this processor, if the kernels load."""
    if "worth" in found["native_kernels"]:
        yield f"this processor: {found['native_kernels']['worth']}"


def _table(found: Mapping[str, Any]) -> Table:
    table = Table("", "", "", box=None, pad_edge=False, show_header=False)
    for name, part in _parts(found):
        details = {
            key: value for key, value in part.items() if key not in ("ok", "remedy", "worth")
        }
        if part["ok"]:
            remark = ", ".join(f"{key} {value}" for key, value in details.items())
        else:
            remark = f"{part['reason']}. {part['remedy']}"
        table.add_row(name, "yes" if part["ok"] else "no", remark)
    return table


def _parts(found: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "native kernels", found["native_kernels"]
    yield "CUDA kernels", found["cuda_kernels"]
    for kind in ("runtimes", "devices", "models"):
        yield from found[kind].items()
