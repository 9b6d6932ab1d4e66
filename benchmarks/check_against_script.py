"""`resurgence-gate check` against the script that a user would write today, side by side in one run.

    python benchmarks/check_against_script.py --size pocket|sd14|sd21|tiny --device cpu|cuda [--out FILE]
        [--repeats N] [--gate-only]

The script makes the same pictures (prompts and seeds) and takes the same number of training steps: stock
`StableDiffusionPipeline` calls prompt by prompt, a training loop after diffusers' `train_text_to_image.py` (pictures
and captions encoded in every step), PNG files between the stages, the detector picture by picture. The two take turns;
each run is a process of its own and starts from an empty store.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=["pocket", "sd14", "sd21", "tiny"], default="pocket")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument(
        "--gate-only", action="store_true", help="its seconds a stage, without the comparison"
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", choices=["gate", "script"])
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    if arguments.worker:
        run = run_gate if arguments.worker == "gate" else run_script
        print(json.dumps(run(arguments.folder, arguments.device)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(folder, arguments.size)
        workers = ("gate",) if arguments.gate_only else ("gate", "script")
        rows: dict[str, list[dict[str, Any]]] = {worker: [] for worker in workers}
        for _ in range(arguments.repeats):
            for worker in rows:
                rows[worker].append(measured(worker, folder, arguments.device))
                write(rows, arguments)  # after each, so that a run that is cut short leaves what it has
                print(worker, {k: v for k, v in rows[worker][-1].items() if k != "hits"}, flush=True)
    print(table(rows, arguments))


def write(rows: dict[str, list[dict[str, Any]]], arguments: argparse.Namespace) -> None:
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(table(rows, arguments))


def measured(worker: str, folder: Path, device: str) -> dict[str, Any]:
    """Wall and CPU seconds and peak memory of one worker process, and what it counted."""
    command = [sys.executable, __file__, "--worker", worker, "--folder", str(folder), "--device", device]
    output, took = peak.measured(command)
    return took | json.loads(output.splitlines()[-1])


def table(rows: dict[str, list[dict[str, Any]]], arguments: argparse.Namespace) -> str:
    """Medians side by side, and the ratio of each pair."""
    import torch

    where = torch.cuda.get_device_name() if arguments.device == "cuda" else f"{os.cpu_count()} cores"
    lines = [
        f"# check against a script: {arguments.size} on {arguments.device}",
        "",
        f"`python benchmarks/check_against_script.py --size {arguments.size} --device {arguments.device} "
        f"--repeats {arguments.repeats}`, {platform.machine()}, {where}, torch {torch.__version__}.",
        "",
    ]
    names = (
        ("wall_s", "wall, s"),
        ("cpu_s", "CPU, s"),
        ("peak_mb", "peak memory, MB"),
        ("device_mb", "peak device memory, MB"),
    )
    if rows.get("script"):
        lines += ["| figure | gate | script | script / gate |", "|---|---|---|---|"]
        for key, name in names:
            gate, script = ([row[key] for row in rows[w]] for w in ("gate", "script"))
            ratio = statistics.median(s / g if g else 0 for g, s in zip(gate, script, strict=False))
            if any(gate):
                lines.append(
                    f"| {name} | {statistics.median(gate):.1f} | {statistics.median(script):.1f} | {ratio:.2f} |"
                )
    else:
        lines += ["| figure | gate |", "|---|---|"]
        lines += [
            f"| {name} | {statistics.median(row[key] for row in rows['gate']):.1f} |" for key, name in names
        ]
    lines += ["", "Where the gate's time goes:", "", "| stage | units | s |", "|---|---|---|"]
    for stage, (units, seconds) in rows["gate"][-1]["stages"].items():
        lines.append(f"| {stage} | {units} | {seconds:.1f} |")
    if rows.get("script"):
        lines += ["", "What both counted (pictures in which the erased concepts are seen, by arm):", ""]
        lines += ["| arm | gate | script |", "|---|---|---|"]
        gate, script = rows["gate"][-1]["hits"], rows["script"][-1]["hits"]
        lines += [f"| {arm} | {gate[arm]} | {script.get(arm)} |" for arm in gate]
    return "\n".join(lines) + "\n"


def prepare(folder: Path, size: str) -> None:
    """Write `policy.json` and `suspect` (a reference string) for this size."""
    from resurgence_gate.policy.load import load_policy

    policy = load_policy("pocket").model_dump(mode="json")
    suspect, full = "pocket:esd", {"sd14": 512, "sd21": 768}.get(size)
    if size != "pocket":
        names = {
            "erased": ["automobile", "ship"],
            "retained": ["bird", "cat"],
            "benign": ["deer", "dog"],
        }
        for part, concepts in names.items():
            policy[part] |= {"concepts": concepts, "pictures": 8 if full else 2}
        policy["detector"]["model"] = str(folder / "classifier")
        policy["reference"] = suspect = str(folder / "model")
        policy["sampler"] |= {"steps": 20, "size": full} if full else {"steps": 2, "size": 16}
        policy["probes"][0] |= {"doses": [10, 20] if full else [1, 2], "batch": 4, "lr": 1e-5}
        from full_size import model_folder, random_classifier

        if full:
            model_folder(folder / "model", size)
        else:
            from resurgence_gate.testing import tiny_model_folder

            tiny_model_folder(folder / "model")
        random_classifier(folder / "classifier", [n for part in names.values() for n in part])
    (folder / "policy.json").write_text(json.dumps(policy))
    (folder / "suspect").write_text(suspect)


def run_gate(folder: Path, device: str) -> dict[str, Any]:
    """The gate's own walk, from an empty store."""
    from datetime import UTC, datetime

    from resurgence_gate.checkpoints.ref import parse_ref
    from resurgence_gate.execution.local import LocalExecutor
    from resurgence_gate.gate import run_check
    from resurgence_gate.observe import Bench
    from resurgence_gate.policy.schema import Policy
    from resurgence_gate.store.folder import Store

    policy = Policy.model_validate_json((folder / "policy.json").read_text())
    stopwatch = Stopwatch()
    with tempfile.TemporaryDirectory() as store:
        bench = Bench(
            store=Store(Path(store)),
            device=device,
            dtype="float32" if device == "cpu" else "bfloat16",
            progress=stopwatch,
            executor=LocalExecutor(),
            now=lambda: datetime.now(UTC),
        )
        check = run_check(policy, parse_ref((folder / "suspect").read_text()), bench)
    hits = {"reference": _hits(check.control, policy), "before": _hits(check.before, policy)}
    hits |= {f"after {arm.dose}": _hits(seen, policy) for arm, seen in check.after.items()}
    return {"hits": hits, "device_mb": _device_mb(device), "stages": stopwatch.stages}


class Stopwatch:
    """A progress that keeps the units and seconds of every stage."""

    def __init__(self) -> None:
        self.stages: dict[str, tuple[int, float]] = {}

    @contextmanager
    def stage(self, name: str, total: int, unit: str = "") -> Iterator[Any]:
        started = time.monotonic()
        yield lambda n=1, note="": None
        self.stages[name] = (total, time.monotonic() - started)


def _hits(observation: Any, policy: Any) -> int:
    erased = set(policy.erased.concepts)
    return sum(d.outcome == "present" and d.sample.draw.concept in erased for d in observation.detections)


def run_script(folder: Path, device: str) -> dict[str, Any]:
    """What a user would script: see the module's docstring."""
    import torch
    import torch.nn.functional as F
    from diffusers import DDIMScheduler, DDPMScheduler, StableDiffusionPipeline
    from PIL import Image
    from torchvision.transforms.functional import hflip, pil_to_tensor
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    from resurgence_gate.checkpoints.pipeline import load_model, to_pipeline
    from resurgence_gate.checkpoints.pocket import pocket_folder
    from resurgence_gate.checkpoints.ref import parse_ref
    from resurgence_gate.checkpoints.resolve import resolve
    from resurgence_gate.draws import benign_draws, plan_draws
    from resurgence_gate.policy.schema import Policy

    policy = Policy.model_validate_json((folder / "policy.json").read_text())
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    name = policy.detector.model
    source = pocket_folder() / "detectors" / name[7:] if name.startswith("pocket:") else name
    processor = AutoImageProcessor.from_pretrained(source)
    classifier = AutoModelForImageClassification.from_pretrained(source).to(device).eval()
    draws = (*plan_draws(policy, policy.erased), *plan_draws(policy, policy.retained))

    def pipeline_of(ref: str, kind: torch.dtype) -> StableDiffusionPipeline:
        model = load_model(resolve(parse_ref(ref)), device=torch.device(device), dtype=kind)
        pipeline = to_pipeline(model)
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def look(pipeline: StableDiffusionPipeline, wanted: Any, out: Path) -> list[Path]:
        out.mkdir()
        files = []
        for i, draw in enumerate(wanted):
            generator = torch.Generator().manual_seed(draw.seed)
            image = pipeline(
                draw.prompt,
                num_inference_steps=policy.sampler.steps,
                guidance_scale=policy.sampler.guidance,
                height=policy.sampler.size,
                width=policy.sampler.size,
                generator=generator,
            ).images[0]
            image.save(out / f"{i:05}.png")
            files.append(out / f"{i:05}.png")
        return files

    @torch.no_grad()
    def count(files: list[Path]) -> int:
        seen = Counter()
        for draw, file in zip(draws, files, strict=True):
            logits = classifier(**processor(Image.open(file), return_tensors="pt").to(device)).logits
            label = classifier.config.id2label[int(logits.argmax())]
            seen[draw.concept in policy.erased.concepts and label == draw.concept] += 1
        return seen[True]

    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        reference = pipeline_of(policy.reference, dtype)
        hits = {"reference": count(look(reference, draws, work / "reference"))}
        benign = benign_draws(policy, policy.benign)
        benign_files = look(reference, benign, work / "benign")
        del reference
        suspect = (folder / "suspect").read_text()
        hits["before"] = count(look(pipeline_of(suspect, dtype), draws, work / "before"))

        probe = policy.probes[0]
        pipeline = pipeline_of(suspect, torch.float32)
        unet = pipeline.unet.requires_grad_(False).train()
        trained = [p for n, p in unet.named_parameters() if probe.kind == "full" or ".attn2." in n]
        for parameter in trained:
            parameter.requires_grad_(True)
        optimizer = torch.optim.AdamW(trained, lr=probe.lr, weight_decay=probe.weight_decay)
        scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
        kept = round(len(benign) * (1 - policy.benign.held_out))
        torch.manual_seed(0)
        for step in range(1, probe.doses[-1] + 1):
            rows = torch.randint(kept, (probe.batch,)).tolist()
            pictures = [pil_to_tensor(Image.open(benign_files[i]).convert("RGB")) for i in rows]
            pictures = [hflip(p) if torch.rand(()) < 0.5 else p for p in pictures]
            batch = (torch.stack(pictures).float() / 127.5 - 1).to(device)
            with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
                with torch.no_grad():
                    z = pipeline.vae.encode(batch).latent_dist.sample() * pipeline.vae.config.scaling_factor
                    ids = pipeline.tokenizer(
                        [benign[i].prompt for i in rows],
                        padding="max_length",
                        max_length=pipeline.tokenizer.model_max_length,
                        truncation=True,
                        return_tensors="pt",
                    ).input_ids
                    context = pipeline.text_encoder(ids.to(device))[0]
                noise = torch.randn_like(z)
                t = torch.randint(scheduler.config.num_train_timesteps, (len(rows),), device=device)
                predicted = unet(scheduler.add_noise(z, noise, t), t, context).sample
                loss = F.mse_loss(predicted.float(), noise.float())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if step in probe.doses:
                pipeline.save_pretrained(work / f"model-{step}")
                probed = StableDiffusionPipeline.from_pretrained(work / f"model-{step}", torch_dtype=dtype)
                probed.to(device).set_progress_bar_config(disable=True)
                hits[f"after {step}"] = count(look(probed, draws, work / f"after-{step}"))
    return {"hits": hits, "device_mb": _device_mb(device)}


def _device_mb(device: str) -> float:
    import torch

    return torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else 0.0


if __name__ == "__main__":
    main()
