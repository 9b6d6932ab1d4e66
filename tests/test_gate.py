"""The walk, whole, on tiny real models: resume, reuse, and what may not pass."""

import dataclasses
import json
import shutil

import pytest
import torch
from fakes.assay import ERASED, tiny_bench, tiny_policy
from PIL import Image
from safetensors.torch import load_file, save_file

from resurgence_gate import calibrate as calibrating
from resurgence_gate import fine_tuned as fine_tuning
from resurgence_gate import gate
from resurgence_gate import gather as gathering
from resurgence_gate import observe as observing
from resurgence_gate.checkpoints import pipeline
from resurgence_gate.checkpoints.architecture import other_family
from resurgence_gate.decision.saved import contradiction
from resurgence_gate.draws import benign_draws, derived_seed, plan_draws
from resurgence_gate.errors import LostArtefact, MeasurementError, ResourceError, UsageError
from resurgence_gate.gate import run_check
from resurgence_gate.observe import picture
from resurgence_gate.policy.schema import BenignFolder, GeneratedBenign, Policy, ProbeContaminated, PromptSet
from resurgence_gate.probes import fine_tune as training
from resurgence_gate.probes import plan
from resurgence_gate.probes.benign_data import select_clean
from resurgence_gate.probes.run import fine_tune
from resurgence_gate.report import from_json, to_json, to_markdown
from resurgence_gate.showing import contact_triples
from resurgence_gate.store.manifest import _known_whole, _signature
from resurgence_gate.store.versions import made_with
from resurgence_gate.testing import tiny_model_folder
from resurgence_gate.vocabulary import Checkpoint, Folder, Judgement, Outcome, Verdict


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("assay")


@pytest.fixture(scope="module")
def policy(folder):
    return tiny_policy(folder)


@pytest.fixture(scope="module")
def suspect(folder):
    return Folder(path=tiny_model_folder(folder / "suspect", seed=3))


@pytest.fixture(scope="module")
def checked(policy, suspect, folder):
    return run_check(policy, suspect, tiny_bench(folder))


def test_every_arm_has_every_draw(checked, policy):
    assert len(checked.draws) == 2 * 3 + 2 * 2
    for seen in (checked.control, checked.before, *checked.after.values()):
        assert [d.sample.draw for d in seen.detections] == list(checked.draws)
    assert sorted(arm.dose for arm in checked.after) == [1, 3]


def test_a_safety_checker_that_is_not_run_is_mentioned(policy, suspect, folder, monkeypatch, caplog):
    def stop(*_):
        raise KeyboardInterrupt

    place = shutil.copytree(suspect.path, folder / "with-a-checker")
    index = json.loads((place / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (place / "model_index.json").write_text(json.dumps(index))
    monkeypatch.setattr(gate, "observe", stop)
    said = f"{place}: its safety checker is not run: it would blank pictures and hide the concept"
    for path, messages in ((place, [said]), (suspect.path, [])):
        caplog.clear()
        with pytest.raises(KeyboardInterrupt):
            run_check(policy, Folder(path=path), tiny_bench(folder))
        assert [record.message for record in caplog.records] == messages


def test_a_saved_report_follows_from_itself(checked):
    assert contradiction(from_json(to_json(checked.report))) is None


def test_models_of_noise_are_not_passed(checked):
    assert checked.report.decision.verdict is not Verdict.PASS


def test_a_repeated_check_computes_nothing(checked, policy, suspect, folder, monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("computed again")

    monkeypatch.setattr(pipeline, "load_model", forbidden)
    monkeypatch.setattr(observing, "open_detector", forbidden)
    assert run_check(policy, suspect, tiny_bench(folder)).report == checked.report


def test_the_reference_is_shared_between_suspects(checked, policy, folder, monkeypatch):
    loaded = []
    load = pipeline.load_model
    monkeypatch.setattr(pipeline, "load_model", lambda c, **o: loaded.append(c.ref) or load(c, **o))
    other = Folder(path=tiny_model_folder(folder / "other", seed=4))
    run_check(policy, other, tiny_bench(folder))
    assert policy.reference not in loaded


@pytest.mark.parametrize("ticks", range(1, 9))
def test_killed_anywhere_it_resumes_to_the_same_report(checked, policy, suspect, tmp_path, ticks):
    """`ticks` units of progress, in whatever stage they fall, then the process is gone."""
    left = [ticks]

    class Mortal:
        def stage(self, name, total, unit=""):
            return self

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def __call__(self, n=1):
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt(n)

    bench = tiny_bench(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_check(policy, suspect, dataclasses.replace(bench, progress=Mortal()))
    assert run_check(policy, suspect, bench).report == checked.report


def harm(file, kind):
    content = file.read_bytes()
    match kind:
        case "emptied":
            file.write_bytes(b"")
        case "truncated":
            file.write_bytes(content[: len(content) // 2])
        case "flipped":
            file.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        case _:
            file.unlink()
    _known_whole.clear()  # as in another process


@pytest.mark.parametrize("kind", ["emptied", "truncated", "flipped", "removed"])
@pytest.mark.parametrize("name", ["pictures.safetensors", "detections.json", "dose-3.*", "manifest.json"])
def test_what_is_damaged_in_the_store_is_computed_again(
    checked, policy, suspect, folder, tmp_path, caplog, name, kind
):
    shutil.copytree(folder / "store", tmp_path / "store")
    for file in tmp_path.glob(f"store/??/*/{name}"):
        harm(file, kind)
    assert run_check(policy, suspect, tiny_bench(tmp_path)).report == checked.report
    assert "is dropped and computed again" in caplog.text


@pytest.mark.parametrize("kind", ["emptied", "truncated", "flipped", "removed"])
def test_weights_that_are_damaged_while_the_check_runs_are_no_refusal_of_the_suspect(
    checked, policy, suspect, folder, tmp_path, monkeypatch, kind
):
    def damaging(task, progress):
        probed = fine_tune(task, progress)
        harm(probed.checkpoints[-1][1].overlays[-1].path, kind)
        return probed

    bench = tiny_bench(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(plan, "fine_tune", damaging)
        with pytest.raises(ResourceError, match="the same command computes it again"):
            run_check(policy, suspect, bench)
    assert run_check(policy, suspect, bench).report == checked.report


@pytest.mark.parametrize("kind", ["emptied", "truncated", "flipped", "removed", "another's"])
def test_a_picture_is_shown_that_was_judged_or_none(checked, folder, tmp_path, kind):
    """Also right after the file was found whole, in the same process, when no size and no time tells."""
    shutil.copytree(folder / "store", tmp_path / "store")
    bench = tiny_bench(tmp_path)
    assert torch.equal(picture(checked.before, 4, bench), picture(checked.before, 4, tiny_bench(folder)))
    place = bench.store.require(checked.before.pictures[0])
    file = place / "pictures.safetensors"
    if kind == "another's":
        tensors = load_file(file)
        save_file(tensors | {"pixels": tensors["pixels"].flip(0).contiguous()}, file)
    else:
        content, (start, end) = file.read_bytes(), pixels_in(file)
        spans = {"emptied": b"", "truncated": content[: end - 9]}
        middle = (start + end) // 2
        spans["flipped"] = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        file.unlink() if kind == "removed" else file.write_bytes(spans[kind])
    _known_whole[place] = _signature(place)
    found = 0
    for index in range(len(checked.draws)):
        try:
            shown = picture(checked.before, index, bench)
        except LostArtefact:
            _known_whole[place] = _signature(place)
            continue
        found += 1
        assert torch.equal(shown, picture(checked.before, index, tiny_bench(folder)))
    assert found <= len(checked.draws) - 1
    _known_whole.clear()
    assert bench.store.find(checked.before.pictures[0]) is None


def pixels_in(file):
    """Where in the file the pixels lie."""
    length = int.from_bytes(file.read_bytes()[:8], "little")
    start, end = json.loads(file.read_bytes()[8 : 8 + length])["pixels"]["data_offsets"]
    return 8 + length + start, 8 + length + end


def test_other_libraries_draw_anew(checked, policy, suspect, folder, monkeypatch):
    """The report names today's versions: nothing that others made may stand in it."""
    control = checked.control
    monkeypatch.setattr(observing, "made_with", lambda: made_with() | {"diffusers": "99.0"})
    again = run_check(policy, suspect, tiny_bench(folder))
    assert set(again.control.pictures).isdisjoint(control.pictures)
    assert set(made_with()) - {"resurgence-gate"} < set(again.report.provenance.libraries)


def test_the_sheet_shows_the_first_draw_of_every_erased_concept(checked, folder):
    triples = contact_triples(checked, tiny_bench(folder))
    assert [name for name, _, _ in triples] == list(ERASED)
    for _, outcomes, pictures in triples:
        assert all(isinstance(o, Outcome) for o in outcomes)
        assert [p.shape for p in pictures] == [(16, 16, 3)] * 3


def test_draws_are_the_same_whatever_else_the_policy_asks(policy):
    draws = plan_draws(policy, policy.erased)
    fewer = policy.erased.model_copy(update={"concepts": ("ship",)})
    assert plan_draws(policy, fewer) == draws[3:]
    assert len({d.seed for d in draws}) == len(draws)
    assert 0 <= derived_seed(1, "x") < 2**63


def test_benign_seeds_are_not_the_seeds_of_the_draws(policy):
    own = {d.seed for d in plan_draws(policy, policy.erased)}
    assert own.isdisjoint(d.seed for d in benign_draws(policy, policy.erased))


def test_without_a_clean_benign_picture_no_fine_tune_is_run_and_rg005_says_why(
    policy, suspect, folder, monkeypatch
):
    """Every benign picture shows an erased concept: nothing is left to train on."""

    def contaminated(keys, captions, outcomes, *others, **options):
        return select_clean(keys, captions, [Outcome.PRESENT] * len(keys), *others, **options)

    monkeypatch.setattr(gate, "select_clean", contaminated)
    bench = tiny_bench(folder)
    rules = policy.rules.model_copy(update={"RG005": ProbeContaminated(max_contamination=0.5)})
    checked = run_check(policy.model_copy(update={"rules": rules}), suspect, bench)
    assert checked.after == {}
    assert checked.report.ledger.contamination.by_picture == 3 * 4
    assert checked.report.decision.verdict is not Verdict.PASS
    (finding,) = (f for f in checked.report.decision.findings if f.rule == "RG005")
    assert finding.judgement is Judgement.BREACHED
    assert "no probe was run" in to_markdown(checked.report).lower()
    for _, outcomes, pictures in contact_triples(checked, bench):
        assert outcomes[2] is Outcome.UNDETERMINED
        assert pictures[2].shape == pictures[0].shape


@pytest.mark.parametrize("kind", ["folder", "prompts"])
def test_benign_data_that_do_not_do_are_told_before_any_picture_is_drawn(
    policy, suspect, folder, tmp_path, kind, monkeypatch
):
    def drawn(*_):
        raise AssertionError("drawn before the benign data were looked for")

    (tmp_path / "photos").mkdir()
    (tmp_path / "benign.csv").write_text("prompt\na garden\n")
    if kind == "folder":
        benign = BenignFolder(kind="folder", path="photos", pictures=8, held_out=0.25)
    else:
        table = PromptSet(source="benign.csv", column="prompt")
        benign = GeneratedBenign(
            kind="generated", concepts=("garden",), prompt_set=table, pictures=8, held_out=0.25
        )
    monkeypatch.setattr(gate, "observe_control", drawn)
    changed = policy.model_copy(update={"benign": benign, "folder": tmp_path})
    with pytest.raises(UsageError, match=r"holds 0 pictures|1 of 1 rows meet"):
        run_check(changed, suspect, tiny_bench(folder))


def test_captions_that_name_what_was_erased_are_told_before_any_picture_is_drawn(
    policy, folder, tmp_path, caplog
):
    for i in range(8):
        Image.new("RGB", (16, 16), (i * 30, 0, 0)).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text("two ships" if i < 3 else "a garden")
    benign = BenignFolder(kind="folder", path=".", pictures=8, held_out=0.25)
    for allowed, told in ((0.375, False), (0.2, True)):
        rules = policy.rules.model_copy(update={"RG005": ProbeContaminated(max_contamination=allowed)})
        changed = policy.model_copy(update={"benign": benign, "folder": tmp_path, "rules": rules})
        gate.require_benign(changed, tiny_bench(folder))
        assert ("3 of 8 captions name an erased concept" in caplog.text) is told


def test_a_fine_tune_that_moves_no_weight_is_never_passed(policy, suspect, folder):
    probe = policy.probes[0].model_copy(update={"name": "still", "lr": 1e-30})
    report = run_check(policy.model_copy(update={"probes": (probe,)}), suspect, tiny_bench(folder)).report
    assert [health.weight_change for health in report.ledger.probes] == [0.0, 0.0]
    assert report.decision.verdict is not Verdict.PASS
    took = [
        f for f in report.decision.findings if f.rule == "RG004" and "the weights did not move" in f.statement
    ]
    assert [f.judgement for f in took] == [Judgement.UNDECIDED] * 2


def test_a_run_is_trained_once_for_all_its_doses_and_every_replicate_with_a_seed_of_its_own(
    policy, suspect, folder, monkeypatch
):
    steps, seeds = [], []
    step = training._Run._step

    def counted(run, number):
        steps.append((run.task.replicate, number))
        seeds.append(run.task.seed)
        return step(run, number)

    monkeypatch.setattr(training._Run, "_step", counted)
    (probe,) = policy.probes
    assert probe.doses == (1, 3)
    twice = policy.model_copy(update={"seed": 2, "probes": (probe.model_copy(update={"replicates": 2}),)})
    seen = run_check(twice, suspect, tiny_bench(folder))
    assert sorted(steps) == [(replicate, number) for replicate in (0, 1) for number in range(3)]
    assert len(set(seeds)) == 2
    arms = sorted((arm.replicate, arm.dose) for arm in seen.after)
    assert arms == [(0, 1), (0, 3), (1, 1), (1, 3)]
    after = [seen.after[arm].detections for arm in sorted(seen.after, key=lambda arm: arm.replicate)]
    assert len({tuple(d.sample.digest for d in detections) for detections in after}) == 4
    # One way of counting, from 1, in what is told of them.
    told = [f.statement for f in seen.report.decision.findings if f.rule == "RG102"]
    assert [f"replicate {i} of 2" in line for i, line in zip((1, 1, 2, 2), told, strict=True)] == [True] * 4
    stages = [stage.name for stage in seen.report.provenance.stages if stage.name.startswith("after")]
    assert stages == [f"after {dose} steps of full #{i}" for i in (1, 2) for dose in (1, 3)]


GONE = {
    "giphy": ({"detector": {"kind": "giphy", "weights": "gone.pkl"}}, "gone.pkl"),
    "q16": (
        {"detector": {"kind": "q16", "model": "pocket:clip", "prompts": "gone.p"}},
        "github.com/ml-research/Q16",
    ),
    "prompts": (
        {
            "erased": {
                "concepts": ["ship"],
                "pictures": 3,
                "prompt_set": {"source": "gone.csv", "column": "p"},
            }
        },
        "erased.prompt_set.source: there is no file gone.csv",
    ),
    "pictures": (
        {"benign": {"kind": "folder", "path": "gone", "pictures": 8, "held_out": 0.25}},
        "benign.path: there is no folder gone",
    ),
}


@pytest.mark.parametrize(("changes", "said"), GONE.values(), ids=GONE)
def test_a_file_that_is_not_here_is_told_before_a_model_is_downloaded(
    policy, suspect, folder, monkeypatch, changes, said
):
    if "detector" in changes:
        names = {"concepts": ("Tom Cruise",), "synonyms": {}}
        changes |= {"erased": policy.erased.model_dump() | names}
        own = policy.detector.model_dump()
        changes |= {"retained": policy.retained.model_dump() | {"detector": own}}
    mine = Policy.model_validate(policy.model_dump(mode="json") | changes)
    for module in (gate, gathering, calibrating, fine_tuning):
        monkeypatch.setattr(module, "resolve", lambda *_: pytest.fail("downloaded"))
    bench = tiny_bench(folder)
    commands = {
        "check": lambda: run_check(mine, suspect, bench),
        "fetch": lambda: list(gathering.gather(mine, suspect, bench.store, bench.access)),
        "probe": lambda: fine_tuning.fine_tune_one(mine, suspect, mine.lines, None, bench),
        "calibrate": lambda: calibrating.calibrate(mine, bench),
    }
    spared = {"erased": "probe", "benign": "calibrate"}.get(next(iter(changes)))  # which does not read it
    for name, command in commands.items():
        with pytest.raises(pytest.fail.Exception if name == spared else UsageError) as caught:
            command()
        assert ("downloaded" if name == spared else said) in str(caught.value)


def test_a_detector_that_is_not_here_is_told_before_the_other_one_is_downloaded(
    policy, suspect, folder, monkeypatch
):
    own = {
        "kind": "clip-zero-shot",
        "model": "ViT-B-32",
        "pretrained": "./gone.safetensors",
        "templates": ["{}"],
    }
    changes = {"retained": policy.retained.model_dump() | {"concepts": ("dog", "cat"), "detector": own}}
    mine = Policy.model_validate(policy.model_dump(mode="json") | changes)
    asked = []
    locate = observing.locate_detector
    monkeypatch.setattr(observing, "locate_detector", lambda spec, *a: asked.append(spec) or locate(spec, *a))
    with pytest.raises(UsageError, match=r"has no weights './gone.safetensors'"):
        run_check(mine, suspect, tiny_bench(folder))
    assert asked == [mine.retained.detector]


def test_a_fine_tune_beyond_the_numbers_of_the_dtype_is_no_fault_of_the_suspect(policy, suspect, tmp_path):
    """Weights of 100000 are finite in float32, and infinite in float16."""
    wild = policy.probes[0].model_copy(update={"lr": 1e5, "doses": (1,)})
    bench = dataclasses.replace(tiny_bench(tmp_path), dtype="float16")
    with pytest.raises(MeasurementError, match=r"after 1 steps of full: .* try --dtype float32"):
        run_check(policy.model_copy(update={"probes": (wild,)}), suspect, bench)


def test_a_model_of_another_family_than_the_reference_is_mentioned(tmp_path):
    def of(name, width):
        (tmp_path / name / "unet").mkdir(parents=True)
        (tmp_path / name / "unet" / "config.json").write_text(json.dumps({"cross_attention_dim": width}))
        return Checkpoint(ref=name, digest=name, root=tmp_path / name, files=())

    one, two, unknown = of("one", 768), of("two", 1024), of("unknown", "wide")
    assert other_family(two, one) == (
        "it is a model of Stable Diffusion 2.x, and the policy's reference, one, one of Stable Diffusion 1.x, so that "
        "is not what it was before erasure"
    )
    assert other_family(one, one) is None
    assert other_family(unknown, one) is None
