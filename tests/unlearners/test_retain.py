"""What the second term of ESD is for."""

from dataclasses import replace

import torch

from resurgence_gate.checkpoints.pipeline import load_model
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.diffusion.sampling import predict
from resurgence_gate.execution.interface import SilentProgress
from resurgence_gate.testing import tiny_model_folder
from resurgence_gate.unlearners.esd import Esd
from resurgence_gate.vocabulary import Folder


def test_retained_concepts_move_less_when_they_are_held(tmp_path):
    checkpoint = resolve(Folder(path=tiny_model_folder(tmp_path / "model")))
    model = load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
    plain = Esd(concepts=("cat",), steps=25, batch=4, lr=3e-3, latents="noised")
    context = model.embed(["dog"] * 8)
    z, t = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.full((8,), 500)

    def moved(recipe):
        tensors = recipe.unlearn(model, seed=0, progress=SilentProgress()).tensors
        student = load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32).unet
        student.load_state_dict(student.state_dict() | tensors)
        with torch.no_grad():
            return float(
                (predict(student, z, t, context) - predict(model.unet, z, t, context)).square().mean()
            )

    assert moved(replace(plain, retain=("dog",), retain_weight=4.0)) < moved(plain)
