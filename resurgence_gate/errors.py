"""Every error that a user can meet. Each message says what happened, where, and what to do.

```
GateError                       exit code
├── UsageError                  2   a wrong option, name or combination
│   ├── PolicyError             2   the policy file is invalid (file:line:column)
│   ├── RecipeError             2   the recipe file is invalid (file:line:column)
│   └── EmptyPolicy             2   a policy without rules approves nothing
├── InfrastructureError         3   worth retrying: Hub, memory, disk
│   ├── HubError                3
│   └── ResourceError           3   out of memory, disk full
│       └── LostArtefact        3   what lay in the store is gone or damaged
├── RefusedCheckpoint          12   the files are unsafe or not what they claim to be
├── AttestationRefused         12   what was signed, or is to be, does not hold here
└── MeasurementError            1   no verdict: what was measured contradicts itself, or a fine-tune diverged
```
"""

from __future__ import annotations

import reprlib

_LONGEST = 200  # characters of a stranger's name in a message


def on_one_line(name: str) -> str:
    """A stranger's name as a message has it: in quotes, escaped and cut where it would break or overrun the line."""
    return name if name.isprintable() and len(name) <= _LONGEST else reprlib.repr(name)


class GateError(Exception):
    """The root; never raised itself."""

    exit_code = 1


class UsageError(GateError):
    """What was asked for cannot be done as asked."""

    exit_code = 2


class PolicyError(UsageError):
    """The policy does not say something that can be measured and judged."""


class RecipeError(UsageError):
    """The recipe does not say how to unlearn by its method."""


class EmptyPolicy(UsageError):
    """Nothing to judge by."""


class InfrastructureError(GateError):
    """The same command may succeed later."""

    exit_code = 3


class HubError(InfrastructureError):
    """The Hub did not give the files."""


class ResourceError(InfrastructureError):
    """The machine ran out of memory or disk."""


class LostArtefact(ResourceError):
    """An artefact of the store was there, and is gone or damaged; whoever asks again finds that it is missing."""


class RefusedCheckpoint(GateError):
    """The checkpoint was not loaded, because it is unsafe or not what it claims to be."""

    exit_code = 12


class AttestationRefused(GateError):
    """A statement, its signature, or what lies here is not what it claims to be; nothing is vouched for."""

    exit_code = 12


class MeasurementError(GateError):
    """Nothing can be concluded: unpaired draws, one thing measured twice, a fine-tune that diverged."""
