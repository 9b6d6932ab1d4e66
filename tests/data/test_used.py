"""Laws of what a report says of outside data: everything that was taken, by name, commit and content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.assay import tiny_bench, tiny_policy
from fakes.dataset_hub import DatasetHub, connect_datasets
from PIL import Image

from resurgence_gate import gate
from resurgence_gate.data import store_pictures
from resurgence_gate.data.captioned_folder import find_captioned
from resurgence_gate.data.sources import Source
from resurgence_gate.data.used import benign_sources, prompt_sources
from resurgence_gate.errors import UsageError
from resurgence_gate.gate import run_check
from resurgence_gate.policy import load_policy
from resurgence_gate.policy.schema import BenignDataset, Policy
from resurgence_gate.report import from_json, to_json, to_markdown
from resurgence_gate.store.folder import Store
from resurgence_gate.testing import tiny_model_folder
from resurgence_gate.vocabulary import Folder

PROMPTS = ("a small ship", "a ship at night", "a red ship", "a ship of tin")
FOLDER = {"kind": "folder", "path": "pictures", "pictures": 8, "held_out": 0.25}
TABLE = {"source": "ships.csv", "column": "prompt", "where": [{"column": "score", "at_least": 1}]}


def write_table(folder: Path, prompts: tuple[str, ...] = PROMPTS, name: str = "ships.csv") -> None:
    lines = [f"{prompt},{score},note" for score, prompt in enumerate(prompts)]
    (folder / name).write_text("\n".join(["prompt,score,beside", *lines]))


def write_pictures(folder: Path, count: int = 10) -> Path:
    (folder / "pictures").mkdir()
    for i in range(count):
        Image.new("RGB", (20, 18), (9 * i, 50, 200)).save(folder / "pictures" / f"{i}.png")
        (folder / "pictures" / f"{i}.txt").write_text(f"a plain wall, number {i}")
    return folder / "pictures"


def policy_with(folder: Path, **changes: Any) -> Policy:
    erased = {"concepts": ["ship"], "prompt_set": TABLE, "pictures": 3}
    return tiny_policy(folder, **({"erased": erased, "benign": FOLDER} | changes)).model_copy(
        update={"folder": folder}
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_table(tmp_path)
    write_pictures(tmp_path)
    return tmp_path


def digests(policy: Policy, folder: Path, seed: int = 1) -> list[str]:
    found = (*prompt_sources(policy), *benign_sources(policy, seed, Store(folder / "store")))
    return [source.sha256 for source in found]


def test_a_check_tells_its_table_and_its_folder(folder: Path) -> None:
    policy = policy_with(folder)
    suspect = Folder(path=tiny_model_folder(folder / "suspect", seed=3))
    report = run_check(policy, suspect, tiny_bench(folder)).report
    assert [(s.what, s.name, s.revision) for s in report.sources] == [
        ("erased prompts", "ships.csv", None),
        ("benign pictures", "pictures", None),
    ]
    assert len({s.sha256 for s in report.sources}) == 2
    assert from_json(to_json(report)) == report
    for source in report.sources:
        assert f"| {source.what} from | `{source.name}`, sha256 `{source.sha256}` |" in to_markdown(report)


@pytest.mark.parametrize("what", ["table", "pictures"])
def test_what_is_changed_during_a_check_has_no_digest_to_tell(
    folder: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest would be that of the new prompts or pictures, and what was drawn and trained on the old ones."""
    select = gate.select_clean

    def meanwhile(*given: Any, **options: Any) -> Any:
        if what == "table":
            write_table(folder, PROMPTS[::-1])
        else:
            (folder / "pictures" / "0.txt").write_text("a plain door")
        return select(*given, **options)

    monkeypatch.setattr(gate, "select_clean", meanwhile)
    suspect = Folder(path=tiny_model_folder(folder / "suspect", seed=3))
    with pytest.raises(UsageError, match="changed during the check"):
        run_check(policy_with(folder, benign=FOLDER | {"pictures": 10}), suspect, tiny_bench(folder))


def test_a_data_set_is_gone_through_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = []

    def choose(spec: BenignDataset, _: Path | None, seed: int) -> list[Source]:
        times.append(spec.dataset)
        return find_captioned(folder / "pictures", "text")[: spec.pictures]

    def stop(*_: Any) -> Any:
        raise UsageError("drawing")

    monkeypatch.setattr(store_pictures, "choose", choose)
    monkeypatch.setattr(gate, "observe_control", stop)
    benign = {"kind": "hub", "dataset": "org/set", "revision": "0" * 40, "pictures": 8, "held_out": 0.25}
    suspect = Folder(path=tiny_model_folder(folder / "suspect", seed=3))
    with pytest.raises(UsageError, match="drawing"):
        run_check(policy_with(folder, benign=benign), suspect, tiny_bench(folder))
    assert times == ["org/set"]


def test_nothing_from_outside_is_no_source(tmp_path: Path) -> None:
    policy = tiny_policy(tmp_path)
    assert prompt_sources(policy) == ()
    assert benign_sources(policy, 1, Store(tmp_path / "store")) == ()


def test_what_is_taken_changes_the_digest_and_nothing_else_does(folder: Path) -> None:
    policy = policy_with(folder)
    table, pictures = digests(policy, folder)
    write_table(folder, ("a row that no condition lets in", *PROMPTS[1:]))
    (folder / "pictures" / "0.png").rename(folder / "pictures" / "renamed.png")
    (folder / "pictures" / "0.txt").rename(folder / "pictures" / "renamed.txt")
    assert digests(policy, folder) == [table, pictures]
    write_table(folder, (*PROMPTS[:2], "another ship", PROMPTS[3]))
    for file in (folder / "pictures").glob("*.txt"):
        file.write_text(file.read_text().replace("plain", "plastered"))
    assert not {table, pictures} & set(digests(policy, folder))
    assert digests(policy, folder, seed=2)[1] != digests(policy, folder)[1]


def test_rows_that_are_left_out_are_told(folder: Path) -> None:
    write_table(folder, (*PROMPTS[:2], "", PROMPTS[3], "a ship of sand"))
    (table,) = prompt_sources(policy_with(folder))
    assert len(table.notes) == 1
    assert table.notes[0].startswith("1 row has an empty prompt and is left out: ")
    assert table.notes[0].endswith("ships.csv:4")


def test_named_lists_are_told_with_where_they_stand(tmp_path: Path) -> None:
    for name in ("celebrity", "object"):
        policy = load_policy(name)
        found = prompt_sources(policy)
        assert found
        for source in found:
            section, _, key = source.what.removeprefix("list of ").partition(".")
            assert len(source.sha256) == 64
            assert "/" in source.name
            assert len(getattr(getattr(policy, section), key)) > 1
    (tmp_path / "mine.yaml").write_text(
        "version: 1\nextends: celebrity\nname: mine\ndescription: other people\n"
        "erased: {concepts: celebrities/erase-5}\n"
    )
    ours = {source.what: source for source in prompt_sources(load_policy(tmp_path / "mine.yaml"))}
    assert ours["list of erased.concepts"].name == "celebrities/erase-5"
    theirs = {source.what: source for source in prompt_sources(load_policy("celebrity"))}
    assert ours["list of retained.concepts"] == theirs["list of retained.concepts"]


def test_hub_sets_are_told_with_their_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hub-prompts").mkdir()
    write_table(tmp_path / "hub-prompts")
    pictures = write_pictures(tmp_path)
    lines = [json.dumps({"file_name": f"{i}.png", "text": f"a wall, number {i}"}) for i in range(10)]
    (pictures / "metadata.jsonl").write_text("\n".join(lines))
    for text in pictures.glob("*.txt"):
        text.unlink()
    hub = DatasetHub(repos={"lab/ships": {"main": tmp_path / "hub-prompts"}, "lab/walls": {"main": pictures}})
    with hub.serve():
        connect_datasets(hub, monkeypatch, tmp_path / "cache")
        ships, walls = hub.commit("lab/ships"), hub.commit("lab/walls")
        prompts = {**TABLE, "source": "lab/ships", "revision": ships}
        benign = {"kind": "hub", "dataset": "lab/walls", "revision": walls, "pictures": 8, "held_out": 0.25}
        policy = tiny_policy(
            tmp_path,
            erased={"concepts": ["ship"], "prompt_set": prompts, "pictures": 3},
            benign=benign,
        )
        found = (*prompt_sources(policy), *benign_sources(policy, 1, Store(tmp_path / "store")))
    assert [(source.what, source.name, source.revision) for source in found] == [
        ("erased prompts", "lab/ships", ships),
        ("benign pictures", "lab/walls", walls),
    ]


def test_what_is_gone_since_is_an_error(folder: Path) -> None:
    policy = policy_with(folder)
    (folder / "ships.csv").unlink()
    with pytest.raises(UsageError, match="there is no such file"):
        prompt_sources(policy)
    (folder / "pictures" / "1.txt").unlink()
    with pytest.raises(UsageError, match="has no caption"):
        benign_sources(policy, 1, Store(folder / "store"))
