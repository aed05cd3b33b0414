"""The quantization page's tables are those of the committed reports."""

from pathlib import Path

import pytest

from golden.errors import InputError
from model.quantization_page import page_text, storage_account

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_current():
    text = (DOCS / "quantization.md").read_text()
    assert page_text(text, DOCS) == text


def test_five_bits_save_what_they_save():
    account = storage_account(4, 256)
    assert (account["payload"], account["flags"]) == (1024, 256)
    assert account["saved_percent"] == 37.5


def test_missing_reports_and_markers_are_named(tmp_path):
    with pytest.raises(InputError, match=r"simulation-modes\.json"):
        page_text("", tmp_path)
    with pytest.raises(InputError, match="modes: begin"):
        page_text("", DOCS)
