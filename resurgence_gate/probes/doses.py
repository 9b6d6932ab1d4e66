"""What a fine-tune leaves on its way: the weights of every dose, and the state to go on from after the last.

dose-N.safetensors    the UNet's tensors that the probe has changed
dose-N.json           whether it took, and the SHA-256 of the weights
state-N.safetensors   what else the next step needs; only of the last dose
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from resurgence_gate.checkpoints.digest import hash_file
from resurgence_gate.probes.interface import Probe
from resurgence_gate.store.disk import sync_one
from resurgence_gate.store.manifest import MANIFEST, damage, hash_of, read_manifest, write_manifest
from resurgence_gate.vocabulary import ProbeHealth

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Doses:
    """The finished doses of one run of `probe` in the scratch `folder`."""

    folder: Path
    probe: Probe

    def keep(self, changed: Mapping[str, Tensor], state: Mapping[str, Tensor], health: ProbeHealth) -> None:
        """Write one dose; it counts from the moment that its files are in the manifest."""
        names = [f"dose-{health.dose}.safetensors", f"dose-{health.dose}.json"]
        names.append(f"state-{health.dose}.safetensors")
        weights, record, rest = (self.folder / name for name in names)
        _write(weights, changed)
        record.write_text(json.dumps({"sha256": hash_file(weights), "health": asdict(health)}))
        _write(rest, state)
        for name in names:
            sync_one(self.folder / name)
        earlier = {k: v for k, v in (read_manifest(self.folder) or {}).items() if k.startswith("dose-")}
        write_manifest(self.folder, earlier | {name: hash_of(self.folder / name) for name in names})
        for file in self.folder.glob("state-*"):
            if file != rest:
                file.unlink()

    def last(self) -> int:
        """The last dose that is here with all before it; 0 if there is none, or anything is damaged."""
        dose = 0
        if (self.folder / MANIFEST).exists():
            if (reason := damage(self.folder)) is None:
                sums = read_manifest(self.folder) or {}
                dose = max((d for d in self.probe.doses if f"state-{d}.safetensors" in sums), default=0)
            else:
                told = "%s: %s; probe %s is trained from the start"
                _LOG.warning(told, self.folder, reason, self.probe.name)
        if dose == 0:
            (self.folder / MANIFEST).unlink(missing_ok=True)
        return dose

    def read(self, dose: int, device: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """(changed, state) as they were kept."""
        changed = load_file(self.folder / f"dose-{dose}.safetensors", device=device)
        return changed, load_file(self.folder / f"state-{dose}.safetensors", device=device)


def _write(file: Path, tensors: Mapping[str, Tensor]) -> None:
    beside = file.with_suffix(".tmp")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, beside)
    beside.replace(file)
