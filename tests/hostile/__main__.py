"""``python -m tests.hostile`` prints the table of odd inputs with its counts by kind."""

from __future__ import annotations

from tests.hostile.odd_inputs import as_text_table

print(as_text_table())
