"""Laws of the benign fine-tune, on a tiny real model."""

import dataclasses
import pickle
import shutil
import subprocess
import sys
import weakref
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from fakes.fine_tunes import ATTENTION, FULL, LORA
from fakes.memory import Small
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from resurgence_gate.checkpoints.pipeline import load_model, load_unet
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.diffusion.attention import CROSS_ATTENTION, select
from resurgence_gate.errors import MeasurementError, ResourceError, UsageError
from resurgence_gate.execution.interface import SilentProgress
from resurgence_gate.probes import encoded as encoding
from resurgence_gate.probes import fine_tune as fine_tuning
from resurgence_gate.probes import run as publishing
from resurgence_gate.probes.encoded import encoded, encoded_key
from resurgence_gate.probes.fine_tune import _Run
from resurgence_gate.probes.interface import BenignSet
from resurgence_gate.probes.run import fine_tune, task_key
from resurgence_gate.store.folder import Store
from resurgence_gate.store.manifest import _known_whole
from resurgence_gate.store.versions import made_with
from resurgence_gate.vocabulary import Folder, LoadedFile, Overlay


def run(task):
    return fine_tune(task, SilentProgress())


def weights(probed, dose):
    unet = load_unet(dict(probed.checkpoints)[dose], device=torch.device("cpu"), dtype=torch.float32)
    return unet.state_dict()


def original(task):
    return load_unet(task.checkpoint, device=torch.device("cpu"), dtype=torch.float32)


@pytest.mark.parametrize("probe", [FULL, ATTENTION, LORA], ids=lambda p: p.kind)
def test_it_trains_what_it_names_and_nothing_else(task, probe):
    probed = run(dataclasses.replace(task, probe=probe))
    unet = original(task)
    before, after = unet.state_dict(), weights(probed, 4)
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert changed
    match probe.kind:
        case "cross-attention":
            assert changed <= set(select(unet, CROSS_ATTENTION))
        case "lora":
            assert all(".attn" in k and k.endswith("weight") for k in changed)
            deltas = [torch.linalg.matrix_rank(after[k] - before[k], rtol=1e-3) for k in changed]
            assert max(deltas) <= 2


def test_an_untrained_adapter_is_the_identity(task):
    from resurgence_gate.probes.trainable import changed_weights, make_trainable

    unet = original(task)
    before = {k: v.clone() for k, v in unet.state_dict().items()}
    make_trainable(unet, LORA, seed=0)
    merged = changed_weights(unet, LORA)
    assert merged
    assert all(torch.equal(merged[k], before[k]) for k in merged)


def test_a_dose_does_not_depend_on_the_doses_after_it(task, tmp_path):
    short = dataclasses.replace(task, probe=FULL.model_copy(update={"doses": (2,)}))
    long, alone = weights(run(task), 2), weights(run(short), 2)
    assert all(torch.equal(long[k], alone[k]) for k in long)


@pytest.mark.parametrize("probe", [FULL, LORA], ids=lambda p: p.kind)
def test_a_killed_run_goes_on_to_the_same_weights(task, probe, tmp_path):
    task = dataclasses.replace(task, probe=probe)
    other = dataclasses.replace(task, store=tmp_path / "other")
    for key, _ in task.data.parts:
        with Store(other.store).create(key) as folder:
            save_file(
                load_file(Store(task.store).find(key) / "pictures.safetensors"),
                folder / "pictures.safetensors",
            )
    expected = run(other)

    class Killer(SilentProgress):
        def stage(self, name, total):
            return _Dies()

    class _Dies:
        def __init__(self):
            self.steps = 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def __call__(self, n=1, note=""):
            self.steps += n
            if self.steps >= 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(task, Killer())
    assert Store(task.store).find(task_key(task)) is None
    resumed = run(task)
    assert resumed.health == expected.health
    a, b = weights(resumed, 4), weights(expected, 4)
    assert all(torch.equal(a[k], b[k]) for k in a)


class Killed(BaseException):
    pass


def killed_while_publishing(task, monkeypatch, after=1):
    put, done = publishing._put, []

    def until(file, place):
        if len(done) == after:
            raise Killed
        done.append(put(file, place))

    with monkeypatch.context() as patched:
        patched.setattr(publishing, "_put", until)
        with pytest.raises(Killed):
            run(task)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.values(), other.values(), strict=True))


def elsewhere(task, tmp_path):
    """The same task with a store that knows nothing of it but its data."""
    copied = shutil.copytree(task.store, tmp_path / "elsewhere")
    return dataclasses.replace(task, store=copied)


def test_killed_while_its_doses_are_published_it_goes_on(task, tmp_path, monkeypatch):
    whole = run(elsewhere(task, tmp_path))
    killed_while_publishing(task, monkeypatch)
    assert same(weights(run(task), 4), weights(whole, 4))


@pytest.mark.parametrize(
    "name", ["state-4.safetensors", "dose-2.safetensors", "dose-4.json", "manifest.json"]
)
@pytest.mark.parametrize("harm", ["truncated", "flipped", "removed"])
def test_what_is_damaged_in_scratch_is_trained_again(task, tmp_path, monkeypatch, caplog, name, harm):
    whole = run(elsewhere(task, tmp_path))
    killed_while_publishing(task, monkeypatch, after=0)
    (file,) = task.store.glob(f"scratch/*/{name}")
    content = file.read_bytes()
    match harm:
        case "truncated":
            file.write_bytes(content[:-3])
        case "flipped":
            file.write_bytes(content[:-3] + bytes(b ^ 1 for b in content[-3:]))
        case _:
            file.unlink()
    again = run(task)
    assert same(weights(again, 2), weights(whole, 2))
    assert same(weights(again, 4), weights(whole, 4))
    assert again.health == whole.health
    told = "is trained from the start" in caplog.text
    assert told is ((name, harm) != ("manifest.json", "removed"))  # without one nothing was finished


@pytest.mark.parametrize("name", ["dose-2.json", "dose-4.safetensors"])
def test_a_dose_that_is_lost_before_publication_is_worth_retrying(task, tmp_path, monkeypatch, name):
    whole, train = run(elsewhere(task, tmp_path)), fine_tuning.train

    def losing(task, scratch, advance):
        train(task, scratch, advance)
        (scratch / name).unlink()

    with monkeypatch.context() as patched:
        patched.setattr(fine_tuning, "train", losing)
        with pytest.raises(ResourceError, match=f"{name} is gone"):
            run(task)
    assert Store(task.store).find(task_key(task)) is None
    assert same(weights(run(task), 4), weights(whole, 4))


def test_a_kill_right_after_publishing_leaves_no_scratch_for_ever(task):
    run(task)
    left = task.store / "scratch" / task_key(task)
    left.mkdir(parents=True)
    (left / "state-4.safetensors").write_bytes(b"gigabytes")
    run(task)
    assert list(task.store.glob("scratch/*")) == []


OTHER = """
import pickle, sys
from contextlib import contextmanager
from resurgence_gate.probes.run import fine_tune

class Told:
    @contextmanager
    def stage(self, name, total):
        def advance(n=1, note=""):
            print("step", flush=True)
            if n:
                sys.stdin.readline()
        print(name, flush=True)
        yield advance

fine_tune(pickle.load(open(sys.argv[1], "rb")), Told())
"""


def test_of_two_processes_one_trains_and_the_other_waits_for_it(task, tmp_path, monkeypatch):
    (tmp_path / "task").write_bytes(pickle.dumps(task))
    command = [sys.executable, "-c", OTHER, str(tmp_path / "task")]
    stages = []

    class Watching(SilentProgress):
        @contextmanager
        def stage(self, name, total):
            stages.append(name)
            if "waiting" in name:
                monkeypatch.setattr(fine_tuning, "train", lambda *_: pytest.fail("trained twice"))
            yield entered(name)

    def entered(name):
        if "waiting" in name:
            other.stdin.close()  # it may go on
        return lambda n=1, note="": None

    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "probe p\n"
        assert other.stdout.readline() == "step\n"  # it trains, and holds still
        mine = fine_tune(task, Watching())
        other.stdin = None
        other.communicate(timeout=60)
    assert other.returncode == 0
    assert stages == ["probe p", "probe p: another check is at it, waiting"]
    assert same(weights(mine, 4), weights(run(task), 4))


def test_other_libraries_train_anew(task, monkeypatch):
    key = task_key(task)
    monkeypatch.setattr(publishing, "made_with", lambda: made_with() | {"torch": "99.0"})
    assert task_key(task) != key


def test_a_damaged_dose_is_trained_again_and_not_the_checkpoints_fault(task):
    first = run(task)
    kept = weights(first, 4)
    _known_whole.clear()  # as in another process
    file = dict(first.checkpoints)[4].overlays[-1].path
    file.write_bytes(file.read_bytes()[:-5])
    assert same(weights(run(task), 4), kept)


def test_a_full_disk_in_training_is_worth_retrying(task, monkeypatch):
    def full(*arguments, **options):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("resurgence_gate.probes.doses.save_file", full)
    with pytest.raises(ResourceError, match="disk is full"):
        run(task)


def test_a_probe_that_diverges_says_so(task):
    wild = dataclasses.replace(task, probe=FULL.model_copy(update={"lr": 1e30}))
    with pytest.raises(MeasurementError, match="diverged"):
        run(wild)


def test_gradients_that_are_clipped_to_nothing_are_no_fine_tune(task, tmp_path):
    """The same model, its queries scaled up and its keys down: finite gradients, whose norm is not."""
    scale = {"attn1.to_q.weight": 1e30, "attn1.to_k.weight": 1e-30}
    file = tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    scaled = {
        k: t * next((s for n, s in scale.items() if k.endswith(n)), 1.0) for k, t in load_file(file).items()
    }
    save_file(scaled, file, metadata={"format": "pt"})
    suspect = resolve(Folder(path=tmp_path / "model"))
    with pytest.raises(MeasurementError, match=r"gradients .* not finite"):
        run(dataclasses.replace(task, checkpoint=suspect))


def test_no_data_is_an_error(task):
    data = BenignSet(parts=(), captions=(), held_out=1)
    with pytest.raises(UsageError, match="no benign picture"):
        run(dataclasses.replace(task, data=data))


def test_the_held_out_loss_is_measured_before_and_after(task):
    probed = run(task)
    first, last = probed.health
    assert first.loss_before == last.loss_before
    assert len(last.loss_after) == 2
    assert last.weight_change > first.weight_change > 0


def silent(n=1, note=""):
    return None


def three_steps(run_):
    for step in range(3):
        run_._step(step)
    return {k: p.detach().clone() for k, p in run_.trained.items()}


@pytest.mark.parametrize("probe", [FULL, LORA], ids=lambda p: p.kind)
def test_activations_that_are_computed_again_give_the_same_numbers(task, tmp_path, probe):
    task = dataclasses.replace(task, probe=probe)
    kept, again = (_Run(task, tmp_path, silent) for _ in range(2))
    again.unet.enable_gradient_checkpointing()
    assert same(three_steps(kept), three_steps(again))


def test_bfloat16_computes_with_weights_in_float32(task, tmp_path):
    full, half = (
        _Run(dataclasses.replace(task, dtype=dtype), tmp_path, silent) for dtype in ("float32", "bfloat16")
    )
    weights_, rounded = three_steps(full), three_steps(half)
    assert {w.dtype for w in rounded.values()} == {torch.float32}
    assert {v.dtype for s in half.optimizer.state.values() for v in s.values()} == {torch.float32}
    moved = [(rounded[k] - weights_[k]).abs().max() for k in weights_]
    assert 0 < max(moved) < 3 * 2 * task.probe.lr


@pytest.mark.parametrize("probe", [FULL, ATTENTION, LORA], ids=lambda p: p.kind)
def test_the_encoders_are_gone_when_training_begins(task, tmp_path, monkeypatch, probe):
    seen = []

    def watched(*arguments, **options):
        model = load_model(*arguments, **options)
        seen.extend(weakref.ref(part) for part in (model, model.vae, *model.text_encoders))
        return model

    monkeypatch.setattr(fine_tuning, "load_model", watched)
    run_ = _Run(dataclasses.replace(task, probe=probe), tmp_path, silent)
    assert len(seen) == 3
    assert [ref() for ref in seen] == [None] * 3  # at once, without a garbage collector's help
    assert run_.data.latents.shape == (2, 6, 4, 8, 8)


def test_pictures_are_encoded_once_for_all_probes_and_suspects(task, tmp_path, monkeypatch):
    run(task)
    first = load_file(Store(task.store).require(encoded_key(task)) / "encoded.safetensors")
    monkeypatch.setattr(encoding, "encode_pictures", lambda *_: pytest.fail("encoded twice"))
    probed = run(dataclasses.replace(task, probe=LORA))
    suspect = dataclasses.replace(task, checkpoint=probed.last)  # another UNet, the same encoders
    assert encoded_key(suspect) == encoded_key(task)
    run(suspect)
    assert first["states"].shape[0] == 3  # one row for each distinct caption


def test_other_pictures_captions_or_encoders_are_encoded_anew(task):
    data = task.data
    (key, rows), files = data.parts[0], task.checkpoint.files
    changed = tuple((n, "0" * 64 if n.startswith("vae/") else s) for n, s in files)
    others = [
        dataclasses.replace(task, data=dataclasses.replace(data, parts=((key, rows[::-1]),))),
        dataclasses.replace(task, data=dataclasses.replace(data, captions=data.captions[::-1])),
        dataclasses.replace(task, checkpoint=dataclasses.replace(task.checkpoint, files=changed)),
        laid_over(task, "text_encoder", "1" * 64),
        laid_over(task, "text_encoder", "2" * 64),
        laid_over(task, "vae", "1" * 64),
    ]
    assert len({encoded_key(t) for t in (task, *others)}) == 7


def test_what_is_laid_over_the_unet_changes_no_latent_and_no_embedding(task):
    assert encoded_key(laid_over(task, "unet", "1" * 64)) == encoded_key(task)


def laid_over(task, component, sha256):
    """The task, for a suspect with a file of tensors over one of its components."""
    published = LoadedFile(name="published.safetensors", sha256=sha256)
    overlay = Overlay(component=component, path=Path(published.name), sha256=sha256, published=(published,))
    return dataclasses.replace(
        task, checkpoint=dataclasses.replace(task.checkpoint, overlays=(*task.checkpoint.overlays, overlay))
    )


def test_encoded_pictures_are_those_of_the_model(task):
    model = load_model(task.checkpoint, device=torch.device("cpu"), dtype=torch.float32)
    data = encoded(task, model, silent)
    pixels = load_file(Store(task.store).require(task.data.parts[0][0]) / "pictures.safetensors")["pixels"]
    for side, pictures in enumerate((pixels, pixels.flip(-1))):
        expected = model.vae.encode(pictures.float() / 127.5 - 1).latent_dist.mean
        expected = expected * model.vae.config.scaling_factor
        assert torch.allclose(data.latents[side], expected, atol=1e-5)
    captions = data.captions_of(torch.tensor([4, 0])).states
    expected = model.embed([task.data.captions[4], task.data.captions[0]]).states
    assert torch.allclose(captions, expected, atol=1e-5)


def test_the_loss_is_told_with_every_step(task):
    notes = []

    class Told(SilentProgress):
        @contextmanager
        def stage(self, name, total):
            yield lambda n=1, note="": notes.append(note)

    fine_tune(task, Told())
    assert sum(note.startswith("loss ") for note in notes) == 4
    assert notes[0] == "encoding picture 1 of 6"


def test_a_loss_that_is_not_finite_is_told_at_once(task, tmp_path):
    run_ = _Run(task, tmp_path, silent)
    run_.data.latents.fill_(float("nan"))
    with pytest.raises(MeasurementError, match="diverged within 1 steps"):
        run_._step(0)


@pytest.mark.parametrize("room", [1, 2, 5])
@pytest.mark.parametrize("probe", [FULL, ATTENTION, LORA], ids=lambda p: p.kind)
def test_a_device_with_little_memory_takes_the_same_steps(task, tmp_path, monkeypatch, probe, room):
    """In halves, whose gradients add up to the mean over the batch; also min-SNR's weights."""
    probe = probe.model_copy(update={"batch": 6, "min_snr": 5.0})
    whole, parts = (_Run(dataclasses.replace(task, probe=probe), tmp_path, silent) for _ in range(2))
    gradients, told = [], []
    for run_ in (whole, parts):
        if run_ is parts:
            small = Small(fine_tuning.losses, room, rows_of=2, late=True)
            monkeypatch.setattr(fine_tuning, "losses", small)
        clip = torch.nn.utils.clip_grad_norm_

        def kept(parameters, norm, clip=clip):
            parameters = list(parameters)
            gradients.append([p.grad.clone() for p in parameters])
            return clip(parameters, norm)

        with monkeypatch.context() as patched:
            patched.setattr(torch.nn.utils, "clip_grad_norm_", kept)
            told.append(run_._step(0))
    assert told[1] == pytest.approx(told[0], rel=1e-5)
    assert small.asked == {1: [6, 3, 1, 1, 1, 1, 1, 1], 2: [6, 3, 1, 1, 1, 1, 1, 1], 5: [6, 3, 3]}[room]
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5 * float(one.abs().max()))
    assert parts.at_once.size == {1: 1, 2: 1, 5: 3}[room]  # and is not tried with more at the next step


def test_gradients_of_an_attempt_that_failed_halfway_are_forgotten(task, tmp_path, monkeypatch):
    """The memory runs out in the second part of a step, when the first has left its gradient."""
    probe = FULL.model_copy(update={"batch": 6})
    whole, parts = (_Run(dataclasses.replace(task, probe=probe), tmp_path, silent) for _ in range(2))
    whole._step(0)
    parts.at_once.size = 3
    real, calls = fine_tuning.losses, []

    def second_fails(*arguments):
        calls.append(len(arguments[2]))
        if len(calls) == 2:
            raise torch.OutOfMemoryError
        return real(*arguments)

    monkeypatch.setattr(fine_tuning, "losses", second_fails)
    parts._step(0)
    assert calls == [3, 3, 1, 1, 1, 1, 1, 1]
    for name, parameter in whole.trained.items():  # AdamW's first step is the sign of the gradient
        assert torch.allclose(parameter, parts.trained[name], atol=task.probe.lr / 2)
        assert torch.allclose(
            whole.optimizer.state[parameter]["exp_avg"],
            parts.optimizer.state[parts.trained[name]]["exp_avg"],
            rtol=1e-3,
            atol=1e-7,
        )


def test_a_whole_probe_with_little_memory_measures_the_same(task, tmp_path, monkeypatch):
    task = dataclasses.replace(task, probe=FULL.model_copy(update={"lr": 1e-4}))
    whole = run(elsewhere(task, tmp_path))
    monkeypatch.setattr(fine_tuning, "losses", Small(fine_tuning.losses, 1, rows_of=2, late=True))
    monkeypatch.setattr(encoding, "encode_pictures", Small(encoding.encode_pictures, 2, rows_of=1))
    small = run(task)
    for one, other in zip(whole.health, small.health, strict=True):
        assert other.loss_before == pytest.approx(one.loss_before, rel=1e-4)
        assert other.loss_after == pytest.approx(one.loss_after, rel=1e-3)
        assert other.weight_change == pytest.approx(one.weight_change, rel=1e-2)


def test_one_row_that_does_not_fit_is_worth_retrying(task, monkeypatch):
    monkeypatch.setattr(fine_tuning, "losses", Small(fine_tuning.losses, 0, rows_of=2))
    with pytest.raises(ResourceError, match="probe p, held-out pictures: out of memory even one at a time"):
        run(task)
    assert not list(task.store.glob("scratch/*"))
