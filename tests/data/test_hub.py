"""Data sets of a hub on loopback: read at one commit, never by running anything, and never something else."""

import csv
import io
import json
import os

import datasets
import pytest
from fakes.dataset_hub import DatasetHub, connect_datasets
from PIL import Image

from resurgence_gate.data.captioned import read_captioned
from resurgence_gate.data.hub import inside, open_split
from resurgence_gate.data.rows import read_rows
from resurgence_gate.data.store_pictures import store_captioned
from resurgence_gate.errors import HubError, UsageError
from resurgence_gate.policy.schema import BenignDataset, PromptSet
from resurgence_gate.store.folder import Store

NAME = "lab/prompts"


def png(shade):
    file = io.BytesIO()
    Image.new("RGB", (12, 10), (shade, 0, 255 - shade)).save(file, "PNG")
    return file.getvalue()


def table(folder, prompts, name="prompts.csv"):
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [["prompt", "score", "seed"], *([p, i, 7 + i] for i, p in enumerate(prompts))]
        )
    return folder


@pytest.fixture
def hub(tmp_path, monkeypatch):
    old, new = table(tmp_path / "old", ["a, b", "çé"]), table(tmp_path / "new", ["other", "words", "here"])
    fake = DatasetHub(repos={NAME: {"main": new, "v1": old}})
    with fake.serve():
        connect_datasets(fake, monkeypatch, tmp_path / "cache")
        yield fake


def prompts(revision=None, **more):
    return PromptSet(source=NAME, revision=revision, column="prompt", **more)


def read(revision=None, **more):
    return read_rows(prompts(revision, **more), None)


def test_a_pinned_commit_is_read_and_no_other(hub):
    pinned, main = hub.commit(NAME, "v1"), hub.commit(NAME)
    assert [row.prompt for row in read(pinned).rows] == ["a, b", "çé"]
    assert [row.prompt for row in read(main).rows] == ["other", "words", "here"]
    assert [row.prompt for row in read(pinned).rows] == ["a, b", "çé"]
    assert read(pinned).commit == pinned


def test_without_a_revision_main_is_read_and_its_commit_told(hub):
    found = read(seed_column="seed", where=[{"column": "score", "at_least": 1}])
    assert found.commit == hub.commit(NAME)
    assert [(row.prompt, row.seed) for row in found.rows] == [("words", 8), ("here", 9)]


def test_a_folder_of_the_same_name_is_not_the_data_set(hub, tmp_path, monkeypatch):
    table(tmp_path / "here" / "lab" / "prompts", ["planted"])
    monkeypatch.chdir(tmp_path / "here")
    assert open_split(NAME, hub.commit(NAME), "train").data["prompt"][0] == "other"


def test_a_hub_that_is_down_gives_no_other_revision(hub, tmp_path):
    read(hub.commit(NAME))
    hub.status = 503
    with pytest.raises(HubError, match="503; try again later"):
        read(hub.commit(NAME, "v1"))


def test_files_beside_data_are_not_downloaded(hub, tmp_path):
    folder = hub.repos[NAME]["main"]
    marker = tmp_path / "it-ran"
    for name in ("prompts.py", "setup.py", "loader.pkl", "new.py"):
        (folder / name).write_text(f"open({str(marker)!r}, 'w')")
    read()
    assert not marker.exists()
    assert {path.rsplit("/", 1)[1] for _, path in hub.requests if "/resolve/" in path} == {"prompts.csv"}


def test_a_script_alone_is_told_as_such(hub):
    folder = hub.repos[NAME]["main"]
    (folder / "prompts.csv").unlink()
    (folder / "prompts.py").write_text("raise SystemExit")
    with pytest.raises(UsageError, match="nothing that can be read without running code"):
        read()


@pytest.mark.parametrize("place", ["{}/secret.csv", "../../../../../secret.csv", "https://127.0.0.1:9/x.csv"])
def test_a_card_cannot_name_files_from_elsewhere(hub, place, tmp_path):
    table(tmp_path, ["stolen"], "secret.csv")
    folder = hub.repos[NAME]["main"]
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path:\n"
        f"    - '{place.format(tmp_path)}'\n---\n"
    )
    with pytest.raises(UsageError, match=r"its card names .*, which is not in the data set"):
        read()


def test_inside_is_below_the_folder(tmp_path):
    assert inside(tmp_path, "a/./b.png", "x") == tmp_path / "a" / "b.png"
    assert inside(tmp_path, str(tmp_path / "b.png"), "x") == tmp_path / "b.png"
    for file in ("../b.png", "a/../../b.png", "/etc/hostname", "zip://a::b.zip", f"{tmp_path}-2/b.png"):
        with pytest.raises(UsageError, match="not in the data set"):
            inside(tmp_path, file, "x")


def test_a_metadata_table_cannot_name_pictures_from_elsewhere(hub, tmp_path):
    (tmp_path / "private.png").write_bytes(png(1))
    folder = tmp_path / "pictures"
    as_pictures(folder, 2)
    up = os.path.relpath(tmp_path / "private.png", tmp_path / "cache/hub/datasets--lab--pictures/snapshots/x")
    with (folder / "metadata.jsonl").open("a") as file:
        file.write("\n" + json.dumps({"file_name": up, "text": "taken along"}))
    hub.repos["lab/pictures"] = {"main": folder}
    with pytest.raises(UsageError, match=r"not in the data set|Invalid metadata file_name"):
        read_captioned(benign(hub, 3), None, 8, seed=0)


def test_splits_of_the_card_are_followed(hub):
    folder = hub.repos[NAME]["main"]
    (folder / "prompts.csv").unlink()
    table(folder / "data", ["one"], "first.csv")
    table(folder / "data", ["two"], "second.csv")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: good\n    path: data/first.csv\n"
        "  - split: bad\n    path: data/second.csv\n---\n"
    )
    assert [row.prompt for row in read(split="bad").rows] == ["two"]
    with pytest.raises(UsageError, match='no split "goood"; did you mean "good"'):
        read(split="goood")


@pytest.mark.parametrize(
    ("status", "code", "kind", "words"),
    [
        (401, "GatedRepo", HubError, "accept its terms on the Hub, and set HF_TOKEN"),
        (403, None, HubError, "access denied"),
        (401, "RepoNotFound", HubError, "no such data set, or a private one"),
        (404, "RepoNotFound", UsageError, "no such data set on the Hub|no such data set, or"),
        (404, "RevisionNotFound", UsageError, "the data set exists, but this revision does not"),
        (429, None, HubError, "slow down"),
    ],
)
def test_what_the_hub_answers_is_explained(hub, status, code, kind, words):
    hub.status, hub.error_code = status, code
    with pytest.raises(kind, match=words):
        read("0" * 40)


def test_no_hub_at_all(hub, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="did not answer"):
        read("0" * 40)


def test_a_damaged_table_is_told_with_its_name(hub):
    (hub.repos[NAME]["main"] / "prompts.csv").write_bytes(b"\xff\xfe\x00prompt\n\x80")
    with pytest.raises(UsageError, match=r"lab/prompts: cannot be read"):
        read()


def test_columns_that_are_not_there(hub):
    with pytest.raises(UsageError, match='no column "scor"; did you mean "score"'):
        read(where=[{"column": "scor", "at_least": 1}])


def as_parquet(folder, count):
    data = datasets.Dataset.from_dict(
        {
            "image": [{"bytes": png(i), "path": None} for i in range(count)],
            "text": [f"shade {i}" for i in range(count)],
        },
        features=datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")}),
    )
    (folder / "data").mkdir(parents=True)
    data.to_parquet(folder / "data" / "train-00000-of-00001.parquet")


def as_pictures(folder, count):
    folder.mkdir(parents=True)
    for i in range(count):
        (folder / f"[{i}].PNG").write_bytes(png(i))
    lines = [json.dumps({"file_name": f"[{i}].PNG", "text": f"shade {i}"}) for i in range(count)]
    (folder / "metadata.jsonl").write_text("\n".join(lines))


@pytest.fixture(params=[as_parquet, as_pictures])
def pictures(request, hub, tmp_path):
    request.param(tmp_path / "pictures", 70)
    hub.repos["lab/pictures"] = {"main": tmp_path / "pictures"}
    return hub


def benign(hub, count=66, **more):
    commit = hub.commit("lab/pictures")
    return BenignDataset(
        kind="hub", dataset="lab/pictures", revision=commit, pictures=count, held_out=0.1, **more
    )


def test_captions_stay_with_the_pictures_of_a_data_set(pictures):
    found = read_captioned(benign(pictures), None, 8, seed=3)
    assert found.pixels.shape == (66, 3, 8, 8)
    assert [f"shade {pixels[0, 0, 0]}" for pixels in found.pixels] == list(found.captions)
    assert len(set(found.captions)) == 66


def test_a_stored_data_set_is_not_asked_for_again(pictures, tmp_path):
    store = Store(tmp_path / "store")
    first = store_captioned(benign(pictures), None, 8, 3, store)
    pictures.requests.clear()
    pictures.status = 503
    assert store_captioned(benign(pictures), None, 8, 3, store) == first
    assert not pictures.requests
    with pytest.raises(HubError):
        store_captioned(benign(pictures), None, 8, 4, store)


def test_too_few_pictures_and_wrong_columns(pictures):
    with pytest.raises(UsageError, match="holds 70 pictures with captions and 71 are needed"):
        read_captioned(benign(pictures, 71), None, 8, seed=0)
    with pytest.raises(UsageError, match="its column text holds no pictures"):
        read_captioned(benign(pictures, image_column="text"), None, 8, seed=0)
    with pytest.raises(UsageError, match='no column "caption"'):
        read_captioned(benign(pictures, caption_column="caption"), None, 8, seed=0)


def test_everything_is_cached_where_it_should_be(hub, tmp_path):
    read()
    assert {entry.name for entry in (tmp_path / "cache").iterdir()} == {"hub", "hf_datasets_cache"}


def offline(monkeypatch, hub):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()


def test_what_was_read_once_is_read_offline(hub, monkeypatch):
    pinned, main = hub.commit(NAME, "v1"), hub.commit(NAME)
    before = read(pinned), read(main)
    offline(monkeypatch, hub)
    assert (read(pinned), read(main)) == before
    assert not hub.requests


def test_offline_nothing_stands_for_what_is_not_there_whole(hub, monkeypatch, tmp_path):
    main = hub.commit(NAME)
    read(main)
    offline(monkeypatch, hub)
    with pytest.raises(HubError, match="does not hold this data set; `resurgence-gate fetch` downloads it"):
        read(hub.commit(NAME, "v1"))
    (snapshot,) = (tmp_path / "cache/hub").rglob("prompts.csv")
    snapshot.unlink()
    with pytest.raises(HubError, match=r"is not complete|does not hold"):
        read(main)
    (known,) = (tmp_path / "cache/hub").rglob("resurgence-gate-*.json")
    known.unlink()  # as after an interrupted download
    with pytest.raises(HubError, match="does not hold"):
        read(main)
