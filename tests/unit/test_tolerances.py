"""Numeric tolerances of tests: small ones have a name in ``tests.tolerances``, or a reason beside them."""

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]
NAMES = {"abs", "rel", "atol", "rtol"}
LARGE = 0.01
"""From here on a tolerance is about pixels, seconds or shares, not about the precision of arithmetic."""


def test_small_tolerances_have_a_reason() -> None:
    bare = []
    for path in sorted(TESTS.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.keyword) or node.arg not in NAMES or not isinstance(node.value, ast.Constant):
                continue
            value = node.value.value
            if isinstance(value, int | float) and 0 < value < LARGE and "#" not in lines[node.value.lineno - 1]:
                bare.append(f"{path.relative_to(TESTS)}:{node.value.lineno}")
    assert bare == []
