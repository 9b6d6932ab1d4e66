"""Every verdict that the README promises, by the shipped policy as it is: a Markdown table.

python benchmarks/verdicts.py [--store DIR] [--out FILE]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import torch
from safetensors.torch import save_file

from resurgence_gate.checkpoints.pipeline import load_unet
from resurgence_gate.checkpoints.ref import parse_ref
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.cli.verdicts import EXIT_CODES
from resurgence_gate.execution.interface import SilentProgress
from resurgence_gate.execution.local import LocalExecutor
from resurgence_gate.gate import run_check
from resurgence_gate.observe import Bench
from resurgence_gate.pocket.build.erase import MODELS
from resurgence_gate.policy.load import load_policy
from resurgence_gate.policy.schema import Policy
from resurgence_gate.store.folder import Store, default_store
from resurgence_gate.vocabulary import CheckpointRef, Verdict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    store = Store(arguments.store) if arguments.store else default_store()
    bench = Bench(
        store=store,
        device="cpu",
        dtype="float32",
        progress=SilentProgress(),
        executor=LocalExecutor(),
        now=lambda: datetime.now(UTC),
    )
    lines = ["| model | verdict | exit code | decided by | in a sentence |", "|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as scratch:
        for name, ref, policy in cases(Path(scratch)):
            started = time.monotonic()
            decision = run_check(policy, ref, bench).report.decision
            deciding = ", ".join(f"[{r}](docs/rules.md)" for r in decision.decided_by)
            rules = "[every rule holds](docs/rules.md)" if decision.verdict is Verdict.PASS else deciding
            code = EXIT_CODES[decision.verdict]
            sentence = decision.sentence.removeprefix(f"{decision.verdict}: ")
            lines.append(f"| {name} | {decision.verdict} | {code} | {rules} | {sentence} |")
            print(f"{name}: {decision.verdict}, {time.monotonic() - started:.0f} s", flush=True)
    page = "\n".join(lines) + "\n"
    print(page)
    if arguments.out:
        arguments.out.write_text(page)


def cases(scratch: Path) -> list[tuple[str, CheckpointRef, Policy]]:
    policy = load_policy("pocket")
    blind = policy.model_copy(update={"detector": policy.detector.model_copy(update={"threshold": 1.0})})
    return [
        *(
            (f"`pocket:{name}`", parse_ref(f"pocket:{name}"), policy)
            for name in MODELS
            if not name.endswith("-tasks")
        ),
        ("`pocket:base`, never erased", parse_ref("pocket:base"), policy),
        ("a UNet of random weights", random_unet(scratch / "random.safetensors"), policy),
        ("`pocket:esd` under a detector that never says yes", parse_ref("pocket:esd"), blind),
    ]


def random_unet(file: Path) -> CheckpointRef:
    unet = load_unet(resolve(parse_ref("pocket:base")), device=torch.device("cpu"), dtype=torch.float32)
    g = torch.Generator().manual_seed(0)
    state = unet.state_dict()
    save_file(
        {k: torch.randn(v.shape, generator=g) * v.std().nan_to_num(0.02) for k, v in state.items()}, file
    )
    return parse_ref(str(file), base="pocket:base")


if __name__ == "__main__":
    main()
