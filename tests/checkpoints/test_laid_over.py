"""What is laid over a base draws what diffusers and transformers draw with the same file, or is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from resurgence_gate.checkpoints import parse_ref, resolve
from resurgence_gate.checkpoints.pipeline import DiffusionModel, load_model, to_pipeline
from resurgence_gate.errors import RefusedCheckpoint
from resurgence_gate.testing import tiny_sdxl_folder
from resurgence_gate.vocabulary import Access, Checkpoint, Folder

UNET = "unet/diffusion_pytorch_model.safetensors"
ENCODER = "text_encoder/model.safetensors"
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]


@pytest.fixture
def lay(tiny: Path, tmp_path: Path) -> Callable[[Path], Checkpoint]:
    def laid(file: Path, base: Path = tiny) -> Checkpoint:
        access = Access(converted=tmp_path / "store")
        return resolve(parse_ref(str(file), base=str(base)), access)

    return laid


def loaded(checkpoint: Checkpoint) -> DiffusionModel:
    return load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)


def read_metadata(file: Path) -> dict[str, str]:
    with safe_open(file, framework="pt") as opened:
        return opened.metadata() or {}


def drawn(pipeline: Any) -> Tensor:
    pipeline.set_progress_bar_config(disable=True)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    given = {"num_inference_steps": 3, "latents": latents, "output_type": "pt"}
    pictures: Tensor = pipeline("a cat", **given).images
    return pictures


def base_pipeline(tiny: Path) -> Any:
    return to_pipeline(loaded(resolve(parse_ref(str(tiny)))))


def adapted(tiny: Path, *, rank: int = 3, alpha: float = 3, seed: int = 0, **options: Any) -> Any:
    """The base with a LoRA on its UNet and its text encoder, both factors random."""
    pipeline = base_pipeline(tiny)
    config = {"r": rank, "lora_alpha": alpha, "init_lora_weights": False, **options}
    torch.manual_seed(seed)
    pipeline.unet.add_adapter(LoraConfig(target_modules=TARGETS, **config))
    inject_adapter_in_model(LoraConfig(target_modules=["q_proj", "v_proj"], **config), pipeline.text_encoder)
    return pipeline


def as_diffusers(pipeline: Any, file: Path) -> None:
    unet, encoder = pipeline.unet, pipeline.text_encoder
    pipeline.save_lora_weights(
        file.parent,
        unet_lora_layers=get_peft_model_state_dict(unet),
        text_encoder_lora_layers=get_peft_model_state_dict(encoder),
        weight_name=file.name,
        unet_lora_adapter_metadata=unet.peft_config["default"].to_dict(),
        text_encoder_lora_adapter_metadata=encoder.peft_config["default"].to_dict(),
    )


def as_kohya(pipeline: Any, file: Path) -> None:
    tensors: dict[str, Tensor] = {}
    for prefix, part in (("lora_unet_", pipeline.unet), ("lora_te_", pipeline.text_encoder)):
        for name, tensor in get_peft_model_state_dict(part).items():
            module, factor = name.removesuffix(".weight").rsplit(".lora_", 1)
            if prefix == "lora_te_" and not module.startswith("text_model."):
                module = f"text_model.{module}"
            key = prefix + module.replace(".", "_")
            tensors[f"{key}.lora_{ {'A': 'down', 'B': 'up'}[factor] }.weight"] = tensor.contiguous()
            tensors[f"{key}.alpha"] = torch.tensor(float(part.peft_config["default"].lora_alpha))
    save_file(tensors, file)


@pytest.mark.parametrize("alpha", [3, 7.5])
@pytest.mark.parametrize("write", [as_diffusers, as_kohya])
def test_a_lora_draws_what_peft_draws_with_it(
    write: Callable[[Any, Path], None],
    alpha: float,
    tiny: Path,
    tmp_path: Path,
    lay: Callable[..., Checkpoint],
) -> None:
    file = tmp_path / "lora.safetensors"
    theirs = adapted(tiny, alpha=alpha)
    write(theirs, file)
    expected = drawn(theirs)
    assert not torch.allclose(drawn(base_pipeline(tiny)), expected, atol=1e-3)
    checkpoint = lay(file)
    assert {overlay.component for overlay in checkpoint.overlays} == {"unet", "text_encoder"}
    torch.testing.assert_close(drawn(to_pipeline(loaded(checkpoint))), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("write", [as_diffusers, as_kohya])
def test_a_lora_of_the_unet_is_what_diffusers_loads(
    write: Callable[[Any, Path], None], tiny: Path, tmp_path: Path, lay: Callable[..., Checkpoint]
) -> None:
    file = tmp_path / "lora.safetensors"
    write(adapted(tiny, alpha=7.5), file)
    tensors = load_file(file)
    metadata = read_metadata(file)
    save_file({key: t for key, t in tensors.items() if "unet" in key}, file, metadata=metadata)
    theirs = base_pipeline(tiny)
    theirs.load_lora_weights(tmp_path, weight_name=file.name)
    torch.testing.assert_close(drawn(to_pipeline(loaded(lay(file)))), drawn(theirs), atol=1e-4, rtol=0)


def test_a_lora_of_peft_takes_its_strength_from_the_file_beside_it(
    tiny: Path, tmp_path: Path, lay: Callable[..., Checkpoint]
) -> None:
    pipeline = adapted(tiny, rank=2, alpha=8, use_rslora=True)
    state = get_peft_model_state_dict(pipeline.unet)
    file = tmp_path / "adapter_model.safetensors"
    save_file({f"base_model.model.{key}": tensor.contiguous() for key, tensor in state.items()}, file)
    with pytest.raises(RefusedCheckpoint, match=r"nothing says how strongly .* is added"):
        lay(file)
    config = {"r": 2, "lora_alpha": 8, "use_rslora": True, "target_modules": TARGETS}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    checkpoint = lay(file)
    pipeline.unet.fuse_lora()
    fused = {
        name.replace(".base_layer", ""): t
        for name, t in pipeline.unet.state_dict().items()
        if "lora" not in name
    }
    ours = loaded(checkpoint).unet.state_dict()
    for name, tensor in fused.items():
        torch.testing.assert_close(ours[name], tensor, atol=1e-5, rtol=1e-5)
    assert [f.name for o in checkpoint.overlays for f in o.published] == [file.name, "adapter_config.json"]
    weaker = json.dumps(config | {"lora_alpha": 4})
    (tmp_path / "adapter_config.json").write_text(weaker)
    assert lay(file).digest != checkpoint.digest


def test_a_lora_of_zeros_is_the_base(tiny: Path, tmp_path: Path, lay: Callable[..., Checkpoint]) -> None:
    pipeline = adapted(tiny)
    as_kohya(pipeline, tmp_path / "l.safetensors")
    tensors = load_file(tmp_path / "l.safetensors")
    up = {key: tensor * ("lora_up" not in key) for key, tensor in tensors.items()}
    save_file(up, tmp_path / "l.safetensors")
    checkpoint = lay(tmp_path / "l.safetensors")
    torch.testing.assert_close(
        drawn(to_pipeline(loaded(checkpoint))), drawn(base_pipeline(tiny)), atol=0, rtol=0
    )
    assert all("it changes nothing" in note for note in checkpoint.notes[-2:])


def harmed(tensors: dict[str, Tensor], how: str) -> dict[str, Tensor]:
    down = next(key for key in tensors if key.endswith("lora_down.weight"))
    match how:
        case "nan":
            return tensors | {down: tensors[down] * torch.nan}
        case "shape":
            return tensors | {down: torch.zeros(3, 5)}
        case "half a pair":
            return {key: tensor for key, tensor in tensors.items() if key != down}
        case "dora":
            return tensors | {down.replace("lora_down.weight", "dora_scale"): torch.ones(4)}
        case "a stranger":
            name = "lora_unet_down_blocks_9_attn2_to_k"
            return tensors | {f"{name}.lora_{f}.weight": torch.zeros(3, 3) for f in ("up", "down")}
        case "all strangers":
            return {key.replace("lora_", "lora_unet_x", 1): tensor for key, tensor in tensors.items()}
    raise AssertionError(how)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("nan", "gives NaN or infinite values"),
        ("shape", "is a LoRA for a weight of shape [16, 5], in the base [16, 16]"),
        ("half a pair", "modules are of the base, and 2 names are not"),
        ("dora", "names are not: lora_"),
        ("a stranger", "1 names are not: lora_unet_down_blocks_9_attn2_to_k"),
        ("all strangers", "a LoRA for another model"),
    ],
)
def test_a_lora_that_is_not_wholly_of_the_base_is_refused(
    how: str, says: str, tiny: Path, tmp_path: Path, lay: Callable[..., Checkpoint]
) -> None:
    file = tmp_path / "l.safetensors"
    as_kohya(adapted(tiny), file)
    save_file(harmed(load_file(file), how), file)
    with pytest.raises(RefusedCheckpoint) as raised:
        lay(file)
    assert says in str(raised.value)
    assert str(file) in str(raised.value)


def test_a_lora_with_two_strengths_is_refused(
    tiny: Path, tmp_path: Path, lay: Callable[..., Checkpoint]
) -> None:
    """Who takes the alphas has another model than who takes the header."""
    file = tmp_path / "l.safetensors"
    as_kohya(adapted(tiny, rank=3, alpha=3), file)
    for alpha in (3, 0.0003):
        said = {
            f"{part}.{key}": n
            for part in ("unet", "text_encoder")
            for key, n in (("r", 3), ("lora_alpha", alpha))
        }
        save_file(load_file(file), file, metadata={"lora_adapter_metadata": json.dumps(said)})
        if alpha == 3:
            lay(file)
        else:
            with pytest.raises(RefusedCheckpoint, match=r"two strengths are told for lora_.*: 1, 0\.0001 "):
                lay(file)


def test_a_lora_is_merged_once(
    tiny: Path, tmp_path: Path, lay: Callable[..., Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "l.safetensors"
    as_kohya(adapted(tiny), file)
    first = lay(file)
    monkeypatch.setattr("resurgence_gate.checkpoints.merged._write", None)
    assert lay(file) == first


def test_an_order_of_words_that_only_older_libraries_read_is_refused(
    tiny: Path, model: Path, tmp_path: Path, lay: Callable[..., Checkpoint]
) -> None:
    name, tensors = "text_model.embeddings.position_ids", load_file(tiny / ENCODER)
    for order in (torch.arange(24).flip(0), torch.zeros(1, 24), torch.arange(24) - 0.01):
        save_file(tensors | {name: order}, tmp_path / "encoder.safetensors")
        save_file(tensors | {name: order}, model / ENCODER)
        for read in (lambda: lay(tmp_path / "encoder.safetensors"), lambda: resolve(Folder(path=model))):
            with pytest.raises(RefusedCheckpoint, match="position_ids' does not count 0, 1, 2"):
                read()
    save_file(tensors | {name: torch.arange(24.0)[None]}, model / ENCODER)
    resolve(Folder(path=model))


@pytest.mark.parametrize("prefix", ["", "text_model.", "text_encoder.text_model."])
@pytest.mark.parametrize("part", [False, True])
def test_a_text_encoder_alone(
    prefix: str, part: bool, tiny: Path, tmp_path: Path, lay: Callable[..., Checkpoint]
) -> None:
    tensors = {
        prefix + key.removeprefix("text_model."): tensor + 0.1
        for key, tensor in load_file(tiny / ENCODER).items()
        if not part or "layers.0.self_attn" in key
    }
    file = tmp_path / "encoder.safetensors"
    save_file(tensors | {f"{prefix}embeddings.position_ids": torch.arange(77)}, file)
    checkpoint = lay(file)
    (overlay,) = checkpoint.overlays
    assert overlay.component == "text_encoder"
    theirs = base_pipeline(tiny)
    state = theirs.text_encoder.state_dict()
    short = {key.removeprefix("text_model."): key for key in state}
    with torch.no_grad():
        for key, tensor in tensors.items():
            state[short[key.removeprefix(prefix)]].copy_(tensor)
    torch.testing.assert_close(drawn(to_pipeline(loaded(checkpoint))), drawn(theirs), atol=0, rtol=0)
    assert f"{len(tensors)} of them differ" in checkpoint.notes[-1]
    assert ("all tensors of the text encoder" in checkpoint.notes[-1]) is not part


def test_sdxl_text_encoders_are_told_apart(tmp_path: Path, lay: Callable[..., Checkpoint]) -> None:
    xl = tiny_sdxl_folder(tmp_path / "xl")
    for component in ("text_encoder", "text_encoder_2"):
        file = tmp_path / f"{component}.safetensors"
        save_file({key: t + 0.1 for key, t in load_file(xl / component / "model.safetensors").items()}, file)
        (overlay,) = lay(file, xl).overlays
        assert overlay.component == component


def test_layers_stack_and_the_last_one_wins(tiny: Path, tmp_path: Path) -> None:
    """A LoRA over an edited UNet is added to the edited weights."""
    edited = {key: t + 0.2 for key, t in load_file(tiny / UNET).items() if "attn2.to_k" in key}
    save_file(edited, tmp_path / "edit.safetensors")
    as_kohya(adapted(tiny), tmp_path / "lora.safetensors")
    access = Access(converted=tmp_path / "store")
    plain = parse_ref(str(tmp_path / "lora.safetensors"), base=str(tiny))
    below = parse_ref(str(tmp_path / "edit.safetensors"), base=str(tiny))
    stacked = loaded(resolve(replace(plain, base=below), access)).unet.state_dict()  # type: ignore[type-var]
    alone = loaded(resolve(plain, access)).unet.state_dict()
    for key in edited:
        torch.testing.assert_close(stacked[key], alone[key] + 0.2, atol=1e-5, rtol=0)
