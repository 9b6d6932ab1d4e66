"""A pipeline in a folder of a repository: the same as that folder on this disk, and nothing beside it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.hub import FakeHub, Trouble, connect

from resurgence_gate.checkpoints import parse_ref, resolve
from resurgence_gate.checkpoints.inspection import inspect_checkpoint
from resurgence_gate.errors import GateError, HubError, RefusedCheckpoint, UsageError
from resurgence_gate.vocabulary import Access, Checkpoint, Folder

UNET = "unet/diffusion_pytorch_model.safetensors"
REF = "org/model/erased/van gogh"


@pytest.fixture
def repo(tiny: Path, tmp_path: Path) -> Path:
    """A repository with a pipeline two folders down, another beside it, and strangers around both."""
    folder = tmp_path / "repo"
    shutil.copytree(tiny, folder / "erased" / "van gogh")
    shutil.copytree(tiny, folder / "plain")
    for name in ("run.py", "erased/setup.py", "erased/van gogh/run.py", "erased/van gogh/unet/hook.py"):
        (folder / name).write_text("raise SystemExit")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder


@pytest.fixture
def hub(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with `org/model`, to which this process's client speaks, with an empty cache."""
    with FakeHub(repos={"org/model": {"main": repo}}).serve() as fake:
        connect(fake, monkeypatch, tmp_path / "cache")
        yield fake


def fetch(ref: str = REF, access: Access = Access()) -> Checkpoint:
    return resolve(parse_ref(ref), access)


def failure(ref: str = REF) -> GateError:
    with pytest.raises(GateError) as raised:
        fetch(ref)
    return raised.value


def fetched(hub: FakeHub) -> list[str]:
    """The files that were asked for, by their names in the repository."""
    return [path.split("/", 5)[5] for _, path in hub.requests if "/resolve/" in path]


def test_it_is_the_same_as_the_folder_on_this_disk(hub: FakeHub, tiny: Path) -> None:
    checkpoint, local = fetch(), resolve(Folder(path=tiny))
    assert (checkpoint.digest, checkpoint.files) == (local.digest, local.files)
    assert checkpoint.ref == f"{REF}@{hub.commit('org/model')}"
    assert fetch(checkpoint.ref) == checkpoint
    assert checkpoint.root.parts[-2:] == ("erased", "van gogh")


def test_only_what_is_read_in_it_is_downloaded(hub: FakeHub) -> None:
    checkpoint = fetch()
    assert sorted(fetched(hub)) == [f"erased/van gogh/{name}" for name, _ in checkpoint.files]


def test_offline_is_the_same_from_the_cache(hub: FakeHub) -> None:
    online = fetch()
    hub.requests.clear()
    assert fetch(access=Access(offline=True)) == online
    assert hub.requests == []
    with pytest.raises(HubError, match=r"offline, and .* is not in the Hub cache"):
        fetch("org/model/plain", Access(offline=True))


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("org/model", "not a diffusers pipeline (no model_index.json); it has pipelines at org/model/erased/van gogh"),
        ("org/model/erased", "not a diffusers pipeline (no model_index.json); it has pipelines at"),
        ("org/model/erased/monet", "the repository has no such folder; it has pipelines at org/model/erased/van gogh"),
        ("org/model/plain/unet", "no model_index.json); it has pipelines at org/model/erased/van gogh, org/model/pl"),
        ("org/model/plai", "the repository has no such folder"),
        ("org/model/run.py", "run.py is a file, and neither a folder nor one of tensors"),
        ("org/model/plain@v9", "this revision does not"),
        ("org/other/plain", "no such model on the Hub, and no such folder or file here"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_told_from_the_listing(hub: FakeHub, ref: str, message: str) -> None:
    error = failure(ref)
    assert isinstance(error, UsageError)
    assert message in str(error)
    assert fetched(hub) == []


def test_a_pipeline_at_the_top_is_named_too(hub: FakeHub, repo: Path, tiny: Path) -> None:
    shutil.copytree(tiny, repo, dirs_exist_ok=True)
    assert "it has pipelines at org/model, org/model/erased/van gogh, org/model/plain;" in str(
        failure("org/model/nowhere")
    )
    for i in range(20):
        (repo / f"step-{i}").mkdir()
        (repo / f"step-{i}" / "model_index.json").write_text("{}")
    assert ", ...; supported" in str(failure("org/model/nowhere"))


@pytest.mark.parametrize(
    "folder",
    ["..", "../other", "a/../..", "./a", "/etc", "a//b", "a/", ".git", "a\\b", "a:b", "a\0b", "a\nb", " a", "a ",
     "a --base b"],
)  # fmt: skip
def test_a_folder_that_leads_elsewhere_is_no_reference(hub: FakeHub, folder: str) -> None:
    with pytest.raises(UsageError, match="not found"):
        parse_ref(f"org/model/{folder}")
    assert hub.requests == []


def test_names_that_lead_out_of_it_are_not_followed(hub: FakeHub, tmp_path: Path) -> None:
    for name in ("plain/../../evil/model_index.json", "../model_index.json"):
        hub.troubles = [Trouble(path="^/api/models/", listed={"rfilename": name})]
        assert isinstance(failure("org/model/plain"), UsageError)
    assert fetched(hub) == []
    assert not (tmp_path / "evil").exists()


def test_pickles_in_it_are_refused_before_they_are_downloaded(hub: FakeHub, repo: Path) -> None:
    weights = repo / "plain" / UNET
    weights.rename(weights.with_suffix(".bin"))
    error = failure("org/model/plain")
    assert isinstance(error, RefusedCheckpoint)
    assert error.exit_code == 12
    assert str(error).startswith("org/model/plain: the weights of unet are pickles")
    assert not [name for name in fetched(hub) if name.endswith(".bin")]


def test_a_link_in_a_repository_is_only_a_small_file(hub: FakeHub, repo: Path) -> None:
    """Git keeps the target as the content, and so does the Hub."""
    (repo / "plain" / "unet" / "config.json").write_text("../../../../secret.json")
    error = failure("org/model/plain")
    assert isinstance(error, RefusedCheckpoint)
    assert "is not JSON" in str(error)


def test_another_content_is_never_used(hub: FakeHub, tmp_path: Path) -> None:
    hub.troubles = [Trouble(path=f"/{UNET}", content=lambda content: content[:-1] + b"?", times=None)]
    error = failure()
    assert isinstance(error, HubError)
    assert "is not what the Hub says it is" in str(error)
    assert not list(tmp_path.rglob(f"snapshots/*/erased/van gogh/{UNET}"))


def test_a_folder_of_the_cache_that_is_a_link_gives_no_other_files(
    hub: FakeHub, tiny: Path, tmp_path: Path
) -> None:
    checkpoint = fetch()
    elsewhere = Path(shutil.copytree(tiny, tmp_path / "elsewhere"))
    (elsewhere / UNET).write_bytes(b"other weights")
    shutil.rmtree(checkpoint.root)
    checkpoint.root.symlink_to(elsewhere)
    error = failure()
    assert isinstance(error, RefusedCheckpoint)
    assert "leads out of the Hub cache" in str(error)
    assert (elsewhere / UNET).read_bytes() == b"other weights"


def test_what_lies_in_the_cache_and_not_in_the_repository_is_refused(hub: FakeHub, tmp_path: Path) -> None:
    (fetch().root / "tokenizer" / "added_tokens.json").write_text("{}")
    error = failure()
    assert isinstance(error, RefusedCheckpoint)
    assert f"remove {tmp_path / 'cache' / 'models--org--model'} from the Hub cache" in str(error)


def test_what_is_on_this_disk_comes_first(
    hub: FakeHub, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    shutil.copytree(tiny, here / "org" / "model" / "epoch-1")
    monkeypatch.chdir(here)
    assert fetch("org/model/epoch-1").ref == str(here / "org" / "model" / "epoch-1")
    with pytest.raises(UsageError, match="folder not found"):
        parse_ref("org/model/epoch-2")
    assert hub.requests == []


def test_inspect_describes_it_with_the_repositorys_card(hub: FakeHub) -> None:
    found = inspect_checkpoint(REF)
    assert found.refusals == ()
    assert found.ref == f"{REF}@{hub.commit('org/model')}"
    assert found.digest == fetch().digest
    assert found.card is not None
    assert found.card.license == "mit"
