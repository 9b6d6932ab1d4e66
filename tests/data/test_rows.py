"""Laws of prompt sets, on a made-up table with the columns of I2P."""

import csv
import json
import random
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resurgence_gate.data.conditions import words
from resurgence_gate.data.rows import PromptRow, read_rows
from resurgence_gate.draws import _spread, plan_draws
from resurgence_gate.errors import UsageError
from resurgence_gate.policy.schema import Concepts, PromptSet

COLUMNS = (
    "prompt",
    "categories",
    "hard",
    "inappropriate_percentage",
    "nudity_percentage",
    "q16_percentage",
    "sd_seed",
)
CATEGORIES = ("hate", "self-harm", "violence", "harassment", "sexual", "shocking", "illegal activity")


def made_up(count=60, seed=0):
    """Rows of I2P's shape; the prompts say nothing."""
    g = random.Random(seed)
    return [
        {
            "prompt": f'a "study", number {i}\nin grey',
            "categories": ", ".join(g.sample(CATEGORIES, g.randint(1, 3))),
            "hard": str(g.randint(0, 1)),
            "inappropriate_percentage": str(g.randint(0, 100)),
            "nudity_percentage": f"{g.choice([0.0, 12.5, 60.0])}",
            "q16_percentage": f"{g.choice([0.0, 70.0, 69.999, 100.0])}",
            "sd_seed": str(g.randrange(1 << 32)),
        }
        for i in range(count)
    ]


def write_csv(path, rows, columns=COLUMNS):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def prompts(*where, source="i2p.csv", **more):
    return PromptSet.model_validate({"source": source, "column": "prompt", "where": where, **more})


UNSAFE = (
    {"column": "categories", "any_of": ["Hate", "self-harm", "violence", " harassment "]},
    {"column": "q16_percentage", "at_least": 70},
)
HARMLESS = (
    {"column": "q16_percentage", "at_most": 0},
    {"column": "nudity_percentage", "at_most": 0},
    {"column": "categories", "none_of": ["sexual"]},
)


def picked(row, purpose):
    categories = set(row["categories"].split(", "))
    q16, nudity = float(row["q16_percentage"]), float(row["nudity_percentage"])
    if purpose is UNSAFE:
        return bool(categories & {"hate", "self-harm", "violence", "harassment"}) and q16 >= 70
    return q16 == 0 and nudity == 0 and "sexual" not in categories


@pytest.mark.parametrize("where", [UNSAFE, HARMLESS])
@pytest.mark.parametrize("order", [1, -1])
def test_the_rows_that_meet_every_condition_in_the_order_of_the_table(tmp_path, where, order):
    rows = made_up()
    write_csv(tmp_path / "i2p.csv", rows)
    found = read_rows(prompts(*where[::order], seed_column="sd_seed"), tmp_path).rows
    wanted = [(row["prompt"], int(row["sd_seed"])) for row in rows if picked(row, where)]
    assert [(row.prompt, row.seed) for row in found] == wanted
    assert 0 < len(wanted) < len(rows)


def test_a_table_is_the_same_in_both_formats(tmp_path):
    rows = made_up()
    write_csv(tmp_path / "i2p.csv", rows)
    write_jsonl(tmp_path / "i2p.jsonl", rows)
    numbers = [
        row | {"q16_percentage": float(row["q16_percentage"]), "sd_seed": int(row["sd_seed"])} for row in rows
    ]
    write_jsonl(tmp_path / "numbers.JSONL", numbers)
    found = [
        read_rows(prompts(*UNSAFE, source=source, seed_column="sd_seed"), tmp_path)
        for source in ("i2p.csv", "i2p.jsonl", "numbers.JSONL")
    ]
    assert found[0] == found[1] == found[2]
    assert found[0].commit is None


def test_the_digest_changes_with_what_is_asked_and_with_nothing_else(tmp_path):
    rows = made_up()

    def digest(changed, **more):
        write_csv(tmp_path / "i2p.csv", changed)
        return read_rows(prompts(*UNSAFE, **more), tmp_path).digest

    before = digest(rows)
    taken = next(i for i, row in enumerate(rows) if picked(row, UNSAFE))
    left = next(i for i, row in enumerate(rows) if not picked(row, UNSAFE))

    def with_prompt(i):
        return [row | {"prompt": "another"} if j == i else row for j, row in enumerate(rows)]

    assert digest(with_prompt(left)) == before
    assert digest(with_prompt(taken)) != before
    assert digest(rows[::-1]) != before
    assert digest(rows, seed_column="sd_seed") != before
    assert digest(rows) == before


def test_a_column_of_seeds_is_optional_and_bounded(tmp_path):
    for cell, seed in (("0", 0), (str(2**63 - 1), 2**63 - 1), (" 7 ", 7), (7, 7), (7.0, 7)):
        write_jsonl(tmp_path / "i2p.jsonl", [{"prompt": "x", "seed": cell}])
        found = read_rows(prompts(source="i2p.jsonl", seed_column="seed"), tmp_path)
        assert [row.seed for row in found.rows] == [seed]
    for cell in (-1, 2**63, "1.5", 1.5, "", None, True, "0x1", "²", 1e300, [1], "9" * 5000):
        write_jsonl(tmp_path / "i2p.jsonl", [{"prompt": "x", "seed": cell}])
        with pytest.raises(UsageError, match=r"i2p.jsonl:1: seed is .*; a seed is an integer from 0 to"):
            read_rows(prompts(source="i2p.jsonl", seed_column="seed"), tmp_path)


@given(st.lists(st.text(st.characters(exclude_characters=",", codec="utf-8")), max_size=4))
def test_words_of_a_cell(parts):
    assert words(",".join(parts)) == words(parts) == words(" , ".join(parts))
    assert words(",".join(parts)) == {part.strip().casefold() for part in parts} - {""}


@given(st.lists(st.text(st.characters(exclude_characters=",", codec="ascii")), max_size=4))
def test_words_of_a_cell_ignore_case(parts):
    assert words(",".join(parts).upper()) == words(",".join(parts).lower()) == words(parts)


@pytest.mark.parametrize(
    ("changes", "where", "message"),
    [
        (
            {},
            {"column": "q16_precentage", "at_least": 1},
            'no column "q16_precentage"; did you mean "q16_percentage"',
        ),
        (
            {"hard": "yes"},
            {"column": "hard", "at_least": 1},
            r"i2p.csv:6: hard is 'yes', which is not a number",
        ),
        ({"hard": "nan"}, {"column": "hard", "at_most": 1}, "not a number"),
        ({"hard": ""}, {"column": "hard", "at_most": 1}, "not a number"),
        ({}, {"column": "categories", "any_of": ["hat"]}, 'no row has "hat" .* did you mean "hate"'),
        ({}, {"column": "categories", "none_of": ["sexul"]}, 'no row has "sexul" .* did you mean "sexual"'),
        ({}, {"column": "categories", "none_of": ["hate, sexual"]}, "several words; give them one by one"),
        (
            {},
            {"column": "q16_percentage", "at_least": 101},
            "0 of 60 rows meet the conditions and 1 are needed",
        ),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(tmp_path, changes, where, message):
    rows = made_up()
    rows[2] |= changes  # every row takes two lines
    write_csv(tmp_path / "i2p.csv", rows)
    with pytest.raises(UsageError, match=message):
        read_rows(prompts(*([where] if where else [])), tmp_path)


@pytest.mark.parametrize("empty", ["", "  ", "\u00a0\n"])
@pytest.mark.parametrize("last", [True, False], ids=["last", "first"])
def test_a_row_with_an_empty_prompt_is_left_out_and_told(tmp_path, caplog, empty, last):
    full = [{"prompt": f"ship {i}", "seed": str(i)} for i in range(3)]
    rows = [*full, {"prompt": empty, "seed": "9"}] if last else [{"prompt": empty, "seed": "9"}, *full]
    write_csv(tmp_path / "a.csv", rows, ("prompt", "seed"))
    write_jsonl(tmp_path / "a.jsonl", [row if row["prompt"] != empty else {"seed": "9"} for row in rows])
    write_csv(tmp_path / "full.csv", full, ("prompt", "seed"))
    whole = read_rows(prompts(source="full.csv", seed_column="seed"), tmp_path)
    assert whole.left_out == ()
    for source in ("a.csv", "a.jsonl"):
        found = read_rows(prompts(source=source, seed_column="seed"), tmp_path)
        assert (found.rows, found.digest) == (whole.rows, whole.digest)
        (place,) = found.left_out
        assert place.partition(":")[0].endswith(source)
        with pytest.raises(
            UsageError, match=r"3 of 4 rows .*\(1 more has an empty prompt, .* and 4 are needed"
        ):
            read_rows(prompts(source=source), tmp_path, at_least=4)
        asked = Concepts(concepts=("ship",), prompt_set=prompts(source=source), pictures=3)
        caplog.clear()
        draws = plan_draws(SimpleNamespace(seed=1, folder=tmp_path), asked)
        assert [draw.prompt for draw in draws] == ["ship 0", "ship 1", "ship 2"]
        assert caplog.messages == [f"{source}: 1 row has an empty prompt and is left out: {place}"]


def test_several_empty_prompts_are_counted(tmp_path, caplog):
    write_csv(tmp_path / "a.csv", [{"prompt": p} for p in ("", "ship", " ", "boat")], ("prompt",))
    asked = Concepts(concepts=("ship",), prompt_set=prompts(source="a.csv"), pictures=2)
    assert len(plan_draws(SimpleNamespace(seed=1, folder=tmp_path), asked)) == 2
    (said,) = caplog.messages
    assert said.startswith("a.csv: 2 rows have an empty prompt and are left out, ")
    assert said.endswith("a.csv:2 first")


def test_too_few_rows_are_told_with_numbers(tmp_path):
    write_csv(tmp_path / "i2p.csv", made_up())
    with pytest.raises(UsageError, match="60 of 60 rows meet the conditions and 61 are needed"):
        read_rows(prompts(), tmp_path, at_least=61)
    assert len(read_rows(prompts(), tmp_path, at_least=60).rows) == 60


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "holds no rows"),
        ("a.csv", b"prompt\n", "holds no rows"),
        ("a.csv", b"prompt,prompt\nx,y\n", 'a.csv:1: the column "prompt" is there twice'),
        ("a.csv", b"prompt,b\nx,y\nx, y, z\n", "a.csv:3: has 3 cells where the header has 2"),
        ("a.csv", b'prompt\n"x\n', "a.csv:2: is no CSV"),
        ("a.csv", b"prompt\n\xff\n", "not text in UTF-8"),
        ("a.csv", b"prompt\n" + b"x" * 200_000, "a.csv:2: is no CSV: field larger"),
        ("a.jsonl", b'{"prompt": "x"}\n[1]\n', "a.jsonl:2: is no JSON object"),
        ("a.jsonl", b'{"prompt": "x"\n', "a.jsonl:1: is no JSON;"),
        ("a.jsonl", b"[" * 100_000, "a.jsonl:1: is no JSON;"),
        ("a.jsonl", b'{"prompt": 3}\n', "a.jsonl:1: prompt is 3, which is no text"),
        ("a.jsonl", b'{"prompt": "\\ud800"}\n', "half a character"),
        ("a.jsonl", b'{"prompt": ""}\n{"promt": "x"}\n', "no column|0 of 2 rows meet .*2 more have an empty"),
        ("a.tsv", b"prompt\nx\n", "give a .csv or .jsonl file"),
    ],
)
def test_broken_tables(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_rows(prompts(source=name), tmp_path)


def test_what_is_no_file_and_no_data_set(tmp_path):
    (tmp_path / "prompts.csv").write_text("prompt\nx\n")
    with pytest.raises(UsageError, match=r'no such file; did you mean "prompts.csv"'):
        read_rows(prompts(source="promts.csv"), tmp_path)
    with pytest.raises(UsageError, match=r"neither a \.csv or \.jsonl file nor a data set"):
        read_rows(prompts(source="prompts"), tmp_path)
    with pytest.raises(UsageError, match="a file has no revision"):
        read_rows(prompts(source="prompts.csv", revision="0" * 40), tmp_path)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UsageError, match=r"folder.csv: cannot be read: Is a directory"):
        read_rows(prompts(source="folder.csv"), tmp_path)


def test_prompts_keep_their_letters(tmp_path):
    text = "  naïve 東京 \u0301 {} 🙂\r\nsecond line "
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([["prompt"], [text]])
    (found,) = read_rows(prompts(source="a.csv"), tmp_path).rows
    assert found.prompt == text
    assert found.seed is None


@given(st.integers(1, 40), st.integers(1, 40))
def test_of_more_rows_than_pictures_some_of_every_part_are_drawn(more, pictures):
    rows = [PromptRow(prompt=str(i), seed=i) for i in range(pictures + more - 1)]
    taken = [row.seed for row in _spread(rows, pictures)]
    assert taken[0] == 0
    gaps = {later - earlier for earlier, later in pairwise([*taken, len(rows)])}
    assert min(gaps) >= 1  # none twice
    assert max(gaps) - min(gaps) <= 1


def test_a_sorted_table_is_drawn_from_to_its_end(tmp_path):
    rows = sorted(made_up(), key=lambda row: row["categories"])
    write_csv(tmp_path / "i2p.csv", rows)
    asked = Concepts(concepts=("unsafe",), prompt_set=prompts(*UNSAFE, seed_column="sd_seed"), pictures=9)
    draws = plan_draws(SimpleNamespace(seed=1, folder=tmp_path), asked)
    met = [row for row in rows if picked(row, UNSAFE)]
    assert len(met) > 18
    taken = [[row["prompt"] for row in met].index(draw.prompt) for draw in draws]
    assert taken == sorted(taken)
    assert taken[-1] > 0.85 * len(met)
    assert [draw.seed for draw in draws] == [int(met[i]["sd_seed"]) for i in taken]
