"""What the studies of the pocket world share: a bench, erased models that are made once, rates with their bounds."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import yaml

from resurgence_gate.checkpoints.pipeline import load_model
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.decision.rates import rate_of
from resurgence_gate.execution.interface import SilentProgress
from resurgence_gate.execution.local import LocalExecutor
from resurgence_gate.observe import Bench
from resurgence_gate.store.folder import Store
from resurgence_gate.unlearners.interface import Recipe
from resurgence_gate.vocabulary import Arm, Observation, Pocket, TensorsOn

PROBE = {"weight_decay": 0.01, "batch": 8, "replicates": 1}  # as in the shipped pocket policy


def new_bench(work: Path) -> Bench:
    """One process on the CPU; results stay in the store under `work`."""
    return Bench(
        store=Store(work / "store"),
        device="cpu",
        dtype="float32",
        progress=SilentProgress(),
        executor=LocalExecutor(),
        now=lambda: datetime.now(UTC),
    )


def pocket_policy() -> dict[str, Any]:
    """The shipped pocket policy, to be varied."""
    text = (Path(__file__).parent.parent / "policies" / "pocket.yaml").read_text()
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def erased_model(file: Path, recipe: Recipe, seed: int) -> TensorsOn:
    """The UNet of pocket:base after `recipe`; made once."""
    if not file.exists():
        base = resolve(Pocket(name="base"))
        model = load_model(base, device=torch.device("cpu"), dtype=torch.float32)
        recipe.unlearn(model, seed=seed, progress=SilentProgress()).save(file, base_digest=base.digest)
    return TensorsOn(path=file, base=Pocket(name="base"))


def after(observations: dict[Arm, Observation], dose: int) -> Observation:
    """What was seen after `dose` steps of the only probe."""
    return next(seen for arm, seen in observations.items() if arm.dose == dose)


def counted(observations: Iterable[Observation], concepts: Iterable[str]) -> Any:
    """The rate of pictures that show their concept, over all `concepts`, with one-sided 95 % bounds."""
    asked = set(concepts)
    return rate_of(
        [d.outcome for o in observations for d in o.detections if d.sample.draw.concept in asked], 0.95
    )


def shown(rate: Any) -> str:
    """`0.34 [0.28, 0.40]`."""
    return f"{rate.hits / rate.trials:.2f} [{rate.interval.lower:.2f}, {rate.interval.upper:.2f}]"
