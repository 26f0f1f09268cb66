"""A fake of TensorRT's Python module for loading and running an engine, noting every call."""

from __future__ import annotations

from enum import IntEnum
from types import SimpleNamespace
from typing import Any


class ILogger:
    """A logger, which is given the complaints of the runtime."""


class Strategy(IntEnum):
    """The enumeration ``ExecutionContextAllocationStrategy`` of both flavours."""

    STATIC = 0
    USER_MANAGED = 2


class Mode(IntEnum):
    """Direction of a tensor: input or output."""

    INPUT = 1
    OUTPUT = 2


class Kind(IntEnum):
    """Element type of a tensor."""

    FLOAT = 0
    HALF = 1
    INT32 = 3


TENSORS = {
    "x": (Mode.INPUT, Kind.FLOAT, (-1, 4)),
    "n": (Mode.INPUT, Kind.INT32, (-1,)),
    "y": (Mode.OUTPUT, Kind.HALF, (-1, 4)),
}


class Context:
    """An execution context; ``refuses`` names the call that fails, ``says`` its message."""

    def __init__(self, module: FakeTensorRt) -> None:
        self._module = module

    def _call(self, name: str, *told: Any) -> bool:
        self._module.told.append((name, *told))
        if name != self._module.refuses:
            return True
        self._module.complain()
        return False

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        return self._call("profile", profile, stream)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        return self._call("shape", name, shape)

    def update_device_memory_size_for_shapes(self) -> int:
        return 4096

    def set_device_memory(self, address: int, length: int) -> None:
        self._call("memory", address, length)

    def set_tensor_address(self, name: str, address: int) -> bool:
        return self._call("address", name, address)

    def execute_async_v3(self, stream: int) -> bool:
        return self._call("execute", stream)


class Engine:
    """A deserialised engine with ``TENSORS``."""

    num_io_tensors = len(TENSORS)

    def __init__(self, module: FakeTensorRt) -> None:
        self._module = module

    def get_tensor_name(self, number: int) -> str:
        return [*TENSORS][number]

    def get_tensor_mode(self, name: str) -> Mode:
        return TENSORS[name][0]

    def get_tensor_dtype(self, name: str) -> Kind:
        return TENSORS[name][1]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return TENSORS[name][2]

    def create_execution_context(self, how: Any) -> Context | None:
        self._module.told.append(("context", how))
        if self._module.refuses == "context":
            self._module.complain()
            return None
        return Context(self._module)

    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig(self._module)


class RuntimeConfig:
    """Configuration of execution contexts in TensorRT-RTX."""

    cuda_graph_strategy: Any = None

    def __init__(self, module: FakeTensorRt) -> None:
        self._module = module
        self.strategy: Any = None
        self.cache: Any = None

    def set_execution_context_allocation_strategy(self, strategy: Strategy) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> Any:
        held = SimpleNamespace(content=b"")
        held.deserialize = lambda content: setattr(held, "content", content)
        held.serialize = lambda: held.content + b" and kernels"
        return held

    def set_runtime_cache(self, cache: Any) -> None:
        self.cache = cache


class Runtime:
    """A runtime, which refuses to deserialise bytes that do not begin with ``engine``."""

    def __init__(self, module: FakeTensorRt, logger: Any) -> None:
        self._module = module
        module.logger = logger

    def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
        if content.startswith(b"engine") and self._module.refuses != "engine":
            return Engine(self._module)
        self._module.complain()
        return None


class FakeTensorRt:
    """The module.

    Args:
        refuses: The call that fails.
        says: What it then says.
    """

    ILogger = ILogger
    ExecutionContextAllocationStrategy = Strategy
    CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole")
    __version__ = "1.7.0"

    def __init__(self, refuses: str = "", says: str = "no reason") -> None:
        self.refuses, self.says = refuses, says
        self.told: list[tuple[Any, ...]] = []
        """Calls in order, each with its arguments."""
        self.logger: Any = None

    def Runtime(self, logger: Any) -> Runtime:  # noqa: N802 - a class there
        return Runtime(self, logger)

    def complain(self) -> None:
        self.logger.log(1, self.says)
