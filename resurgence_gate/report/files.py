"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import NamedTemporaryFile

from resurgence_gate.report.json import to_json
from resurgence_gate.report.markdown import to_markdown
from resurgence_gate.vocabulary import GateReport


def write_report(report: GateReport, folder: Path) -> list[Path]:
    """Write `report.json` and `report.md` into `folder`; earlier ones are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"report.json": to_json(report), "report.md": to_markdown(report)}
    for name, text in texts.items():
        write_atomically(folder / name, text.encode())
    return [folder / name for name in texts]


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside, flush to the disk, rename: a kill leaves the earlier file or the new one."""
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as beside:
        try:
            beside.write(content)
            beside.flush()
            os.fsync(beside.fileno())
            Path(beside.name).chmod(0o666 & ~_umask())
            Path(beside.name).replace(path)
        except BaseException:
            Path(beside.name).unlink(missing_ok=True)
            raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
