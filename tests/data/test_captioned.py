"""Laws of benign pictures from a folder: which are taken, their pixels, and what is refused."""

import io
import json
import os
import random
import shutil

import numpy as np
import pytest
from PIL import Image

from resurgence_gate.data.captioned import read_captioned
from resurgence_gate.data.pixels import decode
from resurgence_gate.errors import UsageError
from resurgence_gate.policy.schema import BenignFolder


def encoded(pixels, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(file, kind, **options)
    return file.getvalue()


def shade(value, height=9, width=12):
    return encoded(np.full((height, width, 3), value))


def in_texts(folder, captions):
    (folder / "below").mkdir(parents=True)
    for i, caption in enumerate(captions):
        place = folder / "below" if i % 2 else folder
        (place / f"{i}.png").write_bytes(shade(i))
        (place / f"{i}.txt").write_text(f"{caption}\n", encoding="utf-8")


def in_jsonl(folder, captions):
    folder.mkdir(parents=True)
    lines = []
    for i, caption in enumerate(captions):
        (folder / f"{i}.png").write_bytes(shade(i))
        lines.append(json.dumps({"file_name": f"./{i}.png", "text": caption}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))


def in_csv(folder, captions):
    in_jsonl(folder, captions)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    (folder / "metadata.jsonl").unlink()
    text = "file_name,text\n" + "".join(f'{row["file_name"]},"{row["text"]}"\n' for row in rows)
    (folder / "metadata.csv").write_text(text, encoding="utf-8")


CAPTIONS = [f"a Ñandú, shade {i} 🙂" for i in range(12)]


def spec(count=12, **more):
    return BenignFolder(kind="folder", path="pictures", pictures=count, held_out=0.1, **more)


def read(tmp_path, count=12, seed=0, size=8):
    return read_captioned(spec(count), tmp_path, size, seed)


@pytest.mark.parametrize("write", [in_texts, in_jsonl, in_csv])
def test_captions_stay_with_their_pictures(tmp_path, write):
    write(tmp_path / "pictures", CAPTIONS)
    found = read(tmp_path)
    assert found.pixels.dtype == np.uint8
    assert found.pixels.shape == (12, 3, 8, 8)
    assert [CAPTIONS[pixels[0, 0, 0]] for pixels in found.pixels] == list(found.captions)
    assert sorted(found.captions) == sorted(CAPTIONS)


def test_the_choice_depends_on_seed_and_contents_alone(tmp_path):
    in_texts(tmp_path / "a" / "pictures", CAPTIONS)
    in_jsonl(tmp_path / "b" / "pictures", CAPTIONS)
    for i, name in enumerate(random.Random(1).sample(range(12), 12)):  # other names, other order
        for suffix in (".png", ".txt"):
            source = next((tmp_path / "a").rglob(f"{i}{suffix}"))
            (tmp_path / "c" / "pictures").mkdir(parents=True, exist_ok=True)
            shutil.copy(source, tmp_path / "c" / "pictures" / f"n{name}{suffix}")
    found = [read(tmp_path / place, 5, seed=4) for place in "abc"]
    assert found[0].captions == found[1].captions == found[2].captions
    assert found[0].digest == found[1].digest == found[2].digest
    assert read(tmp_path / "a", 5, seed=5).captions != found[0].captions
    assert set(read(tmp_path / "a", 12, seed=5).captions) == set(CAPTIONS)


def test_the_digest_changes_with_captions_and_pictures_and_not_with_the_size(tmp_path):
    in_jsonl(tmp_path / "pictures", CAPTIONS)
    before = read(tmp_path).digest
    assert read(tmp_path, size=16).digest == before
    table = tmp_path / "pictures" / "metadata.jsonl"
    table.write_text(table.read_text().replace("shade 3", "shade three"))
    recaptioned = read(tmp_path).digest
    (tmp_path / "pictures" / "3.png").write_bytes(shade(200))
    assert len({before, recaptioned, read(tmp_path).digest}) == 3


def put(folder, name, content=b"x"):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def line(folder, **cells):
    with (folder / "metadata.jsonl").open("a") as file:
        file.write("\n" + json.dumps(cells))


BROKEN = {
    "more.png: has no caption; give it a line in metadata.jsonl": lambda f: put(f, "more.png", shade(1)),
    "sub/more.JPG: has no caption": lambda f: put(f, "sub/more.JPG", shade(1)),
    "metadata.jsonl:4: there is no picture 9.png": lambda f: line(f, file_name="9.png", text="x"),
    'metadata.jsonl:4: there is no picture 00.png; did you mean "0.png"': lambda f: line(
        f, file_name="00.png", text="x"
    ),
    "metadata.jsonl:4: ../out.png is outside the folder": lambda f: line(f, file_name="../out.png", text="x"),
    "metadata.jsonl:4: a/../../out.png is outside": lambda f: line(f, file_name="a/../../out.png", text="x"),
    "metadata.jsonl:4: /etc/hostname is outside": lambda f: line(f, file_name="/etc/hostname", text="x"),
    "metadata.jsonl:4: 0.png has a caption already": lambda f: line(f, file_name="0.png", text="x"),
    "metadata.jsonl:4: text is empty": lambda f: [put(f, "9.png"), line(f, file_name="9.png", text=" ")],
    "metadata.jsonl:4: file_name is empty": lambda f: line(f, text="x"),
    "x.gif is no picture that can be read": lambda f: [put(f, "x.gif"), line(f, file_name="x.gif", text="x")],
    "holds both metadata.jsonl and metadata.csv": lambda f: put(f, "metadata.csv"),
    "0.png: is no PNG, JPEG, WebP or BMP picture, or a damaged one": lambda f: put(f, "0.png", b"GIF89a"),
    "0.png: is damaged": lambda f: put(
        f, "0.png", encoded(np.random.default_rng(0).integers(0, 255, (99, 99, 3)))[:900]
    ),
    "0.png: has more than 89 million pixels": lambda f: put(f, "0.png", encoded(np.zeros((9500, 9500)))),
    "0.png: has more than 8 bits a channel": lambda f: Image.fromarray(
        np.full((9, 9), 3000, dtype=np.uint16)
    ).save(f / "0.png"),
    "1.png: is a link out of the folder": lambda f: [
        (f / "1.png").rename(f.parent / "elsewhere.png"),
        (f / "1.png").symlink_to(f.parent / "elsewhere.png"),
    ],
    "loop.png: is no plain file": lambda f: (f / "loop.png").symlink_to(f / "loop.png"),
    "pipe.png: is no plain file": lambda f: os.mkfifo(f / "pipe.png"),
    "linked: is a link to a folder": lambda f: (f / "linked").symlink_to(f.parent),
    "holds 3 pictures with captions and 12 are needed": lambda f: put(f, ".DS_Store"),
}


@pytest.mark.parametrize("message", BROKEN)
def test_what_is_wrong_is_told_with_the_file(tmp_path, message):
    folder = tmp_path / "pictures"
    in_jsonl(folder, CAPTIONS[:3])
    read(tmp_path, 3)
    BROKEN[message](folder)
    with pytest.raises(UsageError) as raised:
        read(tmp_path, 12 if "12" in message else 3)
    assert message in str(raised.value)


def test_texts_beside_pictures(tmp_path):
    in_texts(tmp_path / "pictures", CAPTIONS[:3])
    put(tmp_path / "pictures", "LICENSE.txt")
    with pytest.raises(UsageError, match=r"LICENSE.txt: is a caption without a picture"):
        read(tmp_path, 3)
    (tmp_path / "pictures" / "LICENSE.txt").unlink()
    (tmp_path / "pictures" / "0.txt").unlink()
    with pytest.raises(UsageError, match=r"0.png: has no caption; write one to 0.txt beside it"):
        read(tmp_path, 3)
    put(tmp_path / "pictures", "0.txt", b"\xff")
    with pytest.raises(UsageError, match=r"0.txt: is not text in UTF-8"):
        read(tmp_path, 3)


def test_no_such_folder(tmp_path):
    (tmp_path / "picturs").mkdir()
    with pytest.raises(UsageError, match=r'there is no such folder; did you mean "picturs"'):
        read(tmp_path)
    (tmp_path / "pictures").write_text("")
    with pytest.raises(UsageError, match="is a file; give the folder"):
        read(tmp_path)


def test_the_central_square_is_taken():
    pixels = np.zeros((8, 20, 3))
    pixels[:, 6:14] = 200
    assert (decode(encoded(pixels), 8, "x") == 200).all()
    assert (decode(encoded(pixels.transpose(1, 0, 2)), 8, "x") == 200).all()


def test_a_picture_of_the_right_size_is_left_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert (decode(encoded(pixels), 16, "x") == pixels.transpose(2, 0, 1)).all()


def test_shrinking_smoothes():
    board = np.indices((64, 64)).sum(0) % 2 * 255
    small = decode(encoded(np.repeat(board[..., None], 3, axis=2)), 8, "x")
    assert abs(small.astype(int) - 127).max() < 12  # picking pixels would give 0 and 255


def test_pictures_stand_upright():
    pixels = np.zeros((8, 8, 3))
    pixels[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned = decode(encoded(pixels, exif=exif), 8, "x")
    assert (turned[:, :, 4:] == 255).all()
    assert (turned[:, :, :4] == 0).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_kind_of_colour_becomes_rgb(mode):
    file = io.BytesIO()
    Image.new("RGB", (9, 9), (255, 255, 255)).convert(mode).save(file, "JPEG" if mode == "CMYK" else "PNG")
    assert (decode(file.getvalue(), 8, "x") >= 254).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_damage_is_an_error_of_ours_or_a_picture(kind):
    g = random.Random(kind)
    whole = encoded(np.random.default_rng(0).integers(0, 256, (24, 24, 3)), kind)
    refused = []
    for _ in range(300):
        damaged = bytearray(whole[: g.choice([len(whole), g.randrange(len(whole))])])
        for _ in range(g.randint(1, 4)):
            if damaged:
                damaged[g.randrange(min(len(damaged), 200))] = g.randrange(256)
        try:
            assert decode(bytes(damaged), 8, "x").shape == (3, 8, 8)
        except UsageError as error:
            refused.append(str(error))
    assert len(refused) > 30
    assert all(message.startswith("x: ") for message in refused)
