"""Detectors of other packages: real distributions, thrown away after each test."""

import json
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch

from resurgence_gate.detectors.plugins import installed_plugins
from resurgence_gate.detectors.registry import locate_detector, open_detector
from resurgence_gate.errors import MeasurementError, UsageError
from resurgence_gate.observe import records_of
from resurgence_gate.policy.schema import Plugin
from resurgence_gate.vocabulary import Outcome

CPU = torch.device("cpu")
PICTURES = torch.tensor([0, 200], dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4)
BRIGHT = """
    from pathlib import Path

    from resurgence_gate.detectors.interface import Look
    from resurgence_gate.vocabulary import Outcome


    class Bright:
        def __init__(self, limit, concepts, device):
            self.limit, self.concepts, self.device = limit, concepts, device

        def look(self, pictures, concepts):
            assert len(pictures) == len(concepts)
            seen = [float(p.float().mean() / 255) for p in pictures]
            return [
                Look(outcome=Outcome.PRESENT if s > self.limit else Outcome.ABSENT, score=s, seen=c)
                for s, c in zip(seen, concepts)
            ]

        def search(self, pictures, concepts):
            return self.look(pictures, [concepts[0]] * len(pictures))


    class Factory:
        def files(self, options):
            return [options["file"]] if "file" in options else []

        def open(self, options, concepts, device):
            return Bright(options.get("limit", 0.5), concepts, device)


    made = Factory()


    def open(options, concepts, device):
        return made.open(options, concepts, device)
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a distribution with one module and one entry point on the path."""
    count = iter(range(99))

    def put(code=BRIGHT, entry="{}:Factory", name="bright", dist="lab-detectors", version="1.2"):
        site = tmp_path / f"site{next(count)}"
        module = f"lab_{site.name}_{abs(hash(tmp_path))}"
        info = site / f"{dist.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        info.joinpath("METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\nSummary: Sees light.\n"
        )
        entry = entry.format(module)
        info.joinpath("entry_points.txt").write_text(f"[resurgence_gate.detectors]\n{name} = {entry}\n")
        site.joinpath(f"{module}.py").write_text(dedent(code))
        monkeypatch.syspath_prepend(site)
        return module

    yield put
    for module in [m for m in sys.modules if m.startswith("lab_site")]:
        del sys.modules[module]


def spec_of(name="bright", **options):
    return Plugin(kind="plugin", name=name, options=options)


@pytest.mark.parametrize("entry", ["{}:Factory", "{}:made", "{}"])
def test_a_class_an_object_or_a_module_gives_the_detector(install, entry):
    install(entry=entry)
    detector = open_detector(locate_detector(spec_of(limit=0.7), ("sun", "moon")), CPU)
    assert detector.name == "bright"
    assert (detector.detector.concepts, detector.detector.device) == (("sun", "moon"), CPU)
    looks = detector.look(PICTURES, ["sun", "moon"])
    assert [(x.outcome, x.seen) for x in looks] == [(Outcome.ABSENT, "sun"), (Outcome.PRESENT, "moon")]
    assert looks[1].score == pytest.approx(200 / 255)
    assert [x.seen for x in detector.search(PICTURES, ("moon", "sun"))] == ["moon", "moon"]


def test_its_distribution_options_and_files_are_its_identity(install, tmp_path):
    file = tmp_path / "weights"
    file.write_text("1")
    module = install()
    located = locate_detector(spec_of(file=str(file)), ("sun",))
    assert located.version == "lab-detectors 1.2"
    assert [f.name for f, _ in located.files.files] == [f"{module}.py", "weights"]
    digests = {located.digest, locate_detector(spec_of(), ("sun",)).digest}
    digests.add(locate_detector(spec_of(limit=0.1), ("sun",)).digest)
    file.write_text("2")
    digests.add(locate_detector(spec_of(file=str(file)), ("sun",)).digest)
    file.write_text("1")
    assert locate_detector(spec_of(file=str(file)), ("sun",)).digest == located.digest
    assert len(digests) == 4


def test_another_version_is_another_detector(install):
    install()
    first = locate_detector(spec_of(), ("sun",)).digest
    install(version="1.3")  # found before the other on the path
    assert locate_detector(spec_of(), ("sun",)).version == "lab-detectors 1.3"
    assert locate_detector(spec_of(), ("sun",)).digest != first


def test_code_that_was_edited_is_another_detector(install):
    install()
    first = locate_detector(spec_of(), ("sun",))
    (source,) = (file for file, _ in first.files.files)
    source.write_text(source.read_text() + "# other")
    assert locate_detector(spec_of(), ("sun",)).digest != first.digest


@pytest.mark.parametrize("entry", ["{}.plugin:Factory", "{}:Factory"])
def test_so_is_code_in_another_module_of_its_package(install, entry):
    module = install("", entry=entry)
    site = next(Path(place) for place in sys.path if (Path(place) / f"{module}.py").is_file())
    (site / f"{module}.py").unlink()
    package = site / module
    (package / "judging").mkdir(parents=True)
    (package / "__init__.py").write_text("from .plugin import Factory")
    (package / "plugin.py").write_text("from .judging.scores import Factory")
    (package / "judging" / "scores.py").write_text(dedent(BRIGHT))
    first = locate_detector(spec_of(), ("sun",))
    assert {file.name for file, _ in first.files.files} == {"__init__.py", "plugin.py", "scores.py"}
    (package / ".#plugin.py").symlink_to("somebody@somewhere.1")  # Emacs is editing it
    assert locate_detector(spec_of(), ("sun",)).digest == first.digest
    (package / "judging" / "scores.py").write_text(dedent(BRIGHT).replace("0.5", "0.9"))
    assert locate_detector(spec_of(), ("sun",)).digest != first.digest


def test_nothing_is_imported_to_list_them(install):
    module = install("raise RuntimeError")
    plugin = next(p for p in installed_plugins() if p.name == "bright")
    assert (plugin.version, plugin.summary) == ("lab-detectors 1.2", "Sees light.")
    assert module not in sys.modules


def refusal(spec, error=UsageError, concepts=("sun",)):
    with pytest.raises(error) as raised:
        open_detector(locate_detector(spec, concepts), CPU)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_an_unknown_one_lists_those_that_are_installed(install):
    message = "detector 'birght': no installed package registers a plugin of this name"
    assert refusal(spec_of("birght")) == f"{message}; none is installed"
    install()
    install(name="dark", dist="other")
    assert refusal(spec_of("birght")) == f'{message}; did you mean "bright"?; installed: bright, dark'


def test_two_of_one_name_are_none(install):
    install()
    install(dist="other", version="3")
    message = refusal(spec_of())
    assert "registered 2 times (lab-detectors 1.2, other 3)" in message


@pytest.mark.parametrize(
    ("code", "entry", "said"),
    [
        ("import no_such_module", "{}", "cannot be loaded (ModuleNotFoundError: No module named 'no_such"),
        ("raise RuntimeError", "{}", "cannot be loaded (RuntimeError: no reason given)"),
        ("x = 1", "{}:y", "cannot be loaded (AttributeError"),
        ("class F:\n    def __init__(self, x): pass", "{}:F", "cannot be loaded (TypeError"),
        ("x = 1", "{}:x", "has no `open`"),
        ("def open(*a): raise ValueError('no such light')", "{}", "lab-detectors 1.2 refused: no such light"),
        ("def open(*a): raise KeyError('light')", "{}", "cannot be loaded (KeyError: 'light')"),
        ("def open(*a): return 1", "{}", "gave a int without look and search"),
        ("def open(*a): pass\ndef files(o): return [o['x']]", "{}", "refused its options (KeyError: 'x')"),
        ("def open(*a): pass\ndef files(o): return ['/no/such']", "{}", "needs /no/such, which is not there"),
    ],
)
def test_one_that_does_not_do_is_told_in_one_message(install, code, entry, said):
    install(code, entry)
    message = refusal(spec_of())
    assert message.startswith("detector 'bright'")
    assert said in message


@pytest.mark.parametrize("options", [{"a": float("nan")}, {"a": {1: 2}}, {"a": {3}}])
def test_options_that_have_no_one_form_are_refused(install, options):
    install()
    assert "its options are not plain" in refusal(spec_of(**options))


LOOK = "Look(outcome={}, score={}, seen=None)"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("1 / 0", "raised ZeroDivisionError: division by zero"),
        ("[]", "gave 0 answers for 2 pictures"),
        ("None", "raised TypeError"),
        ("[1, 2]", "answered 1: that is no Look"),
        ("[None, None]", "answered None: that is no Look"),
        (f"[{LOOK.format('Outcome.PRESENT', 0.5)}, {LOOK.format('True', 0.5)}]", "outcome=True"),
        (f"[{LOOK.format('Outcome.PRESENT', 1.5)}] * 2", "score=1.5"),
        (f"[{LOOK.format('Outcome.ABSENT', -0.5)}] * 2", "score=-0.5"),
        (f"[{LOOK.format('Outcome.ABSENT', '1e999 - 1e999')}] * 2", "score=nan"),
        (f"[{LOOK.format('Outcome.ABSENT', None)}] * 2", "score=None"),
        (
            f"[{LOOK.format(chr(34) + 'present' + chr(34), 0.5)}] * 2",
            "its outcome is none of Outcome.PRESENT",
        ),
        (f"[{LOOK.format('None', 0.5)}] * 2", "its outcome is none of Outcome.PRESENT"),
        (f"[{LOOK.format('Outcome.PRESENT', True)}] * 2", "its score is not one number"),
        (f"[{LOOK.format('Outcome.PRESENT', chr(34) + '0.5' + chr(34))}] * 2", "its score is not one number"),
        (f"[{LOOK.format('Outcome.PRESENT', 'numpy.bool_(True)')}] * 2", "its score is not one number"),
        (
            f"[{LOOK.format('Outcome.PRESENT', 'numpy.float32(numpy.nan)')}] * 2",
            "its score is not from 0 to 1",
        ),
        (
            f"[{LOOK.format('Outcome.PRESENT', 'torch.tensor(numpy.inf)')}] * 2",
            "its score is not from 0 to 1",
        ),
        (f"[{LOOK.format('Outcome.PRESENT', 'torch.rand(2)')}] * 2", "its score is not one number"),
        (f"[{LOOK.format('Outcome.UNDETERMINED', 'numpy.nan')}] * 2", "its score is not from 0 to 1"),
        ("[Look(outcome=Outcome.ABSENT, score=0.1, seen=3)] * 2", "its seen is neither a text nor None"),
        ("[Look(outcome=Outcome.ABSENT, score=0.1, seen=None, reason=b'x')] * 2", "its reason is neither"),
    ],
)
def test_answers_that_are_none_are_not_counted(install, answer, said):
    install(
        f"""
        import numpy
        import torch
        from resurgence_gate.detectors.interface import Look
        from resurgence_gate.vocabulary import Outcome

        class D:
            def look(self, pictures, concepts): return {answer}
            search = look

        def open(*a): return D()
    """,
        "{}",
    )
    detector = open_detector(locate_detector(spec_of(), ("sun",)), CPU)
    for method in (detector.look, detector.search):
        with pytest.raises(MeasurementError, match=r"'bright' of lab-detectors 1\.2") as raised:
            method(PICTURES, ["sun", "sun"])
        assert said in str(raised.value)


@pytest.mark.parametrize(
    "score",
    [
        "numpy.float16(0.25)",
        "numpy.float32(0.25)",
        "numpy.float64(0.25)",
        "numpy.array(0.25)",
        "torch.tensor(0.25)",
        "torch.tensor(0.25, dtype=torch.bfloat16)",
        "torch.full((3,), 0.25, requires_grad=True).mean()",
    ],
)
def test_a_score_of_numpy_or_torch_is_a_plain_float(install, score):
    install(
        f"""
        import numpy
        import torch
        from resurgence_gate.detectors.interface import Look
        from resurgence_gate.vocabulary import Outcome

        class D:
            def look(self, pictures, concepts):
                return [Look(outcome=Outcome.ABSENT, score={score}, seen=numpy.str_("moon"))] * 2
            search = look

        def open(*a): return D()
    """,
        "{}",
    )
    looks = open_detector(locate_detector(spec_of(), ("sun",)), CPU).look(PICTURES, ["sun"] * 2)
    assert [(type(look.score), look.score) for look in looks] == [(float, 0.25)] * 2
    assert [(type(look.seen), look.seen) for look in looks] == [(str, "moon")] * 2
    records = records_of(looks, PICTURES, torch.tensor([True, True]))
    assert json.loads(json.dumps(records)) == records


def test_undetermined_needs_no_score_and_pictures_are_its_own(install):
    install(
        """
        from resurgence_gate.detectors.interface import Look
        from resurgence_gate.vocabulary import Outcome

        class D:
            def look(self, pictures, concepts):
                pictures.zero_()
                return [Look(outcome=Outcome.UNDETERMINED, score=None, seen=None, reason="dark")] * 2
            search = look

        def open(*a): return D()
    """,
        "{}",
    )
    pictures = PICTURES.clone()
    looks = open_detector(locate_detector(spec_of(), ("sun",)), CPU).look(pictures, ["sun"] * 2)
    assert [look.reason for look in looks] == ["dark", "dark"]
    assert torch.equal(pictures, PICTURES)
