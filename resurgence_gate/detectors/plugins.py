"""Detectors of other packages, found by their entry points in the group `resurgence_gate.detectors`.

A package names a `DetectorPlugin` in its pyproject.toml:

    [project.entry-points."resurgence_gate.detectors"]
    my-detector = "my_package:MyPlugin"
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from resurgence_gate.detectors.interface import Detector, Look
from resurgence_gate.errors import GateError, MeasurementError, UsageError
from resurgence_gate.execution.memory import out_of_memory
from resurgence_gate.policy.text import or_else
from resurgence_gate.vocabulary import Outcome

if TYPE_CHECKING:
    import torch
    from torch import Tensor

GROUP = "resurgence_gate.detectors"
_LONGEST = 200  # signs of an answer that a message quotes


class DetectorPlugin(Protocol):
    """What an entry point gives: a class that is made without arguments, an object, or a module with these functions.

    Beside `open` it may have `files(options)`, the paths of what its answers depend on: weights, and code outside of
    its package. They are hashed as its package is, so that answers under other files are never taken for the same.
    """

    def open(self, options: Mapping[str, Any], concepts: Sequence[str], device: torch.device) -> Detector:
        """The detector, on `device`; `concepts` are all that it may be asked for. Raise ValueError to refuse."""
        ...


@dataclass(frozen=True, kw_only=True)
class InstalledPlugin:
    """An entry point, and the distribution that it is of."""

    entry_point: EntryPoint

    @property
    def name(self) -> str:
        """What policies call it."""
        return self.entry_point.name

    @property
    def version(self) -> str:
        """Name and version of its distribution."""
        dist = self.entry_point.dist
        return f"{dist.name} {dist.version}" if dist else "an unnamed distribution"

    @property
    def summary(self) -> str:
        """The one line of its distribution about itself."""
        dist = self.entry_point.dist
        return str(dist.metadata.json.get("summary", "")) if dist else ""

    def load(self) -> Any:
        """Import it. Raises UsageError."""
        try:
            loaded = self.entry_point.load()
            plugin = loaded() if isinstance(loaded, type) else loaded
        except GateError:
            raise
        except Exception as error:  # whatever another package's module does as it is imported
            reason = f"{type(error).__name__}: {next(iter(str(error).splitlines()), 'no reason given')}"
            raise UsageError(
                f"detector {self.name!r}: {self.entry_point.value} of {self.version} cannot be loaded ({reason}); "
                "install it again, or see to the package"
            ) from error
        if not callable(getattr(plugin, "open", None)):
            raise UsageError(
                f"detector {self.name!r}: {self.entry_point.value} of {self.version} has no `open`; "
                "it is no plugin of this version, see to the package"
            )
        return plugin


def installed_plugins() -> tuple[InstalledPlugin, ...]:
    """Every entry point of the group, by name; nothing is imported."""
    found = entry_points(group=GROUP)
    return tuple(sorted((InstalledPlugin(entry_point=e) for e in found), key=lambda p: (p.name, p.version)))


def find_plugin(name: str) -> InstalledPlugin:
    """The one plugin of that name. Raises UsageError where there is none, or more than one."""
    installed = installed_plugins()
    found = [plugin for plugin in installed if plugin.name == name]
    if not found:
        known = sorted({plugin.name for plugin in installed})
        hint = f"{or_else(name, known)}; installed: {', '.join(known)}" if known else "; none is installed"
        raise UsageError(f"detector {name!r}: no installed package registers a plugin of this name{hint}")
    if len(found) > 1:
        owners = ", ".join(plugin.version for plugin in found)
        raise UsageError(
            f"detector {name!r} is registered {len(found)} times ({owners}), so nobody knows which one judges; "
            "uninstall all but one"
        )
    return found[0]


class Watched:
    """A plugin's detector whose failures and answers are looked at: what it may not say is never counted."""

    def __init__(self, detector: Detector, plugin: InstalledPlugin) -> None:
        self.detector = detector
        self.plugin = plugin
        self.name = plugin.name

    def look(self, pictures: Tensor, concepts: Sequence[str]) -> list[Look]:
        """See `Detector.look`."""
        return self._asked("look", pictures, concepts)

    def search(self, pictures: Tensor, concepts: Sequence[str]) -> list[Look]:
        """See `Detector.search`."""
        return self._asked("search", pictures, concepts)

    def _asked(self, method: str, pictures: Tensor, concepts: Sequence[str]) -> list[Look]:
        try:
            # A copy, because the pictures are judged by others too.
            looks = list(getattr(self.detector, method)(pictures.clone(), list(concepts)))
        except GateError:
            raise
        except Exception as error:
            if out_of_memory(error):
                raise
            raise self._failure(f"raised {type(error).__name__}: {error}") from error
        if len(looks) != len(pictures):
            raise self._failure(f"gave {len(looks)} answers for {len(pictures)} pictures")
        return [self._plain(look) for look in looks]

    def _plain(self, look: object) -> Look:
        """The look with plain texts and a plain float. Raises MeasurementError where it is none."""
        try:
            return plain_look(look)
        except ValueError as error:
            raise self._failure(f"answered {_shown(look)}: {error}") from error

    def _failure(self, what: str) -> MeasurementError:
        return MeasurementError(
            f"detector {self.name!r} of {self.plugin.version} {what}; nothing can be said of the pictures, "
            "see to the package"
        )


def require_detector(detector: object, plugin: InstalledPlugin) -> Watched:
    """What a plugin's `open` gave, watched. Raises UsageError where it is no detector."""
    lacking = [name for name in ("look", "search") if not callable(getattr(detector, name, None))]
    if lacking:
        raise UsageError(
            f"detector {plugin.name!r}: `open` of {plugin.version} gave a {type(detector).__name__} without "
            f"{' and '.join(lacking)}; see to the package"
        )
    return Watched(detector, plugin)  # type: ignore[arg-type]


def plugin_files(plugin: InstalledPlugin, loaded: Any, options: Mapping[str, Any]) -> list[Path]:
    """The code of the plugin's package, and the files that it says its answers depend on. Raises UsageError."""
    tell = getattr(loaded, "files", None)
    try:
        files = [*_code(plugin.entry_point.module), *map(Path, tell(options) if tell else ())]
    except GateError:
        raise
    except Exception as error:
        raise UsageError(
            f"detector {plugin.name!r}: {plugin.version} refused its options ({type(error).__name__}: {error})"
        ) from error
    absent = [file for file in files if not file.is_file()]
    if absent:
        raise UsageError(
            f"detector {plugin.name!r}: {plugin.version} needs {absent[0]}, which is not there; "
            "correct its options, or fetch the file"
        )
    return files


def _code(module: str) -> Iterator[Path]:
    """All Python files of the outermost package that `module` is in, or its own where it is in none.

    A plugin is edited long before its version is raised: answers of the earlier code must not be found again.
    """
    names = module.split(".")
    for end in range(1, len(names) + 1):
        found = sys.modules.get(".".join(names[:end]))
        source = getattr(found, "__file__", None)  # None of a namespace, which other packages share
        if source is not None:
            beside = Path(source).parent.rglob("*.py") if hasattr(found, "__path__") else ()
            # Editors keep locks there that are links to nowhere.
            yield from sorted({Path(source), *(file for file in beside if file.is_file())})
            return


def plain_look(look: object) -> Look:
    """The look, its score a Python float also where numpy or torch made it. Raises ValueError where it is none."""
    if not isinstance(look, Look):
        raise ValueError("that is no Look")
    if not isinstance(look.outcome, Outcome):
        raise ValueError("its outcome is none of " + ", ".join(f"Outcome.{known.name}" for known in Outcome))
    for name, text in (("seen", look.seen), ("reason", look.reason)):
        if not isinstance(text, str | None):
            raise ValueError(f"its {name} is neither a text nor None")
    return Look(
        outcome=look.outcome,
        score=_plain_score(look),
        seen=None if look.seen is None else str(look.seen),
        reason=None if look.reason is None else str(look.reason),
    )


def _plain_score(look: Look) -> float | None:
    score: Any = look.score
    if score is None:
        if look.outcome is not Outcome.UNDETERMINED:
            raise ValueError("only a picture that is UNDETERMINED has no score")
        return None
    if callable(getattr(score, "item", None)) and getattr(score, "shape", None) == ():
        score = score.item()  # a scalar of numpy or torch
    if isinstance(score, bool) or not isinstance(score, float | int):
        raise ValueError("its score is not one number")
    if not 0 <= score <= 1:  # NaN is neither
        raise ValueError("its score is not from 0 to 1")
    return float(score)


def _shown(look: object) -> str:
    """What was answered, in one short line."""
    line = " ".join(repr(look).split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
