"""Each trouble with the Hub ends in the right files or in its exit code and message; a wrong file is never used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from fakes.hub import FakeHub, Trouble, connect

from resurgence_gate.checkpoints import parse_ref, resolve
from resurgence_gate.checkpoints.hub import connection, download_files, patience
from resurgence_gate.checkpoints.hub.cache import RepoCache
from resurgence_gate.errors import GateError, HubError, RefusedCheckpoint, ResourceError, UsageError
from resurgence_gate.testing import tiny_model_folder
from resurgence_gate.vocabulary import Access, Checkpoint, Folder, HubRepo

UNET = "unet/diffusion_pytorch_model.safetensors"
SENT = f"/resolve/.*/{UNET}"  # the path of a request for it
LISTING = "^/api/models/"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def hub(tiny: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with `org/model`, to which this process's client speaks, with an empty cache."""
    with FakeHub(repos={"org/model": {"main": tiny}}).serve() as fake:
        connect(fake, monkeypatch, cache)
        yield fake


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody waits; how long they would have."""
    asked: list[float] = []
    monkeypatch.setattr(patience, "sleep", asked.append)
    return asked


@pytest.fixture
def whole(tiny: Path) -> str:
    """The digest of the model when it is right."""
    return resolve(Folder(path=tiny)).digest


def fetch(access: Access = Access()) -> Checkpoint:
    return resolve(parse_ref("org/model"), access)


def failure(access: Access = Access()) -> GateError:
    with pytest.raises(GateError) as raised:
        fetch(access)
    assert str(raised.value).startswith(("org/model: ", "org/model@"))
    return raised.value


def sent(hub: FakeHub, name: str = UNET) -> int:
    """How often the file was asked for."""
    return sum(path.endswith(name) for _, path in hub.requests)


def held(cache: Path) -> list[str]:
    """The weights of the UNet that lie in the cache under their name."""
    return [path.as_posix() for path in cache.rglob("snapshots/*/unet/*.safetensors")]


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    ("where", "status"),
    [
        (LISTING, 500),
        (LISTING, 429),
        (SENT, 500),
        (SENT, 429),
        (SENT, 408),
        ("/resolve/.*/model_index.json", 503),
    ],
)
def test_an_overloaded_hub_is_asked_four_times(
    hub: FakeHub, waits: list[float], whole: str, where: str, status: int
) -> None:
    hub.troubles = [Trouble(path=where, status=status, times=3)]
    assert fetch().digest == whole
    assert waits == [1, 2, 4]
    hub.troubles = [Trouble(path=where, status=status, times=None)]
    shutil.rmtree(RepoCache.of("org/model").root)
    error = failure()
    assert type(error) is HubError
    assert ("slow down (429)" if status == 429 else f"answered {status}; try again later") in str(error)
    assert waits == [1, 2, 4] * 2


@pytest.mark.parametrize("where", [LISTING, SENT])
def test_retry_after_is_honoured(hub: FakeHub, waits: list[float], whole: str, where: str) -> None:
    hub.troubles = [Trouble(path=where, status=429, times=2, headers={"Retry-After": "17"})]
    assert fetch().digest == whole
    assert waits == [17, 17]


def test_retry_after_may_be_a_date(hub: FakeHub, waits: list[float], whole: str) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    hub.troubles = [Trouble(path=SENT, status=503, headers={"Retry-After": soon})]
    assert fetch().digest == whole
    assert 30 < waits[0] <= 40


@pytest.mark.parametrize("text", ["never", "-1", "1e9999", "²", "Mon, 99 Foo 2026 99:99:99 GMT"])
def test_a_retry_after_of_nonsense_is_none(hub: FakeHub, waits: list[float], whole: str, text: str) -> None:
    hub.troubles = [
        Trouble(path=LISTING, status=429, headers={"Retry-After": text.encode().decode("latin-1")})
    ]
    assert fetch().digest == whole
    assert waits == [1]


def test_an_hour_is_not_waited_for(hub: FakeHub, waits: list[float]) -> None:
    hub.troubles = [Trouble(path=SENT, status=429, times=None, headers={"Retry-After": "3600"})]
    error = failure()
    assert type(error) is HubError
    assert "slow down (429); wait 3600 s" in str(error)
    assert waits == []
    assert sent(hub) == 1


@pytest.mark.parametrize(
    ("status", "code", "kind", "message"),
    [
        (401, None, HubError, "or a private one (401)"),
        (401, "GatedRepo", HubError, "access denied (401); accept its terms"),
        (403, "GatedRepo", HubError, "access denied (403); accept its terms"),
        (403, None, HubError, "access denied (403)"),
        (404, "EntryNotFound", HubError, "lists a file that it does not give (404)"),
        (404, "RepoNotFound", UsageError, "no such model on the Hub"),
        (410, None, HubError, "answered 410"),
    ],
)
def test_a_no_is_a_no(
    hub: FakeHub, waits: list[float], status: int, code: str | None, kind: type[GateError], message: str
) -> None:
    hub.troubles = [Trouble(path=SENT, status=status, error_code=code)]
    error = failure()
    assert type(error) is kind
    assert message in str(error)
    assert waits == []
    assert sent(hub) == 1


def test_a_file_cut_in_the_middle_goes_on_there(hub: FakeHub, tiny: Path, whole: str) -> None:
    size = (tiny / UNET).stat().st_size
    hub.troubles = [Trouble(path=SENT, cut=size // 3), Trouble(path=SENT, cut=size // 3)]
    assert fetch().digest == whole
    assert sent(hub) == 3


def test_what_came_before_a_kill_is_not_fetched_again(hub: FakeHub, tiny: Path, whole: str) -> None:
    size = (tiny / UNET).stat().st_size
    hub.troubles = [Trouble(path=SENT, cut=size // 2), Trouble(path=SENT, cut=0, times=None)]
    assert "the connection breaks again and again" in str(failure())
    got: list[int] = []
    hub.troubles = [Trouble(path=SENT, content=lambda content: got.append(len(content)) or content)]
    hub.requests.clear()
    assert fetch().digest == whole
    assert sent(hub) == 1


@pytest.mark.parametrize("cut", [0, 1000])
def test_a_file_that_is_always_cut_is_never_used(
    hub: FakeHub, cache: Path, waits: list[float], cut: int
) -> None:
    hub.troubles = [Trouble(path=SENT, cut=cut, times=None)]
    error = failure()
    assert type(error) is HubError
    assert "the connection breaks again and again" in str(error)
    assert held(cache) == []
    assert waits == [1, 2, 4]


def test_a_part_that_is_not_of_this_file_is_found_out(hub: FakeHub, tiny: Path, whole: str) -> None:
    listing_only = download_files(HubRepo(repo="org/model"), lambda names: ["model_index.json"])
    blobs = listing_only[0].resolve().parent
    digest = dict(resolve(Folder(path=tiny)).files)[UNET]
    (blobs / f"{digest}.incomplete").write_bytes(b"not its beginning")
    assert fetch().digest == whole


def test_a_file_that_became_shorter_on_the_way_is_fetched_from_its_beginning(
    hub: FakeHub, whole: str
) -> None:
    hub.troubles = [Trouble(path=SENT, content=lambda content: content[:-100])]
    assert fetch().digest == whole


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (flipped, "is not what the Hub says it is"),
        (lambda content: content + b"\0", "is not what the Hub says it is"),
        (lambda content: content[:-1], "breaks again and again"),
        (lambda content: b"", "breaks again and again"),
    ],
)
@pytest.mark.parametrize("name", [UNET, "unet/config.json"])
def test_another_content_is_fetched_once_more_and_never_used(
    hub: FakeHub, cache: Path, whole: str, name: str, content: object, message: str
) -> None:
    hub.troubles = [Trouble(path=f"/{name}", content=content, times=None)]  # type: ignore[arg-type]
    error = failure()
    assert type(error) is HubError
    assert error.exit_code == 3
    assert message in str(error)
    assert not list(cache.rglob(f"snapshots/*/{name}"))
    hub.troubles[0].times = 0
    assert fetch().digest == whole
    shutil.rmtree(RepoCache.of("org/model").root)
    hub.troubles[0].times = 1
    assert fetch().digest == whole


@pytest.mark.parametrize(
    "listed",
    [
        {"lfs": {"sha256": "0" * 64, "size": 1, "pointerSize": 134}},
        {"size": 1},
        {"size": 2**40},
        {"blobId": "0" * 40, "lfs": None},
    ],
)
def test_a_listing_that_lies_gives_nothing(
    hub: FakeHub, cache: Path, whole: str, listed: dict[str, object]
) -> None:
    hub.troubles = [Trouble(path=LISTING, listed=listed, times=None)]
    error = failure()
    assert isinstance(error, HubError | ResourceError | RefusedCheckpoint)
    assert held(cache) == []
    hub.troubles.clear()
    assert fetch().digest == whole


@pytest.mark.parametrize(
    "listed",
    [
        {"lfs": {"sha256": "../../../evil", "size": 1, "pointerSize": 134}},
        {"blobId": None, "lfs": None},
        {"blobId": "../evil", "lfs": None},
        {"size": None},
    ],
)
def test_a_file_that_cannot_be_checked_is_not_downloaded(hub: FakeHub, listed: dict[str, object]) -> None:
    hub.troubles = [Trouble(path=LISTING, listed=listed)]
    error = failure()
    assert type(error) is HubError
    assert "so it cannot be checked" in str(error)
    assert not [path for _, path in hub.requests if "/resolve/" in path]


def test_an_etag_is_not_believed(hub: FakeHub, cache: Path, whole: str) -> None:
    hub.troubles = [Trouble(path="/resolve/", etag="../../evil", times=None)]
    assert fetch().digest == whole
    assert not list(cache.parent.rglob("evil"))


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "C:evil", "a\\..\\evil"])
def test_a_name_that_leads_out_of_the_cache_is_not_fetched(hub: FakeHub, name: str) -> None:
    hub.troubles = [Trouble(path=LISTING, listed={"rfilename": name})]
    with pytest.raises(HubError, match="cannot be checked"):
        download_files(HubRepo(repo="org/model"), lambda names: list(names))


@pytest.mark.parametrize("answer", ["[]", "{}", '{"id": 7, "sha": "main", "siblings": 3}', "<html>", ""])
def test_an_answer_that_makes_no_sense(hub: FakeHub, answer: str) -> None:
    hub.troubles = [Trouble(path=LISTING, answer=answer)]
    error = failure()
    assert type(error) is HubError


def test_a_branch_that_moves_in_between_is_one_commit(
    hub: FakeHub, tiny: Path, tmp_path: Path, whole: str
) -> None:
    later = tiny_model_folder(tmp_path / "later", seed=1)
    before = hub.commit("org/model")

    def move() -> None:
        hub.repos["org/model"] = {"main": later, "old": tiny}

    hub.troubles = [Trouble(path="/resolve/.*/text_encoder/model.safetensors", first=move)]
    checkpoint = fetch()
    assert checkpoint.digest == whole
    assert checkpoint.ref == f"org/model@{before}"
    assert fetch().digest == resolve(Folder(path=later)).digest


@pytest.mark.parametrize("where", [LISTING, SENT])
@pytest.mark.parametrize("cut", [None, 1000])
def test_a_hub_that_hangs_is_asked_again(
    hub: FakeHub, whole: str, monkeypatch: pytest.MonkeyPatch, where: str, cut: int | None
) -> None:
    monkeypatch.setattr(connection, "TIMEOUT", 0.2)
    hub.troubles = [Trouble(path=where, hang=True, cut=cut)]
    assert fetch().digest == whole


@pytest.mark.parametrize("where", [LISTING, SENT])
def test_a_hub_that_always_hangs_is_left(
    hub: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(connection, "TIMEOUT", 0.05)
    hub.troubles = [Trouble(path=where, hang=True, times=None)]
    error = failure()
    assert type(error) is HubError
    assert "did not answer" in str(error) or "breaks again and again" in str(error)
    assert held(cache) == []


def test_a_damaged_file_in_the_cache_is_fetched_again(hub: FakeHub, cache: Path, whole: str) -> None:
    fetch()
    place = Path(held(cache)[0])
    place.write_bytes(flipped(place.read_bytes()))
    hub.requests.clear()
    assert fetch().digest == whole
    assert sent(hub) == 1


def test_what_lies_in_the_snapshot_and_not_in_the_repository_is_refused(hub: FakeHub, cache: Path) -> None:
    fetch()
    (next(cache.rglob("snapshots/*")) / "tokenizer" / "added_tokens.json").write_text("{}")
    error = failure()
    assert isinstance(error, RefusedCheckpoint)
    assert "tokenizer/added_tokens.json is not as in the repository" in str(error)


def test_offline_is_the_same_from_the_cache(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    online = fetch()
    hub.requests.clear()
    offline = fetch(Access(offline=True))
    assert (offline.ref, offline.digest, offline.files) == (online.ref, online.digest, online.files)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert fetch() == offline
    assert resolve(parse_ref(online.ref)) == offline
    assert hub.requests == []


def test_offline_says_what_is_missing(hub: FakeHub, cache: Path) -> None:
    error = failure(Access(offline=True))
    assert type(error) is HubError
    assert "does not hold main of it" in str(error)
    fetch()
    with pytest.raises(HubError, match="does not hold v9 of it"):
        resolve(parse_ref("org/model@v9"), Access(offline=True))
    place = Path(held(cache)[0])
    content = place.read_bytes()
    place.write_bytes(flipped(content))
    assert "is damaged" in str(failure(Access(offline=True)))
    place.resolve().unlink()
    place.unlink()
    assert f"lacks 1 of the files ({UNET})" in str(failure(Access(offline=True)))


def test_offline_takes_what_another_client_left(hub: FakeHub, cache: Path, whole: str) -> None:
    from huggingface_hub import snapshot_download

    snapshot_download("org/model")
    assert not list(cache.rglob(".resurgence-gate"))
    offline = fetch(Access(offline=True))
    assert offline.digest == whole
    place = Path(held(cache)[0])
    place.resolve().write_bytes(flipped(place.read_bytes()))
    assert "is damaged" in str(failure(Access(offline=True)))
    assert fetch().digest == whole


def test_a_model_beyond_the_limit_is_not_downloaded(hub: FakeHub, tiny: Path, whole: str) -> None:
    sizes = sum((tiny / name).stat().st_size for name, _ in resolve(Folder(path=tiny)).files)
    error = failure(Access(max_download=sizes // 2))
    assert isinstance(error, UsageError)
    assert "would be downloaded, and --max-download is" in str(error)
    assert sent(hub, ".safetensors") == 0
    assert fetch(Access(max_download=sizes)).digest == whole
    assert fetch(Access(max_download=0)).digest == whole  # it is there


def test_a_model_that_the_disk_has_no_room_for_is_not_downloaded(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RepoCache, "free", lambda self: 1000)
    error = failure()
    assert type(error) is ResourceError
    assert "has 0.0 MB free" in str(error)
    assert sent(hub, ".safetensors") == 0


def test_a_configuration_of_a_terabyte_is_not_downloaded(hub: FakeHub, model: Path) -> None:
    hub.troubles = [Trouble(path=LISTING, listed={"size": 10**12})]
    error = failure()
    assert isinstance(error, RefusedCheckpoint)
    assert "more than the" in str(error)
    assert not [path for _, path in hub.requests if "/resolve/" in path]


def test_the_cache_is_the_one_of_other_clients(hub: FakeHub, whole: str) -> None:
    from huggingface_hub import scan_cache_dir, snapshot_download

    fetch()
    hub.requests.clear()
    folder = snapshot_download("org/model")
    assert not [path for method, path in hub.requests if method == "GET" and "/resolve/" in path]
    assert resolve(Folder(path=Path(folder))).digest == whole
    assert not scan_cache_dir().warnings
    listing = next(Path(folder).parent.parent.glob(".resurgence-gate/*.json"))
    assert UNET in json.loads(listing.read_text())["files"]
