"""A pretended GPU: what a test computes `on cuda` is computed on the CPU, and refused where a GPU would refuse it.

    with pretended_cuda():
        run_check(policy, ref, replace(bench, device="cuda", dtype="bfloat16"))

The numbers are real, and so is what follows from them. Which device holds a tensor is written on its storage, so views,
`.data`, parameters, gradients and saved activations have it without more. Refused, with torch's own kind of error: two
devices in one operation, a generator of the other device, numpy's look at device memory, norms of two dtypes, and what
has no deterministic form on a GPU where that is asked for. Not seen: kernels that a GPU lacks, its rounding and memory,
what another thread does, and a tensor that is asked for on the CPU by `zeros_like` and its kind of one on the GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch
import torch._dynamo  # it notes the functions of torch.cuda when it is imported: the real ones
from torch import Tensor
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode

NAME = "Pretended GPU"
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
_MARK = "_is_on_a_pretended_gpu"
# Tensors of two devices may meet here: a copy, and indices on the CPU into what is on the GPU.
_CROSSING = frozenset({"aten::copy_", "aten::_to_copy", "aten::_foreach_copy_"})
_INDEXING = frozenset({"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"})
_NORMS = frozenset({"aten::native_layer_norm", "aten::native_group_norm"})
# https://docs.pytorch.org/docs/stable/generated/torch.use_deterministic_algorithms.html
_IN_ANY_ORDER = frozenset(
    f"aten::{name}"
    for name in (
        "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward", "adaptive_max_pool2d_backward",
        "avg_pool3d_backward", "max_pool3d_with_indices_backward", "upsample_linear1d_backward",
        "upsample_bilinear2d_backward", "upsample_bicubic2d_backward", "upsample_trilinear3d_backward",
        "_upsample_bilinear2d_aa_backward", "_upsample_bicubic2d_aa_backward", "reflection_pad1d_backward",
        "reflection_pad2d_backward", "replication_pad1d_backward", "replication_pad2d_backward",
        "replication_pad3d_backward", "nll_loss2d_forward", "grid_sampler_2d_backward", "cumsum", "histc",
        "kthvalue", "put_",
    )
)  # fmt: skip
# Whether each that is entered is on: a GPU's has norms in float32, the CPU's lets them mix.
_autocasts: list[bool] = []
_device_constructors()  # notes the functions that heed `with torch.device(...)`: the real ones
_real_to, _real_as_tensor = Tensor.to, torch.as_tensor


@contextmanager
def pretended_cuda() -> Iterator[None]:
    """A machine with one GPU, for the length of the block and in this thread."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, name, value in _patches():
            patch.setattr(owner, name, value, raising=False)
        with _Watched():
            yield


def is_on_gpu(tensor: Tensor) -> bool:
    """Whether the tensor lies on the pretended GPU."""
    return getattr(tensor.untyped_storage(), _MARK, False)


def _mark(tensor: Tensor, on_gpu: bool) -> Tensor:
    setattr(tensor.untyped_storage(), _MARK, on_gpu)
    return tensor


class _Watched(TorchDispatchMode):
    """Every operation that reaches a kernel, forward and backward."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name, wanted = func._schema.name, kwargs.get("device")
        given = [*_tensors(args), *_tensors(kwargs.values())]
        onto = any(map(is_on_gpu, given))
        if onto and name not in _CROSSING:
            _refuse_mixtures(func, given if name not in _INDEXING else _indexed(args))
            _refuse_what_has_no_kernel(name, given)
        # A copy that Python asks for on the CPU is made below; gradients and autocast mean the device that they know.
        if wanted is not None and wanted.type == "cuda":
            onto, kwargs["device"] = True, CPU
        generator = kwargs.get("generator")
        if onto and generator is not None and generator.device.type == "cpu":
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        made = func(*args, **kwargs)
        if (onto and name not in _CROSSING) or name == "aten::_to_copy":
            for tensor in _tensors((made,)):
                _mark(tensor, onto)
        return made


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """All that hold numbers."""
    for value in values:
        if isinstance(value, Tensor):
            if not value.is_meta:
                yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _indexed(args: Any) -> list[Tensor]:
    """What must be on one device: the tensor, the values put there, and no index."""
    if not is_on_gpu(args[0]) and any(is_on_gpu(i) for i in args[1] if i is not None):
        raise RuntimeError(
            "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
        )
    return [args[0], *(value for value in args[2:3] if value.dim())]


def _refuse_mixtures(func: Any, given: list[Tensor]) -> None:
    loose = torch.Tag.pointwise in func.tags  # a number on the CPU may be read there, and not written
    for i, tensor in enumerate(given):
        written = i == 0 and func._schema.is_mutable
        if not is_on_gpu(tensor) and (tensor.dim() or written or not loose):
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
                f"({func}: {tuple(tensor.shape)} of {len(given)} is on the CPU)"
            )


def _refuse_what_has_no_kernel(name: str, given: list[Tensor]) -> None:
    if name in _NORMS and not any(_autocasts[-1:]) and len({tensor.dtype for tensor in given}) > 1:
        raise RuntimeError(f"expected scalar type of the weights and of the input to be one: {name}")
    counts = name == "aten::cumsum" and not given[0].is_floating_point()
    if name in _IN_ANY_ORDER and torch.are_deterministic_algorithms_enabled() and not counts:
        raise RuntimeError(f"{name} does not have a deterministic implementation")


class _Move(torch.autograd.Function):
    """A copy on the other device, whose gradient comes back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, on_gpu: bool) -> Tensor:
        ctx.on_gpu = on_gpu
        return _copied(x, on_gpu)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _copied(grads[0], not ctx.on_gpu), None


def _copied(x: Tensor, on_gpu: bool) -> Tensor:
    return _mark(x.detach().clone(), on_gpu)


def _to(self: Tensor, *args: Any, copy: bool = False, **options: Any) -> Tensor:
    if args and isinstance(args[0], Tensor):
        args = (args[0].device, args[0].dtype, *args[1:])
    device, dtype, _, layout = torch._C._nn._parse_to(*args, **options)
    x = self
    if device is not None and device.type != self.device.type:
        if "meta" in (device.type, self.device.type):
            return _real_to(self, *args, copy=copy, **options)
        on_gpu = device.type == "cuda"
        x = _Move.apply(self, on_gpu) if self.requires_grad else _copied(self, on_gpu)
        copy = False
    shape = {} if layout is None else {"memory_format": layout}
    return _real_to(x, dtype=dtype or self.dtype, copy=copy, **shape)


def _patches() -> Iterator[tuple[Any, str, Any]]:
    yield from ((Tensor, name, value) for name, value in _of_tensors().items())
    yield from ((torch.cuda, name, value) for name, value in _of_cuda().items())
    yield torch.accelerator, "current_stream", lambda *_: SimpleNamespace(is_capturing=lambda: False)
    yield (
        torch._C,
        "_group_tensors_by_device_and_dtype",
        _grouped(torch._C._group_tensors_by_device_and_dtype),
    )
    yield torch.UntypedStorage, "__deepcopy__", _deep_copied(torch.UntypedStorage.__deepcopy__)
    yield from ((torch.autocast, name, value) for name, value in _of_autocast().items())
    yield safetensors.torch, "safe_open", _opened_here(safetensors.torch.safe_open)
    yield torch, "as_tensor", _from_data(torch.as_tensor)
    yield torch, "tensor", _from_data(torch.tensor)


def _of_tensors() -> dict[str, Any]:
    device, numpy = Tensor.device.__get__, Tensor.numpy

    def as_numpy(self: Tensor, **options: Any) -> Any:
        if is_on_gpu(self):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
        return numpy(self, **options)

    return {
        "device": property(lambda self: CUDA if is_on_gpu(self) else device(self)),
        "is_cuda": property(is_on_gpu),
        "is_cpu": property(lambda self: self.device.type == "cpu"),
        "get_device": lambda self: 0 if is_on_gpu(self) else -1,
        "to": _to,
        "cpu": lambda self, *_: _to(self, "cpu"),
        "cuda": lambda self, *_, **__: _to(self, "cuda"),
        "type_as": lambda self, other: _to(self, other),
        "numpy": as_numpy,
    }


def _of_cuda() -> dict[str, Any]:
    def nothing(*_: Any, **__: Any) -> None:
        pass

    gigabytes = 16 << 30
    looks = SimpleNamespace(name=NAME, major=9, minor=0, total_memory=gigabytes, multi_processor_count=1)
    return dict.fromkeys(
        ("_lazy_init", "empty_cache", "synchronize", "manual_seed", "manual_seed_all", "set_device"), nothing
    ) | {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda *_: NAME,
        "get_device_capability": lambda *_: (9, 0),
        "get_device_properties": lambda *_: looks,
        "is_bf16_supported": lambda *_, **__: True,
        "mem_get_info": lambda *_: (gigabytes, gigabytes),
        "max_memory_allocated": lambda *_: 1 << 20,
        "reset_peak_memory_stats": nothing,
    }


def _deep_copied(real: Callable[..., Any]) -> Callable[..., Any]:
    def deepcopy(self: Any, memo: Any) -> Any:
        copied = real(self, memo)
        setattr(copied, _MARK, getattr(self, _MARK, False))
        return copied

    return deepcopy


def _of_autocast() -> dict[str, Any]:
    """Kernels run on the CPU, and so it is the CPU's autocast that has to be on."""
    init, enter, leave = torch.autocast.__init__, torch.autocast.__enter__, torch.autocast.__exit__

    def made(self: Any, device_type: str, *args: Any, **options: Any) -> None:
        init(self, "cpu" if device_type == "cuda" else device_type, *args, **options)

    def entered(self: Any) -> Any:
        result = enter(self)
        _autocasts.append(torch.is_autocast_enabled("cpu"))
        return result

    def left(self: Any, *error: Any) -> Any:
        _autocasts.pop()
        return leave(self, *error)

    return {"__init__": made, "__enter__": entered, "__exit__": left}


def _grouped(real: Callable[..., Any]) -> Callable[..., Any]:
    """What optimizers and the clipping of gradients do together, by the device of the first of each group."""

    def group(lists: Any, with_indices: bool = False) -> Any:
        return {
            (together[0][0][0].device, dtype): together
            for (_, dtype), together in real(lists, with_indices).items()
        }

    return group


def _opened_here(real: Callable[..., Any]) -> Callable[..., Any]:
    """As `load_file` opens a file: safetensors itself would go to the GPU's driver."""

    @contextmanager
    def opened(file: Any, framework: str, device: Any = "cpu", **options: Any) -> Iterator[Any]:
        with real(file, framework=framework, device="cpu", **options) as found:
            names = list(found.keys())
            yield SimpleNamespace(
                offset_keys=lambda: names,
                get_tensor=lambda name: found.get_tensor(name).to(device),
                get_tensors=lambda: {name: found.get_tensor(name).to(device) for name in names},
            )

    return opened


def _from_data(real: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Below these the device is not asked about in Python."""

    def from_data(data: Any, *, dtype: Any = None, device: Any = None, **options: Any) -> Tensor:
        if real is _real_as_tensor and isinstance(data, Tensor):
            return data.to(device=device or data.device, dtype=dtype or data.dtype)
        made = real(data, dtype=dtype, **options)
        return made if device is None else made.to(device)

    return from_data
