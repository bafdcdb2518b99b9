"""What is written of one flag's function so far: the constants it names, the functions beside it, what it will need.

The ground that ``flagd_expressions`` and its parts stand on; it knows no operation.
"""

from __future__ import annotations

from typing import Any

from flagkit.dialects.flagd_fractional import Hashing


class Writing:
    """See the module.

    Attributes: constants, in the order of their names k0, k1 ...; functions, sources of those that stand beside;
    iterates, whether steps are counted; asks_key, whether the targeting key is read; asks_attributes, whether others
    are; in_item, whether what is being written is the body of an iteration, whose data are the item and nothing else.
    """

    def __init__(self, flag_key: str, hashing: Hashing) -> None:
        self.flag_key = flag_key
        self.hashing = hashing
        self.constants: list[Any] = []
        self.functions: list[str] = []
        self.iterates = False
        self.asks_key = False
        self.asks_attributes = False
        self.in_item = False
        self._names = 0

    def constant(self, value: Any) -> str:
        """The name under which the function knows ``value``."""
        self.constants.append(value)
        return f"k{len(self.constants) - 1}"

    def name(self) -> str:
        """A name for a value on the way, not used before."""
        self._names += 1
        return f"x{self._names}"

    def value(self, node: Any) -> str:
        """The expression of a node's value."""
        raise NotImplementedError

    def listed(self, nodes: list[Any]) -> str:
        """The expression of a list of the nodes' values."""
        return "[" + ", ".join(map(self.value, nodes)) + "]"
