"""What runs on a GPU runs on a pretended one: no tensor is left on the CPU, none is read without a copy."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes.accelerator import NAME, pretended_cuda
from fakes.assay import RETAINED, tiny_bench, tiny_classifier, tiny_policy
from fakes.celebrities import random_weights
from fakes.faces import astronaut, mirrored, noise
from fakes.fine_tunes import FULL, LORA, tiny_task
from fakes.vision_language import tiny_vision_language_model
from pydantic import TypeAdapter
from torch import Tensor, nn

from resurgence_gate.checkpoints.pipeline import load_model
from resurgence_gate.checkpoints.ref import parse_ref
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.cli import run
from resurgence_gate.detectors.registry import locate_detector, open_detector
from resurgence_gate.gate import run_check
from resurgence_gate.policy.schema import DetectorSpec
from resurgence_gate.probes import fine_tune
from resurgence_gate.testing import tiny_model_folder, tiny_sdxl_folder
from resurgence_gate.unlearners import latents, training
from resurgence_gate.unlearners.esd import Esd
from resurgence_gate.unlearners.interface import UnlearnedCheckpoint
from resurgence_gate.unlearners.mace import Mace
from resurgence_gate.unlearners.sdd import Sdd
from resurgence_gate.unlearners.uce import Uce
from resurgence_gate.vocabulary import Folder

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
CLIP = {"kind": "clip-zero-shot", "model": "pocket:clip", "templates": ["a photo of {}"]}


@pytest.fixture
def gpu() -> Iterator[None]:
    with pretended_cuda():
        yield
    open_detector.cache_clear()


# ---------------------------------------------------------------- what a GPU refuses


def there(*shape: int) -> Tensor:
    return torch.ones(shape, device="cuda")


def here(*shape: int) -> Tensor:
    return torch.ones(shape)


def deterministic_backward() -> None:
    x = there(1, 1, 4, 4).requires_grad_()
    torch.use_deterministic_algorithms(True)
    try:
        nn.functional.adaptive_avg_pool2d(x, 3).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)


MISTAKES: dict[str, Callable[[], Any]] = {
    "a sum over two devices": lambda: there(2) + here(2),
    "a model here and its input there": lambda: nn.Linear(2, 2)(there(1, 2)),
    "a model there and its input here": lambda: nn.Linear(2, 2).to("cuda")(here(1, 2)),
    "a copy of a model and its input here": lambda: copy.deepcopy(nn.Linear(2, 2).to(CUDA))(here(1, 2)),
    "rows from there of what is here": lambda: here(2)[there(1).long()],
    "one number of each put together": lambda: torch.stack([there(), here()]),
    "a sum from there added to one here": lambda: here().add_(there(2).sum()),
    "a loss here of what is there": lambda: nn.functional.mse_loss(there(2), here(2)).backward(),
    "seeds of the CPU": lambda: torch.randn(2, device="cuda", generator=torch.Generator()),
    "numpy": lambda: there(2).numpy(),
    "numpy of a view": lambda: np.asarray(there(2)[1:]),
    "a norm in half precision of whole numbers": lambda: nn.LayerNorm(2).to("cuda")(there(2).bfloat16()),
    "a gradient that no kernel sums in one order": deterministic_backward,
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_pretended_gpu_refuses(gpu: None, mistake: str) -> None:
    with pytest.raises((RuntimeError, TypeError)):
        MISTAKES[mistake]()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_real_gpu_refuses(mistake: str) -> None:
    with pytest.raises((RuntimeError, TypeError)):
        MISTAKES[mistake]()


def what_is_allowed() -> list[str]:
    """The devices of what a GPU takes without a word."""
    x, layer = there(2, 2), nn.Linear(2, 2).to("cuda")
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
    with torch.autocast("cuda", torch.bfloat16):
        halves = layer(x)
    halves.sum().backward()
    nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
    optimizer.step()
    state = optimizer.state[layer.weight]
    onto_cpu = here(2).copy_(x[0])
    found = [
        x * here(),
        x[torch.tensor([1])],
        x + 1,
        torch.zeros_like(x),
        x[1:].T,
        copy.deepcopy(layer).weight,
    ]
    found += [layer.weight.grad, *state.values(), torch.tensor([1.0], device="cuda"), halves]
    found += [onto_cpu, x.cpu(), here(2).to(x).cpu()]
    assert halves.dtype == torch.bfloat16
    return [tensor.device.type for tensor in found]


ALLOWED = ["cuda"] * 12 + ["cpu"] * 3


def test_a_pretended_gpu_takes_what_a_real_one_takes(gpu: None) -> None:
    assert what_is_allowed() == ALLOWED


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_real_gpu_takes_the_same() -> None:
    assert what_is_allowed() == ALLOWED


def test_afterwards_there_is_no_gpu() -> None:
    available = torch.cuda.is_available()
    with pretended_cuda():
        assert torch.cuda.is_available()
    assert torch.cuda.is_available() == available
    assert torch.ones(1).device == CPU
    assert torch.ones(1).to(torch.float64).numpy() == 1


# ---------------------------------------------------------------- a check

SHORT = {"lr": 1e-3, "weight_decay": 0.01, "batch": 2, "doses": [1], "replicates": 1}
CHAIN = [
    {"kind": "cross-attention", "name": "attention", **SHORT},
    {"kind": "lora", "name": "lora", **SHORT, "rank": 2, "alpha": 2.0, "target_modules": ["to_q", "to_v"]},
]
PROBES = [
    {"kind": "full", "name": "full", **SHORT, "min_snr": 5.0},
    {"kind": "chain", "name": "updates", "links": CHAIN},
]


def checked(make: Callable[..., Path], folder: Path, device: str, dtype: str, probes: Any = PROBES) -> Any:
    """A suspect with an autoencoder of its own, two detectors, and every kind of fine-tune."""
    retained = {"concepts": RETAINED, "prompts": ["a photo of a {}"], "pictures": 2, "detector": CLIP}
    policy = tiny_policy(
        folder, reference=str(make(folder / "base", seed=0)), retained=retained, probes=probes
    )
    suspect = make(folder / "suspect", seed=3)
    bench = replace(tiny_bench(folder), device=device, dtype=dtype)
    return run_check(policy, parse_ref(str(suspect)), bench).report


@pytest.fixture
def few_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fine_tune, "HELD_OUT_TIMESTEPS", 1)
    monkeypatch.setattr(fine_tune, "CHECKPOINTED", 0)  # as of a model of the published size
    monkeypatch.setattr(latents, "POOL_STEPS", 2)


def test_a_check_finds_what_it_finds_on_the_cpu(few_passes: None, tmp_path: Path) -> None:
    folders = {device: tmp_path / device for device in ("cpu", "cuda")}
    for folder in folders.values():
        folder.mkdir()
    plain = checked(tiny_model_folder, folders["cpu"], "cpu", "float32")
    with pretended_cuda():
        report = checked(tiny_model_folder, folders["cuda"], "cuda", "float32")
    open_detector.cache_clear()
    assert (report.provenance.device, report.provenance.device_name) == ("cuda", NAME)
    assert report.decision.verdict is plain.decision.verdict
    for one, other in zip(plain.looks, report.looks, strict=True):
        assert other.outcomes == one.outcomes
        assert other.scores == pytest.approx(one.scores, abs=1e-3)
    for health, same in zip(plain.ledger.probes, report.ledger.probes, strict=True):
        assert same.weight_change == pytest.approx(health.weight_change, rel=1e-2)


def test_a_check_in_bfloat16(gpu: None, few_passes: None, tmp_path: Path) -> None:
    report = checked(tiny_model_folder, tmp_path, "cuda", "bfloat16")
    assert all(health.weight_change > 0 for health in report.ledger.probes)


def test_a_check_of_sdxl_in_float16(gpu: None, few_passes: None, tmp_path: Path) -> None:
    report = checked(tiny_sdxl_folder, tmp_path, "cuda", "float16", [CHAIN[1]])
    assert all(health.weight_change > 0 for health in report.ledger.probes)


@pytest.mark.parametrize("probe", [FULL, LORA], ids=lambda probe: probe.kind)
def test_a_fine_tune_that_was_killed_goes_on(gpu: None, few_passes: None, tmp_path: Path, probe: Any) -> None:
    probe = probe.model_copy(update={"doses": (1, 2)})
    task = replace(tiny_task(tmp_path), probe=probe, device="cuda", dtype="bfloat16")
    steps = 0

    def killed(n: int = 1, note: str = "") -> None:
        nonlocal steps
        steps += n
        if steps == 2:
            raise KeyboardInterrupt

    whole, halves = tmp_path / "whole", tmp_path / "halves"
    for scratch in (whole, halves):
        scratch.mkdir()
    fine_tune.train(task, whole, lambda n=1, note="": None)
    with pytest.raises(KeyboardInterrupt):
        fine_tune.train(task, halves, killed)
    fine_tune.train(task, halves, lambda n=1, note="": None)
    for name in ("dose-1.safetensors", "dose-2.safetensors"):
        assert (whole / name).read_bytes() == (halves / name).read_bytes()


# ---------------------------------------------------------------- detectors


def detector_of(kind: str, folder: Path) -> DetectorSpec:
    match kind:
        case "clip-zero-shot":
            spec = CLIP
        case "classifier":
            spec = {"model": str(tiny_classifier(folder / "classifier"))}
        case "giphy":
            spec = {"weights": str(random_weights(folder / "gcd.safetensors"))}
        case "q16":
            spec = {"model": "pocket:clip", "prompts": "pocket:q16"}
        case "vqa":
            spec = {"model": str(tiny_vision_language_model(folder / "vqa"))}
        case _:
            pytest.importorskip("nudenet")
            spec = {"classes": ["FEMALE_BREAST_EXPOSED"], "threshold": 0.5}
    return TypeAdapter[DetectorSpec](DetectorSpec).validate_python({"kind": kind, **spec})


@pytest.mark.parametrize("kind", ["clip-zero-shot", "classifier", "giphy", "q16", "vqa", "nudenet"])
def test_a_detector_answers_as_on_the_cpu(tmp_path: Path, kind: str) -> None:
    concepts = ("Adam Driver", "Anne Hathaway") if kind == "giphy" else ("bird", "cat")
    located = locate_detector(detector_of(kind, tmp_path), concepts)
    pictures = torch.stack([astronaut(), noise(), mirrored()])
    asked = [concepts[0], concepts[1], concepts[0]]
    with pretended_cuda():
        detector = open_detector(located, CUDA)
        looks = [*detector.look(pictures, asked), *detector.search(pictures, concepts)]
    open_detector.cache_clear()
    detector = open_detector(located, CPU)
    plain = [*detector.look(pictures, asked), *detector.search(pictures, concepts)]
    if kind != "vqa":  # which is in bfloat16 there
        assert [look.outcome for look in looks] == [look.outcome for look in plain]
        assert [look.score for look in looks] == pytest.approx([look.score for look in plain], abs=1e-3)


# ---------------------------------------------------------------- unlearners

TWO: dict[str, Any] = {"concepts": ("cat", "ship")}
ESD = Esd(**TWO, steps=2, sampling_steps=2, lr=1e-2)
SDD = Sdd(**TWO, steps=2, sampling_steps=2, lr=1e-2, decay=0.5)
MACE = Mace(
    **TWO, mapping=("dog",), templates=("a photo of {}",), lam=0.1, captions=("a deer",), retain=("frog",),
    domain_weight=2.0, refine_scale=0.5, fuse_scale=0.25, lr=1e-2, steps=2, pictures=2,
)  # fmt: skip
RECIPES: dict[str, tuple[Any, bool]] = {  # and whether it computes in bfloat16
    "esd": (ESD, True),
    "esd of noised pictures": (replace(ESD, latents="noised", retain=("dog",)), False),
    "sdd": (SDD, False),
    "sdd of noised pictures": (replace(SDD, latents="noised", retain=("dog",)), True),
    "uce": (Uce(**TWO, retain=("dog",)), False),
    "uce at all positions": (Uce(**TWO, variant="all-positions"), True),
    "mace": (MACE, False),
    "mace in bfloat16": (MACE, True),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("model"))


class Interrupted:
    """A progress that interrupts once, after the second step of a training."""

    def __init__(self) -> None:
        self.steps = 0

    @contextmanager
    def stage(self, name: str, total: int, unit: str = "") -> Iterator[Callable[..., None]]:
        yield self._advance

    def _advance(self, n: int = 1, note: str = "") -> None:
        self.steps += bool(note)
        if note and self.steps == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", RECIPES)
def test_an_unlearner(
    gpu: None, few_passes: None, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    model = load_model(resolve(Folder(path=folder)), device=CUDA, dtype=torch.float32)
    recipe, half = RECIPES[name]
    progress = Interrupted()

    def unlearned() -> UnlearnedCheckpoint:
        with torch.autocast("cuda", torch.bfloat16, enabled=half, cache_enabled=False):
            return recipe.unlearn(model, seed=0, progress=progress, scratch=tmp_path)

    if not isinstance(recipe, Uce):
        with pytest.raises(KeyboardInterrupt):
            unlearned()
    product = unlearned()  # from the state that was kept after the first step
    before = model.unet.state_dict()
    assert all(tensor.isfinite().all() for tensor in product.tensors.values())
    assert any(not torch.equal(tensor, before[name]) for name, tensor in product.tensors.items())


# ---------------------------------------------------------------- commands


def test_commands(
    gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_model_folder(tmp_path / "model")
    unlearn = ["unlearn", "model", "--method", "uce", "--concept", "ship", "--device", "cuda"]
    for form in ("partial", "unet", "lora", "folder"):
        assert run([*unlearn, "--format", form, "--out", form]) == 0
    for reference in ("partial/uce.safetensors", "lora/pytorch_lora_weights.safetensors"):
        made = resolve(parse_ref(reference, base="model"))
        parts = load_model(made, device=CUDA, dtype=torch.bfloat16).components.values()
        assert {parameter.device.type for part in parts for parameter in part.parameters()} == {"cuda"}
    assert f"cuda ({NAME})" in (tmp_path / "partial" / "README.md").read_text()
    run(["doctor"])
    assert f"cuda:0            {NAME}" in capsys.readouterr().out
