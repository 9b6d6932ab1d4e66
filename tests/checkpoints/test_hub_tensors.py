"""A file of tensors on the Hub over a base: the same as the file on this disk, and nothing else is fetched."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from fakes.assay import RETAINED, tiny_bench, tiny_policy, tiny_policy_file
from fakes.hub import FakeHub, Trouble, connect
from safetensors.torch import load_file, save_file

from resurgence_gate.checkpoints import format_ref, parse_ref, resolve
from resurgence_gate.checkpoints.hub import patience
from resurgence_gate.checkpoints.inspection import inspect_checkpoint
from resurgence_gate.checkpoints.kinds import Kind
from resurgence_gate.cli import run
from resurgence_gate.errors import GateError, HubError, RefusedCheckpoint, UsageError
from resurgence_gate.gate import run_check
from resurgence_gate.vocabulary import Access, Checkpoint, HubRepo, HubTensorsOn, Pocket

UNET = "unet/diffusion_pytorch_model.safetensors"
FILE = "erased/van gogh.safetensors"
REF = f"org/edits/{FILE}"
LORA = "lora/adapter_model.safetensors"


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits."""
    monkeypatch.setattr(patience, "sleep", lambda seconds: None)


@pytest.fixture
def repo(tiny: Path, tmp_path: Path) -> Path:
    """A repository of edits to the tiny model: part of its UNet, the same as a pickle, a LoRA of peft, strangers."""
    folder = tmp_path / "repo"
    for place in ("erased", "lora", "scripts"):
        (folder / place).mkdir(parents=True)
    tensors = {"conv_in.weight": load_file(tiny / UNET)["conv_in.weight"] + 1}
    save_file(tensors, folder / FILE, metadata={"format": "pt"})
    torch.save(tensors, folder / "erased" / "monet.pt")
    save_file(peft_lora(tiny), folder / LORA, metadata={"format": "pt"})
    (folder / "lora" / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 4}))
    (folder / "scripts" / "run.py").write_text("raise SystemExit")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder


def peft_lora(tiny: Path) -> dict[str, torch.Tensor]:
    name = "mid_block.attentions.0.transformer_blocks.0.attn2.to_q"
    out, width = load_file(tiny / UNET)[f"{name}.weight"].shape
    module = f"base_model.model.{name}"
    return {f"{module}.lora_A.weight": torch.ones(2, width), f"{module}.lora_B.weight": torch.ones(out, 2)}


@pytest.fixture
def hub(repo: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with `org/edits` and their base `org/model`, with an empty cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with FakeHub(repos={"org/edits": {"main": repo}, "org/model": {"main": tiny}}).serve() as fake:
        connect(fake, monkeypatch, tmp_path / "cache")
        yield fake


@pytest.fixture
def access(tmp_path: Path) -> Access:
    return Access(converted=tmp_path / "store")


def failure(ref: str, base: str, access: Access = Access()) -> GateError:
    with pytest.raises(GateError) as raised:
        resolve(parse_ref(ref, base=base), access)
    return raised.value


def fetched(hub: FakeHub) -> list[str]:
    """The files of `org/edits` that were asked for."""
    return [path.split("/", 5)[5] for _, path in hub.requests if path.startswith("/org/edits/resolve/")]


def same(one: Checkpoint, other: Checkpoint) -> bool:
    return (one.digest, one.files, one.loaded) == (other.digest, other.files, other.loaded)


@pytest.mark.parametrize("name", [FILE, LORA, "erased/monet.pt"])
@pytest.mark.parametrize("revision", ["", "@main"])
def test_it_is_the_same_as_the_file_on_this_disk(
    hub: FakeHub, repo: Path, tiny: Path, access: Access, name: str, revision: str
) -> None:
    access = replace(access, allow_pickle=name.endswith(".pt"))
    checkpoint = resolve(parse_ref(f"org/edits/{name}{revision}", base="org/model"), access)
    local = resolve(parse_ref(str(repo / name), base=str(tiny)), access)
    assert same(checkpoint, local)
    assert checkpoint.notes == local.notes
    commits = hub.commit("org/edits"), hub.commit("org/model")
    assert checkpoint.ref == f"org/edits/{name}@{commits[0]} --base org/model@{commits[1]}"
    ref, _, base = checkpoint.ref.partition(" --base ")
    assert resolve(parse_ref(ref, base=base), access) == checkpoint


def test_nothing_else_is_downloaded_and_its_revision_is_asked_for_once(hub: FakeHub, tiny: Path) -> None:
    resolve(parse_ref(f"{REF}@main", base=str(tiny)))
    assert [path for _, path in hub.requests] == [
        "/api/models/org/edits/revision/main",
        f"/org/edits/resolve/{hub.commit('org/edits')}/{FILE}",
    ]


def test_the_strength_of_a_lora_is_fetched_with_it(hub: FakeHub, tiny: Path, access: Access) -> None:
    checkpoint = resolve(parse_ref(f"org/edits/{LORA}", base=str(tiny)), access)
    assert fetched(hub) == [LORA, "lora/adapter_config.json"]
    assert [file.name for file in checkpoint.overlays[-1].published] == [
        "adapter_model.safetensors",
        "adapter_config.json",
    ]
    name = "mid_block.attentions.0.transformer_blocks.0.attn2.to_q.weight"
    merged, plain = load_file(checkpoint.overlays[-1].path)[name], load_file(tiny / UNET)[name]
    assert torch.equal(merged, plain + 2 * 2)  # alpha / rank, times two rows of ones


def test_offline_is_the_same_from_the_cache(hub: FakeHub, access: Access) -> None:
    refs = [parse_ref(f"org/edits/{name}", base="org/model") for name in (FILE, LORA)]
    online = [resolve(ref, access) for ref in refs]
    hub.requests.clear()
    assert [resolve(ref, replace(access, offline=True)) for ref in refs] == online
    assert hub.requests == []
    error = failure("org/edits/erased/monet.pt", "org/model", Access(offline=True, allow_pickle=True))
    assert isinstance(error, HubError)
    assert "offline, and the Hub cache lacks 1 of the files (erased/monet.pt)" in str(error)


@pytest.mark.parametrize("place", ["org/edits", "org/edits/erased"])
def test_the_only_file_of_tensors_need_not_be_named(hub: FakeHub, repo: Path, tiny: Path, place: str) -> None:
    """A pickle beside it is not taken into account: it would not be taken unasked."""
    shutil.rmtree(repo / "lora")
    checkpoint = resolve(parse_ref(place, base=str(tiny)))
    assert same(checkpoint, resolve(parse_ref(str(repo / FILE), base=str(tiny))))
    assert checkpoint.ref == f"{REF}@{hub.commit('org/edits')} --base {tiny}"
    assert fetched(hub) == [FILE]


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("org/edits", "several files of tensors; name one: org/edits/erased/van gogh.safetensors, org/edits/lora/ada"),
        ("org/edits@main", "name one: org/edits/erased/van gogh.safetensors@main, org/edits/lora/adapter_model.saf"),
        ("org/edits/scripts", "no file of tensors there; the repository has org/edits/erased/van gogh.safetensors, o"),
        ("org/edits/erased/x.safetensors", "no file of tensors there; the repository has org/edits/erased/van gogh"),
        ("org/edits/scripts/run.py", "a file, and none of tensors"),
        ("org/model", "org/model is a whole model; --base goes with a file of tensors"),
        ("org/edits/x.pt@v9", "this revision does not"),
        ("org/other/x.safetensors", "no such model on the Hub, and no such folder or file here"),
        ("org/edits.safetensors", "file not found (one on the Hub is written org/model/file.safetensors"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_told_from_the_listing(hub: FakeHub, tiny: Path, ref: str, message: str) -> None:
    error = failure(ref, str(tiny))
    assert isinstance(error, UsageError)
    assert message in str(error)
    assert fetched(hub) == []


def test_without_a_base_it_is_asked_for(hub: FakeHub) -> None:
    with pytest.raises(UsageError, match="holds tensors only: name their model, with --base"):
        parse_ref(REF)
    with pytest.raises(UsageError, match="the base must be a whole model"):
        parse_ref(REF, base=REF)
    with pytest.raises(
        UsageError, match="it has tensors, which are given with --base: org/edits/erased/van gogh"
    ):
        resolve(parse_ref("org/edits"))
    assert fetched(hub) == []


def test_what_is_on_this_disk_comes_first(
    hub: FakeHub, repo: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    shutil.copytree(repo, here / "org" / "edits")
    monkeypatch.chdir(here)
    assert resolve(parse_ref(REF, base=str(tiny))).ref == f"{here / REF} --base {tiny}"
    with pytest.raises(UsageError, match="file not found"):
        parse_ref("org/edits/other.safetensors", base=str(tiny))
    assert hub.requests == []


@pytest.mark.parametrize(
    "path",
    ["../x.safetensors", "a/../../x.safetensors", "./x.safetensors", "/etc/x.safetensors", "a//x.safetensors",
     ".git/x.safetensors", "a\\x.safetensors", "a:x.safetensors", "a\0x.safetensors", "a\nx.safetensors",
     " x.safetensors", "a/ .safetensors/../x.pt", "a --base b/x.safetensors"],
)  # fmt: skip
def test_a_path_that_leads_elsewhere_is_no_reference(hub: FakeHub, tiny: Path, path: str) -> None:
    with pytest.raises(UsageError):
        parse_ref(f"org/edits/{path}", base=str(tiny))
    assert hub.requests == []


@pytest.mark.parametrize(
    "name", ["../../evil.safetensors", "/evil.safetensors", "a\\..\\evil.safetensors", ".x.safetensors"]
)
def test_a_listing_that_leads_elsewhere_is_not_followed(
    hub: FakeHub, tiny: Path, tmp_path: Path, name: str
) -> None:
    for ref in ("org/edits", REF):
        hub.troubles = [Trouble(path="^/api/models/org/edits", listed={"rfilename": name})]
        assert isinstance(failure(ref, str(tiny)), UsageError)
    assert fetched(hub) == []
    assert not list(tmp_path.rglob("*evil*"))


def test_a_pickle_is_refused_before_it_is_downloaded(hub: FakeHub, repo: Path, tiny: Path) -> None:
    shutil.rmtree(repo / "lora")
    (repo / FILE).unlink()
    for ref in ("org/edits/erased/monet.pt", "org/edits"):
        error = failure(ref, str(tiny))
        assert isinstance(error, RefusedCheckpoint)
        assert str(error).startswith(
            "org/edits/erased/monet.pt: .pt files are pickles, which run code when loaded"
        )
    assert fetched(hub) == []


@pytest.mark.parametrize("kind", ["bare", "archive"])
def test_a_pickle_under_the_name_of_safetensors_is_refused_and_not_run(
    hub: FakeHub, repo: Path, tiny: Path, tmp_path: Path, kind: str
) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return eval, (f"open({str(tmp_path / 'canary')!r}, 'w').close()",)

    if kind == "bare":
        (repo / FILE).write_bytes(pickle.dumps(Payload()))
    else:
        torch.save({"conv_in.weight": Payload()}, repo / FILE)
    for access in (Access(), Access(allow_pickle=True)):
        error = failure(REF, str(tiny), access)
        assert isinstance(error, RefusedCheckpoint)
        assert str(error).startswith(REF)
        assert str(tmp_path) not in str(error)
    assert not (tmp_path / "canary").exists()


def test_a_pickle_that_calls_something_is_refused_where_pickles_are_allowed(
    hub: FakeHub, repo: Path, tiny: Path, tmp_path: Path, access: Access
) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return eval, (f"open({str(tmp_path / 'canary')!r}, 'w').close()",)

    torch.save({"conv_in.weight": Payload()}, repo / "erased" / "monet.pt")
    error = failure("org/edits/erased/monet.pt", str(tiny), replace(access, allow_pickle=True))
    assert isinstance(error, RefusedCheckpoint)
    assert "a pickle that would call" in str(error)
    assert not (tmp_path / "canary").exists()


def test_another_content_is_never_used(hub: FakeHub, tiny: Path, tmp_path: Path) -> None:
    hub.troubles = [Trouble(path="van gogh", content=lambda content: content[:-1] + b"!", times=None)]
    error = failure(REF, str(tiny))
    assert isinstance(error, HubError)
    assert "is not what the Hub says it is" in str(error)
    assert not list(tmp_path.rglob("snapshots/*/erased/*"))


@pytest.mark.parametrize("size", [10, 10**7, -1, None])
def test_a_file_that_lies_about_its_size_is_not_kept(
    hub: FakeHub, tiny: Path, tmp_path: Path, size: int | None
) -> None:
    hub.troubles = [Trouble(path="^/api/models/org/edits", listed={"size": size})]
    assert isinstance(failure(REF, str(tiny)), HubError)
    assert not list(tmp_path.rglob("snapshots/*/erased/*"))


def test_one_that_is_larger_than_allowed_or_than_the_disk_is_left_alone(hub: FakeHub, tiny: Path) -> None:
    error = failure(REF, str(tiny), Access(max_download=100))
    assert isinstance(error, UsageError)
    assert "would be downloaded, and --max-download is" in str(error)
    hub.troubles = [Trouble(path="^/api/models/org/edits", listed={"size": 10**18})]
    assert "GB free; free some space" in str(failure(REF, str(tiny)))
    assert fetched(hub) == []


def test_a_configuration_beside_it_that_is_none(hub: FakeHub, repo: Path, tiny: Path, access: Access) -> None:
    config = repo / "lora" / "adapter_config.json"
    for content, says in (
        (b"{", "is not JSON"),
        (b" " * (16 * 2**20 + 1), "more than the 16777216 that are read"),
    ):
        config.write_bytes(content)
        error = failure(f"org/edits/{LORA}", str(tiny), access)
        assert isinstance(error, RefusedCheckpoint)
        assert says in str(error)


def test_a_configuration_that_only_the_cache_has_is_not_read(
    hub: FakeHub, repo: Path, tiny: Path, access: Access, tmp_path: Path
) -> None:
    (repo / "lora" / "adapter_config.json").unlink()
    error = failure(f"org/edits/{LORA}", str(tiny), access)
    assert "nothing says how strongly" in str(error)
    (planted,) = tmp_path.rglob("snapshots/*/lora")
    (planted / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 0}))
    error = failure(f"org/edits/{LORA}", str(tiny), access)
    assert isinstance(error, RefusedCheckpoint)
    assert "lora/adapter_config.json is not in the repository; remove" in str(error)


def test_a_folder_of_the_cache_that_is_a_link_gives_no_other_file(
    hub: FakeHub, repo: Path, tiny: Path, tmp_path: Path
) -> None:
    resolve(parse_ref(REF, base=str(tiny)))
    (folder,) = tmp_path.rglob("snapshots/*/erased")
    elsewhere = Path(shutil.copytree(repo / "erased", tmp_path / "elsewhere"))
    shutil.rmtree(folder)
    folder.symlink_to(elsewhere)
    error = failure(REF, str(tiny))
    assert isinstance(error, RefusedCheckpoint)
    assert "leads out of the Hub cache" in str(error)


def test_a_file_of_another_model_is_refused_by_its_own_name(hub: FakeHub, repo: Path, tiny: Path) -> None:
    save_file({"conv_in.weight": torch.zeros(2)}, repo / FILE)
    error = failure(REF, str(tiny))
    assert isinstance(error, RefusedCheckpoint)
    assert str(error).startswith(f"{REF}@{hub.commit('org/edits')}: conv_in.weight has shape [2]")


def test_a_check_of_it_is_the_check_of_the_file(hub: FakeHub, repo: Path, tmp_path: Path) -> None:
    policy, bench = tiny_policy(tmp_path), tiny_bench(tmp_path)
    online = run_check(policy, parse_ref(REF, base="org/model"), bench).report
    hub.requests.clear()
    offline = replace(bench, access=Access(offline=True))
    assert run_check(policy, parse_ref(REF, base="org/model"), offline).report.suspect == online.suspect
    local = run_check(policy, parse_ref(str(repo / FILE), base="org/model"), bench).report
    assert (online.decision, online.ledger, online.suspect.files) == (
        local.decision,
        local.ledger,
        local.suspect.files,
    )
    assert online.suspect.ref.startswith(f"{REF}@{hub.commit('org/edits')} --base org/model@")


@pytest.mark.parametrize("text", [REF, "org/edits/erased"])
def test_inspect_describes_it_with_the_repositorys_card(hub: FakeHub, text: str) -> None:
    found = inspect_checkpoint(text, base="org/model")
    assert found.refusals == ()
    assert found.kind is Kind.PARTIAL_UNET
    assert found.ref.startswith(f"{REF}@{hub.commit('org/edits')} --base org/model@")
    assert found.digest == resolve(parse_ref(REF, base="org/model")).digest
    assert found.comparison is not None
    assert (found.comparison.matched, found.card and found.card.license) == (1, "mit")


def test_inspect_without_a_base_and_of_what_is_refused(hub: FakeHub, repo: Path, tmp_path: Path) -> None:
    found = inspect_checkpoint(REF)
    assert (found.kind, found.digest, found.refusals) == (Kind.PARTIAL_UNET, None, ())
    assert "with --base" in found.notes[0]
    pickled = inspect_checkpoint("org/edits/erased/monet.pt", base="org/model")
    assert "--allow-pickle" in pickled.refusals[0]
    (repo / FILE).write_bytes(b"PK\x03\x04")
    broken = inspect_checkpoint(REF, base="org/model")
    assert broken.refusals
    assert str(tmp_path) not in str(broken.refusals)


def test_inspect_of_a_whole_model_beside_another(hub: FakeHub) -> None:
    found = inspect_checkpoint("org/model", base="org/model")
    assert found.kind is Kind.PIPELINE
    assert found.comparison is not None


def test_fetch_and_probe_take_it(hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    retained = {"concepts": RETAINED, "prompts": ["a photo of a {}"], "pictures": 3}
    policy, store = tiny_policy_file(tmp_path, retained=retained), tmp_path / "store"
    common = [REF, "--base", "org/model", "--policy", str(policy), "--store", str(store)]
    assert run(["fetch", *common]) == 0
    assert f"suspect               {REF}@" in capsys.readouterr().out
    hub.requests.clear()
    assert run(["probe", *common, "--out", str(tmp_path / "out"), "--offline", "--device", "cpu"]) == 0
    assert hub.requests == []
    assert resolve(parse_ref(str(tmp_path / "out")))


def test_it_is_written_as_it_is_read() -> None:
    place = HubRepo(repo="org/edits", folder=FILE, revision="v1")
    ref = HubTensorsOn(place=place, base=Pocket(name="base"))
    assert format_ref(ref) == f"{REF}@v1 --base pocket:base"
    assert parse_ref(f"{REF}@v1", base="pocket:base") == ref


def test_a_card_that_only_the_cache_has_is_none(hub: FakeHub, repo: Path, tmp_path: Path) -> None:
    (repo / "README.md").unlink()
    assert inspect_checkpoint(REF, base="org/model").card is None
    for name in ("erased/README.md", "README.md"):
        (commit,) = (tmp_path / "cache" / "models--org--edits" / "snapshots").iterdir()
        (commit / name).write_text("---\nlicense: mit\n---\n")
    assert inspect_checkpoint(REF, base="org/model").card is None
